//! One candidate over all folds.

use std::borrow::Cow;
use std::time::Instant;

use corral_classifier::{Calibration, DenseRows, Head, Link};
use corral_types::Timestamp;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::calibrate::{fit_sigmoid, fit_temperature, temperature_rows};
use crate::error::TrainError;
use crate::features::{FeatureBlocks, FeaturizerSettings};
use crate::folds::Folds;
use crate::learner::{FitEffort, Fitted, HeadBudget, Problem};
use crate::metrics::{self, DetailedEvaluation, Levels, RankedRows};
use crate::options::Metric;
use crate::plan::Candidate;
use crate::prepare::Prepared;
use crate::report::TrialReport;
use crate::rows::LabelKind;

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

/// A finished trial.
#[derive(Clone, Debug)]
pub struct Trial {
    pub report: TrialReport,
    pub calibration: FittedCalibration,
    /// Calibrated predictions of every scored row, made by the fold's model that had not
    /// seen it.
    pub ranked: RankedRows,
    /// The calibration error before calibration.
    pub ece_uncalibrated: f64,
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
    head_bytes: usize,
    passes: usize,
    cpu_seconds: f64,
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

    /// Fits a candidate on some rows.
    pub fn fit(
        &self,
        number: usize,
        candidate: &Candidate,
        rows: &[u32],
        seed: u64,
    ) -> Result<Fitted, TrainError> {
        let features = self.blocks.rows(&candidate.featurizer);
        let problem = Problem {
            features,
            squared_norms: &features.squared_norms(),
            rows,
            class_count: self.prepared.outputs.len(),
            targets: &self.prepared.targets,
            row_weights: &self.prepared.weights,
            class_weights: &self.prepared.class_weights,
            seed,
            stop: self.stop,
        };
        let fitted = candidate.learner.fit(&problem, FitEffort::Full, self.head_budget);
        fitted
            .map_err(|source| TrainError::Head { trial: number, source })?
            .ok_or(TrainError::Cancelled)
    }

    /// Fits a candidate without one fold and scores that fold's rows.
    pub fn run_fold(
        &self,
        number: usize,
        candidate: &Candidate,
        fold: usize,
    ) -> Result<FoldScores, TrainError> {
        let (fitted_rows, held_out) = self.folds.parts(fold);
        let fitted =
            self.fit(number, candidate, &fitted_rows, self.seed ^ (fold as u64 + 1) << 48)?;
        let scores = self.score(&fitted.head, &candidate.featurizer, &held_out);
        Ok(FoldScores {
            scores,
            held_out,
            head_bytes: fitted.head.memory_bytes(),
            passes: fitted.passes,
            cpu_seconds: fitted.cpu.as_secs_f64(),
        })
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

    /// Joins the folds of a trial: calibrates their scores and evaluates the predictions.
    pub fn join_folds(
        &self,
        number: usize,
        candidate: Candidate,
        folds: Vec<FoldScores>,
        started: (Timestamp, Instant),
    ) -> Trial {
        let classes = self.prepared.outputs.len();
        let mut scores = DenseRows::zeros(self.prepared.scored, classes);
        for fold in &folds {
            for (at, &row) in fold.held_out.iter().enumerate() {
                scores.row_mut(row as usize).copy_from_slice(fold.scores.row(at));
            }
        }
        let held_out: Vec<Vec<u32>> = folds.iter().map(|fold| fold.held_out.clone()).collect();
        let head_bytes = folds.iter().map(|fold| fold.head_bytes).max().unwrap_or(0) as u64;
        let passes = folds.iter().map(|fold| fold.passes).max().unwrap_or(0);
        let fit_cpu_seconds = folds.iter().map(|fold| fold.cpu_seconds).sum();
        drop(folds);
        let calibration = self.fit_calibration(&scores);
        let ece_uncalibrated = self.evaluate(&self.rank(&scores, &Calibration::NONE)).summary.ece;
        let ranked = self.rank(&scores, &calibration.as_applied());
        let evaluation = self.evaluate(&ranked).summary;
        let fold_scores = held_out
            .iter()
            .map(|rows| self.metric.value(&self.evaluate_rows(&ranked.select(rows), rows).summary))
            .collect();
        let report = TrialReport {
            number,
            candidate,
            score: self.metric.value(&evaluation),
            fold_scores,
            evaluation,
            head_bytes,
            passes,
            fit_cpu_seconds,
            wall_seconds: started.1.elapsed().as_secs_f64(),
            started_at: started.0,
            ended_at: Timestamp::now(),
        };
        Trial { report, calibration, ranked, ece_uncalibrated }
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
                metrics::evaluate(ranked, rows, &self.prepared.targets, self.levels)
            }
            LabelKind::MultiLabel => {
                metrics::evaluate_multi_label(ranked, rows, &self.prepared.targets)
            }
        }
    }

    fn fit_calibration(&self, scores: &DenseRows) -> FittedCalibration {
        let prepared = self.prepared;
        let classes = prepared.outputs.len();
        match prepared.kind {
            LabelKind::SingleChoice => {
                let rows = temperature_rows(prepared.scored);
                let scores: Vec<&[f32]> =
                    rows.iter().map(|&row| scores.row(row as usize)).collect();
                let temperature =
                    fit_temperature(&scores, &rows, &prepared.targets, &prepared.weights);
                FittedCalibration::Temperature(temperature)
            }
            LabelKind::MultiLabel => {
                let sigmoids: Vec<(f32, f32)> = (0..classes as u32)
                    .into_par_iter()
                    .map(|class| {
                        let rows: Vec<(f32, bool, f32)> = (0..prepared.scored)
                            .map(|row| {
                                let is_right = prepared.targets.row(row).0.contains(&class);
                                (scores.row(row)[class as usize], is_right, prepared.weights[row])
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

    /// Calibrated scores as predictions.
    pub fn rank(&self, scores: &DenseRows, calibration: &Calibration<'_>) -> RankedRows {
        let parts: Vec<RankedRows> = scores
            .values()
            .par_chunks(scores.width() * ROWS_PER_TASK)
            .map(|scores_of_rows| {
                let mut ranked = RankedRows::new(scores.width());
                let mut probabilities = vec![0f32; scores.width()];
                for row in scores_of_rows.chunks_exact(scores.width()) {
                    probabilities.copy_from_slice(row);
                    calibration.apply(self.link(), &mut probabilities);
                    ranked.push(&probabilities);
                }
                ranked
            })
            .collect();
        RankedRows::concatenate(scores.width(), parts)
    }
}

/// Rows ranked by one task.
const ROWS_PER_TASK: usize = 256;
