//! The worker protocol: what the server and a worker say to each other.
//!
//! The worker opens every connection: over a unix socket on the server's own machine,
//! over HTTP(S) when it joined from elsewhere. Bodies are JSON, blobs are raw bytes.
//!
//! | call | meaning |
//! |---|---|
//! | `POST /worker/v1/hello` [`Hello`] → [`Welcome`] | the worker is here with this capacity and these attempts |
//! | `POST /worker/v1/poll` [`Poll`] → [`Commands`] | what to do next; waits up to [`POLL_WAIT_MS`] |
//! | `POST /worker/v1/events` [`EventBatch`] → [`Acknowledged`] | what happened; acknowledged once it is on disk |
//! | `POST /worker/v1/tasks` [`TaskEventBatch`] | what happened with containers and builds |
//! | `GET /worker/v1/blobs/{hash}` | the bytes of an input of an attempt that the worker has |
//! | `HEAD /worker/v1/blobs/{hash}` | whether an output need not be put |
//! | `PUT /worker/v1/blobs/{hash}` | the bytes of an output, checked against the hash |
//!
//! Every call may be repeated: a command carries a number that grows within a session and
//! is sent again until a poll acknowledges it; an event carries a number that grows within
//! its attempt and is taken once. The session changes when either side starts anew, and
//! then hello settles what runs.

mod task;

pub use task::{
    BUILD_MEMORY_LIMIT_BYTES, BUILD_MEMORY_REQUEST_BYTES, BuildEnd, BuildSpec, BuiltImage,
    MAX_TASK_EVENTS_PER_BATCH, NumberedTaskEvent, PresentTask, TaskEvent, TaskEventBatch, TaskWork,
};

use corral_containers::StopReason as ContainerStopReason;
use corral_types::{AttemptId, BlobHash, JobId, LeaseId, TaskId, Timestamp, WorkerId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// The version of these messages; hello refuses another one.
pub const PROTOCOL_VERSION: u32 = 2;

/// How long a poll waits for a command before it answers with none.
pub const POLL_WAIT_MS: u64 = 20_000;

/// A worker that has not called for this long is lost: its attempts are tried elsewhere.
/// Three polls, so that one lost packet or a server's restart does not count.
pub const WORKER_LOST_AFTER_MS: u64 = 60_000;

/// The most events in one batch, so that a batch stays within a request's size limit.
pub const MAX_EVENTS_PER_BATCH: usize = 512;

/// The longest log line that is kept; the rest of the line is cut and marked.
pub const MAX_LOG_LINE_BYTES: usize = 16 * 1024;

/// The header by which every call names its worker: what it may read depends on it.
pub const WORKER_HEADER: &str = "corral-worker";

/// The header by which a call names the container that made it. Set by the worker, and believed
/// from a worker alone.
pub const CONTAINER_HEADER: &str = "corral-container";

/// Where a container finds the port of its own loopback by which it puts and gets large payloads.
pub const CONTAINER_BLOB_PORT: u16 = 8421;

/// What the paths of such requests begin with, on that port and on the server.
pub const BLOB_PATH: &str = "/modal/blobs/";

/// The scheme of the token that a worker that joined over the network shows.
pub const WORKER_TOKEN_SCHEME: &str = "Bearer";

/// What a machine offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory that leases may take, the reserve already taken off.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub milli_cpu: u32,
    /// Free space in the worker's data directory.
    pub disk_bytes: u64,
}

/// How a worker holds tasks to their limits, as `corral doctor` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    CgroupV2,
    CgroupV1,
    /// `RLIMIT_DATA`, a watchdog on anonymous memory and `oom_score_adj`.
    Watchdog,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub protocol_version: u32,
    /// Kept in the worker's data directory, so that it stays the same over restarts.
    pub worker: WorkerId,
    pub host_name: String,
    pub capacity: Capacity,
    pub enforcement: Enforcement,
    /// Attempts that run here now, or ended here with events not yet acknowledged.
    pub attempts: Vec<AttemptId>,
    /// Containers and builds that run here now.
    #[serde(default)]
    pub tasks: Vec<PresentTask>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Sent with every later call; an unknown session is answered with 409 and the
    /// worker says hello again.
    pub session: u64,
    /// Attempts the worker named that nobody waits for any more: stop and forget them.
    pub forget: Vec<AttemptId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Poll {
    pub worker: WorkerId,
    pub session: u64,
    /// The number of the last command that was taken; 0 before the first.
    pub acknowledged: u64,
    pub usage: Usage,
}

/// What runs on a worker and what it takes, measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Memory that the machine (or the worker's cgroup) could still give.
    pub free_memory_bytes: u64,
    pub free_disk_bytes: u64,
    pub attempts: Vec<AttemptUsage>,
    /// Containers and builds: anonymous plus shared memory of each.
    #[serde(default)]
    pub tasks: Vec<(TaskId, u64)>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AttemptUsage {
    pub attempt: AttemptId,
    /// Anonymous plus shared memory; pages that are only file cache do not count.
    pub memory_bytes: u64,
    pub cpu_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commands {
    pub commands: Vec<Numbered>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbered {
    pub number: u64,
    pub command: Command,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    Start(Box<Start>),
    /// End the attempt; it answers with a [`Outcome`] as for any other end.
    Stop {
        attempt: AttemptId,
        reason: StopReason,
    },
    /// The attempt's lease grew or shrank.
    SetLimits {
        attempt: AttemptId,
        limits: Limits,
    },
    /// Every event up to its last is acknowledged: its files may go.
    Forget {
        attempt: AttemptId,
    },
    /// Begin a container or a build. One that is known already goes on.
    StartTask {
        task: TaskId,
        work: TaskWork,
        limits: Limits,
    },
    /// End it; its end is told as any other. One that is not known is told as lost.
    StopTask {
        task: TaskId,
        reason: ContainerStopReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A person cancelled the job.
    Cancelled,
    /// The job shall end early and keep what it has (`--finish-now`).
    FinishNow,
    /// The job's time limit passed.
    TimeLimit,
    /// The machine is short of memory and this task was chosen.
    MemoryPressure,
}

/// The right to memory and CPU under which an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub lease: LeaseId,
    pub memory_request_bytes: u64,
    /// Passing this stops the attempt.
    pub memory_limit_bytes: u64,
    pub milli_cpu: u32,
    /// Relative share of CPU under contention; 1,000 is a call's.
    pub cpu_weight: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub attempt: AttemptId,
    pub job: JobId,
    pub workspace: WorkspaceId,
    /// Which handler of the binary runs it, such as `train`.
    pub kind: String,
    /// The handler's own request.
    pub payload: serde_json::Value,
    /// Blobs that must be on the worker before the attempt starts.
    pub inputs: Vec<BlobHash>,
    /// The last checkpoint of an earlier attempt.
    pub checkpoint: Option<BlobHash>,
    pub limits: Limits,
    /// When the job's time is over; none for jobs without a time limit.
    pub deadline: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventBatch {
    pub worker: WorkerId,
    pub session: u64,
    pub events: Vec<AttemptEvent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptEvent {
    pub attempt: AttemptId,
    /// Grows by one within the attempt, from 1.
    pub number: u64,
    pub at: Timestamp,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Started {
        process_id: u32,
    },
    Log {
        stream: LogStream,
        line: String,
    },
    /// The handler's own progress: `fraction` done of 1 and whatever else it tells.
    Progress {
        fraction: f32,
        message: String,
        detail: serde_json::Value,
    },
    /// State from which a later attempt can go on; the blob has been put.
    Checkpoint {
        blob: BlobHash,
    },
    /// The last event of an attempt.
    Ended {
        outcome: Outcome,
        accounting: Accounting,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// Said by Corral about the attempt.
    System,
}

/// What an attempt took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    pub wall_ms: u64,
    pub cpu_ms: u64,
    pub peak_memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// `outputs` have been put as blobs.
    Succeeded { result: serde_json::Value, outputs: Vec<Output> },
    /// The handler refused or failed. `retryable` when another attempt may do better.
    Failed { message: String, causes: Vec<String>, hint: Option<String>, retryable: bool },
    /// Stopped because it passed its memory limit, or because it was chosen under pressure.
    OverMemory { requested_bytes: u64, limit_bytes: u64, measured_bytes: u64 },
    /// Ended on request.
    Stopped { reason: StopReason },
    /// The process died without a word: by a signal, or with an exit code of its own.
    Died { exit_code: Option<i32>, signal: Option<i32> },
    /// The worker does not know the attempt any more (it restarted).
    Lost,
}

/// A file that an attempt made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub name: String,
    pub blob: BlobHash,
    pub bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Acknowledged {
    /// For each attempt of the batch, the number up to which its events are on disk.
    pub up_to: Vec<(AttemptId, u64)>,
}
