//! Which templates there are: one for each function that is used again.
//!
//! A deployed function has one from its first container on, another from its second: most that
//! are run by hand never have a second. A template has a lease of its own as long as it lives, and
//! is the first that is given back when memory is short. Without one a container is started
//! plainly, and nothing waits for a template to be ready.

use std::collections::HashMap;
use std::time::Duration;

use corral_apps::{AppPhase, ResolvedFunction};
use corral_containers::{ContainerSpec, StopReason};
use corral_jobs::JobsError;
use corral_placement::{HolderId, Reclaimable, ReclaimableKind, TaskRequest};
use corral_types::{BlobHash, ContainerId, FunctionId, MIB, TaskId, Timestamp, WorkerId};
use corral_worker_api::TaskWork;

use super::{Hosted, container_of, task_of};

/// Templates at most; each is a process with what it imported.
const MAX_TEMPLATES: usize = 64;

/// A template that bore nothing for so long is not worth its memory.
const UNUSED_FOR: Duration = Duration::from_secs(30 * 60);

/// The lease that a template asks for; what it is measured to hold counts as soon as it is more.
const MEMORY_REQUEST_BYTES: u64 = 64 * MIB;

/// Keys of functions that were used once, remembered at most.
const MAX_REMEMBERED: usize = 4_096;

/// How far a template is.
#[derive(Debug)]
enum State {
    /// Used so often, without one.
    None {
        uses: u32,
    },
    Ordered(Template),
    Ready(Template),
    /// Its containers are started plainly.
    Unusable,
}

#[derive(Debug)]
struct Template {
    task: TaskId,
    function: FunctionId,
    worker: Option<WorkerId>,
    holder: HolderId,
    last_used: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Templates {
    states: HashMap<BlobHash, State>,
    keys: HashMap<TaskId, BlobHash>,
    holders: u64,
}

impl Templates {
    /// A container of this spec is started: orders a template where it is time for one.
    pub async fn used_by(
        &mut self,
        hosted: &Hosted,
        spec: &ContainerSpec,
        request: &TaskRequest,
        resolved: &ResolvedFunction,
    ) {
        let Some(wanted) = &spec.template else { return };
        let now = Timestamp::now();
        if self.states.len() >= MAX_REMEMBERED {
            self.states.retain(|_, state| matches!(state, State::Ordered(_) | State::Ready(_)));
        }
        match self.states.entry(wanted.key).or_insert(State::None { uses: 0 }) {
            State::Ordered(template) | State::Ready(template) => {
                template.last_used = now;
                return;
            }
            State::Unusable => return,
            State::None { uses } => {
                *uses += 1;
                if resolved.app.phase != AppPhase::Deployed && *uses < 2 {
                    return;
                }
            }
        }
        if self.keys.len() >= MAX_TEMPLATES {
            self.stop_longest_unused(hosted).await;
        }
        let container = ContainerId::generate();
        let task = task_of(container);
        let own = ContainerSpec { container, ..spec.clone() };
        let asks = TaskRequest {
            task,
            memory_request_bytes: MEMORY_REQUEST_BYTES,
            priority: -1,
            ..request.clone()
        };
        let work = TaskWork::Template { spec: Box::new(own) };
        match hosted.jobs.start_task(asks, work).await {
            Ok(()) => {
                self.holders += 1;
                let holder = HolderId(self.holders);
                let (function, worker) = (spec.function, None);
                let template = Template { task, function, worker, holder, last_used: now };
                self.keys.insert(task, wanted.key);
                self.states.insert(wanted.key, State::Ordered(template));
            }
            Err(JobsError::Stopping) => {}
            Err(error) => {
                tracing::info!(function = %spec.function, %error, "no template is made");
                self.states.insert(wanted.key, State::Unusable);
            }
        }
    }

    pub fn is_template(&self, task: TaskId) -> bool {
        self.keys.contains_key(&task)
    }

    /// A template has its lease.
    pub fn placed(&mut self, task: TaskId, worker: WorkerId) {
        if let Some(State::Ordered(template)) = self.state_of(task) {
            template.worker = Some(worker);
        }
    }

    /// A template can bear containers: from now on it can be given back.
    pub async fn ready(&mut self, hosted: &Hosted, task: TaskId, import_ms: u64, bytes: u64) {
        let Some(key) = self.keys.get(&task).copied() else { return };
        if let Some(State::Ordered(template)) = self.states.remove(&key) {
            if let Some(worker) = template.worker {
                let kind = ReclaimableKind::IdleTemplate;
                let held = Reclaimable { worker, task, kind, bytes, rebuild_ms: import_ms };
                hold(hosted, template.holder, Some(held)).await;
            }
            self.states.insert(key, State::Ready(template));
        }
    }

    /// A template ended by its own words: it will not be made again if there is a reason.
    pub async fn ended_because(&mut self, hosted: &Hosted, task: TaskId, reason: String) {
        let Some(key) = self.keys.get(&task).copied() else { return };
        self.ended(hosted, task).await;
        if !reason.is_empty() {
            tracing::info!(%task, reason, "containers of a function are started plainly");
            self.states.insert(key, State::Unusable);
        }
    }

    /// A template is gone; whether it was one.
    pub async fn ended(&mut self, hosted: &Hosted, task: TaskId) -> bool {
        let Some(key) = self.keys.remove(&task) else { return false };
        if let Some(State::Ordered(template) | State::Ready(template)) = self.states.remove(&key) {
            hold(hosted, template.holder, None).await;
        }
        true
    }

    /// Memory is short: gives this one back.
    pub async fn reclaim(&mut self, hosted: &Hosted, holder: HolderId) {
        let mut live = self.states.values().filter_map(live);
        let Some(task) = live.find(|template| template.holder == holder).map(|found| found.task)
        else {
            return;
        };
        stop(hosted, task, StopReason::MemoryPressure).await;
    }

    /// Ends the templates whose functions are gone, and those that nothing uses.
    pub async fn tidy(&mut self, hosted: &Hosted) {
        let now = Timestamp::now();
        for template in self.states.values().filter_map(live) {
            let is_unused = now.since(template.last_used) > UNUSED_FOR;
            if is_unused || hosted.functions.settings(template.function).await.is_none() {
                stop(hosted, template.task, StopReason::Idle).await;
            }
        }
    }

    async fn stop_longest_unused(&self, hosted: &Hosted) {
        let oldest = self.states.values().filter_map(live).min_by_key(|found| found.last_used);
        if let Some(template) = oldest {
            stop(hosted, template.task, StopReason::Idle).await;
        }
    }

    fn state_of(&mut self, task: TaskId) -> Option<&mut State> {
        self.states.get_mut(self.keys.get(&task)?)
    }
}

fn live(state: &State) -> Option<&Template> {
    match state {
        State::Ordered(template) | State::Ready(template) => Some(template),
        State::None { .. } | State::Unusable => None,
    }
}

async fn stop(hosted: &Hosted, task: TaskId, reason: StopReason) {
    super::container::stop(hosted, container_of(task), reason).await;
}

async fn hold(hosted: &Hosted, holder: HolderId, reclaimable: Option<Reclaimable>) {
    match hosted.jobs.hold_reclaimable(holder, reclaimable).await {
        Ok(()) | Err(JobsError::Stopping) => {}
        Err(error) => tracing::error!(%error, "placement does not know of a template"),
    }
}
