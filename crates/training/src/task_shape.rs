//! How large a task is, by which its costs are estimated.

use corral_classifier::{EmbeddingView, Encoder};

use crate::candidate::Candidate;
use crate::features::FeaturizerSettings;
use crate::latency;
use crate::learner::{FitShape, blocks_for};
use crate::lexicons::LexiconSettings;
use crate::parents::Parents;
use crate::rows::LabelKind;

/// What is known of a task before its features are computed, or after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskShape {
    pub kind: LabelKind,
    /// Texts to learn from.
    pub texts: usize,
    pub classes: usize,
    /// Entries and columns of the lexical rows, of the largest lexicon.
    pub entries: usize,
    pub columns: usize,
    pub widths: EmbeddingWidths,
    /// Bytes of the texts.
    pub text_bytes: usize,
    /// The blocks of classes that local models compare a row with, where the taxonomy has
    /// a level for them.
    pub local_blocks: Option<f64>,
}

/// The lengths of an encoder's embeddings, by view; `None` where there is no such view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingWidths {
    pub pooled: Option<usize>,
    pub layers: Option<usize>,
}

impl EmbeddingWidths {
    /// Those of an encoder.
    pub fn of_encoder(encoder: &dyn Encoder) -> Self {
        Self {
            pooled: encoder.dimension(EmbeddingView::Pooled),
            layers: encoder.dimension(EmbeddingView::Layers),
        }
    }

    /// The length in a view.
    pub const fn of(&self, view: EmbeddingView) -> Option<usize> {
        match view {
            EmbeddingView::Pooled => self.pooled,
            EmbeddingView::Layers => self.layers,
        }
    }
}

/// Lexical entries for each byte of text in the lexicon that has most, and columns for texts of
/// `b` bytes as `factor · b^COLUMNS_EXPONENT` (Heaps' law), with all n-grams and with those of two
/// texts or more. The factors are of AG News, whose texts are richer than most: a lease is asked
/// for by them, and the estimate is made anew once the features are counted.
const ENTRIES_PER_BYTE: f64 = 2.7;
const ALL_COLUMNS_FACTOR: f64 = 30.0;
const REPEATED_COLUMNS_FACTOR: f64 = 12.0;
const COLUMNS_EXPONENT: f64 = 0.65;

impl TaskShape {
    /// The shape to expect of a task with texts of `text_bytes` in all.
    pub fn expected(
        kind: LabelKind,
        texts: usize,
        text_bytes: usize,
        classes: usize,
        widths: EmbeddingWidths,
    ) -> Self {
        let bytes = text_bytes as f64;
        let repeated = LexiconSettings::WORDS_AND_CHARACTERS.for_texts(texts).min_documents > 1;
        let factor = if repeated { REPEATED_COLUMNS_FACTOR } else { ALL_COLUMNS_FACTOR };
        Self {
            kind,
            texts,
            classes,
            entries: (ENTRIES_PER_BYTE * bytes) as usize,
            columns: (factor * bytes.powf(COLUMNS_EXPONENT)) as usize,
            widths,
            text_bytes,
            local_blocks: None,
        }
    }

    /// The same with classes that lie under such parents.
    pub fn under(self, parents: Option<&Parents>) -> Self {
        Self { local_blocks: parents.map(Parents::blocks_a_row), ..self }
    }

    /// The same without the encoder, where embedding a text alone takes longer than a model
    /// may take.
    pub fn within(self, max_latency_us: Option<u64>) -> Self {
        let micros = latency::embedding_nanos(self.mean_text_bytes()) / 1e3;
        if max_latency_us.is_none_or(|limit| micros <= limit as f64) {
            return self;
        }
        Self { widths: EmbeddingWidths::default(), ..self }
    }

    /// The bytes of a usual text.
    pub fn mean_text_bytes(&self) -> f64 {
        self.text_bytes as f64 / self.texts.max(1) as f64
    }

    /// The columns that a candidate's features have.
    pub fn columns_of(&self, featurizer: &FeaturizerSettings) -> usize {
        let lexical = if featurizer.reads_lexicon() { self.columns } else { 0 };
        lexical + self.width_of(featurizer)
    }

    fn width_of(&self, featurizer: &FeaturizerSettings) -> usize {
        featurizer.view().and_then(|view| self.widths.of(view)).unwrap_or(0)
    }

    /// The bytes of a candidate's features, of all rows.
    pub fn feature_bytes(&self, featurizer: &FeaturizerSettings) -> usize {
        let entries = if featurizer.reads_lexicon() { self.entries } else { 0 };
        entries * (size_of::<u32>() + size_of::<f32>())
            + self.texts * self.width_of(featurizer) * size_of::<f32>()
    }

    /// The seconds of CPU that one fit on a share of the rows takes, by estimate.
    pub fn fit_seconds(&self, candidate: &Candidate, share: f64) -> f64 {
        let sparse = if candidate.featurizer.reads_lexicon() { self.entries } else { 0 };
        // The norms that features are brought to: a lexicon's blocks have norm 1 each.
        let lexical = if candidate.featurizer.reads_lexicon() { 2.0 } else { 0.0 };
        let scale = candidate.featurizer.embedding.map_or(0.0, |used| f64::from(used.scale));
        candidate.learner.cpu_seconds(&FitShape {
            rows: share * self.texts as f64,
            sparse_entries: share * sparse as f64,
            dense_width: self.width_of(&candidate.featurizer) as f64,
            squared_norm: lexical + scale * scale,
            classes: self.classes,
            local_blocks: self.local_blocks.unwrap_or_else(|| blocks_for(self.classes) as f64),
        })
    }
}
