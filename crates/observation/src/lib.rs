//! What endpoints are asked and how they answer: counters for each version, the usage that
//! follows from them, logs of requests, and whether they are still like the training.
//!
//! The way of a request adds to counters and, where it is to be kept, copies its texts; whatever
//! masks texts or writes to disk happens on a thread beside it.

mod drift;
mod log;
mod mask;
mod observer;
mod page;
mod record;
mod recorder;
mod series;
mod settings;
mod usage;
mod webhook;

pub use drift::{
    AlarmEnd, AlarmWish, Distances, DriftReading, DriftReadings, LastWindow, MIN_REFERENCE_TEXTS,
    Profile, ReferenceWish, Standing,
};
pub use log::LogError;
pub use mask::{MAX_MASKS, Masks};
pub use observer::{MAX_SERIES, Observation, Observer};
pub use page::page;
pub use record::{Labelled, Record, Records, Sample, Sampler, TextAnswer};
pub use recorder::{LOG_WRITE_INTERVAL, Recorder, RecorderOptions, Wishes};
pub use series::{Distribution, Effort, Opening, Reading, Series, Subject};
pub use settings::{
    DriftSettings, LogField, LogSettings, MAX_KEEP_DAYS, MAX_LOG_BYTES, Observing, ObservingError,
    Webhook,
};
pub use usage::Gathered;
pub use webhook::{Alarm, SIGNATURE_HEADER, Sender};

use corral_telemetry::{Metric, MetricKind};

/// Records and rows that were to be kept and were not.
pub const DROPPED: Metric = Metric {
    name: "corral_observation_dropped_total",
    kind: MetricKind::Counter,
    description: "requests that were to be logged or watched and were not: too much was waiting, or the disk failed",
};

/// Every metric of this crate that is not of an endpoint.
pub const METRICS: &[Metric] = &[DROPPED];
