//! How long a model will take for one text, estimated before there is one.
//!
//! By constants and not by a clock, so that what is chosen by it is the same on every machine
//! and in every run. The report tells the measured time beside it.

use corral_classifier::head::RowShape;

use crate::features::{BlocksNeeded, FeatureBlocks, FeaturizerSettings};
use crate::lexicons::LexiconSettings;

/// Nanoseconds on one core of a server of 2023: to find and weigh an n-gram, to embed a text
/// and each byte of it (a sentence of 60 bytes takes 0.9 ms), and what each answer takes beside.
const GRAM_NANOS: f64 = 35.0;
const EMBED_NANOS: f64 = 300_000.0;
const EMBED_BYTE_NANOS: f64 = 10_000.0;
const ANSWER_NANOS: f64 = 2_000.0;

/// The nanoseconds to embed a text of so many bytes.
pub fn embedding_nanos(text_bytes: f64) -> f64 {
    EMBED_NANOS + EMBED_BYTE_NANOS * text_bytes
}

/// The nanoseconds that a text of so many bytes takes before any head: each lexicon is read
/// once, whatever reads it, and the network goes over the text once for all views.
pub fn features_nanos(needed: &BlocksNeeded, text_bytes: f64) -> f64 {
    let grams = |lexicon: &LexiconSettings| lexicon.grams_a_byte() * text_bytes * GRAM_NANOS;
    let lexical: f64 = needed.lexicons.iter().map(grams).sum();
    let embedding = if needed.views.is_empty() { 0.0 } else { embedding_nanos(text_bytes) };
    ANSWER_NANOS + lexical + embedding
}

/// The microseconds that an ensemble takes for one text, given its members' featurizers and
/// the nanoseconds of their heads.
pub fn ensemble_micros(
    members: impl Iterator<Item = (FeaturizerSettings, f64)> + Clone,
    text_bytes: f64,
) -> f64 {
    let needed = BlocksNeeded::by(members.clone().map(|(featurizer, _)| featurizer));
    let heads: f64 = members.map(|(_, head_nanos)| head_nanos).sum();
    (features_nanos(&needed, text_bytes) + heads) / 1e3
}

/// What a usual row has of the features that a candidate reads.
pub fn row_shape(blocks: &FeatureBlocks, featurizer: &FeaturizerSettings) -> RowShape {
    let lexical = featurizer.lexicon.map(|settings| &blocks.lexical(&settings).rows);
    RowShape {
        lexical_entries: lexical.map_or(0, |rows| rows.entries() / rows.rows().max(1)),
        embedding_width: blocks.rows(featurizer).dense_columns(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_classifier::EmbeddingView;

    #[test]
    fn shared_features_are_counted_once() {
        let lexical = FeaturizerSettings::lexical(LexiconSettings::WORDS_AND_CHARACTERS);
        let words = FeaturizerSettings::lexical(LexiconSettings::WORDS);
        let pooled = FeaturizerSettings::embedding(EmbeddingView::Pooled);
        let micros = |members: &[FeaturizerSettings]| {
            ensemble_micros(members.iter().map(|&featurizer| (featurizer, 5000.0)), 60.0)
        };
        let one = micros(&[lexical]);
        assert!((5.0..40.0).contains(&one), "{one}");
        assert!((micros(&[lexical, lexical]) - one - 5.0).abs() < 1e-9);
        assert!(micros(&[lexical, words]) > one + 5.0);
        assert!(micros(&[pooled]) > 900.0);
        assert!(micros(&[pooled, pooled]) < 920.0);
    }
}
