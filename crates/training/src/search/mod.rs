//! Trials in brackets: many begin on few folds, the better ones go on to more.
//!
//! Synchronous successive halving (Jamieson, Talwalkar, AISTATS 2016) over folds and rows: a
//! bracket of trials is proposed at once and climbs rungs together. At each rung the trials
//! that are among the best third of all that ever stood there go on; the rest are stopped.
//! What is proposed and who goes on depend on trials in their order, not on when their folds
//! finished, so a search finds the same with any number of threads and however often it was
//! cut and resumed.

mod bracket;
mod progress;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corral_types::BlobHash;

use self::bracket::{Interrupted, run_bracket};
use self::progress::SearchProgress;
use crate::candidate::Candidate;
use crate::checkpoint;
use crate::error::TrainError;
use crate::observer::Observer;
use crate::plan::{Plan, Schedule};
use crate::progress::Progress;
use crate::sampler::{Observation, Point, Sampler};
use crate::space::Space;
use crate::task_shape::TaskShape;
use crate::trial::{Trial, Workbench};

/// What a search found.
pub struct Found {
    /// In the order in which they were proposed.
    pub trials: Vec<Trial>,
    /// Planned trials that were not run.
    pub left_out: usize,
}

/// How a search is bounded and told of.
pub struct SearchContext<'a> {
    pub plan: &'a Plan,
    pub space: &'a Space,
    /// The task, by which the cost of candidates is estimated.
    pub shape: &'a TaskShape,
    pub observer: &'a dyn Observer,
    pub progress: &'a Progress<'a>,
    /// The least time between two checkpoints.
    pub checkpoint_every: Duration,
    /// Names rows and options in checkpoints.
    pub fingerprint: BlobHash,
    /// When the search ends with what it has.
    pub ending: &'a Ending<'a>,
}

/// When fits are to give up: at once when the run is cancelled; when it is to finish now or its
/// time is over, as soon as there is a trial to finish with.
pub struct Ending<'a> {
    observer: &'a dyn Observer,
    deadline: Option<Instant>,
    has_model: AtomicBool,
}

/// One part in so many of a search's time may go into checkpoints: they hold the predictions of
/// many trials.
const CHECKPOINT_PART: u32 = 30;

/// Complete trials whose predictions are kept for the ensemble: more than it ever joins.
pub const KEPT_OUTCOMES: usize = 16;

impl<'a> Ending<'a> {
    pub const fn new(observer: &'a dyn Observer, deadline: Option<Instant>) -> Self {
        Self { observer, deadline, has_model: AtomicBool::new(false) }
    }

    /// Asked between passes.
    pub fn is_due(&self) -> bool {
        self.observer.is_cancelled() || self.has_model.load(Ordering::Relaxed) && self.is_wanted()
    }

    /// Whether somebody wants the search to end.
    fn is_wanted(&self) -> bool {
        self.observer.finish_now()
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// From here on the search can end when it is wanted.
    fn allow(&self) {
        self.has_model.store(true, Ordering::Relaxed);
    }

    /// No longer: what remains of the run needs its fits.
    pub fn forbid(&self) {
        self.has_model.store(false, Ordering::Relaxed);
    }
}

/// Runs the plan's trials that are not among `finished`: one over all folds in any case, the
/// others until time or the caller ends the search.
pub fn run(
    bench: &Workbench<'_>,
    context: &SearchContext<'_>,
    finished: Vec<Trial>,
) -> Result<Found, TrainError> {
    let mut trials = finished;
    let planned = context.plan.schedule.trials();
    let sampler = context.space.sampler(bench.seed);
    let progress = SearchProgress::new(bench, context, &trials);
    let mut told = Instant::now();
    let mut told_every = context.checkpoint_every;
    while trials.len() < planned && !is_spent(bench, context, &trials) {
        if trials.iter().any(|trial| trial.outcome.is_some()) {
            context.ending.allow();
        }
        let next = next_bracket(bench, context, &sampler, &trials);
        match run_bracket(bench, context, &progress, &trials, next) {
            Ok(mut bracket) => trials.append(&mut bracket),
            Err(Interrupted::Failed(error)) => return Err(error),
            Err(Interrupted::Finish) => break,
        }
        let_go(bench, &mut trials);
        if told.elapsed() >= told_every || trials.len() == planned {
            let begun = Instant::now();
            context.observer.checkpoint(&checkpoint::write(
                context.fingerprint,
                bench.prepared.outputs.len(),
                bench.prepared.scored,
                &trials,
            ));
            told = Instant::now();
            told_every = context.checkpoint_every.max(begun.elapsed() * CHECKPOINT_PART);
        }
    }
    context.ending.forbid();
    let left_out =
        if is_spent(bench, context, &trials) { 0 } else { planned.saturating_sub(trials.len()) };
    Ok(Found { left_out, trials })
}

/// Whether trials have taken, by estimate and not by the clock, what the search may take.
fn is_spent(bench: &Workbench<'_>, context: &SearchContext<'_>, trials: &[Trial]) -> bool {
    let spent: f64 = trials.iter().map(|trial| seconds(bench, context, trial)).sum();
    spent >= context.plan.search_seconds
}

/// What a trial has taken, by estimate.
fn seconds(bench: &Workbench<'_>, context: &SearchContext<'_>, trial: &Trial) -> f64 {
    let folds = bench.folds.count;
    let report = &trial.report;
    let fit = context.shape.fit_seconds(&report.candidate, 1.0 - (folds as f64).recip());
    context.plan.schedule.trial_seconds(report.rung_scores.len(), folds, fit)
}

/// The candidates that climb together next.
fn next_bracket(
    bench: &Workbench<'_>,
    context: &SearchContext<'_>,
    sampler: &Sampler,
    trials: &[Trial],
) -> Vec<(Candidate, Option<Point>)> {
    let done = trials.len();
    match &context.plan.schedule {
        Schedule::List { candidates, at_once, .. } => {
            let given = candidates[done..].iter().take(*at_once);
            given.map(|&candidate| (candidate, None)).collect()
        }
        Schedule::Search { trials: planned, bracket, .. } => {
            let tried: Vec<Observation> =
                trials.iter().filter_map(|trial| observation(bench, trial)).collect();
            let mut points: Vec<Point> = Vec::new();
            // The first trial goes alone and all the way, so that a search soon has a model to
            // finish with.
            let count = if done == 0 { 1 } else { *bracket };
            for number in done..(done + count).min(*planned) {
                let point = match context.space.starts().get(number) {
                    Some(start) => start.clone(),
                    None => propose_new(context, sampler, number, &tried, &points),
                };
                points.push(point);
            }
            let candidate = |point: Point| (context.space.candidate(&point), Some(point));
            points.into_iter().map(candidate).collect()
        }
    }
}

/// A point whose candidate was not tried; should none come up, one that was.
fn propose_new(
    context: &SearchContext<'_>,
    sampler: &Sampler,
    number: usize,
    tried: &[Observation],
    beside: &[Point],
) -> Point {
    /// Proposals are looked through for one that is new: settings are rounded, and in a long
    /// search the best are met again.
    const ATTEMPTS: usize = 16;
    /// Keeps the proposals of one trial's attempts apart from other trials'.
    const ATTEMPT_STRIDE: usize = 1 << 20;
    let space = context.space;
    let cost = |point: &Point| context.shape.fit_seconds(&space.candidate(point), 1.0);
    let known = |candidate: Candidate| {
        let points = tried.iter().map(|one| &one.point).chain(beside);
        points.into_iter().any(|point| space.candidate(point) == candidate)
    };
    let mut proposals = (0..ATTEMPTS)
        .map(|attempt| sampler.propose(number + attempt * ATTEMPT_STRIDE, tried, &cost));
    let first = proposals.next().expect("there are several");
    if !known(space.candidate(&first)) {
        return first;
    }
    proposals.find(|point| !known(space.candidate(point))).unwrap_or(first)
}

/// What the sampler learns from a trial: how it did on the first rung, which all climb.
fn observation(bench: &Workbench<'_>, trial: &Trial) -> Option<Observation> {
    let goodness = bench.metric.goodness_of(*trial.report.rung_scores.first()?);
    Some(Observation { point: trial.point.clone()?, goodness })
}

/// Lets go of the predictions of trials that no ensemble will want: all but the best of each
/// family and the best of all.
fn let_go(bench: &Workbench<'_>, trials: &mut [Trial]) {
    let mut complete: Vec<(usize, f64)> = trials
        .iter()
        .enumerate()
        .filter(|(_, trial)| trial.outcome.is_some())
        .filter_map(|(at, trial)| {
            Some((at, bench.metric.goodness(trial.report.evaluation.as_ref()?)))
        })
        .collect();
    complete.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut families = Vec::new();
    for (rank, (at, _)) in complete.into_iter().enumerate() {
        let family = trials[at].report.candidate.family();
        let first_of_family = !families.contains(&family);
        if first_of_family {
            families.push(family);
        }
        if rank >= KEPT_OUTCOMES && !first_of_family {
            trials[at].outcome = None;
        }
    }
}
