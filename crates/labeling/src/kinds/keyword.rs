//! Words and phrases of any number of rules, found in one pass over a whole block.
//!
//! One automaton for all words that are found whatever their case, one for the others. A match
//! that reaches into the next row is none; whether it stands as a word is looked at where it was
//! found.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{TextBlock, no_rows, set};
use crate::definition::{Case, Forms, Keywords, Place};

/// The keywords of one rule at most: a dictionary of names, not a corpus.
pub const MAX_KEYWORDS: usize = 100_000;

/// Automata of up to so many words are laid out as tables of all transitions, which are fastest
/// and take some kilobytes a word.
const MAX_TABLE_WORDS: usize = 2_000;

/// Endings that a word's stem may have.
const ENDINGS: [&str; 22] = [
    "", "s", "es", "ed", "d", "e", "ing", "er", "ers", "or", "ors", "y", "ies", "ied", "ying",
    "ly", "al", "ment", "ments", "'s", "ion", "ions",
];

/// Words shorter than this have no near misses: too many other words are as near.
const LEAST_FUZZY_CHARS: usize = 5;

/// What a match must be to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Anywhere,
    Word,
    /// A word's stem: the rest of the word is an ending.
    Stem,
    /// A half of a word: the word around it is nearly this one.
    Near,
}

/// What a found word means.
#[derive(Clone, Copy, Debug)]
struct Meaning {
    rule: u32,
    /// The word's number within its rule.
    word: u32,
    check: Check,
}

/// In which list of its rule a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Any,
    All,
    None,
    Class(u32),
}

struct RuleWords {
    words: Vec<(String, Group)>,
    at_least: usize,
    all: usize,
    classes: usize,
    /// Any of its words decides by itself: no need to gather what was found.
    is_simple: bool,
}

/// Several rules, searched together.
pub struct KeywordScan {
    automata: Vec<(AhoCorasick, Vec<Meaning>)>,
    rules: Vec<RuleWords>,
}

impl KeywordScan {
    /// # Errors
    /// When the words are too many for an automaton.
    pub fn new(rules: &[&Keywords]) -> Result<Self, String> {
        let mut exact: (Vec<String>, Vec<Meaning>) = Default::default();
        let mut folded: (Vec<String>, Vec<Meaning>) = Default::default();
        let mut scan = Self { automata: Vec::new(), rules: Vec::new() };
        for (number, keywords) in rules.iter().enumerate() {
            let words = RuleWords::of(keywords)?;
            let (patterns, meanings) = match keywords.case {
                Case::Exact => &mut exact,
                Case::Ignore => &mut folded,
            };
            for (at, (word, _)) in words.words.iter().enumerate() {
                let (searched, check) = searched(word, keywords);
                for pattern in searched {
                    for variant in variants(&pattern, keywords.case) {
                        patterns.push(variant);
                        meanings.push(Meaning { rule: number as u32, word: at as u32, check });
                    }
                }
            }
            scan.rules.push(words);
        }
        for (folds, (patterns, meanings)) in [(false, exact), (true, folded)] {
            if patterns.is_empty() {
                continue;
            }
            let kind = (patterns.len() <= MAX_TABLE_WORDS).then_some(AhoCorasickKind::DFA);
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .ascii_case_insensitive(folds)
                .kind(kind)
                .build(&patterns)
                .map_err(|error| error.to_string())?;
            scan.automata.push((automaton, meanings));
        }
        Ok(scan)
    }

    /// By rule and vote, the rows that have it.
    pub fn run(&self, block: &TextBlock<'_>) -> Vec<Vec<Vec<u64>>> {
        let rows = block.rows();
        let mut found: Vec<Vec<Vec<u64>>> =
            self.rules.iter().map(|rule| vec![no_rows(rows); rule.classes.max(1)]).collect();
        // Of rules that are not simple: row and word, in no order.
        let mut gathered: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.rules.len()];
        let (first, last) = (block.start(0), block.end(rows.max(1) - 1));
        for (automaton, meanings) in &self.automata {
            let mut row = 0;
            for matched in automaton.find_overlapping_iter(&block.bytes[first..last]) {
                let (start, end) = (first + matched.start(), first + matched.end());
                row = block.row_ending_at(end, row);
                if start < block.start(row) {
                    continue;
                }
                let meaning = meanings[matched.pattern().as_usize()];
                let rule = &self.rules[meaning.rule as usize];
                let bits = &mut found[meaning.rule as usize][0];
                if rule.is_simple && bits[row / 64] >> (row % 64) & 1 == 1 {
                    continue;
                }
                let text = &block.bytes[block.start(row)..block.end(row)];
                let at = start - block.start(row)..end - block.start(row);
                if !stands(text, at, meaning.check, &rule.words[meaning.word as usize].0) {
                    continue;
                }
                if rule.is_simple {
                    set(bits, row);
                } else {
                    gathered[meaning.rule as usize].push((row as u32, meaning.word));
                }
            }
        }
        for ((rule, mut hits), bits) in self.rules.iter().zip(gathered).zip(&mut found) {
            if !rule.is_simple {
                hits.sort_unstable();
                hits.dedup();
                rule.decide(&hits, rows, bits);
            }
        }
        found
    }
}

impl RuleWords {
    fn of(keywords: &Keywords) -> Result<Self, String> {
        let mut words: Vec<(String, Group)> = Vec::new();
        let mut add = |list: &[String], group: Group| {
            let trimmed = list.iter().map(|word| word.trim()).filter(|word| !word.is_empty());
            words.extend(trimmed.map(|word| (word.to_owned(), group)));
        };
        add(&keywords.any, Group::Any);
        add(&keywords.all, Group::All);
        add(&keywords.none, Group::None);
        for (class, list) in keywords.classes.values().enumerate() {
            add(list, Group::Class(class as u32));
        }
        if words.len() > MAX_KEYWORDS {
            return Err(format!("it has {} words; a rule has at most {MAX_KEYWORDS}", words.len()));
        }
        let has_classes = !keywords.classes.is_empty();
        if has_classes && !(keywords.any.is_empty() && keywords.all.is_empty()) {
            return Err("`classes` stands in the place of `any` and `all`".to_owned());
        }
        if !words.iter().any(|(_, group)| *group != Group::None) {
            return Err("it names no words: give `any`, `all` or `classes`".to_owned());
        }
        let mut all: Vec<&str> = keywords.all.iter().map(|word| word.trim()).collect();
        all.sort_unstable();
        all.dedup();
        let at_least = keywords.at_least.unwrap_or(1);
        Ok(Self {
            is_simple: words.iter().all(|(_, group)| *group == Group::Any) && at_least <= 1,
            at_least: if keywords.any.is_empty() { 0 } else { at_least },
            all: all.iter().filter(|word| !word.is_empty()).count(),
            classes: keywords.classes.len(),
            words,
        })
    }

    /// Decides row by row, from the different words found in each.
    fn decide(&self, hits: &[(u32, u32)], rows: usize, bits: &mut [Vec<u64>]) {
        // A rule that only forbids words would hold where nothing is found; there is none.
        debug_assert!(rows >= hits.last().map_or(0, |hit| hit.0 as usize));
        for of_row in hits.chunk_by(|one, other| one.0 == other.0) {
            let row = of_row[0].0 as usize;
            let (mut any, mut all) = (0, Vec::new());
            let mut by_class = vec![0u32; self.classes];
            let mut is_forbidden = false;
            for &(_, word) in of_row {
                let (word, group) = &self.words[word as usize];
                match group {
                    Group::Any => any += 1,
                    Group::All => all.push(word.as_str()),
                    Group::None => is_forbidden = true,
                    Group::Class(class) => by_class[*class as usize] += 1,
                }
            }
            if is_forbidden {
                continue;
            }
            if self.classes > 0 {
                let most = by_class.iter().copied().max().unwrap_or(0);
                let mut winners = (0..self.classes).filter(|&class| by_class[class] == most);
                if let (true, Some(winner), None) = (most > 0, winners.next(), winners.next()) {
                    set(&mut bits[winner], row);
                }
                continue;
            }
            all.sort_unstable();
            all.dedup();
            if any >= self.at_least && all.len() == self.all {
                set(&mut bits[0], row);
            }
        }
    }
}

/// What is searched for a word, and what a match of it must be.
fn searched(word: &str, keywords: &Keywords) -> (Vec<String>, Check) {
    let letters = word.chars().count();
    match (keywords.forms, keywords.place) {
        (Forms::Fuzzy, _)
            if letters >= LEAST_FUZZY_CHARS && !word.contains(char::is_whitespace) =>
        {
            // With one letter wrong, one of the halves is as written.
            let middle = word.char_indices().nth(letters / 2).map_or(word.len(), |(at, _)| at);
            (vec![word[..middle].to_owned(), word[middle..].to_owned()], Check::Near)
        }
        (Forms::Stems, _) if word.ends_with(char::is_alphabetic) => {
            (vec![stem(word).to_owned()], Check::Stem)
        }
        (_, Place::Words) => (vec![word.to_owned()], Check::Word),
        (_, Place::Anywhere) => (vec![word.to_owned()], Check::Anywhere),
    }
}

/// A word without the ending that inflection changes.
fn stem(word: &str) -> &str {
    let stem = word.strip_suffix(['e', 'y', 'E', 'Y']).unwrap_or(word);
    if stem.chars().count() >= 3 { stem } else { word }
}

/// The automaton folds ASCII alone; other letters are searched in their usual forms.
fn variants(pattern: &str, case: Case) -> Vec<String> {
    if case == Case::Exact || pattern.is_ascii() {
        return vec![pattern.to_owned()];
    }
    let mut first = pattern.chars();
    let title: String = first
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(first.flat_map(char::to_lowercase))
        .collect();
    let mut found = vec![pattern.to_owned(), pattern.to_lowercase(), pattern.to_uppercase(), title];
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a match counts.
fn stands(text: &[u8], at: std::ops::Range<usize>, check: Check, word: &str) -> bool {
    match check {
        Check::Anywhere => true,
        Check::Word => !is_inside(text, at.start) && !is_inside(text, at.end),
        Check::Stem => {
            let rest = &text[at.end..];
            let end = rest.iter().position(|byte| !is_word_byte(*byte) && *byte != b'\'');
            let rest = &rest[..end.unwrap_or(rest.len())];
            !is_inside(text, at.start)
                && ENDINGS.iter().any(|ending| {
                    // A consonant is doubled before some endings: `stop`, `stopped`.
                    let single = rest.strip_prefix(&text[at.end - 1..at.end]).unwrap_or(rest);
                    rest.eq_ignore_ascii_case(ending.as_bytes())
                        || ending.len() > 1 && single.eq_ignore_ascii_case(ending.as_bytes())
                })
        }
        Check::Near => {
            let start = text[..at.start].iter().rposition(|byte| !is_word_byte(*byte));
            let start = start.map_or(0, |before| before + 1);
            let end = text[at.end..].iter().position(|byte| !is_word_byte(*byte));
            let end = end.map_or(text.len(), |after| at.end + after);
            std::str::from_utf8(&text[start..end]).is_ok_and(|found| is_near(found, word))
        }
    }
}

/// Letters, digits, `_`, and every byte of a letter outside ASCII.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether a position is within a word: a letter, digit or `_` on both sides.
fn is_inside(text: &[u8], at: usize) -> bool {
    char_before(text, at).is_some_and(is_word_char) && char_at(text, at).is_some_and(is_word_char)
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn char_at(text: &[u8], at: usize) -> Option<char> {
    let rest = text.get(at..)?;
    let first = *rest.first()?;
    if first.is_ascii() {
        return Some(char::from(first));
    }
    let length = (1..=rest.len().min(4)).find(|&n| std::str::from_utf8(&rest[..n]).is_ok())?;
    std::str::from_utf8(&rest[..length]).ok()?.chars().next()
}

fn char_before(text: &[u8], at: usize) -> Option<char> {
    let before = text.get(..at)?;
    let last = *before.last()?;
    if last.is_ascii() {
        return Some(char::from(last));
    }
    let start = before.iter().rposition(|byte| byte & 0xc0 != 0x80)?;
    std::str::from_utf8(&before[start..]).ok()?.chars().next()
}

/// Whether two words differ by at most one letter: another, one more, one fewer, or two swapped.
fn is_near(found: &str, word: &str) -> bool {
    let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (fold(found), fold(word));
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    let swapped = a.len() >= 2 && b.len() >= 2 && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..];
    match (a.len(), b.len()) {
        (0, 0) => true,
        (m, n) if m == n => a[1..] == b[1..] || swapped,
        (m, n) if m == n + 1 => a[1..] == *b,
        (m, n) if m + 1 == n => *a == b[1..],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::LargeStringArray;

    use super::*;

    fn rows(keywords: Keywords, texts: &[&str]) -> Vec<usize> {
        let array = LargeStringArray::from(texts.to_vec());
        let scan = KeywordScan::new(&[&keywords]).unwrap();
        let found = scan.run(&TextBlock::of(&array));
        (0..texts.len()).filter(|row| found[0][0][0] >> row & 1 == 1).collect()
    }

    fn any(words: &[&str]) -> Keywords {
        Keywords { any: words.iter().map(|&word| word.to_owned()).collect(), ..Keywords::default() }
    }

    #[test]
    fn words_are_whole_and_never_reach_into_the_next_row() {
        let texts =
            ["my CARD broke", "cardigan", "discard", "car", "d", "a card.", "Karte", "card"];
        assert_eq!(rows(any(&["card"]), &texts), [0, 5, 7]);
        let anywhere = Keywords { place: Place::Anywhere, ..any(&["card"]) };
        assert_eq!(rows(anywhere, &texts), [0, 1, 2, 5, 7]);
        let exact = Keywords { case: Case::Exact, ..any(&["CARD"]) };
        assert_eq!(rows(exact, &texts), [0]);
        assert_eq!(rows(any(&["élan"]), &["Élan vital", "élans", "un ÉLAN"]), [0, 2]);
        assert_eq!(rows(any(&["lan"]), &["élan", "lan"]), [1]);
    }

    #[test]
    fn stems_and_near_misses_are_found() {
        let stems = Keywords { forms: Forms::Stems, ..any(&["refund", "stop", "deliver"]) };
        let texts = ["refunded", "stopped", "deliveries", "refundable", "delivery", "stoppage"];
        assert_eq!(rows(stems, &texts), [0, 1, 2, 4]);
        let fuzzy = Keywords { forms: Forms::Fuzzy, ..any(&["refund"]) };
        let texts = ["rfund", "reffund", "rebund", "erfund", "rebind", "refund please", "fund"];
        assert_eq!(rows(fuzzy, &texts), [0, 1, 2, 3, 5]);
    }

    #[test]
    fn lists_combine() {
        let texts = ["a b", "a c", "a b c", "b", "a a"];
        let all = Keywords { all: vec!["a".into(), "b".into()], ..Keywords::default() };
        assert_eq!(rows(all.clone(), &texts), [0, 2]);
        assert_eq!(rows(Keywords { none: vec!["c".into()], ..all }, &texts), [0]);
        assert_eq!(
            rows(Keywords { at_least: Some(2), ..any(&["a", "b", "c"]) }, &texts),
            [0, 1, 2]
        );
        let array = LargeStringArray::from(texts.to_vec());
        let classes = [("x", vec!["a"]), ("y", vec!["b", "c"])];
        let classes = classes.map(|(class, words)| {
            (class.to_owned(), words.into_iter().map(str::to_owned).collect())
        });
        let scan =
            KeywordScan::new(&[&Keywords { classes: classes.into(), ..Keywords::default() }])
                .unwrap();
        let found = scan.run(&TextBlock::of(&array));
        assert_eq!((found[0][0][0], found[0][1][0]), (0b10000, 0b01100));
    }
}
