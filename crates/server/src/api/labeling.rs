//! Labeling functions, their statistics, and labels made by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::TrainRequest;

/// The labeling functions of a data set.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelingFunctionList {
    pub dataset: String,
    /// Every edit makes the next; 0 where there never were any.
    pub version: u32,
    /// The taxonomy that functions take their classes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxonomy: Option<String>,
    /// Whether several classes may hold for a row.
    pub multi_label: bool,
    /// The classes that are voted for: of the taxonomy, or as functions and labels name them.
    pub classes: Vec<String>,
    pub functions: Vec<LabelingFunctionDetail>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelingFunctionDetail {
    pub name: String,
    /// Counted from 1; every edit counts.
    pub version: u32,
    pub kind: String,
    /// The classes it names.
    pub classes: Vec<String>,
    /// As it was written.
    pub definition: Value,
}

/// What an edit did, by the functions' names.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelingFunctionChanges {
    pub dataset: String,
    pub version: u32,
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub unchanged: u64,
    /// The classes that are voted for now.
    pub classes: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LabelingFunctionQuery {
    /// The version of the functions; the newest when absent.
    pub version: Option<u32>,
}

/// Functions that are tried and not kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestRequest {
    /// The definition of a function. One of the same name is left out meanwhile.
    pub function: Value,
    /// Rows to show that it votes on; 10 when absent, at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TestAnswer {
    pub statistics: FunctionStatistics,
    /// The classes that are voted for, with those of this function.
    pub classes: Vec<String>,
    pub rows: Vec<LabelingRow>,
}

/// What is known of the votes on a data set.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelingStatistics {
    pub dataset: String,
    pub version: u32,
    pub functions_version: u32,
    /// `sample` (of the gold rows and a sample) or `exact`.
    pub stage: String,
    /// Rows that these are of, and rows of the data set.
    pub rows: u64,
    pub dataset_rows: u64,
    /// Labelled rows outside the split `test`.
    pub gold_rows: u64,
    /// Shares of the rows: those that any function votes on, those on which votes contradict.
    pub coverage: f64,
    pub conflict: f64,
    pub classes: Vec<String>,
    pub functions: Vec<FunctionStatistics>,
    /// Pairs that contradict each other most, then those that vote together most.
    pub pairs: Vec<FunctionPair>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionStatistics {
    pub name: String,
    pub kind: String,
    /// The classes it votes for; with `not` before those it votes against.
    pub votes: Vec<String>,
    pub rows: u64,
    pub coverage: f64,
    pub overlap: f64,
    pub conflict: f64,
    /// How often it is right on gold rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Share>,
    /// By class, on gold rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_class: Vec<ClassPrecision>,
}

/// A share of counted rows, with the range that it lies in with 95 % (Wilson's).
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Share {
    pub share: f64,
    pub low: f64,
    pub high: f64,
    pub rows: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClassPrecision {
    pub class: String,
    /// Whether it is about votes against the class.
    pub against: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<Share>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionPair {
    pub functions: (String, String),
    /// Rows that both vote on, and those where they contradict each other.
    pub both: u64,
    pub conflicts: u64,
    pub correlation: f64,
    pub redundant: bool,
}

/// Which rows to look at next.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NextRowsQuery {
    /// `uncovered`, `conflict`, `uncertain` or `wrong` (gold rows that the label model is surely
    /// wrong on).
    pub which: String,
    /// 20 when absent, at most 1000.
    pub limit: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelingRows {
    /// The label model that the probabilities are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_model: Option<String>,
    pub rows: Vec<LabelingRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelingRow {
    pub row_id: u64,
    pub text: String,
    /// What each function that does not abstain says.
    pub votes: BTreeMap<String, String>,
    /// The labels that people gave it.
    pub gold: Vec<String>,
    /// The likeliest classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<(String, f32)>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SuggestionQuery {
    /// 20 when absent, at most 200.
    pub limit: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Suggestions {
    pub suggestions: Vec<Suggestion>,
    /// Where suggestions are from: `gold` rows, or the `names` of classes where there are few.
    pub basis: String,
}

/// A function that might be added.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Suggestion {
    pub definition: Value,
    /// How often it is expected to be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Share>,
    /// The share of rows that it is expected to vote on, and of those that no function votes on
    /// or that are in conflict.
    pub coverage: f64,
    pub aimed: f64,
}

/// Labels a data set by its functions in the background.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRequest {
    /// The data set, with `@version` for one that is not the newest.
    pub dataset: String,
    /// The data set that the labeled rows become the next version of; NAME-labeled when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The version of the functions; the newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<u32>,
    /// `majority`, `weighted`, `dawid_skene`, `moments` or `triplets`; chosen when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_model: Option<String>,
    /// How frequent each class is; by gold rows where there are enough, else alike.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prior: BTreeMap<String, f64>,
    /// What becomes of rows that nothing is voted on: `leave` (the default) or `prior`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<String>,
    /// What becomes of rows whose likeliest classes tie: `share` (the default), `leave` or
    /// `first`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ties: Option<String>,
    /// Trains a model on the labels in the same job; its `dataset` stays empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainRequest>,
    /// The memory the job asks for, in bytes; estimated when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The job's time limit; none when absent, with a training that of trainings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u64>,
}
