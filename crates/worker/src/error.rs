//! Why a worker cannot start or go on.

use std::io;
use std::path::PathBuf;

use corral_blobs::BlobError;
use corral_images::BuildError;
use corral_types::{ErrorKind, Explain};
use corral_worker_api::Enforcement;

/// Why a worker cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("{action} {path}", path = .path.display())]
    Directory {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another worker uses the directory {path}", path = .path.display())]
    DirectoryInUse { path: PathBuf },
    #[error(
        "the worker's directory {path} has format {found}; this program knows up to {known}",
        path = .path.display()
    )]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("open the worker's cache of blobs")]
    Blobs(#[source] BlobError),
    #[error("open the worker's images")]
    Images(#[source] BuildError),
    #[error("start the launcher {executable}", executable = .executable.display())]
    Launcher {
        executable: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the launcher has died, and all job processes with it")]
    LauncherDied,
    #[error("start a thread of the worker")]
    Thread(#[source] io::Error),
    #[error("read the certificates to trust in {path}", path = .path.display())]
    CaCertificate {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("prepare the connection to the server")]
    Client(#[source] reqwest::Error),
    #[error("limits cannot be enforced with {wanted:?} on this machine: {reason}")]
    Enforcement { wanted: Enforcement, reason: String },
    #[error(
        "the reserve leaves no memory to offer: {memory_bytes} bytes, {reserve_bytes} kept back"
    )]
    NoMemory { memory_bytes: u64, reserve_bytes: u64 },
    #[error("the server refuses this worker ({status}): {message}")]
    Refused { status: u16, message: String },
}

impl WorkerError {
    pub(crate) fn directory(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Directory { action, path, source }
    }
}

impl Explain for WorkerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::DirectoryInUse { .. } => ErrorKind::Conflict,
            Self::NewerFormat { .. } | Self::Enforcement { .. } => ErrorKind::Unsupported,
            Self::Images(error) => error.kind(),
            Self::CaCertificate { .. } | Self::NoMemory { .. } => ErrorKind::Invalid,
            Self::Refused { status: 401, .. } => ErrorKind::Unauthenticated,
            Self::Refused { .. } => ErrorKind::Forbidden,
            Self::Blobs(error) => error.kind(),
            Self::Directory { .. }
            | Self::Launcher { .. }
            | Self::LauncherDied
            | Self::Thread(_)
            | Self::Client(_) => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::DirectoryInUse { .. } => {
                Some("give each worker a directory of its own with --data-dir".into())
            }
            Self::NewerFormat { .. } => Some("use the newer Corral that wrote it".into()),
            Self::Enforcement { .. } => Some("`corral doctor` says what would allow it".into()),
            Self::NoMemory { .. } => Some("lower the reserve or raise the memory to offer".into()),
            Self::Refused { status: 401 | 403, .. } => {
                Some("make a worker token on the server and pass it with --token".into())
            }
            Self::Blobs(error) => error.hint(),
            _ => None,
        }
    }
}
