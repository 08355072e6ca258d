//! Models, encoders, endpoints and predictions.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelSummary {
    pub name: String,
    pub id: String,
    pub version: u32,
    pub bytes: u64,
    pub created: String,
    pub metrics: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelDetail {
    pub name: String,
    pub id: String,
    pub version: u32,
    pub hash: String,
    pub bytes: u64,
    pub created: String,
    pub classes: u64,
    pub members: u64,
    /// The encoder that the model needs, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    pub metrics: Value,
    /// Where it comes from: job, data set and taxonomy versions.
    pub lineage: Value,
    pub versions: Vec<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EncoderDetail {
    pub name: String,
    pub hash: String,
    pub dimension: u64,
    pub bytes: u64,
    pub default: bool,
    pub created: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// A model's name, with `@version` for one that is not the newest.
    pub model: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointDetail {
    pub name: String,
    pub id: String,
    pub model: String,
    pub version: u32,
    pub created: String,
    pub updated: String,
    /// The path at which it answers.
    pub path: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    pub texts: Vec<String>,
    /// How many classes to name for each text; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Classes less probable than this are not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// Only classes whose id begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PredictAnswer {
    pub model: String,
    pub version: u32,
    /// One for each text, in order.
    pub predictions: Vec<Prediction>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// The most probable classes first; empty when none passes the threshold.
    pub labels: Vec<ScoredLabel>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScoredLabel {
    pub id: String,
    pub name: String,
    pub probability: f32,
}
