//! The state of placement and what each event does to it.

use std::collections::BTreeMap;

use corral_types::{LeaseId, TaskId, Timestamp, WorkerId};

use crate::fairness::Fairness;
use crate::ledger::{Lease, Ledger, Presence, Tenure};
use crate::messages::{
    Decision, Event, LeaseLimits, Refusal, ResidentClaim, TaskRequest, WorkClass, WorkerOffer,
};
use crate::policy::{
    DEFAULT_LIMIT_FACTOR, DEFAULT_LIMIT_FLOOR_BYTES, MAX_WAITING_TASKS, MIN_MEMORY_REQUEST_BYTES,
    Policy,
};
use crate::pressure::Reclaimables;
use crate::schedule::Reservation;
use crate::waiting::{QueueKey, Waiting};

/// Who may run what where, and who waits.
#[derive(Debug)]
pub struct Placement {
    pub(crate) policy: Policy,
    pub(crate) ledger: Ledger,
    pub(crate) waiting: Waiting,
    pub(crate) fairness: Fairness,
    /// At most one per worker.
    pub(crate) reservations: BTreeMap<WorkerId, Reservation>,
    pub(crate) reclaimables: Reclaimables,
    /// What residents claimed, whether or not their worker is here.
    pub(crate) residents: BTreeMap<TaskId, ResidentClaim>,
    leases_granted: u64,
}

/// What an event may have made possible.
enum Opening {
    /// Nothing became free.
    None,
    /// One more task waits.
    Task(TaskId),
    /// Something became free, or time passed.
    Any,
}

impl Placement {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            ledger: Ledger::default(),
            waiting: Waiting::default(),
            fairness: Fairness::default(),
            reservations: BTreeMap::new(),
            reclaimables: Reclaimables::default(),
            residents: BTreeMap::new(),
            leases_granted: 0,
        }
    }

    /// Takes in what happened and says what shall happen now. An event about a task,
    /// worker or holder that is not known (any more) changes nothing, so that events may
    /// cross decisions on their way.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Decision> {
        let mut out = Vec::new();
        let opening = match event {
            Event::WorkerKnown { worker, offer } => self.worker_known(now, worker, offer),
            Event::WorkerJoined { worker, offer, running } => {
                self.worker_joined(now, worker, offer, running, &mut out)
            }
            Event::WorkerDraining { worker } => self.worker_draining(worker, &mut out),
            Event::WorkerLost { worker } => self.worker_lost(now, worker, &mut out),
            Event::TaskSubmitted(request) => self.task_submitted(now, request, &mut out),
            Event::TaskWithdrawn { task } => self.task_withdrawn(now, task),
            Event::TaskEnded { task } => self.task_ended(now, task, &mut out),
            Event::ResidentClaimed(claim) => {
                if self.ledger.lease(claim.task).is_none() {
                    self.residents.insert(claim.task, claim);
                }
                Opening::Any
            }
            Event::LeaseResized { task, memory_request_bytes, memory_limit_bytes } => {
                self.lease_resized(task, memory_request_bytes, memory_limit_bytes, &mut out)
            }
            Event::Measured { worker, free_memory_bytes, leases } => {
                self.measured(worker, free_memory_bytes, &leases);
                self.relieve_pressure(now, worker, &mut out);
                Opening::Any
            }
            Event::ReclaimableHeld { holder, reclaimable } => {
                self.reclaimables.hold(holder, reclaimable);
                // Something that waits may be worth more than what became idle.
                Opening::Any
            }
            Event::ReclaimableGone { holder } => {
                self.reclaimables.remove(holder);
                Opening::Any
            }
            Event::Tick => {
                self.expire_deadlines(now, &mut out);
                self.forget_lost_workers(now, &mut out);
                Opening::Any
            }
        };
        match opening {
            Opening::None => {}
            Opening::Task(task) => {
                self.place_or_reclaim(now, task, &mut out);
            }
            Opening::Any => self.schedule(now, &mut out),
        }
        out
    }

    /// Why a task with this request would be refused at once; `None` if it would be granted
    /// or wait.
    pub fn refusal(&self, request: &TaskRequest) -> Option<Refusal> {
        if self.waiting.len() >= MAX_WAITING_TASKS {
            Some(Refusal::TooManyWaiting { limit: MAX_WAITING_TASKS })
        } else {
            limit_refusal(request).or_else(|| self.never_fits(request))
        }
    }

    fn worker_known(&mut self, now: Timestamp, worker: WorkerId, offer: WorkerOffer) -> Opening {
        if self.ledger.worker(worker).is_none() {
            self.ledger.set_worker(worker, offer, Presence::Expected { since: now });
        }
        Opening::None
    }

    fn worker_joined(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        offer: WorkerOffer,
        running: Vec<(TaskRequest, LeaseId)>,
        out: &mut Vec<Decision>,
    ) -> Opening {
        self.ledger.set_worker(worker, offer, Presence::Present);
        self.capacity_changed();
        for (request, lease) in running {
            if self.ledger.lease(request.task).is_some() {
                continue;
            }
            self.withdraw(now, request.task);
            let request = normal(request);
            let lease = new_lease(&request, lease, worker, &offer, Tenure::Task);
            self.enter(request.task, lease);
        }
        self.refuse_what_can_never_fit(now, out);
        Opening::Any
    }

    fn worker_draining(&mut self, worker: WorkerId, out: &mut Vec<Decision>) -> Opening {
        if self.ledger.worker(worker).is_some_and(|entry| entry.presence == Presence::Present) {
            self.ledger.set_presence(worker, Presence::Draining);
            self.reservations.remove(&worker);
            self.capacity_changed();
            self.tell_when_drained(worker, out);
        }
        Opening::Any
    }

    fn worker_lost(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        out: &mut Vec<Decision>,
    ) -> Opening {
        let Some(entry) = self.ledger.worker(worker) else { return Opening::None };
        for task in entry.leases.clone() {
            let Some(lease) = self.leave(task) else { continue };
            // A resident outlives the worker: its claim stands until the worker is back.
            if lease.tenure == Tenure::Task {
                out.push(Decision::LeaseLost { task, worker, lease: lease.limits.lease });
            }
        }
        self.ledger.set_presence(worker, Presence::Expected { since: now });
        self.ledger.set_free(worker, None);
        self.reservations.remove(&worker);
        self.reclaimables.remove_worker(worker);
        self.capacity_changed();
        Opening::Any
    }

    fn task_submitted(
        &mut self,
        now: Timestamp,
        request: TaskRequest,
        out: &mut Vec<Decision>,
    ) -> Opening {
        let task = request.task;
        if self.waiting.task(task).is_some() || self.ledger.lease(task).is_some() {
            return Opening::None;
        }
        let request = normal(request);
        if let Some(refusal) = self.refusal(&request) {
            out.push(Decision::Refuse { task, refusal });
            return Opening::None;
        }
        let workspace = request.workspace;
        self.waiting.insert(now, &self.policy, request);
        self.count_queues(workspace);
        Opening::Task(task)
    }

    fn task_withdrawn(&mut self, now: Timestamp, task: TaskId) -> Opening {
        // Its reservation may have kept others out.
        if self.withdraw(now, task) { Opening::Any } else { Opening::None }
    }

    fn task_ended(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Decision>) -> Opening {
        self.residents.remove(&task);
        let Some(lease) = self.leave(task) else {
            return self.task_withdrawn(now, task);
        };
        self.reclaimables.remove_task(task);
        self.tell_when_drained(lease.worker, out);
        Opening::Any
    }

    fn lease_resized(
        &mut self,
        task: TaskId,
        request_bytes: u64,
        limit_bytes: Option<u64>,
        out: &mut Vec<Decision>,
    ) -> Opening {
        let Some(lease) = self.ledger.lease(task).cloned() else { return Opening::None };
        let worker = self.ledger.worker(lease.worker).expect("a lease's worker is known");
        let asked_bytes = request_bytes.max(MIN_MEMORY_REQUEST_BYTES);
        let more_requested = asked_bytes.saturating_sub(lease.limits.memory_request_bytes);
        let more_charged = asked_bytes.saturating_sub(lease.charge_bytes());
        let kept_bytes = self
            .reservations
            .get(&lease.worker)
            .map_or(0, |reservation| reservation.request.memory_request_bytes);
        let free_bytes = worker.available_bytes().saturating_sub(kept_bytes);
        let worker_bytes = worker.offer.memory_bytes;
        let fits = more_requested == 0
            || more_charged <= free_bytes
                && worker.requested_bytes + more_requested <= worker_bytes;
        if !fits {
            out.push(Decision::GrowthRefused { task, asked_bytes, free_bytes, worker_bytes });
            return Opening::None;
        }
        let limits = LeaseLimits {
            memory_request_bytes: asked_bytes,
            memory_limit_bytes: memory_limit(asked_bytes, limit_bytes, worker_bytes),
            ..lease.limits
        };
        self.fairness.left(&self.policy, &lease);
        self.ledger.change(task, |lease| lease.limits = limits);
        self.fairness.entered(&self.policy, &Lease { limits, ..lease.clone() });
        out.push(Decision::LeaseChanged { task, worker: lease.worker, limits });
        Opening::Any
    }

    fn measured(&mut self, worker: WorkerId, free_bytes: Option<u64>, leases: &[(TaskId, u64)]) {
        self.ledger.set_free(worker, free_bytes);
        for &(task, bytes) in leases {
            if self.ledger.lease(task).is_some_and(|lease| lease.worker == worker) {
                self.ledger.change(task, |lease| lease.measured_bytes = bytes);
            }
        }
    }

    fn expire_deadlines(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        for task in self.waiting.expired(now) {
            let since = self.waiting.task(task).map_or(now, |waiting| waiting.since);
            self.withdraw(now, task);
            let waited_ms = now.since(since).as_millis() as u64;
            out.push(Decision::Refuse { task, refusal: Refusal::DeadlinePassed { waited_ms } });
        }
    }

    fn forget_lost_workers(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        let known_ms = u128::from(self.policy.lost_worker_known_ms);
        let forgotten: Vec<WorkerId> = self
            .ledger
            .workers()
            .iter()
            .filter(|(_, entry)| match entry.presence {
                Presence::Expected { since } => now.since(since).as_millis() >= known_ms,
                Presence::Present | Presence::Draining => false,
            })
            .map(|(&worker, _)| worker)
            .collect();
        for &worker in &forgotten {
            self.ledger.forget_worker(worker);
        }
        if !forgotten.is_empty() {
            self.refuse_what_can_never_fit(now, out);
        }
    }

    fn refuse_what_can_never_fit(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        let refused: Vec<_> = self
            .waiting
            .tasks()
            .values()
            .filter_map(|waiting| Some((waiting.request.task, self.never_fits(&waiting.request)?)))
            .collect();
        for (task, refusal) in refused {
            self.withdraw(now, task);
            out.push(Decision::Refuse { task, refusal });
        }
    }

    /// Why no worker that is here or expected back could hold the request; `None` also
    /// while none is known.
    fn never_fits(&self, request: &TaskRequest) -> Option<Refusal> {
        let workers = || {
            self.ledger.workers().values().filter(|worker| worker.presence != Presence::Draining)
        };
        if workers().any(|worker| worker.could_hold(&self.policy, request)) {
            return None;
        }
        let largest_bytes = workers().map(|worker| worker.largest_request_bytes()).max()?;
        if request.memory_request_bytes > largest_bytes {
            let asked_bytes = request.memory_request_bytes;
            return Some(Refusal::Memory { asked_bytes, largest_bytes });
        }
        let budget = |milli_cpu| self.policy.cpu_budget(request.class, milli_cpu);
        let largest_milli_cpu = workers().map(|worker| budget(worker.offer.milli_cpu)).max()?;
        let asked_milli_cpu = u64::from(request.milli_cpu);
        if asked_milli_cpu > largest_milli_cpu {
            return Some(Refusal::Cpu { asked_milli_cpu, largest_milli_cpu });
        }
        let largest = workers().map(|worker| worker.offer.gpus).max()?;
        if request.gpus > largest {
            return Some(Refusal::Gpus { asked: request.gpus, largest });
        }
        Some(Refusal::Together {
            asked_bytes: request.memory_request_bytes,
            asked_milli_cpu: request.milli_cpu,
            asked_gpus: request.gpus,
        })
    }

    fn tell_when_drained(&self, worker: WorkerId, out: &mut Vec<Decision>) {
        let drained = self.ledger.worker(worker).is_some_and(|entry| {
            entry.presence == Presence::Draining
                && entry.leases.iter().all(|task| self.residents.contains_key(task))
        });
        if drained {
            out.push(Decision::Drained { worker });
        }
    }

    /// The shares are parts of what the workers that are here offer.
    fn capacity_changed(&mut self) {
        let here = self
            .ledger
            .workers()
            .values()
            .filter(|worker| matches!(worker.presence, Presence::Present | Presence::Draining));
        let (memory_bytes, milli_cpu) = here.fold((0, 0), |(memory, cpu), worker| {
            (memory + worker.offer.memory_bytes, cpu + u64::from(worker.offer.milli_cpu))
        });
        self.fairness.set_all(&self.policy, memory_bytes, milli_cpu);
    }

    /// Grants a waiting task or a resident its lease on a worker where it fits.
    pub(crate) fn grant(
        &mut self,
        now: Timestamp,
        request: &TaskRequest,
        worker: WorkerId,
        tenure: Tenure,
        out: &mut Vec<Decision>,
    ) {
        let Some(offer) = self.ledger.worker(worker).map(|entry| entry.offer) else { return };
        self.leases_granted += 1;
        let lease = lease_id(now, self.leases_granted);
        let lease = new_lease(request, lease, worker, &offer, tenure);
        let limits = lease.limits;
        if self.waiting.remove(now, &self.policy, request.task).is_some() {
            self.count_queues(request.workspace);
            self.fairness.granted(&self.policy, &lease);
        } else {
            self.fairness.entered(&self.policy, &lease);
        }
        self.ledger.insert(request.task, lease);
        self.reservations.retain(|_, reservation| reservation.request.task != request.task);
        out.push(Decision::Grant { task: request.task, worker, limits });
    }

    fn enter(&mut self, task: TaskId, lease: Lease) {
        self.fairness.entered(&self.policy, &lease);
        self.ledger.insert(task, lease);
    }

    fn leave(&mut self, task: TaskId) -> Option<Lease> {
        let lease = self.ledger.remove(task)?;
        self.fairness.left(&self.policy, &lease);
        Some(lease)
    }

    /// Takes a task that has no lease out, with what was kept for it; whether there was
    /// anything.
    fn withdraw(&mut self, now: Timestamp, task: TaskId) -> bool {
        let reserved = self.reservations.len();
        self.reservations.retain(|_, reservation| reservation.request.task != task);
        let waiting = self.waiting.remove(now, &self.policy, task);
        if let Some(waiting) = &waiting {
            self.count_queues(waiting.request.workspace);
        }
        waiting.is_some() || self.reservations.len() < reserved
    }

    fn count_queues(&mut self, workspace: corral_types::WorkspaceId) {
        let queues = WorkClass::ALL
            .into_iter()
            .filter(|&class| self.waiting.queue(QueueKey { workspace, class }).is_some())
            .count();
        self.fairness.set_waiting(&self.policy, workspace, queues);
    }
}

fn normal(mut request: TaskRequest) -> TaskRequest {
    request.memory_request_bytes = request.memory_request_bytes.max(MIN_MEMORY_REQUEST_BYTES);
    request
}

fn limit_refusal(request: &TaskRequest) -> Option<Refusal> {
    let request_bytes = request.memory_request_bytes;
    let limit_bytes = request.memory_limit_bytes.filter(|&limit| limit < request_bytes)?;
    Some(Refusal::LimitBelowRequest { request_bytes, limit_bytes })
}

fn memory_limit(request_bytes: u64, limit_bytes: Option<u64>, worker_bytes: u64) -> u64 {
    let default = request_bytes.saturating_mul(DEFAULT_LIMIT_FACTOR).max(DEFAULT_LIMIT_FLOOR_BYTES);
    limit_bytes.unwrap_or(default).min(worker_bytes).max(request_bytes)
}

fn new_lease(
    request: &TaskRequest,
    lease: LeaseId,
    worker: WorkerId,
    offer: &WorkerOffer,
    tenure: Tenure,
) -> Lease {
    let memory_limit_bytes =
        memory_limit(request.memory_request_bytes, request.memory_limit_bytes, offer.memory_bytes);
    Lease {
        workspace: request.workspace,
        class: request.class,
        priority: request.priority,
        bring_back_ms: request.bring_back_ms,
        worker,
        limits: LeaseLimits {
            lease,
            memory_request_bytes: request.memory_request_bytes,
            memory_limit_bytes,
            milli_cpu: request.milli_cpu,
            cpu_weight: request.class.cpu_weight(),
            gpus: request.gpus,
        },
        measured_bytes: 0,
        tenure,
        stopping_since: None,
    }
}

/// Distinct within a life by the count and between lives by the time.
fn lease_id(now: Timestamp, count: u64) -> LeaseId {
    let mut low = [0; 10];
    low[2..].copy_from_slice(&count.to_be_bytes());
    LeaseId::from_parts(now, low)
}
