//! What was found out about a run's rows and predictions beyond its scores.

use serde::{Deserialize, Serialize};

use crate::metrics::ReliabilityBin;

/// Everything the analysis after a search found. Reports of earlier versions have none of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// How often held-out predictions of like confidence are right, by bin of confidence.
    pub reliability: Vec<ReliabilityBin>,
    /// What becomes of the accuracy when unsure predictions are refused; the most answered first.
    pub refusals: Vec<RefusalPoint>,
    /// What answers are worth that go back to a parent until they are sure enough; empty for
    /// a flat taxonomy.
    pub back_offs: Vec<BackOffPoint>,
    pub label_errors: LabelErrors,
    pub duplicates: Duplicates,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_curve: Option<LearningCurve>,
    /// What each member of the ensemble is worth, in the order of the members.
    pub members: Vec<MemberEffect>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Half the summed difference between the shares that classes have among the rows learnt
    /// from and among the test rows: 0 where they are the same, 1 where none is in both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_shift: Option<f64>,
}

/// What refusing predictions below a probability does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusalPoint {
    pub threshold: f64,
    /// The share of rows that are answered.
    pub answered: f64,
    /// The accuracy on those.
    pub accuracy: f64,
}

/// Answers that are at least so probable, by their depth in the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackOffPoint {
    pub confidence: f64,
    /// The top first; the rows that are answered at none get no answer.
    pub levels: Vec<BackOffLevel>,
}

/// Answers at one depth of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackOffLevel {
    /// Classes above the answer: 0 at the top.
    pub depth: usize,
    /// The share of all rows that is answered here.
    pub answered: f64,
    /// The share of those that is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

impl BackOffPoint {
    /// The share of rows that get an answer.
    pub fn answered(&self) -> f64 {
        self.levels.iter().map(|level| level.answered).sum()
    }

    /// The accuracy of all answers together, where there are any.
    pub fn accuracy(&self) -> Option<f64> {
        let hits = |level: &BackOffLevel| level.answered * level.accuracy.unwrap_or(0.0);
        let answered = self.answered();
        (answered > 0.0).then(|| self.levels.iter().map(hits).sum::<f64>() / answered)
    }
}

/// A row by which a person sees what is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowExample {
    pub row_id: u64,
    /// Shortened.
    pub text: String,
    pub right: String,
    pub predicted: String,
    /// The probability of the prediction.
    pub probability: f64,
}

/// Rows whose label is likely wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelErrors {
    /// How many were found.
    pub rows: u64,
    /// The likeliest first.
    pub examples: Vec<LabelError>,
}

/// A row that the held-out predictions give to another class than its label does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelError {
    pub row_id: u64,
    /// Shortened.
    pub text: String,
    pub given: String,
    pub given_probability: f64,
    pub suggested: String,
    pub suggested_probability: f64,
}

/// Rows whose texts are nearly the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Duplicates {
    /// Rows that were compared; all of them unless there are very many.
    pub compared_rows: u64,
    /// Rows that have nearly the text of another, not counting those that have the very same.
    pub near_rows: u64,
    /// Rows that have the same or nearly the same text as another and no label in common.
    pub conflicting_rows: u64,
    /// Test rows that have nearly the text of a row learnt from.
    pub near_rows_across_splits: u64,
    /// Those with conflicting labels first, then those across splits, then the likest.
    pub examples: Vec<DuplicatePair>,
}

/// Two rows with nearly the same text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DuplicatePair {
    /// The Jaccard similarity of the texts' runs of characters; 1 where they are the same.
    pub similarity: f64,
    pub first: LabelledRow,
    pub second: LabelledRow,
}

/// A row with its text and label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledRow {
    pub row_id: u64,
    pub is_test: bool,
    /// Shortened.
    pub text: String,
    /// Its labels, joined by commas.
    pub label: String,
}

/// How held-out accuracy grows with the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    /// The candidate that was fitted on fewer rows.
    pub candidate: String,
    /// The folds that scores are means over.
    pub folds: usize,
    /// In rising order of rows.
    pub points: Vec<LearningPoint>,
    /// The error falls as rows to the power of minus this; 0 where more rows do not help.
    pub exponent: f64,
    /// What twice the rows would add to the score, by that power law.
    pub gain_of_doubling: f64,
}

/// A point of a learning curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningPoint {
    /// Of the rows that folds leave to fit on.
    pub share: f64,
    /// Rows fitted on, the mean over folds.
    pub rows: u64,
    /// Accuracy, or micro F1 in a multi-label task.
    pub score: f64,
}

/// What a member of the ensemble is worth on held-out rows, in the metric of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberEffect {
    pub trial: usize,
    pub score_alone: f64,
    /// The ensemble's score when this member is left out; `None` for the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_without: Option<f64>,
}

/// How long the finished model file takes to predict one text after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Texts measured, each once, after as many that were not.
    pub texts: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}
