//! What endpoints were asked, and what they and functions used.

use corral_observation::Reading;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What a version of an endpoint was asked since the server's start.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RequestCounts {
    pub requests: u64,
    pub errors: u64,
    /// Requests whose client went before the answer.
    pub cancelled: u64,
    /// Texts that were answered.
    pub texts: u64,
    /// Requests that wait or are being answered.
    pub in_flight: u64,
    /// Requests that had to open their model first.
    pub cold_opens: u64,
    /// Times within which a half, 95 and 99 percent of requests were answered, by buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Time on a core.
    pub core_seconds: f64,
    /// Time of requests that was not on a core.
    pub wait_seconds: f64,
}

impl From<Reading> for RequestCounts {
    fn from(reading: Reading) -> Self {
        let percentile = |part| reading.latency_nanos.quantile(part).map(|nanos| nanos / 1e6);
        Self {
            requests: reading.requests(),
            errors: reading.errors(),
            cancelled: reading.cancelled,
            texts: reading.texts.sum,
            in_flight: reading.in_flight,
            cold_opens: reading.cold_opens,
            p50_ms: percentile(0.5),
            p95_ms: percentile(0.95),
            p99_ms: percentile(0.99),
            core_seconds: reading.core_nanos as f64 / 1e9,
            wait_seconds: reading.wait_nanos as f64 / 1e9,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// One endpoint; all when absent.
    pub endpoint: Option<String>,
    /// How far back; 30 days when absent.
    pub since_seconds: Option<u64>,
    /// `hour`, `day` (in UTC), or `total` when absent.
    pub by: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageAnswer {
    pub since: String,
    /// What an hour on a core and an hour of a GiB cost, where the server was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_hour_price: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gib_hour_price: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_hour_price: Option<f64>,
    /// By time and name.
    pub items: Vec<UsageDetail>,
    /// What functions took since each was first defined, by app and name; only in totals of all
    /// endpoints, since functions are not counted by the hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionUsageDetail>,
    /// What jobs took that were submitted in this time, by kind; only in totals of all
    /// endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobUsageDetail>,
}

/// What an endpoint used.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageDetail {
    pub endpoint: String,
    /// When the hour or the day began; absent in totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub requests: u64,
    pub errors: u64,
    pub texts: u64,
    /// Time on a core.
    pub core_seconds: f64,
    /// The size of the model's file times the time in which it was asked.
    pub memory_gib_hours: f64,
    /// By the prices that are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// What a function took, the same with other parameters included.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionUsageDetail {
    pub app: String,
    pub function: String,
    /// Of several runs under one name, that of one.
    pub function_id: String,
    pub inputs_succeeded: u64,
    pub inputs_failed: u64,
    pub cpu_seconds: f64,
    /// Of the larger of requested and measured memory.
    pub memory_gib_seconds: f64,
    pub gpu_seconds: f64,
    /// Time in which its containers ran.
    pub container_seconds: f64,
    pub starts: u64,
    pub failed_starts: u64,
    /// The part of the starts that were fresh processes, not forks or snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_share: Option<f64>,
    /// By the prices that are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// What jobs of one kind took.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct JobUsageDetail {
    pub kind: String,
    pub jobs: u64,
    pub cpu_seconds: f64,
    /// Of the larger of requested memory and its peak.
    pub memory_gib_seconds: f64,
    /// By the prices that are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}
