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

/// Fits one machine per class; `Ok(None)` when stopped.
pub fn fit(
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
            let weights = fit_block(
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
