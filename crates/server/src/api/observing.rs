//! What is kept of an endpoint's requests.

use std::collections::BTreeMap;

use corral_observation::{AlarmEnd, DriftReading, ObservingError, Standing, Webhook};
use corral_serving::{DriftSettings, LogSettings};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is kept of an endpoint's requests and answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogBody {
    /// The part of the requests that is kept, from 0, the default, to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
    /// What is replaced in texts before they are kept: `email`, `digits`, or regular expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<Vec<String>>,
    /// Columns that are left empty: `text`, `key`, `top_k`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omit: Option<Vec<String>>,
    /// No row is kept longer; 30 days when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
    /// What the log may take on disk, the oldest rows going first; 1 GiB when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// The wish for a data set of a log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogDatasetRequest {
    /// The data set's name.
    pub dataset: String,
    /// `answer` takes the model's answers for labels; rows have none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Makes the next version of a data set that is there.
    #[serde(default)]
    pub append: bool,
}

impl LogBody {
    /// These settings over those before.
    ///
    /// # Errors
    /// When a column is none that can be left empty.
    pub fn over(self, before: LogSettings) -> Result<LogSettings, ObservingError> {
        let omit = self.omit.map(|fields| fields.iter().map(|field| field.parse()).collect());
        Ok(LogSettings {
            sample: self.sample.unwrap_or(before.sample),
            masks: self.masks.unwrap_or(before.masks),
            omit: omit.transpose()?.unwrap_or(before.omit),
            keep_days: self.keep_days.unwrap_or(before.keep_days),
            max_bytes: self.max_bytes.unwrap_or(before.max_bytes),
        })
    }
}

impl From<&LogSettings> for LogBody {
    fn from(log: &LogSettings) -> Self {
        Self {
            sample: Some(log.sample),
            masks: Some(log.masks.clone()),
            omit: Some(log.omit.iter().map(ToString::to_string).collect()),
            keep_days: Some(log.keep_days),
            max_bytes: Some(log.max_bytes),
        }
    }
}

/// When the texts and answers of an endpoint count as drifted, and who is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftBody {
    /// The largest population stability index that is within; 0.25 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Recent texts that are compared with the training; 1000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_texts: Option<u32>,
    /// The URL that is posted to when the bound is passed; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Signs what is posted. It is never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// Whether what is posted is signed; in answers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_signed: Option<bool>,
}

impl DriftBody {
    /// These settings over those before.
    ///
    /// # Errors
    /// When a secret comes without a webhook.
    pub fn over(self, before: DriftSettings) -> Result<DriftSettings, ObservingError> {
        let url = match self.webhook {
            Some(url) => Some(url).filter(|url| !url.is_empty()),
            None => before.webhook.as_ref().map(|webhook| webhook.url.clone()),
        };
        let kept = before.webhook.and_then(|webhook| webhook.secret);
        let webhook = match (url, self.webhook_secret) {
            (None, Some(_)) => return Err(ObservingError::SecretAlone),
            (None, None) => None,
            (Some(url), secret) => Some(Webhook { url, secret: secret.or(kept) }),
        };
        Ok(DriftSettings {
            bound: self.bound.unwrap_or(before.bound),
            window_texts: self.window_texts.unwrap_or(before.window_texts),
            webhook,
        })
    }
}

impl From<&DriftSettings> for DriftBody {
    fn from(drift: &DriftSettings) -> Self {
        let webhook = drift.webhook.as_ref();
        Self {
            bound: Some(drift.bound),
            window_texts: Some(drift.window_texts),
            webhook: webhook.map(|webhook| webhook.url.clone()),
            webhook_secret: None,
            is_signed: webhook.map(|webhook| webhook.secret.is_some()),
        }
    }
}

/// How the recent requests of a version compare with its training.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DriftDetail {
    /// `within`, `beyond`, `waiting` for texts, or `no_reference`.
    pub state: String,
    /// Population stability indices of `scores`, `classes`, `lengths` and `words`, of the last
    /// window.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub distances: BTreeMap<String, f64>,
    /// When that window ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Texts counted towards the next window.
    pub texts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_texts: Option<u64>,
    /// Why there is no reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What came of the last alarm: when it was delivered, or why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

impl From<DriftReading> for DriftDetail {
    fn from(reading: DriftReading) -> Self {
        let DriftReading { reference_texts, no_reference, last, texts, alarm } = reading;
        let state = match (&last, reference_texts, &no_reference) {
            (Some(last), ..) if last.standing == Standing::Beyond => "beyond",
            (Some(_), ..) => "within",
            (None, None, Some(_)) => "no_reference",
            (None, ..) => "waiting",
        };
        let named = last.iter().flat_map(|last| last.distances.named());
        Self {
            state: state.to_owned(),
            distances: named.map(|(name, distance)| (name.to_owned(), distance)).collect(),
            at: last.as_ref().map(|last| last.at.to_string()),
            texts,
            reference_texts,
            why: no_reference,
            alarm: alarm.map(|end| match end {
                AlarmEnd::Delivered(at) => format!("delivered at {at}"),
                AlarmEnd::Failed(why) => why,
            }),
        }
    }
}
