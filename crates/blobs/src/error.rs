//! What can go wrong with blobs.

use std::io;
use std::path::{Path, PathBuf};

use corral_types::{BlobHash, ErrorKind, Explain, display_bytes};

/// Why a blob could not be stored, found or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("no blob {hash} is stored here")]
    NotFound { hash: BlobHash },
    #[error("the blob {path} is damaged: its bytes have the hash {found}", path = path.display())]
    Damaged { path: PathBuf, found: BlobHash },
    #[error("the bytes received have the hash {found}, not the announced {expected}")]
    Mismatch { expected: BlobHash, found: BlobHash },
    #[error("the blob is larger than the {} it may have", display_bytes(*.limit_bytes))]
    TooLarge { limit_bytes: u64 },
    #[error(
        "{} do not fit in {path}: {} are free, of which {} stay in reserve",
        display_bytes(*.needed_bytes),
        display_bytes(*.free_bytes),
        display_bytes(*.reserve_bytes),
        path = path.display()
    )]
    DiskFull { path: PathBuf, needed_bytes: u64, free_bytes: u64, reserve_bytes: u64 },
    #[error("read the bytes to store")]
    Source {
        #[source]
        source: io::Error,
    },
    #[error("the blob being written was given up after an earlier error")]
    GivenUp,
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was tried, as an imperative: `open`, `sync`.
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl BlobError {
    /// For `map_err`: the failure of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Explain for BlobError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Damaged { .. } => ErrorKind::DataLoss,
            Self::Mismatch { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::DiskFull { .. } => ErrorKind::Exhausted,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Source { .. } | Self::GivenUp | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } => {
                Some("restore it from a backup, or delete it and upload its content again".into())
            }
            Self::Mismatch { .. } => Some("the transfer was cut or altered; send it again".into()),
            Self::DiskFull { .. } => {
                Some("remove what is no longer needed and run `corral gc`, or add disk".into())
            }
            _ => None,
        }
    }
}

/// For code that writes through [`std::io::Write`]; `io::Error::downcast` gives the error back.
impl From<BlobError> for io::Error {
    fn from(error: BlobError) -> Self {
        let kind = match &error {
            BlobError::DiskFull { .. } => io::ErrorKind::StorageFull,
            BlobError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            BlobError::NotFound { .. } => io::ErrorKind::NotFound,
            BlobError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
