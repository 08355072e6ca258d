//! What a container shall be.

use std::collections::BTreeMap;

use corral_types::{AppId, BlobHash, ContainerId, FunctionId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::{ImageKey, ImageRecipe, SecretValue};

/// A file by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Absolute in the container; relative to the context in a build.
    pub path: String,
    pub blob: BlobHash,
    /// Permission bits.
    pub mode: u32,
}

/// Files by content, laid over an image where the container can read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTree {
    pub files: Vec<TreeFile>,
}

impl FileTree {
    /// The hash of paths, contents and modes: the same tree is laid out once.
    pub fn key(&self) -> BlobHash {
        let mut hasher = blake3::Hasher::new_derive_key("corral 2026 key of a tree of files");
        for file in &self.files {
            hasher.update(&(file.path.len() as u64).to_le_bytes());
            hasher.update(file.path.as_bytes());
            hasher.update(file.blob.as_bytes());
            hasher.update(&file.mode.to_le_bytes());
        }
        hasher.finalize().into()
    }
}

/// How a container is given its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// It polls for inputs with the Modal client's container side, over the socket at
    /// `/__corral/api.sock`.
    Inputs,
    /// It listens on the unix socket at `/__corral/requests.sock` and is sent bytes.
    Requests,
    /// It runs commands over data parts that are mapped read-only.
    Batches,
}

/// What a container may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    None,
    /// The world outside, not this host nor its other containers.
    #[default]
    Outbound,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_request_bytes: u64,
    /// Passing this ends the container.
    pub memory_limit_bytes: u64,
    /// Thousandths of a core that it is weighed with.
    pub milli_cpu: u32,
    /// Thousandths of a core that it may not pass, where a limit was asked for.
    pub milli_cpu_limit: Option<u32>,
    pub processes: u32,
    /// What it may write to its own file system.
    pub disk_bytes: u64,
    pub gpus: u32,
}

/// A small file that is made for one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallFile {
    /// Absolute in the container.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// What containers of one template share: the interpreter, the client and the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSpec {
    /// Containers with the same key may be born of the same process.
    pub key: BlobHash,
    /// Python modules to import before the first fork, in this order.
    pub imports: Vec<String>,
    /// The container goes on from the client's checkpoint.
    pub snapshot: bool,
}

/// A container: what it runs, where, with what, within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub container: ContainerId,
    pub workspace: WorkspaceId,
    pub app: AppId,
    pub function: FunctionId,
    pub contract: Contract,
    pub image: ImageRecipe,
    /// The version of the Modal client whose container side runs, for [`Contract::Inputs`].
    pub client_version: String,
    /// The image builder's version of that client, such as `2025.06`.
    pub builder_version: String,
    /// Laid over the image, later ones over earlier ones.
    pub trees: Vec<FileTree>,
    pub files: Vec<SmallFile>,
    pub environment: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretValue>,
    pub working_directory: Option<String>,
    /// The program and its arguments; the image's own command if empty.
    pub command: Vec<String>,
    pub limits: Limits,
    pub network: Network,
    pub template: Option<TemplateSpec>,
    /// The image that is made of what it wrote once it has ended well.
    #[serde(default)]
    pub commit: Option<ImageKey>,
    /// How long it may take from its start to its first word.
    pub startup_timeout_ms: u64,
}

/// Why a container is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was idle for its window, or there are more than are wanted.
    Idle,
    /// Its app was stopped or replaced.
    AppStopped,
    /// A person stopped it.
    Requested,
    /// An input took longer than its timeout.
    InputTimeout,
    /// An input was cancelled together with its container.
    InputCancelled,
    /// Its first word took too long.
    StartupTimeout,
    /// The machine is short of memory and this one was chosen.
    MemoryPressure,
    /// It grew while idle.
    Retired,
    /// The worker ends.
    WorkerEnds,
}
