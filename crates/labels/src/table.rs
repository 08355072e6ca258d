//! The votes of all functions over all parts.

use std::sync::Arc;

use crate::layer::{BlockVotes, VoteLayer};
use crate::vote::{LabelArity, Voter};

/// Voters and their layers, part by part. Layers are shared, so that a table after an edit has
/// the layers of every other function from the table before.
#[derive(Clone, Debug)]
pub struct VoteTable {
    voters: Arc<Vec<Voter>>,
    classes: usize,
    arity: LabelArity,
    /// For each voter, the position of its first item; after them the number of items.
    first_items: Vec<u32>,
    /// By part, then by voter.
    layers: Vec<Vec<Arc<VoteLayer>>>,
}

impl VoteTable {
    /// A table without parts.
    pub fn new(voters: Vec<Voter>, classes: usize, arity: LabelArity) -> Self {
        let mut first_items = vec![0];
        for voter in &voters {
            let last = first_items[first_items.len() - 1];
            first_items.push(last + voter.votes.len() as u32);
        }
        Self { voters: Arc::new(voters), classes, arity, first_items, layers: Vec::new() }
    }

    /// Adds the next part: a layer for each voter, all with the same blocks.
    ///
    /// # Panics
    /// When there is not a layer for each voter, or their blocks differ.
    pub fn push_part(&mut self, layers: Vec<Arc<VoteLayer>>) {
        assert_eq!(layers.len(), self.voters.len(), "a layer for each voter");
        let fits = |layer: &Arc<VoteLayer>| {
            layer.blocks.len() == layers[0].blocks.len()
                && layer.blocks.iter().zip(&layers[0].blocks).all(|(a, b)| a.rows() == b.rows())
        };
        assert!(layers.iter().all(fits), "layers of a part have the same blocks");
        self.layers.push(layers);
    }

    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    pub fn arity(&self) -> LabelArity {
        self.arity
    }

    /// Votes that can be told apart: of each voter, each of its votes is an item.
    pub fn items(&self) -> usize {
        self.first_items[self.voters.len()] as usize
    }

    /// The item of a voter's vote.
    pub fn item(&self, voter: usize, vote: usize) -> usize {
        self.first_items[voter] as usize + vote
    }

    /// The voter that an item is of, and its vote by position.
    pub fn vote_of(&self, item: u32) -> (usize, usize) {
        // Voters without votes begin where the next one does.
        let voter = self.first_items.partition_point(|&first| first <= item) - 1;
        (voter, (item - self.first_items[voter]) as usize)
    }

    /// The voter that each item is of.
    pub fn voters_of_items(&self) -> Vec<u32> {
        let of = |(voter, shape): (usize, &Voter)| vec![voter as u32; shape.votes.len()];
        self.voters.iter().enumerate().flat_map(of).collect()
    }

    pub fn parts(&self) -> usize {
        self.layers.len()
    }

    /// Every block, as its part and its position in it.
    pub fn blocks(&self) -> Vec<(usize, usize)> {
        let of_part = |(part, layers): (usize, &Vec<Arc<VoteLayer>>)| {
            let blocks = layers.first().map_or(0, |layer| layer.blocks.len());
            (0..blocks).map(move |block| (part, block)).collect::<Vec<_>>()
        };
        self.layers.iter().enumerate().flat_map(of_part).collect()
    }

    /// The votes of each voter on a block.
    pub fn block(&self, part: usize, block: usize) -> Vec<&BlockVotes> {
        self.layers[part].iter().map(|layer| &layer.blocks[block]).collect()
    }

    /// Rows of all parts; none without voters.
    pub fn rows(&self) -> usize {
        let rows = |layers: &Vec<Arc<VoteLayer>>| {
            let blocks = layers.first().map_or(&[][..], |layer| &layer.blocks);
            blocks.iter().map(BlockVotes::rows).sum::<usize>()
        };
        self.layers.iter().map(rows).sum()
    }

    /// Bytes of all layers, about.
    pub fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(|layer| layer.bytes()).sum()
    }

    /// A block row by row. Votes that a trusted voter contradicts are left out.
    pub fn rows_of_block(&self, part: usize, block: usize) -> RowVotes {
        let votes = self.block(part, block);
        let mut rows = RowVotes::of_block(&votes, &self.first_items);
        if self.voters.iter().any(|voter| voter.is_trusted) {
            rows.keep_trusted(self);
        }
        rows
    }
}

/// The items of each row of a block, end to end, ascending by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowVotes {
    ends: Vec<u32>,
    items: Vec<u32>,
}

impl RowVotes {
    fn of_block(votes: &[&BlockVotes], first_items: &[u32]) -> Self {
        let rows = votes.first().map_or(0, |block| block.rows());
        // Counted first, then filled: each row's items come in the order of the voters.
        let mut ends = vec![0u32; rows];
        for set in votes.iter().flat_map(|block| block.sets()) {
            set.for_each(|row| ends[row] += 1);
        }
        let mut sum = 0;
        for end in &mut ends {
            let count = *end;
            *end = sum;
            sum += count;
        }
        let mut items = vec![0u32; sum as usize];
        for (voter, block) in votes.iter().enumerate() {
            for (vote, set) in block.sets().iter().enumerate() {
                let item = first_items[voter] + vote as u32;
                set.for_each(|row| {
                    items[ends[row] as usize] = item;
                    ends[row] += 1;
                });
            }
        }
        Self { ends, items }
    }

    /// Leaves out, row by row, what contradicts a trusted voter.
    fn keep_trusted(&mut self, table: &VoteTable) {
        let owners = table.voters_of_items();
        let vote = |item: u32| {
            let voter = owners[item as usize] as usize;
            let first = table.first_items[voter];
            (&table.voters[voter].votes[(item - first) as usize], table.voters[voter].is_trusted)
        };
        let mut kept = Self::default();
        for row in self.iter() {
            let trusted: Vec<_> =
                row.iter().map(|&item| vote(item)).filter(|(_, is_trusted)| *is_trusted).collect();
            let stands = |item: &&u32| {
                let (mine, is_trusted) = vote(**item);
                is_trusted
                    || !trusted
                        .iter()
                        .any(|(theirs, _)| theirs.contradicts(mine, table.classes, table.arity))
            };
            kept.items.extend(row.iter().filter(stands));
            kept.ends.push(kept.items.len() as u32);
        }
        *self = kept;
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The items of a row.
    pub fn row(&self, row: usize) -> &[u32] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.items[start..self.ends[row] as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|row| self.row(row))
    }
}
