//! The ledger: which lease takes what of which worker.
//!
//! Sums are kept as leases come, go and grow, so that asking whether a task fits costs
//! nothing however many leases there are.

use std::collections::{BTreeMap, BTreeSet};

use corral_types::{TaskId, Timestamp, WorkerId, WorkspaceId};

use crate::messages::{LeaseLimits, TaskRequest, WorkClass, WorkerOffer};
use crate::policy::Policy;

/// How long a lease stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// Until its task ends or its worker is lost.
    Task,
    /// As long as the machine; it can be asked down to what it claimed at first.
    Resident { floor_bytes: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub workspace: WorkspaceId,
    pub class: WorkClass,
    pub priority: i32,
    pub bring_back_ms: u64,
    pub worker: WorkerId,
    pub limits: LeaseLimits,
    pub measured_bytes: u64,
    pub tenure: Tenure,
    pub stopping_since: Option<Timestamp>,
}

impl Lease {
    /// What the lease takes of its worker's memory.
    pub fn charge_bytes(&self) -> u64 {
        self.limits.memory_request_bytes.max(self.measured_bytes)
    }

    /// What it was promised and has not taken yet.
    fn promise_bytes(&self) -> u64 {
        self.limits.memory_request_bytes.saturating_sub(self.measured_bytes)
    }

    pub fn over_request_bytes(&self) -> u64 {
        self.measured_bytes.saturating_sub(self.limits.memory_request_bytes)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Known, but not here: it was lost, or has not yet come back after a restart.
    Expected {
        since: Timestamp,
    },
    Present,
    Draining,
}

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub offer: WorkerOffer,
    pub presence: Presence,
    pub leases: BTreeSet<TaskId>,
    pub requested_bytes: u64,
    pub charged_bytes: u64,
    pub promised_bytes: u64,
    pub resident_floor_bytes: u64,
    pub milli_cpu: [u64; 3],
    pub gpus: u32,
    /// Free memory as last measured, plus what tasks that ended since gave back.
    pub free_bytes: Option<u64>,
}

impl Worker {
    pub fn new(offer: WorkerOffer, presence: Presence) -> Self {
        Self {
            offer,
            presence,
            leases: BTreeSet::new(),
            requested_bytes: 0,
            charged_bytes: 0,
            promised_bytes: 0,
            resident_floor_bytes: 0,
            milli_cpu: [0; 3],
            gpus: 0,
            free_bytes: None,
        }
    }

    /// Memory a new lease may request: free by the charges and, where it is measured,
    /// free in fact once the other leases have taken what they were promised.
    pub fn available_bytes(&self) -> u64 {
        let by_charge = self.offer.memory_bytes.saturating_sub(self.charged_bytes);
        match self.free_bytes {
            Some(free) => by_charge.min(
                free.saturating_sub(self.offer.reserve_bytes).saturating_sub(self.promised_bytes),
            ),
            None => by_charge,
        }
    }

    /// Whether the request fits now.
    pub fn has_room(&self, policy: &Policy, request: &TaskRequest) -> bool {
        self.presence == Presence::Present
            && request.memory_request_bytes <= self.available_bytes()
            && self.has_cpu_and_gpus(policy, request)
    }

    /// Whether the request fits now, memory aside.
    pub fn has_cpu_and_gpus(&self, policy: &Policy, request: &TaskRequest) -> bool {
        let used = self.milli_cpu[request.class as usize];
        used + u64::from(request.milli_cpu)
            <= policy.cpu_budget(request.class, self.offer.milli_cpu)
            && u64::from(self.gpus) + u64::from(request.gpus) <= u64::from(self.offer.gpus)
    }

    /// Memory that a task could ever have here.
    pub fn largest_request_bytes(&self) -> u64 {
        self.offer.memory_bytes.saturating_sub(self.resident_floor_bytes)
    }

    /// Whether the request would fit if no other task were here.
    pub fn could_hold(&self, policy: &Policy, request: &TaskRequest) -> bool {
        request.memory_request_bytes <= self.largest_request_bytes()
            && u64::from(request.milli_cpu)
                <= policy.cpu_budget(request.class, self.offer.milli_cpu)
            && request.gpus <= self.offer.gpus
    }

    fn add(&mut self, task: TaskId, lease: &Lease) {
        self.leases.insert(task);
        self.requested_bytes += lease.limits.memory_request_bytes;
        self.charged_bytes += lease.charge_bytes();
        self.promised_bytes += lease.promise_bytes();
        self.milli_cpu[lease.class as usize] += u64::from(lease.limits.milli_cpu);
        self.gpus += lease.limits.gpus;
        if let Tenure::Resident { floor_bytes } = lease.tenure {
            self.resident_floor_bytes += floor_bytes;
        }
    }

    fn take(&mut self, task: TaskId, lease: &Lease) {
        self.leases.remove(&task);
        self.requested_bytes -= lease.limits.memory_request_bytes;
        self.charged_bytes -= lease.charge_bytes();
        self.promised_bytes -= lease.promise_bytes();
        self.milli_cpu[lease.class as usize] -= u64::from(lease.limits.milli_cpu);
        self.gpus -= lease.limits.gpus;
        if let Tenure::Resident { floor_bytes } = lease.tenure {
            self.resident_floor_bytes -= floor_bytes;
        }
    }
}

/// Workers and leases, changed only together.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    workers: BTreeMap<WorkerId, Worker>,
    leases: BTreeMap<TaskId, Lease>,
}

impl Ledger {
    pub fn workers(&self) -> &BTreeMap<WorkerId, Worker> {
        &self.workers
    }

    pub fn worker(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    pub fn leases(&self) -> &BTreeMap<TaskId, Lease> {
        &self.leases
    }

    pub fn lease(&self, task: TaskId) -> Option<&Lease> {
        self.leases.get(&task)
    }

    /// Puts the worker here with this offer; what it held stays.
    pub fn set_worker(&mut self, worker: WorkerId, offer: WorkerOffer, presence: Presence) {
        let entry = self.workers.entry(worker).or_insert_with(|| Worker::new(offer, presence));
        entry.offer = offer;
        entry.presence = presence;
    }

    pub fn set_presence(&mut self, worker: WorkerId, presence: Presence) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.presence = presence;
        }
    }

    pub fn set_free(&mut self, worker: WorkerId, free_bytes: Option<u64>) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.free_bytes = free_bytes;
        }
    }

    pub fn forget_worker(&mut self, worker: WorkerId) {
        let gone = self.workers.remove(&worker);
        debug_assert!(gone.is_none_or(|worker| worker.leases.is_empty()));
    }

    /// Enters a lease on a worker that is known.
    pub fn insert(&mut self, task: TaskId, lease: Lease) {
        debug_assert!(!self.leases.contains_key(&task));
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.add(task, &lease);
            self.leases.insert(task, lease);
        }
    }

    pub fn remove(&mut self, task: TaskId) -> Option<Lease> {
        let lease = self.leases.remove(&task)?;
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.take(task, &lease);
            // The next measurement may be seconds away; what waits need not.
            if let Some(free) = &mut worker.free_bytes {
                *free += lease.measured_bytes;
            }
        }
        Some(lease)
    }

    /// Changes a lease in place; the sums follow.
    pub fn change(&mut self, task: TaskId, change: impl FnOnce(&mut Lease)) {
        let Some(lease) = self.leases.get_mut(&task) else { return };
        let worker = self.workers.get_mut(&lease.worker).expect("a lease's worker is known");
        worker.take(task, lease);
        change(lease);
        worker.add(task, lease);
    }
}
