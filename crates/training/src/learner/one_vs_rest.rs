//! Linear machines for all classes of a problem, block by block.

use std::time::Duration;

use corral_classifier::{HeadError, LinearHead};
use rayon::prelude::*;

use super::count_ratios::{RatioSettings, count_rows, log_ratios, mean_size, scaling};
use super::lanes::{LANES, Lanes};
use super::linear_head::build_head;
use super::rows::blocks_for;
use super::svm::{BlockScaling, BlockTargets, BlockWeights, SvmSettings, fit_block};
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;

/// What the machines of a block read beside its features.
struct Block {
    positive: Vec<u16>,
    /// Log-count ratios of the sparse columns, and the scaling they make.
    ratios: Option<(Vec<Lanes>, BlockScaling)>,
}

/// Fits one machine per class for each of several settings, each from where the one before
/// ended, and hands them to `take`. Ends early when the problem's `stop` says so.
pub fn fit_path(
    problem: &Problem<'_>,
    path: &[SvmSettings],
    ratios: Option<RatioSettings>,
    budget: HeadBudget,
    take: &mut dyn FnMut(Fitted),
) -> Result<(), HeadError> {
    let (blocks, mut prepared) = blocks(problem, ratios);
    let mut solutions: Vec<Option<BlockWeights>> = vec![None; blocks.len()];
    for settings in path {
        let Some((fitted, cpu)) = solve(problem, &blocks, settings, solutions) else {
            return Ok(());
        };
        let clock = ThreadCpuClock::start();
        let head = match ratios {
            None => head_of(problem, &fitted, budget, |_, _, weights| weights)?,
            Some(RatioSettings { interpolation, .. }) => {
                let of = |index: usize| blocks[index].ratios.as_ref().map(|(ratios, _)| ratios);
                let sizes: Vec<Lanes> = (fitted.iter().enumerate())
                    .map(|(index, block)| {
                        of(index).map_or(Lanes::ZERO, |ratios| mean_size(&block.weights, ratios))
                    })
                    .collect();
                head_of(problem, &fitted, budget, |index, column, weights| {
                    let Some(ratios) = of(index).and_then(|ratios| ratios.get(column)) else {
                        return weights;
                    };
                    let common = ratios.map2(sizes[index], |ratio, size| ratio * size);
                    common.scaled(1.0 - interpolation).plus(weights.scaled(interpolation))
                })?
            }
        };
        let cpu = cpu + clock.elapsed() + std::mem::take(&mut prepared);
        let passes = fitted.iter().map(|block| block.passes).max().unwrap_or(0);
        take(Fitted { head: head.into(), cpu, passes });
        solutions = fitted.into_iter().map(Some).collect();
    }
    Ok(())
}

/// Fits one machine per class and gives their weights by block, and the CPU time it took;
/// `None` when the problem's `stop` said so.
pub fn fit_weights(
    problem: &Problem<'_>,
    settings: &SvmSettings,
) -> Option<(Vec<BlockWeights>, Duration)> {
    let (blocks, prepared) = blocks(problem, None);
    let (fitted, cpu) = solve(problem, &blocks, settings, vec![None; blocks.len()])?;
    Some((fitted, prepared + cpu))
}

fn solve(
    problem: &Problem<'_>,
    blocks: &[Block],
    settings: &SvmSettings,
    from: Vec<Option<BlockWeights>>,
) -> Option<(Vec<BlockWeights>, Duration)> {
    let row_weights: Vec<f32> =
        problem.rows.iter().map(|&row| problem.row_weights[row as usize]).collect();
    let fitted: Option<Vec<(BlockWeights, Duration)>> = from
        .into_par_iter()
        .zip(blocks)
        .enumerate()
        .map(|(index, (from, block))| {
            let clock = ThreadCpuClock::start();
            let targets = BlockTargets {
                rows: problem.rows,
                positive: &block.positive,
                row_weights: &row_weights,
                positive_weights: class_weights(problem, index),
                scaling: block.ratios.as_ref().map(|(_, scaling)| scaling),
            };
            let weights = fit_block(
                &problem.features,
                problem.squared_norms,
                &targets,
                settings,
                from,
                problem.seed ^ (index as u64) << 32,
                problem.stop,
            )?;
            Some((weights, clock.elapsed()))
        })
        .collect();
    let (fitted, times): (Vec<BlockWeights>, Vec<Duration>) = fitted?.into_iter().unzip();
    Some((fitted, times.iter().sum()))
}

/// What all machines of a path share, and the CPU time it took.
fn blocks(problem: &Problem<'_>, ratios: Option<RatioSettings>) -> (Vec<Block>, Duration) {
    let clock = ThreadCpuClock::start();
    let totals = ratios.map(|settings| (count_rows(problem), settings.smoothing));
    let counted = clock.elapsed();
    let (blocks, times): (Vec<Block>, Vec<Duration>) = (0..blocks_for(problem.class_count))
        .into_par_iter()
        .map(|index| {
            let clock = ThreadCpuClock::start();
            let positive = positive_rows(problem, index);
            let ratios = totals.as_ref().map(|(totals, smoothing)| {
                let ratios = log_ratios(problem, &positive, totals, *smoothing);
                let scaling = scaling(problem, &ratios);
                (ratios, scaling)
            });
            (Block { positive, ratios }, clock.elapsed())
        })
        .unzip();
    (blocks, counted + times.iter().sum())
}

/// The machines' head. `finish` gets a block's number, a column and its weights.
fn head_of(
    problem: &Problem<'_>,
    fitted: &[BlockWeights],
    budget: HeadBudget,
    finish: impl Fn(usize, usize, Lanes) -> Lanes,
) -> Result<LinearHead<'static>, HeadError> {
    let column = |column: usize, out: &mut Vec<f32>| {
        out.clear();
        for (index, block) in fitted.iter().enumerate() {
            out.extend_from_slice(&finish(index, column, block.weights[column]).0);
        }
        out.truncate(problem.class_count);
    };
    let mut bias: Vec<f32> = fitted.iter().flat_map(|block| block.intercepts.0).collect();
    bias.truncate(problem.class_count);
    build_head(problem.features.column_count(), bias, budget, column)
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
