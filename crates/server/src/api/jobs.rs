//! Jobs, and the training that is the first kind of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Trains a model in the background: on a data set, on what a taxonomy says of its classes, or
/// on both.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainRequest {
    /// The name of the model; a new version of it if it is there.
    pub model: String,
    /// A data set's name, with `@version` for one that is not the newest. Without one the model
    /// reads the names, descriptions and examples of the taxonomy's classes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// A taxonomy's name, with `@version`; the labels found when absent. Needed where no row has
    /// a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxonomy: Option<String>,
    /// What several labels of a row mean: `auto`, `any-of` (one is right, and any will do) or
    /// `all-of` (multi-label).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What decides between candidates: `accuracy`, `macro_f1`, `weighted_f1`, `micro_f1`, `top_5`
    /// or `log_loss`. When absent `accuracy`, and `log_loss` where few rows have one class each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// The memory the job asks for, in bytes; estimated from the data when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// About how long the search shall take: the number of candidates is chosen by estimate, so
    /// that the same request finds the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_seconds: Option<u64>,
    /// When the search ends by the clock, with what it has found; the report says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after_seconds: Option<u64>,
    /// How many candidates are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<u32>,
    /// A model, with `@version` for one that is not the newest, whose candidates are tried again
    /// instead of a search: from the same rows they make the same model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
    /// Candidates to try instead of a search, each a `featurizer` and a `learner` as a report's
    /// trials have them. Those that differ in cost alone are fitted one after the other from
    /// where the one before ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Value>,
    /// Members of the ensemble at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u32>,
    /// Bytes of weights in the model file at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_bytes: Option<u64>,
    /// Microseconds that the model may take for one text at most, by estimate: members that
    /// would take longer do not join, and where the encoder alone takes longer nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_us: Option<u64>,
    /// Whether every class counts the same, however many rows it has.
    #[serde(default)]
    pub balanced: bool,
    /// The label of rows that belong to no class: they are no class of the model, which learns
    /// from them what texts to refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_label: Option<String>,
    /// How far refusals may lower the accuracy on rows of a class, a refused one being an
    /// error, as a share of them; 0.01 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal_cost: Option<f64>,
    #[serde(default)]
    pub seed: u64,
    /// `auto` (the default: the encoder if one is installed), `none`, or an encoder's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// What a core costs for an hour, in any currency: the report reckons costs by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_hour_price: Option<f64>,
    /// What a GiB of memory costs for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gib_hour_price: Option<f64>,
    /// The job's time limit; a day when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u64>,
    /// What the model's file and report shall tell of where it comes from, by name, such as a
    /// `data_card`; at most 16 KiB.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    pub id: String,
    pub kind: String,
    pub name: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`, and the steps between.
    pub state: String,
    pub created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    pub attempts: u32,
    /// Done of 1.
    pub progress: f32,
    pub message: String,
    pub memory_request_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    pub cpu_ms: u64,
    /// How long the attempt under way has been running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_ms: Option<u64>,
    pub request: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<super::ErrorDetail>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct JobListQuery {
    pub after: Option<String>,
    pub limit: Option<u32>,
    /// Only jobs in this state.
    pub state: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The number of the last line already seen.
    pub after: Option<u64>,
    pub limit: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    pub number: u64,
    pub at: String,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    pub line: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogPage {
    pub lines: Vec<LogLine>,
    /// Lines before these that were dropped because the job wrote more than is kept.
    pub dropped: u64,
}

/// The trials of a search, in MLflow's terms.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    pub run: u32,
    pub name: String,
    /// `FINISHED`, `FAILED` or `KILLED`.
    pub status: String,
    pub started: String,
    pub ended: String,
    pub params: Value,
    pub metrics: Value,
}

/// Runs a job that takes memory and time and nothing else, to see limits at work.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// What the probe shall do: `allocate_bytes`, `hold_ms`, `steps`, `step_ms`, `fail`.
    pub payload: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}
