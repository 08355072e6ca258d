//! How far each tier of a local model is to be trusted.
//!
//! Machines know nothing of probabilities, and regression is surer of the rows it was fitted on
//! than of others, so each tier's scores are multiplied by a number: that by which rows that
//! a fit left out are likeliest in that tier. Both are then shrunk together as far as it makes
//! these rows likelier under one more temperature, the sharpness. That weakens the first tier: a child that
//! stands out from its siblings can then outweigh a parent that was missed. Where classes are
//! told apart well it gains (CLINC150 by embeddings: a point), elsewhere nothing is shrunk.

use corral_classifier::DenseRows;
use corral_classifier::head::{Siblings, join_tiers};
use rayon::prelude::*;

use super::Tiers;
use crate::calibrate::fit_temperature;
use crate::learner::Problem;
use crate::parents::Parents;
use crate::random::Random;
use crate::targets::Targets;

/// What the scores of the tiers are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    pub parents: f32,
    pub children: f32,
    /// Multiplies the logarithms of both tiers' probabilities together.
    pub sharpness: f32,
}

/// The share of rows left out, and about how many at most: three numbers are found by them.
const LARGEST_SHARE: f64 = 0.25;
pub const MOST_HELD_OUT: f64 = 2_000.0;
/// Marks the random numbers by which they are drawn.
const HELD_OUT_STREAM: u64 = 0x6865_6c64_0000_0000;
/// With fewer rows than this, there are too few to leave any out.
const LEAST_ROWS: usize = 40;
/// What both scales are multiplied by, where it helps.
const SHRINKAGES: [f32; 5] = [1.0, 0.5, 0.25, 0.125, 0.0625];

/// Rows to fit on and rows to leave out, drawn by seed; none of these where there are few.
pub fn hold_out(rows: &[u32], seed: u64) -> (Vec<u32>, Vec<u32>) {
    if rows.len() < LEAST_ROWS {
        return (rows.to_vec(), Vec::new());
    }
    let share = LARGEST_SHARE.min(MOST_HELD_OUT / rows.len() as f64);
    rows.iter()
        .partition(|&&row| Random::new(seed, HELD_OUT_STREAM + u64::from(row)).unit() >= share)
}

impl Scales {
    pub const NONE: Self = Self { parents: 1.0, children: 1.0, sharpness: 1.0 };

    /// The scales for tiers that were fitted without the rows held out.
    pub fn fit(
        problem: &Problem<'_>,
        parents: &Parents,
        tiers: &Tiers,
        parent_targets: &Targets,
        held_out: &[u32],
    ) -> Self {
        let (upper, lower) = tiers.scores(problem, parents, held_out);
        let weights = problem.row_weights;
        let slices: Vec<&[f32]> = upper.iter().collect();
        let of_parents = fit_temperature(&slices, held_out, parent_targets, weights).recip();
        let of_children = child_scale(problem, parents, parent_targets, held_out, &lower);
        let parent_of = parents.of_classes();
        let joined = |shrinkage: f32| {
            let scales = [of_parents, of_children].map(|scale| scale * shrinkage);
            let scores = joined(&upper, &lower, &parent_of, scales);
            let slices: Vec<&[f32]> = scores.iter().collect();
            let temperature = fit_temperature(&slices, held_out, problem.targets, weights);
            let [parents, children] = scales;
            let scales = Self { parents, children, sharpness: temperature.recip() };
            (log_loss(problem, held_out, &slices, temperature), scales)
        };
        let tried: Vec<(f64, Self)> = SHRINKAGES.into_iter().map(joined).collect();
        let best = tried.into_iter().reduce(|best, next| if next.0 < best.0 { next } else { best });
        best.map_or(Self::NONE, |(_, scales)| scales)
    }
}

/// The scale by which the right children are likeliest among their siblings.
fn child_scale(
    problem: &Problem<'_>,
    parents: &Parents,
    parent_targets: &Targets,
    held_out: &[u32],
    lower: &DenseRows,
) -> f32 {
    let (mut scores, mut targets, mut weights) = (Vec::new(), Targets::new(), Vec::new());
    for (&row, of_row) in held_out.iter().zip(lower.iter()) {
        let row = row as usize;
        for &parent in parent_targets.row(row).0 {
            let children = parents.children(parent);
            if children.len() < 2 {
                continue;
            }
            let (classes, shares) = problem.targets.row(row);
            let mut right: Vec<(u32, f32)> = classes
                .iter()
                .zip(shares)
                .filter_map(|(class, &share)| {
                    Some((children.binary_search(class).ok()? as u32, share))
                })
                .collect();
            targets.push(&mut right);
            let siblings = children.iter().map(|&class| of_row[class as usize]);
            scores.push(siblings.collect::<Vec<f32>>());
            weights.push(problem.row_weights[row]);
        }
    }
    let slices: Vec<&[f32]> = scores.iter().map(Vec::as_slice).collect();
    let rows: Vec<u32> = (0..slices.len() as u32).collect();
    fit_temperature(&slices, &rows, &targets, &weights).recip()
}

/// Logarithms of probabilities of all classes, for each row, with the tiers' scores times
/// `scales`.
fn joined(upper: &DenseRows, lower: &DenseRows, parent_of: &[u16], scales: [f32; 2]) -> DenseRows {
    let mut scores = lower.clone();
    scores.values_mut().par_chunks_mut(parent_of.len()).enumerate().for_each_init(
        <(Vec<f32>, Vec<Siblings>)>::default,
        |(parents, siblings), (row, scores)| {
            parents.clear();
            parents.extend(upper.row(row).iter().map(|score| score * scales[0]));
            scores.iter_mut().for_each(|score| *score *= scales[1]);
            join_tiers(parents, scores, parent_of, siblings);
        },
    );
    scores
}

/// What is lacking to certainty of the right classes, on average.
fn log_loss(problem: &Problem<'_>, rows: &[u32], scores: &[&[f32]], temperature: f32) -> f64 {
    let inverse = f64::from(temperature).recip();
    let losses: Vec<(f64, f64)> = scores
        .par_iter()
        .zip(rows)
        .map(|(scores, &row)| {
            let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let raised = |score: f32| (f64::from(score - highest) * inverse).exp();
            let total: f64 = scores.iter().map(|&score| raised(score)).sum();
            let right = problem.targets.right(row as usize);
            let right: f64 = right.map(|class| raised(scores[class as usize])).sum();
            let weight = f64::from(problem.row_weights[row as usize]);
            (weight * (total / right.max(f64::MIN_POSITIVE)).ln(), weight)
        })
        .collect();
    let (loss, weight) =
        losses.iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    loss / weight
}
