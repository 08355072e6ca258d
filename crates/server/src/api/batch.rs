//! Predictions for every row of a data set.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks an endpoint for every row of a data set, in the background. The version of the endpoint
/// is settled when the request is taken, wherever requests are led afterwards.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The endpoint, or NAME/VERSION or NAME/ALIAS; a version is needed where several share the
    /// requests.
    pub endpoint: String,
    /// The data set's name, with `@version` for one that is not the newest.
    pub dataset: String,
    /// The name of the data set to make of the rows and their answers; it must be free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The format of the file to make instead: `csv`, `jsonl`, `parquet` (when neither is said),
    /// `arrow` or `xlsx`. It is the job's output `predictions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// How many classes to name for each row, from 1 (the default) to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Name only classes at least this probable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// Only classes whose id begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Name also the deepest class that is at least so probable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_off: Option<f32>,
    /// Name classes also for rows that the model takes for none of them.
    #[serde(default)]
    pub answer_all: bool,
    /// Stands before the names of the answers' columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column_prefix: Option<String>,
    /// The memory the job asks for, in bytes; by the model when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The job's time limit; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u64>,
}
