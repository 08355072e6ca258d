//! Whether more rows would help: a linear candidate fitted on fewer and fewer of them.

use std::collections::BTreeMap;

use corral_classifier::Calibration;
use rayon::prelude::*;

use crate::candidate::Candidate;
use crate::error::TrainError;
use crate::folds::ALWAYS_FITTED;
use crate::learner::LearnerSettings;
use crate::prepare::HeldOut;
use crate::random::Random;
use crate::report::{LearningCurve, LearningPoint, TrialReport};
use crate::rows::LabelKind;
use crate::trial::Workbench;

/// The shares of rows fitted on; the whole is fitted as well, to be compared like with like.
const SHARES: [f64; 4] = [0.125, 0.25, 0.5, 1.0];
/// Fits of a fold at all shares take about so many times the CPU of one on all rows.
const FITS_OF_FOLD: f64 = 1.875;
/// CPU seconds that the curve may take, and their share of what the trials took; one fold is
/// fitted in any case.
const CPU_SECONDS: f64 = 12.0;
const SHARE_OF_SEARCH: f64 = 0.2;
/// Folds at most: their mean is steady enough.
const MOST_FOLDS: usize = 3;
/// A candidate this much worse than the best linear one is taken where it is far quicker.
const TOLERATED_LOSS: f64 = 0.01;
/// The stream of random numbers by which rows are dropped.
const STREAM: u64 = 0x6375_7276_6500;

/// Fits the best linear candidate on growing shares of the rows of some folds, and scores the
/// rows those folds hold out; `None` where no linear candidate was tried over all folds.
///
/// # Errors
/// When the run is cancelled or a fit fails.
pub fn measure(
    bench: &Workbench<'_>,
    trials: &[&TrialReport],
) -> Result<Option<LearningCurve>, TrainError> {
    let Some(trial) = choose(bench, trials) else { return Ok(None) };
    let fold_seconds = FITS_OF_FOLD * trial.fit_cpu_seconds / trial.fold_scores.len() as f64;
    let most = MOST_FOLDS.min(bench.folds.count);
    let spent: f64 = trials.iter().map(|trial| trial.fit_cpu_seconds).sum();
    let seconds = CPU_SECONDS.min(SHARE_OF_SEARCH * spent);
    let folds = ((seconds / fold_seconds.max(1e-9)) as usize).clamp(1, most);
    let units: Vec<(usize, f64)> =
        SHARES.iter().flat_map(|&share| (0..folds).map(move |fold| (fold, share))).collect();
    let measured: Vec<(usize, f64)> = units
        .into_par_iter()
        .map(|(fold, share)| fit(bench, trial.number, &trial.candidate, fold, share))
        .collect::<Result<_, TrainError>>()?;
    let points: Vec<LearningPoint> = SHARES
        .iter()
        .zip(measured.chunks_exact(folds))
        .map(|(&share, of_folds)| LearningPoint {
            share,
            rows: of_folds.iter().map(|(rows, _)| *rows as u64).sum::<u64>() / folds as u64,
            score: of_folds.iter().map(|(_, score)| score).sum::<f64>() / folds as f64,
        })
        .collect();
    let exponent = exponent(&points);
    let error = 1.0 - points.last().map_or(1.0, |point| point.score);
    Ok(Some(LearningCurve {
        candidate: trial.candidate.name(),
        folds,
        points,
        exponent,
        gain_of_doubling: error * (1.0 - 2f64.powf(-exponent)),
    }))
}

/// The best linear trial, or one nearly as good that takes a fraction of its time when the
/// best would take too long.
fn choose<'a>(bench: &Workbench<'_>, trials: &[&'a TrialReport]) -> Option<&'a TrialReport> {
    let goodness = |trial: &TrialReport| bench.metric.goodness_of(trial.score);
    let linear = trials.iter().copied().filter(|trial| {
        let is_linear = matches!(
            trial.candidate.learner,
            LearnerSettings::LinearSvm { .. } | LearnerSettings::Softmax { .. }
        );
        is_linear && trial.fold_scores.len() == bench.folds.count && trial.score.is_finite()
    });
    let best = linear
        .clone()
        .max_by(|a, b| goodness(a).total_cmp(&goodness(b)).then(b.number.cmp(&a.number)))?;
    let seconds =
        |trial: &TrialReport| FITS_OF_FOLD * trial.fit_cpu_seconds / trial.fold_scores.len() as f64;
    if seconds(best) <= CPU_SECONDS {
        return Some(best);
    }
    let good_enough = linear.filter(|trial| goodness(trial) >= goodness(best) - TOLERATED_LOSS);
    good_enough.min_by(|a, b| seconds(a).total_cmp(&seconds(b)).then(a.number.cmp(&b.number)))
}

/// Fits a share of the rows of all folds but one; answers with the rows and the score on the
/// fold left out.
fn fit(
    bench: &Workbench<'_>,
    number: usize,
    candidate: &Candidate,
    fold: usize,
    share: f64,
) -> Result<(usize, f64), TrainError> {
    let (fitted, held_out) = bench.folds.parts(fold);
    let rows = thinned(bench, fitted, share);
    let learnt = rows.iter().filter(|&&row| bench.folds.of_row[row as usize] != ALWAYS_FITTED);
    let count = learnt.count();
    let model = bench.fit(number, candidate, &rows, HeldOut::Fold(fold), bench.seed)?;
    let scores = bench.score(&model.head, &candidate.featurizer, &held_out);
    let ranked = bench.rank(scores.rows(), &|row| scores.row(row), &Calibration::NONE);
    let evaluation = bench.evaluate_rows(&ranked, &held_out).summary;
    let score = match bench.prepared.kind {
        LabelKind::SingleChoice => evaluation.accuracy,
        LabelKind::MultiLabel => evaluation.micro_f1,
    };
    Ok((count, score))
}

/// The same share of each class's rows, at least one of each; a larger share holds all rows of
/// a smaller one. Rows that every fit uses stay.
fn thinned(bench: &Workbench<'_>, rows: Vec<u32>, share: f64) -> Vec<u32> {
    let (mut kept, mut by_class) = (Vec::with_capacity(rows.len()), BTreeMap::new());
    for row in rows {
        if bench.folds.of_row[row as usize] == ALWAYS_FITTED {
            kept.push(row);
        } else {
            let class = bench.prepared.targets.first(row as usize);
            by_class.entry(class).or_insert_with(Vec::new).push(row);
        }
    }
    for (class, mut rows) in by_class {
        let stream = STREAM ^ class.map_or(u64::MAX, u64::from);
        Random::new(bench.seed, stream).shuffle(&mut rows);
        rows.truncate((share * rows.len() as f64).ceil() as usize);
        kept.append(&mut rows);
    }
    kept.sort_unstable();
    kept
}

/// How fast the error falls, as the power of the rows (Hestness et al. 2017), by least squares
/// over the logarithms; never below zero.
fn exponent(points: &[LearningPoint]) -> f64 {
    /// Below this an error is a few rows of luck.
    const LEAST_ERROR: f64 = 1e-3;
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|point| point.rows > 0)
        .map(|point| ((point.rows as f64).ln(), (1.0 - point.score).max(LEAST_ERROR).ln()))
        .collect();
    let count = logs.len() as f64;
    let mean = |part: &dyn Fn(&(f64, f64)) -> f64| logs.iter().map(part).sum::<f64>() / count;
    let (rows, errors) = (mean(&|log| log.0), mean(&|log| log.1));
    let spread: f64 = logs.iter().map(|log| (log.0 - rows).powi(2)).sum();
    let common: f64 = logs.iter().map(|log| (log.0 - rows) * (log.1 - errors)).sum();
    if spread > 0.0 { (-common / spread).max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_a_power_law() {
        let law = |power: f64| -> Vec<LearningPoint> {
            let point = |rows: u64| LearningPoint {
                share: rows as f64 / 800.0,
                rows,
                score: 1.0 - 2.0 * (rows as f64).powf(-power),
            };
            [100, 200, 400, 800].map(point).to_vec()
        };
        assert!((exponent(&law(0.5)) - 0.5).abs() < 1e-9);
        assert_eq!(exponent(&law(0.0)), 0.0);
        // A curve that falls with more rows promises nothing.
        let mut worse = law(0.3);
        worse.reverse();
        let scores: Vec<f64> = worse.iter().map(|point| point.score).collect();
        let mut falling = law(0.3);
        falling.iter_mut().zip(scores).for_each(|(point, score)| point.score = score);
        assert_eq!(exponent(&falling), 0.0);
    }
}
