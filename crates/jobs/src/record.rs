//! What the journal keeps of jobs: every change of state, as it was decided.
//!
//! A record carries the decision, not what led to it: reading the same records gives the
//! same state whatever the policy says by then. Each is one byte of version and then JSON,
//! whose fields may be added to.

use corral_types::{AttemptId, JobId, Timestamp, WorkerId, WorkspaceId};
use corral_worker_api::{Accounting, Capacity, Event, Limits, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::{Ending, JobFailure, StopCause};
use crate::request::JobRequest;

/// The version of records that this program writes.
pub const RECORD_VERSION: u8 = 1;

/// A change of state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Submitted {
        job: JobId,
        workspace: WorkspaceId,
        at: Timestamp,
        request: Box<JobRequest>,
    },
    /// A worker shall run the attempt, for which the job waited so long.
    Assigned {
        job: JobId,
        attempt: AttemptId,
        worker: WorkerId,
        limits: Limits,
        at: Timestamp,
        waited_ms: u64,
    },
    /// What the attempt told, its end excepted; the last has this number.
    Told {
        job: JobId,
        attempt: AttemptId,
        up_to: u64,
        at: Timestamp,
        events: Vec<Told>,
    },
    /// The attempt is over; `number` is that of its last event, none if its worker was lost.
    AttemptEnded {
        job: JobId,
        attempt: AttemptId,
        number: Option<u64>,
        at: Timestamp,
        outcome: Outcome,
        accounting: Accounting,
        next: Next,
    },
    StopWanted {
        job: JobId,
        at: Timestamp,
        cause: StopCause,
    },
    FinishNowWanted {
        job: JobId,
        at: Timestamp,
    },
    /// The back-off is over.
    Requeued {
        job: JobId,
        at: Timestamp,
    },
    /// The job is over without a word of an attempt: it was cancelled while it waited, was
    /// refused, or its attempt did not stop in time.
    Ended {
        job: JobId,
        at: Timestamp,
        ending: Ending,
    },
    /// The outputs are registered; `result` is what the job's result is from now on.
    Completed {
        job: JobId,
        at: Timestamp,
        result: Value,
    },
    /// Registering the outputs was refused for good.
    CompletionRefused {
        job: JobId,
        at: Timestamp,
        failure: JobFailure,
    },
    /// Retention took the job away.
    Removed {
        job: JobId,
    },
    /// A worker is here for the first time or offers something else than before.
    WorkerSeen {
        worker: WorkerId,
        at: Timestamp,
        host_name: String,
        capacity: Capacity,
    },
    WorkerForgotten {
        worker: WorkerId,
    },
}

/// One event of an attempt, its number implied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub at: Timestamp,
    pub event: Event,
}

/// What follows the end of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    Retry {
        at: Timestamp,
    },
    /// The outcome was success: register the outputs.
    Complete,
    End(Ending),
}

/// Why bytes of the journal are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a record of jobs is empty")]
    Empty,
    #[error("a record of jobs has version {found}; this program reads up to {RECORD_VERSION}")]
    Version { found: u8 },
    #[error("a record of jobs cannot be read")]
    Body(#[source] serde_json::Error),
}

/// The bytes of anything that is kept: a byte of version, then JSON.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![RECORD_VERSION];
    serde_json::to_writer(&mut bytes, value).expect("records are made of plain values");
    bytes
}

pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes {
        [] => Err(RecordError::Empty),
        [RECORD_VERSION, body @ ..] => serde_json::from_slice(body).map_err(RecordError::Body),
        [found, ..] => Err(RecordError::Version { found: *found }),
    }
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// # Errors
    /// When the bytes were written by a newer program or are none of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode(bytes)
    }
}
