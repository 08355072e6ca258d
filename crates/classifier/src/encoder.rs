//! The port behind which sentence encoders stand.

use std::fmt;

use corral_types::BlobHash;
use serde::{Deserialize, Serialize};

/// Which numbers of a network stand for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingView {
    /// What the network was trained to give: the mean over the last layer's tokens, of norm 1.
    Pooled,
    /// What every layer knows of the text: for each layer, the word embeddings that the first
    /// one reads included, the mean over its tokens and its first token, each of norm 1; side
    /// by side, and so scaled that the whole has norm 1. Where rows are few and order matters,
    /// a linear head finds more in it than in the last layer's mean alone.
    Layers,
}

/// A view of the embedding as a head reads it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingUse {
    pub view: EmbeddingView,
    /// Multiplies the embedding.
    pub scale: f32,
}

impl EmbeddingView {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::Layers => "layers",
        }
    }
}

impl fmt::Display for EmbeddingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A sentence-embedding network.
///
/// The same text gives the same vector whatever texts stand beside it in a batch, up to
/// the rounding of the arithmetic.
pub trait Encoder: Send + Sync {
    /// The hash of the file the encoder was opened from. A model file names its encoder by it.
    fn id(&self) -> BlobHash;

    /// A name for people, such as `all-MiniLM-L6-v2`.
    fn name(&self) -> &str;

    /// The length of an embedding.
    fn dimension(&self) -> usize;

    /// Writes the L2-normalised embeddings of `texts`, row after row, to `out`, which has
    /// `texts.len() * dimension()` places. Texts beyond the network's length are cut.
    fn encode(&self, texts: &[&str], out: &mut [f32]);
}
