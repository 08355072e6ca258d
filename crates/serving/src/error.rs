//! Why a prediction or a deployment fails.

use corral_blobs::BlobError;
use corral_catalog::CatalogError;
use corral_classifier::{ModelError, PredictError};
use corral_encoder::EncoderError;
use corral_types::{BlobHash, ErrorKind, Explain};

use crate::predict::{MAX_TEXT_BYTES, MAX_TEXTS, MAX_TOP_K};

#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("there is no endpoint `{name}`")]
    NoEndpoint { name: String, nearest: Vec<String> },
    #[error("a request has at most {MAX_TEXTS} texts, and this one has {found}")]
    TooManyTexts { found: usize },
    #[error("text {index} has {bytes} bytes; a text has at most {MAX_TEXT_BYTES}")]
    TextTooLong { index: usize, bytes: usize },
    #[error("`top_k` is {found}; it is from 1 to {MAX_TOP_K}")]
    TopK { found: u32 },
    #[error("`{field}` is {found}; it is a probability from 0 to 1")]
    Probability { field: &'static str, found: f32 },
    #[error("{waiting} requests are waiting for a free core already")]
    Busy { waiting: usize },
    #[error("the model reads the encoder {name} ({hash}), which is not installed")]
    EncoderMissing { name: String, hash: BlobHash },
    #[error("predict")]
    Predict(#[source] PredictError),
    #[error("open the model")]
    Model(#[source] ModelError),
    #[error("open the encoder")]
    Encoder(#[source] EncoderError),
    #[error("read a stored file")]
    Blob(#[source] BlobError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the prediction was cut off")]
    CutOff,
}

impl Explain for ServingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoEndpoint { .. } => ErrorKind::NotFound,
            Self::TooManyTexts { .. } | Self::TextTooLong { .. } => ErrorKind::TooLarge,
            Self::TopK { .. } | Self::Probability { .. } => ErrorKind::Invalid,
            Self::Busy { .. } => ErrorKind::Exhausted,
            Self::EncoderMissing { .. } => ErrorKind::Conflict,
            Self::Predict(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Encoder(error) => error.kind(),
            Self::Blob(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::CutOff => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoEndpoint { nearest, .. } => Some(match nearest.first() {
                Some(close) => format!("did you mean `{close}`?"),
                None => "`corral endpoint ls` lists the endpoints there are".to_owned(),
            }),
            Self::TooManyTexts { .. } => Some("send them in several requests".to_owned()),
            Self::TextTooLong { .. } => Some("cut it; classifiers read the beginning".to_owned()),
            Self::Busy { .. } => Some("try again shortly, or send less at once".to_owned()),
            Self::EncoderMissing { .. } => Some("run `corral encoder install`".to_owned()),
            Self::Predict(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Encoder(error) => error.hint(),
            Self::Blob(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::TopK { .. } | Self::Probability { .. } | Self::CutOff => None,
        }
    }
}
