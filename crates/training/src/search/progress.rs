//! What is told of a search while it runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::{SearchContext, seconds};
use crate::report::TrialEnding;
use crate::trial::{Trial, Workbench};

/// The place of the search among the plan's phases.
const SEARCH_PHASE: usize = 1;

/// Counts what ends, and tells an observer, one thread at a time and in order.
pub struct SearchProgress<'a> {
    bench: &'a Workbench<'a>,
    told: Mutex<Told>,
}

struct Told {
    trials: usize,
    /// Begun and neither stopped nor ended.
    running: usize,
    complete: usize,
    folds: usize,
    /// What ended trials took by estimate, which is what ends a search of expensive ones.
    seconds: f64,
    /// Goodness and score.
    best: Option<(f64, f64)>,
}

impl<'a> SearchProgress<'a> {
    pub fn new(bench: &'a Workbench<'a>, context: &SearchContext<'_>, before: &[Trial]) -> Self {
        let told = Told { trials: 0, running: 0, complete: 0, folds: 0, seconds: 0.0, best: None };
        let progress = Self { bench, told: Mutex::new(told) };
        let mut told = progress.lock();
        for trial in before {
            told.folds += trial.report.fold_scores.len();
            told.add(bench, context, trial);
        }
        drop(told);
        progress.tell(context, &progress.lock(), "searching");
        progress
    }

    /// So many trials began together.
    pub fn trials_began(&self, context: &SearchContext<'_>, count: usize) {
        let mut told = self.lock();
        told.running = count;
        let first = told.trials + 1;
        self.tell(context, &told, &trial_of(context, first));
    }

    /// A fold of a trial was run.
    pub fn fold_ended(&self, context: &SearchContext<'_>, number: usize) {
        let mut told = self.lock();
        told.folds += 1;
        self.tell(context, &told, &trial_of(context, number));
    }

    /// A trial was stopped or ended.
    pub fn trial_ended(&self, context: &SearchContext<'_>, trial: &Trial) {
        let mut told = self.lock();
        told.add(self.bench, context, trial);
        told.running = told.running.saturating_sub(1);
        drop(told);
        let report = &trial.report;
        let folds = match report.ending {
            TrialEnding::Complete => String::new(),
            TrialEnding::StoppedEarly => format!(" after {} folds", report.fold_scores.len()),
        };
        context.observer.log(&format!(
            "trial {} {}: {} {:.4}{folds} ({:.2} CPU-s)",
            report.number,
            report.candidate.name(),
            self.bench.metric,
            report.score,
            report.fit_cpu_seconds,
        ));
    }

    fn tell(&self, context: &SearchContext<'_>, told: &Told, message: &str) {
        let planned = context.plan.schedule.trials();
        let folds_planned = context.plan.folds_planned;
        let detail = json!({
            "phase": "search",
            "folds_done": told.folds,
            "folds_planned": folds_planned,
            "trials_done": told.trials,
            "trials_running": told.running,
            "trials_complete": told.complete,
            "trials_planned": planned,
            "metric": self.bench.metric,
            "best": told.best.map(|best| best.1),
        });
        let by_folds = told.folds as f64 / folds_planned.max(1) as f64;
        let by_trials = told.trials as f64 / planned.max(1) as f64;
        let by_seconds = told.seconds / context.plan.search_seconds;
        // Folds are an estimate, trials and seconds come in steps: the one that is furthest, but
        // never done before the last trial is.
        let fraction = by_folds.max(by_seconds).min(0.99).max(by_trials);
        context.progress.within(SEARCH_PHASE, fraction as f32, message, detail);
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a search is bounded by time too, it may end before all its trials were run.
fn trial_of(context: &SearchContext<'_>, number: usize) -> String {
    let planned = context.plan.schedule.trials();
    let most = if context.plan.search_seconds.is_finite() { "at most " } else { "" };
    format!("trial {number} of {most}{planned}")
}

impl Told {
    fn add(&mut self, bench: &Workbench<'_>, context: &SearchContext<'_>, trial: &Trial) {
        self.trials += 1;
        self.seconds += seconds(bench, context, trial);
        if let Some(evaluation) = &trial.report.evaluation {
            self.complete += 1;
            let goodness = bench.metric.goodness(evaluation);
            if self.best.is_none_or(|best| goodness > best.0) {
                self.best = Some((goodness, trial.report.score));
            }
        }
    }
}
