//! What a lexicon counts, and how it weighs what it counted.

use corral_types::{ErrorKind, Explain};
use serde::{Deserialize, Serialize};

/// Blocks in one lexicon. More would be several lexicons.
pub const MAX_BLOCKS: usize = 8;
/// The longest n-gram of characters; longer ones are words.
pub const MAX_CHARACTER_GRAM: u8 = 16;
/// The longest n-gram of words; longer ones hardly repeat.
pub const MAX_WORD_GRAM: u8 = 8;

/// How texts become sparse rows: preparation of the text, blocks of n-grams, normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LexicalConfig {
    pub case: Case,
    pub accents: Accents,
    /// At least one, at most [`MAX_BLOCKS`]. Columns follow each other in this order.
    pub blocks: Vec<BlockConfig>,
    pub normalisation: Normalisation,
}

/// Whether capital letters count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Letters are lowered by the Unicode rules, the final sigma included.
    Lower,
    Keep,
}

/// Whether accents count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accents {
    Keep,
    /// The text is decomposed (NFKD) and its combining characters dropped, as
    /// scikit-learn's `strip_accents="unicode"` does.
    Strip,
}

/// One block of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    pub grams: Grams,
    pub weighting: Weighting,
    /// N-grams in fewer texts are dropped; 1 keeps all.
    pub min_documents: u32,
    /// N-grams in a larger share of the texts are dropped; 1.0 keeps all.
    pub max_document_share: f64,
    /// Keeps only so many n-grams, those in the most texts; among equals, those of smaller
    /// hash. (scikit-learn counts occurrences, not texts.)
    pub max_features: Option<u32>,
    /// Multiplies the block's values, after its own normalisation where there is one.
    pub scale: f32,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Grams {
    /// Runs of `min` to `max` tokens. A token is a maximal run of word characters, at least
    /// `shortest` long. Word characters are letters, numbers, the underscore, and, unlike
    /// scikit-learn's `(?u)\b\w\w+\b`, combining marks, without which scripts such as
    /// Devanagari fall to pieces.
    Words { min: u8, max: u8, shortest: ShortestToken },
    /// Runs of `min` to `max` characters within a word and the spaces around it, where words
    /// are whatever stands between white space: scikit-learn's `char_wb`. A word that is
    /// shorter than `min` with its spaces counts once, whole.
    Characters { min: u8, max: u8 },
}

/// The shortest run of word characters that is a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortestToken {
    One,
    Two,
}

/// How a count becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Weighting {
    /// The count (or `1 + ln(count)` when sublinear) times
    /// `ln((1 + texts) / (1 + texts with the n-gram)) + 1`.
    TfIdf { sublinear: bool },
    /// 1 for each n-gram that is there.
    Binary,
    /// The count.
    Counts,
}

/// What is brought to L2 norm 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Each block on its own, before its scale: scikit-learn's `FeatureUnion` of vectorizers.
    PerBlock,
    /// The whole row, after the scales.
    Joint,
    Nothing,
}

/// Why a lexicon cannot be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LexicalError {
    #[error("a lexicon has 1 to {MAX_BLOCKS} blocks, not {0}")]
    BlockCount(usize),
    #[error("block {block} asks for n-grams of {min} to {max}; lengths are 1 to {longest}, rising")]
    GramLengths { block: usize, min: u8, max: u8, longest: u8 },
    #[error(
        "block {block} keeps n-grams in at most a share of {share} of the texts; shares lie above 0, up to 1"
    )]
    DocumentShare { block: usize, share: f64 },
    #[error("block {block} has the scale {scale}; scales are finite and above 0")]
    Scale { block: usize, scale: f32 },
    #[error("none of {texts} texts has an n-gram that the cuts keep")]
    EmptyVocabulary { texts: usize },
    #[error("{features} n-grams are kept; at most {limit} can be")]
    TooManyFeatures { features: usize, limit: usize },
}

impl Explain for LexicalError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyFeatures { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::EmptyVocabulary { .. } => {
                Some("lower `min_documents`, or check that the texts are not empty".to_owned())
            }
            Self::TooManyFeatures { .. } => {
                Some("raise `min_documents`, or set `max_features`".to_owned())
            }
            _ => None,
        }
    }
}

impl LexicalConfig {
    /// Words of 1 to 2 and characters of 3 to 5, sublinear TF-IDF, each block normalised:
    /// the setting that published linear baselines on short texts use.
    pub fn words_and_characters() -> Self {
        Self {
            case: Case::Lower,
            accents: Accents::Keep,
            blocks: vec![
                BlockConfig::new(Grams::Words { min: 1, max: 2, shortest: ShortestToken::Two }),
                BlockConfig::new(Grams::Characters { min: 3, max: 5 }),
            ],
            normalisation: Normalisation::PerBlock,
        }
    }

    /// Refuses what no lexicon can be fitted with.
    pub fn check(&self) -> Result<(), LexicalError> {
        if self.blocks.is_empty() || self.blocks.len() > MAX_BLOCKS {
            return Err(LexicalError::BlockCount(self.blocks.len()));
        }
        for (block, config) in self.blocks.iter().enumerate() {
            let (min, max, longest) = match config.grams {
                Grams::Words { min, max, .. } => (min, max, MAX_WORD_GRAM),
                Grams::Characters { min, max } => (min, max, MAX_CHARACTER_GRAM),
            };
            if min == 0 || min > max || max > longest {
                return Err(LexicalError::GramLengths { block, min, max, longest });
            }
            let share = config.max_document_share;
            if !(share > 0.0 && share <= 1.0) {
                return Err(LexicalError::DocumentShare { block, share });
            }
            if !(config.scale.is_finite() && config.scale > 0.0) {
                return Err(LexicalError::Scale { block, scale: config.scale });
            }
        }
        Ok(())
    }
}

impl BlockConfig {
    /// All n-grams, sublinear TF-IDF, scale 1.
    pub const fn new(grams: Grams) -> Self {
        Self {
            grams,
            weighting: Weighting::TfIdf { sublinear: true },
            min_documents: 1,
            max_document_share: 1.0,
            max_features: None,
            scale: 1.0,
        }
    }
}
