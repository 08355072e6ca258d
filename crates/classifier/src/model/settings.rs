//! The settings of a model file: what its header says in JSON.

use std::collections::BTreeMap;

use corral_types::BlobHash;
use serde::{Deserialize, Serialize};

use crate::calibration::Link;
use crate::encoder::{EmbeddingUse, EmbeddingView};
use crate::head::Activation;
use crate::lexical::{BM25_FEATURE, FIRST_WORDS_FEATURE, HASHED_FEATURE, LexiconShape};
use crate::refusal::Refusal;

/// The encoder whose embeddings a model reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderNeed {
    pub hash: BlobHash,
    pub name: String,
    /// The length of an embedding in the pooled view.
    pub dimension: u32,
    /// The length of an embedding in the view of all layers; absent where no member reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers_dimension: Option<u32>,
}

impl EncoderNeed {
    /// The length of an embedding in a view that members may read.
    pub fn dimension_of(&self, view: EmbeddingView) -> Option<usize> {
        match view {
            EmbeddingView::Pooled => Some(self.dimension as usize),
            EmbeddingView::Layers => self.layers_dimension.map(|length| length as usize),
        }
    }
}

/// When an answer is taken for none of the classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// With [`Link::Softmax`]: an answer below it is none of the classes.
    /// With [`Link::Sigmoid`]: classes from it on are chosen; one half where it is absent.
    pub least_probability: Option<f32>,
    /// With [`Link::Sigmoid`]: a threshold for each output, before the common one.
    pub per_output: Option<Vec<f32>>,
    /// With [`Link::Softmax`]: how texts are found that are none of the classes.
    pub refusal: Option<Refusal<'static>>,
}

/// What a reader must understand to use a file at all. Read before everything else.
#[derive(Debug, Deserialize)]
pub(super) struct Requirements {
    pub requires: Vec<String>,
}

/// Features of the format that this reader knows. A later kind of member, head, weighting or
/// calibration adds a word to the files that use it, and older readers refuse those by name.
pub(super) const KNOWN_FEATURES: [&str; 13] = [
    "lexicon",
    BM25_FEATURE,
    FIRST_WORDS_FEATURE,
    HASHED_FEATURE,
    "embedding",
    LAYERS_FEATURE,
    "linear",
    "network",
    "neighbours",
    "kernel",
    "local",
    REFUSAL_FEATURE,
    CONFIDENCE_POWER_FEATURE,
];
/// The word of models that temper sure and unsure rows differently.
pub(super) const CONFIDENCE_POWER_FEATURE: &str = "confidence_power";
/// The word of models that refuse texts.
pub(super) const REFUSAL_FEATURE: &str = "refusal";
/// The word of models that read the view of all layers.
pub(super) const LAYERS_FEATURE: &str = "embedding_layers";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub requires: Vec<String>,
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    pub link: Link,
    pub classes: u64,
    pub outputs: u64,
    pub encoder: Option<EncoderNeed>,
    pub lexicons: Vec<LexiconShape>,
    pub members: Vec<MemberSettings>,
    pub temperature: f32,
    /// The first writers knew none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub confidence_power: f32,
    pub least_probability: Option<f32>,
    pub has_output_thresholds: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalSettings>,
}

/// How texts are refused, without the arrays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefusalSettings {
    pub threshold: f32,
    pub score: RefusalScoreSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum RefusalScoreSettings {
    Doubt,
    Entropy,
    Detector { bias: f32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberSettings {
    pub name: String,
    pub weight: f32,
    pub lexicon: Option<LexiconUseSettings>,
    pub embedding_scale: Option<f32>,
    /// The view that the scale is of. The first writers knew the pooled one only and named
    /// none.
    #[serde(default = "pooled", skip_serializing_if = "is_pooled")]
    pub embedding_view: EmbeddingView,
    pub head: HeadSettings,
    pub calibration: CalibrationSettings,
}

fn is_zero(number: &f32) -> bool {
    *number == 0.0
}

const fn pooled() -> EmbeddingView {
    EmbeddingView::Pooled
}

fn is_pooled(view: &EmbeddingView) -> bool {
    *view == EmbeddingView::Pooled
}

impl MemberSettings {
    /// The view that the member reads, and its scale.
    pub fn embedding(&self) -> Option<EmbeddingUse> {
        self.embedding_scale.map(|scale| EmbeddingUse { view: self.embedding_view, scale })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LexiconUseSettings {
    pub lexicon: u32,
    pub scale: f32,
}

/// A head's kind and what its arrays do not say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum HeadSettings {
    Network {
        width: u32,
        activation: Activation,
        hidden: WeightKind,
        output: WeightKind,
    },
    Neighbours {
        rows: u32,
        neighbours: u32,
        sharpness: f32,
    },
    Kernel {
        rows: u32,
        decay: f32,
        weights: WeightKind,
    },
    Local {
        parents: u32,
        parent_weights: WeightKind,
        child_weights: WeightKind,
        sharpness: f32,
    },
    /// Linear heads, which are older than the others, are named by their weights alone.
    #[serde(untagged)]
    Linear(WeightKind),
}

/// How weights lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WeightKind {
    F32,
    Int8,
    SparseInt8,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum CalibrationSettings {
    Temperature(f32),
    PerOutput,
}
