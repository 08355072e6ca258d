//! What is kept of an endpoint's requests.

use corral_observation::ObservingError;
use corral_serving::LogSettings;
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
