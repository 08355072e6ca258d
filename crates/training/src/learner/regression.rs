//! Multinomial regression of a problem's classes.

use std::time::Duration;

use corral_classifier::{HeadError, LinearHead};

use super::linear_head::build_head;
use super::softmax::{self, SoftmaxSettings, SoftmaxTargets, SoftmaxWeights};
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;

/// Fits all classes together for each of several settings, each from where the one before
/// ended, and hands them to `take`. Ends early when the problem's `stop` says so.
pub fn fit_path(
    problem: &Problem<'_>,
    path: &[SoftmaxSettings],
    budget: HeadBudget,
    take: &mut dyn FnMut(Fitted),
) -> Result<(), HeadError> {
    let labels = Labels::of(problem);
    let mut from = None;
    for settings in path {
        let clock = ThreadCpuClock::start();
        let Some(fitted) = labels.fit(problem, settings, from) else { return Ok(()) };
        let head = head_of(problem, &fitted, budget)?;
        take(Fitted { head: head.into(), cpu: clock.elapsed(), passes: fitted.passes });
        from = Some(fitted);
    }
    Ok(())
}

/// Fits all classes together and gives their weights, and the CPU time it took; `None` when
/// the problem's `stop` said so.
pub fn fit_weights(
    problem: &Problem<'_>,
    settings: &SoftmaxSettings,
) -> Option<(SoftmaxWeights, Duration)> {
    let clock = ThreadCpuClock::start();
    let fitted = Labels::of(problem).fit(problem, settings, None)?;
    Some((fitted, clock.elapsed()))
}

/// The target distributions of a problem's rows, as [`SoftmaxTargets`] has them.
struct Labels {
    offsets: Vec<u32>,
    classes: Vec<u32>,
    shares: Vec<f32>,
    row_weights: Vec<f32>,
}

impl Labels {
    fn of(problem: &Problem<'_>) -> Self {
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
        Self { offsets, classes, shares, row_weights }
    }

    fn fit(
        &self,
        problem: &Problem<'_>,
        settings: &SoftmaxSettings,
        from: Option<SoftmaxWeights>,
    ) -> Option<SoftmaxWeights> {
        let targets = SoftmaxTargets {
            class_count: problem.class_count,
            rows: problem.rows,
            offsets: &self.offsets,
            classes: &self.classes,
            shares: &self.shares,
            row_weights: &self.row_weights,
        };
        softmax::fit(
            &problem.features,
            problem.squared_norms,
            &targets,
            settings,
            from,
            problem.seed,
            problem.stop,
        )
    }
}

/// Appends the weights of a column, those that fill up the last block included.
pub fn extend_column(
    problem: &Problem<'_>,
    fitted: &SoftmaxWeights,
    column: usize,
    out: &mut Vec<f32>,
) {
    let (blocks, width) = (fitted.blocks, problem.features.dense_columns());
    match column.checked_sub(problem.features.sparse_columns()) {
        None => fitted.sparse[column * blocks..][..blocks]
            .iter()
            .for_each(|lanes| out.extend_from_slice(&lanes.0)),
        Some(dense) => (0..blocks)
            .for_each(|block| out.extend_from_slice(&fitted.dense[block * width + dense].0)),
    }
}

fn head_of(
    problem: &Problem<'_>,
    fitted: &SoftmaxWeights,
    budget: HeadBudget,
) -> Result<LinearHead<'static>, HeadError> {
    let column = |column: usize, out: &mut Vec<f32>| {
        out.clear();
        extend_column(problem, fitted, column, out);
        out.truncate(problem.class_count);
    };
    let mut bias: Vec<f32> = fitted.intercepts.iter().flat_map(|lanes| lanes.0).collect();
    bias.truncate(problem.class_count);
    build_head(problem.features.column_count(), bias, budget, column)
}
