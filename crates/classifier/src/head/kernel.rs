//! Kernel heads: linear in the lexical features and in the similarities with stored texts.

use super::stored::{Query, StoredRows};
use super::{FeatureRow, HeadError, HeadScratch, LinearHead};
use crate::calibration::exp;

/// A score is a bias, a weighted sum of the lexical features, and one of
/// `exp(decay · (similarity − 1))` over all stored embeddings: the radial kernel on vectors of
/// norm 1, whose squared distance is twice what their cosine lacks to 1. The kernel's values
/// are multiplied by the square of the embedding's scale, as products of scaled rows are.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelHead<'a> {
    pub(crate) decay: f32,
    pub(crate) rows: StoredRows<'a>,
    /// Over the lexical columns, then one column a stored row.
    pub(crate) weights: LinearHead<'a>,
}

/// The kernel of two embeddings by their cosine similarity.
#[inline]
pub fn radial_kernel(decay: f32, similarity: f32) -> f32 {
    exp(decay * (similarity - 1.0))
}

impl<'a> KernelHead<'a> {
    /// A head over stored rows; `weights` has a column for each of them behind its lexical
    /// ones.
    pub fn new(
        decay: f32,
        rows: StoredRows<'a>,
        weights: LinearHead<'a>,
    ) -> Result<Self, HeadError> {
        if weights.columns() < rows.rows() {
            return Err(HeadError::Length { given: weights.columns(), wanted: rows.rows() });
        }
        if !decay.is_finite() {
            return Err(HeadError::NotFinite { column: 0 });
        }
        Ok(Self { decay, rows, weights })
    }

    pub fn columns(&self) -> usize {
        self.weights.columns().saturating_sub(self.rows.rows()) + self.rows.width()
    }

    pub fn outputs(&self) -> usize {
        self.weights.outputs()
    }

    /// The stored texts.
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.weights.memory_bytes()
    }

    /// Writes the scores of a row to `scores`, one an output.
    pub(super) fn score(
        &self,
        row: FeatureRow<'_>,
        scratch: &mut HeadScratch,
        scores: &mut Vec<f32>,
    ) {
        let HeadScratch { queries, similarities, .. } = scratch;
        queries.resize_with(1, Query::default);
        queries[0].set(row.embedding);
        similarities.clear();
        similarities.resize(self.rows.rows(), 0.0);
        self.rows.similarities(queries, similarities);
        self.weigh(row, similarities, scores);
    }

    /// Writes the scores of many rows, row after row, each as [`Self::score`] has them.
    pub(super) fn score_several<'r>(
        &self,
        count: usize,
        row: impl Fn(usize) -> FeatureRow<'r>,
        scratch: &mut HeadScratch,
        scores: &mut [f32],
    ) {
        let HeadScratch { queries, similarities, hidden, .. } = scratch;
        queries.resize_with(count, Query::default);
        queries.iter_mut().enumerate().for_each(|(at, query)| query.set(row(at).embedding));
        let rows = self.rows.rows();
        similarities.clear();
        similarities.resize(count * rows, 0.0);
        self.rows.similarities(queries, similarities);
        for (index, scores) in scores.chunks_exact_mut(self.outputs()).enumerate() {
            self.weigh(row(index), &mut similarities[index * rows..][..rows], hidden);
            scores.copy_from_slice(hidden);
        }
    }

    fn weigh(&self, row: FeatureRow<'_>, similarities: &mut [f32], scores: &mut Vec<f32>) {
        for similarity in similarities.iter_mut() {
            *similarity = radial_kernel(self.decay, *similarity);
        }
        let embedding_scale = row.embedding_scale * row.embedding_scale;
        self.weights.score(FeatureRow { embedding: similarities, embedding_scale, ..row }, scores);
    }
}
