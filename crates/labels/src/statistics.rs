//! What people look at: shares of rows, precision and recall with intervals, pairs of functions.

use serde::{Deserialize, Serialize};

use crate::counts::VoteCounts;
use crate::interval::{Interval, wilson};
use crate::table::VoteTable;
use crate::vote::{Class, LabelArity, Vote};

/// Two functions are called redundant where the rows of both are such a share of the rows of
/// either and they say the same.
const REDUNDANT_OVERLAP: f64 = 0.9;

/// What is known of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionStatistics {
    /// The votes that occur, by position among the voter's.
    pub polarity: Vec<usize>,
    pub rows: u64,
    /// Shares of all rows: those it votes on, those that another votes on too, those where
    /// another contradicts it.
    pub coverage: f64,
    pub overlap: f64,
    pub conflict: f64,
    /// How often it is right where it votes on gold rows.
    pub accuracy: Option<Interval>,
    pub classes: Vec<ClassStatistics>,
}

/// A function on the gold rows of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassStatistics {
    pub class: Class,
    /// Whether it is about votes against the class.
    pub is_against: bool,
    /// Of the gold rows with the vote, those it is right on.
    pub precision: Option<Interval>,
    /// Of the gold rows of the class (of the others, for votes against it), those with the vote.
    pub recall: Option<Interval>,
}

/// Two functions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairStatistics {
    pub voters: (usize, usize),
    /// Rows that both vote on, and those where they contradict each other.
    pub both: u64,
    pub conflicts: u64,
    /// How whether one votes goes with whether the other does: Pearson's coefficient.
    pub correlation: f64,
    /// Nearly the same rows, and never another class.
    pub is_redundant: bool,
}

/// What is known of all functions together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetStatistics {
    pub rows: u64,
    pub coverage: f64,
    pub conflict: f64,
    pub gold_rows: u64,
    pub functions: Vec<FunctionStatistics>,
    /// Pairs with rows in common, those with most conflicts first.
    pub pairs: Vec<PairStatistics>,
}

/// Works the statistics out of counts.
pub fn set_statistics(table: &VoteTable, counts: &VoteCounts) -> SetStatistics {
    let rows = counts.rows.max(1) as f64;
    let functions = (0..table.voters().len()).map(|voter| function(table, counts, voter)).collect();
    SetStatistics {
        rows: counts.rows,
        coverage: counts.covered as f64 / rows,
        conflict: counts.conflicts as f64 / rows,
        gold_rows: counts.gold_rows,
        functions,
        pairs: pairs(table, counts),
    }
}

fn function(table: &VoteTable, counts: &VoteCounts, voter: usize) -> FunctionStatistics {
    let votes = &table.voters()[voter].votes;
    let items = table.item(voter, 0)..table.item(voter, votes.len());
    let sum = |of: &[u64]| of[items.clone()].iter().sum::<u64>();
    let share = |of: &[u64]| sum(of) as f64 / counts.rows.max(1) as f64;
    FunctionStatistics {
        polarity: (0..votes.len())
            .filter(|vote| counts.item_rows[items.start + vote] > 0)
            .collect(),
        rows: sum(&counts.item_rows),
        coverage: share(&counts.item_rows),
        overlap: share(&counts.item_overlaps),
        conflict: share(&counts.item_conflicts),
        accuracy: wilson(sum(&counts.item_right), sum(&counts.item_gold)),
        classes: by_class(table, counts, voter),
    }
}

fn by_class(table: &VoteTable, counts: &VoteCounts, voter: usize) -> Vec<ClassStatistics> {
    if counts.gold_rows == 0 {
        return Vec::new();
    }
    let votes = &table.voters()[voter].votes;
    let mut named: Vec<(Class, bool)> = votes
        .iter()
        .flat_map(|vote| {
            let is_against = matches!(vote, Vote::Against(_));
            vote.named().iter().map(move |&class| (class, is_against))
        })
        .collect();
    named.sort_unstable();
    named.dedup();
    let statistics = |&(class, is_against): &(Class, bool)| {
        let (mut voted, mut of_class) = (0, 0);
        for (at, vote) in votes.iter().enumerate() {
            if matches!(vote, Vote::Against(_)) == is_against && vote.named().contains(&class) {
                let item = table.item(voter, at);
                voted += counts.item_gold[item];
                let of = &counts.item_gold_of_class[item];
                let found = of.binary_search_by_key(&class, |(class, _)| *class);
                of_class += found.map_or(0, |at| of[at].1);
            }
        }
        let gold = counts.gold_of_class[class as usize];
        let (right, all) = match is_against {
            false => (of_class, gold),
            true => (voted - of_class, counts.gold_rows - gold),
        };
        ClassStatistics {
            class,
            is_against,
            precision: wilson(right, voted),
            recall: wilson(right, all),
        }
    };
    named.iter().map(statistics).collect()
}

fn pairs(table: &VoteTable, counts: &VoteCounts) -> Vec<PairStatistics> {
    use std::collections::BTreeMap;
    let owner = table.voters_of_items();
    let vote = |item: u32| {
        let voter = owner[item as usize] as usize;
        &table.voters()[voter].votes[item as usize - table.item(voter, 0)]
    };
    let mut found: BTreeMap<(u32, u32), (u64, u64)> = BTreeMap::new();
    for (low, high, rows) in counts.pairs.pairs() {
        let voters = (owner[low as usize], owner[high as usize]);
        let (both, conflicts) = found.entry(voters).or_default();
        *both += rows;
        let (classes, arity): (usize, LabelArity) = (table.classes(), table.arity());
        if vote(low).contradicts(vote(high), classes, arity) {
            *conflicts += rows;
        }
    }
    let voted = |voter: u32| {
        let voter = voter as usize;
        let items = table.item(voter, 0)..table.item(voter, table.voters()[voter].votes.len());
        counts.item_rows[items].iter().sum::<u64>() as f64
    };
    let n = counts.rows.max(1) as f64;
    let mut pairs: Vec<PairStatistics> = found
        .into_iter()
        .map(|((one, other), (both, conflicts))| {
            let (a, b) = (voted(one), voted(other));
            let spread = (a * (n - a) * b * (n - b)).sqrt();
            let union = a + b - both as f64;
            PairStatistics {
                voters: (one as usize, other as usize),
                both,
                conflicts,
                correlation: if spread > 0.0 { (n * both as f64 - a * b) / spread } else { 0.0 },
                is_redundant: conflicts == 0 && both as f64 >= REDUNDANT_OVERLAP * union,
            }
        })
        .collect();
    pairs.sort_by_key(|pair| (std::cmp::Reverse((pair.conflicts, pair.both)), pair.voters));
    pairs
}
