//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_types::{ErrorKind, Explain, display_bytes};

use crate::SequenceNumber;

/// Why a journal could not be opened, read or appended to. Clones tell every appender that
/// waited for the same sync.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {dir} is open in {owner}", dir = dir.display(),
        owner = pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Locked { dir: PathBuf, pid: Option<u32> },
    #[error("the journal file {file} is damaged at byte {offset}: {damage}", file = file.display())]
    Damaged { file: PathBuf, offset: u64, damage: Damage },
    #[error("the journal file {file} has format version {found}; this program reads up to {known}",
        file = file.display())]
    NewerFormat { file: PathBuf, found: u32, known: u32 },
    #[error("a record of {} is larger than the {} it may have",
        display_bytes(*.bytes as u64), display_bytes(*.limit_bytes as u64))]
    RecordTooLarge { bytes: usize, limit_bytes: usize },
    #[error("a batch of {} is larger than the {} it may have",
        display_bytes(*.bytes as u64), display_bytes(*.limit_bytes as u64))]
    BatchTooLarge { bytes: usize, limit_bytes: usize },
    #[error("the journal's queue is full: {} wait for the disk", display_bytes(*.limit_bytes as u64))]
    QueueFull { limit_bytes: usize },
    #[error(
        "the journal {dir} needs {} more: {} are free, of which {} stay in reserve",
        display_bytes(*.needed_bytes),
        display_bytes(*.free_bytes),
        display_bytes(*.reserve_bytes),
        dir = dir.display()
    )]
    DiskFull { dir: PathBuf, needed_bytes: u64, free_bytes: u64, reserve_bytes: u64 },
    #[error("the journal {dir} takes no more records, since writing to it failed", dir = dir.display())]
    Poisoned {
        dir: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the journal is closed")]
    Closed,
    #[error("a snapshot of record {covers} was asked for, but the last record is {last}")]
    SnapshotAhead { covers: SequenceNumber, last: SequenceNumber },
    #[error("a snapshot of record {covers} was asked for, but there is one of record {newest}")]
    SnapshotStale { covers: SequenceNumber, newest: SequenceNumber },
    #[error("another snapshot or export of the journal is in progress")]
    Busy,
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was tried, as an imperative: `open`, `sync`.
        action: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
}

/// What is wrong with a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("its header does not match its checksum or its name")]
    Header,
    #[error("it has {found} bytes and was made with {expected}")]
    Truncated { expected: u64, found: u64 },
    #[error("the frame there does not match its checksum, and was synced")]
    Frame,
    #[error("record {expected} should be here, and {found} is")]
    Gap { expected: SequenceNumber, found: SequenceNumber },
    #[error("the segment that begins with record {first} is missing")]
    MissingSegment { first: SequenceNumber },
    #[error("the log ends before record {covers}, which the snapshot covers")]
    BehindSnapshot { covers: SequenceNumber },
    #[error("the snapshot does not match its checksum")]
    Snapshot,
}

impl JournalError {
    /// For `map_err`: the failure of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn damaged(file: &Path, offset: u64, damage: Damage) -> Self {
        Self::Damaged { file: file.to_owned(), offset, damage }
    }
}

impl Explain for JournalError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. }
            | Self::SnapshotAhead { .. }
            | Self::SnapshotStale { .. }
            | Self::Busy => ErrorKind::Conflict,
            Self::Damaged { .. } => ErrorKind::DataLoss,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::RecordTooLarge { .. } | Self::BatchTooLarge { .. } => ErrorKind::TooLarge,
            Self::QueueFull { .. } | Self::DiskFull { .. } => ErrorKind::Exhausted,
            Self::Poisoned { .. } | Self::Closed => ErrorKind::Unavailable,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Io { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { .. } => Some("stop that process first, or use another directory".into()),
            Self::Damaged { .. } => {
                Some("restore the data directory from a backup; check the disk first".into())
            }
            Self::NewerFormat { .. } => {
                Some("use the version that wrote it, or a newer one".into())
            }
            Self::DiskFull { .. } => {
                Some("remove what is no longer needed and run `corral gc`, or add disk".into())
            }
            Self::Poisoned { .. } => Some(
                "restart the server once the disk is sound: acknowledged records are safe, and \
                 are read back at the start"
                    .into(),
            ),
            _ => None,
        }
    }
}
