//! Featurizers, the model file, and the one way to predict.
//!
//! A text becomes numbers through a [`lexical::Lexicon`] and, where a model asks for it, an
//! [`Encoder`]; a [`Head`] turns the numbers into scores, a [`Calibration`] scores into
//! probabilities, and members join in an ensemble. Training scores its candidates with these
//! same functions, on memory instead of a file: [`Lexicon`] and [`Head`] own their
//! arrays there and borrow them here.
//!
//! [`ModelSpec`] writes a model file, [`Model`] opens one without parsing its entries and
//! predicts from the mapped bytes.

pub mod calibration;
pub mod classes;
pub mod encoder;
pub mod head;
mod kernels;
pub mod lexical;
pub mod model;
mod onnx;
pub mod refusal;
pub mod rows;

pub use calibration::{Calibration, Link, Tempering};
pub use classes::{ClassEntry, ClassRef, ClassSubset};
pub use encoder::{EmbeddingUse, EmbeddingView, Embeddings, Encoder, TextEmbedding, ViewRows};
pub use head::{
    Activation, FeatureRow, Head, HeadBuilder, HeadError, HeadScratch, KernelHead, LinearHead,
    LocalHead, NeighboursHead, NetworkHead, Precision, StoredRows,
};
pub use lexical::{
    Accents, BlockConfig, Case, Grams, LexicalConfig, LexicalError, Lexicon, Normalisation,
    ShortestToken, Vocabulary, Weighting,
};
pub use model::{
    Ancestors, EncoderNeed, Featurizer, LexiconUse, MemberInfo, MemberSpec, Model, ModelError,
    ModelInfo, ModelSpec, PredictError, PredictOptions, Prediction, Ranked, Refusals, Scratch,
    Thresholds,
};
pub use onnx::{OnnxError, OnnxInput, OnnxValues};
pub use refusal::{Detector, Refusal, RefusalScore, RefusalVerdict};
pub use rows::{DenseRows, SparseRow, SparseRows};
