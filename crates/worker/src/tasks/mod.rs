//! Containers and builds of images on this worker.
//!
//! ```text
//! DIR/containers/TASK/    api.sock, what the container writes
//! DIR/images/             layers, bases, trees of files, the cache of packages
//! ```
//!
//! A task lives in this process's memory: when the worker ends, so do its containers, and the
//! server has their work done elsewhere. Only while the server is away does everything go on.

mod api_socket;
mod blob_port;
mod life;
mod outbox;
mod output;
mod prepare;
mod steps;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_containers::StopReason;
use corral_types::{BlobHash, TaskId, WorkspaceId};
use corral_worker_api::{Limits, PresentTask, TaskWork};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use outbox::{Outbox, deliver_tasks};
pub use prepare::BlobFiles;
pub use steps::StepContainers;

use crate::{Template, Worker};

/// The tasks that are here.
#[derive(Default)]
pub struct Tasks {
    running: Mutex<HashMap<TaskId, Running>>,
    templates: Mutex<HashMap<BlobHash, Arc<Template>>>,
    outbox: Arc<Outbox>,
}

/// A task as others in this process know it.
struct Running {
    workspace: WorkspaceId,
    limits: Limits,
    gpus: u32,
    memory_bytes: u64,
    /// At most a handful of stops come; nothing waits for long.
    stop: mpsc::UnboundedSender<StopReason>,
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn outbox(&self) -> Arc<Outbox> {
        self.outbox.clone()
    }

    /// What hello tells.
    pub fn present(&self) -> Vec<PresentTask> {
        let running = self.lock();
        let present = running.iter().map(|(&task, running)| PresentTask {
            task,
            workspace: running.workspace,
            limits: running.limits,
            gpus: running.gpus,
        });
        present.collect()
    }

    /// What each holds at the moment.
    pub fn usage(&self) -> Vec<(TaskId, u64)> {
        self.lock().iter().map(|(&task, running)| (task, running.memory_bytes)).collect()
    }

    /// Notes what a task holds.
    fn measured(&self, task: TaskId, memory_bytes: u64) {
        if let Some(running) = self.lock().get_mut(&task) {
            running.memory_bytes = memory_bytes;
        }
    }

    /// Asks a task to end. One that is not here is told as lost.
    pub fn stop(&self, task: TaskId, reason: StopReason) {
        let is_here =
            self.lock().get(&task).is_some_and(|running| running.stop.send(reason).is_ok());
        if !is_here {
            self.outbox.tell(task, life::lost());
        }
    }

    /// Asks all to end.
    pub fn stop_all(&self) {
        for running in self.lock().values() {
            // One that does not listen any more is at its end.
            let _ = running.stop.send(StopReason::WorkerEnds);
        }
    }

    fn templates(&self) -> MutexGuard<'_, HashMap<BlobHash, Arc<Template>>> {
        self.templates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A template that containers of this key can be born of.
    fn template(&self, key: BlobHash) -> Option<Arc<Template>> {
        self.templates().get(&key).cloned()
    }

    fn keep_template(&self, key: BlobHash, template: Arc<Template>) {
        self.templates().insert(key, template);
    }

    fn drop_template(&self, key: BlobHash) {
        self.templates().remove(&key);
    }

    fn ended(&self, task: TaskId) {
        self.lock().remove(&task);
    }
}

/// Begins a task; one that is here already goes on.
pub fn begin(
    worker: &Arc<Worker>,
    task: TaskId,
    work: TaskWork,
    limits: Limits,
    tasks: &mut JoinSet<()>,
) {
    let (stop, stops) = mpsc::unbounded_channel();
    let (workspace, gpus) = match &work {
        TaskWork::Container { spec } | TaskWork::Template { spec } => {
            (spec.workspace, spec.limits.gpus)
        }
        TaskWork::Build { spec } => (spec.workspace, 0),
    };
    {
        let mut running = worker.tasks.lock();
        if running.contains_key(&task) {
            return;
        }
        let memory_bytes = 0;
        running.insert(task, Running { workspace, limits, gpus, memory_bytes, stop });
    }
    let worker = worker.clone();
    tasks.spawn(async move {
        let last = match work {
            TaskWork::Container { spec } => {
                life::run_container(&worker, task, *spec, limits, stops).await
            }
            TaskWork::Build { spec } => life::run_build(&worker, task, *spec, stops).await,
            TaskWork::Template { spec } => {
                life::run_template(&worker, task, *spec, limits, stops).await
            }
        };
        // In this order: a task that is told as ended is not named by a later hello.
        worker.tasks.ended(task);
        worker.tasks.outbox.tell(task, last);
    });
}
