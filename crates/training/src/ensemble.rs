//! Greedy selection of an ensemble (Caruana, Niculescu-Mizil, Crew, Ksikes, ICML 2004).

use corral_classifier::Tempering;
use corral_classifier::calibration::temper;
use rayon::prelude::*;

use crate::calibrate::{fit_temperature, temperature_for_confidence, temperature_rows};
use crate::confidence::{self, choose_tempering};
use crate::error::TrainError;
use crate::latency;
use crate::metrics::{RankedRows, multi_label_log_loss};
use crate::multi_label;
use crate::options::Metric;
use crate::rows::LabelKind;
use crate::trial::{Outcome, Trial, Workbench};

/// A trial in an ensemble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// The trial's place among the trials.
    pub trial: usize,
    /// How often it was picked.
    pub picks: u32,
    /// The metric when it had joined those before it.
    pub score_with: f64,
}

/// What an ensemble may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Different members at most.
    pub members: usize,
    /// What their heads may take together.
    pub model_bytes: u64,
    /// The most microseconds that an answer may take, by estimate.
    pub max_latency_us: Option<u64>,
    /// The bytes of a usual text, by which that is estimated.
    pub text_bytes: f64,
}

/// Picks at most: weights are fractions of so many.
pub const MAX_PICKS: u32 = 8;
/// What a further pick must add to the metric: less is noise on any set this is used on.
pub const LEAST_GAIN: f64 = 5e-4;
/// The part of its log-loss that a further pick must take from an ensemble that is chosen by it.
const LEAST_LOSS_PART: f64 = 5e-3;

/// Selects trials: the best one first, then, again and again, the one that lifts the
/// ensemble's metric most on the rows that folds held out, and does not raise their log-loss,
/// which also decides among equals.
///
/// They keep to the limits together.
///
/// # Errors
/// When no trial can answer in time.
pub fn select(
    bench: &Workbench<'_>,
    trials: &[Trial],
    limits: &Limits,
) -> Result<Vec<Member>, TrainError> {
    let standing = |ranked: &RankedRows| {
        let evaluation = match bench.prepared.kind {
            LabelKind::SingleChoice => bench.evaluate(ranked).summary,
            LabelKind::MultiLabel => multi_label::at_best_threshold(bench, ranked).summary,
        };
        let log_loss = evaluation.log_loss.unwrap_or_else(|| {
            let rows: Vec<u32> = (0..ranked.len() as u32).collect();
            multi_label_log_loss(ranked, &rows, bench.prepared.answers())
        });
        Standing {
            goodness: bench.metric.goodness(&evaluation),
            log_loss,
            score: bench.metric.value(&evaluation),
        }
    };
    let singles: Vec<Option<Standing>> = trials
        .par_iter()
        .enumerate()
        .map(|(at, trial)| {
            let outcome = trial.outcome.as_ref()?;
            let alone = Member { trial: at, picks: 1, score_with: f64::NAN };
            limits.is_in_time(trials, &[alone]).then(|| standing(&outcome.ranked))
        })
        .collect();
    let Some((first, mut current)) = best(&singles) else { return Err(limits.too_slow(trials)) };
    let mut selected = vec![Member { trial: first, picks: 1, score_with: current.score }];
    for _ in 1..MAX_PICKS {
        let with_one_more = |trial: usize| {
            let mut next = selected.clone();
            match next.iter_mut().find(|member| member.trial == trial) {
                Some(member) => member.picks += 1,
                None => next.push(Member { trial, picks: 1, score_with: f64::NAN }),
            }
            next
        };
        let least_gain = match bench.metric {
            Metric::LogLoss => LEAST_LOSS_PART * current.log_loss,
            _ => LEAST_GAIN,
        };
        let scored: Vec<Option<Standing>> = (0..trials.len())
            .into_par_iter()
            .map(|trial| {
                trials[trial].outcome.as_ref()?;
                let next = with_one_more(trial);
                let bytes: u64 =
                    next.iter().map(|member| trials[member.trial].report.head_bytes).sum();
                let fits = next.len() <= limits.members && bytes <= limits.model_bytes;
                if !fits || !limits.is_in_time(trials, &next) {
                    return None;
                }
                let next = standing(&mix(trials, &next));
                // A gain in the metric that costs log-loss is a few rows of luck.
                let gains = next.goodness >= current.goodness + least_gain;
                (gains && next.log_loss <= current.log_loss).then_some(next)
            })
            .collect();
        let Some((pick, standing)) = best(&scored) else { break };
        current = standing;
        selected = with_one_more(pick);
        if let Some(member) =
            selected.iter_mut().find(|member| member.trial == pick && member.picks == 1)
        {
            member.score_with = current.score;
        }
    }
    Ok(selected)
}

impl Limits {
    /// The microseconds that an ensemble takes for one text, by estimate.
    pub fn latency_us(&self, trials: &[Trial], members: &[Member]) -> f64 {
        let of_member = |member: &Member| {
            let report = &trials[member.trial].report;
            (report.candidate.featurizer, report.head_nanos)
        };
        latency::ensemble_micros(members.iter().map(of_member), self.text_bytes)
    }

    fn is_in_time(&self, trials: &[Trial], members: &[Member]) -> bool {
        self.max_latency_us.is_none_or(|limit| self.latency_us(trials, members) <= limit as f64)
    }

    /// Why no trial can be a member.
    fn too_slow(&self, trials: &[Trial]) -> TrainError {
        let complete = trials.iter().enumerate().filter(|(_, trial)| trial.outcome.is_some());
        let timed = complete.map(|(at, trial)| {
            let alone = Member { trial: at, picks: 1, score_with: f64::NAN };
            (self.latency_us(trials, &[alone]), trial.report.candidate.name())
        });
        let fastest = timed.min_by(|a, b| a.0.total_cmp(&b.0));
        let (fastest_us, name) = fastest.expect("at least one trial is complete");
        TrainError::Latency {
            limit_us: self.max_latency_us.unwrap_or(u64::MAX),
            fastest_us: fastest_us.ceil() as u64,
            name,
        }
    }
}

/// The predictions of an ensemble for a single-choice task, calibrated as a whole, and what
/// calibrated them. Those for a multi-label task are joined in [`crate::multi_label`].
pub fn predictions(
    bench: &Workbench<'_>,
    trials: &[Trial],
    members: &[Member],
) -> (RankedRows, Tempering) {
    let (mixed, plain) = match (members, bench.prepared.expected_accuracy()) {
        // Calibrated by itself.
        ([only], None) => (outcome(&trials[only.trial]).ranked.clone(), Tempering::NONE),
        _ => {
            let mixed = mix(trials, members);
            let plain = Tempering::by(temperature_of(bench, &mixed));
            (mixed, plain)
        }
    };
    let tempering = match bench.prepared.expected_accuracy() {
        // Labels that were made tell nothing of how often a prediction is right.
        Some(_) => plain,
        None => choose_tempering(
            &confidence::Predictions {
                ranked: &mixed,
                targets: &bench.prepared.targets,
                weights: &bench.prepared.weights,
                folds: &bench.folds.of_row,
            },
            plain,
        ),
    };
    if tempering == Tempering::NONE {
        return (mixed, tempering);
    }
    let classes = mixed.class_count();
    let parts: Vec<RankedRows> = (0..mixed.len())
        .collect::<Vec<_>>()
        .par_chunks(ROWS_PER_TASK)
        .map(|rows| {
            let mut ranked = RankedRows::new(classes);
            let mut probabilities = vec![0f32; classes];
            for &row in rows {
                mixed.spread(row, &mut probabilities);
                temper(&mut probabilities, bench.link(), tempering);
                ranked.push(&probabilities);
            }
            ranked
        })
        .collect();
    (RankedRows::concatenate(classes, parts), tempering)
}

/// The one temperature that fits a mixture of members.
fn temperature_of(bench: &Workbench<'_>, mixed: &RankedRows) -> f32 {
    let classes = mixed.class_count();
    let rows = temperature_rows(mixed.len());
    let mut logs = vec![0f32; rows.len() * classes];
    for (&row, logs) in rows.iter().zip(logs.chunks_exact_mut(classes)) {
        mixed.spread(row as usize, logs);
        logs.iter_mut().for_each(|value| *value = value.max(LEAST_PROBABILITY).ln());
    }
    let logs: Vec<&[f32]> = logs.chunks_exact(classes).collect();
    match bench.prepared.expected_accuracy() {
        Some(accuracy) => temperature_for_confidence(&logs, accuracy),
        None => fit_temperature(&logs, &rows, &bench.prepared.targets, &bench.prepared.weights),
    }
}

/// The smallest probability whose logarithm is taken; as prediction does.
const LEAST_PROBABILITY: f32 = 1e-12;
/// Rows calibrated by one task.
const ROWS_PER_TASK: usize = 256;

fn mix(trials: &[Trial], members: &[Member]) -> RankedRows {
    let sets: Vec<(&RankedRows, f32)> =
        weighted(trials, members).into_iter().map(|(_, ranked, weight)| (ranked, weight)).collect();
    RankedRows::mix(&sets)
}

/// The number of each member's trial, its held-out predictions and its weight.
pub fn weighted<'a>(trials: &'a [Trial], members: &[Member]) -> Vec<(usize, &'a RankedRows, f32)> {
    let picks: u32 = members.iter().map(|member| member.picks).sum();
    let weighted = |member: &Member| {
        let trial = &trials[member.trial];
        (trial.report.number, &outcome(trial).ranked, member.picks as f32 / picks as f32)
    };
    members.iter().map(weighted).collect()
}

/// What a member's trial left behind.
pub fn outcome(trial: &Trial) -> &Outcome {
    trial.outcome.as_ref().expect("members are picked among trials whose predictions are kept")
}

/// What an ensemble is worth on held-out rows.
#[derive(Clone, Copy)]
struct Standing {
    goodness: f64,
    log_loss: f64,
    /// The metric itself.
    score: f64,
}

/// The best standing and its place; the first among equals.
fn best(standings: &[Option<Standing>]) -> Option<(usize, Standing)> {
    let found = standings.iter().enumerate().filter_map(|(at, found)| Some((at, (*found)?)));
    found.reduce(|best, next| {
        let by_goodness = next.1.goodness.total_cmp(&best.1.goodness);
        let order = by_goodness.then(best.1.log_loss.total_cmp(&next.1.log_loss));
        if order.is_gt() { next } else { best }
    })
}
