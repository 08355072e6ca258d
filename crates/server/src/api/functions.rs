//! Functions, their calls and containers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FunctionListQuery {
    /// The default one when absent.
    pub environment: Option<String>,
    /// Only those of this app.
    pub app: Option<String>,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most 1000; 100 when absent.
    pub limit: Option<u32>,
}

/// A function of an app that has not ended, and how it is doing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionDetail {
    pub app: String,
    /// Its name in the app; the methods of a class together are `NAME.*`.
    pub name: String,
    pub id: String,
    /// `function` or `cls`.
    pub kind: String,
    pub client_version: String,
    /// Whether it can be called with JSON.
    pub takes_json: bool,
    pub settings: FunctionSettingsDetail,
    pub now: FunctionNow,
}

/// What a function asks for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionSettingsDetail {
    /// Cores; absent where the server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    pub gpus: u32,
    /// How long an input may run.
    pub timeout_seconds: f64,
    pub min_containers: u32,
    pub max_containers: u32,
    pub buffer_containers: u32,
    /// How long a container may be idle.
    pub scaledown_window_seconds: f64,
    /// Inputs that a container works on at the same time.
    pub max_concurrent_inputs: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_max_size: Option<u32>,
    /// Attempts after the first.
    pub retries: u32,
    /// Containers go on from a snapshot.
    pub snapshot: bool,
}

/// A function at this moment, the same with other parameters included.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct FunctionNow {
    /// Inputs that wait.
    pub backlog: u64,
    pub running_inputs: u64,
    pub containers: u32,
    /// Of these: asked for or starting, and waiting for inputs.
    pub starting_containers: u32,
    pub idle_containers: u32,
}

/// A call with arguments that JSON has.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// By place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Value>,
    /// By name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwargs: Map<String, Value>,
    /// Of a class: which method. `NAME.METHOD` as the function's name says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Whether to wait for the result, which is so when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
    /// How long to wait at most, up to 600 seconds; 60 when absent. The call goes on after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CallQuery {
    /// How long to wait for the end of the call, up to 600; 0 when absent.
    pub wait_seconds: Option<f64>,
}

/// A call. Its result is kept for 7 days.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallDetail {
    pub id: String,
    /// The id of the function.
    pub function: String,
    /// `unary` (one input) or `map` (any number of them).
    pub kind: String,
    /// `pending`, `running`, `succeeded`, `failed`, `timed_out` or `cancelled`.
    pub state: String,
    pub created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    pub inputs: InputCounts,
    /// What a unary call that succeeded returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why the result of a call that succeeded is not shown, and how to get at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_not_shown: Option<String>,
    /// Why a unary call did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CallErrorDetail>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct InputCounts {
    pub total: u32,
    pub pending: u32,
    pub running: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub timed_out: u32,
    pub cancelled: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallErrorDetail {
    /// `failure` (it raised), `timeout`, `terminated`, `init_failure` (its container did not
    /// come up) or `internal_failure`.
    pub status: String,
    /// The exception as Python writes it, or what happened in words.
    pub exception: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceback: String,
    /// The container that worked on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Attempts before the one that led to this.
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelCallRequest {
    /// Whether containers that work on the call end with it; inputs of other calls in them are
    /// tried elsewhere.
    #[serde(default)]
    pub terminate_containers: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ContainerListQuery {
    /// All of the workspace when absent.
    pub environment: Option<String>,
    /// Only those of this app.
    pub app: Option<String>,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most 1000; 100 when absent.
    pub limit: Option<u32>,
}

/// A container that is, or was asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ContainerDetail {
    pub id: String,
    pub environment: String,
    pub app: String,
    pub app_id: String,
    /// The function's name in the app.
    pub function: String,
    pub function_id: String,
    /// The version of the app since when its containers are what they are.
    pub version: u64,
    /// `requested`, `starting`, `idle`, `busy` or `draining`.
    pub state: String,
    /// `cold`, `template` or `snapshot`, once it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<String>,
    pub requested: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The inputs that it works on.
    pub inputs: Vec<String>,
    /// Inputs that it was given so far.
    pub inputs_given: u64,
}
