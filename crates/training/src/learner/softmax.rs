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
use super::row_problem::{RowProblem, at_least};
use super::rows::{FeatureRows, blocks_for};
use super::settings::FitEffort;
use crate::random::Random;

/// How a regression is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftmaxSettings {
    /// The cost of a row's log-loss against the squared length of the weights.
    pub cost: f32,
    /// The duality gap that is left, as a fraction of the objective.
    pub tolerance: f32,
    /// A limit on passes over the rows, for problems that do not settle.
    pub max_passes: usize,
}

impl SoftmaxSettings {
    pub const fn new(cost: f32, effort: FitEffort) -> Self {
        match effort {
            FitEffort::Full => Self { cost, tolerance: 0.01, max_passes: 40 },
            FitEffort::Rough => Self { cost, tolerance: 0.1, max_passes: 3 },
        }
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
    /// Logarithms of the dual variables that make up the weights: `logs[place * blocks + block]`.
    pub logs: Vec<Lanes>,
    /// The cost they were fitted at.
    pub cost: f32,
    pub blocks: usize,
    pub passes: usize,
}

impl SoftmaxWeights {
    /// `‖W‖²`.
    fn squared_length(&self) -> f64 {
        let parts = self.sparse.iter().chain(&self.dense).chain(&self.intercepts);
        parts.map(|lanes| f64::from(lanes.map(|weight| weight * weight).sum())).sum()
    }
}

/// Blocks whose products are computed in one walk over a row's features: as many sums as
/// stay in registers.
const WALK: usize = 4;
/// Neighbouring blocks whose variables would all move less than this part of the tolerance,
/// as a fraction of the row's cost, stay: most classes are out of the question for most rows,
/// and writing weights costs as much as reading them.
const NEGLIGIBLE_PART: f32 = 0.01;

/// Fits a regression; `None` when `stop` said so between two passes. `squared_norms` are those
/// of all rows, scales applied.
///
/// Starts at `from` where it is given: the solution of the same rows and targets at another
/// cost, of which few passes lead to this one.
pub fn fit(
    features: &FeatureRows<'_>,
    squared_norms: &[f32],
    targets: &SoftmaxTargets<'_>,
    settings: &SoftmaxSettings,
    from: Option<SoftmaxWeights>,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> Option<SoftmaxWeights> {
    let blocks = blocks_for(targets.class_count);
    let is_first = from.is_none();
    let solution = match from {
        Some(mut from) => {
            rescale(&mut from, targets, settings.cost);
            from
        }
        None => SoftmaxWeights {
            sparse: vec![Lanes::ZERO; features.sparse_columns() * blocks],
            dense: vec![Lanes::ZERO; features.dense_columns() * blocks],
            intercepts: vec![Lanes::ZERO; blocks],
            logs: vec![Lanes::ZERO; targets.rows.len() * blocks],
            cost: settings.cost,
            blocks,
            passes: 0,
        },
    };
    let mut state = State {
        solution,
        row: RowProblem::new(targets.class_count),
        batch: DenseBatch::new(features.dense_columns(), blocks),
        is_first,
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
        let objective = progress.loss + 0.5 * state.solution.squared_length();
        if !state.is_first && progress.gap <= f64::from(settings.tolerance) * objective {
            break;
        }
        state.is_first = false;
    }
    state.solution.passes = passes;
    Some(state.solution)
}

/// Takes a solution to another cost: the weights are multiplied by what is best for the dual
/// objective, and the variables changed so that they make up those weights.
///
/// With `v = c p − α`, of which the weights are made, and a factor `s`, the variables become
/// `c' p − s v`. The dual objective is concave in `s`; its slope is
/// `−s ‖W‖² + Σ v log(c' p − s v)`, where the terms of classes that are not a row's own come
/// down to two sums.
fn rescale(solution: &mut SoftmaxWeights, targets: &SoftmaxTargets<'_>, cost: f32) {
    let length = solution.squared_length();
    let SoftmaxWeights { sparse, dense, intercepts, logs, blocks, .. } = solution;
    let used = RowProblem::new(targets.class_count).used;
    let mut others = dispatch(Entropy { logs, used: &used });
    let (mut moved, mut own) = (0f64, Vec::with_capacity(targets.classes.len()));
    for place in 0..targets.rows.len() {
        let weight = f64::from(targets.row_weights[place]);
        let mine = targets.offsets[place] as usize..targets.offsets[place + 1] as usize;
        for (&class, &share) in targets.classes[mine.clone()].iter().zip(&targets.shares[mine]) {
            let at = place * *blocks + class as usize / LANES;
            let log = f64::from(logs[at].0[class as usize % LANES]);
            let whole = weight * f64::from(share);
            let step = f64::from(solution.cost) * whole - log.exp();
            others -= log.exp() * log;
            moved += step;
            own.push((at, class as usize % LANES, step, f64::from(cost) * whole));
        }
    }
    let log_of = |factor: f64, step: f64, whole: f64| (whole - factor * step).max(1e-30).ln();
    // Beyond the ratio of the costs a variable could be negative.
    let (mut low, mut high) = (0.0, f64::from(cost) / f64::from(solution.cost));
    for _ in 0..FACTOR_STEPS {
        let factor = 0.5 * (low + high);
        let own: f64 =
            own.iter().map(|&(_, _, step, whole)| step * log_of(factor, step, whole)).sum();
        let rises = own - others - moved * factor.ln() > factor * length;
        if rises { low = factor } else { high = factor }
    }
    let factor = 0.5 * (low + high);
    let log = factor.ln() as f32;
    for lanes in sparse.iter_mut().chain(dense).chain(intercepts) {
        *lanes = lanes.scaled(factor as f32);
    }
    logs.iter_mut().for_each(|lanes| *lanes = lanes.map(|old| at_least(old + log)));
    for (at, lane, step, whole) in own {
        logs[at].0[lane] = at_least(log_of(factor, step, whole) as f32);
    }
    solution.cost = cost;
}

/// Halvings of the range in which a factor is sought: a thousandth is near enough.
const FACTOR_STEPS: usize = 10;

/// `Σ α log α` over all variables.
struct Entropy<'p> {
    logs: &'p [Lanes],
    /// One where a lane of a row's blocks is a class.
    used: &'p [Lanes],
}

impl Kernel for Entropy<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        let mut total = 0f64;
        for row in self.logs.chunks_exact(self.used.len()) {
            let mut sum = Lanes::ZERO;
            for (logs, used) in row.iter().zip(self.used) {
                for lane in 0..LANES {
                    let log = logs.0[lane];
                    sum.0[lane] += used.0[lane] * exp::<FUSED>(log) * log;
                }
            }
            total += f64::from(sum.sum());
        }
        total
    }
}

/// The memory a fit holds beside the features, in bytes.
pub fn memory_bytes(columns: usize, rows: usize, classes: usize) -> usize {
    let blocks = blocks_for(classes);
    (columns + rows) * blocks * size_of::<Lanes>()
}

struct State {
    solution: SoftmaxWeights,
    row: RowProblem,
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
        let State { solution, row: work, batch, is_first } = state;
        let SoftmaxWeights { sparse, dense, intercepts, logs, .. } = solution;
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
                    let (step, largest) = work.change::<FUSED, WALK>(first, last);
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
