//! What can go wrong with a call to the jobs service.

use corral_journal::JournalError;
use corral_placement::Refusal;
use corral_types::{ErrorKind, Explain, JobId, Scope};

use crate::core::StateError;
use crate::record::RecordError;
use crate::request::RequestError;
use crate::sessions::SessionError;
use crate::story::StoryError;

/// Why the jobs service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    #[error("the token may not {action} jobs; that needs the scope {scope}")]
    Forbidden { action: &'static str, scope: Scope },
    #[error("there is no job {job}")]
    NotFound { job: JobId },
    #[error(transparent)]
    Invalid(#[from] RequestError),
    #[error("the job can never run: {0}")]
    Refused(Refusal),
    #[error("the container can never run: {0}")]
    TaskRefused(Refusal),
    #[error("{limit} jobs are not finished, which is the most that may be")]
    TooManyUnfinished { limit: usize },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("{events} events came in one batch; a batch has at most {limit}")]
    BatchTooLarge { events: usize, limit: usize },
    #[error("keep the state of jobs")]
    Journal(#[from] JournalError),
    #[error("record {sequence} of the jobs' journal")]
    Record {
        sequence: u64,
        #[source]
        source: RecordError,
    },
    #[error("the snapshot of the jobs' journal")]
    Snapshot(#[source] SnapshotError),
    #[error("the story of a job")]
    Story(#[from] StoryError),
    #[error("the jobs service is shutting down")]
    Stopping,
}

/// Why a snapshot could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("read it")]
    Read(#[source] std::io::Error),
    #[error("write it")]
    Write(#[source] std::io::Error),
    #[error("a piece of it")]
    Piece(#[source] RecordError),
}

impl Explain for JobsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::NotFound { .. } | Self::State(StateError::Unknown { .. }) => ErrorKind::NotFound,
            Self::Invalid(error) => error.kind(),
            Self::Refused(refusal) | Self::TaskRefused(refusal) => refusal.kind(),
            Self::TooManyUnfinished { .. } => ErrorKind::Exhausted,
            Self::State(_) | Self::Session(SessionError::Unknown { .. }) => ErrorKind::Conflict,
            Self::Session(SessionError::Protocol { .. }) => ErrorKind::Unsupported,
            Self::BatchTooLarge { .. } => ErrorKind::TooLarge,
            Self::Journal(error) => error.kind(),
            Self::Record { .. } | Self::Snapshot(_) => ErrorKind::DataLoss,
            Self::Story(error) => error.kind(),
            Self::Stopping => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden { scope, .. } => Some(format!("use a token with the scope {scope}")),
            Self::NotFound { .. } | Self::State(StateError::Unknown { .. }) => {
                Some("list the jobs with `corral job ls`".to_owned())
            }
            Self::Invalid(error) => error.hint(),
            Self::Refused(refusal) | Self::TaskRefused(refusal) => refusal.hint(),
            Self::TooManyUnfinished { .. } => {
                Some("wait until some have run, or cancel some".to_owned())
            }
            Self::State(StateError::NotRunning { .. }) => {
                Some("cancel it instead, or ask again once it runs".to_owned())
            }
            Self::Session(SessionError::Protocol { .. }) => {
                Some("run the same version of corral on the worker and the server".to_owned())
            }
            Self::Session(SessionError::Unknown { .. }) => Some("say hello again".to_owned()),
            Self::Journal(error) => error.hint(),
            Self::Record { source: RecordError::Version { .. }, .. } => {
                Some("use the version that wrote it, or a newer one".to_owned())
            }
            Self::Record { .. } | Self::Snapshot(_) => {
                Some("restore the data directory from a backup".to_owned())
            }
            Self::Stopping => Some("try again in a moment".to_owned()),
            Self::State(_) | Self::BatchTooLarge { .. } | Self::Story(_) => None,
        }
    }
}
