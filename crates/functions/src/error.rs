//! What can go wrong with a call to the functions service.

use corral_journal::JournalError;
use corral_types::{CallId, ContainerId, ErrorKind, Explain, FunctionId, Scope};

use crate::settings::SettingsError;

/// Why the functions service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FunctionsError {
    #[error("the token may not {action} calls; that needs the scope {scope}")]
    Forbidden { action: &'static str, scope: Scope },
    #[error("there is no function {function}")]
    NoFunction { function: FunctionId },
    #[error("the function {function} is stopped and takes no more calls")]
    Retired { function: FunctionId },
    #[error("there is no call {call}, or its results were fetched or kept long enough")]
    NoCall { call: CallId },
    #[error("there is no container {container}")]
    NoContainer { container: ContainerId },
    #[error("the call {call} takes no more inputs: {reason}")]
    CallClosed { call: CallId, reason: &'static str },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{what} is {found}; it may be at most {most}")]
    TooLarge { what: &'static str, found: u64, most: u64 },
    #[error("{limit} inputs wait for their output, which is the most that may")]
    TooManyInputs { limit: usize },
    #[error("the call {call} has {limit_bytes} bytes of chunks that nobody read")]
    TooManyChunks { call: CallId, limit_bytes: usize },
    #[error("chunk {found} of the call {call} came; {expected} is the next")]
    ChunkGap { call: CallId, expected: u64, found: u64 },
    #[error("keep the state of calls")]
    Journal(#[from] JournalError),
    #[error("record {sequence} of the functions' journal")]
    Record {
        sequence: u64,
        #[source]
        source: CodecError,
    },
    #[error("the snapshot of the functions' journal")]
    Snapshot(#[source] SnapshotError),
    #[error("the functions service is shutting down")]
    Stopping,
}

/// Why bytes of the journal are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("it has version {found}; this program reads up to {known}")]
    Version { found: u8, known: u8 },
    #[error("it has the unknown kind {found}")]
    Kind { found: u8 },
    #[error("it ends early")]
    Short,
    #[error("{what} is not one of the known values")]
    Value { what: &'static str },
}

/// Why a snapshot could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("read it")]
    Read(#[source] std::io::Error),
    #[error("write it")]
    Write(#[source] std::io::Error),
    #[error("a piece of it")]
    Piece(#[source] CodecError),
}

impl Explain for FunctionsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::NoFunction { .. } | Self::NoCall { .. } | Self::NoContainer { .. } => {
                ErrorKind::NotFound
            }
            Self::Retired { .. } | Self::CallClosed { .. } | Self::ChunkGap { .. } => {
                ErrorKind::Conflict
            }
            Self::Settings(_) => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::TooManyInputs { .. } | Self::TooManyChunks { .. } => ErrorKind::Exhausted,
            Self::Journal(error) => error.kind(),
            Self::Record { .. } | Self::Snapshot(_) => ErrorKind::DataLoss,
            Self::Stopping => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Forbidden { scope, .. } => {
                return Some(format!("use a token with the scope {scope}"));
            }
            Self::Journal(error) => return error.hint(),
            Self::NoFunction { .. } => "list the functions with `corral function ls`",
            Self::Retired { .. } => "deploy or run its app again",
            Self::NoContainer { .. } => "list the containers with `corral container ls`",
            Self::TooLarge { .. } => "put larger payloads as blobs, and fewer at once",
            Self::TooManyInputs { .. } => "wait until some have run, or cancel some",
            Self::TooManyChunks { .. } => "read what is there",
            Self::Record { source: CodecError::Version { .. }, .. } => {
                "use the version that wrote it, or a newer one"
            }
            Self::Record { .. } | Self::Snapshot(_) => "restore the data directory from a backup",
            Self::Stopping => "try again in a moment",
            Self::NoCall { .. }
            | Self::CallClosed { .. }
            | Self::Settings(_)
            | Self::ChunkGap { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
