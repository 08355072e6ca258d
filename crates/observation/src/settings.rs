//! What is watched of an endpoint, as people set it and as it is kept.

use std::fmt;
use std::str::FromStr;

use corral_types::{ErrorKind, Explain, MIB};
use serde::{Deserialize, Serialize};

use crate::mask::{MAX_MASKS, Masks};

/// The longest that rows of a log are kept, in days: ten years.
pub const MAX_KEEP_DAYS: u32 = 3_650;

/// The most that a log may take on disk.
pub const MAX_LOG_BYTES: u64 = 1 << 40;

/// Bounds that tell something: below, chance passes them; above, nothing does.
const MIN_BOUND: f64 = 0.02;
const MAX_BOUND: f64 = 10.0;

/// Windows that tell something, and that pass in time.
const MIN_WINDOW_TEXTS: u32 = 100;
const MAX_WINDOW_TEXTS: u32 = 1_000_000;

/// The longest URL or secret of a webhook.
const MAX_WEBHOOK_BYTES: usize = 2_048;

/// What is watched of an endpoint's requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSettings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftSettings>,
}

/// What is kept of the texts and answers of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The part of the requests that is kept, from 0 to 1.
    pub sample: f64,
    /// What is replaced in texts: `email`, `digits`, or a regular expression.
    pub masks: Vec<String>,
    /// Columns that are left empty.
    pub omit: Vec<LogField>,
    /// No row is kept longer.
    pub keep_days: u32,
    /// What the log may take on disk; the oldest rows go first.
    pub max_bytes: u64,
}

/// Columns of a log that can be left empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogField {
    Text,
    Key,
    TopK,
}

impl LogField {
    pub const ALL: [Self; 3] = [Self::Text, Self::Key, Self::TopK];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Key => "key",
            Self::TopK => "top_k",
        }
    }
}

impl fmt::Display for LogField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogField {
    type Err = ObservingError;

    fn from_str(text: &str) -> Result<Self, ObservingError> {
        let found = Self::ALL.into_iter().find(|field| field.as_str() == text);
        found.ok_or_else(|| ObservingError::Field(text.to_owned()))
    }
}

/// When the texts and answers of an endpoint count as drifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftSettings {
    /// The largest population stability index that is within.
    pub bound: f64,
    /// Recent texts that are compared with the reference.
    pub window_texts: u32,
    /// Who is told when the bound is passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// Where an alarm is posted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: String,
    /// Signs what is posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Without the secret, and without what a URL may hold.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook { .. }")
    }
}

impl Default for DriftSettings {
    /// A bound from which on a shift counts as large, and windows in which chance is small.
    fn default() -> Self {
        Self { bound: 0.25, window_texts: 1_000, webhook: None }
    }
}

impl DriftSettings {
    /// # Errors
    /// When something is out of its range.
    pub fn check(&self) -> Result<(), ObservingError> {
        if !(MIN_BOUND..=MAX_BOUND).contains(&self.bound) {
            return Err(ObservingError::Bound(self.bound));
        }
        if !(MIN_WINDOW_TEXTS..=MAX_WINDOW_TEXTS).contains(&self.window_texts) {
            return Err(ObservingError::WindowTexts(self.window_texts));
        }
        let Some(Webhook { url, secret }) = &self.webhook else { return Ok(()) };
        let parsed = reqwest::Url::parse(url).ok();
        let is_web = parsed.is_some_and(|url| ["http", "https"].contains(&url.scheme()));
        if !is_web || url.len() > MAX_WEBHOOK_BYTES {
            return Err(ObservingError::WebhookUrl);
        }
        match secret.as_ref().map(String::len) {
            Some(0) => Err(ObservingError::WebhookSecret),
            Some(bytes) if bytes > MAX_WEBHOOK_BYTES => Err(ObservingError::WebhookSecret),
            _ => Ok(()),
        }
    }
}

/// Why something cannot be watched so.
#[derive(Debug, thiserror::Error)]
pub enum ObservingError {
    #[error("the sample is {0}; it is a part of the requests, from 0 to 1")]
    Sample(f64),
    #[error("rows are kept for {0} days; it may be 1 to {MAX_KEEP_DAYS}")]
    KeepDays(u32),
    #[error("the log may take {0} bytes; it may be {MIB} to {MAX_LOG_BYTES}")]
    MaxBytes(u64),
    #[error("`{0}` is not a column that can be left empty")]
    Field(String),
    #[error("the bound of drift is {0}; it may be {MIN_BOUND} to {MAX_BOUND}")]
    Bound(f64),
    #[error("a window has {0} texts; it may have {MIN_WINDOW_TEXTS} to {MAX_WINDOW_TEXTS}")]
    WindowTexts(u32),
    #[error("the webhook is not a URL of http or https with at most {MAX_WEBHOOK_BYTES} bytes")]
    WebhookUrl,
    #[error("the webhook's secret has 1 to {MAX_WEBHOOK_BYTES} bytes")]
    WebhookSecret,
    #[error("a secret signs what a webhook posts, and there is no webhook")]
    SecretAlone,
    #[error("a log has at most {MAX_MASKS} masks, and this one {0}")]
    TooManyMasks(usize),
    #[error("the mask `{mask}` is neither `email` nor `digits` nor a regular expression: {why}")]
    Mask { mask: String, why: String },
}

impl Explain for ObservingError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Field(_) => Some("those are text, key and top_k".to_owned()),
            Self::SecretAlone => Some("name a webhook too".to_owned()),
            Self::Mask { .. } => Some("write a pattern as in `order-[0-9]+`".to_owned()),
            _ => None,
        }
    }
}

impl Default for LogSettings {
    /// Keeps nothing; when turned on, a month of at most 1 GiB.
    fn default() -> Self {
        Self { sample: 0.0, masks: Vec::new(), omit: Vec::new(), keep_days: 30, max_bytes: 1 << 30 }
    }
}

impl LogSettings {
    /// The masks, ready to be applied.
    ///
    /// # Errors
    /// When something is out of its range, or a mask is none.
    pub fn check(&self) -> Result<Masks, ObservingError> {
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(ObservingError::Sample(self.sample));
        }
        if !(1..=MAX_KEEP_DAYS).contains(&self.keep_days) {
            return Err(ObservingError::KeepDays(self.keep_days));
        }
        if !(MIB..=MAX_LOG_BYTES).contains(&self.max_bytes) {
            return Err(ObservingError::MaxBytes(self.max_bytes));
        }
        Masks::of(&self.masks)
    }
}
