//! Heads: from features to one score for each output.
//!
//! A head owns its arrays after training and borrows them from a model file; the arithmetic
//! is the same code either way.

mod builder;
mod cost;
mod kernel;
mod linear;
mod local;
mod neighbours;
mod network;
mod stored;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use builder::{HeadBuilder, HeadError, MAX_OUTPUTS, Precision};
pub use cost::RowShape;
pub use kernel::{KernelHead, radial_kernel};
pub use linear::LinearHead;
pub(crate) use linear::Weights;
pub use local::{LocalHead, Siblings, join_tiers};
pub use neighbours::{MAX_NEIGHBOURS, NeighboursHead};
pub use network::{Activation, NetworkHead};
pub(crate) use stored::padded_width;
pub use stored::{MAX_STORED_ROWS, MAX_STORED_WIDTH, Query, StoredRows};

use crate::rows::{DenseRows, SparseRow, SparseRows};

/// What turns the features of a text into one score for each output, of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Head<'a> {
    Linear(LinearHead<'a>),
    Network(NetworkHead<'a>),
    Neighbours(NeighboursHead<'a>),
    Kernel(KernelHead<'a>),
    Local(LocalHead<'a>),
}

/// Buffers for scoring, kept from row to row; one for each thread.
#[derive(Debug, Default)]
pub struct HeadScratch {
    hidden: Vec<f32>,
    queries: Vec<Query>,
    similarities: Vec<f32>,
    nearest: Vec<(f32, u32)>,
    siblings: Vec<local::Siblings>,
}

impl<'a> From<LinearHead<'a>> for Head<'a> {
    fn from(head: LinearHead<'a>) -> Self {
        Self::Linear(head)
    }
}

impl<'a> From<NetworkHead<'a>> for Head<'a> {
    fn from(head: NetworkHead<'a>) -> Self {
        Self::Network(head)
    }
}

impl<'a> From<NeighboursHead<'a>> for Head<'a> {
    fn from(head: NeighboursHead<'a>) -> Self {
        Self::Neighbours(head)
    }
}

impl<'a> From<KernelHead<'a>> for Head<'a> {
    fn from(head: KernelHead<'a>) -> Self {
        Self::Kernel(head)
    }
}

impl<'a> From<LocalHead<'a>> for Head<'a> {
    fn from(head: LocalHead<'a>) -> Self {
        Self::Local(head)
    }
}

/// The features of one text as a head reads them: lexical columns first, then those of the
/// embedding; either may be empty.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    pub lexical: SparseRow<'a>,
    pub lexical_scale: f32,
    pub embedding: &'a [f32],
    pub embedding_scale: f32,
}

impl<'a> FeatureRow<'a> {
    pub const fn sparse(row: SparseRow<'a>) -> Self {
        Self { lexical: row, lexical_scale: 1.0, embedding: &[], embedding_scale: 1.0 }
    }

    pub const fn dense(row: &'a [f32]) -> Self {
        Self { lexical: SparseRow::EMPTY, lexical_scale: 1.0, embedding: row, embedding_scale: 1.0 }
    }
}

/// Rows that one task scores together: stored rows are read once for several of them.
const ROWS_PER_TASK: usize = 16;

impl Head<'_> {
    /// The features that a row has.
    pub fn columns(&self) -> usize {
        match self {
            Self::Linear(head) => head.columns(),
            Self::Network(head) => head.columns(),
            Self::Neighbours(head) => head.columns(),
            Self::Kernel(head) => head.columns(),
            Self::Local(head) => head.columns(),
        }
    }

    pub fn outputs(&self) -> usize {
        match self {
            Self::Linear(head) => head.outputs(),
            Self::Network(head) => head.outputs(),
            Self::Neighbours(head) => head.outputs(),
            Self::Kernel(head) => head.outputs(),
            Self::Local(head) => head.outputs(),
        }
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Linear(head) => head.memory_bytes(),
            Self::Network(head) => head.memory_bytes(),
            Self::Neighbours(head) => head.memory_bytes(),
            Self::Kernel(head) => head.memory_bytes(),
            Self::Local(head) => head.memory_bytes(),
        }
    }

    /// Writes the scores of a row to `scores`, which gets one value an output.
    pub fn score(&self, row: FeatureRow<'_>, scratch: &mut HeadScratch, scores: &mut Vec<f32>) {
        match self {
            Self::Linear(head) => head.score(row, scores),
            Self::Network(head) => head.score(row, scratch, scores),
            Self::Neighbours(head) => head.score(row.embedding, scratch, scores),
            Self::Kernel(head) => head.score(row, scratch, scores),
            Self::Local(head) => head.score(row, scratch, scores),
        }
    }

    /// The scores of many rows, on all threads of the current pool.
    pub fn score_sparse_rows(&self, rows: &SparseRows) -> DenseRows {
        self.score_rows(rows.rows(), |index| FeatureRow::sparse(rows.row(index)))
    }

    /// The scores of many rows, on all threads of the current pool.
    pub fn score_dense_rows(&self, rows: &DenseRows) -> DenseRows {
        self.score_rows(rows.rows(), |index| FeatureRow::dense(rows.row(index)))
    }

    /// The scores of the rows that `row` gives for 0 to `count`, on all threads of the
    /// current pool: for each row what [`Self::score`] gives.
    pub fn score_rows<'r>(
        &self,
        count: usize,
        row: impl Fn(usize) -> FeatureRow<'r> + Sync,
    ) -> DenseRows {
        let outputs = self.outputs();
        let mut scores = DenseRows::zeros(count, outputs);
        let width = outputs.max(1) * ROWS_PER_TASK;
        scores.values_mut().par_chunks_mut(width).enumerate().for_each_init(
            <(HeadScratch, Vec<f32>)>::default,
            |(scratch, buffer), (task, out)| {
                let row = |index: usize| row(task * ROWS_PER_TASK + index);
                let count = out.len() / outputs.max(1);
                match self {
                    Self::Neighbours(head) => {
                        let embeddings = (0..count).map(|index| row(index).embedding);
                        head.score_several(embeddings, scratch, out);
                    }
                    Self::Kernel(head) => head.score_several(count, row, scratch, out),
                    Self::Linear(_) | Self::Network(_) | Self::Local(_) => {
                        for (index, out) in out.chunks_exact_mut(outputs.max(1)).enumerate() {
                            self.score(row(index), scratch, buffer);
                            out.copy_from_slice(buffer);
                        }
                    }
                }
            },
        );
        scores
    }
}
