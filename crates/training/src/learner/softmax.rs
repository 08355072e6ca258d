//! Multinomial logistic regression in the dual.
//!
//! Minimises `½‖W‖² + Σ_i c_i Σ_k p_ik · −log softmax(W x_i)_k` over rows with target
//! distributions `p_i` and costs `c_i`, the intercept being one more, regularised, feature of
//! value one. In the dual every row has one variable per class, `α_ik > 0` with
//! `Σ_k α_ik = c_i`, and `W = Σ_i (c_i p_i − α_i) x_iᵀ`; at the optimum
//! `α_i = c_i softmax(W x_i)`. Rows are visited in random order and their variables moved
//! towards the best values while the others stand still: stochastic dual coordinate ascent
//! (Shalev-Shwartz, Zhang, JMLR 2013) with Newton steps on the row's problem
//! `q α_k + log α_k = u_k − λ` (which Yu, Huang, Lin, Machine Learning 2011 solve, too), taken
//! on `log α` so that variables stay positive. It needs no step size and reaches in a few
//! passes an objective for which quasi-Newton methods need dozens.

use super::dense::{BATCH_ROWS, DenseBatch};
use super::lanes::{Kernel, LANES, Lanes, dispatch, exp};
use super::rows::{FeatureRows, blocks_for};
use crate::random::Random;

/// How a regression is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftmaxSettings {
    /// The cost of a row's log-loss against the squared length of the weights.
    pub cost: f32,
    /// The duality gap that is left, as a fraction of the loss.
    pub tolerance: f32,
    /// A limit on passes over the rows, for problems that do not settle.
    pub max_passes: usize,
}

impl SoftmaxSettings {
    /// Settings whose accuracy does not change when solved further.
    pub const fn with_cost(cost: f32) -> Self {
        Self { cost, tolerance: 0.02, max_passes: 40 }
    }
}

/// The target distributions of the rows that are fitted.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxTargets<'a> {
    pub class_count: usize,
    /// The rows that are fitted.
    pub rows: &'a [u32],
    /// The classes of the row at place `p` are `classes[offsets[p]..offsets[p + 1]]`, with
    /// `shares` that sum to one.
    pub offsets: &'a [u32],
    pub classes: &'a [u32],
    pub shares: &'a [f32],
    /// For each of `rows`, its weight, above zero.
    pub row_weights: &'a [f32],
}

/// All weights, and an intercept per class.
#[derive(Clone, Debug)]
pub struct SoftmaxWeights {
    /// Of the sparse columns: `sparse[column * blocks + block]`.
    pub sparse: Vec<Lanes>,
    /// Of the dense columns: `dense[block * width + column]`, so that a block's weights, which
    /// are read for several rows at once, lie together.
    pub dense: Vec<Lanes>,
    pub intercepts: Vec<Lanes>,
    pub blocks: usize,
    pub passes: usize,
}

/// Blocks whose products are computed in one walk over a row's features: as many sums as
/// stay in registers.
const WALK: usize = 4;
/// The most a logarithm of a dual variable rises in one Newton step: from far to the left of
/// the solution a full step overshoots without bound.
const LONGEST_STEP: f32 = 3.0;
/// A step after which the variables miss their sum by more than this (as a logarithm) came
/// from too far away to be trusted.
const FARTHEST_MISS: f32 = 0.1;
/// A variable whose step was too long, and would have led above this (as a logarithm of its
/// part of the sum), is too far away as well: below, it is out of the question anyhow.
const HIGHEST_LEAP: f32 = -12.0;
/// Rounds on a row's multiplier from afar, Newton steps on its variables in each, the step at
/// which these are near enough, and the part of the sum that may be missed when rounds end.
const ROUNDS_FROM_AFAR: usize = 16;
const STEPS_A_ROUND: usize = 12;
const STEPPED_ENOUGH: f32 = 0.02;
const ROUNDED_MISS: f32 = 0.01;
/// Neighbouring blocks whose variables would all move less than this part of the tolerance,
/// as a fraction of the row's cost, stay: most classes are out of the question for most rows,
/// and writing weights costs as much as reading them.
const NEGLIGIBLE_PART: f32 = 0.005;
/// The smallest logarithm kept; `exp` of it is nothing.
const LEAST_LOG: f32 = -60.0;

/// Fits a regression; `None` when `stop` said so between two passes. `squared_norms` are those
/// of all rows, scales applied.
pub fn fit(
    features: &FeatureRows<'_>,
    squared_norms: &[f32],
    targets: &SoftmaxTargets<'_>,
    settings: &SoftmaxSettings,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> Option<SoftmaxWeights> {
    let blocks = blocks_for(targets.class_count);
    let mut state = State {
        sparse: vec![Lanes::ZERO; features.sparse_columns() * blocks],
        dense: vec![Lanes::ZERO; features.dense_columns() * blocks],
        intercepts: vec![Lanes::ZERO; blocks],
        logs: vec![Lanes::ZERO; targets.rows.len() * blocks],
        row: RowWork::new(targets.class_count),
        batch: DenseBatch::new(features.dense_columns(), blocks),
        is_first: true,
    };
    let mut random = Random::new(seed, 0x73_6f66_746d_6178);
    let mut order: Vec<u32> = (0..targets.rows.len() as u32).collect();
    let mut passes = 0;
    while passes < settings.max_passes {
        if stop() {
            return None;
        }
        random.shuffle(&mut order);
        let progress = dispatch(Pass {
            state: &mut state,
            features,
            squared_norms,
            targets,
            unit_cost: settings.cost,
            negligible: settings.tolerance * NEGLIGIBLE_PART,
            order: &order,
        });
        passes += 1;
        if !state.is_first && progress.gap <= f64::from(settings.tolerance) * progress.loss {
            break;
        }
        state.is_first = false;
    }
    let State { sparse, dense, intercepts, .. } = state;
    Some(SoftmaxWeights { sparse, dense, intercepts, blocks, passes })
}

/// The memory a fit holds beside the features, in bytes.
pub fn memory_bytes(columns: usize, rows: usize, classes: usize) -> usize {
    let blocks = blocks_for(classes);
    (columns + rows) * blocks * size_of::<Lanes>()
}

struct State {
    /// As in [`SoftmaxWeights`].
    sparse: Vec<Lanes>,
    dense: Vec<Lanes>,
    intercepts: Vec<Lanes>,
    /// Logarithms of the dual variables: `logs[place * blocks + block]`.
    logs: Vec<Lanes>,
    row: RowWork,
    batch: DenseBatch,
    /// Whether rows are visited for the first time and have no variables yet.
    is_first: bool,
}

/// Sums over a pass, in the order of the rows.
#[derive(Clone, Copy, Default)]
struct Progress {
    gap: f64,
    loss: f64,
}

/// Visits every row once.
struct Pass<'p> {
    state: &'p mut State,
    features: &'p FeatureRows<'p>,
    squared_norms: &'p [f32],
    targets: &'p SoftmaxTargets<'p>,
    unit_cost: f32,
    /// The part of a row's cost that a change must exceed to be written.
    negligible: f32,
    order: &'p [u32],
}

impl Kernel for Pass<'_> {
    type Output = Progress;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Progress {
        let Self { state, features, squared_norms, targets, unit_cost, negligible, order } = self;
        let State { sparse, dense, intercepts, logs, row: work, batch, is_first } = state;
        let is_first = *is_first;
        let blocks = work.used.len();
        let has_dense = !dense.is_empty();
        let mut progress = Progress::default();
        for places in order.chunks(BATCH_ROWS) {
            if has_dense {
                let rows = places.iter().map(|&place| targets.rows[place as usize] as usize);
                batch.begin::<FUSED>(features, rows, dense);
            }
            for (at, &place) in places.iter().enumerate() {
                let place = place as usize;
                let row = targets.rows[place] as usize;
                let cost = unit_cost * targets.row_weights[place];
                let log_cost = cost.ln();
                let kept = &mut logs[place * blocks..][..blocks];
                let mine = targets.offsets[place] as usize..targets.offsets[place + 1] as usize;
                let (classes, shares) = (&targets.classes[mine.clone()], &targets.shares[mine]);
                work.scores.copy_from_slice(intercepts);
                for first in (0..blocks).step_by(WALK) {
                    let scores = &mut work.scores[first..blocks.min(first + WALK)];
                    add_dot::<FUSED>(features, row, sparse, first, blocks, scores);
                }
                if has_dense {
                    batch.add_scores(at, &mut work.scores);
                }
                let log_total = work.log_sum_exp::<FUSED>();
                let right: f32 = (classes.iter().zip(shares))
                    .map(|(&class, &share)| {
                        share * work.scores[class as usize / LANES].0[class as usize % LANES]
                    })
                    .sum();
                let loss = f64::from(cost * (log_total - right));
                progress.loss += loss;
                if is_first {
                    work.begin(cost, classes, shares);
                    progress.gap += loss;
                } else {
                    progress.gap += f64::from(work.resume::<FUSED>(kept, log_total - log_cost));
                }
                let curvature = squared_norms[row] + 1.0;
                work.aim(curvature);
                if is_first || !work.newton_step::<FUSED>(curvature, log_cost) {
                    work.solve_from_afar::<FUSED>(curvature, cost);
                }
                for first in (0..blocks).step_by(WALK) {
                    let last = (first + WALK).min(blocks);
                    let (step, largest) = work.change::<FUSED>(first, last);
                    if largest <= cost * negligible && !is_first {
                        continue;
                    }
                    add::<FUSED>(features, row, &step[..last - first], sparse, first, blocks);
                    for block in first..last {
                        let step = step[block - first];
                        intercepts[block] = intercepts[block].plus(step);
                        kept[block] = work.logs[block];
                        if has_dense {
                            batch.take_step::<FUSED>(at, block, step);
                        }
                    }
                }
            }
            if has_dense {
                batch.finish::<FUSED>(dense);
            }
        }
        progress
    }
}

/// Adds the products of a row with up to [`WALK`] neighbouring blocks of weights to `out`.
#[inline(always)]
fn add_dot<const FUSED: bool>(
    features: &FeatureRows<'_>,
    row: usize,
    weights: &[Lanes],
    first: usize,
    blocks: usize,
    out: &mut [Lanes],
) {
    match out.len() {
        1 => gain(out, &features.sparse_dot::<FUSED, 1>(row, weights, blocks, first)),
        2 => gain(out, &features.sparse_dot::<FUSED, 2>(row, weights, blocks, first)),
        3 => gain(out, &features.sparse_dot::<FUSED, 3>(row, weights, blocks, first)),
        _ => gain(out, &features.sparse_dot::<FUSED, WALK>(row, weights, blocks, first)),
    }
}

#[inline(always)]
fn gain(sums: &mut [Lanes], more: &[Lanes]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.plus(*more);
    }
}

/// Adds a step times a row to up to [`WALK`] neighbouring blocks of weights.
#[inline(always)]
fn add<const FUSED: bool>(
    features: &FeatureRows<'_>,
    row: usize,
    step: &[Lanes],
    weights: &mut [Lanes],
    first: usize,
    blocks: usize,
) {
    match *step {
        [a] => features.sparse_add::<FUSED, 1>(row, &[a], weights, blocks, first),
        [a, b] => features.sparse_add::<FUSED, 2>(row, &[a, b], weights, blocks, first),
        [a, b, c] => features.sparse_add::<FUSED, 3>(row, &[a, b, c], weights, blocks, first),
        [a, b, c, d] => {
            features.sparse_add::<FUSED, WALK>(row, &[a, b, c, d], weights, blocks, first)
        }
        _ => {}
    }
}

/// What the visit of one row works with, by block of classes.
struct RowWork {
    /// One where a lane is a class, zero where it fills up the last block.
    used: Vec<Lanes>,
    scores: Vec<Lanes>,
    /// The dual variables as they are counted in the weights.
    before: Vec<Lanes>,
    /// The right side of the row's problem.
    goal: Vec<Lanes>,
    /// Logarithms of the variables, as they move.
    logs: Vec<Lanes>,
}

impl RowWork {
    fn new(class_count: usize) -> Self {
        let blocks = blocks_for(class_count);
        let empty = || vec![Lanes::ZERO; blocks];
        let mut used = vec![Lanes::ZERO; blocks];
        for class in 0..class_count {
            used[class / LANES].0[class % LANES] = 1.0;
        }
        Self { used, scores: empty(), before: empty(), goal: empty(), logs: empty() }
    }

    #[inline(always)]
    fn log_sum_exp<const FUSED: bool>(&self) -> f32 {
        let mut highest = Lanes::splat(f32::NEG_INFINITY);
        for (used, score) in self.used.iter().zip(&self.scores) {
            for lane in 0..LANES {
                let seen = if used.0[lane] > 0.0 { score.0[lane] } else { f32::NEG_INFINITY };
                highest.0[lane] = if seen > highest.0[lane] { seen } else { highest.0[lane] };
            }
        }
        let highest = highest.largest();
        let mut total = Lanes::ZERO;
        for (used, score) in self.used.iter().zip(&self.scores) {
            for lane in 0..LANES {
                total.0[lane] += used.0[lane] * exp::<FUSED>(score.0[lane] - highest);
            }
        }
        total.sum().ln() + highest
    }

    /// A row that adds nothing to the weights yet: its variables are its targets.
    #[inline(always)]
    fn begin(&mut self, cost: f32, classes: &[u32], shares: &[f32]) {
        self.before.fill(Lanes::ZERO);
        for (&class, &share) in classes.iter().zip(shares) {
            self.before[class as usize / LANES].0[class as usize % LANES] = cost * share;
        }
    }

    /// Takes up the variables of the last visit. Returns the row's part of the duality gap.
    #[inline(always)]
    fn resume<const FUSED: bool>(&mut self, kept: &[Lanes], log_total: f32) -> f32 {
        let mut gap = Lanes::ZERO;
        self.logs.copy_from_slice(kept);
        for block in 0..self.used.len() {
            for lane in 0..LANES {
                let log = self.logs[block].0[lane];
                let value = self.used[block].0[lane] * exp::<FUSED>(log);
                self.before[block].0[lane] = value;
                gap.0[lane] += value * (log - self.scores[block].0[lane] + log_total);
            }
        }
        gap.sum()
    }

    #[inline(always)]
    fn aim(&mut self, curvature: f32) {
        for block in 0..self.used.len() {
            for lane in 0..LANES {
                self.goal[block].0[lane] =
                    self.scores[block].0[lane] + curvature * self.before[block].0[lane];
            }
        }
    }

    /// One Newton step on `q α + log α = goal − λ`, `Σ α = cost`, in `log α`, and back to the
    /// sum. Says whether the step came from near enough to be trusted.
    #[inline(always)]
    fn newton_step<const FUSED: bool>(&mut self, curvature: f32, log_cost: f32) -> bool {
        let blocks = self.used.len();
        let (mut weighted, mut weight) = (Lanes::ZERO, Lanes::ZERO);
        for block in 0..blocks {
            for lane in 0..LANES {
                let value = self.before[block].0[lane];
                let inverse = value / (1.0 + curvature * value);
                let residual =
                    self.goal[block].0[lane] - curvature * value - self.logs[block].0[lane];
                weighted.0[lane] += inverse * residual;
                weight.0[lane] += inverse;
            }
        }
        let multiplier = weighted.sum() / weight.sum().max(f32::MIN_POSITIVE);
        // The highest logarithm that a step too long to be taken would have led to.
        let mut leap = Lanes::splat(LEAST_LOG);
        for block in 0..blocks {
            let mut landing = Lanes::ZERO;
            for lane in 0..LANES {
                let (value, log) = (self.before[block].0[lane], self.logs[block].0[lane]);
                let residual = self.goal[block].0[lane] - curvature * value - log - multiplier;
                let full = residual / (1.0 + curvature * value);
                let is_leap = full > LONGEST_STEP && self.used[block].0[lane] > 0.0;
                landing.0[lane] = if is_leap { log + full } else { LEAST_LOG };
                let taken = if full < LONGEST_STEP { full } else { LONGEST_STEP };
                self.logs[block].0[lane] = at_least(log + taken);
            }
            leap = leap.map2(landing, larger);
        }
        let missed = self.back_to_sum::<FUSED>(log_cost);
        missed <= FARTHEST_MISS && leap.largest() <= log_cost + HIGHEST_LEAP
    }

    /// Solves the row's problem from wherever. The sum of the variables falls and is convex in
    /// the multiplier, so Newton's method on it goes steadily up from a multiplier that is too
    /// small: the one at which the largest variable alone makes the sum. For a given
    /// multiplier, Newton steps on each variable's logarithm go steadily down from above.
    #[inline(always)]
    fn solve_from_afar<const FUSED: bool>(&mut self, curvature: f32, cost: f32) {
        let blocks = self.used.len();
        let log_cost = cost.ln();
        let mut highest = Lanes::splat(f32::NEG_INFINITY);
        for block in 0..blocks {
            for lane in 0..LANES {
                let goal = if self.used[block].0[lane] > 0.0 {
                    self.goal[block].0[lane]
                } else {
                    f32::NEG_INFINITY
                };
                highest.0[lane] = if goal > highest.0[lane] { goal } else { highest.0[lane] };
            }
        }
        let mut multiplier = highest.largest() - curvature * cost - log_cost;
        for block in 0..blocks {
            self.logs[block] = self.goal[block].map(|goal| {
                let bound = goal - multiplier;
                at_least(if bound < log_cost { bound } else { log_cost })
            });
        }
        for _ in 0..ROUNDS_FROM_AFAR {
            for _ in 0..STEPS_A_ROUND {
                let mut farthest = Lanes::ZERO;
                for block in 0..blocks {
                    let mut distance = Lanes::ZERO;
                    for lane in 0..LANES {
                        let log = self.logs[block].0[lane];
                        let pull = curvature * exp::<FUSED>(log);
                        let goal = self.goal[block].0[lane] - multiplier;
                        let full = (goal - pull - log) / (1.0 + pull);
                        let taken = if full < LONGEST_STEP { full } else { LONGEST_STEP };
                        self.logs[block].0[lane] = at_least(log + taken);
                        let matters = log > log_cost + HIGHEST_LEAP;
                        distance.0[lane] = if matters { taken.abs() } else { 0.0 };
                    }
                    farthest = farthest.map2(distance, larger);
                }
                if farthest.largest() <= STEPPED_ENOUGH {
                    break;
                }
            }
            let (mut total, mut slope) = (Lanes::ZERO, Lanes::ZERO);
            for block in 0..blocks {
                for lane in 0..LANES {
                    let value = self.used[block].0[lane] * exp::<FUSED>(self.logs[block].0[lane]);
                    total.0[lane] += value;
                    slope.0[lane] += value / (1.0 + curvature * value);
                }
            }
            let missed = total.sum() - cost;
            // Not below the sum, but for rounding: from there on only the scaling is left.
            if missed <= ROUNDED_MISS * cost {
                break;
            }
            multiplier += missed / slope.sum().max(f32::MIN_POSITIVE);
        }
        self.back_to_sum::<FUSED>(log_cost);
    }

    /// Scales the variables to their sum. Returns by how much, as a logarithm.
    #[inline(always)]
    fn back_to_sum<const FUSED: bool>(&mut self, log_cost: f32) -> f32 {
        let mut total = Lanes::ZERO;
        for (used, logs) in self.used.iter().zip(&self.logs) {
            for lane in 0..LANES {
                total.0[lane] += used.0[lane] * exp::<FUSED>(logs.0[lane]);
            }
        }
        let shift = log_cost - total.sum().ln();
        for logs in &mut self.logs {
            *logs = logs.map(|log| at_least(log + shift));
        }
        shift.abs()
    }

    /// What the weights gain by the row's new variables, and the largest change among them.
    #[inline(always)]
    fn change<const FUSED: bool>(&self, first: usize, last: usize) -> ([Lanes; WALK], f32) {
        let mut step = [Lanes::ZERO; WALK];
        let mut largest = 0f32;
        for block in first..last {
            for lane in 0..LANES {
                let after = self.used[block].0[lane] * exp::<FUSED>(self.logs[block].0[lane]);
                step[block - first].0[lane] = self.before[block].0[lane] - after;
            }
            largest = largest.max(step[block - first].map(f32::abs).largest());
        }
        (step, largest)
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn at_least(log: f32) -> f32 {
    if log > LEAST_LOG { log } else { LEAST_LOG }
}
