//! Functions that might be added: words that gold rows of one class have and those of others have
//! not, and where there are few gold rows, the words of the classes' names.
//!
//! What counts is how surely a word is right (the lower end of its precision's interval) and how
//! many of the rows it is on that no function votes on, or on which they contradict one another.

use std::collections::{HashMap, HashSet};

use corral_labels::{Interval, VoteTable, wilson};
use serde_json::{Value, json};

use crate::classes::Classes;
use crate::definition::{Function, Rule};
use crate::kinds::TextBlock;
use crate::next_rows::conflicts;
use crate::session::Taken;

/// Gold rows with a word, from which on it is worth naming.
const MIN_GOLD_ROWS: u64 = 3;
/// The least that a suggestion's precision surely is, as a multiple of how frequent its class is.
const MIN_LIFT: f64 = 1.5;
/// Words of gold rows that are counted at most: beyond, the rarest are forgotten.
const MAX_COUNTED: usize = 1 << 20;
/// Letters of a word's beginning that is suggested as a pattern where several words have it.
const STEM_CHARS: usize = 5;
/// Words that a pattern must stand for.
const MIN_FORMS: usize = 3;
/// The shortest word that is suggested.
const MIN_WORD_CHARS: usize = 3;

/// What suggestions are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Gold,
    Names,
}

/// A function that might be added.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    pub definition: Value,
    /// On gold rows; `None` where there are none.
    pub precision: Option<Interval>,
    /// The share of the sample's rows that it would vote on.
    pub coverage: f64,
    /// Of those rows, the share on which no function votes or votes contradict.
    pub aimed: f64,
}

/// Suggests functions, the most useful first.
pub fn suggest(
    functions: &[Function],
    classes: &Classes,
    sample: (&Taken, &VoteTable),
    gold: (&Taken, &[Vec<Vec<u32>>]),
    limit: usize,
) -> (Source, Vec<Suggestion>) {
    let known = known_words(functions);
    let sampled = count_sample(sample.0, sample.1);
    let (counts, of_class, gold_rows) = count_gold(gold.0, gold.1, classes.len());
    let source = if gold_rows >= MIN_GOLD_ROWS * classes.len() as u64 {
        Source::Gold
    } else {
        Source::Names
    };
    let mut found: Vec<(f64, Candidate)> = match source {
        Source::Names => of_names(classes, &known, &sampled),
        Source::Gold => {
            let mut found = of_gold(&counts, &of_class, gold_rows, &known, &sampled);
            found.extend(patterns(&counts, &of_class, gold_rows, &sampled));
            found
        }
    };
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.text.cmp(&b.1.text)));
    let mut taken: Vec<Candidate> = Vec::new();
    for (_, candidate) in found {
        let repeats = taken.iter().any(|other| {
            other.class == candidate.class
                && (other.text.contains(&candidate.text) || candidate.text.contains(&other.text))
        });
        if !repeats {
            taken.push(candidate);
        }
        if taken.len() == limit {
            break;
        }
    }
    let names: HashSet<&str> = functions.iter().map(|function| function.name.as_str()).collect();
    let told = taken.iter().map(|candidate| candidate.suggestion(classes, &names, sampled.rows));
    (source, told.collect())
}

/// A word, phrase or beginning of words, and what it would vote.
struct Candidate {
    text: String,
    is_pattern: bool,
    class: u32,
    precision: Option<Interval>,
    on: Sampled,
}

impl Candidate {
    fn suggestion(&self, classes: &Classes, names: &HashSet<&str>, rows: u64) -> Suggestion {
        let class = classes.name(self.class);
        let plain = |text: &str| -> String {
            let letter =
                |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
            text.chars().map(letter).collect()
        };
        let base = format!("{}_{}", plain(class), plain(&self.text));
        let mut name: String = base.chars().take(80).collect();
        while names.contains(name.as_str()) {
            name.push('_');
        }
        let definition = if self.is_pattern {
            let pattern = format!(r"(?i)\b{}\w*", self.text);
            json!({"name": name, "kind": "regex", "class": class, "pattern": pattern})
        } else {
            json!({"name": name, "kind": "keyword", "class": class, "any": [self.text]})
        };
        Suggestion {
            definition,
            precision: self.precision,
            coverage: self.on.rows as f64 / rows.max(1) as f64,
            aimed: self.on.aimed as f64 / self.on.rows.max(1) as f64,
        }
    }
}

/// Rows of the sample with a word, and those of them worth voting on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sampled {
    rows: u64,
    aimed: u64,
}

struct SampleCounts {
    rows: u64,
    words: HashMap<String, Sampled>,
}

/// The words and pairs of words of a text, each once.
fn words_of(text: &str) -> HashSet<String> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '-'))
        .filter(|word| !word.is_empty())
        .collect();
    let long = |word: &&&str| word.chars().count() >= MIN_WORD_CHARS;
    let mut found: HashSet<String> =
        words.iter().filter(long).map(|word| (*word).to_owned()).collect();
    found.extend(words.windows(2).map(|pair| pair.join(" ")));
    found
}

fn count_sample(sample: &Taken, table: &VoteTable) -> SampleCounts {
    let mut counts = SampleCounts { rows: 0, words: HashMap::new() };
    for (at, block) in sample.blocks.iter().enumerate() {
        let votes = table.rows_of_block(0, at);
        let texts = TextBlock::of(block.texts());
        for row in 0..texts.rows() {
            let items = if votes.is_empty() { &[] } else { votes.row(row) };
            let is_aimed = items.is_empty() || conflicts(table, items) > 0;
            counts.rows += 1;
            for word in words_of(texts.text(row)) {
                let entry = counts.words.entry(word).or_default();
                entry.rows += 1;
                entry.aimed += u64::from(is_aimed);
            }
        }
        if counts.words.len() > MAX_COUNTED {
            counts.words.retain(|_, sampled| sampled.rows > 1);
        }
    }
    counts
}

type GoldCounts = HashMap<String, Vec<(u32, u64)>>;

/// By word, the gold rows of each class that have it; the rows of each class, and of all.
fn count_gold(
    gold: &Taken,
    labels: &[Vec<Vec<u32>>],
    classes: usize,
) -> (GoldCounts, Vec<u64>, u64) {
    let mut counts = GoldCounts::new();
    let (mut of_class, mut rows) = (vec![0; classes], 0);
    for (block, labels) in gold.blocks.iter().zip(labels) {
        let texts = TextBlock::of(block.texts());
        for (row, known) in labels.iter().enumerate() {
            let Some(&class) = known.first() else { continue };
            of_class[class as usize] += 1;
            rows += 1;
            for word in words_of(texts.text(row)) {
                let of_word = counts.entry(word).or_default();
                match of_word.iter_mut().find(|(known, _)| *known == class) {
                    Some((_, rows)) => *rows += 1,
                    None => of_word.push((class, 1)),
                }
            }
        }
        if counts.len() > MAX_COUNTED {
            counts.retain(|_, of_word| of_word.iter().map(|(_, rows)| rows).sum::<u64>() > 1);
        }
    }
    (counts, of_class, rows)
}

/// What functions have already.
fn known_words(functions: &[Function]) -> HashSet<String> {
    let keywords = functions.iter().filter_map(|function| match &function.rule {
        Rule::Keyword(keywords) => Some(keywords),
        _ => None,
    });
    let lists = keywords.flat_map(|keywords| keywords.any.iter().chain(&keywords.all));
    lists.map(|word| word.to_lowercase()).collect()
}

/// How useful: how surely it is right above chance, times the rows it is aimed at.
fn worth(precision: Interval, base: f64, on: Sampled) -> Option<f64> {
    (precision.low >= MIN_LIFT * base && precision.low > base)
        .then(|| precision.low * (0.5 + on.aimed as f64).sqrt())
}

fn best_class(of_word: &[(u32, u64)]) -> Option<(u32, u64, u64)> {
    let rows: u64 = of_word.iter().map(|(_, rows)| rows).sum();
    let (class, hits) =
        of_word.iter().copied().max_by_key(|(class, rows)| (*rows, std::cmp::Reverse(*class)))?;
    (rows >= MIN_GOLD_ROWS).then_some((class, hits, rows))
}

fn of_gold(
    counts: &GoldCounts,
    of_class: &[u64],
    gold_rows: u64,
    known: &HashSet<String>,
    sampled: &SampleCounts,
) -> Vec<(f64, Candidate)> {
    let candidate = |(word, of_word): (&String, &Vec<(u32, u64)>)| {
        let (class, hits, rows) = best_class(of_word)?;
        let precision = wilson(hits, rows)?;
        let on = sampled.words.get(word).copied().unwrap_or_default();
        let worth = worth(precision, of_class[class as usize] as f64 / gold_rows as f64, on)?;
        let text = word.clone();
        (!known.contains(word)).then_some((
            worth,
            Candidate { text, is_pattern: false, class, precision: Some(precision), on },
        ))
    };
    counts.iter().filter_map(candidate).collect()
}

/// Beginnings that several words of a class share.
fn patterns(
    counts: &GoldCounts,
    of_class: &[u64],
    gold_rows: u64,
    sampled: &SampleCounts,
) -> Vec<(f64, Candidate)> {
    let mut forms: HashMap<String, (usize, HashMap<u32, u64>, Sampled)> = HashMap::new();
    for (word, of_word) in counts {
        let is_plain = word.chars().all(char::is_alphabetic);
        let Some((end, _)) = word.char_indices().nth(STEM_CHARS).filter(|_| is_plain) else {
            continue;
        };
        let (count, of_class, on) = forms.entry(word[..end].to_owned()).or_default();
        *count += 1;
        for (class, rows) in of_word {
            *of_class.entry(*class).or_default() += rows;
        }
        let of_sample = sampled.words.get(word).copied().unwrap_or_default();
        on.rows += of_sample.rows;
        on.aimed += of_sample.aimed;
    }
    let candidate =
        |(stem, (count, of_stem, on)): (String, (usize, HashMap<u32, u64>, Sampled))| {
            let of_stem: Vec<(u32, u64)> = of_stem.into_iter().collect();
            let (class, hits, rows) = best_class(&of_stem).filter(|_| count >= MIN_FORMS)?;
            let precision = wilson(hits, rows)?;
            let worth = worth(precision, of_class[class as usize] as f64 / gold_rows as f64, on)?;
            let precision = Some(precision);
            Some((worth, Candidate { text: stem, is_pattern: true, class, precision, on }))
        };
    forms.into_iter().filter_map(candidate).collect()
}

/// The words of the classes' own names.
fn of_names(
    classes: &Classes,
    known: &HashSet<String>,
    sampled: &SampleCounts,
) -> Vec<(f64, Candidate)> {
    let mut found = Vec::new();
    for (class, name) in classes.names().iter().enumerate() {
        let spaced = name.replace(['_', '/', '.'], " ");
        for text in words_of(&spaced) {
            let on = sampled.words.get(&text).copied().unwrap_or_default();
            if on.rows > 0 && !known.contains(&text) {
                let candidate =
                    Candidate { text, is_pattern: false, class: class as u32, precision: None, on };
                found.push(((on.aimed as f64 + 0.5).sqrt(), candidate));
            }
        }
    }
    found
}
