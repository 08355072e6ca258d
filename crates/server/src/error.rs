//! Why a server cannot start, or had to end.

use std::io;
use std::path::PathBuf;

use corral_blobs::BlobError;
use corral_catalog::CatalogError;
use corral_jobs::JobsError;
use corral_types::{ErrorKind, Explain, Failure};

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("start the server's threads")]
    Runtime(#[source] io::Error),
    #[error("listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("the folder {path} is in use by another server")]
    InUse { path: PathBuf },
    #[error("use the folder {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("read the TLS file {path}: {reason}")]
    Tls { path: PathBuf, reason: String },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("open the blob store")]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
    #[error(transparent)]
    Apps(#[from] corral_apps::AppsError),
    #[error(transparent)]
    Functions(#[from] corral_functions::FunctionsError),
    #[error(transparent)]
    Serving(#[from] corral_serving::ServingError),
    #[error(transparent)]
    Telemetry(#[from] corral_telemetry::TelemetryError),
    #[error("go on with the apps that are deployed: {0}")]
    Resume(Failure),
    #[error("the disk failed under a journal; nothing more can be acknowledged")]
    JournalFailed(#[source] corral_journal::JournalError),
}

impl Explain for ServerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Runtime(_) | Self::Telemetry(_) | Self::JournalFailed(_) => ErrorKind::Internal,
            Self::Listen { .. } | Self::Folder { .. } => ErrorKind::Unavailable,
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::Tls { .. } => ErrorKind::Invalid,
            Self::Catalog(error) => error.kind(),
            Self::Blobs(error) => error.kind(),
            Self::Jobs(error) => error.kind(),
            Self::Resume(failure) => failure.kind,
            Self::Apps(error) => error.kind(),
            Self::Functions(error) => error.kind(),
            Self::Serving(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Tls { .. } => {
                Some("give PEM files: a certificate chain, and its unencrypted key".to_owned())
            }
            Self::Catalog(error) => error.hint(),
            Self::Blobs(error) => error.hint(),
            Self::Jobs(error) => error.hint(),
            Self::Resume(failure) => failure.hint.clone(),
            Self::Apps(error) => error.hint(),
            Self::Functions(error) => error.hint(),
            Self::Serving(error) => error.hint(),
            _ => None,
        }
    }
}
