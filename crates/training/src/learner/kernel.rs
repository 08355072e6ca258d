//! Kernel ridge regression in closed form.
//!
//! The kernel of two rows is the product of their sparse parts plus, times the square of the
//! dense scale, `exp(decay · (cosine − 1))` of their dense parts. All classes' coefficients
//! solve `(K + ridge · W⁻¹) A = Y − mean` together, `W` being the rows' weights: least squares
//! on the classes' shares (Saunders, Gammerman, Vovk, ICML 1998). The part of the sparse
//! columns is then added up into one weight a column, so that serving pays for it as for a
//! linear head.

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use super::blocks::{Left, Place, add_product};
use super::cholesky;
use super::lanes::{Kernel, LANES, Lanes, add_scaled, dispatch};
use super::linear_head::build_head;
use super::neighbours::drawn;
use super::rows::{FeatureRows, blocks_for};
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;
use corral_classifier::head::radial_kernel;
use corral_classifier::{HeadError, KernelHead, StoredRows};

/// How a kernel is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelSettings {
    /// What is added to the kernel of a row with itself.
    pub ridge: f32,
    /// How fast the kernel falls with the distance of embeddings.
    pub decay: f32,
}

/// Rows at most, more are drawn by the seed: the matrix of their kernels holds 400 MiB, and
/// its factors take five seconds of a core.
pub const MAX_KERNEL_ROWS: usize = 10_240;
/// Rows whose kernels are computed together.
const ROWS_AT_ONCE: usize = 64;

/// Solves the problem; `Ok(None)` when stopped.
pub fn fit(
    problem: &Problem<'_>,
    settings: &KernelSettings,
    budget: HeadBudget,
) -> Result<Option<Fitted>, HeadError> {
    let Some(_turn) = take_turn(problem.stop) else { return Ok(None) };
    let clock = ThreadCpuClock::start();
    let features = &problem.features;
    let rows = drawn(problem.rows, MAX_KERNEL_ROWS, problem.seed);
    let class_blocks = blocks_for(problem.class_count);
    let (mut targets, means, weights) = centred_targets(problem, &rows, class_blocks);
    let mut gram = gram(features, &rows, settings.decay);
    for (row, weight) in weights.iter().enumerate() {
        let lanes = &mut gram.lanes[row * gram.blocks + row / LANES];
        lanes.0[row % LANES] += settings.ridge / weight.max(LEAST_WEIGHT);
    }
    if !cholesky::factorise(&mut gram, settings.ridge, problem.stop) || (problem.stop)() {
        return Ok(None);
    }
    cholesky::solve(&gram, &mut targets, class_blocks);
    drop(gram);

    let mut stored = StoredRows::new(features.dense_columns())?;
    for &row in &rows {
        stored.push(features.dense_row(row as usize))?;
    }
    let room = budget.bytes.saturating_sub(stored.memory_bytes());
    let sparse = sparse_weights(features, &rows, &targets, class_blocks);
    let sparse_columns = features.sparse_columns();
    let weights = build_head(
        sparse_columns + rows.len(),
        means,
        HeadBudget { bytes: room },
        |column, out| {
            let lanes = match column.checked_sub(sparse_columns) {
                None => &sparse[column * class_blocks..][..class_blocks],
                Some(row) => &targets[row * class_blocks..][..class_blocks],
            };
            out.clear();
            out.extend(lanes.iter().flat_map(|lanes| lanes.0));
            out.truncate(problem.class_count);
        },
    )?;
    let head = KernelHead::new(settings.decay, stored, weights)?;
    Ok(Some(Fitted { head: head.into(), cpu: clock.elapsed(), passes: 1 }))
}

/// Held while a matrix of kernels is in memory: one at a time, since two would be most of
/// what a run may hold. Nothing is run on other threads meanwhile, so that whoever holds it
/// never waits.
static MATRIX: Mutex<()> = Mutex::new(());
/// Between two looks whether the matrix is free, where there is nothing else to do.
const TURN_PAUSE: Duration = Duration::from_millis(2);

/// Waits for the matrix, doing other work of the pool meanwhile; `None` when stopped.
fn take_turn(stop: &(dyn Fn() -> bool + Sync)) -> Option<MutexGuard<'static, ()>> {
    while !stop() {
        match MATRIX.try_lock() {
            Ok(turn) => return Some(turn),
            // Whoever failed while holding it left nothing behind.
            Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            std::thread::sleep(TURN_PAUSE);
        }
    }
    None
}

/// A weight below it is as good as none.
const LEAST_WEIGHT: f32 = 1e-3;

/// A row's embedding twice, and its n-grams by column.
const TURNED_ROW_BYTES: usize = 8 << 10;

/// The memory that a fit holds beside the features, in bytes: the matrix of kernels, the
/// coefficients and what they add up to, and the rows' features turned. There is one matrix
/// at a time, whatever the threads, so each of them answers for its part.
pub fn memory_bytes(columns: usize, rows: usize, classes: usize, threads: usize) -> usize {
    let rows = if rows < MAX_KERNEL_ROWS { rows } else { MAX_KERNEL_ROWS };
    let line = size_of::<Lanes>();
    let all = rows * rows.div_ceil(LANES) * line
        + (rows + columns) * classes.div_ceil(LANES) * line
        + rows * TURNED_ROW_BYTES;
    all / threads.max(1)
}

/// The shares of all classes less their means, the means, and what each row counts.
fn centred_targets(
    problem: &Problem<'_>,
    rows: &[u32],
    class_blocks: usize,
) -> (Vec<Lanes>, Vec<f32>, Vec<f32>) {
    let mut targets = vec![Lanes::ZERO; rows.len() * class_blocks];
    let mut sums = vec![0f64; problem.class_count];
    let mut weights = Vec::with_capacity(rows.len());
    for (&row, targets) in rows.iter().zip(targets.chunks_exact_mut(class_blocks)) {
        let (classes, shares) = problem.targets.row(row as usize);
        let class_weight: f32 = (classes.iter().zip(shares))
            .map(|(&class, share)| share * problem.class_weights[class as usize])
            .sum();
        let of_all: f32 = shares.iter().sum();
        let class_weight = if of_all > 0.0 { class_weight / of_all } else { 1.0 };
        let weight = problem.row_weights[row as usize] * class_weight;
        for (&class, &share) in classes.iter().zip(shares) {
            targets[class as usize / LANES].0[class as usize % LANES] = share;
            sums[class as usize] += f64::from(weight * share);
        }
        weights.push(weight);
    }
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let means: Vec<f32> = sums.iter().map(|sum| (sum / total.max(1e-9)) as f32).collect();
    for targets in targets.chunks_exact_mut(class_blocks) {
        for (class, mean) in means.iter().enumerate() {
            targets[class / LANES].0[class % LANES] -= mean;
        }
    }
    (targets, means, weights)
}

/// The kernels of all pairs of rows, up to the block that holds the diagonal.
fn gram(features: &FeatureRows<'_>, rows: &[u32], decay: f32) -> cholesky::Matrix {
    let mut gram = cholesky::Matrix::zeros(rows.len());
    let blocks = gram.blocks;
    let width = features.dense_columns();
    let (units, turned) = unit_rows(features, rows, blocks);
    let by_column = ByColumn::new(features, rows);
    gram.lanes.chunks_mut(ROWS_AT_ONCE * blocks).enumerate().for_each(|(group, lanes)| {
        let first = group * ROWS_AT_ONCE;
        dispatch(KernelRows {
            features,
            rows: &rows[first..rows.len().min(first + ROWS_AT_ONCE)],
            first,
            decay,
            width,
            units: &units,
            turned: &turned,
            by_column: &by_column,
            lanes,
            blocks,
        });
    });
    gram
}

/// The dense parts of rows divided by their norms, row after row, and turned:
/// `turned[block][column]`, sixteen rows to a block.
fn unit_rows(features: &FeatureRows<'_>, rows: &[u32], blocks: usize) -> (Vec<f32>, Vec<Lanes>) {
    let width = features.dense_columns();
    let mut units = Vec::with_capacity(rows.len() * width);
    let mut turned = vec![Lanes::ZERO; blocks * width];
    for (at, &row) in rows.iter().enumerate() {
        let row = features.dense_row(row as usize);
        let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
        let factor = if norm > 0.0 { norm.recip() } else { 0.0 };
        for (column, value) in row.iter().enumerate() {
            units.push(value * factor);
            turned[at / LANES * width + column].0[at % LANES] = value * factor;
        }
    }
    (units, turned)
}

/// The sparse features by column: places of rows and values.
struct ByColumn {
    starts: Vec<usize>,
    places: Vec<u32>,
    values: Vec<f32>,
}

impl ByColumn {
    fn new(features: &FeatureRows<'_>, rows: &[u32]) -> Self {
        let mut starts = vec![0usize; features.sparse_columns() + 1];
        for &row in rows {
            let (columns, _) = features.sparse_row(row as usize);
            columns.iter().for_each(|&column| starts[column as usize + 1] += 1);
        }
        for column in 1..starts.len() {
            starts[column] += starts[column - 1];
        }
        let entries = starts.last().copied().unwrap_or(0);
        let (mut places, mut values) = (vec![0u32; entries], vec![0f32; entries]);
        let mut next = starts.clone();
        for (place, &row) in (0u32..).zip(rows) {
            let (columns, row_values) = features.sparse_row(row as usize);
            for (&column, &value) in columns.iter().zip(row_values) {
                let at = next[column as usize];
                (places[at], values[at]) = (place, value * features.sparse_scale);
                next[column as usize] += 1;
            }
        }
        Self { starts, places, values }
    }
}

/// Some rows of the matrix of kernels.
struct KernelRows<'k> {
    features: &'k FeatureRows<'k>,
    rows: &'k [u32],
    /// The place of the first of them among all.
    first: usize,
    decay: f32,
    width: usize,
    units: &'k [f32],
    turned: &'k [Lanes],
    by_column: &'k ByColumn,
    lanes: &'k mut [Lanes],
    blocks: usize,
}

impl Kernel for KernelRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { features, rows, first, decay, width, units, turned, by_column, lanes, blocks } =
            self;
        let scale = features.dense_scale * features.dense_scale;
        let left = Left { values: &units[first * width..], stride: width };
        let needed = (first + rows.len()).div_ceil(LANES);
        for block in 0..needed {
            let right = &turned[block * width..][..width];
            let place = Place { stride: blocks, blocks: 1 };
            add_product::<FUSED>(left, rows.len(), width, right, 1.0, &mut lanes[block..], place);
        }
        for (&row, lanes) in rows.iter().zip(lanes.chunks_exact_mut(blocks)) {
            for lanes in &mut lanes[..needed] {
                *lanes = lanes.map(|cosine| scale * radial_kernel(decay, cosine));
            }
            let (columns, values) = features.sparse_row(row as usize);
            for (&column, &value) in columns.iter().zip(values) {
                let value = value * features.sparse_scale;
                let column = column as usize;
                let entries = by_column.starts[column]..by_column.starts[column + 1];
                for (&place, &other) in
                    by_column.places[entries.clone()].iter().zip(&by_column.values[entries])
                {
                    let place = place as usize;
                    if place >= needed * LANES {
                        break;
                    }
                    lanes[place / LANES].0[place % LANES] += value * other;
                }
            }
        }
    }
}

/// The weights of the sparse columns that the coefficients of rows add up to.
fn sparse_weights(
    features: &FeatureRows<'_>,
    rows: &[u32],
    coefficients: &[Lanes],
    class_blocks: usize,
) -> Vec<Lanes> {
    let mut weights = vec![Lanes::ZERO; features.sparse_columns() * class_blocks];
    for (&row, coefficients) in rows.iter().zip(coefficients.chunks_exact(class_blocks)) {
        let (columns, values) = features.sparse_row(row as usize);
        for (&column, &value) in columns.iter().zip(values) {
            let value = value * features.sparse_scale;
            let weights = &mut weights[column as usize * class_blocks..][..class_blocks];
            for (weights, coefficients) in weights.iter_mut().zip(coefficients) {
                add_scaled::<false>(weights, value, coefficients);
            }
        }
    }
    weights
}
