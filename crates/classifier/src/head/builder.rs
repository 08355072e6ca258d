//! Building a head: precisions, and weights taken in column by column.

use std::borrow::Cow;

use corral_types::{ErrorKind, Explain};

use super::{LinearHead, Weights};
use crate::kernels::stride;

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
    #[error("stored rows have 1 to {max} numbers, not {0}", max = super::MAX_STORED_WIDTH)]
    StoredWidth(usize),
    #[error("a head stores at most {max} rows", max = super::MAX_STORED_ROWS)]
    TooManyRows,
    #[error("the bias has a value that is not a finite number")]
    BiasNotFinite,
    #[error("column {column} names output {output} of {outputs}, or outputs that do not rise")]
    OutputOrder { column: usize, output: u32, outputs: usize },
    #[error("an output names parent {parent} of {parents}")]
    Parent { parent: u16, parents: usize },
}

impl Explain for HeadError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
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
/// Added to a number below 2²² and taken away again, it leaves the nearest whole one, the even
/// one among two: an addition that is done on vectors, where `round_ties_even` is a call.
const ROUNDING: f32 = 12_582_912.0;

fn scale_of(weights: impl Iterator<Item = f32>) -> f32 {
    weights.fold(0.0f32, |largest, weight| largest.max(weight.abs())) / LARGEST_QUANTISED
}

fn quantise(weight: f32, scale: f32) -> i8 {
    if scale > 0.0 { ((weight / scale + ROUNDING) - ROUNDING) as i8 } else { 0 }
}
