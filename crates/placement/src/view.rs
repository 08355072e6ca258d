//! What can be asked about the state, for people and metrics.

use corral_types::{LeaseId, TaskId, Timestamp, WorkerId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::core::Placement;
use crate::ledger::Presence;
use crate::messages::{TaskRequest, WorkClass, WorkerOffer};

/// Whether a worker is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerPresence {
    Present,
    /// Takes no new lease.
    Draining,
    /// Lost, or not yet back after a restart.
    Expected,
}

/// One worker and what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    pub worker: WorkerId,
    pub presence: WorkerPresence,
    pub offer: WorkerOffer,
    /// The sum of the leases' memory requests.
    pub requested_bytes: u64,
    /// The sum of the larger of request and measured memory.
    pub charged_bytes: u64,
    /// What a new lease could request now.
    pub available_bytes: u64,
    pub milli_cpu: u64,
    pub gpus: u32,
    pub leases: usize,
    /// The waiting task that the worker is kept for.
    pub reserved_for: Option<TaskId>,
}

/// One lease and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub task: TaskId,
    pub workspace: WorkspaceId,
    pub class: WorkClass,
    pub worker: WorkerId,
    pub lease: LeaseId,
    pub memory_request_bytes: u64,
    pub memory_limit_bytes: u64,
    pub measured_bytes: u64,
}

/// Sums over everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub workers_present: usize,
    pub offered_bytes: u64,
    pub requested_bytes: u64,
    pub charged_bytes: u64,
    pub leases: usize,
    pub waiting: usize,
    pub reservations: usize,
}

/// Why a task is not running yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum WaitReason {
    /// No worker is there.
    NoWorker,
    /// A worker that could hold it is expected back; none that is here could.
    WorkerAway,
    /// Not enough is free at the moment; the numbers are of the worker with the most.
    Busy {
        asked_bytes: u64,
        most_free_bytes: u64,
        /// How many tasks of the same workspace and class are before it.
        ahead: usize,
        since: Timestamp,
        /// Whether a worker is kept for it.
        reserved: bool,
    },
}

/// How far back in its queue a task's place is counted exactly.
const MAX_COUNTED_AHEAD: usize = 10_000;

impl Placement {
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.ledger.workers().iter().map(|(&worker, entry)| WorkerView {
            worker,
            presence: match entry.presence {
                Presence::Present => WorkerPresence::Present,
                Presence::Draining => WorkerPresence::Draining,
                Presence::Expected { .. } => WorkerPresence::Expected,
            },
            offer: entry.offer,
            requested_bytes: entry.requested_bytes,
            charged_bytes: entry.charged_bytes,
            available_bytes: entry.available_bytes(),
            milli_cpu: entry.milli_cpu.iter().sum(),
            gpus: entry.gpus,
            leases: entry.leases.len(),
            reserved_for: self
                .reservations
                .get(&worker)
                .map(|reservation| reservation.request.task),
        })
    }

    pub fn leases(&self) -> impl Iterator<Item = LeaseView> {
        self.ledger.leases().iter().map(|(&task, lease)| LeaseView {
            task,
            workspace: lease.workspace,
            class: lease.class,
            worker: lease.worker,
            lease: lease.limits.lease,
            memory_request_bytes: lease.limits.memory_request_bytes,
            memory_limit_bytes: lease.limits.memory_limit_bytes,
            measured_bytes: lease.measured_bytes,
        })
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            leases: self.ledger.leases().len(),
            waiting: self.waiting.len(),
            reservations: self.reservations.len(),
            ..Totals::default()
        };
        for entry in self.ledger.workers().values() {
            if !matches!(entry.presence, Presence::Expected { .. }) {
                totals.workers_present += 1;
                totals.offered_bytes += entry.offer.memory_bytes;
                totals.requested_bytes += entry.requested_bytes;
                totals.charged_bytes += entry.charged_bytes;
            }
        }
        totals
    }

    pub fn has_lease(&self, task: TaskId) -> bool {
        self.ledger.lease(task).is_some()
    }

    pub fn is_waiting(&self, task: TaskId) -> bool {
        self.waiting.task(task).is_some()
    }

    /// Why a waiting task has no lease yet; `None` for one that does not wait.
    pub fn wait_reason(&self, task: TaskId) -> Option<WaitReason> {
        let waiting = self.waiting.task(task)?;
        let request: &TaskRequest = &waiting.request;
        let able = |presence: fn(&Presence) -> bool| {
            self.ledger.workers().values().filter(move |worker| {
                presence(&worker.presence) && worker.could_hold(&self.policy, request)
            })
        };
        let most_free = able(|presence| *presence == Presence::Present)
            .map(|worker| worker.available_bytes())
            .max();
        Some(match most_free {
            Some(most_free_bytes) => WaitReason::Busy {
                asked_bytes: request.memory_request_bytes,
                most_free_bytes,
                ahead: self.ahead_of(task),
                since: waiting.since,
                reserved: self.reservations.values().any(|kept| kept.request.task == task),
            },
            None if able(|_| true).next().is_some() => WaitReason::WorkerAway,
            None => WaitReason::NoWorker,
        })
    }

    fn ahead_of(&self, task: TaskId) -> usize {
        let Some(waiting) = self.waiting.task(task) else { return 0 };
        let key = crate::waiting::QueueKey::of(&waiting.request);
        self.waiting
            .queue(key)
            .map_or(0, |queue| queue.tasks.range(..waiting.place).take(MAX_COUNTED_AHEAD).count())
    }
}
