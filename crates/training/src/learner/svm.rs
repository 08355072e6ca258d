//! One-vs-rest linear machines with squared hinge or squared loss.
//!
//! For each class the L2-regularised problem of LIBLINEAR's solver 1 and scikit-learn's
//! `LinearSVC`: minimise `½‖w‖² + Σ C_i max(0, 1 − y_i w·x_i)²` with the intercept as one more,
//! regularised, feature of value one. Solved in the dual by coordinate descent (Hsieh, Chang,
//! Lin, Keerthi, Sundararajan, ICML 2008) for sixteen classes at once: the classes are
//! independent problems that read the same rows, so one pass over a row's features serves them
//! all. A row leaves the pass when no class of the block would move it (shrinking).
//!
//! With squared loss the same descent, its variables unbounded, solves ridge regression on
//! targets of one and minus one: `½‖w‖² + Σ C_i (1 − y_i w·x_i)²`, scikit-learn's
//! `RidgeClassifier` with `alpha = 1 / 2C`.
//!
//! The duality gap is a sum over rows, so that a pass measures it on the way, and the solver
//! stops when what is left of it is a small part of the objective.

use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::FeatureRows;
use super::settings::FitEffort;
use crate::random::Random;

/// How a machine is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SvmSettings {
    /// The cost of a row's loss against the length of the weights.
    pub cost: f32,
    pub loss: Loss,
    /// The duality gap that is left, as a fraction of the objective.
    pub tolerance: f32,
    /// A limit on passes over the rows, for problems that do not settle.
    pub max_passes: usize,
}

/// What a row's margin `m = y w·x` costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// `max(0, 1 − m)²`.
    SquaredHinge,
    /// `(1 − m)²`.
    Squared,
}

impl SvmSettings {
    pub const fn new(cost: f32, loss: Loss, effort: FitEffort) -> Self {
        match effort {
            FitEffort::Full => Self { cost, loss, tolerance: 0.02, max_passes: 60 },
            FitEffort::Rough => Self { cost, loss, tolerance: 0.1, max_passes: 4 },
        }
    }

    /// The gap at which a fit ends. At the optimum the objective is half the sum of the dual
    /// variables.
    fn goal(&self, alpha_total: f64) -> f64 {
        f64::from(self.tolerance) * 0.5 * alpha_total
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
    /// Multipliers of features; `None` takes them as they are.
    pub scaling: Option<&'a BlockScaling>,
}

/// Features of a block that are multiplied by a number of their own for each class.
#[derive(Clone, Debug)]
pub struct BlockScaling {
    /// The squared multiplier of each sparse column. Dense columns stay as they are.
    pub squares: Vec<Lanes>,
    /// The squared length of each of the fitted rows, multiplied and with its dense part.
    pub squared_norms: Vec<Lanes>,
}

/// The weights of a block: one [`Lanes`] per feature as it is read (where features are
/// multiplied, the multiplier is in the weight), and the intercepts.
#[derive(Clone, Debug)]
pub struct BlockWeights {
    pub weights: Vec<Lanes>,
    pub intercepts: Lanes,
    /// The dual variables that make up the weights, by place in the rows.
    pub alphas: Vec<Lanes>,
    /// Passes over all or part of the rows that were made.
    pub passes: usize,
}

/// A row whose violation was below this fraction of the pass's before is passed over
const CALM_FRACTION: f32 = 0.1;
/// for so many passes: it would hardly move, and visits are what a fit costs.
const CALM_PASSES: u8 = 2;

/// Fits a block of classes; `None` when `stop` said so between two passes. `squared_norms` are
/// those of all rows, scales applied.
///
/// Starts at `from` where it is given: the solution of the same rows and targets at another
/// cost, of which few passes lead to this one.
pub fn fit_block(
    features: &FeatureRows<'_>,
    squared_norms: &[f32],
    targets: &BlockTargets<'_>,
    settings: &SvmSettings,
    from: Option<BlockWeights>,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> Option<BlockWeights> {
    let count = targets.rows.len();
    let solution = match from {
        Some(mut from) => {
            rescale(&mut from, targets, settings.cost);
            from
        }
        None => BlockWeights {
            weights: vec![Lanes::ZERO; features.column_count()],
            intercepts: Lanes::ZERO,
            alphas: vec![Lanes::ZERO; count],
            passes: 0,
        },
    };
    let mut state = State {
        alpha_total: solution.alphas.iter().map(|alpha| f64::from(alpha.sum())).sum(),
        solution,
        calm: vec![0; count],
        bound: Lanes::splat(f32::INFINITY),
        violation: 0.0,
        gap: 0.0,
    };
    let mut random = Random::new(seed, 0x73_766d);
    let everything: Vec<u32> = (0..count as u32).collect();
    let mut active = everything.clone();
    let mut passes = 0;
    while passes < settings.max_passes {
        if stop() {
            return None;
        }
        random.shuffle(&mut active);
        let goal = settings.goal(state.alpha_total);
        let visited = dispatch(Pass {
            state: &mut state,
            features,
            squared_norms,
            targets,
            settings,
            // A gradient `g` stands for a gap of `cost · g²`.
            negligible: (goal / f64::from(settings.cost) / (count * LANES) as f64).sqrt() as f32,
            active: &mut active,
        });
        passes += 1;
        if state.gap <= settings.goal(state.alpha_total) {
            if visited == count {
                break;
            }
            active.clone_from(&everything);
            state.calm.fill(0);
            state.bound = Lanes::splat(f32::INFINITY);
        }
    }
    state.solution.passes = passes;
    Some(state.solution)
}

/// Multiplies the variables of each class so that its dual objective is the best for this
/// cost: all of them grow with the cost while it is small, and hardly any where it is large.
fn rescale(solution: &mut BlockWeights, targets: &BlockTargets<'_>, cost: f32) {
    let (mut lengths, mut damped, mut totals) = ([0f64; LANES], [0f64; LANES], [0f64; LANES]);
    let squares = targets.scaling.map_or(&[][..], |scaling| &scaling.squares);
    let plain = std::iter::repeat(&Lanes([1.0; LANES]));
    let weights = solution.weights.iter().chain([&solution.intercepts]);
    for (weights, squares) in weights.zip(squares.iter().chain(plain)) {
        // A feature whose multiplier is zero never got a weight.
        let parts = weights
            .map2(*squares, |weight, square| weight * (weight / square.max(f32::MIN_POSITIVE)));
        lengths.iter_mut().zip(parts.0).for_each(|(length, part)| *length += f64::from(part));
    }
    for (place, alpha) in solution.alphas.iter().enumerate() {
        let diagonal = 0.5 / f64::from(cost * targets.row_weights[place]);
        for lane in 0..LANES {
            let is_positive = targets.positive[place] >> lane & 1 == 1;
            let weight = if is_positive { targets.positive_weights.0[lane] } else { 1.0 };
            let alpha = f64::from(alpha.0[lane]);
            damped[lane] += alpha * alpha * diagonal / f64::from(weight);
            totals[lane] += alpha;
        }
    }
    let mut factors = Lanes::splat(1.0);
    for lane in 0..LANES {
        if totals[lane] > 0.0 {
            factors.0[lane] = (totals[lane] / (lengths[lane] + damped[lane])) as f32;
        }
    }
    let parts = solution.weights.iter_mut().chain(&mut solution.alphas);
    for lanes in parts.chain([&mut solution.intercepts]) {
        *lanes = lanes.map2(factors, |value, factor| value * factor);
    }
}

/// The memory a block's fit holds beside the features, in bytes.
pub fn block_memory_bytes(columns: usize, rows: usize) -> usize {
    (columns + rows) * size_of::<Lanes>() + rows * (2 * size_of::<u32>() + 1)
}

struct State {
    solution: BlockWeights,
    /// The passes for which a row is still passed over, by place in `rows`.
    calm: Vec<u8>,
    /// A row whose gradient at zero is above this leaves the active rows, per class.
    bound: Lanes,
    /// The largest violation that the last pass met.
    violation: f32,
    /// The duality gap of the rows that the last pass visited, each as it was met.
    gap: f64,
    /// The sum of all dual variables.
    alpha_total: f64,
}

/// Visits the active rows that are not calm, in their order, and removes those that no class
/// of the block needs. Returns how many were visited.
struct Pass<'p> {
    state: &'p mut State,
    features: &'p FeatureRows<'p>,
    squared_norms: &'p [f32],
    targets: &'p BlockTargets<'p>,
    settings: &'p SvmSettings,
    /// Violations up to this are left as they are.
    negligible: f32,
    active: &'p mut Vec<u32>,
}

impl Kernel for Pass<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> usize {
        let Self { state, features, squared_norms, targets, settings, negligible, active } = self;
        let lowest = match settings.loss {
            Loss::SquaredHinge => 0.0,
            Loss::Squared => f32::NEG_INFINITY,
        };
        let BlockWeights { weights, intercepts, alphas, .. } = &mut state.solution;
        let dense_start = features.sparse_columns();
        let calm_below = state.violation * CALM_FRACTION;
        let (mut violations, mut gaps) = (Lanes::ZERO, Lanes::ZERO);
        let mut gained = 0f64;
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
            let curvature = match targets.scaling {
                None => Lanes::splat(squared_norms[row] + 1.0),
                Some(scaling) => scaling.squared_norms[place].map(|norm| norm + 1.0),
            };
            let [mut score] = features.sparse_dot::<FUSED, 1>(row, weights, 1, 0);
            if dense_start < weights.len() {
                let dense = features.dense_dot::<FUSED>(row, &weights[dense_start..]);
                score = score.plus(dense);
            }
            score = score.plus(*intercepts);
            let alpha = &mut alphas[place];
            let (mut step, mut violation, mut stays) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
            let mut moved = Lanes::ZERO;
            for lane in 0..LANES {
                let is_positive = positive >> lane & 1 == 1;
                let sign = if is_positive { 1.0 } else { -1.0 };
                let weight = if is_positive { targets.positive_weights.0[lane] } else { 1.0 };
                let damping = diagonal / weight;
                let old = alpha.0[lane];
                let slack = 1.0 - sign * score.0[lane];
                let gradient = damping * old - slack;
                let at_bound = old == lowest;
                let free = old - gradient / (curvature.0[lane] + damping);
                let new = if free > lowest { free } else { lowest };
                let projected = if at_bound && gradient > 0.0 { 0.0 } else { gradient.abs() };
                violation.0[lane] = projected;
                stays.0[lane] = if at_bound && gradient > state.bound.0[lane] { 0.0 } else { 1.0 };
                moved.0[lane] = new - old;
                step.0[lane] = (new - old) * sign;
                // The row's part of the gap: its loss, and what it gives the dual objective
                // less than that.
                let missed = if slack > lowest { slack } else { 0.0 };
                let loss = 0.5 * missed * missed / damping;
                gaps.0[lane] += loss - old * slack + 0.5 * damping * old * old;
            }
            violations = violations.map2(violation, |a, b| if a > b { a } else { b });
            let largest = violation.largest();
            if largest < calm_below {
                state.calm[place] = CALM_PASSES;
            }
            // Too little is not worth writing: the variables stay what the weights say.
            if largest > negligible {
                match targets.scaling {
                    None => features.sparse_add::<FUSED, 1>(row, &[step], weights, 1, 0),
                    Some(scaling) => {
                        features.sparse_add_scaled::<FUSED>(row, step, &scaling.squares, weights);
                    }
                }
                features.dense_add::<FUSED>(row, step, &mut weights[dense_start..]);
                *intercepts = intercepts.plus(step);
                *alpha = alpha.plus(moved);
                gained += f64::from(moved.sum());
            }
            active[kept] = place as u32;
            kept += usize::from(stays.largest() > 0.0);
        }
        active.truncate(kept);
        state.bound = violations;
        state.violation = violations.largest();
        state.gap = f64::from(gaps.sum());
        state.alpha_total += gained;
        visited
    }
}
