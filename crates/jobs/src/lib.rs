//! Durable background work: jobs with progress, logs, checkpoints, retries and cancel.
//!
//! Three layers, each tested by itself:
//!
//! - [`JobsCore`] is what jobs are: a fold over [`Record`]s. No I/O, no clock.
//! - [`Engine`] joins it with placement and the workers' sessions, still without I/O: the
//!   simulation runs thousands of seeded worlds of lost messages and crashes through it.
//! - [`JobsService`] gives it a journal, stories on disk and async calls: what edges call
//!   for people ([`JobsService::submit`], …) and for workers ([`JobsService::hello`], …).
//!
//! What holds, whatever crashes when: a job that was acknowledged ends exactly once; of its
//! attempts at most one has its outputs registered; there are never more attempts than it
//! asked for; a cancel that was acknowledged wins over every later word of an attempt.

mod apply;
mod background;
mod completion;
mod core;
mod engine;
mod error;
mod event;
mod follow;
mod job;
mod metric;
mod outcome;
mod pipeline;
mod record;
mod recovery;
mod request;
mod service;
mod sessions;
mod story;
mod tasks;
mod translate;
mod worker_calls;
mod workers;

pub use apply::{CoreState, StatePiece};
pub use completion::{Completing, CompletionError, FinishedWork, JobCompletion, ResidentMemory};
pub use core::{JobsCore, JobsPolicy, KnownWorker, StateError};
pub use engine::{Engine, Errand};
pub use error::{JobsError, SnapshotError};
pub use event::{Chapter, JobEvent, JobEventKind, LogLine, StoryEntry};
pub use follow::{Following, MAX_ENTRIES_PER_PAGE};
pub use job::{
    Attempt, Ending, FailureReason, Job, JobFailure, JobState, PastAttempt, Phase, Progress,
    StopCause, StopWanted,
};
pub use metric::METRICS;
pub use outcome::{
    MAX_OUTPUT_NAME_BYTES, MAX_OUTPUTS, MAX_PROGRESS_DETAIL_BYTES, MAX_RESULT_BYTES,
};
pub use record::{Next, RECORD_VERSION, Record, RecordError, Told};
pub use request::{
    JobRequest, MAX_ATTEMPTS, MAX_INPUTS, MAX_JOB_NAME_BYTES, MAX_KIND_BYTES, MAX_PAYLOAD_BYTES,
    MAX_PRIORITY, MAX_TIME_LIMIT_MS, MIN_TIME_LIMIT_MS, OverMemory, RequestError,
};
pub use service::{
    JobFilter, JobView, JobsOptions, JobsPage, JobsPorts, JobsService, MAX_JOBS_PER_PAGE,
};
pub use sessions::SessionError;
pub use story::{
    MAX_EVENT_BYTES_PER_JOB, MAX_LOG_BYTES_PER_JOB, Page, StoryError, StoryLimits, StoryReader,
    StoryWriter,
};
pub use tasks::{TaskNotice, TaskOwner};
pub use translate::pressure_reserve_bytes;
pub use worker_calls::TakenEvents;
pub use workers::WorkerStatus;
