//! Taxonomies.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TaxonomyImportQuery {
    /// The file's name; its ending tells CSV, TSV, JSON and YAML apart.
    pub file_name: Option<String>,
    /// Lengths of the id's prefixes that name the levels above, as in `2,4,6,7`.
    pub levels: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaxonomySummary {
    pub name: String,
    pub id: String,
    pub version: u32,
    pub classes: u64,
    pub created: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaxonomyDetail {
    pub name: String,
    pub id: String,
    pub version: u32,
    pub hash: String,
    pub created: String,
    pub leaves: u64,
    pub levels: u64,
    pub classes: Vec<ClassDetail>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClassDetail {
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct MatchQuery {
    /// The data set whose labels are held against the taxonomy.
    pub dataset: String,
    pub version: Option<u32>,
}

/// How a data set's labels stand against a taxonomy.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MatchAnswer {
    pub known_labels: u64,
    pub known_rows: u64,
    pub unknown: Vec<UnknownLabelDetail>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UnknownLabelDetail {
    pub label: String,
    pub rows: u64,
    pub nearest: Vec<String>,
}
