//! Predictions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    pub texts: Vec<String>,
    /// How many classes to name for each text; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Classes less probable than this are not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// Only classes whose id begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Asks for the deepest class of the tree that is at least so probable, with all below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_off: Option<f32>,
    /// Name classes also for texts that the model takes for none of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer_all: bool,
    /// Decides the side of a split by key: the same key gets answers of the same version. At most
    /// 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many milliseconds to wait for the answer, 600,000 at most; what is not answered by
    /// then is given up. As long as it takes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl PredictRequest {
    /// What is asked, and about what.
    pub fn into_parts(self) -> (super::PredictQuery, Vec<String>) {
        let Self { texts, top_k, threshold, prefix, back_off, answer_all, key, timeout_ms } = self;
        let asked =
            super::PredictQuery { top_k, threshold, prefix, back_off, answer_all, key, timeout_ms };
        (asked, texts)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PredictAnswer {
    /// The model, and its version; absent where the answer is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The version of the endpoint that answered; absent where a model's file did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_version: Option<u32>,
    /// One for each text, in order.
    pub predictions: Vec<Prediction>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// The most probable classes first; empty when none passes the threshold, or the text is
    /// taken for none of the classes.
    pub labels: Vec<ScoredLabel>,
    /// With `back_off`: the most probable class where it is probable enough, and else the
    /// deepest class above it that is; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backed_off: Option<ScoredLabel>,
    /// Of a model that was trained with rows of no class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalDetail>,
}

/// Whether a text is taken for none of the classes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusalDetail {
    /// From 0 to 1: more where that is likelier.
    pub score: f32,
    pub refused: bool,
}

impl Prediction {
    /// What a model predicts, with the names of classes.
    pub fn of(
        model: &corral_classifier::Model,
        prediction: &corral_classifier::Prediction,
        threshold: Option<f32>,
    ) -> Self {
        corral_serving::Answer::of(model, prediction, threshold).into()
    }
}

impl From<corral_serving::Answer> for Prediction {
    fn from(answer: corral_serving::Answer) -> Self {
        let label = |scored: corral_serving::Scored| ScoredLabel {
            id: scored.id,
            name: scored.name,
            probability: scored.probability,
        };
        Self {
            labels: answer.scored.into_iter().map(label).collect(),
            backed_off: answer.backed_off.map(label),
            refusal: answer
                .refusal
                .map(|verdict| RefusalDetail { score: verdict.score, refused: verdict.is_refused }),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScoredLabel {
    pub id: String,
    pub name: String,
    pub probability: f32,
}
