//! Lexical features: weighted n-grams of words and of characters.
//!
//! A [`LexicalConfig`] lists blocks; a [`Lexicon`] is fitted on texts and then turns any text
//! into a sparse row. Features are known by the 64-bit hash of their n-gram: no n-gram is ever
//! built as a string, and n-grams that were not seen in fitting are passed over.
//!
//! Definitions follow scikit-learn's `TfidfVectorizer` (smooth idf, `char_wb` boundaries), so
//! that published settings carry over. Where we differ on purpose, it is said at the item.

mod config;
mod grams;
mod lexicon;
mod order;
mod table;
mod text;
mod vocabulary;

pub use config::{
    Accents, BlockConfig, Case, Grams, HASH_BITS, LexicalConfig, LexicalError, MAX_BLOCKS,
    MAX_CHARACTER_GRAM, MAX_FIRST_WORDS, MAX_WORD_GRAM, Normalisation, ShortestToken, Vocabulary,
    Weighting,
};
pub(crate) use lexicon::{BM25_FEATURE, FIRST_WORDS_FEATURE, HASHED_FEATURE};
pub use lexicon::{LexicalScratch, Lexicon, LexiconShape, MAX_FEATURES};
pub(crate) use table::{Bucket, is_sound};

#[cfg(test)]
mod golden_tests;
