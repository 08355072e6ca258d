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

/// All weights: `weights[feature * blocks + block]`, and an intercept per class.
#[derive(Clone, Debug)]
pub struct SoftmaxWeights {
    pub weights: Vec<Lanes>,
    pub intercepts: Vec<Lanes>,
    pub blocks: usize,
    pub passes: usize,
}

/// Blocks whose products are computed in one walk over a row's features: as many sums as
/// stay in registers.
const WALK: usize = 4;
/// Newton steps on a row's problem in the first pass, and later, when the values of the last
/// visit are near.
const FIRST_STEPS: usize = 4;
const LATER_STEPS: usize = 1;
/// The most a logarithm of a dual variable rises in one Newton step: from far to the left of
/// the solution a full step overshoots without bound.
const LONGEST_STEP: f32 = 3.0;
/// Neighbouring blocks whose variables would all move less than this fraction of the row's
/// cost stay: most classes are out of the question for most rows, and writing weights costs
/// as much as reading them.
const NEGLIGIBLE: f32 = 1e-4;
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
    let stride = blocks.next_multiple_of(WALK);
    let mut state = State {
        weights: vec![Lanes::ZERO; features.column_count() * stride],
        intercepts: vec![Lanes::ZERO; stride],
        logs: vec![Lanes::ZERO; targets.rows.len() * blocks],
        row: RowWork::new(targets.class_count),
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
            order: &order,
        });
        passes += 1;
        if !state.is_first && progress.gap <= f64::from(settings.tolerance) * progress.loss {
            break;
        }
        state.is_first = false;
    }
    let mut weights = state.weights;
    if stride != blocks {
        for feature in 0..features.column_count() {
            weights.copy_within(feature * stride..feature * stride + blocks, feature * blocks);
        }
        weights.truncate(features.column_count() * blocks);
        weights.shrink_to_fit();
    }
    state.intercepts.truncate(blocks);
    Some(SoftmaxWeights { weights, intercepts: state.intercepts, blocks, passes })
}

/// The memory a fit holds beside the features, in bytes.
pub fn memory_bytes(columns: usize, rows: usize, classes: usize) -> usize {
    let blocks = blocks_for(classes);
    (columns * blocks.next_multiple_of(WALK) + rows * blocks) * size_of::<Lanes>()
}

struct State {
    /// By feature, then block; the blocks of a feature fill up a whole [`WALK`].
    weights: Vec<Lanes>,
    intercepts: Vec<Lanes>,
    /// Logarithms of the dual variables: `logs[place * blocks + block]`.
    logs: Vec<Lanes>,
    row: RowWork,
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
    order: &'p [u32],
}

impl Kernel for Pass<'_> {
    type Output = Progress;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Progress {
        let Self { state, features, squared_norms, targets, unit_cost, order } = self;
        let State { weights, intercepts, logs, row: work, is_first } = state;
        let is_first = *is_first;
        let stride = intercepts.len();
        let blocks = work.used.len();
        let mut progress = Progress::default();
        for &place in order {
            let place = place as usize;
            let row = targets.rows[place] as usize;
            let cost = unit_cost * targets.row_weights[place];
            let kept = &mut logs[place * blocks..][..blocks];
            let mine = targets.offsets[place] as usize..targets.offsets[place + 1] as usize;
            let (classes, shares) = (&targets.classes[mine.clone()], &targets.shares[mine]);
            for first in (0..stride).step_by(WALK) {
                let sums = features.dot::<FUSED, WALK>(row, weights, stride, first);
                for (block, sum) in sums.into_iter().enumerate() {
                    work.scores[first + block] = sum.plus(intercepts[first + block]);
                }
            }
            let log_total = work.log_sum_exp::<FUSED>();
            let scores = &work.scores;
            let right: f32 = (classes.iter().zip(shares))
                .map(|(&class, &share)| {
                    share * scores[class as usize / LANES].0[class as usize % LANES]
                })
                .sum();
            let loss = f64::from(cost * (log_total - right));
            progress.loss += loss;
            if is_first {
                work.begin(log_total - cost.ln(), cost, classes, shares);
                progress.gap += loss;
            } else {
                progress.gap += f64::from(work.resume::<FUSED>(kept, log_total - cost.ln()));
            }
            let curvature = squared_norms[row] + 1.0;
            work.aim(curvature);
            for step in 0..if is_first { FIRST_STEPS } else { LATER_STEPS } {
                work.newton_step::<FUSED>(curvature, cost.ln(), step > 0 || is_first);
            }
            for first in (0..blocks).step_by(WALK) {
                let last = (first + WALK).min(blocks);
                let (step, largest) = work.change::<FUSED>(first, last);
                if largest > cost * NEGLIGIBLE || is_first {
                    features.add::<FUSED, WALK>(row, &step, weights, stride, first);
                    for block in first..last {
                        intercepts[block] = intercepts[block].plus(step[block - first]);
                        kept[block] = work.logs[block];
                    }
                }
            }
        }
        progress
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
    /// Logarithms of the variables, and the variables, as they move.
    logs: Vec<Lanes>,
    values: Vec<Lanes>,
}

impl RowWork {
    fn new(class_count: usize) -> Self {
        let blocks = blocks_for(class_count);
        let empty = || vec![Lanes::ZERO; blocks.next_multiple_of(WALK)];
        let mut used = vec![Lanes::ZERO; blocks];
        for class in 0..class_count {
            used[class / LANES].0[class % LANES] = 1.0;
        }
        Self {
            used,
            scores: empty(),
            before: empty(),
            goal: empty(),
            logs: empty(),
            values: empty(),
        }
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

    /// A row that adds nothing to the weights yet: its variables are its targets, and the
    /// search for better ones starts at its present probabilities.
    #[inline(always)]
    fn begin(&mut self, log_total: f32, cost: f32, classes: &[u32], shares: &[f32]) {
        for block in 0..self.used.len() {
            self.before[block] = Lanes::ZERO;
            self.logs[block] = self.scores[block].map(|score| at_least(score - log_total));
        }
        for (&class, &share) in classes.iter().zip(shares) {
            self.before[class as usize / LANES].0[class as usize % LANES] = cost * share;
        }
    }

    /// Takes up the variables of the last visit. Returns the row's part of the duality gap.
    #[inline(always)]
    fn resume<const FUSED: bool>(&mut self, kept: &[Lanes], log_total: f32) -> f32 {
        let mut gap = Lanes::ZERO;
        for block in 0..self.used.len() {
            self.logs[block] = kept[block];
            for lane in 0..LANES {
                let log = kept[block].0[lane];
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
    /// sum. `anew`: the variables have moved since they were last computed.
    #[inline(always)]
    fn newton_step<const FUSED: bool>(&mut self, curvature: f32, log_cost: f32, anew: bool) {
        let blocks = self.used.len();
        let (mut weighted, mut weight) = (Lanes::ZERO, Lanes::ZERO);
        for block in 0..blocks {
            for lane in 0..LANES {
                let log = self.logs[block].0[lane];
                let value = if anew {
                    self.used[block].0[lane] * exp::<FUSED>(log)
                } else {
                    self.before[block].0[lane]
                };
                self.values[block].0[lane] = value;
                let inverse = value / (1.0 + curvature * value);
                weighted.0[lane] += inverse * (self.goal[block].0[lane] - curvature * value - log);
                weight.0[lane] += inverse;
            }
        }
        let multiplier = weighted.sum() / weight.sum().max(f32::MIN_POSITIVE);
        let mut total = Lanes::ZERO;
        for block in 0..blocks {
            for lane in 0..LANES {
                let (value, log) = (self.values[block].0[lane], self.logs[block].0[lane]);
                let residual = self.goal[block].0[lane] - curvature * value - log - multiplier;
                let full = residual / (1.0 + curvature * value);
                let moved = at_least(log + if full < LONGEST_STEP { full } else { LONGEST_STEP });
                self.logs[block].0[lane] = moved;
                total.0[lane] += self.used[block].0[lane] * exp::<FUSED>(moved);
            }
        }
        let shift = log_cost - total.sum().ln();
        for block in 0..blocks {
            self.logs[block] = self.logs[block].map(|log| at_least(log + shift));
        }
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
fn at_least(log: f32) -> f32 {
    if log > LEAST_LOG { log } else { LEAST_LOG }
}
