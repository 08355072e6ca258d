//! What a container is made of: a plain value that the worker fills in and the container's own
//! first process carries out.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use corral_containers::{Limits, Network};
use serde::{Deserialize, Serialize};

/// A container, ready to be carried out on this machine.
///
/// **Owners of files.** On disk a file has the ids that it has in the container: a layer that
/// root unpacked belongs to root, and so does a file that the container's root wrote. As real
/// root the ids are shifted by the mounts; as an ordinary user the container knows one id, root,
/// which is that user. Directories with layers must therefore be closed to others of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// What messages call it.
    pub name: String,
    /// Directories of the image, top first. Whiteouts and opaque directories are overlay's own, in
    /// its `userxattr` form: what a [`Writable::Directory`] holds afterwards can be a layer.
    pub lowers: Vec<PathBuf>,
    pub writable: Writable,
    /// Laid over the root in this order.
    pub binds: Vec<Bind>,
    pub files: Vec<PlannedFile>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// The program and its arguments; a program without a slash is looked for along the
    /// environment's `PATH`.
    pub arguments: Vec<String>,
    /// Made if it is missing.
    pub working_directory: PathBuf,
    pub hostname: String,
    pub limits: Limits,
    pub network: Network,
}

/// Where a container's own writes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "writable", rename_all = "snake_case")]
pub enum Writable {
    /// Memory, which counts as the container's own; it goes with the container. What passes
    /// `bytes` is refused with "no space left on device".
    Memory { bytes: u64 },
    /// The directory `upper` below this one, which stays; `work` beside it is overlay's. Both are
    /// made if they are missing. A single file may not pass the limit on disk; a container whose
    /// files do so together is ended soon after.
    Directory { path: PathBuf },
}

/// A path of this machine that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// A directory, a file or a unix socket.
    pub source: PathBuf,
    /// Absolute in the container; made if it is missing.
    pub target: PathBuf,
    pub access: Access,
}

/// What a container may do with what is bound into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read. A unix socket can be connected to.
    Read,
    Write,
}

/// A small file that is made in the container's writable layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Absolute in the container.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Travels beside the rest.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// The standard streams of a container's program.
#[derive(Debug)]
pub struct Stdio {
    pub input: OwnedFd,
    pub output: OwnedFd,
    pub error: OwnedFd,
}

/// How a container's program ended. When it is told, every process of the container is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// Of the program and what it waited for.
    pub cpu_ms: u64,
    /// The most that the container held, its file cache included; 0 where nothing counts it.
    pub peak_memory_bytes: u64,
    /// Set when the kernel killed in the container for want of memory.
    pub over_memory: Option<OverMemory>,
    /// Set when it was ended for what it had written.
    pub over_disk: Option<OverDisk>,
}

/// A container wrote more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverDisk {
    pub limit_bytes: u64,
    /// What was there at least when it was looked at.
    pub measured_bytes: u64,
}

/// A container met its memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverMemory {
    pub limit_bytes: u64,
    /// What it held at most.
    pub measured_bytes: u64,
}

/// What becomes of a container that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerProcessEvent {
    /// Its program runs; the number is this machine's for the container's first process.
    Started {
        process_id: u32,
    },
    NotStarted {
        error: String,
    },
    Exited(Exit),
}

/// What a template does before its containers are born of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TemplatePlan {
    /// The container that the template's own process lives in. Its containers have its layers,
    /// and its `lowers` must be equal to theirs. The program is the image's Python with whatever
    /// options it takes; what it runs is Corral's.
    pub container: ContainerPlan,
    /// Python modules to import before the first fork, in this order.
    pub imports: Vec<String>,
}

/// Whether a template can bear containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "template", rename_all = "snake_case")]
pub enum TemplateState {
    /// Everything is imported; this much memory is shared with every child.
    Ready { import_ms: u64, memory_bytes: u64 },
    /// Its containers must be started plainly, and this is why.
    Unusable { reason: String },
}

impl ContainerPlan {
    /// A plan of nothing but a file.
    pub(crate) fn of_file(file: PlannedFile) -> Self {
        Self { name: file.path.display().to_string(), files: vec![file], ..Self::of_nothing() }
    }

    /// An empty root with room for the places of mounts.
    pub(crate) fn of_nothing() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            name: "a trial".into(),
            lowers: Vec::new(),
            writable: Writable::Memory { bytes: MIB },
            binds: Vec::new(),
            files: Vec::new(),
            environment: Vec::new(),
            arguments: Vec::new(),
            working_directory: PathBuf::from("/"),
            hostname: "trial".into(),
            limits: Limits {
                memory_request_bytes: MIB,
                memory_limit_bytes: MIB,
                milli_cpu: 0,
                milli_cpu_limit: None,
                processes: 0,
                disk_bytes: 0,
                gpus: 0,
            },
            network: Network::None,
        }
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().rev().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}
