//! Linear heads: from features to one score for each output.
//!
//! A head owns its weights after training and borrows them from a model file; the arithmetic
//! is the same code either way.

use std::borrow::Cow;

use corral_types::{ErrorKind, Explain};
use rayon::prelude::*;

use crate::kernels::{accumulate, stride};
use crate::rows::{DenseRows, SparseRow, SparseRows};

/// Outputs of one head: the outputs of pruned weights are stored in 16 bits.
pub const MAX_OUTPUTS: usize = 1 << 16;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Precision {
    /// As computed.
    F32,
    /// A byte a weight and a scale a column; a weight is off by at most half a 127th of the
    /// largest in its column.
    Int8,
    /// Only what differs from the column's usual weight (its median, stored once) by at least
    /// `smallest`, at three bytes each. For heads of very many outputs.
    SparseInt8 { smallest: f32 },
}

/// Why weights do not make a head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("a head has 1 to {MAX_OUTPUTS} outputs, not {0}")]
    Outputs(usize),
    #[error("{given} values were given where the head has {wanted}")]
    Length { given: usize, wanted: usize },
    #[error("column {column} has a weight that is not a finite number")]
    NotFinite { column: usize },
    #[error("at column {column} the head holds over 4 billion entries")]
    TooManyEntries { column: usize },
    #[error("the bias has a value that is not a finite number")]
    BiasNotFinite,
    #[error("column {column} names output {output} of {outputs}, or outputs that do not rise")]
    OutputOrder { column: usize, output: u32, outputs: usize },
}

impl Explain for HeadError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

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

impl LinearHead<'static> {
    /// A head from weights laid column after column, each with one weight an output.
    pub fn from_column_major(
        weights: &[f32],
        bias: Vec<f32>,
        precision: Precision,
    ) -> Result<Self, HeadError> {
        let outputs = bias.len();
        let mut builder = HeadBuilder::new(outputs, precision)?;
        if !weights.len().is_multiple_of(outputs) {
            let wanted = weights.len().next_multiple_of(outputs);
            return Err(HeadError::Length { given: weights.len(), wanted });
        }
        weights.chunks_exact(outputs).try_for_each(|column| builder.push(column))?;
        builder.finish(bias)
    }

    /// A head from weights laid output after output, each with one weight a column.
    pub fn from_output_major(
        weights: &[f32],
        bias: Vec<f32>,
        precision: Precision,
    ) -> Result<Self, HeadError> {
        let outputs = bias.len();
        let mut builder = HeadBuilder::new(outputs, precision)?;
        if !weights.len().is_multiple_of(outputs) {
            let wanted = weights.len().next_multiple_of(outputs);
            return Err(HeadError::Length { given: weights.len(), wanted });
        }
        let columns = weights.len() / outputs;
        let mut column_weights = vec![0.0; outputs];
        for column in 0..columns {
            for (output, weight) in column_weights.iter_mut().enumerate() {
                *weight = weights[output * columns + column];
            }
            builder.push(&column_weights)?;
        }
        builder.finish(bias)
    }
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

/// Builds a head column by column, so that no dense copy of its weights need exist.
#[derive(Debug)]
pub struct HeadBuilder {
    outputs: usize,
    columns: usize,
    smallest: f32,
    weights: Weights<'static>,
    residuals: Vec<(u32, f32)>,
    sorted: Vec<f32>,
}

impl HeadBuilder {
    /// A head of `outputs` outputs, still without columns.
    pub fn new(outputs: usize, precision: Precision) -> Result<Self, HeadError> {
        if outputs == 0 || outputs > MAX_OUTPUTS {
            return Err(HeadError::Outputs(outputs));
        }
        let (weights, smallest) = match precision {
            Precision::F32 => (Weights::F32(Cow::default()), 0.0),
            Precision::Int8 => {
                (Weights::Int8 { scales: Cow::default(), weights: Cow::default() }, 0.0)
            }
            Precision::SparseInt8 { smallest } => (
                Weights::SparseInt8 {
                    starts: Cow::Owned(vec![0]),
                    scales: Cow::default(),
                    bases: Cow::default(),
                    outputs: Cow::default(),
                    weights: Cow::default(),
                },
                smallest,
            ),
        };
        Ok(Self {
            outputs,
            columns: 0,
            smallest,
            weights,
            residuals: Vec::new(),
            sorted: Vec::new(),
        })
    }

    /// Appends a column with one weight an output.
    pub fn push(&mut self, column: &[f32]) -> Result<(), HeadError> {
        if column.len() != self.outputs {
            return Err(HeadError::Length { given: column.len(), wanted: self.outputs });
        }
        if !column.iter().all(|weight| weight.is_finite()) {
            return Err(HeadError::NotFinite { column: self.columns });
        }
        let padding = stride(self.outputs) - self.outputs;
        match &mut self.weights {
            Weights::F32(weights) => {
                let weights = weights.to_mut();
                weights.extend_from_slice(column);
                weights.extend(std::iter::repeat_n(0.0, padding));
            }
            Weights::Int8 { scales, weights } => {
                let scale = scale_of(column.iter().copied());
                let weights = weights.to_mut();
                weights.extend(column.iter().map(|&weight| quantise(weight, scale)));
                weights.extend(std::iter::repeat_n(0, padding));
                scales.to_mut().push(scale);
            }
            Weights::SparseInt8 { .. } => {
                self.sorted.clear();
                self.sorted.extend_from_slice(column);
                let middle = self.outputs / 2;
                let (_, base, _) = self.sorted.select_nth_unstable_by(middle, f32::total_cmp);
                let base = *base;
                self.residuals.clear();
                self.residuals
                    .extend((0u32..).zip(column).map(|(output, weight)| (output, weight - base)));
                self.push_residuals(base)?;
            }
        }
        self.columns += 1;
        Ok(())
    }

    /// Appends a column with weights for some outputs, in their order, and 0 for the rest.
    pub fn push_sparse(&mut self, entries: &[(u32, f32)]) -> Result<(), HeadError> {
        let disorder =
            entries.windows(2).find(|pair| pair[0].0 >= pair[1].0).map(|pair| pair[1].0).or_else(
                || entries.last().map(|last| last.0).filter(|&o| o as usize >= self.outputs),
            );
        if let Some(output) = disorder {
            return Err(HeadError::OutputOrder {
                column: self.columns,
                output,
                outputs: self.outputs,
            });
        }
        if !matches!(self.weights, Weights::SparseInt8 { .. }) {
            let mut column = vec![0.0; self.outputs];
            entries.iter().for_each(|&(output, weight)| column[output as usize] = weight);
            return self.push(&column);
        }
        if !entries.iter().all(|(_, weight)| weight.is_finite()) {
            return Err(HeadError::NotFinite { column: self.columns });
        }
        self.residuals.clear();
        self.residuals.extend_from_slice(entries);
        self.push_residuals(0.0)?;
        self.columns += 1;
        Ok(())
    }

    fn push_residuals(&mut self, base: f32) -> Result<(), HeadError> {
        let Weights::SparseInt8 { starts, scales, bases, outputs, weights } = &mut self.weights
        else {
            return Ok(());
        };
        self.residuals.retain(|(_, weight)| weight.abs() >= self.smallest);
        let scale = scale_of(self.residuals.iter().map(|(_, weight)| *weight));
        for &(output, weight) in &self.residuals {
            let quantised = quantise(weight, scale);
            if quantised != 0 {
                outputs.to_mut().push(output as u16);
                weights.to_mut().push(quantised);
            }
        }
        let end = u32::try_from(weights.len())
            .map_err(|_| HeadError::TooManyEntries { column: self.columns })?;
        starts.to_mut().push(end);
        scales.to_mut().push(scale);
        bases.to_mut().push(base);
        Ok(())
    }

    /// The head, with one bias an output.
    pub fn finish(self, bias: Vec<f32>) -> Result<LinearHead<'static>, HeadError> {
        if bias.len() != self.outputs {
            return Err(HeadError::Length { given: bias.len(), wanted: self.outputs });
        }
        if !bias.iter().all(|value| value.is_finite()) {
            return Err(HeadError::BiasNotFinite);
        }
        Ok(LinearHead { columns: self.columns, bias: Cow::Owned(bias), weights: self.weights })
    }
}

/// The largest whole number that stands for a weight.
const LARGEST_QUANTISED: f32 = 127.0;

fn scale_of(weights: impl Iterator<Item = f32>) -> f32 {
    weights.fold(0.0f32, |largest, weight| largest.max(weight.abs())) / LARGEST_QUANTISED
}

fn quantise(weight: f32, scale: f32) -> i8 {
    if scale > 0.0 { (weight / scale).round_ties_even() as i8 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 without pattern.
    fn numbers(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }
    }

    const PRECISIONS: [Precision; 4] = [
        Precision::F32,
        Precision::Int8,
        Precision::SparseInt8 { smallest: 0.0 },
        Precision::SparseInt8 { smallest: 0.25 },
    ];

    #[test]
    fn stored_weights_are_close() {
        for outputs in [1, 3, 4, 5, 8, 77] {
            let mut number = numbers(outputs as u64);
            let weights: Vec<f32> = (0..outputs * 20).map(|_| number()).collect();
            for precision in PRECISIONS {
                let head =
                    LinearHead::from_column_major(&weights, vec![0.0; outputs], precision).unwrap();
                for (column, exact) in weights.chunks(outputs).enumerate() {
                    // Residuals of the pruned form reach twice as far as the weights.
                    let step = match precision {
                        Precision::F32 => 0.0,
                        Precision::Int8 => 0.5 / 127.0,
                        Precision::SparseInt8 { smallest } => smallest.max(1.0 / 127.0),
                    };
                    for (stored, exact) in head.column(column).iter().zip(exact) {
                        assert!((stored - exact).abs() <= step + 1e-6, "{precision:?} {outputs}");
                    }
                }
            }
        }
    }

    #[test]
    fn scores_are_those_of_the_stored_weights() {
        let (outputs, columns) = (13, 40);
        let mut number = numbers(3);
        let weights: Vec<f32> = (0..outputs * columns).map(|_| number()).collect();
        let bias: Vec<f32> = (0..outputs).map(|_| number()).collect();
        let lexical =
            SparseRow { indices: &[0, 7, 29, 30, 31], values: &[0.5, 0.1, 0.3, 9.0, 9.0] };
        let embedding: Vec<f32> = (0..10).map(|_| number()).collect();
        let row =
            FeatureRow { lexical, lexical_scale: 2.0, embedding: &embedding, embedding_scale: 0.5 };
        for precision in PRECISIONS {
            let head = LinearHead::from_output_major(&weights, bias.clone(), precision).unwrap();
            let mut wanted: Vec<f64> = bias.iter().map(|&bias| f64::from(bias)).collect();
            let mut add = |column: usize, value: f32| {
                for (sum, weight) in wanted.iter_mut().zip(head.column(column)) {
                    *sum += f64::from(value) * f64::from(weight);
                }
            };
            // Lexical columns end where those of the embedding begin, at 30.
            lexical.iter().take(3).for_each(|(column, value)| add(column as usize, value * 2.0));
            (30..).zip(&embedding).for_each(|(column, value)| add(column, value * 0.5));
            let mut scores = vec![99.0; 50];
            head.score(row, &mut scores);
            assert_eq!(scores.len(), outputs);
            for (score, wanted) in scores.iter().zip(&wanted) {
                assert!((f64::from(*score) - wanted).abs() < 1e-5, "{precision:?}");
            }
        }
    }

    #[test]
    fn sparse_columns_equal_dense_ones() {
        let entries = [vec![(1, 0.5), (4, -2.0)], vec![], vec![(0, 1.0)]];
        for precision in PRECISIONS {
            let mut sparse = HeadBuilder::new(5, precision).unwrap();
            let mut dense = HeadBuilder::new(5, precision).unwrap();
            for entries in &entries {
                sparse.push_sparse(entries).unwrap();
                let mut column = [0.0; 5];
                entries.iter().for_each(|&(output, weight)| column[output as usize] = weight);
                dense.push(&column).unwrap();
            }
            assert_eq!(sparse.finish(vec![0.0; 5]).unwrap(), dense.finish(vec![0.0; 5]).unwrap());
        }
    }

    #[test]
    fn a_common_shift_costs_no_entries() {
        let mut column = vec![-0.02; 1000];
        column[17] = 1.5;
        let mut builder = HeadBuilder::new(1000, Precision::SparseInt8 { smallest: 0.01 }).unwrap();
        builder.push(&column).unwrap();
        let head = builder.finish(vec![0.0; 1000]).unwrap();
        let Weights::SparseInt8 { weights, .. } = &head.weights else { panic!("sparse weights") };
        assert_eq!(weights.len(), 1);
        assert_eq!(head.column(0)[3], -0.02);
        assert!((head.column(0)[17] - 1.5).abs() < 1e-6);
    }

    #[test]
    fn wrong_weights_are_refused() {
        let mut builder = HeadBuilder::new(2, Precision::Int8).unwrap();
        assert_eq!(builder.push(&[1.0]), Err(HeadError::Length { given: 1, wanted: 2 }));
        assert_eq!(builder.push(&[1.0, f32::NAN]), Err(HeadError::NotFinite { column: 0 }));
        builder.push(&[1.0, 2.0]).unwrap();
        let infinite = [(0, f32::INFINITY)];
        assert_eq!(builder.push_sparse(&infinite), Err(HeadError::NotFinite { column: 1 }));
        for entries in [&[(2, 1.0)][..], &[(1, 1.0), (0, 1.0)], &[(0, 1.0), (0, 1.0)]] {
            let refused = builder.push_sparse(entries);
            assert!(matches!(refused, Err(HeadError::OutputOrder { column: 1, .. })));
        }
        assert_eq!(builder.finish(vec![f32::NAN; 2]), Err(HeadError::BiasNotFinite));
        assert!(matches!(HeadBuilder::new(0, Precision::F32), Err(HeadError::Outputs(0))));
        assert!(matches!(
            HeadBuilder::new(MAX_OUTPUTS + 1, Precision::F32),
            Err(HeadError::Outputs(_))
        ));
        assert!(matches!(
            LinearHead::from_output_major(&[1.0; 5], vec![0.0; 2], Precision::F32),
            Err(HeadError::Length { given: 5, wanted: 6 })
        ));
    }

    #[test]
    fn rows_are_scored_alike_in_bulk() {
        let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let head = LinearHead::from_column_major(&weights, vec![0.0, 1.0], Precision::F32).unwrap();
        let sparse =
            SparseRows::from_parts(vec![0, 1, 3], vec![1, 0, 2], vec![1.0, 2.0, 1.0], 3).unwrap();
        assert_eq!(head.score_sparse_rows(&sparse).values(), [3.0, 5.0, 7.0, 11.0]);
        let dense = DenseRows::from_values(vec![0.0, 1.0, 0.0, 2.0, 0.0, 1.0], 3);
        assert_eq!(head.score_dense_rows(&dense).values(), [3.0, 5.0, 7.0, 11.0]);
    }
}
