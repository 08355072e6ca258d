//! Weights of all columns and classes, kept as finely as there is room for.

use corral_classifier::{HeadBuilder, HeadError, LinearHead, Precision};

use super::lanes::LANES;

/// How finely a head's weights are kept.
#[derive(Clone, Copy, Debug)]
pub struct HeadBudget {
    /// The most bytes a head may take. Beyond, weights near their column's usual one are left out.
    pub bytes: usize,
}

/// Heads up to this size keep their weights as computed: nothing is won by rounding them.
const EXACT_HEAD_BYTES: usize = 4 << 20;
/// What a kept weight of a pruned head takes.
const SPARSE_ENTRY_BYTES: usize = 3;
/// What a column of a pruned head takes by itself.
const SPARSE_COLUMN_BYTES: usize = 16;
/// Columns looked at to find which weights are small: enough to place a quantile within a
/// hundredth.
const SAMPLED_COLUMNS: usize = 2000;

/// A head as precise as the budget allows. `column` writes the weights of a column, one a class.
pub fn build_head(
    columns: usize,
    bias: Vec<f32>,
    budget: HeadBudget,
    column: impl Fn(usize, &mut Vec<f32>),
) -> Result<LinearHead<'static>, HeadError> {
    let precision = precision_for(columns, bias.len(), budget, &column);
    let mut builder = HeadBuilder::new(bias.len(), precision)?;
    let mut weights = Vec::with_capacity(bias.len() + LANES);
    for index in 0..columns {
        column(index, &mut weights);
        builder.push(&weights)?;
    }
    builder.finish(bias)
}

fn precision_for(
    columns: usize,
    classes: usize,
    budget: HeadBudget,
    column: &impl Fn(usize, &mut Vec<f32>),
) -> Precision {
    let weights = columns * classes;
    if weights * size_of::<f32>() <= EXACT_HEAD_BYTES.min(budget.bytes) {
        return Precision::F32;
    }
    if weights + columns * size_of::<f32>() <= budget.bytes {
        return Precision::Int8;
    }
    // Only the weights furthest from their column's median are kept, as many as there is room for.
    let room = budget.bytes.saturating_sub(columns * SPARSE_COLUMN_BYTES) / SPARSE_ENTRY_BYTES;
    let stride = columns.div_ceil(SAMPLED_COLUMNS).max(1);
    let (mut distances, mut sample) = (Vec::new(), Vec::new());
    for index in (0..columns).step_by(stride) {
        column(index, &mut sample);
        let middle = sample.len() / 2;
        let median = *sample.select_nth_unstable_by(middle, f32::total_cmp).1;
        distances.extend(sample.iter().map(|weight| (weight - median).abs()));
    }
    let kept = (distances.len() as f64 * room as f64 / weights as f64) as usize;
    let place = kept.min(distances.len() - 1);
    let smallest = *distances.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1;
    Precision::SparseInt8 { smallest }
}
