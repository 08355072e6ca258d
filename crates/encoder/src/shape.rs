//! The shape of a network, as its file states it, and what shapes are served.

use serde::{Deserialize, Serialize};

/// The width of the vectors in which the kernels work; inner dimensions are multiples of it.
pub(crate) const LANES: usize = 16;

/// More layers than any sentence encoder has (the largest BERT has 24); bounds the header.
const MAX_LAYERS: usize = 48;
/// BERT-large has 1,024; bounds the rows of scratch memory.
const MAX_HIDDEN: usize = 4096;
/// Four times [`MAX_HIDDEN`], the usual proportion. Also keeps the sums of the
/// eight-bit products (255 · 127 · 16,384) inside 32 bits.
const MAX_INTERMEDIATE: usize = 16_384;
/// Four times the largest multilingual vocabulary in use.
const MAX_VOCABULARY: usize = 1 << 20;
/// The longest context of this family; attention memory grows with it.
const MAX_POSITIONS: usize = 8192;

/// The dimensions of a BERT network with mean pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// The length of a token's vector, and of an embedding.
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    /// The inner width of the feed-forward part.
    pub intermediate: usize,
    /// Rows of the word embedding table.
    pub vocabulary: usize,
    /// Rows of the position embedding table.
    pub positions: usize,
    /// Longer texts are cut to this many tokens, the two that mark its ends included.
    pub max_tokens: usize,
    pub layer_norm_epsilon: f32,
}

/// Why a network of this shape is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("{what} is {value}, outside 1 to {limit}")]
    OutOfRange { what: &'static str, value: usize, limit: usize },
    #[error("{what} is {value}, not a multiple of {LANES}")]
    NotMultiple { what: &'static str, value: usize },
    #[error("{hidden} hidden places do not divide into {heads} heads")]
    UnevenHeads { hidden: usize, heads: usize },
    #[error("texts of {max_tokens} tokens are asked for, the network knows {positions} positions")]
    TooFewPositions { max_tokens: usize, positions: usize },
    #[error("the layer norm's epsilon is not a small positive number")]
    Epsilon,
}

impl Shape {
    /// The width of one attention head.
    pub fn head_width(&self) -> usize {
        self.hidden / self.heads
    }

    /// Checks that a network of this shape can be served: dimensions within their limits
    /// and multiples of the vector width.
    pub fn check(&self) -> Result<(), ShapeError> {
        let limits = [
            ("hidden", self.hidden, MAX_HIDDEN),
            ("layers", self.layers, MAX_LAYERS),
            ("heads", self.heads, MAX_HIDDEN / LANES),
            ("intermediate", self.intermediate, MAX_INTERMEDIATE),
            ("vocabulary", self.vocabulary, MAX_VOCABULARY),
            ("positions", self.positions, MAX_POSITIONS),
            ("max_tokens", self.max_tokens, MAX_POSITIONS),
        ];
        for (what, value, limit) in limits {
            if value == 0 || value > limit {
                return Err(ShapeError::OutOfRange { what, value, limit });
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(ShapeError::UnevenHeads { hidden: self.hidden, heads: self.heads });
        }
        for (what, value) in
            [("head width", self.head_width()), ("intermediate", self.intermediate)]
        {
            if !value.is_multiple_of(LANES) {
                return Err(ShapeError::NotMultiple { what, value });
            }
        }
        if self.max_tokens > self.positions || self.max_tokens < 3 {
            return Err(ShapeError::TooFewPositions {
                max_tokens: self.max_tokens,
                positions: self.positions,
            });
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 0.1) {
            return Err(ShapeError::Epsilon);
        }
        Ok(())
    }
}

/// How the large matrices of an encoder file are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision, as the published weights are: the reference.
    F32,
    /// Eight-bit weights with a scale per output, eight-bit activations with a scale and
    /// a zero point per token, exact integer sums; word embeddings of sixteen bits.
    Int8,
}

impl Precision {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}
