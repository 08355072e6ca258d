//! The port behind which sentence encoders stand.

use std::collections::BTreeMap;
use std::fmt;

use corral_types::BlobHash;
use serde::{Deserialize, Serialize};

use crate::rows::DenseRows;

/// Which numbers of a network stand for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingView {
    /// What the network was trained to give: the mean over the last layer's tokens, of norm 1.
    Pooled,
    /// What every layer knows of the text: for each layer, the word embeddings that the first
    /// one reads included, the mean over its tokens and its first token, each of norm 1; side
    /// by side, and so scaled that the whole has norm 1. Where rows are few and order matters,
    /// a linear head finds more in it than in the last layer's mean alone.
    Layers,
}

/// A view of the embedding as a head reads it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingUse {
    pub view: EmbeddingView,
    /// Multiplies the embedding.
    pub scale: f32,
}

impl EmbeddingView {
    pub const ALL: [Self; 2] = [Self::Pooled, Self::Layers];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::Layers => "layers",
        }
    }
}

impl fmt::Display for EmbeddingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A sentence-embedding network.
///
/// The same text gives the same vector whatever texts stand beside it in a batch, up to
/// the rounding of the arithmetic.
pub trait Encoder: Send + Sync {
    /// The hash of the file the encoder was opened from. A model file names its encoder by it.
    fn id(&self) -> BlobHash;

    /// A name for people, such as `all-MiniLM-L6-v2`.
    fn name(&self) -> &str;

    /// The length of an embedding; `None` for a view that the encoder does not have. Every
    /// encoder has the pooled view.
    fn dimension(&self, view: EmbeddingView) -> Option<usize>;

    /// Writes the embeddings of `texts` in each of the views asked for, each of norm 1, row
    /// after row, with one pass of the network. Texts beyond the network's length are cut.
    ///
    /// # Panics
    /// When the encoder lacks a view, a view stands twice, or a view's places are not as many
    /// as texts times its dimension.
    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]);

    /// The embeddings of texts in one view, written to `out` row after row.
    ///
    /// # Panics
    /// As [`Encoder::encode`].
    fn encode_view(&self, view: EmbeddingView, texts: &[&str], out: &mut [f32]) {
        self.encode(texts, &mut [ViewRows { view, values: out }]);
    }

    /// The embeddings of texts in some views, each named once.
    ///
    /// # Panics
    /// When the encoder lacks a view.
    fn embed(&self, texts: &[&str], views: &[EmbeddingView]) -> Embeddings {
        let mut rows: Vec<(EmbeddingView, DenseRows)> = views
            .iter()
            .map(|&view| {
                let width = self.dimension(view).expect("a view that the encoder has");
                (view, DenseRows::zeros(texts.len(), width))
            })
            .collect();
        let mut places: Vec<ViewRows<'_>> = rows
            .iter_mut()
            .map(|(view, rows)| ViewRows { view: *view, values: rows.values_mut() })
            .collect();
        self.encode(texts, &mut places);
        rows.into_iter().collect()
    }
}

/// Places for the embeddings of some texts in one view, row after row.
#[derive(Debug)]
pub struct ViewRows<'a> {
    pub view: EmbeddingView,
    pub values: &'a mut [f32],
}

/// Embeddings of some texts: a row for each, in each of some views.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    views: BTreeMap<EmbeddingView, DenseRows>,
}

impl Embeddings {
    /// The rows of a view, if it was computed.
    pub fn view(&self, view: EmbeddingView) -> Option<&DenseRows> {
        self.views.get(&view)
    }

    /// What there is of the text at `index`.
    ///
    /// # Panics
    /// When a view has no such row.
    pub fn text(&self, index: usize) -> TextEmbedding<'_> {
        let row = |view| self.view(view).map_or(&[][..], |rows| rows.row(index));
        TextEmbedding { pooled: row(EmbeddingView::Pooled), layers: row(EmbeddingView::Layers) }
    }
}

impl FromIterator<(EmbeddingView, DenseRows)> for Embeddings {
    fn from_iter<I: IntoIterator<Item = (EmbeddingView, DenseRows)>>(views: I) -> Self {
        Self { views: views.into_iter().collect() }
    }
}

/// The embedding of one text in the views that were computed; empty in the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextEmbedding<'a> {
    pub pooled: &'a [f32],
    pub layers: &'a [f32],
}

impl<'a> TextEmbedding<'a> {
    /// No view: what models without an encoder need.
    pub const NONE: Self = Self { pooled: &[], layers: &[] };

    /// The pooled view alone.
    pub const fn pooled(values: &'a [f32]) -> Self {
        Self { pooled: values, layers: &[] }
    }

    pub const fn view(&self, view: EmbeddingView) -> &'a [f32] {
        match view {
            EmbeddingView::Pooled => self.pooled,
            EmbeddingView::Layers => self.layers,
        }
    }
}
