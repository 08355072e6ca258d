//! One row's part of a multinomial regression in the dual.
//!
//! With all other rows standing still, the best variables of a row solve
//! `q α_k + log α_k = goal_k − λ` with `Σ α_k = cost`, where `q` is the row's squared length.
//! Variables are kept as logarithms: they are positive by construction, and those of classes
//! out of the question do not vanish.

use super::lanes::{LANES, Lanes, exp};
use super::rows::blocks_for;

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
/// The smallest logarithm kept; `exp` of it is nothing.
const LEAST_LOG: f32 = -60.0;

/// What the visit of one row works with, by block of classes.
pub struct RowProblem {
    /// One where a lane is a class, zero where it fills up the last block.
    pub used: Vec<Lanes>,
    pub scores: Vec<Lanes>,
    /// The dual variables as they are counted in the weights.
    before: Vec<Lanes>,
    /// The right side of the row's problem.
    goal: Vec<Lanes>,
    /// Logarithms of the variables, as they move.
    pub logs: Vec<Lanes>,
}

impl RowProblem {
    pub fn new(class_count: usize) -> Self {
        let blocks = blocks_for(class_count);
        let empty = || vec![Lanes::ZERO; blocks];
        let mut used = vec![Lanes::ZERO; blocks];
        for class in 0..class_count {
            used[class / LANES].0[class % LANES] = 1.0;
        }
        Self { used, scores: empty(), before: empty(), goal: empty(), logs: empty() }
    }

    #[inline(always)]
    pub fn log_sum_exp<const FUSED: bool>(&self) -> f32 {
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
    pub fn begin(&mut self, cost: f32, classes: &[u32], shares: &[f32]) {
        self.before.fill(Lanes::ZERO);
        for (&class, &share) in classes.iter().zip(shares) {
            self.before[class as usize / LANES].0[class as usize % LANES] = cost * share;
        }
    }

    /// Takes up the variables of the last visit. Returns the row's part of the duality gap.
    #[inline(always)]
    pub fn resume<const FUSED: bool>(&mut self, kept: &[Lanes], log_total: f32) -> f32 {
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
    pub fn aim(&mut self, curvature: f32) {
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
    pub fn newton_step<const FUSED: bool>(&mut self, curvature: f32, log_cost: f32) -> bool {
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
    pub fn solve_from_afar<const FUSED: bool>(&mut self, curvature: f32, cost: f32) {
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
    pub fn back_to_sum<const FUSED: bool>(&mut self, log_cost: f32) -> f32 {
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
    pub fn change<const FUSED: bool, const BLOCKS: usize>(
        &self,
        first: usize,
        last: usize,
    ) -> ([Lanes; BLOCKS], f32) {
        let mut step = [Lanes::ZERO; BLOCKS];
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

/// A logarithm, but not below the smallest that is kept.
#[inline(always)]
pub fn at_least(log: f32) -> f32 {
    if log > LEAST_LOG { log } else { LEAST_LOG }
}
