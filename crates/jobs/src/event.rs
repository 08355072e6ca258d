//! What a job's story is made of: its events and its log lines, each numbered from 1.

use corral_types::{AttemptId, BlobHash, JobId, Timestamp, WorkerId};
use corral_worker_api::{Accounting, LogStream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::{JobFailure, JobState, StopCause};

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// Grows by one within the job, from 1; what `Last-Event-ID` names.
    pub id: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: JobEventKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEventKind {
    Submitted,
    Assigned {
        attempt: AttemptId,
        ordinal: u32,
        worker: WorkerId,
    },
    Started {
        attempt: AttemptId,
    },
    Progress {
        fraction: f32,
        message: String,
        detail: Value,
    },
    Checkpoint {
        blob: BlobHash,
    },
    StopWanted {
        cause: StopCause,
    },
    FinishNowWanted,
    AttemptEnded {
        attempt: AttemptId,
        outcome: String,
        accounting: Accounting,
        /// When it is tried again.
        retry_at: Option<Timestamp>,
    },
    Requeued,
    /// The work is done; its outputs are being registered.
    Completing,
    /// The last event of every job.
    Ended {
        state: JobState,
        failure: Option<JobFailure>,
    },
}

impl JobEventKind {
    /// The word by which a stream of events names the kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Assigned { .. } => "assigned",
            Self::Started { .. } => "started",
            Self::Progress { .. } => "progress",
            Self::Checkpoint { .. } => "checkpoint",
            Self::StopWanted { .. } => "stop_wanted",
            Self::FinishNowWanted => "finish_now_wanted",
            Self::AttemptEnded { .. } => "attempt_ended",
            Self::Requeued => "requeued",
            Self::Completing => "completing",
            Self::Ended { .. } => "ended",
        }
    }
}

/// A line that an attempt wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Grows by one within the job, from 1.
    pub id: u64,
    pub at: Timestamp,
    pub attempt: AttemptId,
    pub stream: LogStream,
    pub line: String,
}

/// One more entry of a job's story.
#[derive(Clone, Debug, PartialEq)]
pub struct StoryEntry {
    pub job: JobId,
    pub chapter: Chapter,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Chapter {
    Event(JobEvent),
    Log(LogLine),
    /// The job is gone and its story with it.
    Removed,
}
