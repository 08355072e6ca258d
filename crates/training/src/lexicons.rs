//! The lexicons that candidates may read.

use std::fmt;

use corral_classifier::{BlockConfig, Grams, LexicalConfig, ShortestToken, Vocabulary, Weighting};
use serde::{Deserialize, Serialize};

/// Settings of a lexicon, small enough to name a candidate by and to compute each lexicon once
/// in a run. At least one of `words`, `characters` and `first_words`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LexiconSettings {
    pub words: Option<GramLengths>,
    /// Within words, the spaces around them included.
    pub characters: Option<GramLengths>,
    /// Runs of up to [`FIRST_WORDS_RUN`] words among so many at the start of a text, each known
    /// by its place.
    #[serde(default)]
    pub first_words: Option<u8>,
    pub weighting: LexiconWeighting,
    /// N-grams in fewer texts are dropped.
    pub min_documents: u8,
    /// With it, words and characters each have `2^bits` columns that n-grams share by their
    /// hash, in place of a vocabulary.
    #[serde(default)]
    pub hash_bits: Option<u8>,
}

/// The shortest and the longest n-gram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GramLengths {
    pub min: u8,
    pub max: u8,
}

/// How counts become values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LexiconWeighting {
    /// `(1 + ln count) · idf`.
    SublinearTfIdf,
    /// `count · idf`.
    TfIdf,
    /// 1 for each n-gram that is there.
    Binary,
    /// Okapi BM25 with [`BM25_K1`] and [`BM25_B`].
    Bm25,
}

/// The longest run of first words; see [`LexiconSettings::first_words`].
pub const FIRST_WORDS_RUN: u8 = 2;
/// How soon a repeated n-gram counts no more, and how much the length of a text matters: the
/// values that retrieval systems begin with.
pub const BM25_K1: f32 = 1.2;
pub const BM25_B: f32 = 0.75;

/// From this many texts on an n-gram must stand in two of them: those that stand in one are
/// half of a vocabulary, and few texts to come will have them. By cross-validation on the train
/// rows of TREC (5,452 texts) and Banking77 (10,003) a linear SVM is 0.1 to 0.6 points better
/// without them, and its head half as large.
const TEXTS_WITH_RARE_GRAMS: usize = 5_000;

impl LexiconSettings {
    /// What published linear baselines on short texts use: words of 1 to 2 and characters of
    /// 3 to 5, sublinear TF-IDF.
    pub const WORDS_AND_CHARACTERS: Self = Self {
        words: Some(GramLengths { min: 1, max: 2 }),
        characters: Some(GramLengths { min: 3, max: 5 }),
        first_words: None,
        weighting: LexiconWeighting::SublinearTfIdf,
        min_documents: 1,
        hash_bits: None,
    };
    /// Words alone: a few features a text, where meanings are whole words.
    pub const WORDS: Self = Self { characters: None, ..Self::WORDS_AND_CHARACTERS };
    /// Characters alone: parts of words, misspelt ones too.
    pub const CHARACTERS: Self = Self {
        words: None,
        characters: Some(GramLengths { min: 2, max: 5 }),
        ..Self::WORDS_AND_CHARACTERS
    };
    /// Longer n-grams, where there are rows enough to see them twice.
    pub const LONG: Self = Self {
        words: Some(GramLengths { min: 1, max: 3 }),
        characters: Some(GramLengths { min: 3, max: 6 }),
        ..Self::WORDS_AND_CHARACTERS
    };
    /// With how a text begins, which tells what a question asks for.
    pub const FIRST_WORDS: Self = Self { first_words: Some(4), ..Self::WORDS_AND_CHARACTERS };
    /// Weighed as retrieval does.
    pub const BM25: Self = Self { weighting: LexiconWeighting::Bm25, ..Self::WORDS_AND_CHARACTERS };
    /// In columns bounded beforehand.
    pub const HASHED: Self = Self { hash_bits: Some(18), ..Self::WORDS_AND_CHARACTERS };

    /// Those that a search chooses from, the usual one first.
    pub const PRESETS: [Self; 7] = [
        Self::WORDS_AND_CHARACTERS,
        Self::FIRST_WORDS,
        Self::WORDS,
        Self::LONG,
        Self::CHARACTERS,
        Self::BM25,
        Self::HASHED,
    ];

    /// About how many n-grams a byte of text has: five bytes make a word.
    pub fn grams_a_byte(&self) -> f64 {
        let lengths = |range: GramLengths| f64::from(range.max + 1 - range.min);
        self.characters.map_or(0.0, lengths) + self.words.map_or(0.0, lengths) / 5.0
    }

    /// The same with the cut of rare n-grams that suits so many texts.
    pub const fn for_texts(self, texts: usize) -> Self {
        let min_documents = if texts >= TEXTS_WITH_RARE_GRAMS { 2 } else { self.min_documents };
        Self { min_documents, ..self }
    }

    /// The same, as a lexicon is fitted with it: a block each for words, characters and first
    /// words, brought to norm 1 by itself. First words are too few to be hashed.
    pub fn config(&self) -> LexicalConfig {
        let weighting = match self.weighting {
            LexiconWeighting::SublinearTfIdf => Weighting::TfIdf { sublinear: true },
            LexiconWeighting::TfIdf => Weighting::TfIdf { sublinear: false },
            LexiconWeighting::Binary => Weighting::Binary,
            LexiconWeighting::Bm25 => Weighting::Bm25 { k1: BM25_K1, b: BM25_B },
        };
        let words = self.words.map(|GramLengths { min, max }| Grams::Words {
            min,
            max,
            shortest: ShortestToken::Two,
        });
        let characters =
            self.characters.map(|GramLengths { min, max }| Grams::Characters { min, max });
        let first_words = self.first_words.map(|words| Grams::FirstWords {
            words,
            max: FIRST_WORDS_RUN.min(words),
            shortest: ShortestToken::One,
        });
        let hashed = self.hash_bits.map_or(Vocabulary::Learnt, |bits| Vocabulary::Hashed { bits });
        let block = |(grams, vocabulary)| BlockConfig {
            weighting,
            vocabulary,
            min_documents: u32::from(self.min_documents),
            ..BlockConfig::new(grams)
        };
        let blocks = [(words, hashed), (characters, hashed), (first_words, Vocabulary::Learnt)];
        let blocks =
            blocks.into_iter().filter_map(|(grams, vocabulary)| Some((grams?, vocabulary)));
        LexicalConfig {
            blocks: blocks.map(block).collect(),
            ..LexicalConfig::words_and_characters()
        }
    }
}

/// For people, such as `words 1-2 chars 3-5`; what is usual is left out.
impl fmt::Display for LexiconSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(GramLengths { min, max }) = self.words {
            parts.push(format!("words {min}-{max}"));
        }
        if let Some(GramLengths { min, max }) = self.characters {
            parts.push(format!("chars {min}-{max}"));
        }
        if let Some(words) = self.first_words {
            parts.push(format!("first {words} words"));
        }
        match self.weighting {
            LexiconWeighting::SublinearTfIdf => {}
            LexiconWeighting::TfIdf => parts.push("plain TF".to_owned()),
            LexiconWeighting::Binary => parts.push("binary".to_owned()),
            LexiconWeighting::Bm25 => parts.push("BM25".to_owned()),
        }
        if let Some(bits) = self.hash_bits {
            parts.push(format!("hashed to 2^{bits}"));
        }
        if self.min_documents > 1 {
            parts.push(format!("in {}+ texts", self.min_documents));
        }
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_usual_settings_are_those_of_published_baselines() {
        let usual = LexiconSettings::WORDS_AND_CHARACTERS;
        assert_eq!(usual.config(), LexicalConfig::words_and_characters());
        assert_eq!(usual.to_string(), "words 1-2 chars 3-5");
        let many = usual.for_texts(TEXTS_WITH_RARE_GRAMS);
        assert!(many.config().blocks.iter().all(|block| block.min_documents == 2));
        assert_eq!(many.to_string(), "words 1-2 chars 3-5 in 2+ texts");
    }

    #[test]
    fn presets_differ_and_can_be_fitted() {
        let names: BTreeSet<String> =
            LexiconSettings::PRESETS.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), LexiconSettings::PRESETS.len());
        assert!(names.contains("words 1-2 chars 3-5 first 4 words"), "{names:?}");
        assert!(names.contains("words 1-2 chars 3-5 hashed to 2^18"), "{names:?}");
        for settings in LexiconSettings::PRESETS {
            settings.config().check().unwrap();
            let json = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<LexiconSettings>(&json).unwrap(), settings);
        }
    }
}
