//! How a step's process is run: the port that containers are behind.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use corral_containers::Network;

use crate::error::BuildError;
use crate::files::remove_tree;
use crate::log::BuildLog;

/// What a step may do with what is laid over its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// A path of this machine that a step sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// A directory or a file.
    pub source: PathBuf,
    /// Absolute in the container. It is there already, so that nothing of it stays in a layer.
    pub target: PathBuf,
    pub access: Access,
}

/// A process of a build, in a container of its own.
#[derive(Clone)]
pub struct StepProcess {
    /// Directories of the image so far, top first. Overlay's marks are in its `userxattr` form.
    pub lowers: Vec<PathBuf>,
    /// The directory `upper` in this one takes what the process writes; it is there, and the
    /// steps of one image go on in it. `work` beside it is overlay's; it is not there.
    pub writable: PathBuf,
    pub binds: Vec<Bind>,
    /// The whole environment. It may hold secrets.
    pub environment: BTreeMap<String, String>,
    /// Absolute; there already.
    pub working_directory: String,
    /// The program, absolute or along `PATH`, and its arguments.
    pub arguments: Vec<String>,
    pub network: Network,
}

/// Values of the environment may be secrets, so that only names are shown.
impl fmt::Debug for StepProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepProcess")
            .field("lowers", &self.lowers)
            .field("writable", &self.writable)
            .field("binds", &self.binds)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("working_directory", &self.working_directory)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// Makes the folder of a writable layer fit for one more mount: overlay takes a used `work`
/// directory again only if it was left cleanly.
pub(crate) fn clear_work(writable: &Path) -> Result<(), BuildError> {
    let work = writable.join("work");
    remove_tree(&work).map_err(BuildError::io("remove", &work))
}

/// How a step's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    Exited {
        code: i32,
    },
    Signalled {
        signal: i32,
    },
    /// The kernel killed in its container for want of memory.
    OverMemory {
        limit_bytes: u64,
    },
    /// It took longer than a step may.
    TimedOut {
        limit_ms: u64,
    },
}

impl StepEnd {
    pub const SUCCESS: Self = Self::Exited { code: 0 };
}

impl fmt::Display for StepEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "ended with exit code {code}"),
            Self::Signalled { signal } => write!(f, "was ended by signal {signal}"),
            Self::OverMemory { limit_bytes } => {
                let limit = corral_types::display_bytes(*limit_bytes);
                write!(f, "needed more memory than its limit of {limit}")
            }
            Self::TimedOut { limit_ms } => {
                write!(f, "took longer than the {} s that a step may take", limit_ms / 1000)
            }
        }
    }
}

/// Runs a build's processes in containers. Called from several threads at once.
pub trait StepRunner: Send + Sync {
    /// Runs the process to its end, and hands every line of its output to the log.
    ///
    /// # Errors
    /// When it could not be started; how it ended is no error here.
    fn run(&self, process: &StepProcess, log: &dyn BuildLog) -> io::Result<StepEnd>;
}
