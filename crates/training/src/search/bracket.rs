//! One bracket: trials that climb the rungs together.

use std::time::Instant;

use corral_types::Timestamp;
use rayon::prelude::*;

use super::SearchContext;
use super::progress::SearchProgress;
use crate::error::TrainError;
use crate::options::Metric;
use crate::plan::{Candidate, HALVING, Rung};
use crate::report::{TrialEnding, TrialReport};
use crate::sampler::Point;
use crate::trial::{FoldScores, Joined, Outcome, Trial, Workbench};

/// Why a bracket has no trials to give.
pub enum Interrupted {
    /// The search is to end with what it has.
    Finish,
    Failed(TrainError),
}

/// A trial on its way up.
struct Climber {
    number: usize,
    candidate: Candidate,
    point: Option<Point>,
    folds: Vec<FoldScores>,
    rung_scores: Vec<f64>,
    fit_cpu_seconds: f64,
    started: (Timestamp, Instant),
}

/// Runs the trials of a bracket to their end. `before` are all earlier ones.
pub fn run_bracket(
    bench: &Workbench<'_>,
    context: &SearchContext<'_>,
    progress: &SearchProgress<'_>,
    before: &[Trial],
    bracket: Vec<(Candidate, Option<Point>)>,
) -> Result<Vec<Trial>, Interrupted> {
    let started = (Timestamp::now(), Instant::now());
    let mut climbing: Vec<Climber> = bracket
        .into_iter()
        .enumerate()
        .map(|(at, (candidate, point))| Climber {
            number: before.len() + at + 1,
            candidate,
            point,
            folds: Vec::new(),
            rung_scores: Vec::new(),
            fit_cpu_seconds: 0.0,
            started,
        })
        .collect();
    let rungs = context.plan.schedule.rungs(context.plan.folds);
    let mut ended: Vec<Trial> = Vec::with_capacity(climbing.len());
    for (height, rung) in rungs.iter().enumerate() {
        let below = height.checked_sub(1).map(|below| rungs[below]);
        run_rung(bench, context, progress, &mut climbing, *rung, below)?;
        let is_last = height + 1 == rungs.len();
        let joined: Vec<Joined> =
            climbing.par_iter().map(|climber| bench.join(&climber.folds)).collect();
        for (climber, joined) in climbing.iter_mut().zip(&joined) {
            climber.rung_scores.push(bench.metric.value(&joined.evaluation));
        }
        let goes_on = if is_last {
            vec![true; climbing.len()]
        } else {
            promotions(bench, &climbing, before, height)
        };
        let mut higher = Vec::new();
        for ((climber, joined), goes_on) in climbing.into_iter().zip(joined).zip(goes_on) {
            if goes_on && !is_last {
                higher.push(climber);
                continue;
            }
            let trial = climber.end(bench, joined, goes_on);
            progress.trial_ended(context, &trial);
            ended.push(trial);
        }
        climbing = higher;
    }
    ended.sort_by_key(|trial| trial.report.number);
    Ok(ended)
}

/// Runs the folds of a rung that the one below has not run as well.
fn run_rung(
    bench: &Workbench<'_>,
    context: &SearchContext<'_>,
    progress: &SearchProgress<'_>,
    climbing: &mut [Climber],
    rung: Rung,
    below: Option<Rung>,
) -> Result<(), Interrupted> {
    let kept = match below {
        Some(below) if below.row_share == rung.row_share => below.folds,
        _ => 0,
    };
    climbing.iter_mut().for_each(|climber| climber.folds.truncate(kept));
    let units: Vec<(usize, Candidate, usize)> = climbing
        .iter()
        .flat_map(|climber| {
            (kept..rung.folds).map(move |fold| (climber.number, climber.candidate, fold))
        })
        .collect();
    let mut results: Vec<FoldScores> = units
        .into_par_iter()
        .with_max_len(1)
        .map(|(number, candidate, fold)| {
            if context.ending.is_due() {
                return Err(TrainError::Cancelled);
            }
            let scores = bench.run_fold(number, &candidate, fold, rung.row_share)?;
            progress.fold_ended(context, number);
            Ok(scores)
        })
        .collect::<Result<_, TrainError>>()
        .map_err(|error| match error {
            // A fit cannot tell the one from the other.
            TrainError::Cancelled if !context.observer.is_cancelled() => Interrupted::Finish,
            error => Interrupted::Failed(error),
        })?;
    for climber in climbing.iter_mut().rev() {
        let own = results.split_off(results.len() - (rung.folds - kept));
        climber.fit_cpu_seconds += own.iter().map(|fold| fold.cpu_seconds).sum::<f64>();
        climber.folds.extend(own);
    }
    Ok(())
}

/// How far a family's first may be behind the best, as a multiple of the best's error, to go on:
/// members that err in other places help an ensemble though they are worse alone.
const FAMILY_ERROR: f64 = 1.5;

/// Who goes on from a rung: trials within the best third of all that stood on it, this bracket
/// included, and the best of a family of which none has gone all the way.
fn promotions(
    bench: &Workbench<'_>,
    climbing: &[Climber],
    before: &[Trial],
    height: usize,
) -> Vec<bool> {
    let goodness = |at: usize| bench.metric.goodness_of(climbing[at].rung_scores[height]);
    let earlier = before.iter().filter_map(|trial| trial.report.rung_scores.get(height));
    let earlier = earlier.map(|&score| bench.metric.goodness_of(score));
    let mut all: Vec<f64> =
        (0..climbing.len()).map(goodness).chain(earlier).filter(|one| !one.is_nan()).collect();
    all.sort_by(|a, b| b.total_cmp(a));
    let bar = all.get(all.len().div_ceil(HALVING).saturating_sub(1)).copied();
    let low_bar = all.first().map(|&best| match bench.metric {
        Metric::LogLoss => FAMILY_ERROR * best,
        _ => 1.0 - FAMILY_ERROR * (1.0 - best),
    });
    let mut families: Vec<String> = before
        .iter()
        .filter(|trial| trial.report.ending == TrialEnding::Complete)
        .map(|trial| trial.report.candidate.family())
        .collect();
    let mut goes_on = vec![false; climbing.len()];
    let mut order: Vec<usize> = (0..climbing.len()).collect();
    order.sort_by(|&a, &b| goodness(b).total_cmp(&goodness(a)).then(a.cmp(&b)));
    for &at in &order {
        let passes = bar.is_some_and(|bar| goodness(at) >= bar);
        let family = climbing[at].candidate.family();
        let is_first =
            !families.contains(&family) && low_bar.is_some_and(|low_bar| goodness(at) >= low_bar);
        if passes || is_first {
            goes_on[at] = true;
            families.push(family);
        }
    }
    // The first goes all the way whatever it is worth.
    if before.is_empty() && !goes_on.contains(&true) {
        goes_on[order[0]] = true;
    }
    goes_on
}

impl Climber {
    fn end(self, bench: &Workbench<'_>, joined: Joined, is_complete: bool) -> Trial {
        let fold_scores = bench.fold_scores(&self.folds, &joined);
        let ending = if is_complete { TrialEnding::Complete } else { TrialEnding::StoppedEarly };
        let report = TrialReport {
            number: self.number,
            candidate: self.candidate,
            ending,
            score: bench.metric.value(&joined.evaluation),
            fold_scores,
            rung_scores: self.rung_scores,
            evaluation: is_complete.then(|| joined.evaluation.clone()),
            head_bytes: self.folds.iter().map(|fold| fold.head_bytes).max().unwrap_or(0) as u64,
            passes: self.folds.iter().map(|fold| fold.passes).max().unwrap_or(0),
            fit_cpu_seconds: self.fit_cpu_seconds,
            wall_seconds: self.started.1.elapsed().as_secs_f64(),
            started_at: self.started.0,
            ended_at: Timestamp::now(),
        };
        let outcome = is_complete.then(|| Outcome {
            ece_uncalibrated: bench.ece_uncalibrated(&self.folds),
            calibration: joined.calibration,
            ranked: joined.ranked,
        });
        Trial { report, point: self.point, outcome }
    }
}
