//! Endpoints: names that send prediction requests to model versions.
//!
//! All endpoints of all workspaces are held in memory, so that a request touches neither the
//! catalog nor a file before its model; every change goes to the catalog first.

mod error;
mod opened;
mod predict;
mod service;

pub use corral_classifier::Refusals;
pub use error::ServingError;
pub use opened::Opened;
pub use predict::{Answer, MAX_TEXT_BYTES, MAX_TEXTS, MAX_TOP_K, Question, Scored};
pub use service::{Answered, Serving};

use corral_telemetry::{Metric, MetricKind};

/// Prediction requests, by how they ended: label `outcome`, `ok` or an error's kind.
pub const REQUESTS: Metric = Metric {
    name: "corral_predict_requests_total",
    kind: MetricKind::Counter,
    description: "prediction requests by outcome",
};

/// Texts that were answered.
pub const TEXTS: Metric = Metric {
    name: "corral_predict_texts_total",
    kind: MetricKind::Counter,
    description: "texts that were classified",
};

/// The time of a prediction request inside the service.
pub const LATENCY: Metric = Metric {
    name: "corral_predict_latency_seconds",
    kind: MetricKind::Histogram,
    description: "time to answer a prediction request, waiting for a core included",
};

/// Every metric of this crate.
pub const METRICS: &[Metric] = &[REQUESTS, TEXTS, LATENCY];
