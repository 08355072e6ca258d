//! Why rows could not be answered.

use std::io;
use std::path::PathBuf;

use corral_classifier::PredictError;
use corral_data::ReadError;
use corral_types::{ErrorKind, Explain};

use crate::options::{MAX_COLUMN_PREFIX_BYTES, MAX_TOP_K};

/// Why a batch of predictions cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error("`top_k` is {found}; a batch names 1 to {MAX_TOP_K} classes a row")]
    TopK { found: u32 },
    #[error("`{field}` is {found}; a probability is 0 to 1")]
    Probability { field: &'static str, found: f32 },
    #[error(
        "`column_prefix` has {bytes} bytes; a prefix of column names has at most \
         {MAX_COLUMN_PREFIX_BYTES}"
    )]
    ColumnPrefix { bytes: usize },
    #[error("the data set has a column `{column}` already, which the answers would stand in")]
    ColumnTaken { column: String },
    #[error("ask the model")]
    Predict { source: PredictError },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{action} the answers in {}", path.display())]
    Answers { action: &'static str, path: PathBuf, source: io::Error },
    #[error("start the threads that ask the model")]
    Threads { source: rayon::ThreadPoolBuildError },
    #[error("the work was asked to end")]
    Cancelled,
}

impl Explain for BatchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TopK { .. }
            | Self::Probability { .. }
            | Self::ColumnPrefix { .. }
            | Self::ColumnTaken { .. } => ErrorKind::Invalid,
            Self::Predict { source } => source.kind(),
            Self::Read(error) => error.kind(),
            Self::Answers { .. } | Self::Threads { .. } => ErrorKind::Internal,
            Self::Cancelled => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::ColumnTaken { .. } => Some(
                "name a prefix for the columns of the answers, such as `new_`, by \
                 `column_prefix` (--column-prefix)"
                    .to_owned(),
            ),
            Self::Predict { source } => source.hint(),
            Self::Read(error) => error.hint(),
            _ => None,
        }
    }
}
