//! What a job asks for, and what of that is refused before it is taken.

use corral_types::{BlobHash, ErrorKind, Explain, MIB, WorkerId, display_bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest handler kind, such as `train`; kinds are words in our own code.
pub const MAX_KIND_BYTES: usize = 64;
/// The longest name a person gives a job: a line in a table.
pub const MAX_JOB_NAME_BYTES: usize = 200;
/// The largest payload as JSON: payloads are kept in memory with their job, for as long as
/// the job is; what is larger goes into a blob and into `inputs`.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// The most inputs: the parts of a data set of a terabyte.
pub const MAX_INPUTS: usize = 8_192;
/// The most attempts a job may ask for: a history of so many still fits a screen's scroll.
pub const MAX_ATTEMPTS: u32 = 100;
/// The longest time limit, 90 days: past that it is a service, not a job.
pub const MAX_TIME_LIMIT_MS: u64 = 90 * 24 * 3_600_000;
/// The shortest time limit: below it the time to start a process decides.
pub const MIN_TIME_LIMIT_MS: u64 = 1_000;
/// Priorities reach so far to either side of 0.
pub const MAX_PRIORITY: i32 = 100;

/// What happens to a job that was stopped because it took too much memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverMemory {
    /// It fails with its numbers: the same again would take as much.
    #[default]
    Fail,
    /// It is tried again, for work that adapts to what it is left.
    Retry,
}

/// A request for background work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// Which handler of the binary runs it.
    pub kind: String,
    /// What a person calls it; need not be unique.
    pub name: String,
    /// The handler's own request.
    pub payload: Value,
    /// Blobs that must be on the worker before it starts.
    pub inputs: Vec<BlobHash>,
    pub memory_request_bytes: u64,
    /// None: the larger of 2 GiB and four times the request, at most the worker.
    pub memory_limit_bytes: Option<u64>,
    /// Thousandths of a core.
    pub milli_cpu: u32,
    /// How long it may take from its first start, over all attempts and restarts; time
    /// spent waiting for room before the first start does not count.
    pub time_limit_ms: Option<u64>,
    pub max_attempts: u32,
    /// Higher comes first; 0 is ordinary.
    pub priority: i32,
    pub over_memory: OverMemory,
    /// Where it would best run, such as where its inputs are.
    pub preferred_worker: Option<WorkerId>,
}

impl JobRequest {
    /// A request for one core and 512 MiB, three attempts and no time limit.
    pub fn new(kind: impl Into<String>, name: impl Into<String>, payload: Value) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
            payload,
            inputs: Vec::new(),
            memory_request_bytes: 512 * MIB,
            memory_limit_bytes: None,
            milli_cpu: 1_000,
            time_limit_ms: None,
            max_attempts: 3,
            priority: 0,
            over_memory: OverMemory::Fail,
            preferred_worker: None,
        }
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// The first limit that the request does not keep.
    pub fn validate(&self) -> Result<(), RequestError> {
        let payload_bytes = json_bytes(&self.payload);
        if self.kind.is_empty() || self.kind.len() > MAX_KIND_BYTES {
            Err(RequestError::Kind { bytes: self.kind.len() })
        } else if self.name.len() > MAX_JOB_NAME_BYTES {
            Err(RequestError::Name { bytes: self.name.len() })
        } else if payload_bytes > MAX_PAYLOAD_BYTES {
            Err(RequestError::Payload { bytes: payload_bytes })
        } else if self.inputs.len() > MAX_INPUTS {
            Err(RequestError::Inputs { count: self.inputs.len() })
        } else if self.max_attempts == 0 || self.max_attempts > MAX_ATTEMPTS {
            Err(RequestError::Attempts { count: self.max_attempts })
        } else if self.priority.abs() > MAX_PRIORITY {
            Err(RequestError::Priority { priority: self.priority })
        } else if let Some(limit_ms) = self.time_limit_ms
            && !(MIN_TIME_LIMIT_MS..=MAX_TIME_LIMIT_MS).contains(&limit_ms)
        {
            Err(RequestError::TimeLimit { limit_ms })
        } else {
            Ok(())
        }
    }
}

/// The length of a value written as JSON, without keeping the text.
pub(crate) fn json_bytes<T: Serialize>(value: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("plain values can be written as JSON");
    count.0
}

/// Which limit a request does not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the job's kind has {bytes} bytes; a kind has 1 to {MAX_KIND_BYTES}")]
    Kind { bytes: usize },
    #[error("the job's name has {bytes} bytes; a job's name has at most {MAX_JOB_NAME_BYTES}")]
    Name { bytes: usize },
    #[error(
        "the job's payload has {}; a payload has at most {}",
        display_bytes(*bytes as u64), display_bytes(MAX_PAYLOAD_BYTES as u64)
    )]
    Payload { bytes: usize },
    #[error("the job names {count} inputs; a job has at most {MAX_INPUTS}")]
    Inputs { count: usize },
    #[error("the job asks for {count} attempts; it may have 1 to {MAX_ATTEMPTS}")]
    Attempts { count: u32 },
    #[error("the job's priority is {priority}; priorities are -{MAX_PRIORITY} to {MAX_PRIORITY}")]
    Priority { priority: i32 },
    #[error("the job's time limit is {limit_ms} ms; it may have {MIN_TIME_LIMIT_MS} ms to 90 days")]
    TimeLimit { limit_ms: u64 },
}

impl Explain for RequestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Payload { .. } | Self::Inputs { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        matches!(self, Self::Payload { .. })
            .then(|| "put large values into a blob and name it among the inputs".to_owned())
    }
}
