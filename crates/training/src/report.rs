//! The report of a run: everything that happened, for machines.

mod advice;
mod build;
mod findings;
mod html;
mod refusals;
mod text;
mod weak;

use std::collections::BTreeMap;

use corral_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use crate::metrics::Evaluation;
pub use crate::metrics::ReliabilityBin;
use crate::options::{Metric, Price};
use crate::plan::Estimate;

pub use advice::{Advice, AdviceKind, advise};
pub use build::{PAGE_FILE, REPORT_FILE, ReportParts, build, write};
pub use findings::{
    BackOffLevel, BackOffPoint, DuplicatePair, Duplicates, Findings, LabelError, LabelErrors,
    LabelledRow, Latency, LearningCurve, LearningPoint, MemberEffect, RefusalPoint, RowExample,
};
pub use refusals::{RefusalKind, RefusalRows, RefusalScores, RefusalSummary, RefusalTry};
pub use weak::{WeakMethod, WeakSummary};

/// What a run did and what its model is worth.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub name: String,
    pub seed: u64,
    pub metric: Metric,
    pub regime: Regime,
    /// What became of rows without label, where there are such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weak: Option<WeakSummary>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub data: DataSummary,
    pub folds: usize,
    /// In the order in which they were planned.
    pub trials: Vec<TrialReport>,
    /// Candidates that were planned but not tried.
    pub trials_left_out: usize,
    /// Whether the clock or a person ended the search early, so that another run may differ.
    pub cut_short: bool,
    pub members: Vec<MemberReport>,
    /// The finished ensemble on the rows that folds held out.
    pub cv: Evaluation,
    /// The calibration error of the held-out predictions before and after calibration.
    pub cv_ece_uncalibrated: f64,
    /// The model file on the test split, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Evaluation>,
    /// How texts of no class are refused, where rows of no class were named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<RefusalSummary>,
    /// By class, on held-out rows.
    pub classes: Vec<ClassReport>,
    /// The most frequent confusions among held-out rows.
    pub confused: Vec<ConfusionReport>,
    pub warnings: Vec<Warning>,
    #[serde(default)]
    pub findings: Findings,
    /// What would help most, by expected effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
    pub estimate: Estimate,
    pub actual: Actual,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    pub model: ModelReport,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, String>,
}

/// What the labels allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// Every row to learn from has a label.
    Labelled,
    /// Some have; [`Report::weak`] says what became of the others.
    PartlyLabelled,
    /// None has: they were labelled by what the taxonomy says of its classes.
    Unlabelled,
    /// There are none: what the taxonomy says of its classes is all.
    TaxonomyOnly,
}

/// The rows of the data set, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    pub rows: u64,
    pub train_rows: u64,
    pub valid_rows: u64,
    pub test_rows: u64,
    /// Rows learnt from.
    pub labelled_rows: u64,
    pub unlabelled_rows: u64,
    pub labelled_test_rows: u64,
    /// Labelled rows left out because they have no text.
    pub empty_rows: u64,
    /// Labelled rows left out because their weight is zero, those of the test split too.
    #[serde(default)]
    pub weightless_rows: u64,
    /// Rows learnt from whose text an earlier one has.
    pub duplicate_rows: u64,
    pub classes: u64,
    /// Texts of the taxonomy that were learnt from.
    pub class_texts: u64,
    /// Rows of no class to learn refusals from, and to test them on.
    #[serde(default)]
    pub none_rows: u64,
    #[serde(default)]
    pub none_test_rows: u64,
}

/// One candidate, cross-validated: a run in MLflow's terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// From 1, in the order of the plan.
    pub number: usize,
    #[serde(flatten)]
    pub candidate: Candidate,
    #[serde(default)]
    pub ending: TrialEnding,
    /// The metric on all rows together that the folds it went over held out.
    pub score: f64,
    pub fold_scores: Vec<f64>,
    /// The metric when it was compared with others, after the first folds and after more.
    #[serde(default)]
    pub rung_scores: Vec<f64>,
    /// Of a trial over all folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// Bytes of a fold's head: about those of the member's.
    pub head_bytes: u64,
    /// What its head takes for a text, by estimate: features are shared, and not counted.
    #[serde(default)]
    pub head_nanos: f64,
    pub passes: usize,
    pub fit_cpu_seconds: f64,
    pub wall_seconds: f64,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
}

/// How far a trial went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialEnding {
    /// Over all folds.
    #[default]
    Complete,
    /// Others were better after some folds.
    StoppedEarly,
}

/// A member of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberReport {
    pub trial: usize,
    pub weight: f32,
    pub name: String,
    /// The metric of the ensemble when this member had joined those before it.
    pub score_with: f64,
    pub head_bytes: u64,
    pub fit_cpu_seconds: f64,
}

/// How one class fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    pub id: String,
    pub name: String,
    pub support: u64,
    pub predicted: u64,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// Rows of one class that were taken for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfusionReport {
    pub right: String,
    pub predicted: String,
    pub rows: u64,
    /// The most confident of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<RowExample>,
}

/// Something about the data that a person should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    pub kind: WarningKind,
    pub message: String,
    /// Rows, or classes, concerned.
    pub count: u64,
    /// A few of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    EmptyTexts,
    DuplicatesAcrossSplits,
    TinyClasses,
    TestClassesNotLearnt,
    CutShort,
    UnlabelledLeftOut,
}

impl Warning {
    pub fn rows(kind: WarningKind, count: usize, examples: Vec<String>) -> Self {
        let message = match kind {
            WarningKind::EmptyTexts => {
                format!("{count} labelled rows have no text and were left out")
            }
            WarningKind::DuplicatesAcrossSplits => {
                format!(
                    "{count} test rows have the text of a row that was learnt from: the test score flatters"
                )
            }
            WarningKind::TinyClasses => {
                format!("{count} classes have fewer than 5 rows: their own scores mean little")
            }
            WarningKind::TestClassesNotLearnt => {
                format!(
                    "{count} test rows are of classes without a row to learn from: they count as wrong"
                )
            }
            WarningKind::UnlabelledLeftOut => {
                format!(
                    "{count} rows without label were left out: nothing is made of them in a multi-label task"
                )
            }
            WarningKind::CutShort => {
                format!(
                    "the search ended early, {count} planned trials were not run: another run may choose otherwise"
                )
            }
        };
        Self { kind, message, count: count as u64, examples }
    }
}

/// What the run took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Actual {
    pub wall_seconds: f64,
    pub fit_cpu_seconds: f64,
    pub lexicon_seconds: f64,
    pub embedding_seconds: f64,
    /// Making labels for rows that have none, and finding whether they help.
    #[serde(default)]
    pub labelling_seconds: f64,
    pub search_seconds: f64,
    pub refit_seconds: f64,
    pub test_seconds: f64,
    /// Of the whole run so far, every thread counted.
    #[serde(default)]
    pub cpu_seconds: f64,
    #[serde(default)]
    pub analysis_seconds: f64,
    /// The largest resident memory of the process so far; `None` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
}

/// The model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    pub file: String,
    pub hash: String,
    pub bytes: u64,
    /// The microseconds that it takes for one text, by the estimate that limits go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_latency_us: Option<f64>,
    /// What it was allowed to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
}

/// Characters of a name that a sentence shows.
const MAX_NAME_CHARS: usize = 60;

/// A name from the data within a sentence: on one line, not too long, in quotes.
fn quoted(name: &str) -> String {
    format!("“{}”", shorten(name, MAX_NAME_CHARS))
}

/// A text on one line: white space and control characters as single spaces, cut to so many
/// characters.
pub fn shorten(text: &str, most_chars: usize) -> String {
    let mut short = String::new();
    let mut chars = 0;
    let mut is_gap = false;
    for character in text.trim().chars() {
        if character.is_whitespace() || character.is_control() {
            is_gap = true;
            continue;
        }
        if chars + 1 + usize::from(is_gap) > most_chars {
            short.push('…');
            break;
        }
        if std::mem::take(&mut is_gap) && !short.is_empty() {
            short.push(' ');
            chars += 1;
        }
        short.push(character);
        chars += 1;
    }
    short
}

impl Report {
    /// The summary for a terminal: plain text, readable without colour.
    pub fn render_text(&self) -> String {
        text::render(self)
    }

    /// One page with plots that needs nothing else, for a browser.
    pub fn render_html(&self) -> String {
        html::render(self)
    }
}
