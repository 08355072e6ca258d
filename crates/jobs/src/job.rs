//! A job: what is known about it at any moment.
//!
//! ```text
//! queued ──► starting ──► running ──► completing ──► succeeded
//!   ▲            │           │             │
//!   │            └─────┬─────┘             └───────► failed
//!   └── backing off ◄──┤
//!                      └──► failed, cancelled, timed out
//! ```

use corral_placement::StopNumbers;
use corral_types::{AttemptId, BlobHash, JobId, LeaseId, Timestamp, WorkerId, WorkspaceId};
use corral_worker_api::{Accounting, Limits, Output};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::JobRequest;

/// A job with its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub workspace: WorkspaceId,
    pub request: JobRequest,
    pub submitted_at: Timestamp,
    pub phase: Phase,
    /// The attempt that runs or is about to; none while waiting and after the end.
    pub attempt: Option<Attempt>,
    /// Attempts that are over, oldest first.
    pub past: Vec<PastAttempt>,
    /// When the first attempt started: the time limit counts from here.
    pub first_started_at: Option<Timestamp>,
    /// From where the next attempt goes on.
    pub checkpoint: Option<BlobHash>,
    pub progress: Option<Progress>,
    /// The end that was asked for, from the moment it was until the attempt is over.
    pub stop: Option<StopWanted>,
    /// A person asked it to end early and keep what it has.
    pub finish_now: bool,
    /// Sums over all attempts that are over; of memory the peak.
    pub accounting: Accounting,
    /// How many events and log lines it has had: their numbers go up to these.
    pub events: u64,
    pub log_lines: u64,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Waits for a lease.
    Queued {
        since: Timestamp,
    },
    /// A worker has been told to start the attempt.
    Starting,
    /// The attempt's process runs.
    Running,
    /// The last attempt failed in a way that another may not.
    BackingOff {
        until: Timestamp,
    },
    /// The work is done and its outputs are being registered.
    Completing {
        since: Timestamp,
        result: Value,
        outputs: Vec<Output>,
    },
    Ended {
        at: Timestamp,
        ending: Ending,
    },
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Ending {
    Succeeded { result: Value, outputs: Vec<Output> },
    Failed { failure: JobFailure },
    Cancelled,
    TimedOut { limit_ms: u64 },
}

/// Why a job failed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    pub reason: FailureReason,
    pub message: String,
    pub causes: Vec<String>,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// It can never be placed.
    Refused,
    /// Its handler said so.
    Handler,
    OverMemory,
    /// Its process died.
    Died,
    WorkerLost,
    /// Its outputs could not be registered.
    Completion,
}

/// The attempt that occupies a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub id: AttemptId,
    /// 1 for the first.
    pub ordinal: u32,
    pub worker: WorkerId,
    pub limits: Limits,
    pub assigned_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// The number of the last event that was taken.
    pub last_event: u64,
}

impl Attempt {
    pub fn lease(&self) -> LeaseId {
        self.limits.lease
    }
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastAttempt {
    pub id: AttemptId,
    pub ordinal: u32,
    pub worker: WorkerId,
    pub assigned_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Timestamp,
    /// In a sentence.
    pub outcome: String,
    pub accounting: Accounting,
    /// The number of its last event that was taken.
    pub last_event: u64,
}

/// What the handler last said about how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub at: Timestamp,
    /// Of 1.
    pub fraction: f32,
    pub message: String,
    pub detail: Value,
}

/// An end that the attempt shall come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopWanted {
    pub since: Timestamp,
    pub cause: StopCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum StopCause {
    Cancelled,
    TimeLimit,
    MemoryPressure { numbers: StopNumbers },
}

/// The states by which people know where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Starting,
    Running,
    BackingOff,
    Stopping,
    Completing,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
}

impl JobState {
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::BackingOff,
        Self::Stopping,
        Self::Completing,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Stopping => "stopping",
            Self::Completing => "completing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    /// The state a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut)
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Job {
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::Queued { .. } => JobState::Queued,
            Phase::Starting | Phase::Running if self.stop.is_some() => JobState::Stopping,
            Phase::Starting => JobState::Starting,
            Phase::Running => JobState::Running,
            Phase::BackingOff { .. } => JobState::BackingOff,
            Phase::Completing { .. } => JobState::Completing,
            Phase::Ended { ending, .. } => match ending {
                Ending::Succeeded { .. } => JobState::Succeeded,
                Ending::Failed { .. } => JobState::Failed,
                Ending::Cancelled => JobState::Cancelled,
                Ending::TimedOut { .. } => JobState::TimedOut,
            },
        }
    }

    pub fn ended_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Ended { at, .. } => Some(at),
            _ => None,
        }
    }

    /// How many attempts it has had, the present one included.
    pub fn attempts_made(&self) -> u32 {
        self.past.len() as u32 + u32::from(self.attempt.is_some())
    }

    /// When its time is over; none before its first start.
    pub fn deadline(&self) -> Option<Timestamp> {
        let limit_ms = self.request.time_limit_ms?;
        Some(self.first_started_at?.plus(std::time::Duration::from_millis(limit_ms)))
    }

    /// Every blob it refers to: inputs, checkpoint and outputs.
    pub fn blobs(&self) -> impl Iterator<Item = BlobHash> {
        let outputs: &[Output] = match &self.phase {
            Phase::Completing { outputs, .. }
            | Phase::Ended { ending: Ending::Succeeded { outputs, .. }, .. } => outputs,
            _ => &[],
        };
        let outputs = outputs.iter().map(|output| output.blob);
        self.request.inputs.iter().copied().chain(self.checkpoint).chain(outputs)
    }
}
