//! The lexicons that candidates may read.

use std::fmt;

use corral_classifier::{BlockConfig, Grams, LexicalConfig, ShortestToken, Weighting};
use serde::{Deserialize, Serialize};

/// Settings of a lexicon, small enough to name a candidate by and to compute each lexicon once
/// in a run. At least one of `words` and `characters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LexiconSettings {
    pub words: Option<GramLengths>,
    /// Within words, the spaces around them included.
    pub characters: Option<GramLengths>,
    pub weighting: LexiconWeighting,
    /// N-grams in fewer texts are dropped.
    pub min_documents: u8,
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
}

/// From this many texts on an n-gram must stand in two of them: those that stand in one are
/// most of a vocabulary, and few texts to come will have them.
const TEXTS_WITH_RARE_GRAMS: usize = 30_000;

impl LexiconSettings {
    /// What published linear baselines on short texts use: words of 1 to 2 and characters of
    /// 3 to 5, sublinear TF-IDF.
    pub const WORDS_AND_CHARACTERS: Self = Self {
        words: Some(GramLengths { min: 1, max: 2 }),
        characters: Some(GramLengths { min: 3, max: 5 }),
        weighting: LexiconWeighting::SublinearTfIdf,
        min_documents: 1,
    };

    /// The same with the cut of rare n-grams that suits so many texts.
    pub const fn for_texts(self, texts: usize) -> Self {
        let min_documents = if texts >= TEXTS_WITH_RARE_GRAMS { 2 } else { self.min_documents };
        Self { min_documents, ..self }
    }

    /// The same, as a lexicon is fitted with it: a block each for words and characters, brought
    /// to norm 1 by itself.
    pub fn config(&self) -> LexicalConfig {
        let weighting = match self.weighting {
            LexiconWeighting::SublinearTfIdf => Weighting::TfIdf { sublinear: true },
            LexiconWeighting::TfIdf => Weighting::TfIdf { sublinear: false },
            LexiconWeighting::Binary => Weighting::Binary,
        };
        let words = self.words.map(|GramLengths { min, max }| Grams::Words {
            min,
            max,
            shortest: ShortestToken::Two,
        });
        let characters =
            self.characters.map(|GramLengths { min, max }| Grams::Characters { min, max });
        let block = |grams| BlockConfig {
            weighting,
            min_documents: u32::from(self.min_documents),
            ..BlockConfig::new(grams)
        };
        LexicalConfig {
            blocks: words.into_iter().chain(characters).map(block).collect(),
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
        match self.weighting {
            LexiconWeighting::SublinearTfIdf => {}
            LexiconWeighting::TfIdf => parts.push("plain TF".to_owned()),
            LexiconWeighting::Binary => parts.push("binary".to_owned()),
        }
        if self.min_documents > 1 {
            parts.push(format!("in {}+ texts", self.min_documents));
        }
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
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
}
