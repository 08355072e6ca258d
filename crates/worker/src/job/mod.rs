//! Jobs from the inside: what a handler is given, what it gives back, and the process in
//! which it runs.

mod context;
mod message;
mod probe;
mod process;

use std::path::PathBuf;

use corral_types::{Explain, Failure, source_chain};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use context::JobContext;
pub use message::MAX_JOB_MESSAGE_BYTES;
pub(crate) use message::{
    DESCRIPTION_FILE, DIRECTORY_VARIABLE, FromJob, JobDescription, ToJob, decode_frames,
    encode_frame,
};
pub use probe::{PROBE_KIND, ProbeRequest};
pub use process::job_process_main;

/// Runs jobs of one kind, each in a process of its own.
///
/// The handler is called on the main thread of the job process and may start threads, at
/// most [`JobContext::thread_count`] busy ones. It should ask [`JobContext::is_cancelled`]
/// several times a second, and must expect to be killed at any moment: what a later attempt
/// is to go on from, it hands to [`JobContext::checkpoint`].
pub trait JobHandler {
    /// # Errors
    /// What went wrong, in words for the person who started the job.
    fn run(&self, context: &JobContext) -> Result<JobOutput, JobFailure>;
}

/// What a job that succeeded hands back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobOutput {
    /// The answer; at most [`crate::MAX_JOB_MESSAGE_BYTES`] as JSON. What is larger is an output.
    pub result: Value,
    /// Files to keep, by name, below [`JobContext::work_dir`].
    pub outputs: Vec<(String, PathBuf)>,
}

impl JobOutput {
    /// An answer without files.
    pub fn of(result: Value) -> Self {
        Self { result, outputs: Vec::new() }
    }
}

/// Why a job failed, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    pub message: String,
    /// What was behind it, outermost first.
    pub causes: Vec<String>,
    pub hint: Option<String>,
    /// Whether another attempt may do better.
    pub retryable: bool,
}

impl JobFailure {
    /// A failure that another attempt would meet again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: None, retryable: false }
    }

    /// A failure after which another attempt may do better.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::permanent(message) }
    }

    /// A failure with the chain of sources of `error` as its causes, not retryable.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { causes: source_chain(error), ..Self::permanent(error.to_string()) }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure that an edge would report, as a job's.
    pub fn from_failure(failure: Failure) -> Self {
        Self {
            retryable: failure.kind.is_retryable(),
            message: failure.message,
            causes: failure.causes,
            hint: failure.hint,
        }
    }
}

impl<E: Explain> From<E> for JobFailure {
    fn from(error: E) -> Self {
        Self::from_failure(Failure::from(error))
    }
}
