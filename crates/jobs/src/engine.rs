//! Jobs, placement and the workers' sessions as one state machine without I/O.
//!
//! Whoever drives an [`Engine`] hands it requests, the workers' calls and the time; then
//! writes what [`Engine::take_records`] gives to the journal, in that order, and answers
//! once it is on disk. Everything that is to happen follows from the jobs' states: the
//! same reconciliation runs after every change and after a restart.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corral_placement::{
    Decision, Event as PlacementEvent, HolderId, LeaseLimits, Placement, Policy, Reclaimable,
    Refusal, ResidentClaim, WaitReason,
};
use corral_types::{AttemptId, JobId, TaskId, Timestamp, WorkerId, WorkspaceId};
use corral_worker_api::{Command, StopReason};
use serde_json::Value;

use crate::core::{JobsCore, StateError};
use crate::event::StoryEntry;
use crate::job::{Job, JobFailure, Phase, StopCause};
use crate::record::Record;
use crate::request::JobRequest;
use crate::sessions::Sessions;
use crate::tasks::{TaskNotice, Tasks};
use crate::translate::{
    attempt_of, job_of, limits_of, next_attempt_id, offer, over, refused, start, task_of,
    task_request,
};
use crate::workers::WorkerStatus;

/// What the driver is to do beside writing records.
#[derive(Clone, Debug, PartialEq)]
pub enum Errand {
    /// Register the outputs of a job whose work is done.
    Complete { job: JobId },
    /// Ask a holder in this process to give memory back.
    Reclaim { worker: WorkerId, holder: HolderId, bytes: u64 },
    /// The server's own lease is of this size from now on; `None` if growth was refused.
    ResidentLease { task: TaskId, limits: Option<LeaseLimits> },
    /// Tell the owner of a container or build.
    Task(TaskNotice),
}

#[derive(Debug)]
pub struct Engine {
    pub(crate) core: JobsCore,
    pub(crate) placement: Placement,
    pub(crate) sessions: Sessions,
    /// For each job that waits for a lease, the attempt that would get it.
    waiting: BTreeMap<JobId, AttemptId>,
    /// The same the other way round.
    waiting_tasks: BTreeMap<AttemptId, JobId>,
    completing: BTreeSet<JobId>,
    /// Leases of this process, which are no attempts.
    residents: BTreeSet<TaskId>,
    /// Containers and builds.
    pub(crate) tasks: Tasks,
    decisions: VecDeque<Decision>,
    changed: BTreeSet<JobId>,
    records: Vec<Record>,
    story: Vec<StoryEntry>,
    pub(crate) errands: Vec<Errand>,
}

impl Engine {
    /// An engine that goes on from a state read back from the journal. Attempts that were
    /// running stay with their workers, which have as long to come back as a silent one.
    pub fn new(now: Timestamp, core: JobsCore, policy: Policy) -> Self {
        let mut engine = Self {
            placement: Placement::new(policy),
            sessions: Sessions::default(),
            waiting: BTreeMap::new(),
            waiting_tasks: BTreeMap::new(),
            completing: BTreeSet::new(),
            residents: BTreeSet::new(),
            tasks: Tasks::default(),
            decisions: VecDeque::new(),
            changed: core.jobs().map(|job| job.id).collect(),
            records: Vec::new(),
            story: Vec::new(),
            errands: Vec::new(),
            core,
        };
        let known: Vec<_> =
            engine.core.workers().iter().map(|(&id, known)| (id, known.capacity)).collect();
        for (worker, capacity) in known {
            engine.sessions.expect(worker, now);
            let offer = offer(&capacity);
            engine.place(now, PlacementEvent::WorkerKnown { worker, offer });
        }
        engine.settle(now);
        engine
    }

    pub fn core(&self) -> &JobsCore {
        &self.core
    }

    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The changes since the last call, to be written in this order.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// What those changes add to the jobs' stories.
    pub fn take_story(&mut self) -> Vec<StoryEntry> {
        std::mem::take(&mut self.story)
    }

    pub fn take_errands(&mut self) -> Vec<Errand> {
        std::mem::take(&mut self.errands)
    }

    /// The jobs whose outputs were to be registered when the engine began.
    pub fn take_completing(&mut self) -> Vec<JobId> {
        self.errands.retain(|errand| !matches!(errand, Errand::Complete { .. }));
        self.completing.iter().copied().collect()
    }

    /// Why a job that waits for a lease has none yet.
    pub fn wait_reason(&self, job: JobId) -> Option<WaitReason> {
        self.placement.wait_reason(task_of(*self.waiting.get(&job)?))
    }

    /// The workers whose waiting poll can be answered.
    pub fn take_woken(&mut self) -> BTreeSet<WorkerId> {
        self.sessions.take_woken()
    }

    /// Whether no worker could ever run the request.
    pub fn refusal(&self, workspace: WorkspaceId, request: &JobRequest) -> Option<Refusal> {
        self.placement.refusal(&task_request(TaskId::from_u128(0), workspace, request, None))
    }

    pub fn submit(
        &mut self,
        now: Timestamp,
        job: JobId,
        workspace: WorkspaceId,
        request: JobRequest,
    ) {
        let records = self.core.submit(now, job, workspace, request);
        self.commit(now, records);
    }

    pub fn cancel(&mut self, now: Timestamp, job: JobId) -> Result<(), StateError> {
        let records = self.core.cancel(now, job)?;
        self.commit(now, records);
        Ok(())
    }

    pub fn finish_now(&mut self, now: Timestamp, job: JobId) -> Result<(), StateError> {
        let records = self.core.finish_now(now, job)?;
        self.commit(now, records);
        Ok(())
    }

    pub fn completed(&mut self, now: Timestamp, job: JobId, result: Value) {
        let records = self.core.completed(now, job, result);
        self.commit(now, records);
    }

    pub fn completion_refused(&mut self, now: Timestamp, job: JobId, failure: JobFailure) {
        let records = self.core.completion_refused(now, job, failure);
        self.commit(now, records);
    }

    /// Takes the time in; to be called every second or more often.
    pub fn tick(&mut self, now: Timestamp) {
        let after_ms = self.core.policy().worker_lost_after_ms;
        for worker in self.sessions.take_lost(now, after_ms) {
            self.worker_lost(now, worker);
        }
        let forgotten_ms = self.core.policy().worker_forgotten_after_ms;
        let mut records: Vec<Record> = self
            .sessions
            .take_forgotten(now, forgotten_ms)
            .into_iter()
            .map(|worker| Record::WorkerForgotten { worker })
            .collect();
        records.extend(self.core.tick(now));
        self.commit(now, records);
        self.settle_tasks();
        self.place(now, PlacementEvent::Tick);
        self.settle(now);
    }

    /// The worker is gone, and with it what ran there.
    pub(crate) fn worker_lost(&mut self, now: Timestamp, worker: WorkerId) {
        let lost = self.core.attempts_on(worker);
        let records =
            lost.into_iter().flat_map(|attempt| self.core.attempt_lost(now, attempt)).collect();
        self.place(now, PlacementEvent::WorkerLost { worker });
        self.commit(now, records);
    }

    /// Every worker that is here or is remembered.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let known = self.core.workers().iter();
        known
            .map(|(&worker, known)| WorkerStatus {
                worker,
                host_name: known.host_name.clone(),
                capacity: known.capacity,
                first_seen: known.first_seen,
                last_call: self.sessions.last_call(worker),
                placement: self.placement.workers().find(|view| view.worker == worker),
                jobs: self
                    .core
                    .attempts_on(worker)
                    .into_iter()
                    .filter_map(|attempt| self.core.job_of(attempt))
                    .map(|job| job.id)
                    .collect(),
            })
            .collect()
    }

    pub fn drain(&mut self, now: Timestamp, worker: WorkerId) {
        self.place(now, PlacementEvent::WorkerDraining { worker });
        self.settle(now);
    }

    /// The server's own lease on the machine it shares with a worker.
    pub fn claim_resident(&mut self, now: Timestamp, claim: ResidentClaim) {
        self.residents.insert(claim.task);
        self.place(now, PlacementEvent::ResidentClaimed(claim));
        self.settle(now);
    }

    pub fn resize_resident(&mut self, now: Timestamp, task: TaskId, memory_request_bytes: u64) {
        let memory_limit_bytes = None;
        self.place(
            now,
            PlacementEvent::LeaseResized { task, memory_request_bytes, memory_limit_bytes },
        );
        self.settle(now);
    }

    /// Something in this process that could be given back; `None` when it is gone.
    pub fn hold_reclaimable(
        &mut self,
        now: Timestamp,
        holder: HolderId,
        reclaimable: Option<Reclaimable>,
    ) {
        self.place(
            now,
            match reclaimable {
                Some(reclaimable) => PlacementEvent::ReclaimableHeld { holder, reclaimable },
                None => PlacementEvent::ReclaimableGone { holder },
            },
        );
        self.settle(now);
    }

    pub(crate) fn is_resident(&self, task: TaskId) -> bool {
        self.residents.contains(&task)
    }

    /// Has the job's state reconciled at the next settling.
    pub(crate) fn look_at(&mut self, job: JobId) {
        self.changed.insert(job);
    }

    pub(crate) fn place(&mut self, now: Timestamp, event: PlacementEvent) {
        self.decisions.extend(self.placement.apply(now, event));
    }

    /// Makes changes and everything that follows from them.
    pub(crate) fn commit(&mut self, now: Timestamp, records: Vec<Record>) {
        self.change(now, records);
        self.settle(now);
    }

    fn change(&mut self, now: Timestamp, records: Vec<Record>) {
        for record in records {
            if let Some(attempt) = over(&record) {
                self.place(now, PlacementEvent::TaskEnded { task: task_of(attempt) });
            }
            self.story.extend(self.core.apply(&record));
            self.changed.extend(job_of(&record));
            self.records.push(record);
        }
    }

    /// Carries decisions out and reconciles changed jobs until nothing is left to do.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        loop {
            if let Some(decision) = self.decisions.pop_front() {
                self.carry_out(now, decision);
            } else if let Some(job) = self.changed.pop_first() {
                self.reconcile(now, job);
            } else {
                return;
            }
        }
    }

    fn carry_out(&mut self, now: Timestamp, decision: Decision) {
        match decision {
            Decision::Grant { task, worker, limits } => {
                if self.residents.contains(&task) {
                    self.errands.push(Errand::ResidentLease { task, limits: Some(limits) });
                    return;
                }
                if self.tasks.contains(task) {
                    self.task_granted(task, worker, &limits);
                    return;
                }
                let attempt = attempt_of(task);
                let job = self.waiting_tasks.remove(&attempt);
                let records = job.map_or_else(Vec::new, |job| {
                    self.waiting.remove(&job);
                    self.core.assign(now, job, attempt, worker, limits_of(&limits))
                });
                if records.is_empty() {
                    self.place(now, PlacementEvent::TaskEnded { task });
                }
                self.change(now, records);
            }
            Decision::Refuse { task, refusal } if self.tasks.contains(task) => {
                self.task_refused(task, refusal);
            }
            Decision::Refuse { task, refusal } => {
                if let Some(job) = self.waiting_tasks.remove(&attempt_of(task)) {
                    self.waiting.remove(&job);
                    let records = self.core.refuse(now, job, refused(&refusal));
                    self.change(now, records);
                }
            }
            Decision::LeaseChanged { task, worker, limits } => {
                if self.residents.contains(&task) {
                    self.errands.push(Errand::ResidentLease { task, limits: Some(limits) });
                } else if !self.tasks.contains(task) {
                    let (attempt, limits) = (attempt_of(task), limits_of(&limits));
                    let command = Command::SetLimits { attempt, limits };
                    self.sessions.say(worker, |session| session.push(command));
                }
            }
            Decision::GrowthRefused { task, .. } => {
                self.errands.push(Errand::ResidentLease { task, limits: None });
            }
            Decision::LeaseLost { task, .. } if self.tasks.contains(task) => {
                self.task_lost(task);
            }
            Decision::LeaseLost { task, .. } => {
                let records = self.core.attempt_lost(now, attempt_of(task));
                self.change(now, records);
            }
            Decision::Reclaim { worker, holder, bytes } => {
                self.errands.push(Errand::Reclaim { worker, holder, bytes });
            }
            Decision::Stop { task, numbers, .. } if self.tasks.contains(task) => {
                self.task_chosen_to_stop(task, numbers);
            }
            Decision::Stop { task, numbers, .. } => {
                let cause = StopCause::MemoryPressure { numbers };
                let records = self.core.stop_for_memory(now, attempt_of(task), cause);
                self.change(now, records);
            }
            Decision::Drained { worker } => {
                tracing::info!(%worker, "the worker has no task left and may go");
            }
        }
    }

    /// Brings about what the job's state asks for and has not been brought about yet.
    fn reconcile(&mut self, now: Timestamp, id: JobId) {
        let job = self.core.job(id).cloned();
        let phase = job.as_ref().map(|job| &job.phase);
        if !matches!(phase, Some(Phase::Queued { .. }))
            && let Some(attempt) = self.waiting.remove(&id)
        {
            self.waiting_tasks.remove(&attempt);
            self.place(now, PlacementEvent::TaskWithdrawn { task: task_of(attempt) });
        }
        if !matches!(phase, Some(Phase::Completing { .. })) {
            self.completing.remove(&id);
        }
        let Some(job) = job else { return };
        match &job.phase {
            Phase::Queued { .. } => {
                if let Entry::Vacant(place) = self.waiting.entry(id) {
                    let attempt = *place.insert(next_attempt_id(now, &job));
                    self.waiting_tasks.insert(attempt, id);
                    let task = task_of(attempt);
                    let last_worker = job.past.last().map(|past| past.worker);
                    let request = task_request(task, job.workspace, &job.request, last_worker);
                    self.place(now, PlacementEvent::TaskSubmitted(request));
                }
            }
            Phase::Starting | Phase::Running => self.tell_worker(now, &job),
            Phase::Completing { .. } => {
                if self.completing.insert(id) {
                    self.errands.push(Errand::Complete { job: id });
                }
            }
            Phase::BackingOff { .. } | Phase::Ended { .. } => {}
        }
    }

    /// Says to the attempt's worker what it has not been told in its session.
    fn tell_worker(&mut self, now: Timestamp, job: &Job) {
        let Some(attempt) = &job.attempt else { return };
        let id = attempt.id;
        self.sessions.say(attempt.worker, |session| {
            let mut said = false;
            if job.phase == Phase::Starting {
                said |= session.start(id, || Command::Start(Box::new(start(now, job))));
            }
            if job.finish_now {
                said |= session.finish_now(id);
            }
            if let Some(stop) = &job.stop {
                let reason = match stop.cause {
                    StopCause::Cancelled => StopReason::Cancelled,
                    StopCause::TimeLimit => StopReason::TimeLimit,
                    StopCause::MemoryPressure { .. } => StopReason::MemoryPressure,
                };
                said |= session.stop(id, reason);
            }
            said
        });
    }
}
