//! Endpoints: names that send prediction requests to model versions.
//!
//! An endpoint has versions that never change, aliases that move between them, and a traffic
//! that says which version answers a request that names none: the newest, a fixed one, several
//! by their shares, or a canary that takes over step by step.
//!
//! All endpoints of all workspaces are held in memory, so that a request touches neither the
//! catalog nor a file before its model; every change goes to the catalog first.

mod canary;
mod drift;
mod error;
mod fixed;
mod following;
mod keep_warm;
mod limits;
mod observing;
mod opened;
mod pinned;
mod pool;
mod predict;
mod route;
mod routing;
mod service;
mod usage;
mod warmth;

pub use canary::{Bounds, GoneBack};
pub use corral_classifier::Refusals;
pub use corral_observation::{DriftSettings, LogField, LogSettings, Observing, RecorderOptions};
pub use drift::{Texts, TrainingTexts};
pub use error::{RoutingError, ServingError};
pub use fixed::{FixedAnswer, FixedLabel, MAX_FIXED_LABELS};
pub use keep_warm::{KeepWarm, Schedule, Window};
pub use limits::{Limit, Subject};
pub use opened::{OpenLimits, OpenModel, Opened};
pub use pinned::Pinned;
pub use predict::{Answer, MAX_TEXT_BYTES, MAX_TEXTS, MAX_TIMEOUT, MAX_TOP_K, Question, Scored};
pub use routing::{
    Canary, CanaryEnd, MAX_ALIASES, MAX_SHARES, Mirror, Routing, Selector, Share, SplitBy, Traffic,
    alias,
};
pub use service::{Answered, Deployment, Endpoint, Serving};
pub use usage::{USAGE_KEPT_DAYS, USAGE_NOTE_INTERVAL, UsageSpan};

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

/// Requests that a mirror was to answer too, by what came of it: label `outcome`, `same`, `other`,
/// `failed` or `dropped`.
pub const MIRRORED: Metric = Metric {
    name: "corral_mirrored_requests_total",
    kind: MetricKind::Counter,
    description: "requests copied to a mirror by outcome",
};

/// Texts that were answered in one go, of one request or of several that read the same encoder.
pub const BATCH_TEXTS: Metric = Metric {
    name: "corral_predict_batch_texts",
    kind: MetricKind::Histogram,
    description: "texts answered together",
};

/// Models that are open, and the bytes of their files.
pub const OPEN_MODELS: Metric = Metric {
    name: "corral_open_models",
    kind: MetricKind::Gauge,
    description: "models that are open",
};
pub const OPEN_MODEL_BYTES: Metric = Metric {
    name: "corral_open_model_bytes",
    kind: MetricKind::Gauge,
    description: "bytes of the files of open models",
};

/// Every metric of this crate.
pub const METRICS: &[Metric] =
    &[REQUESTS, TEXTS, LATENCY, MIRRORED, BATCH_TEXTS, OPEN_MODELS, OPEN_MODEL_BYTES];
