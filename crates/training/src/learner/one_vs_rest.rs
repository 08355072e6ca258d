//! Support vector machines for all classes of a problem, block by block.

use std::time::Duration;

use corral_classifier::HeadError;
use rayon::prelude::*;

use super::lanes::{LANES, Lanes};
use super::linear_head::build_head;
use super::rows::blocks_for;
use super::svm::{BlockTargets, BlockWeights, SvmSettings, fit_block};
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;

/// Fits one machine per class for each of several settings, each from where the one before
/// ended, and hands them to `take`. Ends early when the problem's `stop` says so.
pub fn fit_path(
    problem: &Problem<'_>,
    path: &[SvmSettings],
    budget: HeadBudget,
    take: &mut dyn FnMut(Fitted),
) -> Result<(), HeadError> {
    let row_weights: Vec<f32> =
        problem.rows.iter().map(|&row| problem.row_weights[row as usize]).collect();
    let positive: Vec<Vec<u16>> = (0..blocks_for(problem.class_count))
        .into_par_iter()
        .map(|block| positive_rows(problem, block))
        .collect();
    let mut solutions: Vec<Option<BlockWeights>> = vec![None; positive.len()];
    for settings in path {
        let fitted: Option<Vec<(BlockWeights, Duration)>> = solutions
            .into_par_iter()
            .enumerate()
            .map(|(block, from)| {
                let clock = ThreadCpuClock::start();
                let targets = BlockTargets {
                    rows: problem.rows,
                    positive: &positive[block],
                    row_weights: &row_weights,
                    positive_weights: class_weights(problem, block),
                };
                let weights = fit_block(
                    &problem.features,
                    problem.squared_norms,
                    &targets,
                    settings,
                    from,
                    problem.seed ^ (block as u64) << 32,
                    problem.stop,
                )?;
                Some((weights, clock.elapsed()))
            })
            .collect();
        let Some(fitted) = fitted else { return Ok(()) };
        let clock = ThreadCpuClock::start();
        let column = |column: usize, out: &mut Vec<f32>| {
            out.clear();
            fitted.iter().for_each(|(block, _)| out.extend_from_slice(&block.weights[column].0));
            out.truncate(problem.class_count);
        };
        let mut bias: Vec<f32> = fitted.iter().flat_map(|(block, _)| block.intercepts.0).collect();
        bias.truncate(problem.class_count);
        let head = build_head(problem.features.column_count(), bias, budget, column)?;
        let cpu = fitted.iter().map(|(_, cpu)| *cpu).sum::<Duration>() + clock.elapsed();
        let passes = fitted.iter().map(|(block, _)| block.passes).max().unwrap_or(0);
        take(Fitted { head: head.into(), cpu, passes });
        solutions = fitted.into_iter().map(|(block, _)| Some(block)).collect();
    }
    Ok(())
}

/// For each of the problem's rows, which classes of a block it is an example of, as bits.
fn positive_rows(problem: &Problem<'_>, block: usize) -> Vec<u16> {
    let first = (block * LANES) as u32;
    let within = first..first + LANES as u32;
    let bits = |&row: &u32| {
        let right = problem.targets.right(row as usize).filter(|class| within.contains(class));
        right.fold(0, |bits, class| bits | 1 << (class - first))
    };
    problem.rows.iter().map(bits).collect()
}

fn class_weights(problem: &Problem<'_>, block: usize) -> Lanes {
    let mut weights = Lanes::splat(1.0);
    let of_block = problem.class_weights.iter().skip(block * LANES).take(LANES);
    weights.0.iter_mut().zip(of_block).for_each(|(weight, &given)| *weight = given);
    weights
}
