//! Models and encoders.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelSummary {
    pub name: String,
    pub id: String,
    pub version: u32,
    pub bytes: u64,
    pub created: String,
    pub metrics: Value,
    /// What people say of the version, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Which models are listed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ModelListQuery {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most 1000; 100 when absent.
    pub limit: Option<u32>,
    /// Only models whose newest version has this tag: `NAME` or `NAME=VALUE`.
    pub tag: Option<String>,
}

/// Which version is written, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ModelExportQuery {
    pub version: Option<u32>,
    /// `corral` (the default), or `onnx`: a graph from features to probabilities.
    pub format: Option<String>,
}

/// Tags and metrics of a model's version that are to be set; `null` takes one away.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelNotes {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Option<f64>>,
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
    /// `cv` and `test` as training found them, and `noted`: what people measured since.
    pub metrics: Value,
    /// What people say of the version, by name.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Where it comes from: the search's job, the data set and taxonomy versions by id and by
    /// name, the version of the code; and the endpoints that serve it.
    pub lineage: Value,
    /// What the model's file tells of its origin, such as a `data_card`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
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
