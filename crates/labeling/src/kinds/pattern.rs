//! Regular expressions over blocks.
//!
//! Where every match begins with one of a few literals, those are searched over the whole block
//! first, and the expression is asked only of rows that have one. Matching itself is row by row,
//! so that `^`, `$` and `\b` mean the row's ends.

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::literal::{ExtractKind, Extractor};

use super::{TextBlock, no_rows, set};
use crate::definition::{Pattern, PatternCase};

/// The longest pattern: beyond, a dictionary says it better.
const MAX_PATTERN_BYTES: usize = 100_000;
/// What a compiled pattern may take.
const MAX_COMPILED_BYTES: usize = 32 << 20;
/// Literals shorter than this are in most rows.
const LEAST_LITERAL_BYTES: usize = 3;
/// Literals that are searched at once; beyond, the search is no faster than the expression.
const MAX_LITERALS: usize = 60;

/// Why a pattern is none.
#[derive(Debug, PartialEq, Eq)]
pub enum PatternError {
    LookAround,
    Other(String),
}

/// One expression for each vote.
pub struct PatternRule {
    patterns: Vec<Compiled>,
}

struct Compiled {
    regex: Regex,
    literals: Option<AhoCorasick>,
}

impl PatternRule {
    /// # Errors
    /// When an expression is none, or is too large.
    pub fn new(pattern: &Pattern) -> Result<Self, PatternError> {
        let folds = pattern.case == PatternCase::Ignore;
        let patterns: Vec<&String> = match (pattern.pattern.is_empty(), pattern.classes.is_empty())
        {
            (false, true) => vec![&pattern.pattern],
            (true, false) => pattern.classes.values().collect(),
            _ => {
                let message = "it has either a `pattern` or `classes` with one each";
                return Err(PatternError::Other(message.to_owned()));
            }
        };
        let compiled = patterns.into_iter().map(|pattern| compile(pattern, folds));
        Ok(Self { patterns: compiled.collect::<Result<_, _>>()? })
    }

    /// By vote, the rows that have it: of several patterns, the first that is found.
    pub fn run(&self, block: &TextBlock<'_>) -> Vec<Vec<u64>> {
        let mut taken = no_rows(block.rows());
        let mut found = Vec::with_capacity(self.patterns.len());
        for pattern in &self.patterns {
            let mut bits = pattern.run(block);
            bits.iter_mut().zip(&mut taken).for_each(|(bits, taken)| {
                *bits &= !*taken;
                *taken |= *bits;
            });
            found.push(bits);
        }
        found
    }
}

fn compile(pattern: &str, folds: bool) -> Result<Compiled, PatternError> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::Other(format!(
            "the pattern has {} bytes; it has at most {MAX_PATTERN_BYTES}",
            pattern.len()
        )));
    }
    let regex = RegexBuilder::new(pattern)
        .case_insensitive(folds)
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            match text.contains("look-around") {
                true => PatternError::LookAround,
                // What it says is drawn over lines, with the pattern first.
                false => PatternError::Other(
                    text.lines()
                        .map(str::trim)
                        .filter(|line| !line.is_empty())
                        .collect::<Vec<_>>()
                        .join(" "),
                ),
            }
        })?;
    Ok(Compiled { literals: literals(pattern, folds), regex })
}

/// The search for literals of which every match begins with one.
fn literals(pattern: &str, folds: bool) -> Option<AhoCorasick> {
    let hir = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .case_insensitive(folds)
        .build()
        .parse(pattern)
        .ok()?;
    let mut sequence = Extractor::new().kind(ExtractKind::Prefix).limit_total(2_000).extract(&hir);
    // Of all ways to write a word in capitals one is enough: the search folds ASCII, and finds
    // rows to look at.
    let folded: Vec<Vec<u8>> = sequence
        .literals()?
        .iter()
        .map(|literal| literal.as_bytes().to_ascii_lowercase())
        .collect();
    sequence.make_infinite();
    let mut folded = folded;
    folded.sort_unstable();
    folded.dedup();
    let shortest = folded.iter().map(Vec::len).min()?;
    if shortest < LEAST_LITERAL_BYTES || folded.len() > MAX_LITERALS {
        return None;
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(true)
        .build(folded)
        .ok()
}

impl Compiled {
    fn run(&self, block: &TextBlock<'_>) -> Vec<u64> {
        let rows = block.rows();
        let mut bits = no_rows(rows);
        let Some(literals) = &self.literals else {
            for row in 0..rows {
                if self.regex.is_match(block.row_bytes(row)) {
                    set(&mut bits, row);
                }
            }
            return bits;
        };
        let (mut at, last) = (block.start(0), block.end(rows.max(1) - 1));
        let mut row = 0;
        while let Some(matched) =
            literals.find(aho_corasick::Input::new(block.bytes).span(at..last))
        {
            row = block.row_ending_at(matched.end(), row);
            if matched.start() < block.start(row) {
                // It reaches over the end of a row; one within the row may have begun in it.
                at = block.start(row).max(matched.start() + 1);
                continue;
            }
            if self.regex.is_match(block.row_bytes(row)) {
                set(&mut bits, row);
            }
            at = block.end(row);
            if at >= last {
                break;
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::LargeStringArray;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern { pattern: text.to_owned(), ..Pattern::default() }
    }

    #[test]
    fn literals_change_nothing_but_speed() {
        let words =
            ["late", "broken", "la", "te", "Latex", "not late", "", "chocolate", "brokenlate", "é"];
        let mut state = 7u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let patterns = [
            r"\b(broken|late)",
            r"late$",
            r"^late",
            r"(?i)LATE\b",
            r"l.te",
            "(late|broken) ",
            "latela",
            "aalate",
        ];
        for round in 0..200 {
            let texts: Vec<String> = (0..70)
                .map(|_| {
                    (0..random() % 4)
                        .map(|_| words[random() % words.len()])
                        .collect::<Vec<_>>()
                        .join(if random() % 2 == 0 { " " } else { "" })
                })
                .collect();
            let array = LargeStringArray::from(texts.clone());
            let text = patterns[round % patterns.len()];
            let found = PatternRule::new(&pattern(text)).unwrap().run(&TextBlock::of(&array));
            let plain = regex::Regex::new(text).unwrap();
            for (row, written) in texts.iter().enumerate() {
                let is_found = found[0][row / 64] >> (row % 64) & 1 == 1;
                assert_eq!(is_found, plain.is_match(written), "{text} in {written:?}");
            }
        }
    }

    #[test]
    fn look_around_is_told_apart_from_other_mistakes() {
        assert_eq!(PatternRule::new(&pattern("(?=a)b")).err(), Some(PatternError::LookAround));
        assert_eq!(PatternRule::new(&pattern("(?<!a)b")).err(), Some(PatternError::LookAround));
        let Err(PatternError::Other(message)) = PatternRule::new(&pattern("(a")) else { panic!() };
        assert!(message.contains("unclosed group"), "{message}");
    }
}
