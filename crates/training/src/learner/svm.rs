//! One-vs-rest linear support vector machines with squared hinge loss.
//!
//! For each class the L2-regularised problem of LIBLINEAR's solver 1 and scikit-learn's
//! `LinearSVC`: minimise `½‖w‖² + Σ C_i max(0, 1 − y_i w·x_i)²` with the intercept as one more,
//! regularised, feature of value one. Solved in the dual by coordinate descent (Hsieh, Chang,
//! Lin, Keerthi, Sundararajan, ICML 2008) for sixteen classes at once: the classes are
//! independent problems that read the same rows, so one pass over a row's features serves them
//! all. A row leaves the pass when no class of the block would move it (shrinking).

use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::FeatureRows;
use super::settings::FitEffort;
use crate::random::Random;

/// How a machine is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SvmSettings {
    /// The cost of a margin violation against the length of the weights.
    pub cost: f32,
    /// The largest violation of optimality (projected gradient) that is left.
    pub tolerance: f32,
    /// A limit on passes over the rows, for problems that do not settle.
    pub max_passes: usize,
}

impl SvmSettings {
    pub const fn new(cost: f32, effort: FitEffort) -> Self {
        match effort {
            FitEffort::Full => Self { cost, tolerance: 0.2, max_passes: 60 },
            FitEffort::Rough => Self { cost, tolerance: 0.5, max_passes: 4 },
        }
    }
}

/// One block of sixteen classes: the signs and costs of its rows.
#[derive(Clone, Copy, Debug)]
pub struct BlockTargets<'a> {
    /// The rows that are fitted.
    pub rows: &'a [u32],
    /// For each of `rows`, bit `k` set where the row is an example of the block's class `k`.
    pub positive: &'a [u16],
    /// For each of `rows`, its weight, above zero.
    pub row_weights: &'a [f32],
    /// For each class of the block, what its own examples count; 1 is usual.
    pub positive_weights: Lanes,
}

/// The weights of a block: one [`Lanes`] per feature, and the intercepts.
#[derive(Clone, Debug)]
pub struct BlockWeights {
    pub weights: Vec<Lanes>,
    pub intercepts: Lanes,
    /// Passes over all or part of the rows that were made.
    pub passes: usize,
}

/// A row whose violation was below this fraction of the pass's before is passed over
const CALM_FRACTION: f32 = 0.1;
/// for so many passes: it would hardly move, and visits are what a fit costs.
const CALM_PASSES: u8 = 2;

/// Fits a block of classes; `None` when `stop` said so between two passes. `squared_norms` are
/// those of all rows, scales applied.
pub fn fit_block(
    features: &FeatureRows<'_>,
    squared_norms: &[f32],
    targets: &BlockTargets<'_>,
    settings: &SvmSettings,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> Option<BlockWeights> {
    let mut state = State {
        weights: vec![Lanes::ZERO; features.column_count()],
        intercepts: Lanes::ZERO,
        alphas: vec![Lanes::ZERO; targets.rows.len()],
        calm: vec![0; targets.rows.len()],
        bound: Lanes::splat(f32::INFINITY),
        violation: 0.0,
    };
    let mut random = Random::new(seed, 0x73_766d);
    let everything: Vec<u32> = (0..targets.rows.len() as u32).collect();
    let mut active = everything.clone();
    let mut passes = 0;
    while passes < settings.max_passes {
        if stop() {
            return None;
        }
        random.shuffle(&mut active);
        let visited = dispatch(Pass {
            state: &mut state,
            features,
            squared_norms,
            targets,
            settings,
            active: &mut active,
        });
        passes += 1;
        if state.violation <= settings.tolerance {
            if visited == everything.len() {
                break;
            }
            active.clone_from(&everything);
            state.calm.fill(0);
            state.bound = Lanes::splat(f32::INFINITY);
        }
    }
    Some(BlockWeights { weights: state.weights, intercepts: state.intercepts, passes })
}

/// The memory a block's fit holds beside the features, in bytes.
pub fn block_memory_bytes(columns: usize, rows: usize) -> usize {
    (columns + rows) * size_of::<Lanes>() + rows * (2 * size_of::<u32>() + 1)
}

struct State {
    weights: Vec<Lanes>,
    intercepts: Lanes,
    /// The dual variables, by place in `rows`.
    alphas: Vec<Lanes>,
    /// The passes for which a row is still passed over, by place in `rows`.
    calm: Vec<u8>,
    /// A row whose gradient at zero is above this leaves the active rows, per class.
    bound: Lanes,
    /// The largest violation that the last pass met.
    violation: f32,
}

/// Visits the active rows that are not calm, in their order, and removes those that no class
/// of the block needs. Returns how many were visited.
struct Pass<'p> {
    state: &'p mut State,
    features: &'p FeatureRows<'p>,
    squared_norms: &'p [f32],
    targets: &'p BlockTargets<'p>,
    settings: &'p SvmSettings,
    active: &'p mut Vec<u32>,
}

impl Kernel for Pass<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> usize {
        let Self { state, features, squared_norms, targets, settings, active } = self;
        let dense_start = features.sparse_columns();
        let calm_below = state.violation * CALM_FRACTION;
        let negligible = settings.tolerance * 0.1;
        let mut violations = Lanes::ZERO;
        let (mut kept, mut visited) = (0, 0);
        for position in 0..active.len() {
            let place = active[position] as usize;
            if state.calm[place] > 0 {
                state.calm[place] -= 1;
                active[kept] = place as u32;
                kept += 1;
                continue;
            }
            visited += 1;
            let row = targets.rows[place] as usize;
            let positive = targets.positive[place];
            let diagonal = 0.5 / (settings.cost * targets.row_weights[place]);
            let curvature = squared_norms[row] + 1.0;
            let [mut score] = features.sparse_dot::<FUSED, 1>(row, &state.weights, 1, 0);
            if dense_start < state.weights.len() {
                let dense = features.dense_dot::<FUSED>(row, &state.weights[dense_start..]);
                score = score.plus(dense);
            }
            score = score.plus(state.intercepts);
            let alpha = &mut state.alphas[place];
            let (mut step, mut violation, mut stays) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
            for lane in 0..LANES {
                let is_positive = positive >> lane & 1 == 1;
                let sign = if is_positive { 1.0 } else { -1.0 };
                let weight = if is_positive { targets.positive_weights.0[lane] } else { 1.0 };
                let damping = diagonal / weight;
                let old = alpha.0[lane];
                let gradient = sign * score.0[lane] - 1.0 + damping * old;
                let at_bound = old == 0.0;
                let moved = old - gradient / (curvature + damping);
                let new = if moved > 0.0 { moved } else { 0.0 };
                let projected = if at_bound && gradient > 0.0 { 0.0 } else { gradient.abs() };
                violation.0[lane] = projected;
                stays.0[lane] = if at_bound && gradient > state.bound.0[lane] { 0.0 } else { 1.0 };
                alpha.0[lane] = new;
                step.0[lane] = (new - old) * sign;
            }
            violations = violations.map2(violation, |a, b| if a > b { a } else { b });
            let largest = violation.largest();
            if largest < calm_below {
                state.calm[place] = CALM_PASSES;
            }
            if largest > negligible {
                features.sparse_add::<FUSED, 1>(row, &[step], &mut state.weights, 1, 0);
                features.dense_add::<FUSED>(row, step, &mut state.weights[dense_start..]);
                state.intercepts = state.intercepts.plus(step);
            } else {
                // Too little to be worth writing: the variables stay what the weights say.
                for lane in 0..LANES {
                    let sign = if positive >> lane & 1 == 1 { 1.0 } else { -1.0 };
                    alpha.0[lane] -= step.0[lane] * sign;
                }
            }
            active[kept] = place as u32;
            kept += usize::from(stays.largest() > 0.0);
        }
        active.truncate(kept);
        state.bound = violations;
        state.violation = violations.largest();
        visited
    }
}
