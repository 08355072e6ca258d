//! Why a prediction or a deployment fails.

use std::time::Duration;

use corral_blobs::BlobError;
use corral_catalog::{CatalogError, EndpointRecord};
use corral_classifier::{ModelError, PredictError};
use corral_encoder::EncoderError;
use corral_observation::{LogError, ObservingError};
use corral_types::{BlobHash, ErrorKind, Explain, NameError};

use crate::fixed::MAX_FIXED_LABELS;
use crate::keep_warm::{MAX_REPLICAS, MAX_WINDOWS};
use crate::limits::MAX_RATE;
use crate::predict::{MAX_TEXT_BYTES, MAX_TEXTS, MAX_TIMEOUT, MAX_TOP_K};
use crate::routing::{MAX_ALIASES, MAX_SHARES};

/// Why a routing cannot be.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    #[error("there is no version `{0}` of the endpoint")]
    NoVersion(String),
    #[error("the endpoint has no alias `{name}`")]
    NoAlias { name: String, known: Vec<String> },
    #[error("`{0}` cannot be an alias: it stands for something else")]
    Alias(String),
    #[error(transparent)]
    Name(NameError),
    #[error("an endpoint has at most {MAX_ALIASES} aliases")]
    TooManyAliases,
    #[error("a split has 1 to {MAX_SHARES} sides, and this one {found}")]
    Shares { found: usize },
    #[error("no side of the split has a weight above 0")]
    NoWeight,
    #[error("a mirror's share is {0}; it is above 0 and at most 1")]
    MirrorShare(f64),
    #[error("it is not clear which version the canary takes over from")]
    CanaryFrom,
    #[error("version {0} cannot take over from itself")]
    CanaryOfItself(u32),
    #[error(
        "the steps of a canary are 1 to {MAX_SHARES} percentages between 0 and 100, each above \
         the one before"
    )]
    CanarySteps,
    #[error("a canary answers at least one request a step, and stands on one of its steps")]
    CanaryRequests,
    #[error("the bound `{field}` of a canary is {found}, out of its range")]
    Bound { field: &'static str, found: f64 },
    #[error("{found} replicas are asked for; 1 to {MAX_REPLICAS} can be kept warm")]
    Replicas { found: u32 },
    #[error("a schedule has 1 to {MAX_WINDOWS} windows, and this one {found}")]
    Windows { found: usize },
    #[error("`{0}` is no part of the week")]
    Window(String),
    #[error("there is no time zone `{0}`")]
    TimeZone(String),
    #[error("the endpoint's traffic was changed meanwhile")]
    MovedOn,
}

impl Explain for RoutingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoVersion(_) | Self::NoAlias { .. } => ErrorKind::NotFound,
            Self::TooManyAliases => ErrorKind::TooLarge,
            Self::MovedOn => ErrorKind::Conflict,
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoVersion(_) => {
                Some("`corral endpoint show NAME` lists the versions there are".to_owned())
            }
            Self::NoAlias { known, .. } if known.is_empty() => {
                Some("it has none; `corral endpoint alias NAME ALIAS VERSION` makes one".to_owned())
            }
            Self::NoAlias { known, .. } => Some(format!("it has {}", known.join(", "))),
            Self::CanaryFrom => Some("name it as `from`".to_owned()),
            Self::Alias(_) => Some("choose a word such as `stable`".to_owned()),
            Self::TooManyAliases => Some("remove one first".to_owned()),
            Self::Window(_) => Some("write it as in `mon-fri 08:00-18:00`".to_owned()),
            Self::TimeZone(_) => Some("write its name as in `Europe/Berlin`".to_owned()),
            Self::Bound { field: "latency_ratio", .. } => Some("it is at least 1".to_owned()),
            Self::Bound { .. } => Some("it is from 0 to 1".to_owned()),
            _ => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("there is no endpoint `{name}`")]
    NoEndpoint { name: String, nearest: Vec<String> },
    #[error("a request has at most {MAX_TEXTS} texts, and this one has {found}")]
    TooManyTexts { found: usize },
    #[error("text {index} has {bytes} bytes; a text has at most {MAX_TEXT_BYTES}")]
    TextTooLong { index: usize, bytes: usize },
    #[error("`top_k` is {found}; it is from 1 to {MAX_TOP_K}")]
    TopK { found: u32 },
    #[error("`{field}` is {found}; it is a probability from 0 to 1")]
    Probability { field: &'static str, found: f32 },
    #[error("{waiting} requests are waiting for a free core already")]
    Busy { waiting: usize },
    #[error("the model reads the encoder {name} ({hash}), which is not installed")]
    EncoderMissing { name: String, hash: BlobHash },
    #[error("predict")]
    Predict(#[source] PredictError),
    #[error("open the model")]
    Model(#[source] ModelError),
    #[error("open the encoder")]
    Encoder(#[source] EncoderError),
    #[error("read a stored file")]
    Blob(#[source] BlobError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("`timeout_ms` is {}; it is from 1 to {}", found.as_millis(), MAX_TIMEOUT.as_millis())]
    TimeoutRange { found: Duration },
    #[error("no answer within the {} ms that the request gave", timeout.as_millis())]
    TimedOut { timeout: Duration },
    #[error("the {who} asks more than its {rate} {what} a second")]
    OverLimit { who: &'static str, what: &'static str, rate: f64, wait: Duration },
    #[error("`{field}` is {found}; it is above 0 and at most {MAX_RATE}")]
    Rate { field: &'static str, found: f64 },
    #[error("read the limits of workspaces and tokens")]
    LimitsUnreadable(#[source] serde_json::Error),
    #[error("the prediction was cut off")]
    CutOff,
    #[error("start the threads that predict")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Routing(#[from] RoutingError),
    #[error("read {what} of the endpoint `{endpoint}`")]
    Unreadable {
        endpoint: String,
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("the endpoint version `{name}` gets requests by {by}")]
    VersionInUse { name: String, by: String },
    #[error(transparent)]
    Observing(#[from] ObservingError),
    #[error("start the thread that keeps requests")]
    Recorder(#[source] std::io::Error),
    #[error("read the endpoint's log")]
    Log(#[source] LogError),
    #[error("the endpoint `{0}` has no log")]
    NoLog(String),
    #[error("a fixed answer has at most {MAX_FIXED_LABELS} classes, and this one {found}")]
    TooManyFixedLabels { found: usize },
    #[error(
        "versions {} of the endpoint `{endpoint}` share its requests, and a job asks one",
        numbers(versions)
    )]
    Shared { endpoint: String, versions: Vec<u32> },
    #[error("the endpoint version `{name}` has a fixed answer, and no model to ask")]
    NoModel { name: String },
}

fn numbers(versions: &[u32]) -> String {
    let numbers: Vec<String> = versions.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

impl ServingError {
    /// That something kept of an endpoint is no JSON of ours.
    pub(crate) fn unreadable(
        record: &EndpointRecord,
        what: &'static str,
        source: serde_json::Error,
    ) -> Self {
        Self::Unreadable { endpoint: record.name.to_string(), what, source }
    }
}

impl Explain for ServingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoEndpoint { .. } | Self::NoLog(_) => ErrorKind::NotFound,
            Self::TooManyTexts { .. }
            | Self::TextTooLong { .. }
            | Self::TooManyFixedLabels { .. } => ErrorKind::TooLarge,
            Self::Routing(error) => error.kind(),
            Self::Observing(error) => error.kind(),
            Self::Recorder(_) | Self::Log(_) => ErrorKind::Internal,
            Self::Unreadable { .. } | Self::LimitsUnreadable(_) => ErrorKind::DataLoss,
            Self::TopK { .. } | Self::Probability { .. } | Self::TimeoutRange { .. } => {
                ErrorKind::Invalid
            }
            Self::TimedOut { .. } => ErrorKind::Timeout,
            Self::Busy { .. } | Self::OverLimit { .. } => ErrorKind::Exhausted,
            Self::Rate { .. } | Self::NoModel { .. } => ErrorKind::Invalid,
            Self::EncoderMissing { .. } | Self::VersionInUse { .. } | Self::Shared { .. } => {
                ErrorKind::Conflict
            }
            Self::Predict(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Encoder(error) => error.kind(),
            Self::Blob(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::CutOff => ErrorKind::Unavailable,
            Self::Threads(_) => ErrorKind::Internal,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::OverLimit { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoEndpoint { nearest, .. } => Some(match nearest.first() {
                Some(close) => format!("did you mean `{close}`?"),
                None => "`corral endpoint ls` lists the endpoints there are".to_owned(),
            }),
            Self::TooManyTexts { .. } => Some("send them in several requests".to_owned()),
            Self::TextTooLong { .. } => Some("cut it; classifiers read the beginning".to_owned()),
            Self::Busy { .. } => Some("try again shortly, or send less at once".to_owned()),
            Self::EncoderMissing { .. } => Some("run `corral encoder install`".to_owned()),
            Self::Predict(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Encoder(error) => error.hint(),
            Self::Blob(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::Routing(error) => error.hint(),
            Self::Observing(error) => error.hint(),
            Self::NoLog(name) => Some(format!("`corral endpoint log {name} on` begins one")),
            Self::VersionInUse { .. } => Some("send those elsewhere first".to_owned()),
            Self::Shared { endpoint, versions } => {
                let version = versions.first().copied().unwrap_or(1);
                Some(format!("name one, as in {endpoint}/{version}"))
            }
            Self::NoModel { .. } => {
                Some("name a version that a model answers for, as in NAME/1".to_owned())
            }
            Self::OverLimit { wait, .. } => {
                Some(format!("ask again in {:.1} s, or have an admin raise it", wait.as_secs_f64()))
            }
            Self::Unreadable { .. } | Self::LimitsUnreadable(_) => {
                Some("restore a backup with `corral restore`".to_owned())
            }
            Self::TimedOut { .. } => Some("send fewer texts at once, or give it longer".to_owned()),
            Self::TopK { .. }
            | Self::Probability { .. }
            | Self::TimeoutRange { .. }
            | Self::Rate { .. }
            | Self::TooManyFixedLabels { .. }
            | Self::Recorder(_)
            | Self::Log(_)
            | Self::CutOff
            | Self::Threads(_) => None,
        }
    }
}
