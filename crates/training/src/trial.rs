//! One candidate over all folds.

use std::borrow::Cow;

use corral_classifier::calibration::{sigmoid, temper};
use corral_classifier::{Calibration, DenseRows, Head, Link, Tempering};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::calibrate::{fit_sigmoid, fit_temperature, temperature_rows};
use crate::candidate::Candidate;
use crate::error::TrainError;
use crate::features::{FeatureBlocks, FeaturizerSettings};
use crate::folds::{ALWAYS_FITTED, Folds};
use crate::latency;
use crate::learner::{FitEffort, Fitted, HeadBudget, LearnerSettings, Problem};
use crate::metrics::{self, Decisions, DetailedEvaluation, Evaluation, Levels, RankedRows};
use crate::options::Metric;
use crate::plan::Rung;
use crate::prepare::{HeldOut, Prepared};
use crate::random::Random;
use crate::report::TrialReport;
use crate::rows::LabelKind;
use crate::sampler::Point;

/// Everything trials share.
pub struct Workbench<'a> {
    pub prepared: &'a Prepared<'a>,
    pub blocks: &'a FeatureBlocks,
    pub folds: &'a Folds,
    pub levels: Option<&'a Levels>,
    pub metric: Metric,
    pub seed: u64,
    pub head_budget: HeadBudget,
    /// Asked between passes whether to give up.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// A candidate that was tried.
#[derive(Clone, Debug)]
pub struct Trial {
    pub report: TrialReport,
    /// Where it stands in the space; `None` for one that was given.
    pub point: Option<Point>,
    /// Present where all folds were run, for as long as the trial may join an ensemble.
    pub outcome: Option<Outcome>,
}

/// What a trial over all folds leaves behind.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub calibration: FittedCalibration,
    /// Calibrated predictions of every scored row, made by the fold's model that had not
    /// seen it.
    pub ranked: RankedRows,
}

/// A calibration as checkpoints keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedCalibration {
    Temperature(f32),
    PerClass { slopes: Vec<f32>, offsets: Vec<f32> },
}

/// One fold of a trial: the scores of the rows it held out.
pub struct FoldScores {
    scores: DenseRows,
    held_out: Vec<u32>,
    pub head_bytes: usize,
    /// What the head takes for a text, by estimate.
    pub head_nanos: f64,
    pub passes: usize,
    pub cpu_seconds: f64,
}

/// Rows to fit on, and how.
struct Fit<'a> {
    /// The trial that an error is told of.
    number: usize,
    rows: &'a [u32],
    held_out: HeldOut,
    seed: u64,
    effort: FitEffort,
}

/// Predictions over the rows that some folds held out.
pub struct Joined {
    /// In rising order.
    pub rows: Vec<u32>,
    pub calibration: FittedCalibration,
    /// Calibrated, one for each of `rows`.
    pub ranked: RankedRows,
    pub evaluation: Evaluation,
}

impl FittedCalibration {
    /// The same, as prediction applies it.
    pub fn as_applied(&self) -> Calibration<'_> {
        match self {
            Self::Temperature(temperature) => Calibration::Temperature(*temperature),
            Self::PerClass { slopes, offsets } => Calibration::PerOutput {
                slopes: Cow::Borrowed(slopes.as_slice()),
                offsets: Cow::Borrowed(offsets.as_slice()),
            },
        }
    }

    /// From calibrated probabilities to those of the plain link.
    fn undo(&self, link: Link, probabilities: &mut [f32]) {
        match self {
            Self::Temperature(temperature) => {
                temper(probabilities, link, Tempering::by(temperature.recip()));
            }
            Self::PerClass { slopes, offsets } => {
                let maps = slopes.iter().zip(offsets);
                // A slope of zero says the same of all scores.
                let maps = probabilities.iter_mut().zip(maps).filter(|(_, map)| *map.0 != 0.0);
                for (probability, (slope, offset)) in maps {
                    let inner = probability.clamp(LEAST_PROBABILITY, 1.0 - f32::EPSILON);
                    let score = ((inner / (1.0 - inner)).ln() - offset) / slope;
                    *probability = sigmoid(score);
                }
            }
        }
    }

    /// The same, to be written into a model.
    pub fn into_applied(self) -> Calibration<'static> {
        match self {
            Self::Temperature(temperature) => Calibration::Temperature(temperature),
            Self::PerClass { slopes, offsets } => {
                Calibration::PerOutput { slopes: Cow::Owned(slopes), offsets: Cow::Owned(offsets) }
            }
        }
    }
}

impl Workbench<'_> {
    pub const fn link(&self) -> Link {
        match self.prepared.kind {
            LabelKind::SingleChoice => Link::Softmax,
            LabelKind::MultiLabel => Link::Sigmoid,
        }
    }

    /// Fits a candidate on some rows, to the end.
    pub fn fit(
        &self,
        number: usize,
        candidate: &Candidate,
        rows: &[u32],
        held_out: HeldOut,
        seed: u64,
    ) -> Result<Fitted, TrainError> {
        let fit = Fit { number, rows, held_out, seed, effort: FitEffort::Full };
        let mut fitted = None;
        let mut take = |only| fitted = Some(only);
        self.fit_path(&candidate.featurizer, &[candidate.learner], &fit, &mut take)?;
        fitted.ok_or(TrainError::Cancelled)
    }

    /// Fits learners on the same features and rows, each from where the one before ended where
    /// they share a path, and hands over the results.
    fn fit_path(
        &self,
        featurizer: &FeaturizerSettings,
        learners: &[LearnerSettings],
        fit: &Fit<'_>,
        take: &mut dyn FnMut(Fitted),
    ) -> Result<(), TrainError> {
        let (targets, row_weights) = self.prepared.fitted_labels(fit.held_out);
        let features = self.blocks.rows(featurizer);
        let problem = Problem {
            features,
            squared_norms: &features.squared_norms(),
            rows: fit.rows,
            class_count: self.prepared.outputs.len(),
            targets,
            row_weights,
            class_weights: &self.prepared.class_weights,
            parents: self.prepared.parents.as_ref(),
            link: self.link(),
            seed: fit.seed,
            stop: self.stop,
        };
        LearnerSettings::fit_path(learners, &problem, fit.effort, self.head_budget, take)
            .map_err(|source| TrainError::Head { trial: fit.number, source })
    }

    /// Fits candidates of one featurizer, as far as a rung says, on the rows of all folds but
    /// one, and scores that fold's; one result for each candidate. `number` is the trial that an
    /// error is told of.
    pub fn run_fold(
        &self,
        number: usize,
        featurizer: &FeaturizerSettings,
        learners: &[LearnerSettings],
        fold: usize,
        rung: Rung,
    ) -> Result<Vec<FoldScores>, TrainError> {
        let (mut rows, held_out) = self.folds.parts(fold);
        if rung.row_share < 1.0 {
            self.thin(&mut rows, rung.row_share);
        }
        let fit = Fit {
            number,
            rows: &rows,
            held_out: HeldOut::Fold(fold),
            seed: self.fold_seed(fold),
            effort: rung.effort,
        };
        let mut folds = Vec::with_capacity(learners.len());
        self.fit_path(featurizer, learners, &fit, &mut |fitted| {
            folds.push(FoldScores {
                scores: self.score(&fitted.head, featurizer, &held_out),
                held_out: held_out.clone(),
                head_bytes: fitted.head.memory_bytes(),
                head_nanos: fitted.head.score_nanos(latency::row_shape(self.blocks, featurizer)),
                passes: fitted.passes,
                cpu_seconds: fitted.cpu.as_secs_f64(),
            });
        })?;
        if folds.len() < learners.len() {
            return Err(TrainError::Cancelled);
        }
        Ok(folds)
    }

    /// The seed of fits that hold out a fold.
    pub const fn fold_seed(&self, fold: usize) -> u64 {
        self.seed ^ (fold as u64 + 1) << 48
    }

    /// Leaves about a share of the rows that some fold holds out; the others stay.
    fn thin(&self, rows: &mut Vec<u32>, share: f64) {
        rows.retain(|&row| {
            self.folds.of_row[row as usize] == ALWAYS_FITTED
                || Random::new(self.seed, THIN_STREAM + u64::from(row)).unit() < share
        });
    }

    /// Scores rows as prediction does.
    pub fn score(
        &self,
        head: &Head<'_>,
        featurizer: &FeaturizerSettings,
        rows: &[u32],
    ) -> DenseRows {
        let features = self.blocks.feature_rows(featurizer);
        head.score_rows(rows.len(), |index| features(rows[index] as usize))
    }

    /// Joins folds of a trial: calibrates their scores and evaluates the predictions.
    pub fn join(&self, folds: &[FoldScores]) -> Joined {
        let (rows, scores) = in_row_order(folds);
        let calibration = self.fit_calibration(&rows, &scores);
        let ranked = self.rank(rows.len(), &scores, &calibration.as_applied());
        let evaluation = self.evaluate_rows(&ranked, &rows).summary;
        Joined { rows, calibration, ranked, evaluation }
    }

    /// The calibration error of a trial's predictions as they were before calibration, which is
    /// undone: the scores are gone. Classes that were not kept are taken to share what is left.
    pub fn ece_uncalibrated(&self, outcome: &Outcome) -> f64 {
        let undo = |probabilities: &mut [f32]| {
            outcome.calibration.undo(self.link(), probabilities);
        };
        self.evaluate(&outcome.ranked.map(&undo)).summary.ece
    }

    /// The metric on each of these folds, by the joined predictions.
    pub fn fold_scores(&self, folds: &[FoldScores], joined: &Joined) -> Vec<f64> {
        let place =
            |row: &u32| joined.rows.binary_search(row).expect("joined of these folds") as u32;
        let score = |fold: &FoldScores| {
            let places: Vec<u32> = fold.held_out.iter().map(place).collect();
            let ranked = joined.ranked.select(&places);
            self.metric.value(&self.evaluate_rows(&ranked, &fold.held_out).summary)
        };
        folds.iter().map(score).collect()
    }

    /// Evaluates predictions of all scored rows.
    pub fn evaluate(&self, ranked: &RankedRows) -> DetailedEvaluation {
        let rows: Vec<u32> = (0..self.prepared.scored as u32).collect();
        self.evaluate_rows(ranked, &rows)
    }

    /// Evaluates predictions of some rows.
    pub fn evaluate_rows(&self, ranked: &RankedRows, rows: &[u32]) -> DetailedEvaluation {
        match self.prepared.kind {
            LabelKind::SingleChoice => {
                metrics::evaluate(ranked, rows, self.prepared.answers(), self.levels)
            }
            LabelKind::MultiLabel => metrics::evaluate_multi_label(
                ranked,
                rows,
                self.prepared.answers(),
                Decisions::Even,
            ),
        }
    }

    /// `scores(at)` are those of `rows[at]`.
    fn fit_calibration<'s>(
        &self,
        rows: &[u32],
        scores: &(impl Fn(usize) -> &'s [f32] + Sync),
    ) -> FittedCalibration {
        let prepared = self.prepared;
        match prepared.kind {
            LabelKind::SingleChoice => {
                let sampled = temperature_rows(rows.len());
                let of_rows: Vec<u32> = sampled.iter().map(|&at| rows[at as usize]).collect();
                let sampled: Vec<&[f32]> = sampled.iter().map(|&at| scores(at as usize)).collect();
                let temperature =
                    fit_temperature(&sampled, &of_rows, &prepared.targets, &prepared.weights);
                FittedCalibration::Temperature(temperature)
            }
            LabelKind::MultiLabel => {
                let sigmoids: Vec<(f32, f32)> = (0..prepared.outputs.len() as u32)
                    .into_par_iter()
                    .map(|class| {
                        let rows: Vec<(f32, bool, f32)> = (rows.iter().enumerate())
                            .map(|(at, &row)| {
                                let row = row as usize;
                                let is_right = prepared.targets.row(row).0.contains(&class);
                                (scores(at)[class as usize], is_right, prepared.weights[row])
                            })
                            .collect();
                        let sigmoid = fit_sigmoid(&rows);
                        (sigmoid.slope as f32, sigmoid.offset as f32)
                    })
                    .collect();
                let (slopes, offsets) = sigmoids.into_iter().unzip();
                FittedCalibration::PerClass { slopes, offsets }
            }
        }
    }

    /// Calibrated scores as predictions; `scores(at)` are those of one row of `count`.
    pub fn rank<'s>(
        &self,
        count: usize,
        scores: &(impl Fn(usize) -> &'s [f32] + Sync),
        calibration: &Calibration<'_>,
    ) -> RankedRows {
        let classes = self.prepared.outputs.len();
        let parts: Vec<RankedRows> = (0..count.div_ceil(ROWS_PER_TASK))
            .into_par_iter()
            .map(|task| {
                let mut ranked = RankedRows::new(classes);
                let mut probabilities = vec![0f32; classes];
                for at in task * ROWS_PER_TASK..count.min((task + 1) * ROWS_PER_TASK) {
                    probabilities.copy_from_slice(scores(at));
                    calibration.apply(self.link(), &mut probabilities);
                    ranked.push(&probabilities);
                }
                ranked
            })
            .collect();
        RankedRows::concatenate(classes, parts)
    }
}

/// The rows that folds held out, in rising order, and the scores of each by its place there.
fn in_row_order<'f>(folds: &'f [FoldScores]) -> (Vec<u32>, impl Fn(usize) -> &'f [f32] + Sync) {
    let mut all: Vec<(u32, (u32, u32))> = (0u32..)
        .zip(folds)
        .flat_map(|(fold, scores)| {
            scores.held_out.iter().zip(0u32..).map(move |(&row, place)| (row, (fold, place)))
        })
        .collect();
    all.sort_unstable();
    let (rows, places): (Vec<u32>, Vec<(u32, u32)>) = all.into_iter().unzip();
    let scores = move |at: usize| {
        let (fold, place) = places[at];
        folds[fold as usize].scores.row(place as usize)
    };
    (rows, scores)
}

/// Keeps log-odds finite.
const LEAST_PROBABILITY: f32 = 1e-12;
/// Rows ranked by one task.
const ROWS_PER_TASK: usize = 256;
/// Marks the random numbers by which rows are left out of cheap fits.
const THIN_STREAM: u64 = 0x7468_696e_0000_0000;
