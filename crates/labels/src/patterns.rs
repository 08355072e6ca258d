//! Rows that have the same votes are the same to a label model: each such pattern counts once,
//! with the number of its rows.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::table::VoteTable;

/// Items of all distinct patterns together at most: 256 MiB. Beyond, the patterns of every
/// second, third, … row stand for all.
pub const MAX_PATTERN_ITEMS: usize = 64 << 20;

/// The distinct patterns of votes with how many rows have each, in an order that does not depend
/// on threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patterns {
    ends: Vec<u32>,
    items: Vec<u32>,
    rows: Vec<u32>,
}

impl Patterns {
    /// The patterns of the covered rows of a table, taken of every `step`-th row.
    pub fn of(table: &VoteTable, step: usize) -> Self {
        let count = |blocks: &[(usize, usize)]| {
            let mut found: HashMap<Box<[u32]>, u32> = HashMap::new();
            for &(part, block) in blocks {
                let rows = table.rows_of_block(part, block);
                for row in rows.iter().step_by(step).filter(|row| !row.is_empty()) {
                    match found.get_mut(row) {
                        Some(rows) => *rows += 1,
                        None => drop(found.insert(row.into(), 1)),
                    }
                }
            }
            found
        };
        let blocks = table.blocks();
        let lots = blocks.len().div_ceil(rayon::current_num_threads().max(1)).max(1);
        let found = blocks.par_chunks(lots).map(count).reduce(HashMap::new, |one, other| {
            let (mut large, small) =
                if one.len() < other.len() { (other, one) } else { (one, other) };
            for (pattern, rows) in small {
                *large.entry(pattern).or_default() += rows;
            }
            large
        });
        let mut sorted: Vec<_> = found.into_iter().collect();
        sorted.par_sort_unstable();
        let mut patterns = Self::default();
        for (pattern, rows) in sorted {
            patterns.items.extend_from_slice(&pattern);
            patterns.ends.push(patterns.items.len() as u32);
            patterns.rows.push(rows);
        }
        patterns
    }

    /// The same with as small a step as keeps within [`MAX_PATTERN_ITEMS`], whatever repeats.
    pub fn bounded(table: &VoteTable, votes: u64, most_items: usize) -> Self {
        let most = most_items.min(MAX_PATTERN_ITEMS) as u64;
        Self::of(table, votes.div_ceil(most).max(1) as usize)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A pattern's items and how many rows have it.
    pub fn pattern(&self, at: usize) -> (&[u32], u32) {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        (&self.items[start..self.ends[at] as usize], self.rows[at])
    }

    /// Rows of all patterns.
    pub fn rows(&self) -> u64 {
        self.rows.iter().map(|&rows| u64::from(rows)).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u32], u32)> {
        (0..self.len()).map(|at| self.pattern(at))
    }
}
