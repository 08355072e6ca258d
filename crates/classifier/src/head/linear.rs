//! Linear heads: a score is a bias and a weighted sum of the features.

use std::borrow::Cow;

use super::FeatureRow;
use crate::kernels::{accumulate, stride};

/// Weights and bias of a linear model with `outputs` outputs over `columns` features.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearHead<'a> {
    pub(crate) columns: usize,
    pub(crate) bias: Cow<'a, [f32]>,
    pub(crate) weights: Weights<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Weights<'a> {
    /// `stride` values a column.
    F32(Cow<'a, [f32]>),
    /// `stride` values a column, and each column's scale.
    Int8 { scales: Cow<'a, [f32]>, weights: Cow<'a, [i8]> },
    /// Entries from `starts[column]` to `starts[column + 1]`; the weight of an output is the
    /// column's base, plus its entry times the column's scale where it has one.
    SparseInt8 {
        starts: Cow<'a, [u32]>,
        scales: Cow<'a, [f32]>,
        bases: Cow<'a, [f32]>,
        outputs: Cow<'a, [u16]>,
        weights: Cow<'a, [i8]>,
    },
}

impl LinearHead<'_> {
    pub const fn columns(&self) -> usize {
        self.columns
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::F32(weights) => size_of_val(&**weights),
            Weights::Int8 { scales, weights } => size_of_val(&**scales) + weights.len(),
            Weights::SparseInt8 { starts, scales, bases, outputs, weights } => {
                size_of_val(&**starts)
                    + size_of_val(&**scales)
                    + size_of_val(&**bases)
                    + size_of_val(&**outputs)
                    + weights.len()
            }
        };
        weights + size_of_val(&*self.bias)
    }

    /// Writes the scores of a row to `scores`, which gets one value an output.
    pub fn score(&self, row: FeatureRow<'_>, scores: &mut Vec<f32>) {
        let outputs = self.outputs();
        scores.clear();
        scores.extend_from_slice(&self.bias);
        let lexical_end = self.columns.saturating_sub(row.embedding.len());
        let lexical = row
            .lexical
            .iter()
            .map(|(column, value)| (column as usize, value * row.lexical_scale))
            .filter(|(column, _)| *column < lexical_end);
        let embedding = row
            .embedding
            .iter()
            .enumerate()
            .map(|(index, value)| (lexical_end + index, value * row.embedding_scale));
        match &self.weights {
            Weights::F32(weights) => {
                scores.resize(stride(outputs), 0.0);
                accumulate(scores, weights, lexical);
                accumulate(scores, weights, embedding);
            }
            Weights::Int8 { scales, weights } => {
                let scaled = |(column, value): (usize, f32)| {
                    (column, value * scales.get(column).copied().unwrap_or(0.0))
                };
                scores.resize(stride(outputs), 0.0);
                accumulate(scores, weights, lexical.map(scaled));
                accumulate(scores, weights, embedding.map(scaled));
            }
            Weights::SparseInt8 { starts, scales, bases, outputs, weights } => {
                let mut shift = 0.0;
                for (column, value) in lexical.chain(embedding) {
                    let (Some(&[start, end]), Some(scale), Some(base)) = (
                        starts.get(column..column + 2).and_then(|pair| pair.as_array()),
                        scales.get(column),
                        bases.get(column),
                    ) else {
                        continue;
                    };
                    shift += value * base;
                    let entries = start as usize..end as usize;
                    let (Some(outputs), Some(weights)) =
                        (outputs.get(entries.clone()), weights.get(entries))
                    else {
                        continue;
                    };
                    let factor = value * scale;
                    for (&output, &weight) in outputs.iter().zip(weights) {
                        if let Some(score) = scores.get_mut(usize::from(output)) {
                            *score += factor * f32::from(weight);
                        }
                    }
                }
                scores.iter_mut().for_each(|score| *score += shift);
            }
        }
        scores.truncate(outputs);
    }

    /// The weights of a column as scoring reads them, one an output.
    ///
    /// # Panics
    /// When there is no such column.
    pub fn column(&self, column: usize) -> Vec<f32> {
        assert!(column < self.columns, "column {column} of {}", self.columns);
        let outputs = self.outputs();
        let dense = column * stride(outputs)..column * stride(outputs) + outputs;
        match &self.weights {
            Weights::F32(weights) => weights[dense].to_vec(),
            Weights::Int8 { scales, weights } => {
                weights[dense].iter().map(|&weight| f32::from(weight) * scales[column]).collect()
            }
            Weights::SparseInt8 { starts, scales, bases, outputs: stored, weights } => {
                let mut column_weights = vec![bases[column]; outputs];
                for entry in starts[column] as usize..starts[column + 1] as usize {
                    column_weights[usize::from(stored[entry])] +=
                        f32::from(weights[entry]) * scales[column];
                }
                column_weights
            }
        }
    }
}
