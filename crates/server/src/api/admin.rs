//! Workspaces, tokens, workers and upkeep.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    pub workspace: String,
    pub scopes: Vec<String>,
    pub version: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWorkspaceRequest {
    pub name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceDetail {
    pub name: String,
    pub id: String,
    pub created: String,
    /// What all its tokens together may ask of endpoints; anything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsBody>,
}

/// What a workspace or a token may ask of all endpoints together. A second's worth may come at
/// once; a larger request is answered, and paid for by those that follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts_per_second: Option<f64>,
}

impl From<corral_serving::Limit> for LimitsBody {
    fn from(limit: corral_serving::Limit) -> Self {
        let corral_serving::Limit { requests_per_second, texts_per_second } = limit;
        Self { requests_per_second, texts_per_second }
    }
}

impl From<LimitsBody> for corral_serving::Limit {
    fn from(body: LimitsBody) -> Self {
        let LimitsBody { requests_per_second, texts_per_second } = body;
        Self { requests_per_second, texts_per_second }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTokenRequest {
    pub name: String,
    /// `read`, `write`, `predict`, `admin`.
    pub scopes: Vec<String>,
    /// The workspace it acts in; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenDetail {
    pub id: String,
    pub name: String,
    pub workspace: String,
    pub scopes: Vec<String>,
    pub created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    pub revoked: bool,
    /// What it may ask of endpoints; anything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsBody>,
    /// Only in the answer that created it; the server keeps a hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkerDetail {
    pub id: String,
    pub host_name: String,
    /// `connected` or `lost`.
    pub state: String,
    pub memory_bytes: u64,
    pub leased_memory_bytes: u64,
    pub milli_cpu: u32,
    pub running: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CollectAnswer {
    pub removed_blobs: u64,
    pub removed_bytes: u64,
    pub kept_blobs: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub status: String,
}
