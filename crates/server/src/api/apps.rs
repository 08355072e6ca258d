//! Apps and what they wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An environment: apps and secrets of one do not see those of another.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentDetail {
    pub name: String,
    pub id: String,
    pub created: String,
}

/// Which environment; the default one when absent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentQuery {
    pub environment: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AppListQuery {
    /// The default one when absent.
    pub environment: Option<String>,
    /// Only those in this state: `initializing`, `ephemeral`, `detached`, `deployed` or
    /// `stopped`.
    pub state: Option<String>,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most 1000; 100 when absent.
    pub limit: Option<u32>,
}

/// An app, which ends after a month in which it was stopped.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppDetail {
    pub id: String,
    /// The name under which it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its client called it.
    pub description: String,
    pub environment: String,
    /// `initializing`, `ephemeral` (it ends with its client), `detached`, `deployed` or `stopped`.
    pub state: String,
    /// The newest version; 0 before the first.
    pub version: u32,
    pub created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Why it ended, where there is more to say than that it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
    /// The version of the client that made it.
    pub client_version: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Containers that it has now.
    pub containers: u32,
    /// The names of its functions; those of a class as `NAME.*`. Absent in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
}

/// A version of an app: its functions as they counted from one moment on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppVersionDetail {
    pub version: u32,
    pub created: String,
    /// `published`, `rollback` or `rollover`.
    pub kind: String,
    /// The version that a rollback brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u32>,
    /// A label of the deployer's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    pub client_version: String,
    /// The id of the deployer's token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deployed_by: String,
    pub functions: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version to bring back; below 0 so many back from the present one. The one before it
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// Which lines of an app's log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AppLogQuery {
    /// The default one when absent.
    pub environment: Option<String>,
    /// Lines with larger numbers, oldest first; when absent the newest `tail` lines.
    pub after: Option<u64>,
    /// At most 5000; 100 when absent.
    pub tail: Option<u32>,
    /// Lines that are at most so old.
    pub since_seconds: Option<u64>,
    /// With `after`: how long to wait for a line if there is none yet, at most 30.
    pub wait_seconds: Option<u64>,
    /// Only those of this function, by its name in the app.
    pub function: Option<String>,
    /// Only those of this container.
    pub container: Option<String>,
    /// Only those that were written while inputs of this call were worked on.
    pub call: Option<String>,
    /// `stdout`, `stderr` or `system`.
    pub stream: Option<String>,
    /// Only lines that contain this.
    pub text: Option<String>,
}

/// Which lines of a container's log; as those of an app's.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ContainerLogQuery {
    /// Lines with larger numbers, oldest first; when absent the newest `tail` lines.
    pub after: Option<u64>,
    /// At most 5000; 100 when absent.
    pub tail: Option<u32>,
    /// With `after`: how long to wait for a line if there is none yet, at most 30.
    pub wait_seconds: Option<u64>,
}

/// Lines, oldest first. They are kept for 7 days.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppLogPage {
    pub lines: Vec<AppLogLine>,
    /// Give this as `after` for what comes next.
    pub next: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AppLogLine {
    /// Counted from 1 in its app.
    pub number: u64,
    pub at: String,
    /// `stdout`, `stderr`, or `system` for what Corral says.
    pub stream: String,
    /// The text as it was written, with its end of line if it had one.
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
}
