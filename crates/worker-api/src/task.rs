//! Containers, their templates and builds of images: tasks that are not attempts of jobs.
//!
//! They end with their worker, and nothing of them needs to outlive it: what they were doing
//! is tried again elsewhere. So their events are kept in memory until they are taken.

use corral_containers::{ContainerEvent, ContainerLine, ContainerSpec, ImageRecipe};
use corral_types::{TaskId, WorkerId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::Limits;

/// The most events in one batch.
pub const MAX_TASK_EVENTS_PER_BATCH: usize = 256;

/// The memory that a build of an image is leased, and what a command of it may not pass.
pub const BUILD_MEMORY_REQUEST_BYTES: u64 = 512 << 20;
pub const BUILD_MEMORY_LIMIT_BYTES: u64 = 6 << 30;

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum TaskWork {
    Container {
        spec: Box<ContainerSpec>,
    },
    Build {
        spec: Box<BuildSpec>,
    },
    /// A process from which containers of the spec's template are born. The container that it
    /// lives in is made as the spec says, under the task's own id.
    Template {
        spec: Box<ContainerSpec>,
    },
}

/// An image to have ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    pub workspace: WorkspaceId,
    pub recipe: ImageRecipe,
    /// The client that asked for it, which says what its containers need.
    pub client_version: String,
    pub builder_version: String,
}

/// A task that runs on a worker which says hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentTask {
    pub task: TaskId,
    pub workspace: WorkspaceId,
    pub limits: Limits,
    pub gpus: u32,
}

/// What is known of an image that is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// As the interpreter tells it, such as `3.11.2`; none where there is no Python.
    pub python_version: Option<String>,
    /// Such as `glibc 2.36`.
    pub libc_version: String,
    pub working_directory: Option<String>,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum BuildEnd {
    Built { image: BuiltImage },
    Failed { message: String, hint: Option<String> },
}

/// What happened with a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum TaskEvent {
    Container {
        event: ContainerEvent,
    },
    BuildLines {
        lines: Vec<ContainerLine>,
    },
    BuildEnded {
        end: BuildEnd,
    },
    /// The template has imported what it should and can bear containers.
    TemplateReady {
        import_ms: u64,
        memory_bytes: u64,
    },
    /// It ended, or never can: its containers are started plainly. `reason` is empty for one that
    /// was stopped.
    TemplateEnded {
        reason: String,
    },
}

impl TaskEvent {
    /// Whether it is the task's last.
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            Self::BuildEnded { .. }
                | Self::TemplateEnded { .. }
                | Self::Container { event: ContainerEvent::Ended { .. } }
        )
    }
}

/// An event with its place among its task's, from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedTaskEvent {
    pub task: TaskId,
    pub number: u64,
    pub event: TaskEvent,
}

/// Events of one worker in order. An event that was taken before is not taken again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskEventBatch {
    pub worker: WorkerId,
    pub session: u64,
    pub events: Vec<NumberedTaskEvent>,
}
