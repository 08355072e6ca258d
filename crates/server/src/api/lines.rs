//! Predictions line by line, and what is asked by query.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{ErrorDetail, Prediction};

/// What is asked about each text, in formats whose bodies hold only texts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PredictQuery {
    /// How many classes to name for each text; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Classes less probable than this are not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// Only classes whose id begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Asks for the deepest class of the tree that is at least so probable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_off: Option<f32>,
    /// Name classes also for texts that the model takes for none of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer_all: bool,
    /// Where the endpoint's traffic is split by key, the same key goes to the same side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many milliseconds to wait for the answer, 600,000 at most; of lines, for those that are
    /// asked together. As long as it takes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A line of a request of content type `application/x-ndjson`: this, or the text alone as a
/// JSON string. Other fields are passed over, so that rows of a data set can be sent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PredictLine {
    pub text: String,
    /// Anything; it comes back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
}

/// The answer to such a line: a prediction, or why there is none.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PredictedLine {
    Answered {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Value>,
        #[serde(flatten)]
        prediction: Prediction,
    },
    Failed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Value>,
        /// The number of the line in the request, from 1, empty lines counted.
        line: u64,
        error: ErrorDetail,
    },
}
