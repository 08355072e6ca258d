//! Trials one wave after the other, each over all folds.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use corral_types::{BlobHash, Timestamp};
use rayon::prelude::*;
use serde_json::json;

use crate::checkpoint;
use crate::error::TrainError;
use crate::observer::Observer;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::trial::{FoldScores, Trial, Workbench};

/// What a search found.
pub struct Found {
    /// In the order of the plan.
    pub trials: Vec<Trial>,
    /// Planned candidates that were not tried.
    pub left_out: usize,
}

/// How a search is bounded and told of.
pub struct SearchContext<'a> {
    pub plan: &'a Plan,
    pub observer: &'a dyn Observer,
    pub progress: &'a Progress<'a>,
    /// When no further trial starts.
    pub budget: Option<(Instant, Duration)>,
    /// Names rows and options in checkpoints.
    pub fingerprint: BlobHash,
}

/// Cross-validates the plan's candidates that are not among `finished`, the first of them in
/// any case, the others until time or the caller ends the search.
///
/// Trials do not depend on each other, so neither their order in time nor where a search was
/// cut and resumed changes what they find.
pub fn run(
    bench: &Workbench<'_>,
    context: &SearchContext<'_>,
    finished: Vec<Trial>,
) -> Result<Found, TrainError> {
    let plan = context.plan;
    let mut trials = finished;
    trials.truncate(plan.candidates.len());
    while trials.len() < plan.candidates.len() {
        let out_of_time =
            context.budget.is_some_and(|(started, budget)| started.elapsed() >= budget);
        if !trials.is_empty() && (out_of_time || context.observer.finish_now()) {
            break;
        }
        let first = trials.len();
        let wave = first..(first + plan.trials_at_once).min(plan.candidates.len());
        let mut joined = run_wave(bench, context, wave, &trials)?;
        trials.append(&mut joined);
        let state = checkpoint::write(
            context.fingerprint,
            bench.prepared.outputs.len(),
            bench.prepared.scored,
            &trials,
        );
        context.observer.checkpoint(&state);
    }
    let left_out = plan.candidates.len() - trials.len();
    Ok(Found { trials, left_out })
}

fn run_wave(
    bench: &Workbench<'_>,
    context: &SearchContext<'_>,
    wave: std::ops::Range<usize>,
    before: &[Trial],
) -> Result<Vec<Trial>, TrainError> {
    let plan = context.plan;
    let folds = plan.folds;
    let total = plan.candidates.len() * folds;
    let started = (Timestamp::now(), Instant::now());
    let done = Mutex::new(before.len() * folds);
    let best = best_score(bench, before);
    let units: Vec<(usize, usize)> =
        wave.clone().flat_map(|trial| (0..folds).map(move |fold| (trial, fold))).collect();
    let mut results: Vec<FoldScores> = units
        .into_par_iter()
        .map(|(trial, fold)| {
            if context.observer.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            let scores = bench.run_fold(trial + 1, &plan.candidates[trial], fold)?;
            // Held while telling, so that the observer hears one thread at a time, in order.
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *done += 1;
            let message = format!("trial {} of {}", trial + 1, plan.candidates.len());
            let detail = json!({
                "phase": "search",
                "folds_done": *done,
                "folds_planned": total,
                "trials_done": before.len(),
                "trials_planned": plan.candidates.len(),
                "metric": bench.metric,
                "best": best,
            });
            context.progress.within(SEARCH_PHASE, *done as f32 / total as f32, &message, detail);
            Ok(scores)
        })
        .collect::<Result<_, TrainError>>()?;
    let mut trials = Vec::with_capacity(wave.len());
    for index in wave {
        let rest = results.split_off(folds);
        let of_trial = std::mem::replace(&mut results, rest);
        let trial = bench.join_folds(index + 1, plan.candidates[index], of_trial, started);
        let report = &trial.report;
        context.observer.log(&format!(
            "trial {} {}: {} {:.4} ({:.2} CPU-s)",
            report.number,
            report.candidate.name(),
            bench.metric,
            report.score,
            report.fit_cpu_seconds,
        ));
        trials.push(trial);
    }
    Ok(trials)
}

/// The place of the search among the plan's phases.
pub const SEARCH_PHASE: usize = 1;

fn best_score(bench: &Workbench<'_>, trials: &[Trial]) -> Option<f64> {
    let goodness = |trial: &&Trial| bench.metric.goodness(&trial.report.evaluation);
    trials.iter().max_by(|a, b| goodness(a).total_cmp(&goodness(b))).map(|trial| trial.report.score)
}
