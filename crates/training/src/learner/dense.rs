//! Dense rows in small batches.
//!
//! Coordinate ascent visits one row after the other, and each visit reads all weights: for a
//! thousand classes over an embedding more than a cache holds. Here the products of several
//! rows with the weights are computed together, so that a weight is read once for all of them.
//! When a row of the batch then moves the weights by `step · x`, the products of the rows
//! behind it change by `(x · x_j) · step`: they are mended by the rows' inner products, and the
//! weights are written once, after the batch. Rounding aside, the result is that of one visit
//! after the other.

use super::lanes::{LANES, Lanes, add_scaled};
use super::rows::FeatureRows;

/// Rows of a batch. Weights of a thousand classes come from the last cache: once for so many
/// rows, their way is no longer than the arithmetic takes.
pub const BATCH_ROWS: usize = 32;
/// Rows computed together: as many sums as fit into registers. The groups of a batch find a
/// block's weights in the first cache.
const GROUP_ROWS: usize = 8;
const GROUPS: usize = BATCH_ROWS / GROUP_ROWS;

/// The rows of a batch and their products with the weights.
#[derive(Debug)]
pub struct DenseBatch {
    width: usize,
    blocks: usize,
    /// `values[group][column][row]`; zero for rows that a short batch lacks.
    values: Vec<Vec<[f32; GROUP_ROWS]>>,
    /// The rows of this batch.
    rows: usize,
    /// The scaled inner products of rows.
    products: [[f32; BATCH_ROWS]; BATCH_ROWS],
    /// `scores[block][row]`, scale applied.
    scores: Vec<[Lanes; BATCH_ROWS]>,
    /// `steps[block][row]`: what each row moved the weights by; zero where it did not.
    steps: Vec<[Lanes; BATCH_ROWS]>,
    /// Whether a row of a group moved a block's weights.
    moved: Vec<[bool; GROUPS]>,
    scale: f32,
}

impl DenseBatch {
    pub fn new(width: usize, blocks: usize) -> Self {
        let blocks = if width == 0 { 0 } else { blocks };
        Self {
            width,
            blocks,
            values: vec![vec![[0.0; GROUP_ROWS]; width]; GROUPS],
            rows: 0,
            products: [[0.0; BATCH_ROWS]; BATCH_ROWS],
            scores: vec![[Lanes::ZERO; BATCH_ROWS]; blocks],
            steps: vec![[Lanes::ZERO; BATCH_ROWS]; blocks],
            moved: vec![[false; GROUPS]; blocks],
            scale: 1.0,
        }
    }

    /// Takes up rows and computes their products with `weights[block * width + column]`.
    #[inline(always)]
    pub fn begin<const FUSED: bool>(
        &mut self,
        features: &FeatureRows<'_>,
        rows: impl Iterator<Item = usize>,
        weights: &[Lanes],
    ) {
        self.scale = features.dense_scale;
        let mut taken: [&[f32]; BATCH_ROWS] = [&[]; BATCH_ROWS];
        self.rows = 0;
        for row in rows {
            taken[self.rows] = features.dense_row(row);
            self.rows += 1;
        }
        for (group, values) in self.values.iter_mut().enumerate() {
            let taken = &taken[group * GROUP_ROWS..][..GROUP_ROWS];
            for (column, values) in values.iter_mut().enumerate() {
                for (value, row) in values.iter_mut().zip(taken) {
                    *value = row.get(column).copied().unwrap_or(0.0);
                }
            }
        }
        for later in 1..self.rows {
            for earlier in 0..later {
                let product = inner_product::<FUSED>(taken[earlier], taken[later]);
                self.products[earlier][later] = product * self.scale * self.scale;
            }
        }
        for block in 0..self.blocks {
            let weights = &weights[block * self.width..][..self.width];
            for group in 0..self.rows.div_ceil(GROUP_ROWS) {
                let sums = products_of_eight::<FUSED>(&self.values[group], weights);
                for (place, sum) in sums.into_iter().enumerate() {
                    self.scores[block][group * GROUP_ROWS + place] = sum.scaled(self.scale);
                }
            }
        }
    }

    /// Adds a row's products, as the weights are after the steps of the rows before it.
    #[inline(always)]
    pub fn add_scores(&self, row: usize, out: &mut [Lanes]) {
        for (out, scores) in out.iter_mut().zip(&self.scores) {
            *out = out.plus(scores[row]);
        }
    }

    /// A row moves a block's weights by `step` times itself.
    #[inline(always)]
    pub fn take_step<const FUSED: bool>(&mut self, row: usize, block: usize, step: Lanes) {
        for later in row + 1..self.rows {
            add_scaled::<FUSED>(&mut self.scores[block][later], self.products[row][later], &step);
        }
        self.steps[block][row] = step;
        self.moved[block][row / GROUP_ROWS] = true;
    }

    /// Writes all steps into the weights.
    #[inline(always)]
    pub fn finish<const FUSED: bool>(&mut self, weights: &mut [Lanes]) {
        for block in 0..self.blocks {
            for group in 0..GROUPS {
                if !std::mem::replace(&mut self.moved[block][group], false) {
                    continue;
                }
                let first = group * GROUP_ROWS;
                let mut steps = [Lanes::ZERO; GROUP_ROWS];
                for (place, step) in steps.iter_mut().enumerate() {
                    let taken = &mut self.steps[block][first + place];
                    *step = std::mem::replace(taken, Lanes::ZERO).scaled(self.scale);
                }
                // Indexed, not zipped: with its bounds checks the loop is compiled as it
                // stands, a vector of sixteen classes at a time, and not across columns with
                // gathers.
                for column in 0..self.width {
                    let values = &self.values[group][column];
                    let weights = &mut weights[block * self.width + column];
                    let mut sum = *weights;
                    for row in 0..GROUP_ROWS {
                        add_scaled::<FUSED>(&mut sum, values[row], &steps[row]);
                    }
                    *weights = sum;
                }
            }
        }
    }
}

/// The products of eight rows with one block's weights. The sums are eight variables and not
/// an array so that the compiler keeps them in registers.
#[inline(always)]
fn products_of_eight<const FUSED: bool>(
    values: &[[f32; GROUP_ROWS]],
    weights: &[Lanes],
) -> [Lanes; GROUP_ROWS] {
    let zero = Lanes::ZERO;
    let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
    let (mut e, mut f, mut g, mut h) = (zero, zero, zero, zero);
    for (values, weights) in values.iter().zip(weights) {
        add_scaled::<FUSED>(&mut a, values[0], weights);
        add_scaled::<FUSED>(&mut b, values[1], weights);
        add_scaled::<FUSED>(&mut c, values[2], weights);
        add_scaled::<FUSED>(&mut d, values[3], weights);
        add_scaled::<FUSED>(&mut e, values[4], weights);
        add_scaled::<FUSED>(&mut f, values[5], weights);
        add_scaled::<FUSED>(&mut g, values[6], weights);
        add_scaled::<FUSED>(&mut h, values[7], weights);
    }
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
fn inner_product<const FUSED: bool>(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = Lanes::ZERO;
    let (left_chunks, left_rest) = left.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_chunks.iter().zip(right_chunks) {
        for lane in 0..LANES {
            sums.0[lane] = if FUSED {
                left[lane].mul_add(right[lane], sums.0[lane])
            } else {
                sums.0[lane] + left[lane] * right[lane]
            };
        }
    }
    for (lane, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        sums.0[lane] += left * right;
    }
    sums.sum()
}
