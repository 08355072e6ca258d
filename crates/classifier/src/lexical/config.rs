//! What a lexicon counts, and how it weighs what it counted.

use corral_types::{ErrorKind, Explain};
use serde::{Deserialize, Serialize};

/// Blocks in one lexicon. More would be several lexicons.
pub const MAX_BLOCKS: usize = 8;
/// The longest n-gram of characters; longer ones are words.
pub const MAX_CHARACTER_GRAM: u8 = 16;
/// The longest n-gram of words; longer ones hardly repeat.
pub const MAX_WORD_GRAM: u8 = 8;
/// Words at the start of a text whose places may count; later ones move about too freely.
pub const MAX_FIRST_WORDS: u8 = 16;
/// Hashed columns as a power of two: fewer would mix everything with everything, more make
/// heads larger than any vocabulary.
pub const HASH_BITS: std::ops::RangeInclusive<u8> = 8..=24;

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
    #[serde(default, skip_serializing_if = "Vocabulary::is_learnt")]
    pub vocabulary: Vocabulary,
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
    /// Runs of 1 to `max` tokens among the first `words` of the text, each known by its place
    /// as well: `how` as the first word is another feature than as the second. Questions say
    /// much of what they want in how they begin.
    FirstWords { words: u8, max: u8, shortest: ShortestToken },
}

/// Which columns a block has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Vocabulary {
    /// One for each n-gram that the cuts keep.
    #[default]
    Learnt,
    /// `2^bits`, and an n-gram's is told by its hash (the hashing trick of Weinberger et al.
    /// 2009, without signs). Nothing is kept of the n-grams themselves; those that share a
    /// column are counted, weighted and cut together. A column that no text had, or that the
    /// cuts take away, has no value ever.
    Hashed { bits: u8 },
}

impl Vocabulary {
    const fn is_learnt(&self) -> bool {
        matches!(self, Self::Learnt)
    }
}

/// The shortest run of word characters that is a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortestToken {
    One,
    Two,
}

/// How a count becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Weighting {
    /// The count (or `1 + ln(count)` when sublinear) times
    /// `ln((1 + texts) / (1 + texts with the n-gram)) + 1`.
    TfIdf { sublinear: bool },
    /// Okapi BM25 (Robertson and Zaragoza 2009): the count `c` becomes
    /// `c (k1 + 1) / (c + k1 (1 - b + b · length / average length))`, times
    /// `ln(1 + (texts - d + 0.5) / (d + 0.5))` where `d` texts have the n-gram. A length is the
    /// number of the block's n-grams in a text, known or not. The 1 in the logarithm keeps
    /// n-grams of over half of the texts above zero.
    Bm25 { k1: f32, b: f32 },
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
    #[error(
        "block {block} counts runs of up to {max} words among the first {words}; words are 1 to {MAX_FIRST_WORDS}, runs as long at most, and not over {MAX_WORD_GRAM}"
    )]
    FirstWords { block: usize, words: u8, max: u8 },
    #[error(
        "block {block} has 2^{bits} hashed columns; bits are {} to {}",
        HASH_BITS.start(),
        HASH_BITS.end()
    )]
    HashBits { block: usize, bits: u8 },
    #[error(
        "block {block} has BM25 with k1 {k1} and b {b}; k1 is finite and above 0, b lies in 0 to 1"
    )]
    Bm25 { block: usize, k1: f32, b: f32 },
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
            config.grams.check(block)?;
            if let Vocabulary::Hashed { bits } = config.vocabulary
                && !HASH_BITS.contains(&bits)
            {
                return Err(LexicalError::HashBits { block, bits });
            }
            if let Weighting::Bm25 { k1, b } = config.weighting
                && !(k1.is_finite() && k1 > 0.0 && (0.0..=1.0).contains(&b))
            {
                return Err(LexicalError::Bm25 { block, k1, b });
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

impl Grams {
    fn check(self, block: usize) -> Result<(), LexicalError> {
        let (min, max, longest) = match self {
            Self::Words { min, max, .. } => (min, max, MAX_WORD_GRAM),
            Self::Characters { min, max } => (min, max, MAX_CHARACTER_GRAM),
            Self::FirstWords { words, max, .. } => {
                let sound = (1..=MAX_FIRST_WORDS).contains(&words)
                    && (1..=words.min(MAX_WORD_GRAM)).contains(&max);
                let error = LexicalError::FirstWords { block, words, max };
                return if sound { Ok(()) } else { Err(error) };
            }
        };
        if min == 0 || min > max || max > longest {
            return Err(LexicalError::GramLengths { block, min, max, longest });
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
            vocabulary: Vocabulary::Learnt,
            min_documents: 1,
            max_document_share: 1.0,
            max_features: None,
            scale: 1.0,
        }
    }
}
