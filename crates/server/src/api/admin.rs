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
