//! Tasks that are no attempts of jobs: containers and builds of images.
//!
//! They live under leases of the same placement and are told to workers in the same sessions,
//! but what they are for is known to their owner alone ([`TaskOwner`]), who keeps it on disk.
//! Nothing of them is in the journal of jobs: after a restart the workers say which of them
//! still run, and the owner says which of those it wants.

use std::collections::{BTreeMap, BTreeSet};

use corral_containers::{FileTree, ImageRecipe, StopReason};
use corral_placement::{
    Event as PlacementEvent, LeaseLimits, Refusal, StopNumbers, TaskRequest, WorkClass,
};
use corral_types::{BlobHash, LeaseId, TaskId, Timestamp, WorkerId};
use corral_worker_api::{Command, Hello, Limits, PresentTask, TaskEvent, TaskEventBatch, TaskWork};

use crate::engine::{Engine, Errand};
use crate::sessions::SessionError;
use crate::translate::limits_of;

/// What the owner of a task hears of it, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskNotice {
    /// It has its lease, and the worker is told to begin it.
    Placed { task: TaskId, worker: WorkerId, limits: Limits },
    /// It will never have one. It is forgotten.
    Refused { task: TaskId, refusal: Refusal },
    /// It was stopped before it had one. It is forgotten.
    Withdrawn { task: TaskId, reason: StopReason },
    /// Its worker told this; after a last event it is forgotten.
    Told { task: TaskId, event: TaskEvent },
    /// It was chosen to be stopped since memory is short.
    ChosenToStop { task: TaskId, numbers: StopNumbers },
    /// Its worker is gone or does not know it any more. It is forgotten.
    Lost { task: TaskId },
    /// Every worker that was known when this process began has said what it runs, or is lost:
    /// of the tasks of an earlier life of this process only these still are.
    Settled { present: BTreeSet<TaskId> },
}

/// Whoever starts containers and builds. The calls come from within calls to the jobs
/// service: they note and return, and never wait.
pub trait TaskOwner: Send + Sync + 'static {
    fn told(&self, notice: TaskNotice);

    /// Whether a task of an earlier life of this process shall go on.
    fn wants(&self, task: TaskId) -> bool;
}

/// A container or a build.
#[derive(Clone, Debug)]
struct Task {
    /// None for one of an earlier life of this process: it has begun long ago.
    work: Option<TaskWork>,
    placed: Option<Placed>,
    stop: Option<StopReason>,
    last_event: u64,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    worker: WorkerId,
    limits: Limits,
}

/// All tasks that are no attempts.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    requests: BTreeMap<TaskId, TaskRequest>,
    is_settled: bool,
}

impl Tasks {
    pub fn contains(&self, task: TaskId) -> bool {
        self.tasks.contains_key(&task)
    }

    fn remove(&mut self, task: TaskId) {
        self.tasks.remove(&task);
        self.requests.remove(&task);
    }

    fn on(&self, worker: WorkerId) -> Vec<TaskId> {
        let here = |task: &Task| task.placed.is_some_and(|placed| placed.worker == worker);
        self.tasks.iter().filter(|(_, task)| here(task)).map(|(&id, _)| id).collect()
    }

    /// Whether a worker needs a blob for a task of its own.
    pub fn may_read(&self, worker: WorkerId, blob: BlobHash) -> bool {
        self.on(worker).iter().any(|id| match &self.tasks[id].work {
            Some(TaskWork::Container { spec } | TaskWork::Template { spec }) => {
                spec.trees.iter().any(|tree| holds(tree, blob)) || needs(&spec.image, blob)
            }
            Some(TaskWork::Build { spec }) => needs(&spec.recipe, blob),
            None => false,
        })
    }

    /// The leases of these tasks that are known here, for a worker that joins.
    pub fn leases_on(&self, worker: WorkerId) -> Vec<(TaskRequest, LeaseId)> {
        let on_it = self.on(worker);
        let leases = on_it.into_iter().filter_map(|id| {
            let request = self.requests.get(&id)?.clone();
            Some((request, self.tasks.get(&id)?.placed?.limits.lease))
        });
        leases.collect()
    }
}

fn holds(tree: &FileTree, blob: BlobHash) -> bool {
    tree.files.iter().any(|file| file.blob == blob)
}

fn needs(image: &ImageRecipe, blob: BlobHash) -> bool {
    let mut steps = image.chain().into_iter();
    steps.any(|recipe| recipe.step.context.as_ref().is_some_and(|tree| holds(tree, blob)))
}

/// What a task of an earlier life asks for: what it has.
fn adopted(present: &PresentTask) -> TaskRequest {
    TaskRequest {
        task: present.task,
        workspace: present.workspace,
        class: WorkClass::Call,
        milli_cpu: present.limits.milli_cpu,
        memory_request_bytes: present.limits.memory_request_bytes,
        memory_limit_bytes: Some(present.limits.memory_limit_bytes),
        gpus: present.gpus,
        priority: 0,
        deadline: None,
        bring_back_ms: 0,
        preferred_worker: None,
    }
}

impl Engine {
    /// Asks for a lease for the task, and has it begun where it is granted. One that is known
    /// goes on as it is.
    pub fn start_task(&mut self, now: Timestamp, request: TaskRequest, work: TaskWork) {
        let id = request.task;
        if self.tasks.contains(id) {
            return;
        }
        let task = Task { work: Some(work), placed: None, stop: None, last_event: 0 };
        self.tasks.tasks.insert(id, task);
        self.tasks.requests.insert(id, request.clone());
        self.place(now, PlacementEvent::TaskSubmitted(request));
        self.settle(now);
    }

    /// Whether no worker could ever have the task.
    pub fn task_refusal(&self, request: &TaskRequest) -> Option<Refusal> {
        self.placement.refusal(request)
    }

    /// Ends the task wherever it is. The owner hears of its end, whatever that is.
    pub fn stop_task(&mut self, now: Timestamp, id: TaskId, reason: StopReason) {
        let Some(task) = self.tasks.tasks.get_mut(&id) else {
            self.errands.push(Errand::Task(TaskNotice::Lost { task: id }));
            return;
        };
        match task.placed {
            None => {
                self.tasks.remove(id);
                self.place(now, PlacementEvent::TaskWithdrawn { task: id });
                self.errands.push(Errand::Task(TaskNotice::Withdrawn { task: id, reason }));
                self.settle(now);
            }
            Some(placed) => {
                task.stop = Some(reason);
                let command = Command::StopTask { task: id, reason };
                self.sessions.say(placed.worker, |session| session.push(command));
            }
        }
    }

    pub(crate) fn task_granted(&mut self, id: TaskId, worker: WorkerId, limits: &LeaseLimits) {
        let Some(task) = self.tasks.tasks.get_mut(&id) else { return };
        let limits = limits_of(limits);
        task.placed = Some(Placed { worker, limits });
        if let Some(work) = task.work.clone() {
            let command = Command::StartTask { task: id, work, limits };
            self.sessions.say(worker, |session| session.push(command));
            self.errands.push(Errand::Task(TaskNotice::Placed { task: id, worker, limits }));
        }
    }

    pub(crate) fn task_refused(&mut self, id: TaskId, refusal: Refusal) {
        self.tasks.remove(id);
        self.errands.push(Errand::Task(TaskNotice::Refused { task: id, refusal }));
    }

    pub(crate) fn task_lost(&mut self, id: TaskId) {
        self.tasks.remove(id);
        self.errands.push(Errand::Task(TaskNotice::Lost { task: id }));
    }

    pub(crate) fn task_chosen_to_stop(&mut self, id: TaskId, numbers: StopNumbers) {
        let Some(task) = self.tasks.tasks.get_mut(&id) else { return };
        let Some(placed) = task.placed else { return };
        let reason = StopReason::MemoryPressure;
        task.stop = Some(reason);
        let command = Command::StopTask { task: id, reason };
        self.sessions.say(placed.worker, |session| session.push(command));
        self.errands.push(Errand::Task(TaskNotice::ChosenToStop { task: id, numbers }));
    }

    /// Settles the tasks of a worker that said hello, before it joins placement. Those of
    /// `wanted` that are new here are of an earlier life of this process and go on.
    pub(crate) fn adopt_tasks(&mut self, now: Timestamp, hello: &Hello, wanted: &BTreeSet<TaskId>) {
        let named: BTreeSet<TaskId> = hello.tasks.iter().map(|present| present.task).collect();
        for id in self.tasks.on(hello.worker) {
            // One that has told nothing may never have begun: the order is given again.
            let has_told = self.tasks.tasks.get(&id).is_some_and(|task| task.last_event > 0);
            let is_old = self.tasks.tasks.get(&id).is_some_and(|task| task.work.is_none());
            if !named.contains(&id) && (has_told || is_old) {
                self.place(now, PlacementEvent::TaskEnded { task: id });
                self.task_lost(id);
            }
        }
        for present in &hello.tasks {
            if !self.tasks.contains(present.task) && wanted.contains(&present.task) {
                let placed = Placed { worker: hello.worker, limits: present.limits };
                let task = Task { work: None, placed: Some(placed), stop: None, last_event: 0 };
                self.tasks.tasks.insert(present.task, task);
                self.tasks.requests.insert(present.task, adopted(present));
            }
        }
    }

    /// Says to a worker that has just joined what its tasks have not been told in its session.
    pub(crate) fn tell_tasks(&mut self, hello: &Hello) {
        let named: BTreeSet<TaskId> = hello.tasks.iter().map(|present| present.task).collect();
        let mut commands = Vec::new();
        for id in self.tasks.on(hello.worker) {
            let Some(task) = self.tasks.tasks.get(&id) else { continue };
            if let (false, Some(work), Some(placed)) =
                (named.contains(&id), &task.work, task.placed)
            {
                let (work, limits) = (work.clone(), placed.limits);
                commands.push(Command::StartTask { task: id, work, limits });
            }
            if let Some(reason) = task.stop {
                commands.push(Command::StopTask { task: id, reason });
            }
        }
        let unknown = named.into_iter().filter(|id| !self.tasks.contains(*id));
        commands
            .extend(unknown.map(|task| Command::StopTask { task, reason: StopReason::AppStopped }));
        self.sessions.say(hello.worker, |session| {
            let says = !commands.is_empty();
            commands.into_iter().for_each(|command| _ = session.push(command));
            says
        });
    }

    /// Takes in what a worker tells of its tasks.
    pub fn task_events(
        &mut self,
        now: Timestamp,
        batch: TaskEventBatch,
    ) -> Result<(), SessionError> {
        self.sessions.of_call(now, batch.worker, batch.session)?;
        for told in batch.events {
            let Some(task) = self.tasks.tasks.get_mut(&told.task) else { continue };
            let is_its_worker = task.placed.is_some_and(|placed| placed.worker == batch.worker);
            if !is_its_worker || told.number <= task.last_event {
                continue;
            }
            task.last_event = told.number;
            if told.event.is_last() {
                self.tasks.remove(told.task);
                self.place(now, PlacementEvent::TaskEnded { task: told.task });
            }
            let notice = TaskNotice::Told { task: told.task, event: told.event };
            self.errands.push(Errand::Task(notice));
        }
        self.settle(now);
        Ok(())
    }

    /// Tells once which tasks of an earlier life still are, as soon as that is known.
    pub(crate) fn settle_tasks(&mut self) {
        if !self.tasks.is_settled && !self.sessions.expects_any() {
            self.tasks.is_settled = true;
            let present = self.tasks.tasks.keys().copied().collect();
            self.errands.push(Errand::Task(TaskNotice::Settled { present }));
        }
    }
}
