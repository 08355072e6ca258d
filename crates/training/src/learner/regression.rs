//! Multinomial regression of a problem's classes.

use corral_classifier::HeadError;

use super::linear_head::build_head;
use super::softmax::{self, SoftmaxSettings, SoftmaxTargets};
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;

/// Fits all classes together; `Ok(None)` when stopped.
pub fn fit(
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
    let fitted = softmax::fit(
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
