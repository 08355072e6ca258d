//! Metrics as constants with a unit and a description, and the page that shows them.

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Whether a metric counts up, goes up and down, or is a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// Of durations in seconds.
    Histogram,
}

/// A metric's name and what it means. Names end in their unit; counters end in `_total`.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub description: &'static str,
}

/// Upper bounds of the latency buckets in seconds: from 50 µs, where a lexical prediction
/// lies, to the half minute after which a client has gone.
const LATENCY_BUCKETS_SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    5.0, 10.0, 30.0,
];

/// Why metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("set up the metrics recorder")]
pub struct TelemetryError(#[from] metrics_exporter_prometheus::BuildError);

/// The process's metrics as a page in Prometheus' text format.
#[derive(Clone)]
pub struct MetricsPage(PrometheusHandle);

impl MetricsPage {
    pub fn render(&self) -> String {
        // Histograms buffer their samples until somebody drains them.
        self.0.run_upkeep();
        self.0.render()
    }
}

/// Installs the process's metrics recorder and describes `metrics`.
///
/// # Errors
/// When a recorder is installed already.
pub fn start_metrics<'a>(
    metrics: impl IntoIterator<Item = &'a Metric>,
) -> Result<MetricsPage, TelemetryError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS_SECONDS)?
        .install_recorder()?;
    for metric in metrics {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.description),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.description),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.description),
        }
    }
    Ok(MetricsPage(handle))
}
