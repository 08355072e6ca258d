//! Rows whose texts are nearly the same, by MinHash over runs of characters in bands
//! (Broder 1997; Indyk, Motwani, STOC 1998).
//!
//! Rows that share a band of their signature are candidates; each candidate pair is then
//! compared exactly. Within a band's bucket a row is compared to the first row there and to
//! the one before it, so that a text that stands a thousand times costs two thousand
//! comparisons and not a million.

use rayon::prelude::*;

use super::{label_of, shorten};
use crate::folds::groups_by_text;
use crate::prepare::Prepared;
use crate::report::{DuplicatePair, Duplicates, LabelledRow};
use crate::targets::Targets;

/// Texts at least this alike are near-duplicates: a word or two differ.
pub const NEAR_SIMILARITY: f64 = 0.8;
/// Characters in a run: words of one text seldom share five by chance.
const RUN_CHARS: usize = 5;
/// A text with fewer runs is told from another by exact comparison only: one changed letter
/// changes a third of them.
const LEAST_RUNS: usize = 12;
/// Characters that are read of a text: what begins with a thousand like characters is alike.
const MOST_CHARS: usize = 1000;
/// Rows that are compared: more are thinned evenly, so that signatures stay within 80 MB.
const MOST_ROWS: usize = 300_000;
/// Pairs of similarity 0.8 share one of twelve bands of five in 99 of 100 cases, pairs of
/// 0.5 in one of three.
const BANDS: usize = 12;
const HASHES_OF_BAND: usize = 5;
/// Pairs listed in a report.
const LISTED_PAIRS: usize = 40;

/// The memory that [`find`] takes for so many rows, in bytes: keys of bands, a sorted band,
/// candidate pairs, and the groups of equal texts.
pub const fn memory_bytes(rows: usize) -> usize {
    let compared = if rows < MOST_ROWS { rows } else { MOST_ROWS };
    compared * (BANDS * 4 + 8 + 2 * BANDS * 8) + rows * (40 + 8)
}

/// Finds near-duplicates among the labelled rows of all splits, and rows with equal or nearly
/// equal texts that have no label in common.
pub fn find(prepared: &Prepared<'_>) -> Duplicates {
    let rows = Rows { prepared };
    let texts: Vec<&str> = (0..rows.len()).map(|row| rows.text(row)).collect();
    let groups = groups_by_text(&texts);
    let mut first_of_group: Vec<u32> = Vec::new();
    let mut conflicting: Vec<Pair> = Vec::new();
    for (row, &group) in groups.iter().enumerate() {
        match first_of_group.get(group as usize) {
            None => first_of_group.push(row as u32),
            Some(&first) if rows.conflict(first, row as u32) => {
                conflicting.push(Pair { first, second: row as u32, similarity: 1.0 });
            }
            Some(_) => {}
        }
    }
    drop(groups);
    let stride = first_of_group.len().div_ceil(MOST_ROWS).max(1);
    let compared: Vec<u32> = first_of_group.into_iter().step_by(stride).collect();
    let near = near_pairs(&texts, &compared);

    let is_across = |pair: &Pair| rows.is_test(pair.first) != rows.is_test(pair.second);
    let distinct = |rows: &mut dyn Iterator<Item = u32>| {
        let mut rows: Vec<u32> = rows.collect();
        rows.sort_unstable();
        rows.dedup();
        rows.len() as u64
    };
    // Rows of a pair stand in rising order, test rows after all others.
    let near_rows = distinct(&mut near.iter().map(|pair| pair.second));
    let near_rows_across_splits =
        distinct(&mut near.iter().filter(|pair| is_across(pair)).map(|pair| pair.second));
    conflicting.extend(near.iter().filter(|pair| rows.conflict(pair.first, pair.second)));
    let conflicting_rows = distinct(&mut conflicting.iter().map(|pair| pair.second));

    let mut listed = near;
    listed.extend(conflicting.iter().filter(|pair| pair.similarity == 1.0));
    listed.sort_by(|a, b| {
        let rank = |pair: &Pair| (!rows.conflict(pair.first, pair.second), !is_across(pair));
        (rank(a).cmp(&rank(b)))
            .then(b.similarity.total_cmp(&a.similarity))
            .then((a.first, a.second).cmp(&(b.first, b.second)))
    });
    let pair = |pair: &Pair| DuplicatePair {
        similarity: pair.similarity,
        first: rows.labelled(pair.first),
        second: rows.labelled(pair.second),
    };
    Duplicates {
        compared_rows: compared.len() as u64,
        near_rows,
        conflicting_rows,
        near_rows_across_splits,
        examples: listed.iter().take(LISTED_PAIRS).map(pair).collect(),
    }
}

/// Two rows, in rising order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    first: u32,
    second: u32,
    similarity: f64,
}

/// The pairs of near-duplicates among `compared` places of `texts`.
fn near_pairs(texts: &[&str], compared: &[u32]) -> Vec<Pair> {
    let keys: Vec<Option<[u32; BANDS]>> = compared
        .par_iter()
        .map(|&row| {
            let runs = runs(texts[row as usize]);
            (runs.len() >= LEAST_RUNS).then(|| band_keys(&runs))
        })
        .collect();
    let mut candidates: Vec<(u32, u32)> = Vec::new();
    for band in 0..BANDS {
        let mut rows: Vec<(u32, u32)> = keys
            .iter()
            .zip(compared)
            .filter_map(|(keys, &row)| Some((keys.as_ref()?[band], row)))
            .collect();
        rows.sort_unstable();
        for bucket in rows.chunk_by(|a, b| a.0 == b.0) {
            for (before, row) in bucket.iter().zip(&bucket[1..]) {
                candidates.push((before.1, row.1));
                candidates.push((bucket[0].1, row.1));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
    }
    candidates
        .into_par_iter()
        .filter_map(|(first, second)| {
            let similarity = similarity(texts[first as usize], texts[second as usize]);
            (similarity >= NEAR_SIMILARITY).then_some(Pair { first, second, similarity })
        })
        .collect()
}

/// The distinct runs of characters of a text as hashes, in rising order; letters and digits
/// count, in lower case, what stands between them is one space.
fn runs(text: &str) -> Vec<u64> {
    let mut normal: Vec<char> = Vec::with_capacity(text.len().min(MOST_CHARS));
    for character in text.chars().take(MOST_CHARS) {
        if character.is_alphanumeric() {
            normal.extend(character.to_lowercase());
        } else if normal.last().is_some_and(|&last| last != ' ') {
            normal.push(' ');
        }
    }
    if normal.last() == Some(&' ') {
        normal.pop();
    }
    let hash = |run: &[char]| {
        run.iter().fold(0u64, |hash, &character| mixed(hash ^ u64::from(u32::from(character))))
    };
    let mut runs: Vec<u64> = normal.windows(RUN_CHARS).map(hash).collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

/// The share of runs that two texts have in common.
fn similarity(first: &str, second: &str) -> f64 {
    let (first, second) = (runs(first), runs(second));
    let (mut at, mut common) = (0, 0usize);
    for run in &first {
        while second.get(at).is_some_and(|other| other < run) {
            at += 1;
        }
        common += usize::from(second.get(at) == Some(run));
    }
    let all = first.len() + second.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

/// The least value of each of the hash functions over a text's runs, a band of them in one key.
fn band_keys(runs: &[u64]) -> [u32; BANDS] {
    let mut least = [u64::MAX; BANDS * HASHES_OF_BAND];
    for &run in runs {
        let mut state = run;
        for least in &mut least {
            state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x9e37_79b9_7f4a_7c15);
            *least = (*least).min(state ^ state >> 29);
        }
    }
    let mut keys = [0u32; BANDS];
    for (key, hashes) in keys.iter_mut().zip(least.chunks_exact(HASHES_OF_BAND)) {
        *key = (hashes.iter().fold(0, |key, &hash| mixed(key ^ hash)) >> 32) as u32;
    }
    keys
}

/// A bijection whose bits all depend on all bits given (the finaliser of SplitMix64).
const fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The labelled rows of all splits, those of the test split last.
struct Rows<'a> {
    prepared: &'a Prepared<'a>,
}

impl<'a> Rows<'a> {
    fn len(&self) -> usize {
        self.prepared.scored + self.prepared.test.texts.len()
    }

    fn is_test(&self, row: u32) -> bool {
        row as usize >= self.prepared.scored
    }

    fn text(&self, row: usize) -> &'a str {
        match row.checked_sub(self.prepared.scored) {
            None => self.prepared.texts[row],
            Some(row) => self.prepared.test.texts[row],
        }
    }

    fn targets(&self, row: u32) -> (&'a Targets, usize) {
        match (row as usize).checked_sub(self.prepared.scored) {
            None => (&self.prepared.targets, row as usize),
            Some(row) => (&self.prepared.test.targets, row),
        }
    }

    /// Whether two rows have labels, but none in common.
    fn conflict(&self, first: u32, second: u32) -> bool {
        let ((first, first_row), (second, second_row)) =
            (self.targets(first), self.targets(second));
        let (left, right) = (first.row(first_row).0, second.row(second_row).0);
        !left.is_empty() && !right.is_empty() && !left.iter().any(|class| right.contains(class))
    }

    fn labelled(&self, row: u32) -> LabelledRow {
        let (targets, at) = self.targets(row);
        let row_ids =
            if self.is_test(row) { &self.prepared.test.row_ids } else { &self.prepared.row_ids };
        LabelledRow {
            row_id: row_ids[at],
            is_test: self.is_test(row),
            text: shorten(self.text(row as usize)),
            label: label_of(self.prepared, targets, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn sentence(random: &mut Random) -> Vec<String> {
        (0..12 + random.below(20)).map(|_| format!("w{}", random.below(5000))).collect()
    }

    #[test]
    fn planted_near_duplicates_are_found_and_others_are_not() {
        for seed in 0..5 {
            let mut random = Random::new(seed, 0);
            let mut texts: Vec<String> =
                (0..3000).map(|_| sentence(&mut random).join(" ")).collect();
            let mut planted = Vec::new();
            for number in 0..200 {
                // One word more, other punctuation and case.
                let text = format!("{}, OH!", texts[number].to_uppercase());
                planted.push((number as u32, texts.len() as u32));
                texts.push(text);
            }
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let rows: Vec<u32> = (0..texts.len() as u32).collect();
            let found = near_pairs(&texts, &rows);
            let hits = planted
                .iter()
                .filter(|(first, second)| {
                    found.iter().any(|pair| (pair.first, pair.second) == (*first, *second))
                })
                .count();
            assert!(hits >= 198, "{hits} of 200 found, seed {seed}");
            assert_eq!(found.len(), hits, "nothing else is alike, seed {seed}");
        }
    }

    #[test]
    fn a_text_that_stands_often_is_compared_in_a_line() {
        let texts: Vec<String> = (0..5000)
            .map(|number| format!("{} number {number}", "the same long start ".repeat(40)))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let rows: Vec<u32> = (0..texts.len() as u32).collect();
        let found = near_pairs(&texts, &rows);
        assert!(found.len() <= 2 * BANDS * texts.len());
        let mut second: Vec<u32> = found.iter().map(|pair| pair.second).collect();
        second.sort_unstable();
        second.dedup();
        assert_eq!(second.len(), texts.len() - 1, "every row is like an earlier one");
    }

    #[test]
    fn similarity_is_that_of_runs() {
        assert_eq!(similarity("Where is it?", "where  is IT"), 1.0);
        assert_eq!(similarity("abcdef", "ghijkl"), 0.0);
        assert_eq!(similarity("", ""), 0.0);
        // abcde, bcdef against bcdef, cdefg.
        assert!((similarity("abcdef", "bcdefg") - 1.0 / 3.0).abs() < 1e-12);
    }
}
