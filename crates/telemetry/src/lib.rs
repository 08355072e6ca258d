//! Logs and metrics, set up once per process.

mod log;
mod metric;

pub use log::{LogFormat, start_logging};
pub use metric::{Metric, MetricKind, MetricsPage, TelemetryError, start_metrics};
