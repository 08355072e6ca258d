//! What is counted of votes: integers, block by block, that add up to the same whatever the
//! order, so that a sample, a session in memory and a stream of parts give the same answers.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::gold::{BlockGold, Gold};
use crate::row_set::for_each_bit;
use crate::table::VoteTable;
use crate::vote::{Class, LabelArity, Vote};

/// Items up to which co-occurrences are counted in a square of numbers: 32 MiB.
const MAX_DENSE_ITEMS: usize = 2048;

/// How many rows two items are on together, of every pair of items of different voters that
/// occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairCounts {
    /// The upper triangle of a square, row by row, without its diagonal.
    Dense { items: usize, counts: Vec<u64> },
    /// By the smaller and the larger item.
    Sparse(HashMap<(u32, u32), u64>),
}

impl PairCounts {
    fn new(items: usize) -> Self {
        if items <= MAX_DENSE_ITEMS {
            Self::Dense { items, counts: vec![0; items * items.saturating_sub(1) / 2] }
        } else {
            Self::Sparse(HashMap::new())
        }
    }

    /// Rows that both items are on.
    pub fn get(&self, one: usize, other: usize) -> u64 {
        let (low, high) = (one.min(other), one.max(other));
        match self {
            _ if low == high => 0,
            Self::Dense { items, counts } => counts[place(*items, low, high)],
            Self::Sparse(counts) => counts.get(&(low as u32, high as u32)).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, low: usize, high: usize, rows: u64) {
        match self {
            Self::Dense { items, counts } => counts[place(*items, low, high)] += rows,
            Self::Sparse(counts) => *counts.entry((low as u32, high as u32)).or_default() += rows,
        }
    }

    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Dense { counts, .. }, Self::Dense { counts: others, .. }) => {
                counts.iter_mut().zip(others).for_each(|(mine, theirs)| *mine += theirs);
            }
            (Self::Sparse(counts), Self::Sparse(others)) => {
                for (pair, rows) in others {
                    *counts.entry(pair).or_default() += rows;
                }
            }
            _ => unreachable!("the form follows from the number of items"),
        }
    }

    /// Every pair that occurs with its rows, by the smaller and then the larger item.
    pub fn pairs(&self) -> Vec<(u32, u32, u64)> {
        match self {
            Self::Dense { items, counts } => {
                let of_low = |low: usize| {
                    (low + 1..*items)
                        .map(move |high| (low as u32, high as u32, place(*items, low, high)))
                };
                let all = (0..*items).flat_map(of_low);
                all.map(|(low, high, at)| (low, high, counts[at]))
                    .filter(|(.., rows)| *rows > 0)
                    .collect()
            }
            Self::Sparse(counts) => {
                let mut pairs: Vec<_> =
                    counts.iter().map(|(&(low, high), &rows)| (low, high, rows)).collect();
                pairs.sort_unstable();
                pairs
            }
        }
    }
}

fn place(items: usize, low: usize, high: usize) -> usize {
    low * (2 * items - low - 1) / 2 + high - low - 1
}

/// What is counted of the votes of a table, or of some of its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteCounts {
    pub rows: u64,
    /// Rows that any voter voted on.
    pub covered: u64,
    /// Rows on which votes contradict one another.
    pub conflicts: u64,
    /// By item: rows; those that another voter voted on too; those where another contradicts.
    pub item_rows: Vec<u64>,
    pub item_overlaps: Vec<u64>,
    pub item_conflicts: Vec<u64>,
    pub pairs: PairCounts,
    /// Gold rows, and those of each class.
    pub gold_rows: u64,
    pub gold_of_class: Vec<u64>,
    /// By item: gold rows, and those it is right on.
    pub item_gold: Vec<u64>,
    pub item_right: Vec<u64>,
    /// By item, then by class: gold rows of that class.
    pub item_gold_of_class: Vec<Vec<(Class, u64)>>,
}

impl VoteCounts {
    /// Counts nothing yet.
    pub fn new(table: &VoteTable) -> Self {
        let items = table.items();
        Self {
            rows: 0,
            covered: 0,
            conflicts: 0,
            item_rows: vec![0; items],
            item_overlaps: vec![0; items],
            item_conflicts: vec![0; items],
            pairs: PairCounts::new(items),
            gold_rows: 0,
            gold_of_class: vec![0; table.classes()],
            item_gold: vec![0; items],
            item_right: vec![0; items],
            item_gold_of_class: vec![Vec::new(); items],
        }
    }

    /// Counts all blocks, on as many threads as the pool has.
    pub fn of(table: &VoteTable, gold: &Gold) -> Self {
        let blocks = table.blocks();
        let shape = Shape::of(table);
        // A few lots, so that few squares of pairs are held at once.
        let lots = blocks.len().div_ceil(rayon::current_num_threads().max(1)).max(1);
        blocks
            .par_chunks(lots)
            .map(|blocks| {
                let mut counts = Self::new(table);
                for &(part, block) in blocks {
                    counts.add_block(table, &shape, part, block, gold.block(part, block));
                }
                counts
            })
            .reduce(
                || Self::new(table),
                |mut mine, theirs| {
                    mine.merge(theirs);
                    mine
                },
            )
    }

    /// Adds the counts of other blocks of the same table.
    pub fn merge(&mut self, other: Self) {
        let add = |mine: &mut [u64], theirs: &[u64]| {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        };
        self.rows += other.rows;
        self.covered += other.covered;
        self.conflicts += other.conflicts;
        self.gold_rows += other.gold_rows;
        add(&mut self.item_rows, &other.item_rows);
        add(&mut self.item_overlaps, &other.item_overlaps);
        add(&mut self.item_conflicts, &other.item_conflicts);
        add(&mut self.gold_of_class, &other.gold_of_class);
        add(&mut self.item_gold, &other.item_gold);
        add(&mut self.item_right, &other.item_right);
        self.pairs.merge(other.pairs);
        for (mine, theirs) in self.item_gold_of_class.iter_mut().zip(other.item_gold_of_class) {
            for (class, rows) in theirs {
                add_class(mine, class, rows);
            }
        }
    }

    fn add_block(
        &mut self,
        table: &VoteTable,
        shape: &Shape,
        part: usize,
        block: usize,
        gold: Option<&BlockGold>,
    ) {
        let votes = table.block(part, block);
        let Some(rows) = votes.first().map(|block| block.rows()) else { return };
        let words = rows.div_ceil(64);
        self.rows += rows as u64;

        let (mut once, mut twice) = (vec![0u64; words], vec![0u64; words]);
        let mut own = vec![0u64; words];
        for block in &votes {
            own.fill(0);
            block.sets().iter().for_each(|set| set.add_to(&mut own));
            for ((once, twice), own) in once.iter_mut().zip(&mut twice).zip(&own) {
                *twice |= *once & own;
                *once |= own;
            }
        }
        self.covered += ones(&once);
        let contradicted = shape.contradicted(table, &votes, words);
        let mut any_conflict = vec![0u64; words];
        let sets = votes.iter().flat_map(|block| block.sets());
        for (item, set) in sets.clone().enumerate() {
            if set.is_empty() {
                continue;
            }
            self.item_rows[item] += set.len() as u64;
            self.item_overlaps[item] += set.count_in(&twice) as u64;
            let against = &contradicted[shape.kind_of_item[item] as usize];
            self.item_conflicts[item] += set.count_in(against) as u64;
            let mut bits = vec![0u64; words];
            set.add_to(&mut bits);
            for ((any, bits), against) in any_conflict.iter_mut().zip(&bits).zip(against) {
                *any |= bits & against;
            }
        }
        self.conflicts += ones(&any_conflict);
        self.add_pairs(table, shape, part, block);
        if let Some(gold) = gold {
            self.add_gold(table, shape, part, block, gold);
        }
    }

    /// Co-occurrences, by whichever way is cheaper: common bits of each two items, or the pairs
    /// of each row.
    fn add_pairs(&mut self, table: &VoteTable, shape: &Shape, part: usize, block: usize) {
        let votes = table.block(part, block);
        let words = votes.first().map_or(0, |block| block.rows().div_ceil(64)) as u64;
        let sets: Vec<_> = votes.iter().flat_map(|block| block.sets()).collect();
        let present: Vec<usize> = (0..sets.len()).filter(|&item| !sets[item].is_empty()).collect();
        let voted: u64 = present.iter().map(|&item| sets[item].len() as u64).sum();
        let by_bits = (present.len() * present.len() / 2) as u64 * words;
        let rows = votes.first().map_or(1, |block| block.rows().max(1)) as u64;
        // A pair of a row costs some ten times what a word of bits does.
        let by_rows = 10 * voted * (voted / rows + 1);
        if by_bits <= by_rows && matches!(self.pairs, PairCounts::Dense { .. }) {
            for (at, &low) in present.iter().enumerate() {
                for &high in &present[at + 1..] {
                    if shape.voter_of_item[low] == shape.voter_of_item[high] {
                        continue;
                    }
                    let common = sets[low].count_common(sets[high]) as u64;
                    if common > 0 {
                        self.pairs.add(low, high, common);
                    }
                }
            }
            return;
        }
        for row in RowItems::of(&votes).iter() {
            for (at, &low) in row.iter().enumerate() {
                for &high in &row[at + 1..] {
                    self.pairs.add(low as usize, high as usize, 1);
                }
            }
        }
    }

    fn add_gold(
        &mut self,
        table: &VoteTable,
        shape: &Shape,
        part: usize,
        block: usize,
        gold: &BlockGold,
    ) {
        let votes = table.block(part, block);
        let Some(rows) = votes.first().map(|block| block.rows()) else { return };
        let mut bits = vec![0u64; rows.div_ceil(64)];
        let mut classes_of: Vec<&[Class]> = vec![&[]; rows];
        for (row, classes) in gold.iter().filter(|(row, _)| *row < rows) {
            bits[row / 64] |= 1 << (row % 64);
            classes_of[row] = classes;
            self.gold_rows += 1;
            for &class in classes {
                self.gold_of_class[class as usize] += 1;
            }
        }
        for (item, set) in votes.iter().flat_map(|block| block.sets()).enumerate() {
            let vote = shape.vote(table, item);
            let mut both = vec![0u64; bits.len()];
            set.add_to(&mut both);
            both.iter_mut().zip(&bits).for_each(|(both, gold)| *both &= gold);
            let mut of_class = std::mem::take(&mut self.item_gold_of_class[item]);
            for_each_bit(&both, |row| {
                self.item_gold[item] += 1;
                self.item_right[item] += u64::from(vote.is_right(classes_of[row], table.arity()));
                for &class in classes_of[row] {
                    add_class(&mut of_class, class, 1);
                }
            });
            self.item_gold_of_class[item] = of_class;
        }
    }
}

fn add_class(counts: &mut Vec<(Class, u64)>, class: Class, rows: u64) {
    match counts.binary_search_by_key(&class, |(class, _)| *class) {
        Ok(at) => counts[at].1 += rows,
        Err(at) => counts.insert(at, (class, rows)),
    }
}

fn ones(bits: &[u64]) -> u64 {
    bits.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// The items of each row of a block, whoever is trusted.
struct RowItems {
    ends: Vec<u32>,
    items: Vec<u32>,
}

impl RowItems {
    fn of(votes: &[&crate::layer::BlockVotes]) -> Self {
        let rows = votes.first().map_or(0, |block| block.rows());
        let sets = || votes.iter().flat_map(|block| block.sets());
        let mut ends = vec![0u32; rows + 1];
        sets().for_each(|set| set.for_each(|row| ends[row + 1] += 1));
        for row in 0..rows {
            ends[row + 1] += ends[row];
        }
        let mut next = ends.clone();
        let mut items = vec![0u32; ends[rows] as usize];
        for (item, set) in sets().enumerate() {
            set.for_each(|row| {
                items[next[row] as usize] = item as u32;
                next[row] += 1;
            });
        }
        Self { ends, items }
    }

    fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.ends.windows(2).map(|ends| &self.items[ends[0] as usize..ends[1] as usize])
    }
}

/// What counting needs to know of a table's items, found out once.
struct Shape {
    voter_of_item: Vec<u32>,
    /// Votes that say the same share a kind.
    kind_of_item: Vec<u32>,
    kinds: Vec<Vote>,
    first_item: Vec<usize>,
}

impl Shape {
    fn of(table: &VoteTable) -> Self {
        let mut known: HashMap<&Vote, u32> = HashMap::new();
        let mut shape = Self {
            voter_of_item: table.voters_of_items(),
            kind_of_item: Vec::new(),
            kinds: Vec::new(),
            first_item: (0..table.voters().len()).map(|voter| table.item(voter, 0)).collect(),
        };
        for vote in table.voters().iter().flat_map(|voter| &voter.votes) {
            let kind = *known.entry(vote).or_insert_with(|| {
                shape.kinds.push(vote.clone());
                shape.kinds.len() as u32 - 1
            });
            shape.kind_of_item.push(kind);
        }
        shape
    }

    fn vote<'t>(&self, table: &'t VoteTable, item: usize) -> &'t Vote {
        let voter = self.voter_of_item[item] as usize;
        &table.voters()[voter].votes[item - self.first_item[voter]]
    }

    /// By kind, the rows on which some vote contradicts it. A voter has one vote a row and so
    /// does not contradict itself.
    fn contradicted(
        &self,
        table: &VoteTable,
        votes: &[&crate::layer::BlockVotes],
        words: usize,
    ) -> Vec<Vec<u64>> {
        let mut rows_of_kind = vec![vec![0u64; words]; self.kinds.len()];
        for (item, set) in votes.iter().flat_map(|block| block.sets()).enumerate() {
            set.add_to(&mut rows_of_kind[self.kind_of_item[item] as usize]);
        }
        let (classes, arity) = (table.classes(), table.arity());
        let is_single = |vote: &Vote| arity == LabelArity::Single && vote.single().is_some();
        // Votes for one class each contradict one another wherever there are two kinds: found
        // for all of them in one pass.
        let (mut once, mut twice) = (vec![0u64; words], vec![0u64; words]);
        for (kind, rows) in rows_of_kind.iter().enumerate() {
            if is_single(&self.kinds[kind]) {
                for ((once, twice), rows) in once.iter_mut().zip(&mut twice).zip(rows) {
                    *twice |= *once & rows;
                    *once |= rows;
                }
            }
        }
        let general: Vec<usize> =
            (0..self.kinds.len()).filter(|&kind| !is_single(&self.kinds[kind])).collect();
        let against = |kind: usize| {
            let vote = &self.kinds[kind];
            let mut bits = if is_single(vote) { twice.clone() } else { vec![0u64; words] };
            let others: Box<dyn Iterator<Item = usize>> = if is_single(vote) {
                Box::new(general.iter().copied())
            } else {
                Box::new(0..self.kinds.len())
            };
            for other in others {
                if self.kinds[other].contradicts(vote, classes, arity) {
                    bits.iter_mut()
                        .zip(&rows_of_kind[other])
                        .for_each(|(bits, rows)| *bits |= rows);
                }
            }
            bits
        };
        (0..self.kinds.len()).map(against).collect()
    }
}
