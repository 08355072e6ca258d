//! Learners: from rows and right answers to a head.

mod dense;
mod lanes;
mod row_problem;
mod rows;
mod softmax;
mod svm;

use std::time::Duration;

use corral_classifier::{Head, HeadBuilder, HeadError, LinearHead, Precision};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use rows::{DenseView, FeatureRows, SparseView};
pub use softmax::{SoftmaxSettings, SoftmaxTargets, SoftmaxWeights, fit as fit_softmax};
pub use svm::{BlockTargets, BlockWeights, SvmSettings, fit_block as fit_svm_block};

pub use lanes::{LANES, Lanes};
use rows::blocks_for;

use crate::clock::ThreadCpuClock;
use crate::targets::Targets;

/// A learner with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LearnerSettings {
    /// One-vs-rest support vector machines with squared hinge loss; `cost` is LIBLINEAR's C.
    LinearSvm { cost: f32 },
    /// Multinomial logistic regression; `cost` is scikit-learn's C.
    Softmax { cost: f32 },
}

/// What a learner is to fit.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    pub features: FeatureRows<'a>,
    /// Of all rows, scales applied.
    pub squared_norms: &'a [f32],
    /// The rows to fit on, none of them without weight.
    pub rows: &'a [u32],
    pub class_count: usize,
    /// Of all rows.
    pub targets: &'a Targets,
    /// Of all rows.
    pub row_weights: &'a [f32],
    /// What an example of each class counts; 1 is usual.
    pub class_weights: &'a [f32],
    pub seed: u64,
    /// Asked between passes whether to give up.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// A head and what it took.
#[derive(Debug)]
pub struct Fitted {
    pub head: Head<'static>,
    pub cpu: Duration,
    /// Passes over the rows, of the class block that took most.
    pub passes: usize,
}

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

impl LearnerSettings {
    /// The word by which reports name the learner.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LinearSvm { .. } => "linear_svm",
            Self::Softmax { .. } => "softmax",
        }
    }

    pub const fn cost(&self) -> f32 {
        match *self {
            Self::LinearSvm { cost } | Self::Softmax { cost } => cost,
        }
    }

    /// Fits the problem; `Ok(None)` when it was stopped.
    ///
    /// The result is the same for any number of threads: classes are fitted in blocks that
    /// do not depend on it.
    pub fn fit(
        &self,
        problem: &Problem<'_>,
        budget: HeadBudget,
    ) -> Result<Option<Fitted>, HeadError> {
        match *self {
            Self::LinearSvm { cost } => fit_svm(problem, &SvmSettings::with_cost(cost), budget),
            Self::Softmax { cost } => {
                fit_regression(problem, &SoftmaxSettings::with_cost(cost), budget)
            }
        }
    }

    /// The memory a fit holds beside features and targets, in bytes.
    pub fn memory_bytes(
        &self,
        columns: usize,
        rows: usize,
        classes: usize,
        threads: usize,
    ) -> usize {
        let weights = columns * blocks_for(classes) * size_of::<Lanes>();
        match self {
            Self::LinearSvm { .. } => weights + threads * svm::block_memory_bytes(columns, rows),
            Self::Softmax { .. } => softmax::memory_bytes(columns, rows, classes),
        }
    }
}

fn fit_svm(
    problem: &Problem<'_>,
    settings: &SvmSettings,
    budget: HeadBudget,
) -> Result<Option<Fitted>, HeadError> {
    let row_weights: Vec<f32> =
        problem.rows.iter().map(|&row| problem.row_weights[row as usize]).collect();
    let fitted: Option<Vec<(BlockWeights, Duration)>> = (0..blocks_for(problem.class_count))
        .into_par_iter()
        .map(|block| {
            let clock = ThreadCpuClock::start();
            let first = (block * LANES) as u32;
            let positive: Vec<u16> = problem
                .rows
                .iter()
                .map(|&row| {
                    let right = problem.targets.right(row as usize);
                    right
                        .filter(|class| (first..first + LANES as u32).contains(class))
                        .fold(0, |bits, class| bits | 1 << (class - first))
                })
                .collect();
            let mut positive_weights = Lanes::splat(1.0);
            let within = problem.class_weights.len().min(block * LANES + LANES) - block * LANES;
            positive_weights.0[..within]
                .copy_from_slice(&problem.class_weights[block * LANES..][..within]);
            let targets = BlockTargets {
                rows: problem.rows,
                positive: &positive,
                row_weights: &row_weights,
                positive_weights,
            };
            let seed = problem.seed ^ (block as u64) << 32;
            let weights = fit_svm_block(
                &problem.features,
                problem.squared_norms,
                &targets,
                settings,
                seed,
                problem.stop,
            )?;
            Some((weights, clock.elapsed()))
        })
        .collect();
    let Some(fitted) = fitted else { return Ok(None) };
    let clock = ThreadCpuClock::start();
    let column = |column: usize, out: &mut Vec<f32>| {
        out.clear();
        out.extend(fitted.iter().flat_map(|(block, _)| block.weights[column].0));
        out.truncate(problem.class_count);
    };
    let mut bias: Vec<f32> = fitted.iter().flat_map(|(block, _)| block.intercepts.0).collect();
    bias.truncate(problem.class_count);
    let head = build_head(problem.features.column_count(), bias, budget, column)?;
    let cpu = fitted.iter().map(|(_, cpu)| *cpu).sum::<Duration>() + clock.elapsed();
    let passes = fitted.iter().map(|(block, _)| block.passes).max().unwrap_or(0);
    Ok(Some(Fitted { head: head.into(), cpu, passes }))
}

fn fit_regression(
    problem: &Problem<'_>,
    settings: &SoftmaxSettings,
    budget: HeadBudget,
) -> Result<Option<Fitted>, HeadError> {
    let clock = ThreadCpuClock::start();
    let (mut offsets, mut classes, mut shares) = (vec![0u32], Vec::new(), Vec::new());
    let mut row_weights = Vec::with_capacity(problem.rows.len());
    for &row in problem.rows {
        let (row_classes, row_shares) = problem.targets.row(row as usize);
        classes.extend_from_slice(row_classes);
        shares.extend_from_slice(row_shares);
        offsets.push(classes.len() as u32);
        let class_weight: f32 = row_classes
            .iter()
            .zip(row_shares)
            .map(|(&class, &share)| share * problem.class_weights[class as usize])
            .sum();
        row_weights.push(problem.row_weights[row as usize] * class_weight);
    }
    let targets = SoftmaxTargets {
        class_count: problem.class_count,
        rows: problem.rows,
        offsets: &offsets,
        classes: &classes,
        shares: &shares,
        row_weights: &row_weights,
    };
    let fitted = fit_softmax(
        &problem.features,
        problem.squared_norms,
        &targets,
        settings,
        problem.seed,
        problem.stop,
    );
    let Some(fitted) = fitted else { return Ok(None) };
    let (sparse_columns, width) =
        (problem.features.sparse_columns(), problem.features.dense_columns());
    let column = |column: usize, out: &mut Vec<f32>| {
        out.clear();
        match column.checked_sub(sparse_columns) {
            None => out.extend(
                fitted.sparse[column * fitted.blocks..][..fitted.blocks]
                    .iter()
                    .flat_map(|lanes| lanes.0),
            ),
            Some(dense) => out
                .extend((0..fitted.blocks).flat_map(|block| fitted.dense[block * width + dense].0)),
        }
        out.truncate(problem.class_count);
    };
    let mut bias: Vec<f32> = fitted.intercepts.iter().flat_map(|lanes| lanes.0).collect();
    bias.truncate(problem.class_count);
    let head = build_head(problem.features.column_count(), bias, budget, column)?;
    Ok(Some(Fitted { head: head.into(), cpu: clock.elapsed(), passes: fitted.passes }))
}

/// A head as precise as the budget allows. `column` writes the weights of a column, one a class.
fn build_head(
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
