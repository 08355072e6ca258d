//! Heads: from features to one score for each output.
//!
//! A head owns its arrays after training and borrows them from a model file; the arithmetic
//! is the same code either way.

mod builder;
mod linear;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use builder::{HeadBuilder, HeadError, MAX_OUTPUTS, Precision};
pub use linear::LinearHead;
pub(crate) use linear::Weights;

use crate::rows::{DenseRows, SparseRow, SparseRows};

/// What turns the features of a text into one score for each output, of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Head<'a> {
    Linear(LinearHead<'a>),
}

impl<'a> From<LinearHead<'a>> for Head<'a> {
    fn from(head: LinearHead<'a>) -> Self {
        Self::Linear(head)
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

impl Head<'_> {
    /// The features that a row has.
    pub const fn columns(&self) -> usize {
        match self {
            Self::Linear(head) => head.columns(),
        }
    }

    pub fn outputs(&self) -> usize {
        match self {
            Self::Linear(head) => head.outputs(),
        }
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Linear(head) => head.memory_bytes(),
        }
    }

    /// Writes the scores of a row to `scores`, which gets one value an output.
    pub fn score(&self, row: FeatureRow<'_>, scores: &mut Vec<f32>) {
        match self {
            Self::Linear(head) => head.score(row, scores),
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
    /// current pool.
    pub fn score_rows<'r>(
        &self,
        count: usize,
        row: impl Fn(usize) -> FeatureRow<'r> + Sync,
    ) -> DenseRows {
        let mut scores = DenseRows::zeros(count, self.outputs());
        scores.values_mut().par_chunks_exact_mut(self.outputs().max(1)).enumerate().for_each_init(
            Vec::new,
            |buffer, (index, out)| {
                self.score(row(index), buffer);
                out.copy_from_slice(buffer);
            },
        );
        scores
    }
}
