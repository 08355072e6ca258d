//! The worker: the process that runs jobs on one machine and holds them to their memory.
//!
//! ```text
//! worker ──── socket pair ──── launcher ──── job process   (one for each attempt)
//!   │  tokio, the protocol,      one thread,    handler, a thread that listens
//!   │  spools, sampler           forks, reaps
//!   └── HTTP over a unix socket or TLS ──── server
//! ```
//!
//! - [`run`] is the worker itself. It talks to the server through the worker protocol only
//!   (`corral_worker_api`) and keeps everything in a directory of its own.
//! - [`launcher_main`] is the single-threaded process in which all others are born.
//! - [`job_process_main`] is one attempt: it calls the [`JobHandler`] of the job's kind.
//!
//! **What outlives what.** Without the server everything goes on: events and outputs are
//! kept on disk and delivered once when it is back. Job processes end with the launcher, the
//! launcher with the worker and the other way round; attempts that ran are then reported as
//! lost and tried again from their last checkpoint. No process stays behind: what a kill
//! left is found and ended by the next start.
//!
//! **Memory.** An attempt that passes its limit is stopped alone, with its numbers. A cgroup
//! holds the limit where the machine allows one; elsewhere a watchdog measures anonymous and
//! shared memory of the attempt's processes. File cache never counts.

mod attempt;
mod backoff;
mod cgroup;
mod connection;
mod containers;
mod delivery;
mod directory;
mod enforcement;
mod error;
mod inspect;
mod job;
mod launcher;
mod logs;
mod machine;
mod options;
mod outcome;
mod prepare;
mod process;
mod process_tree;
mod running;
mod sampler;
mod session;
mod spool;
mod system;
mod tasks;
mod worker;

pub use cgroup::Unavailable;
pub use containers::{
    ContainerControl, ContainerHandle, ContainerInspection, Containers, Template,
    inspect_containers,
};
pub use corral_images::{BaseChoice, Survey as ImageSurvey, survey as survey_images};
pub use corral_isolation::{IdMapping, Isolation, Unavailable as IsolationUnavailable};
pub use enforcement::{EnforcementFinding, Enforcer};
pub use error::WorkerError;
pub use inspect::{WorkerInspection, inspect};
pub use job::{
    JobContext, JobFailure, JobHandler, JobOutput, MAX_JOB_MESSAGE_BYTES, PROBE_KIND, ProbeRequest,
    job_process_main,
};
pub use launcher::{
    JOB_PROCESS_SUBCOMMAND, LAUNCHER_SUBCOMMAND, Launcher, LauncherEnd, LauncherProcess,
    launcher_main,
};
pub use machine::{CgroupMounts, MemoryBound, default_reserve_bytes};
pub use options::{ServerAddress, WorkerOptions};
pub use running::STOP_GRACE;
pub use worker::{DEFAULT_CACHE_BYTES, run, shutdown_signal};

use worker::Worker;
