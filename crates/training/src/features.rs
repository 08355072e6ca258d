//! Feature blocks: each computed once in a run and read by every trial.

use corral_classifier::{
    DenseRows, Encoder, Featurizer, LexicalConfig, Lexicon, LexiconUse, SparseRows,
};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::learner::{DenseView, FeatureRows, SparseView};
use crate::observer::Observer;

/// Which features a candidate reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FeaturizerSettings {
    /// TF-IDF of words and characters.
    Lexical,
    /// The encoder's embedding.
    Embedding,
    /// Both side by side, the embedding multiplied by a scale.
    Joined { embedding_scale: f32 },
}

/// Texts embedded between two reports of progress.
const TEXTS_PER_REPORT: usize = 512;
/// From this many texts on an n-gram must stand in two of them: those that stand in one are
/// most of a vocabulary, and few texts to come will have them.
const TEXTS_WITH_RARE_GRAMS: usize = 30_000;

impl FeaturizerSettings {
    pub const fn reads_lexicon(&self) -> bool {
        !matches!(self, Self::Embedding)
    }

    pub const fn reads_encoder(&self) -> bool {
        !matches!(self, Self::Lexical)
    }

    /// The word by which reports name the featurizer.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lexical => "lexical",
            Self::Embedding => "embedding",
            Self::Joined { .. } => "joined",
        }
    }

    /// The same, as a model file names it.
    pub fn in_model(&self) -> Featurizer {
        let lexicon = LexiconUse { lexicon: 0, scale: 1.0 };
        match *self {
            Self::Lexical => Featurizer { lexicon: Some(lexicon), embedding_scale: None },
            Self::Embedding => Featurizer { lexicon: None, embedding_scale: Some(1.0) },
            Self::Joined { embedding_scale } => {
                Featurizer { lexicon: Some(lexicon), embedding_scale: Some(embedding_scale) }
            }
        }
    }
}

/// The features of all rows.
///
/// The vocabulary and its document counts are taken over all of them, also over rows that a
/// fold will hold out: an n-gram that only held-out rows have never gets a weight, and labels
/// play no part.
pub struct FeatureBlocks {
    pub lexicon: Option<(Lexicon<'static>, SparseRows)>,
    pub embeddings: Option<DenseRows>,
}

impl FeatureBlocks {
    /// The rows as a featurizer has them.
    ///
    /// # Panics
    /// When a block it reads was not computed; candidates are planned by what there is.
    pub fn rows(&self, featurizer: &FeaturizerSettings) -> FeatureRows<'_> {
        let sparse = || {
            let (_, rows) =
                self.lexicon.as_ref().expect("a lexicon was computed for lexical candidates");
            SparseView {
                row_offsets: rows.starts(),
                columns: rows.indices(),
                values: rows.values(),
                column_count: rows.columns(),
            }
        };
        let dense = || {
            let rows = self
                .embeddings
                .as_ref()
                .expect("embeddings were computed for candidates that read them");
            DenseView { values: rows.values(), column_count: rows.width() }
        };
        match *featurizer {
            FeaturizerSettings::Lexical => FeatureRows::sparse(sparse()),
            FeaturizerSettings::Embedding => FeatureRows::dense(dense()),
            FeaturizerSettings::Joined { embedding_scale } => FeatureRows {
                sparse: Some(sparse()),
                sparse_scale: 1.0,
                dense: Some(dense()),
                dense_scale: embedding_scale,
            },
        }
    }
}

/// The vocabulary settings for so many texts.
pub fn lexical_config(texts: usize) -> LexicalConfig {
    let mut config = LexicalConfig::words_and_characters();
    if texts >= TEXTS_WITH_RARE_GRAMS {
        config.blocks.iter_mut().for_each(|block| block.min_documents = 2);
    }
    config
}

/// Learns the vocabulary of texts and turns them into rows.
pub fn lexical_block(
    texts: &[&str],
    config: &LexicalConfig,
) -> Result<(Lexicon<'static>, SparseRows), TrainError> {
    let lexicon = Lexicon::fit(texts, config).map_err(TrainError::Lexicon)?;
    let rows = lexicon.transform_all(texts);
    Ok((lexicon, rows))
}

/// Embeds texts, short ones first so that a batch holds texts of one length. `report` gets
/// the fraction done.
pub fn embed(
    encoder: &dyn Encoder,
    texts: &[&str],
    observer: &dyn Observer,
    report: &dyn Fn(f32),
) -> Result<DenseRows, TrainError> {
    let width = encoder.dimension();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&row| texts[row].len());
    let mut rows = DenseRows::zeros(texts.len(), width);
    let mut buffer = vec![0f32; TEXTS_PER_REPORT.min(texts.len()) * width];
    for (done, chunk) in order.chunks(TEXTS_PER_REPORT).enumerate() {
        if observer.is_cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch: Vec<&str> = chunk.iter().map(|&row| texts[row]).collect();
        let out = &mut buffer[..batch.len() * width];
        encoder.encode(&batch, out);
        for (&row, embedding) in chunk.iter().zip(out.chunks_exact(width)) {
            rows.row_mut(row).copy_from_slice(embedding);
        }
        report(((done + 1) * TEXTS_PER_REPORT).min(texts.len()) as f32 / texts.len() as f32);
    }
    Ok(rows)
}
