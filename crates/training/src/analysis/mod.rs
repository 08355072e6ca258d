//! What a person can learn from a finished search: which rows are likely labelled wrongly or
//! stand twice, which classes are taken for which, how far probabilities can be trusted,
//! whether more rows would help, and what each member is worth.
//!
//! All of it is computed after the model is chosen, from predictions that already exist and a
//! few fits on fewer rows. Nothing here changes the model.

mod back_off;
mod confusion;
mod label_errors;
mod latency;
mod learning_curve;
mod near_duplicates;
mod refusal;

use std::path::Path;

use corral_classifier::Encoder;

pub use confusion::confused_pairs;

use crate::error::TrainError;
use crate::metrics::{DetailedEvaluation, RankedRows};
use crate::observer::Observer;
use crate::prepare::Prepared;
use crate::report::{self, Findings, MemberEffect, TrialReport};
use crate::rows::LabelKind;
use crate::targets::Targets;
use crate::trial::Workbench;

/// What is analysed.
pub struct Finished<'a> {
    pub bench: &'a Workbench<'a>,
    /// The ensemble's predictions of the rows that folds held out.
    pub held_out: &'a RankedRows,
    /// Those, evaluated.
    pub cv: &'a DetailedEvaluation,
    pub trials: Vec<&'a TrialReport>,
    /// The number of each member's trial, its held-out predictions and its weight.
    pub members: Vec<(usize, &'a RankedRows, f32)>,
    pub model_path: &'a Path,
    pub encoder: Option<&'a dyn Encoder>,
    pub observer: &'a dyn Observer,
}

/// Analyses a finished search.
///
/// # Errors
/// When the run was cancelled, a fit of the learning curve fails, or the model file cannot be
/// read.
pub fn analyse(finished: &Finished<'_>) -> Result<Findings, TrainError> {
    let (bench, prepared) = (finished.bench, finished.bench.prepared);
    let is_single = prepared.kind == LabelKind::SingleChoice;
    let duplicates = near_duplicates::find(prepared);
    if finished.observer.is_cancelled() {
        return Err(TrainError::Cancelled);
    }
    // Who wants the model now does not wait for further fits.
    let learning_curve = if finished.observer.finish_now() {
        None
    } else {
        learning_curve::measure(bench, &finished.trials)?
    };
    Ok(Findings {
        reliability: finished.cv.reliability.clone(),
        refusals: if is_single {
            refusal::points(finished.held_out, &prepared.targets)
        } else {
            Vec::new()
        },
        back_offs: match bench.levels.filter(|_| is_single) {
            Some(levels) => back_off::points(finished.held_out, &prepared.targets, levels),
            None => Vec::new(),
        },
        label_errors: if is_single {
            label_errors::find(prepared, finished.held_out)
        } else {
            Default::default()
        },
        duplicates,
        learning_curve,
        members: member_effects(finished),
        latency: latency::measure(prepared, finished.model_path, finished.encoder)?,
        split_shift: split_shift(prepared),
    })
}

/// The memory that the analysis of so many rows takes beside the predictions, in bytes. The
/// learning curve takes what one trial took, which the search has given back.
pub const fn memory_bytes(rows: usize) -> usize {
    near_duplicates::memory_bytes(rows)
}

/// What each member is worth by itself, and the ensemble without it.
fn member_effects(finished: &Finished<'_>) -> Vec<MemberEffect> {
    let (bench, members) = (finished.bench, &finished.members);
    let score = |ranked: &RankedRows| bench.metric.value(&bench.evaluate(ranked).summary);
    let effect = |left_out: usize| {
        let rest = members.iter().enumerate().filter(|(at, _)| *at != left_out);
        let rest: Vec<(&RankedRows, f32)> =
            rest.map(|(_, &(_, ranked, weight))| (ranked, weight)).collect();
        let total: f32 = rest.iter().map(|(_, weight)| weight).sum();
        let rest: Vec<(&RankedRows, f32)> =
            rest.into_iter().map(|(ranked, weight)| (ranked, weight / total)).collect();
        let (trial, ranked, _) = members[left_out];
        MemberEffect {
            trial,
            score_alone: score(ranked),
            score_without: (!rest.is_empty()).then(|| score(&RankedRows::mix(&rest))),
        }
    };
    (0..members.len()).map(effect).collect()
}

/// How differently classes are spread over the rows learnt from and the test rows; `None`
/// without test rows.
fn split_shift(prepared: &Prepared<'_>) -> Option<f64> {
    let shares = |targets: &Targets, rows: usize| {
        let mut shares = vec![0f64; prepared.outputs.len()];
        for row in 0..rows {
            targets.right(row).for_each(|class| shares[class as usize] += 1.0);
        }
        let total = shares.iter().sum::<f64>().max(1.0);
        shares.iter_mut().for_each(|share| *share /= total);
        shares
    };
    let tested = prepared.test.targets.len();
    (tested > 0).then(|| {
        let learnt = shares(&prepared.targets, prepared.scored);
        let tested = shares(&prepared.test.targets, tested);
        learnt.iter().zip(tested).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
    })
}

/// Characters of a row's text that a report keeps: enough to recognise the row by.
pub const MAX_EXAMPLE_CHARS: usize = 240;

/// A row's text as reports keep it.
fn shorten(text: &str) -> String {
    report::shorten(text, MAX_EXAMPLE_CHARS)
}

/// The names of a row's classes, joined by commas.
fn label_of(prepared: &Prepared<'_>, targets: &Targets, row: usize) -> String {
    let names: Vec<&str> =
        targets.row(row).0.iter().map(|&class| prepared.class_name(class)).collect();
    shorten(&names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shortened_to_one_line() {
        assert_eq!(shorten("  a\n\t b\u{0}c "), "a b c");
        let long = shorten(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), MAX_EXAMPLE_CHARS + 1);
        assert!(long.ends_with('…'));
        assert_eq!(shorten(&"x".repeat(MAX_EXAMPLE_CHARS)), "x".repeat(MAX_EXAMPLE_CHARS));
    }
}
