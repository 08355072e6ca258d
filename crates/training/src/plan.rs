//! How many candidates are tried, how far, and what that will take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use crate::ensemble::MAX_PICKS;
use crate::error::TrainError;
use crate::features::BlocksNeeded;
use crate::folds::MAX_FOLDS;
use crate::learner::{FitEffort, LANES};
use crate::metrics::RankedRows;
use crate::multi_label;
use crate::options::TrainOptions;
use crate::rows::LabelKind;
use crate::search::KEPT_OUTCOMES;
use crate::space::Space;
use crate::task_shape::TaskShape;

/// Seconds of CPU to embed a text of a sentence's length.
const EMBED_SECONDS: f64 = 1.3e-3;
/// Seconds of CPU to count and weigh a byte of text.
const LEXICON_SECONDS: f64 = 1.5e-7;
/// How long a search may take by estimate when nobody said,
const DEFAULT_BUDGET: Duration = Duration::from_secs(150);
/// and where fits are so slow that this is too short for a choice among families.
const SLOW_BUDGET: Duration = Duration::from_secs(400);
const CHOICE_TRIALS: usize = 24;
/// Trials of a search that may choose: fewer learn nothing from each other, more are noise
/// picked from the same rows.
const LEAST_TRIALS: usize = 6;
const MOST_TRIALS: usize = 240;
/// Below so many trials the first rung is made cheaper by fitting on a share of the rows.
const FEW_TRIALS: usize = 32;
const FIRST_RUNG_ROW_SHARE: f64 = 0.4;
/// What a fit that is broken off early takes of a whole one, and scoring with it.
const ROUGH_FIT_SHARE: f64 = 0.5;
/// Held-out rows by which trials can be told apart on the first rung; sets with fewer go over
/// all folds at once, which then is cheap.
const FIRST_RUNG_ROWS: usize = 1200;
/// Trials that climb together: enough to be told apart, few enough that the next learn from
/// them soon.
const MOST_IN_BRACKET: usize = 16;
const LEAST_IN_BRACKET: usize = 4;
/// Listed candidates that are fitted together as paths, at most; memory may bound them sooner.
const MOST_IN_PATHS: usize = 64;
/// Brackets that a search has at least, where it has the trials.
const BRACKETS: usize = 8;
/// One in so many trials goes on to the next rung.
pub const HALVING: usize = 3;
/// Folds where a fit is quick, and where it is not.
const USUAL_FOLDS: usize = 5;
const FEW_FOLDS: usize = 3;
/// Rows times blocks of classes from which there are few folds.
const FEW_FOLDS_FROM: usize = 500_000;

/// The process itself: its code, its allocator's slack, the encoder's buffers.
const PROCESS_BYTES: usize = 64 << 20;

/// What a run is expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub trials: usize,
    pub folds: usize,
    pub cpu_seconds: f64,
    pub wall_seconds: f64,
    pub memory_bytes: u64,
}

/// What a search will do and what that is expected to take.
#[derive(Clone, Debug)]
pub struct Plan {
    pub schedule: Schedule,
    pub folds: usize,
    /// Fits by folds, of all trials together.
    pub folds_planned: usize,
    /// CPU seconds after which, by estimate, no more trials begin; unbounded where their number
    /// was given.
    pub search_seconds: f64,
    pub estimate: Estimate,
    /// CPU seconds by phase: features and labels made of them, search, refit. Progress is told by their shares.
    pub phase_seconds: [f64; 3],
}

/// Which candidates are tried, and how far.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// So many are drawn from the space and climb the rungs, `bracket` at a time.
    Search { trials: usize, bracket: usize, rungs: Vec<Rung> },
    /// These go over all folds, so many at a time.
    List { candidates: Vec<Candidate>, at_once: usize, fits: Fits },
}

/// Whether fits help each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fits {
    /// What comes of a candidate depends on no other.
    Alone,
    /// Candidates that differ in cost alone start where the one before ended: several times
    /// faster, but what comes of one depends on which others there are, in the last digits.
    Paths,
}

/// How much of a trial is done before it is compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rung {
    /// Folds run by then.
    pub folds: usize,
    /// The share of the other folds' rows that a fit learns from.
    pub row_share: f64,
    pub effort: FitEffort,
}

impl Rung {
    /// A rung of whole fits on all rows.
    const fn full(folds: usize) -> Self {
        Self { folds, row_share: 1.0, effort: FitEffort::Full }
    }

    /// The folds that need not be run again after the rung below.
    pub fn folds_kept(&self, below: Option<&Self>) -> usize {
        below
            .filter(|below| below.row_share == self.row_share && below.effort == self.effort)
            .map_or(0, |below| below.folds)
    }

    /// What a fit takes, as a part of one to the end on all rows.
    fn fit_share(&self) -> f64 {
        self.row_share
            * match self.effort {
                FitEffort::Full => 1.0,
                FitEffort::Rough => ROUGH_FIT_SHARE,
            }
    }
}

impl Schedule {
    /// The number of trials.
    pub const fn trials(&self) -> usize {
        match self {
            Self::Search { trials, .. } => *trials,
            Self::List { candidates, .. } => candidates.len(),
        }
    }

    /// The rungs that trials climb.
    pub fn rungs(&self, folds: usize) -> Vec<Rung> {
        match self {
            Self::Search { rungs, .. } => rungs.clone(),
            Self::List { .. } => vec![Rung::full(folds)],
        }
    }

    /// What a trial has taken by estimate that has climbed so many rungs, where a fit over the
    /// rows of all folds but one takes `fit_seconds`.
    pub fn trial_seconds(&self, rungs_climbed: usize, folds: usize, fit_seconds: f64) -> f64 {
        let rungs = self.rungs(folds);
        let climbed = share_reaching(&rungs).take(rungs_climbed);
        climbed.map(|(rung, new_folds, _)| new_folds as f64 * rung.fit_share() * fit_seconds).sum()
    }

    /// Trials in one bracket.
    const fn in_bracket(&self) -> usize {
        match self {
            Self::Search { bracket, .. } => *bracket,
            Self::List { at_once, .. } => *at_once,
        }
    }

    /// How fits are made whose results stay.
    pub const fn fits(&self) -> Fits {
        match self {
            Self::Search { .. } => Fits::Alone,
            Self::List { fits, .. } => *fits,
        }
    }
}

impl Plan {
    /// Chooses trials, folds and rungs by the task's shape and the options, and refuses what
    /// cannot fit into the memory allowed.
    pub fn for_task(
        shape: &TaskShape,
        distinct_texts: usize,
        threads: usize,
        options: &TrainOptions,
    ) -> Result<Self, TrainError> {
        let folds = fold_count(shape, distinct_texts, options)?;
        let fitted_share = 1.0 - 1.0 / folds as f64;
        let candidates = candidates(&Space::for_task(shape, options.memory_bytes), options);
        let fit_seconds = candidates
            .iter()
            .map(|candidate| shape.fit_seconds(candidate, fitted_share))
            .sum::<f64>()
            / candidates.len() as f64;
        let (mut schedule, search_seconds) = schedule(shape, folds, fit_seconds, threads, options)?;
        let needed = fit_into_memory(&mut schedule, folds, shape, &candidates, threads, options)?;

        let reads_encoder = candidates.iter().any(|candidate| candidate.featurizer.reads_encoder());
        let embedding_seconds =
            if reads_encoder { shape.texts as f64 * EMBED_SECONDS } else { 0.0 };
        let features = shape.text_bytes as f64 * LEXICON_SECONDS + embedding_seconds;
        let (folds_planned, full_folds) = folds_of(&schedule, folds);
        let search = full_folds * fit_seconds;
        let refit = options.members as f64 * fit_seconds / fitted_share;
        let phase_seconds = [features, search, refit];
        let cpu_seconds: f64 = phase_seconds.iter().sum();
        let estimate = Estimate {
            trials: schedule.trials(),
            folds,
            cpu_seconds,
            wall_seconds: cpu_seconds / threads as f64,
            memory_bytes: needed,
        };
        Ok(Self { schedule, folds, folds_planned, search_seconds, estimate, phase_seconds })
    }
}

impl Plan {
    /// The plan with so many seconds of CPU for labelling rows, which come with the features.
    pub fn with_labelling(mut self, cpu_seconds: f64, threads: usize) -> Self {
        self.phase_seconds[0] += cpu_seconds;
        self.estimate.cpu_seconds += cpu_seconds;
        self.estimate.wall_seconds += cpu_seconds / threads as f64;
        self
    }

    /// The plan with what was counted in place of what was expected: brackets shrink to the
    /// memory, the trials stay.
    ///
    /// # Errors
    /// When the task turns out not to fit the memory allowed.
    pub fn with_counted(
        mut self,
        shape: &TaskShape,
        threads: usize,
        options: &TrainOptions,
    ) -> Result<Self, TrainError> {
        let candidates = candidates(&Space::for_task(shape, options.memory_bytes), options);
        fit_into_memory(&mut self.schedule, self.folds, shape, &candidates, threads, options)?;
        Ok(self)
    }
}

/// Candidates by which a run's time and memory are estimated.
fn candidates(space: &Space, options: &TrainOptions) -> Vec<Candidate> {
    options.listed().map_or_else(|| space.samples(), |(candidates, _)| candidates.to_vec())
}

/// The trials and rungs for a task whose fits take so many seconds of CPU on average, and the
/// seconds of CPU that all of them may take by estimate; unbounded where their number was given.
fn schedule(
    shape: &TaskShape,
    folds: usize,
    fit_seconds: f64,
    threads: usize,
    options: &TrainOptions,
) -> Result<(Schedule, f64), TrainError> {
    if options.trials == Some(0) {
        return Err(TrainError::ZeroOption { option: "trials" });
    }
    if options.members == 0 {
        return Err(TrainError::ZeroOption { option: "members" });
    }
    if !(0.0..=1.0).contains(&options.refusal_cost) {
        return Err(TrainError::RefusalCost { cost: options.refusal_cost });
    }
    if let Some((candidates, fits)) = options.listed() {
        for (number, candidate) in (1..).zip(candidates) {
            candidate.check(number, shape.kind, &shape.widths)?;
        }
        let at_once = match fits {
            Fits::Alone => LEAST_IN_BRACKET,
            // Together, so that they can follow each other.
            Fits::Paths => candidates.len().min(MOST_IN_PATHS),
        };
        let schedule = Schedule::List { candidates: candidates.to_vec(), at_once, fits };
        return Ok((schedule, f64::INFINITY));
    }
    let affordable = |cpu_seconds: f64, rungs: &[Rung]| {
        let trial_folds = share_reaching(rungs)
            .map(|(rung, new_folds, share)| share * new_folds as f64 * rung.fit_share());
        (cpu_seconds / (fit_seconds * trial_folds.sum::<f64>())) as usize
    };
    let cpu_seconds = |budget: Duration| budget.as_secs_f64() * threads as f64;
    let mut rungs = rungs(shape.texts / folds, folds);
    let mut budget = options.budget_ms.map_or(DEFAULT_BUDGET, Duration::from_millis);
    let usual = options.trials.unwrap_or_else(|| affordable(cpu_seconds(budget), &rungs));
    if rungs.len() > 1 && usual < FEW_TRIALS {
        rungs[0].row_share = FIRST_RUNG_ROW_SHARE;
        rungs[0].effort = FitEffort::Rough;
    }
    let mut wanted = affordable(cpu_seconds(budget), &rungs);
    if options.budget_ms.is_none() && wanted < CHOICE_TRIALS {
        budget = SLOW_BUDGET;
        wanted = affordable(cpu_seconds(budget), &rungs).min(CHOICE_TRIALS);
    }
    let (trials, search_seconds) = match options.trials {
        Some(trials) => (trials, f64::INFINITY),
        None => (wanted.clamp(LEAST_TRIALS, MOST_TRIALS), cpu_seconds(budget)),
    };
    let bracket = (trials / BRACKETS).clamp(LEAST_IN_BRACKET, MOST_IN_BRACKET);
    Ok((Schedule::Search { trials, bracket, rungs }, search_seconds))
}

/// The rungs for folds of so many rows.
fn rungs(rows_in_fold: usize, folds: usize) -> Vec<Rung> {
    let first = FIRST_RUNG_ROWS.div_ceil(rows_in_fold.max(1));
    let mut rungs = vec![Rung::full(folds)];
    if 2 * first < folds {
        // A rung between is worth comparing at where much is left to be saved behind it.
        if 2 * first + 1 < folds {
            rungs.insert(0, Rung::full(2 * first));
        }
        rungs.insert(0, Rung::full(first));
    }
    rungs
}

/// Each rung with the folds that are run for it and the share of the trials that reach it.
fn share_reaching(rungs: &[Rung]) -> impl Iterator<Item = (Rung, usize, f64)> + '_ {
    rungs.iter().enumerate().map(|(height, &rung)| {
        let kept = rung.folds_kept(height.checked_sub(1).map(|below| &rungs[below]));
        (rung, rung.folds - kept, (HALVING as f64).powi(-(height as i32)))
    })
}

/// The folds that a schedule is expected to run, and what they come to in folds over all rows.
fn folds_of(schedule: &Schedule, folds: usize) -> (usize, f64) {
    let (mut count, mut full) = (0.0, 0.0);
    for (rung, new_folds, share) in share_reaching(&schedule.rungs(folds)) {
        let run = share * new_folds as f64 * schedule.trials() as f64;
        count += run;
        full += run * rung.fit_share();
    }
    (count.ceil() as usize, full)
}

/// Makes brackets smaller until the run fits the memory allowed, and says what it takes.
fn fit_into_memory(
    schedule: &mut Schedule,
    folds: usize,
    shape: &TaskShape,
    candidates: &[Candidate],
    threads: usize,
    options: &TrainOptions,
) -> Result<u64, TrainError> {
    loop {
        let needed = memory_bytes(shape, candidates, schedule, folds, threads, options);
        if needed <= options.memory_bytes {
            return Ok(needed);
        }
        match schedule {
            Schedule::Search { bracket, .. } if *bracket > 1 => *bracket -= 1,
            Schedule::List { at_once, .. } if *at_once > 1 => *at_once -= 1,
            _ => {
                let TaskShape { texts, classes, columns, .. } = shape;
                let shape = format!("{texts} texts × {columns} features × {classes} classes");
                return Err(TrainError::Memory { needed, limit: options.memory_bytes, shape });
            }
        }
    }
}

fn fold_count(
    shape: &TaskShape,
    distinct_texts: usize,
    options: &TrainOptions,
) -> Result<usize, TrainError> {
    let most = MAX_FOLDS.min(distinct_texts);
    match options.folds {
        Some(folds) if (2..=most).contains(&folds) => Ok(folds),
        Some(folds) => Err(TrainError::Folds { folds, most }),
        None => {
            let large = shape.texts * shape.classes.div_ceil(LANES) >= FEW_FOLDS_FROM;
            Ok(if large { FEW_FOLDS } else { USUAL_FOLDS }.min(most))
        }
    }
}

/// What a run holds at its peak: features, the kept predictions of finished trials, the fits
/// that run, and the scores of a bracket's folds.
fn memory_bytes(
    shape: &TaskShape,
    candidates: &[Candidate],
    schedule: &Schedule,
    folds: usize,
    threads: usize,
    options: &TrainOptions,
) -> u64 {
    let texts = 3 * shape.text_bytes;
    let blocks = BlocksNeeded::by(candidates.iter().map(|one| one.featurizer));
    let lexical = blocks.lexicons.len() * (shape.entries * 8 + shape.columns * 24);
    let widths = blocks.views.iter().filter_map(|&view| shape.widths.of(view));
    let embeddings = shape.texts * widths.sum::<usize>() * 4;
    let kept = schedule.trials().min(KEPT_OUTCOMES + candidates.len());
    let predictions = kept * RankedRows::bytes_for(shape.texts, shape.classes);
    let fold_scores = (shape.texts * shape.classes * 4) as f64 / folds as f64;
    let held: Vec<f64> = share_reaching(&schedule.rungs(folds))
        .map(|(rung, _, share)| {
            (schedule.in_bracket() as f64 * share).ceil() * rung.folds as f64 * fold_scores
        })
        .collect();
    let scores = held.into_iter().fold(0.0, f64::max) as usize;
    let largest_fit = candidates
        .iter()
        .map(|candidate| {
            let columns = shape.columns_of(&candidate.featurizer);
            // The head is built beside the weights it is made of.
            columns * shape.classes
                + candidate.learner.memory_bytes(columns, shape.texts, shape.classes, threads)
                + if candidate.learner.copies_features() {
                    shape.feature_bytes(&candidate.featurizer)
                } else {
                    0
                }
        })
        .max()
        .unwrap_or(0);
    // Each thread works on the fold of one trial; members are joined and analysed after them.
    let search = scores + threads * largest_fit;
    // The ensemble without a fold is fitted as trials are, and then asked.
    let refusals = if options.none_label.is_none() {
        0
    } else {
        crate::refusal::memory_bytes(shape.texts, options.model_bytes) + threads * largest_fit
    };
    let joining = match shape.kind {
        LabelKind::SingleChoice => crate::confidence::memory_bytes(shape.texts, shape.classes),
        LabelKind::MultiLabel => {
            let members = MAX_PICKS as usize;
            multi_label::memory_bytes(shape.texts, shape.classes, members, threads)
        }
    };
    let after = crate::analysis::memory_bytes(shape.texts).max(joining).max(refusals);
    (PROCESS_BYTES + texts + lexical + embeddings + predictions + search.max(after)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::LabelKind;
    use crate::task_shape::EmbeddingWidths;

    const WIDTHS: EmbeddingWidths = EmbeddingWidths { pooled: Some(384), layers: None };

    fn shape(texts: usize, classes: usize) -> TaskShape {
        TaskShape::expected(LabelKind::SingleChoice, texts, texts * 60, classes, WIDTHS)
    }

    fn plan(shape: &TaskShape, options: &TrainOptions) -> Plan {
        Plan::for_task(shape, shape.texts, 2, options).expect("it fits")
    }

    fn rungs(plan: &Plan) -> Vec<(usize, f64)> {
        let rungs = plan.schedule.rungs(plan.folds);
        rungs.iter().map(|rung| (rung.folds, rung.row_share)).collect()
    }

    #[test]
    fn trials_of_a_usual_task_climb_three_rungs() {
        let plan = plan(&shape(10_000, 77), &TrainOptions::default());
        assert_eq!(rungs(&plan), [(1, 1.0), (2, 1.0), (5, 1.0)]);
        assert!((100..=MOST_TRIALS).contains(&plan.schedule.trials()), "{:?}", plan.schedule);
    }

    #[test]
    fn few_rows_go_over_all_folds_at_once() {
        let plan = plan(&shape(400, 77), &TrainOptions::default());
        assert_eq!(rungs(&plan), [(5, 1.0)]);
        assert_eq!(plan.schedule.trials(), MOST_TRIALS);
    }

    #[test]
    fn a_task_with_slow_fits_compares_them_on_some_of_the_rows() {
        let options = TrainOptions { memory_bytes: 4 << 30, ..TrainOptions::default() };
        let plan = plan(&shape(43_000, 1016), &options);
        assert_eq!(rungs(&plan), [(1, FIRST_RUNG_ROW_SHARE), (3, 1.0)]);
        assert!((LEAST_TRIALS..FEW_TRIALS).contains(&plan.schedule.trials()));
    }

    #[test]
    fn a_budget_asks_for_so_many_trials_and_a_number_overrules_it() {
        let of = |budget_ms, trials| {
            let options = TrainOptions { budget_ms, trials, ..TrainOptions::default() };
            plan(&shape(10_000, 77), &options)
        };
        let (short, long) = (of(Some(20_000), None), of(Some(100_000), None));
        assert!(short.schedule.trials() < long.schedule.trials());
        assert!(short.estimate.wall_seconds < 45.0, "{:?}", short.estimate);
        assert_eq!(of(Some(20_000), Some(50)).schedule.trials(), 50);
    }

    #[test]
    fn brackets_shrink_to_the_memory_before_a_run_is_refused() {
        let shape = shape(43_000, 1016);
        let of = |memory_bytes| {
            let options =
                TrainOptions { memory_bytes, trials: Some(64), ..TrainOptions::default() };
            Plan::for_task(&shape, shape.texts, 2, &options)
        };
        let large = of(16 << 30).expect("it fits");
        let limit = large.estimate.memory_bytes - 1;
        let small = of(limit).expect("it fits");
        assert!(small.schedule.in_bracket() < large.schedule.in_bracket());
        assert!(small.estimate.memory_bytes <= limit);
        assert!(matches!(of(512 << 20), Err(TrainError::Memory { .. })));
    }
}
