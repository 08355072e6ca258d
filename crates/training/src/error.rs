//! Why a run ended without a model.

use std::path::PathBuf;

use corral_classifier::{HeadError, LexicalError, ModelError};
use corral_taxonomy::TaxonomyError;
use corral_types::{ErrorKind, Explain, display_bytes};

use crate::options::Metric;
use crate::rows::LabelKind;

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("the column `{column}` has {found} entries for {rows} rows")]
    ColumnLength { column: &'static str, found: usize, rows: usize },
    #[error("row {row_id} has the label code {code}; there are {label_names} label names")]
    LabelCode { row_id: u64, code: u32, label_names: usize },
    #[error(
        "row {row_id} has the label share {share}; shares are finite and not below zero, and not all zero"
    )]
    LabelShare { row_id: u64, share: f32 },
    #[error("row {row_id} has the weight {weight}; weights are finite and not below zero")]
    RowWeight { row_id: u64, weight: f32 },
    #[error("{rows} rows carry labels that are no class of the taxonomy: {listed}")]
    UnknownLabels { rows: u64, listed: String },
    #[error("no row carries the label `{label}`, which was named as that of rows of no class")]
    NoneLabelUnknown { label: String },
    #[error(
        "`{label}` was named as the label of rows of no class, but rows may have several classes"
    )]
    NoneLabelOfSeveral { label: String },
    #[error("the refusal cost is {cost}; it is a share of the rows, from 0 to 1")]
    RefusalCost { cost: f64 },
    #[error("make a taxonomy of the labels found")]
    LabelsAsTaxonomy(#[source] TaxonomyError),
    #[error("none of the {rows} rows to learn from has a label")]
    NothingLabelled { rows: usize },
    #[error("all {rows} labelled rows have the weight 0")]
    NoWeight { rows: usize },
    #[error("every labelled row is of the class `{class}`; a classifier needs two classes or more")]
    OneClass { class: String },
    #[error("{texts} different labelled texts are too few to hold some out; {least} are needed")]
    TooFewTexts { texts: usize, least: usize },
    #[error("the metric `{metric}` is not defined for {task}", task = task_name(*.kind))]
    MetricUndefined { metric: Metric, kind: LabelKind },
    #[error("{folds} folds were asked for; there can be 2 to {most}")]
    Folds { folds: usize, most: usize },
    #[error("candidate {number} cannot be tried: {why}")]
    Candidate { number: usize, why: String },
    #[error("`{option}` is zero")]
    ZeroOption { option: &'static str },
    #[error("training takes about {} of memory and may take {}", display_bytes(*.needed), display_bytes(*.limit))]
    Memory { needed: u64, limit: u64, shape: String },
    #[error(
        "no candidate answers within {}: the fastest, {name}, takes about {}",
        milliseconds(*.limit_us),
        milliseconds(*.fastest_us)
    )]
    Latency { limit_us: u64, fastest_us: u64, name: String },
    #[error("the run was cancelled")]
    Cancelled,
    #[error("start {threads} threads")]
    Threads {
        threads: usize,
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    #[error("fit the vocabulary")]
    Lexicon(#[source] LexicalError),
    #[error("build the head of trial {trial}")]
    Head {
        trial: usize,
        #[source]
        source: HeadError,
    },
    #[error("build the classifier that labels rows")]
    SelfTraining(#[source] HeadError),
    #[error("write the model")]
    WriteModel(#[source] ModelError),
    #[error("open the model that was just written")]
    OpenModel(#[source] ModelError),
    #[error("predict with the model that was just written")]
    Predict(#[source] corral_classifier::PredictError),
    #[error("write the report {path}", path = .path.display())]
    WriteReport {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn milliseconds(micros: u64) -> String {
    format!("{} ms", micros as f64 / 1e3)
}

const fn task_name(kind: LabelKind) -> &'static str {
    match kind {
        LabelKind::SingleChoice => "a task with one label a row",
        LabelKind::MultiLabel => "a multi-label task",
    }
}

impl Explain for TrainError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lexicon(source) => source.kind(),
            Self::Head { .. }
            | Self::SelfTraining(_)
            | Self::OpenModel(_)
            | Self::Predict(_)
            | Self::Threads { .. } => ErrorKind::Internal,
            Self::WriteModel(source) => source.kind(),
            Self::WriteReport { .. } => ErrorKind::Internal,
            Self::Memory { .. } => ErrorKind::TooLarge,
            Self::Cancelled => ErrorKind::Conflict,
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownLabels { .. } => {
                "add these classes to the taxonomy, correct the labels, or train without a \
                 taxonomy, which then is made of the labels found"
            }
            Self::NothingLabelled { .. } => {
                "name the label column at import (`--label COL`), label some rows (two classes with \
                 a few each are enough to begin), or give a taxonomy, whose names, descriptions \
                 and examples then say what the classes are"
            }
            Self::NoWeight { .. } => {
                "rows of weight 0 are left out: give those that are to be learnt from a weight \
                 above it, or import without naming a weight column"
            }
            Self::NoneLabelOfSeveral { .. } => {
                "leave such rows without any label: that says the same"
            }
            Self::OneClass { .. } => "label rows of at least one more class",
            Self::TooFewTexts { .. } => "label more rows with different texts",
            Self::MetricUndefined { .. } => {
                "use macro_f1, micro_f1, weighted_f1, accuracy or top_5"
            }
            Self::Memory { shape, .. } => {
                return Some(format!(
                    "{shape}; give more memory (`--memory`) or train on fewer rows"
                ));
            }
            Self::Latency { fastest_us, .. } => {
                return Some(format!(
                    "allow more (`--max-latency {}ms`), or train without a limit",
                    *fastest_us as f64 / 1e3
                ));
            }
            Self::Lexicon(source) => return source.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
