//! Learning which texts to take for none of the classes, from rows of no class.
//!
//! The ensemble is fitted once more without each fold, as in the search, and scores the rows of
//! that fold and its part of the rows of no class, none of which it has seen. A model that
//! answers by the very code that will serve gives the signals; by them a [detector] is fitted,
//! and it, the entropy and the highest probability are tried against each other. What is
//! chosen refuses as many rows of no class as it can for the cost that is allowed:
//! [`threshold`].
//!
//! Where the split valid has rows of no class enough, score and threshold are chosen by that
//! split alone, and the detector is fitted on the split train.

mod decision;
mod detector;
mod threshold;

use std::path::Path;

use corral_classifier::model::Scratch;
use corral_classifier::refusal::{SHARED_SIGNALS, normalised_entropy};
use corral_classifier::{
    Detector, Encoder, Model, ModelSpec, PredictOptions, Refusal, RefusalScore, TextEmbedding,
};
use rayon::prelude::*;

use self::decision::{Decision, Judged, decide};
use self::threshold::{Outcome, ScoredRow, Truth};
use crate::error::TrainError;
use crate::metrics::likeliest;
use crate::observer::Observer;
use crate::prepare::{HeldOut, NoneRows, TestRows};
use crate::refit::Refit;
use crate::report::{RefusalKind, RefusalScores, RefusalSummary};
use crate::targets::Targets;
use crate::trial::Workbench;

/// Rows of a class beyond which further folds are not fitted again: what a threshold costs is
/// known well by these.
const ENOUGH_ROWS: usize = 20_000;
/// Texts that are embedded at once.
const TEXTS_AT_ONCE: usize = 1024;

/// How a model refuses, and what that is worth.
pub struct Learnt {
    pub refusal: Refusal<'static>,
    pub summary: RefusalSummary,
}

/// Learns how an ensemble is to refuse texts.
///
/// # Errors
/// When the run was cancelled, or a fit fails.
pub fn learn(
    refit: &Refit<'_>,
    none: &NoneRows<'_>,
    observer: &dyn Observer,
) -> Result<Learnt, TrainError> {
    let options = refit.options;
    let rows = judge_rows(refit, none, observer)?;
    let Decision { kind, detector, threshold, judged_by, fitted_on, tried, outcome } =
        decide(&rows, options.refusal_cost, options.seed);
    let fitted_none_rows = detector.as_ref().map_or(0, |fitted| fitted.none_rows);
    let score = match (kind, detector) {
        (RefusalKind::Detector, Some(fitted)) => {
            RefusalScore::Detector(Detector { weights: fitted.weights.into(), bias: fitted.bias })
        }
        (RefusalKind::Doubt, _) => RefusalScore::Doubt,
        _ => RefusalScore::Entropy,
    };
    let summary = RefusalSummary {
        none_label: none.label.clone(),
        score: kind,
        threshold: f64::from(threshold),
        cost: options.refusal_cost,
        judged_by,
        fitted_none_rows: fitted_none_rows as u64,
        fitted_on,
        tried,
        held_out: scores_of(&outcome),
        test: None,
    };
    Ok(Learnt { refusal: Refusal { score, threshold }, summary })
}

/// What refusals of the finished file do to the test split; `None` where that is empty.
///
/// # Errors
/// When the run was cancelled, or the file cannot be read.
pub fn test(
    model_path: &Path,
    tested: &TestRows<'_>,
    none: &NoneRows<'_>,
    encoder: Option<&dyn Encoder>,
    observer: &dyn Observer,
) -> Result<Option<RefusalScores>, TrainError> {
    if tested.texts.is_empty() && none.test_texts.is_empty() {
        return Ok(None);
    }
    let model = Model::open(model_path).map_err(TrainError::OpenModel)?;
    // A refused row is at or above any threshold, so that rows can be counted as if scored.
    let scored = |texts: &[&str], truth: &dyn Fn(usize, u32) -> Truth| {
        let mut rows = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(TEXTS_AT_ONCE) {
            if observer.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            let options = PredictOptions::default();
            let answers =
                model.predict_batch(chunk, encoder, &options).map_err(TrainError::Predict)?;
            for answer in answers {
                let is_refused = answer.refusal.is_some_and(|verdict| verdict.is_refused);
                let score = if is_refused { 1.0 } else { 0.0 };
                let truth = truth(rows.len(), answer.ranked[0].class);
                rows.push(ScoredRow { score, truth });
            }
        }
        Ok(rows)
    };
    let outputs: Vec<u32> = (0..model.output_count())
        .filter_map(|output| Some(model.output_class(output)?.index))
        .collect();
    let mut rows = scored(&tested.texts, &|row, class| {
        truth_of(&tested.targets, row, |output| outputs.get(output as usize) == Some(&class))
    })?;
    rows.extend(scored(&none.test_texts, &|_, _| Truth::None)?);
    Ok(Some(scores_of(&Outcome::of(&rows, 0.5))))
}

fn truth_of(targets: &Targets, row: usize, is_first: impl Fn(u32) -> bool) -> Truth {
    if targets.right(row).any(is_first) { Truth::Hit } else { Truth::Miss }
}

fn scores_of(outcome: &Outcome) -> RefusalScores {
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    let in_scope = outcome.in_scope;
    RefusalScores {
        in_scope_rows: in_scope as u64,
        accuracy_without: share(outcome.hits, in_scope),
        accuracy: share(outcome.hits - outcome.refused_hits, in_scope),
        refused_in_scope: share(outcome.refused_in_scope, in_scope),
        none_rows: outcome.none as u64,
        refused_none: share(outcome.refused_none, outcome.none),
    }
}

/// Scores rows of a class and rows of no class by ensembles that have seen neither.
fn judge_rows(
    refit: &Refit<'_>,
    none: &NoneRows<'_>,
    observer: &dyn Observer,
) -> Result<Vec<Judged>, TrainError> {
    let bench = refit.bench;
    let folds = folds_used(bench);
    let mut judged = Vec::new();
    for fold in 0..folds {
        if observer.is_cancelled() {
            return Err(TrainError::Cancelled);
        }
        let (mut spec, _) = refit.fit(HeldOut::Fold(fold))?;
        spec.thresholds.refusal = Some(Refusal {
            score: RefusalScore::Detector(Detector {
                weights: vec![0.0; SHARED_SIGNALS + spec.members.len()].into(),
                bias: 0.0,
            }),
            threshold: 1.0,
        });
        let model = in_memory(spec)?;
        let (_, held_out) = bench.folds.parts(fold);
        let in_scope: Vec<Judged> = held_out
            .par_iter()
            .map_init(Scratch::default, |scratch, &row| {
                let row = row as usize;
                let embedding = bench.blocks.embeddings.text(row);
                let signals = signals(&model, bench.prepared.texts[row], embedding, scratch)?;
                let first = likeliest(scratch.probabilities());
                let truth = truth_of(&bench.prepared.targets, row, |output| output == first);
                Ok(Judged { truth, is_valid: none.scored_is_valid[row], ..signals })
            })
            .collect::<Result<_, TrainError>>()?;
        judged.extend(in_scope);
        let of_fold: Vec<usize> = (fold..none.texts.len()).step_by(folds).collect();
        for rows in of_fold.chunks(TEXTS_AT_ONCE) {
            let texts: Vec<&str> = rows.iter().map(|&row| none.texts[row]).collect();
            let embeddings = model.encode(&texts, refit.encoder).map_err(TrainError::Predict)?;
            let rows: Vec<Judged> = rows
                .par_iter()
                .enumerate()
                .map_init(Scratch::default, |scratch, (at, &row)| {
                    let signals = signals(&model, texts[at], embeddings.text(at), scratch)?;
                    Ok(Judged { truth: Truth::None, is_valid: none.is_valid[row], ..signals })
                })
                .collect::<Result<_, TrainError>>()?;
            judged.extend(rows);
        }
    }
    Ok(judged)
}

/// How many folds are fitted again.
fn folds_used(bench: &Workbench<'_>) -> usize {
    let in_fold = bench.prepared.scored / bench.folds.count;
    ENOUGH_ROWS.div_ceil(in_fold.max(1)).min(bench.folds.count)
}

/// A model as it is served, from memory.
fn in_memory(spec: ModelSpec) -> Result<Model, TrainError> {
    let bytes = spec.to_bytes().map_err(TrainError::WriteModel)?;
    drop(spec);
    Model::from_bytes(&bytes).map_err(TrainError::OpenModel)
}

/// What a model's signals say of a text, whose truth is filled in by the caller.
fn signals(
    model: &Model,
    text: &str,
    embedding: TextEmbedding<'_>,
    scratch: &mut Scratch,
) -> Result<Judged, TrainError> {
    let signals = model.signals(text, embedding, scratch).map_err(TrainError::Predict)?.to_vec();
    let probabilities = scratch.probabilities();
    let highest = probabilities.iter().copied().fold(0f32, f32::max);
    Ok(Judged {
        signals,
        doubt: 1.0 - highest,
        entropy: normalised_entropy(probabilities),
        truth: Truth::None,
        is_valid: false,
    })
}

/// What learning to refuse takes, in bytes: signals of rows, and a model beside the bytes it is
/// made of.
pub const fn memory_bytes(rows: usize, model_bytes: u64) -> usize {
    let judged = if rows < 2 * ENOUGH_ROWS { rows } else { 2 * ENOUGH_ROWS };
    judged * (size_of::<Judged>() + MOST_SIGNALS * size_of::<f32>()) + 3 * model_bytes as usize
}

/// Signals of an ensemble with as many members as usual.
const MOST_SIGNALS: usize = 16;
