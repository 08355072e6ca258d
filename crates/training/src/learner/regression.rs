//! Multinomial regression of a problem's classes.

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
    let mut from = None;
    for settings in path {
        let clock = ThreadCpuClock::start();
        let fitted = softmax::fit(
            &problem.features,
            problem.squared_norms,
            &targets,
            settings,
            from,
            problem.seed,
            problem.stop,
        );
        let Some(fitted) = fitted else { return Ok(()) };
        let head = head_of(problem, &fitted, budget)?;
        take(Fitted { head: head.into(), cpu: clock.elapsed(), passes: fitted.passes });
        from = Some(fitted);
    }
    Ok(())
}

fn head_of(
    problem: &Problem<'_>,
    fitted: &SoftmaxWeights,
    budget: HeadBudget,
) -> Result<LinearHead<'static>, HeadError> {
    let (sparse_columns, width) =
        (problem.features.sparse_columns(), problem.features.dense_columns());
    let blocks = fitted.blocks;
    let column = |column: usize, out: &mut Vec<f32>| {
        out.clear();
        match column.checked_sub(sparse_columns) {
            None => fitted.sparse[column * blocks..][..blocks]
                .iter()
                .for_each(|lanes| out.extend_from_slice(&lanes.0)),
            Some(dense) => (0..blocks)
                .for_each(|block| out.extend_from_slice(&fitted.dense[block * width + dense].0)),
        }
        out.truncate(problem.class_count);
    };
    let mut bias: Vec<f32> = fitted.intercepts.iter().flat_map(|lanes| lanes.0).collect();
    bias.truncate(problem.class_count);
    build_head(problem.features.column_count(), bias, budget, column)
}
