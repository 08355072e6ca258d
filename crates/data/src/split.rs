//! Splits: their names, and drawing them.
//!
//! A draw is stratified, seeded, and a property of texts rather than of places: rows are
//! ordered within their class by a hash of seed and normalised text, and each split takes
//! its share from the front. Rows with the same text therefore always land in the same split,
//! so no test row was seen in training, and the order of the file does not matter.
//! Memory stays bounded: everything larger than the class table is sorted externally.

use std::io;
use std::path::Path;
use std::str::FromStr;

use corral_types::{ErrorKind, Explain};
use twox_hash::XxHash3_64;

use crate::sorter::ExternalSorter;

/// The name under which a split is kept: `validation`, `valid`, `val` and `dev` are `valid`,
/// `train` and `training` are `train`, `test` and `testing` are `test`, in any case; every
/// other name stays as it is.
pub fn canonical_split_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "validation" | "valid" | "val" | "dev" | "development" => "valid".to_owned(),
        "train" | "training" => "train".to_owned(),
        "test" | "testing" => "test".to_owned(),
        _ => name.to_owned(),
    }
}

/// A share of rows, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fraction(u32);

impl Fraction {
    const WHOLE: u32 = 1_000_000;

    /// The nearest millionth; `None` outside 0 to 1, both excluded.
    pub fn from_f64(share: f64) -> Option<Self> {
        let millionths = (share * f64::from(Self::WHOLE)).round();
        let inside = millionths >= 1.0 && millionths < f64::from(Self::WHOLE);
        inside.then_some(Self(millionths as u32))
    }
}

impl FromStr for Fraction {
    type Err = String;

    /// `0.1` or `10%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is not a share of rows; write 0.1 or 10%");
        let share = match text.trim().strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map_err(|_| refuse())? / 100.0,
            None => text.trim().parse().map_err(|_| refuse())?,
        };
        Self::from_f64(share).ok_or_else(refuse)
    }
}

/// A seeded stratified draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawSplits {
    /// Each split and its share of the rows drawn from.
    pub fractions: Vec<(String, Fraction)>,
    /// The split of all rows drawn from that no other split took.
    pub rest: String,
    pub from: DrawFrom,
    pub seed: u64,
}

/// Which rows a draw is from; the others keep their split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DrawFrom {
    /// Those without a split.
    #[default]
    Unassigned,
    AllRows,
    Split(String),
}

impl DrawSplits {
    /// One split of a given share drawn from the rows without a split; the rest is `train`.
    pub fn one(split: &str, share: Fraction, seed: u64) -> Self {
        Self {
            fractions: vec![(split.to_owned(), share)],
            rest: "train".to_owned(),
            from: DrawFrom::Unassigned,
            seed,
        }
    }

    /// Checks the names and shares.
    ///
    /// # Errors
    /// When there are no shares, a name is empty or occurs twice, or the shares pass the whole.
    pub fn check(&self) -> Result<(), DrawError> {
        let names: Vec<String> = self.names().collect();
        if self.fractions.is_empty() {
            return Err(DrawError::NoShares);
        }
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() || names[..at].contains(name) {
                return Err(DrawError::Name { name: name.clone() });
            }
        }
        let total: u64 = self.fractions.iter().map(|(_, share)| u64::from(share.0)).sum();
        if total > u64::from(Fraction::WHOLE) {
            return Err(DrawError::Shares { percent: total / 10_000 });
        }
        Ok(())
    }

    /// The canonical names of the splits drawn, and that of the rest, last.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let drawn = self.fractions.iter().map(|(name, _)| name.as_str());
        drawn.chain([self.rest.as_str()]).map(canonical_split_name)
    }
}

/// Why splits cannot be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    #[error("a draw names no split and its share")]
    NoShares,
    #[error("the split name `{name}` is empty or stands twice in the draw")]
    Name { name: String },
    #[error("the shares of the splits to draw add up to {percent} %")]
    Shares { percent: u64 },
    #[error("there is no split `{name}` to draw from; the splits are {}", splits.join(", "))]
    NoSuchSplit { name: String, splits: Vec<String> },
}

impl Explain for DrawError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn hint(&self) -> Option<String> {
        matches!(self, Self::Shares { .. }).then(|| "leave some rows for training".to_owned())
    }
}

/// The stratum of unlabelled rows.
const UNLABELLED: u64 = u64::MAX;

/// Collects the rows to draw from, then hands out the choice in row order.
pub(crate) struct Draw {
    by_text: ExternalSorter<3>,
    seed: u64,
    fractions: Vec<u32>,
    folder: std::path::PathBuf,
    memory_bytes: usize,
}

impl Draw {
    pub(crate) fn new(draw: &DrawSplits, folder: &Path, memory_bytes: usize) -> Self {
        Self {
            by_text: ExternalSorter::new(folder, memory_bytes),
            seed: draw.seed,
            fractions: draw.fractions.iter().map(|(_, share)| share.0).collect(),
            folder: folder.to_owned(),
            memory_bytes,
        }
    }

    /// Adds a row with the hash of its text and its class, the first one if it has several.
    pub(crate) fn add(&mut self, row: u64, text_hash: u64, class: Option<u32>) -> io::Result<()> {
        let key = XxHash3_64::oneshot_with_seed(self.seed, &text_hash.to_le_bytes());
        self.by_text.push([key, class.map_or(UNLABELLED, u64::from), row])
    }

    /// `(row, choice)` in the order of rows; a choice is an index into the fractions, or
    /// their number for the rest.
    pub(crate) fn finish(self) -> io::Result<impl Iterator<Item = io::Result<(u64, usize)>>> {
        // All rows of one text go by the least of their classes, so that they stay together.
        let mut by_stratum = ExternalSorter::<3>::new(&self.folder, self.memory_bytes);
        let mut strata = std::collections::BTreeMap::<u64, u64>::new();
        let mut group: Option<(u64, u64)> = None;
        for record in self.by_text.finish()? {
            let [key, class, row] = record?;
            let stratum = match group {
                Some((group_key, stratum)) if group_key == key => stratum,
                _ => class,
            };
            group = Some((key, stratum));
            *strata.entry(stratum).or_default() += 1;
            by_stratum.push([stratum, key, row])?;
        }

        let mut by_row = ExternalSorter::<2>::new(&self.folder, self.memory_bytes);
        let mut shares = Shares::new(&self.fractions);
        let mut stratum_now = None;
        let mut members: Vec<u64> = Vec::new();
        let mut key_now = None;
        let mut records = by_stratum.finish()?;
        loop {
            let record = records.next().transpose()?;
            let place = record.map(|[stratum, key, _]| (stratum, key));
            if place != key_now && !members.is_empty() {
                let choice = shares.choose(members.len() as u64);
                for row in members.drain(..) {
                    by_row.push([row, choice as u64])?;
                }
            }
            let Some([stratum, _, row]) = record else { break };
            if stratum_now != Some(stratum) {
                let keep_one = stratum != UNLABELLED;
                shares.begin_stratum(strata.get(&stratum).copied().unwrap_or(0), keep_one);
                stratum_now = Some(stratum);
            }
            key_now = place;
            members.push(row);
        }
        let sorted = by_row.finish()?;
        Ok(sorted.map(|record| record.map(|[row, choice]| (row, choice as usize))))
    }
}

/// How many rows of the current stratum each split still takes. What rounding leaves over in
/// one stratum is carried to the next, so that the whole comes out right too.
struct Shares {
    fractions: Vec<u32>,
    /// Millionths of a row owed to each split; half a row at first, so that it rounds.
    owed: Vec<i128>,
    wanted: Vec<u64>,
    taken: Vec<u64>,
    rows: u64,
}

impl Shares {
    fn new(fractions: &[u32]) -> Self {
        let splits = fractions.len();
        Self {
            fractions: fractions.to_vec(),
            owed: vec![i128::from(Fraction::WHOLE / 2); splits],
            wanted: vec![0; splits],
            taken: vec![0; splits],
            rows: 0,
        }
    }

    /// `keep_one` leaves at least one row of a class for the rest: a class that is only in
    /// the test split cannot be learnt.
    fn begin_stratum(&mut self, rows: u64, keep_one: bool) {
        self.settle();
        self.rows = rows;
        let whole = i128::from(Fraction::WHOLE);
        let mut left = if keep_one { rows.saturating_sub(1) } else { rows };
        for (split, &fraction) in self.fractions.iter().enumerate() {
            let due = self.owed[split] + i128::from(rows) * i128::from(fraction);
            self.wanted[split] = due.div_euclid(whole).clamp(0, i128::from(left)) as u64;
            left -= self.wanted[split];
        }
    }

    /// Accounts for what the stratum that ends gave.
    fn settle(&mut self) {
        for (split, &fraction) in self.fractions.iter().enumerate() {
            let due = i128::from(self.rows) * i128::from(fraction);
            self.owed[split] += due - i128::from(self.taken[split]) * i128::from(Fraction::WHOLE);
            self.taken[split] = 0;
        }
        self.rows = 0;
    }

    /// The split of the next group of rows with one text: the first that it does not
    /// overfill by more than half of itself.
    fn choose(&mut self, group: u64) -> usize {
        let fits = |split: &usize| {
            self.taken[*split] < self.wanted[*split]
                && self.taken[*split] + group.div_ceil(2) <= self.wanted[*split]
        };
        let choice = (0..self.fractions.len()).find(fits).unwrap_or(self.fractions.len());
        if let Some(taken) = self.taken.get_mut(choice) {
            *taken += group;
        }
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: &[(u64, Option<u32>)], shares: &[f64], seed: u64, memory: usize) -> Vec<usize> {
        let fractions = shares.iter().enumerate();
        let draw = DrawSplits {
            fractions: fractions
                .map(|(i, &share)| (format!("s{i}"), Fraction::from_f64(share).unwrap()))
                .collect(),
            rest: "train".into(),
            from: DrawFrom::AllRows,
            seed,
        };
        draw.check().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut state = Draw::new(&draw, folder.path(), memory);
        for (row, &(hash, class)) in rows.iter().enumerate() {
            state.add(row as u64, hash, class).unwrap();
        }
        let choices: Vec<_> = state.finish().unwrap().collect::<Result<_, _>>().unwrap();
        assert!(choices.iter().enumerate().all(|(at, (row, _))| at as u64 == *row));
        choices.into_iter().map(|(_, choice)| choice).collect()
    }

    #[test]
    fn every_class_gives_its_share() {
        let rows: Vec<_> =
            (0..10_000u64).map(|row| (row * 7919, Some((row % 10) as u32))).collect();
        let choices = drawn(&rows, &[0.2, 0.1], 1, 1 << 20);
        for class in 0..10 {
            let count = |choice| {
                let pairs = choices.iter().zip(&rows);
                pairs.filter(|(c, (_, k))| **c == choice && *k == Some(class)).count()
            };
            assert_eq!((count(0), count(1), count(2)), (200, 100, 700));
        }
    }

    #[test]
    fn small_classes_add_up_and_keep_a_row() {
        let rows: Vec<_> =
            (0..3000u64).map(|row| (row * 104_729, Some((row / 3) as u32))).collect();
        let choices = drawn(&rows, &[0.1], 9, 1 << 20);
        let test = choices.iter().filter(|&&choice| choice == 0).count();
        assert!((299..=301).contains(&test), "{test}");
        let single: Vec<_> = (0..50u64).map(|row| (row, Some(row as u32))).collect();
        assert!(drawn(&single, &[0.5], 3, 1 << 20).iter().all(|&choice| choice == 1));
    }

    #[test]
    fn the_same_text_is_in_one_split_whatever_its_class() {
        let rows: Vec<_> = (0..4000u64)
            .map(|row| (row % 500, (row % 3 > 0).then_some((row % 7) as u32)))
            .collect();
        let choices = drawn(&rows, &[0.3], 5, 1 << 20);
        for (row, choice) in choices.iter().enumerate() {
            assert_eq!(*choice, choices[row % 500]);
        }
        let test = choices.iter().filter(|&&choice| choice == 0).count();
        assert!((1000..1400).contains(&test), "{test}");
    }

    #[test]
    fn seed_and_texts_decide_and_nothing_else() {
        let rows: Vec<_> = (0..2000u64).map(|row| (row * 31, Some((row % 4) as u32))).collect();
        let choices = drawn(&rows, &[0.25], 7, 1 << 20);
        assert_eq!(choices, drawn(&rows, &[0.25], 7, 64), "spilled");
        assert_ne!(choices, drawn(&rows, &[0.25], 8, 1 << 20), "another seed");
        let backwards: Vec<_> = rows.iter().rev().copied().collect();
        let mut reversed = drawn(&backwards, &[0.25], 7, 1 << 20);
        reversed.reverse();
        assert_eq!(choices, reversed);
    }

    #[test]
    fn wrong_draws_are_refused() {
        let share = Fraction::from_f64(0.6).unwrap();
        let mut draw = DrawSplits::one("test", share, 0);
        draw.check().unwrap();
        draw.fractions.push(("valid".into(), share));
        assert_eq!(draw.check(), Err(DrawError::Shares { percent: 120 }));
        draw.fractions[1].0 = "Testing".into();
        assert_eq!(draw.check(), Err(DrawError::Name { name: "test".into() }));
        draw.fractions.clear();
        assert_eq!(draw.check(), Err(DrawError::NoShares));
        assert_eq!("10%".parse(), Ok(Fraction(100_000)));
        assert!("1".parse::<Fraction>().is_err() && "x".parse::<Fraction>().is_err());
    }
}
