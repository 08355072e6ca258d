//! Feature blocks: each computed once in a run and read by every trial.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use corral_classifier::head::FeatureRow;
use corral_classifier::{
    DenseRows, EmbeddingUse, EmbeddingView, Embeddings, Encoder, Featurizer, Lexicon, LexiconUse,
    SparseRow, SparseRows,
};
use serde::{Deserialize, Serialize};

use crate::block_cache::{BlockCache, BlockKey};
use crate::error::TrainError;
use crate::learner::{DenseView, FeatureRows, SparseView};
use crate::lexicons::LexiconSettings;
use crate::observer::Observer;

/// Which features a candidate reads: the columns of a lexicon, then those of an embedding. At
/// least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturizerSettings {
    pub lexicon: Option<LexiconSettings>,
    pub embedding: Option<EmbeddingUse>,
}

/// Texts embedded between two reports of progress.
const TEXTS_PER_REPORT: usize = 512;

impl FeaturizerSettings {
    /// The rows of a lexicon alone.
    pub const fn lexical(lexicon: LexiconSettings) -> Self {
        Self { lexicon: Some(lexicon), embedding: None }
    }

    /// An embedding alone.
    pub const fn embedding(view: EmbeddingView) -> Self {
        Self { lexicon: None, embedding: Some(EmbeddingUse { view, scale: 1.0 }) }
    }

    /// Both side by side, the embedding multiplied by a scale.
    pub const fn joined(lexicon: LexiconSettings, view: EmbeddingView, scale: f32) -> Self {
        Self { lexicon: Some(lexicon), embedding: Some(EmbeddingUse { view, scale }) }
    }

    pub const fn reads_lexicon(&self) -> bool {
        self.lexicon.is_some()
    }

    pub const fn reads_encoder(&self) -> bool {
        self.embedding.is_some()
    }

    /// The view of the embedding that it reads.
    pub fn view(&self) -> Option<EmbeddingView> {
        self.embedding.map(|used| used.view)
    }

    /// The same, as a model file names it that holds these lexicons.
    ///
    /// # Panics
    /// When its lexicon is not among them.
    pub fn in_model(&self, lexicons: &[LexiconSettings]) -> Featurizer {
        let place = |settings| {
            let lexicon = lexicons.iter().position(|other| *other == settings);
            let lexicon = lexicon.expect("a model holds the lexicons that its members read");
            LexiconUse { lexicon, scale: 1.0 }
        };
        Featurizer { lexicon: self.lexicon.map(place), embedding: self.embedding }
    }
}

/// For people, such as `words 1-2 chars 3-5 & pooled×2`.
impl fmt::Display for FeaturizerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.lexicon, self.embedding) {
            (Some(lexicon), Some(EmbeddingUse { view, scale })) => {
                write!(f, "{lexicon} & {view}×{scale}")
            }
            (Some(lexicon), None) => lexicon.fmt(f),
            (None, Some(used)) => used.view.fmt(f),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// A lexicon and what it makes of all rows.
#[derive(Clone, Debug)]
pub struct LexicalBlock {
    pub lexicon: Lexicon<'static>,
    pub rows: SparseRows,
}

/// The features of all rows.
///
/// A vocabulary and its document counts are taken over all of them, also over rows that a
/// fold will hold out: an n-gram that only held-out rows have never gets a weight, and labels
/// play no part.
#[derive(Clone, Debug, Default)]
pub struct FeatureBlocks {
    pub lexicons: BTreeMap<LexiconSettings, LexicalBlock>,
    pub embeddings: Embeddings,
}

/// The blocks that some featurizers read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlocksNeeded {
    pub lexicons: BTreeSet<LexiconSettings>,
    pub views: BTreeSet<EmbeddingView>,
}

impl BlocksNeeded {
    /// What these read together.
    pub fn by(featurizers: impl IntoIterator<Item = FeaturizerSettings>) -> Self {
        let mut needed = Self::default();
        for featurizer in featurizers {
            needed.lexicons.extend(featurizer.lexicon);
            needed.views.extend(featurizer.view());
        }
        needed
    }
}

impl FeatureBlocks {
    /// The rows as a featurizer has them.
    ///
    /// # Panics
    /// When a block it reads was not computed; candidates are planned by what there is.
    pub fn rows(&self, featurizer: &FeaturizerSettings) -> FeatureRows<'_> {
        let sparse = featurizer.lexicon.map(|settings| {
            let rows = &self.lexical(&settings).rows;
            SparseView {
                row_offsets: rows.starts(),
                columns: rows.indices(),
                values: rows.values(),
                column_count: rows.columns(),
            }
        });
        let dense = featurizer.embedding.map(|used| {
            let rows = self.embedded(used.view);
            DenseView { values: rows.values(), column_count: rows.width() }
        });
        FeatureRows {
            sparse,
            sparse_scale: 1.0,
            dense,
            dense_scale: featurizer.embedding.map_or(1.0, |used| used.scale),
        }
    }

    /// Single rows as a featurizer has them, for heads to score.
    ///
    /// # Panics
    /// As [`Self::rows`].
    pub fn feature_rows<'b>(
        &'b self,
        featurizer: &FeaturizerSettings,
    ) -> impl Fn(usize) -> FeatureRow<'b> + Sync + use<'b> {
        let lexical = featurizer.lexicon.map(|settings| &self.lexical(&settings).rows);
        let embeddings = featurizer.view().map(|view| self.embedded(view));
        let embedding_scale = featurizer.embedding.map_or(1.0, |used| used.scale);
        move |row| FeatureRow {
            lexical: lexical.map_or(SparseRow::EMPTY, |rows| rows.row(row)),
            lexical_scale: 1.0,
            embedding: embeddings.map_or(&[], |rows| rows.row(row)),
            embedding_scale,
        }
    }

    /// The block of a lexicon.
    ///
    /// # Panics
    /// When it was not computed.
    pub fn lexical(&self, settings: &LexiconSettings) -> &LexicalBlock {
        self.lexicons.get(settings).expect("the lexicons that candidates read were computed")
    }

    fn embedded(&self, view: EmbeddingView) -> &DenseRows {
        self.embeddings.view(view).expect("the views that candidates read were computed")
    }
}

/// Learns the vocabulary of texts and turns them into rows.
pub fn lexical_block(
    texts: &[&str],
    settings: &LexiconSettings,
) -> Result<LexicalBlock, TrainError> {
    let lexicon = Lexicon::fit(texts, &settings.config()).map_err(TrainError::Lexicon)?;
    let rows = lexicon.transform_all(texts);
    Ok(LexicalBlock { lexicon, rows })
}

/// The embeddings of texts in some views: those that the cache has from there, the others
/// computed and then kept there. `report` gets the fraction done.
///
/// # Panics
/// When the encoder lacks a view; candidates are planned by the views that it has.
pub fn embed(
    encoder: &dyn Encoder,
    texts: &[&str],
    views: &BTreeSet<EmbeddingView>,
    cache: Option<&BlockCache>,
    observer: &dyn Observer,
    report: &dyn Fn(f32),
) -> Result<Embeddings, TrainError> {
    let mut blocks = Vec::new();
    let mut missing = Vec::new();
    for &view in views {
        let width = encoder.dimension(view).expect("a view that the encoder has");
        let kept = cache.and_then(|cache| {
            cache.load(BlockKey::new(encoder.id(), view, texts), texts.len(), width)
        });
        match kept {
            Some(rows) => blocks.push((view, rows)),
            None => missing.push((view, DenseRows::zeros(texts.len(), width))),
        }
    }
    if missing.is_empty() {
        report(1.0);
        return Ok(blocks.into_iter().collect());
    }
    compute(encoder, texts, &mut missing, observer, report)?;
    if let Some(cache) = cache {
        for (view, rows) in &missing {
            // Without it a later run embeds again, and that is all.
            if let Err(error) = cache.keep(BlockKey::new(encoder.id(), *view, texts), rows) {
                observer.log(&format!("the {view} embeddings were not kept: {error}"));
            }
        }
    }
    Ok(blocks.into_iter().chain(missing).collect())
}

/// Embeds texts with one pass of the network for all views, short texts first so that a batch
/// holds texts of one length.
fn compute(
    encoder: &dyn Encoder,
    texts: &[&str],
    blocks: &mut [(EmbeddingView, DenseRows)],
    observer: &dyn Observer,
    report: &dyn Fn(f32),
) -> Result<(), TrainError> {
    let views: Vec<EmbeddingView> = blocks.iter().map(|(view, _)| *view).collect();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&row| texts[row].len());
    for (done, chunk) in order.chunks(TEXTS_PER_REPORT).enumerate() {
        if observer.is_cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch: Vec<&str> = chunk.iter().map(|&row| texts[row]).collect();
        let embeddings = encoder.embed(&batch, &views);
        for (view, block) in blocks.iter_mut() {
            let rows = embeddings.view(*view).expect("every view that was asked for");
            for (&row, embedding) in chunk.iter().zip(rows.iter()) {
                block.row_mut(row).copy_from_slice(embedding);
            }
        }
        report(((done + 1) * TEXTS_PER_REPORT).min(texts.len()) as f32 / texts.len() as f32);
    }
    Ok(())
}
