//! What is made of the members of a multi-label task: a calibration of each output as a whole,
//! and the probability from which on its class is predicted.
//!
//! The mean of calibrated probabilities is less sure than it could be, the more so the less
//! members agree. So the log-odds that members give an output all pass through one map,
//! `slope · z + offset`, fitted so that the mean of what they then say has the least log-loss on
//! the rows that folds held out. The map becomes a part of the members' own calibrations, and a
//! model file needs nothing new for it.

use corral_classifier::calibration::sigmoid;
use corral_classifier::{Calibration, ModelSpec};
use rayon::prelude::*;

use crate::ensemble::LEAST_GAIN;
use crate::metrics::{
    Answers, Decisions, DetailedEvaluation, MULTI_LABEL_THRESHOLD, RankedRows, evaluate_multi_label,
};
use crate::trial::Workbench;

/// What an ensemble predicts on held-out rows, and how.
pub struct Joined {
    /// Calibrated, of every scored row.
    pub held_out: RankedRows,
    /// By decisions that did not know the row.
    pub cv: DetailedEvaluation,
    /// One map an output; `None` where members are used as they are.
    maps: Option<Vec<OutputMap>>,
    /// One an output; `None` where the common threshold is as good.
    thresholds: Option<Vec<f32>>,
}

/// What the log-odds of an output pass through.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OutputMap {
    slope: f64,
    offset: f64,
}

/// Log-odds to be mapped at most, over rows, outputs and members: some seconds. Beyond, members
/// are used as they are, each calibrated by itself.
const MOST_MAPPED_VALUES: usize = 1 << 26;
/// Keeps log-odds finite.
const LEAST_PROBABILITY: f32 = 1e-7;
/// Thresholds beyond say always or never.
const THRESHOLD_RANGE: (f32, f32) = (0.05, 0.95);
/// Rows of a class from which a threshold of its own can be told from chance.
const LEAST_RIGHT_ROWS: usize = 8;
/// Common thresholds below one half that a selection looks at.
const LOWER_THRESHOLDS: [f32; 3] = [0.4, 0.3, 0.25];
/// Rows mixed by one task.
const ROWS_PER_TASK: usize = 256;

/// Joins members, each with its held-out predictions and its weight.
pub fn join(bench: &Workbench<'_>, members: &[(&RankedRows, f32)]) -> Joined {
    let answers = bench.prepared.answers();
    let (rows, outputs) = (bench.prepared.scored, bench.prepared.outputs.len());
    let is_mapped = members.len() > 1 && rows * outputs * members.len() <= MOST_MAPPED_VALUES;
    let maps: Option<Vec<OutputMap>> = is_mapped.then(|| {
        (0..outputs as u32)
            .into_par_iter()
            .map(|output| fit_map(members, output, answers))
            .collect()
    });
    let held_out = match &maps {
        Some(maps) => mix(members, maps),
        None => RankedRows::mix(members),
    };
    let all: Vec<u32> = (0..rows as u32).collect();
    let of_row = &bench.folds.of_row;
    let without_fold: Vec<Vec<f32>> = (0..bench.folds.count)
        .map(|fold| {
            let known = |row: usize| usize::from(of_row[row]) != fold;
            fit_thresholds(&held_out, answers, outputs, &known)
        })
        .collect();
    let evaluate = |decisions| evaluate_multi_label(&held_out, &all, answers, decisions);
    let even = evaluate(Decisions::Even);
    let chosen = evaluate(Decisions::ByRow { thresholds: &without_fold, of_row });
    let goodness = |found: &DetailedEvaluation| bench.metric.goodness(&found.summary);
    let gains = goodness(&chosen) >= goodness(&even) + LEAST_GAIN;
    let thresholds = gains.then(|| fit_thresholds(&held_out, answers, outputs, &|_| true));
    Joined { cv: if gains { chosen } else { even }, held_out, maps, thresholds }
}

/// Evaluates predictions from the common threshold on that suits them best. A mean of
/// probabilities is less sure of rare classes than its members: judged from one half on it would
/// look worse than it is once it is calibrated.
pub fn at_best_threshold(bench: &Workbench<'_>, ranked: &RankedRows) -> DetailedEvaluation {
    let rows: Vec<u32> = (0..ranked.len() as u32).collect();
    let outputs = bench.prepared.outputs.len();
    let evaluate = |threshold: f32| {
        let thresholds = vec![threshold; outputs];
        let decisions = Decisions::PerOutput(&thresholds);
        evaluate_multi_label(ranked, &rows, bench.prepared.answers(), decisions)
    };
    let goodness = |found: &DetailedEvaluation| bench.metric.goodness(&found.summary);
    let first = evaluate(MULTI_LABEL_THRESHOLD);
    LOWER_THRESHOLDS
        .into_iter()
        .map(evaluate)
        .fold(first, |best, next| if goodness(&next) > goodness(&best) { next } else { best })
}

/// The memory that joining takes beside the predictions of trials, in bytes: the columns of one
/// output on each thread, and the ensemble's predictions.
pub const fn memory_bytes(rows: usize, outputs: usize, members: usize, threads: usize) -> usize {
    let column = rows * (members * size_of::<f32>() + size_of::<(f32, bool, f64)>());
    threads * column + RankedRows::bytes_for(rows, outputs)
}

impl Joined {
    /// Puts maps and thresholds into the model, whose members are those joined.
    pub fn put_into(&self, spec: &mut ModelSpec) {
        spec.thresholds.per_output.clone_from(&self.thresholds);
        let Some(maps) = &self.maps else { return };
        for member in &mut spec.members {
            let Calibration::PerOutput { slopes, offsets } = &mut member.calibration else {
                unreachable!("members of a multi-label task are calibrated by output")
            };
            let of_outputs = slopes.to_mut().iter_mut().zip(offsets.to_mut());
            for ((slope, offset), map) in of_outputs.zip(maps) {
                *slope *= map.slope as f32;
                *offset = map.slope as f32 * *offset + map.offset as f32;
            }
        }
    }
}

fn log_odds(probability: f32) -> f32 {
    let inner = probability.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY);
    (inner / (1.0 - inner)).ln()
}

impl OutputMap {
    const NONE: Self = Self { slope: 1.0, offset: 0.0 };

    fn apply(self, probability: f32) -> f32 {
        sigmoid(self.slope as f32 * log_odds(probability) + self.offset as f32)
    }
}

/// The mean of what members say after the maps.
fn mix(members: &[(&RankedRows, f32)], maps: &[OutputMap]) -> RankedRows {
    let (rows, outputs) = (members[0].0.len(), maps.len());
    let parts: Vec<RankedRows> = (0..rows.div_ceil(ROWS_PER_TASK))
        .into_par_iter()
        .map(|task| {
            let mut mixed = RankedRows::new(outputs);
            let (mut said, mut sums) = (vec![0f32; outputs], vec![0f32; outputs]);
            for row in task * ROWS_PER_TASK..rows.min((task + 1) * ROWS_PER_TASK) {
                sums.fill(0.0);
                for (ranked, weight) in members {
                    ranked.spread(row, &mut said);
                    for ((sum, said), map) in sums.iter_mut().zip(&said).zip(maps) {
                        *sum += weight * map.apply(*said);
                    }
                }
                mixed.push(&sums);
            }
            mixed
        })
        .collect();
    RankedRows::concatenate(outputs, parts)
}

/// Steps of a fit; it takes about six.
const MAX_STEPS: usize = 30;
/// A step is halved down to this.
const LEAST_STEP: f64 = 1e-6;
/// Added to the curvature so that it can be inverted.
const RIDGE: f64 = 1e-9;

/// Fits the map of one output by Fisher scoring, from the identity on. Targets are drawn a
/// little inward as Platt does, so that separable outputs get a finite slope.
fn fit_map(members: &[(&RankedRows, f32)], output: u32, answers: Answers<'_>) -> OutputMap {
    let rows = members[0].0.len();
    let column = |ranked: &RankedRows| -> Vec<f32> {
        (0..rows).map(|row| log_odds(ranked.probability(row, output))).collect()
    };
    let columns: Vec<(Vec<f32>, f64)> =
        members.iter().map(|(ranked, weight)| (column(ranked), f64::from(*weight))).collect();
    let right: Vec<(bool, f64)> = (0..rows)
        .map(|row| (answers.targets.right(row).any(|one| one == output), answers.weight(row)))
        .collect();
    let weight_of = |wanted: bool| -> f64 {
        right.iter().filter(|(is_right, _)| *is_right == wanted).map(|(_, weight)| weight).sum()
    };
    let (positive, negative) = (weight_of(true), weight_of(false));
    if positive <= 0.0 || negative <= 0.0 {
        return OutputMap::NONE;
    }
    let (high, low) = ((positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0));
    // What the members say together of a row, and how that moves with slope and offset.
    let said = |map: OutputMap, row: usize| {
        let (mut mean, mut by_slope, mut by_offset) = (0f64, 0f64, 0f64);
        for (column, weight) in &columns {
            let z = f64::from(column[row]);
            let probability = (1.0 + (-(map.slope * z + map.offset)).exp()).recip();
            let moved = weight * probability * (1.0 - probability);
            mean += weight * probability;
            by_slope += moved * z;
            by_offset += moved;
        }
        (mean.clamp(1e-12, 1.0 - 1e-12), by_slope, by_offset)
    };
    let target = |row: usize| if right[row].0 { high } else { low };
    let loss = |map: OutputMap| -> f64 {
        let of_row = |row: usize| {
            let (mean, target) = (said(map, row).0, target(row));
            -right[row].1 * (target * mean.ln() + (1.0 - target) * (1.0 - mean).ln())
        };
        (0..rows).map(of_row).sum()
    };
    let mut map = OutputMap::NONE;
    let mut value = loss(map);
    for _ in 0..MAX_STEPS {
        let (mut g1, mut g2) = (0f64, 0f64);
        let (mut h11, mut h12, mut h22) = (RIDGE, 0f64, RIDGE);
        for (row, (_, weight)) in right.iter().enumerate() {
            let (mean, by_slope, by_offset) = said(map, row);
            let certainty = weight / (mean * (1.0 - mean));
            let residual = certainty * (mean - target(row));
            g1 += residual * by_slope;
            g2 += residual * by_offset;
            h11 += certainty * by_slope * by_slope;
            h12 += certainty * by_slope * by_offset;
            h22 += certainty * by_offset * by_offset;
        }
        let determinant = h11 * h22 - h12 * h12;
        let (d1, d2) = (-(h22 * g1 - h12 * g2) / determinant, -(h11 * g2 - h12 * g1) / determinant);
        if !(d1.is_finite() && d2.is_finite()) {
            break;
        }
        let mut step = 1.0;
        let mut found = None;
        while step >= LEAST_STEP && found.is_none() {
            let next = OutputMap { slope: map.slope + step * d1, offset: map.offset + step * d2 };
            let next_value = loss(next);
            found = (next.slope > 0.0 && next_value < value).then_some((next, next_value));
            step /= 2.0;
        }
        let Some((next, next_value)) = found else { break };
        let gained = value - next_value;
        (map, value) = (next, next_value);
        if gained < 1e-7 * value {
            break;
        }
    }
    map
}

/// The threshold of each output with the best F1 on the rows that are `known`; the common one
/// where they are too few to tell, or where it is as good.
fn fit_thresholds(
    held_out: &RankedRows,
    answers: Answers<'_>,
    outputs: usize,
    is_known: &(impl Fn(usize) -> bool + Sync),
) -> Vec<f32> {
    let of_output = |output: u32| {
        let mut rows: Vec<(f32, bool, f64)> = (0..held_out.len())
            .filter(|&row| is_known(row))
            .map(|row| {
                let is_right = answers.targets.right(row).any(|one| one == output);
                (held_out.probability(row, output), is_right, answers.weight(row))
            })
            .collect();
        best_threshold(&mut rows)
    };
    (0..outputs as u32).into_par_iter().map(of_output).collect()
}

/// The threshold with the best F1 over predictions, whether they are right, and their weights.
fn best_threshold(rows: &mut [(f32, bool, f64)]) -> f32 {
    if rows.iter().filter(|row| row.1).count() < LEAST_RIGHT_ROWS {
        return MULTI_LABEL_THRESHOLD;
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let support: f64 = rows.iter().filter(|row| row.1).map(|row| row.2).sum();
    let (mut hits, mut predicted) = (0f64, 0f64);
    let mut best = (MULTI_LABEL_THRESHOLD, 0f64);
    let mut even = 0f64;
    for (at, &(probability, is_right, weight)) in rows.iter().enumerate() {
        predicted += weight;
        hits += if is_right { weight } else { 0.0 };
        let f1 = 2.0 * hits / (support + predicted);
        if probability >= MULTI_LABEL_THRESHOLD {
            even = f1;
        }
        // All rows of one probability are predicted together.
        let next = rows.get(at + 1).map_or(0.0, |row| row.0);
        let threshold = (probability + next) / 2.0;
        let in_range = (THRESHOLD_RANGE.0..=THRESHOLD_RANGE.1).contains(&threshold);
        if next < probability && in_range && f1 > best.1 {
            best = (threshold, f1);
        }
    }
    if best.1 > even { best.0 } else { MULTI_LABEL_THRESHOLD }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::targets::Targets;

    /// Two members that hear the same truth each through noise of its own, calibrated alone.
    fn members(rows: usize) -> ([RankedRows; 2], Targets) {
        let mut random = Random::new(3, 1);
        let mut targets = Targets::new();
        let mut ranked = [RankedRows::new(2), RankedRows::new(2)];
        for _ in 0..rows {
            // A sum of uniform numbers, nearly normal.
            let mut noise = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
            let is_right = noise() > 0.5;
            let truth = if is_right { 1.0 } else { -1.0 };
            let says = [0, 1].map(|_| {
                // With noise of spread 1 the log-odds are twice what is heard, and the prior.
                let heard = truth + noise();
                sigmoid((2.0 * heard - 0.8) as f32)
            });
            targets.push(&mut if is_right { vec![(0, 1.0)] } else { Vec::new() });
            ranked.iter_mut().zip(says).for_each(|(ranked, p)| ranked.push(&[p, 0.01]));
        }
        (ranked, targets)
    }

    fn log_loss(ranked: &RankedRows, answers: Answers<'_>) -> f64 {
        let rows: Vec<u32> = (0..ranked.len() as u32).collect();
        crate::metrics::multi_label_log_loss(ranked, &rows, answers)
    }

    #[test]
    fn maps_make_a_mixture_surer_and_better() {
        let (ranked, targets) = members(4000);
        let answers = Answers::unweighted(&targets);
        let members = [(&ranked[0], 0.5), (&ranked[1], 0.5)];
        let maps = [0, 1].map(|output| fit_map(&members, output, answers));
        assert!(maps[0].slope > 1.2, "{maps:?}");
        assert_eq!(maps[1], OutputMap::NONE, "nothing is known of it");
        let (plain, mapped) = (RankedRows::mix(&members), mix(&members, &maps));
        let losses = [&ranked[0], &plain, &mapped].map(|ranked| log_loss(ranked, answers));
        assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    }

    #[test]
    fn the_threshold_with_the_best_f1_is_found() {
        let mut rows: Vec<(f32, bool, f64)> =
            (0..100).map(|at| (at as f32 / 100.0, at >= 30, 1.0)).collect();
        let threshold = best_threshold(&mut rows);
        assert!((threshold - 0.295).abs() < 1e-6, "{threshold}");
        // Rows without weight change nothing.
        rows.extend((0..30).map(|at| (at as f32 / 100.0, true, 0.0)));
        assert!((best_threshold(&mut rows) - 0.295).abs() < 1e-6);
        assert_eq!(best_threshold(&mut rows[..5]), MULTI_LABEL_THRESHOLD);
        let mut even: Vec<(f32, bool, f64)> =
            (0..100).map(|at| (at as f32 / 100.0, at >= 50, 1.0)).collect();
        assert_eq!(best_threshold(&mut even), MULTI_LABEL_THRESHOLD);
    }
}
