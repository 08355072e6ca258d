//! One bracket: trials that climb the rungs together.

use std::time::Instant;

use corral_types::Timestamp;
use rayon::prelude::*;

use super::SearchContext;
use super::progress::SearchProgress;
use crate::candidate::Candidate;
use crate::error::TrainError;
use crate::learner::LearnerSettings;
use crate::options::Metric;
use crate::plan::{Fits, HALVING, Rung};
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
    progress.trials_began(context, climbing.len());
    let rungs = context.plan.schedule.rungs(context.plan.folds);
    let mut ended: Vec<Trial> = Vec::with_capacity(climbing.len());
    for height in 0..rungs.len() {
        run_rung(bench, context, progress, &mut climbing, &rungs, height)?;
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
    rungs: &[Rung],
    height: usize,
) -> Result<(), Interrupted> {
    let rung = rungs[height];
    let kept = rung.folds_kept(height.checked_sub(1).map(|below| &rungs[below]));
    climbing.iter_mut().for_each(|climber| climber.folds.truncate(kept));
    // What stays of a fit must not depend on who else climbs: a search's trials are tried again
    // by a list without those that were stopped.
    let stays = rungs.get(height + 1).is_none_or(|above| above.folds_kept(Some(&rung)) > 0);
    let fits = if stays { context.plan.schedule.fits() } else { Fits::Paths };
    let groups = groups(climbing, fits);
    let units: Vec<(&[usize], usize)> = groups
        .iter()
        .flat_map(|group| (kept..rung.folds).map(move |fold| (group.as_slice(), fold)))
        .collect();
    let climbers = &*climbing;
    let results: Vec<Vec<FoldScores>> = units
        .par_iter()
        .with_max_len(1)
        .map(|&(group, fold)| {
            if context.ending.is_due() {
                return Err(TrainError::Cancelled);
            }
            let first = &climbers[group[0]];
            let learners: Vec<LearnerSettings> =
                group.iter().map(|&at| climbers[at].candidate.learner).collect();
            let featurizer = &first.candidate.featurizer;
            let scores = bench.run_fold(first.number, featurizer, &learners, fold, rung)?;
            group.iter().for_each(|&at| progress.fold_ended(context, climbers[at].number));
            Ok(scores)
        })
        .collect::<Result<_, TrainError>>()
        .map_err(|error| match error {
            // A fit cannot tell the one from the other.
            TrainError::Cancelled if !context.observer.is_cancelled() => Interrupted::Finish,
            error => Interrupted::Failed(error),
        })?;
    // Units of a climber come in the order of its folds.
    for ((group, _), results) in units.into_iter().zip(results) {
        for (&at, fold) in group.iter().zip(results) {
            climbing[at].fit_cpu_seconds += fold.cpu_seconds;
            climbing[at].folds.push(fold);
        }
    }
    Ok(())
}

/// Climbers that are fitted one after the other, by their places: each alone, or those that share
/// a path together, by rising cost.
fn groups(climbing: &[Climber], fits: Fits) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::with_capacity(climbing.len());
    for (at, climber) in climbing.iter().enumerate() {
        let shares_path = |group: &&mut Vec<usize>| {
            let other = &climbing[group[0]].candidate;
            fits == Fits::Paths
                && other.featurizer == climber.candidate.featurizer
                && other.learner.shares_path(&climber.candidate.learner)
        };
        match groups.iter_mut().find(shares_path) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    let cost = |&at: &usize| climbing[at].candidate.learner.cost().unwrap_or(0.0);
    for group in &mut groups {
        group.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.cmp(b)));
    }
    groups
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
            head_nanos: self.folds.iter().map(|fold| fold.head_nanos).fold(0.0, f64::max),
            head_bytes: self.folds.iter().map(|fold| fold.head_bytes).max().unwrap_or(0) as u64,
            passes: self.folds.iter().map(|fold| fold.passes).max().unwrap_or(0),
            fit_cpu_seconds: self.fit_cpu_seconds,
            wall_seconds: self.started.1.elapsed().as_secs_f64(),
            started_at: self.started.0,
            ended_at: Timestamp::now(),
        };
        let outcome = is_complete
            .then_some(Outcome { calibration: joined.calibration, ranked: joined.ranked });
        Trial { report, point: self.point, outcome }
    }
}
