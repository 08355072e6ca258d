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

/// A head most of whose weights are zero, as precise as the budget allows. `column` writes the
/// weights of a column that are not, in the order of the classes; there are `entries` of them in
/// all.
pub fn build_sparse_head(
    columns: usize,
    entries: usize,
    bias: Vec<f32>,
    budget: HeadBudget,
    column: impl Fn(usize, &mut Vec<(u32, f32)>),
) -> Result<LinearHead<'static>, HeadError> {
    let weights = columns * bias.len();
    let sparse_bytes = entries * SPARSE_ENTRY_BYTES + columns * SPARSE_COLUMN_BYTES;
    let dense_bytes = weights + columns * size_of::<f32>();
    let precision = if weights * size_of::<f32>() <= EXACT_HEAD_BYTES.min(budget.bytes) {
        Precision::F32
    } else if sparse_bytes.min(dense_bytes) > budget.bytes {
        let room = budget.bytes.saturating_sub(columns * SPARSE_COLUMN_BYTES) / SPARSE_ENTRY_BYTES;
        Precision::SparseInt8 {
            smallest: smallest_kept(columns, room as f64 / entries as f64, &column),
        }
    } else if sparse_bytes <= dense_bytes {
        Precision::SparseInt8 { smallest: 0.0 }
    } else {
        Precision::Int8
    };
    let mut builder = HeadBuilder::new(bias.len(), precision)?;
    let mut entries = Vec::new();
    for index in 0..columns {
        column(index, &mut entries);
        builder.push_sparse(&entries)?;
    }
    builder.finish(bias)
}

/// The size of a weight than which a part of the entries is larger.
fn smallest_kept(columns: usize, part: f64, column: &impl Fn(usize, &mut Vec<(u32, f32)>)) -> f32 {
    let stride = columns.div_ceil(SAMPLED_COLUMNS).max(1);
    let (mut sizes, mut sample) = (Vec::new(), Vec::new());
    for index in (0..columns).step_by(stride) {
        column(index, &mut sample);
        sizes.extend(sample.iter().map(|(_, weight)| weight.abs()));
    }
    if sizes.is_empty() {
        return 0.0;
    }
    let place = ((sizes.len() as f64 * part) as usize).min(sizes.len() - 1);
    *sizes.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1
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
