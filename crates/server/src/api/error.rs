//! The body of every answer that is an error.

use corral_types::Failure;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// `invalid`, `unauthenticated`, `forbidden`, `not_found`, `conflict`, `too_large`,
    /// `exhausted`, `timeout`, `unavailable`, `unsupported`, `data_loss` or `internal`.
    pub kind: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<&Failure> for ErrorBody {
    fn from(failure: &Failure) -> Self {
        Self { error: ErrorDetail::from(failure) }
    }
}

impl From<&Failure> for ErrorDetail {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.as_str().to_owned(),
            message: failure.message.clone(),
            causes: failure.causes.clone(),
            hint: failure.hint.clone(),
        }
    }
}
