//! Models and encoders.

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
