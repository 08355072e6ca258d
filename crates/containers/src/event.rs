//! What a worker tells of a container.

use corral_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StopReason;

/// How a container came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartKind {
    /// A fresh process.
    Cold,
    /// A fork of its template.
    Template,
    /// A process that was parked at its checkpoint.
    Snapshot,
}

/// A piece of what a container wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLine {
    pub at: Timestamp,
    /// 1 is standard output, 2 standard error, 3 what Corral says of the container.
    pub descriptor: u8,
    pub text: String,
}

/// What a container took, from its start on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub wall_ms: u64,
    pub cpu_ms: u64,
    /// Anonymous plus shared memory, now and at most.
    pub memory_bytes: u64,
    pub peak_memory_bytes: u64,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum ContainerEnd {
    /// By itself.
    Exited { exit_code: i32 },
    /// By a signal that nobody of ours sent.
    Killed { signal: i32 },
    /// On request.
    Stopped { reason: StopReason },
    /// It passed its memory limit.
    OverMemory { limit_bytes: u64, measured_bytes: u64 },
    /// It never ran.
    NotStarted { message: String, hint: Option<String> },
    /// The worker that had it is gone.
    Lost,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ContainerEvent {
    /// Its process runs.
    Started {
        kind: StartKind,
        /// From the command to the running process.
        took_ms: u64,
        /// Why it did not come from its template, if it should have.
        plain_reason: Option<String>,
    },
    Lines {
        lines: Vec<ContainerLine>,
    },
    Usage {
        usage: Usage,
    },
    Ended {
        end: ContainerEnd,
        usage: Usage,
    },
}
