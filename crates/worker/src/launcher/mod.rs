//! The launcher: the single-threaded process in which every job process is born.
//!
//! Forking from a threaded process is unsound, and the worker has threads. So before it
//! starts any, it starts this process and talks to it over a socket pair: it asks for
//! processes, hands over their descriptors, and hears how they ended. The launcher is the
//! parent and the reaper of everything below it. When the worker is gone, it kills all of
//! that and ends; when the launcher is gone, the kernel kills its children and the worker
//! ends.

mod message;
mod remote;
mod serve;

pub use message::StartProcess;
pub use remote::{
    Launcher, LauncherEnd, LauncherProcess, ProcessControl, ProcessEvent, ProcessHandle,
};
pub use serve::launcher_main;

/// The hidden subcommand of the binary that calls [`launcher_main`].
pub const LAUNCHER_SUBCOMMAND: &str = "launcher";

/// The hidden subcommand of the binary that calls [`crate::job_process_main`].
pub const JOB_PROCESS_SUBCOMMAND: &str = "job-process";
