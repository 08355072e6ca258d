//! The named limits and weights of placement.

use std::collections::BTreeMap;

use corral_types::{MIB, WorkspaceId};

use crate::messages::WorkClass;

/// How often the owner hands in a [`Tick`](crate::Event::Tick): bounds are in seconds, so
/// a finer one would only cost.
pub const TICK_MS: u64 = 1_000;

/// The most tasks that may wait at once; one more is refused. Each takes about 300 bytes,
/// and behind so many nobody would see the end of the queue.
pub const MAX_WAITING_TASKS: usize = 200_000;

/// The least memory a lease is charged: a process that asks for nothing still takes some,
/// and a lease of nothing could be granted without end.
pub const MIN_MEMORY_REQUEST_BYTES: u64 = MIB;

/// The limit of a lease whose task named none is at least this …
pub(crate) const DEFAULT_LIMIT_FLOOR_BYTES: u64 = 2048 * MIB;

/// … and at least this many times its request.
pub(crate) const DEFAULT_LIMIT_FACTOR: u64 = 4;

/// What may differ from one installation to another.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How many percent of a worker's cores the leases of each class may ask for
    /// together. Jobs keep cores busy, so they queue for them; calls and serving mostly
    /// wait for something and share by weight.
    pub job_cpu_percent: u32,
    pub call_cpu_percent: u32,
    pub serving_cpu_percent: u32,
    /// A level of priority counts like having waited this much longer, so that a low
    /// priority waits longer but not for ever.
    pub priority_step_ms: u64,
    /// A task with a deadline is ordered as if it had come at least this long before it.
    pub deadline_lead_ms: u64,
    /// How long the tasks of one workspace and class may get nothing before a worker is
    /// reserved for the first of them.
    pub serving_bound_ms: u64,
    pub call_bound_ms: u64,
    pub job_bound_ms: u64,
    /// How long a reservation holds a worker at first. One that ran out was waiting for a
    /// lease that outlived it: the next holds twice as long, after as long a pause.
    pub reservation_hold_ms: u64,
    pub max_reservation_hold_ms: u64,
    /// Memory asked back from a holder counts as free for this long, so that the same
    /// shortage does not drop everything else as well.
    pub reclaim_grace_ms: u64,
    /// The same for a task that was told to stop.
    pub stop_grace_ms: u64,
    /// A lost worker counts as known, so that what only it can hold waits for it.
    pub lost_worker_known_ms: u64,
    /// How many waiting tasks one event looks at in the order of fairness. What lies
    /// behind comes up as those ahead are granted, or by its bound.
    pub looks_per_event: usize,
    /// A workspace's share of a busy cluster, relative to the others' 1.
    pub workspace_weights: BTreeMap<WorkspaceId, u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            job_cpu_percent: 100,
            call_cpu_percent: 400,
            serving_cpu_percent: 400,
            priority_step_ms: 10 * 60_000,
            deadline_lead_ms: 10 * 60_000,
            serving_bound_ms: 5_000,
            call_bound_ms: 15_000,
            job_bound_ms: 60_000,
            reservation_hold_ms: 10 * 60_000,
            max_reservation_hold_ms: 48 * 3_600_000,
            reclaim_grace_ms: 5_000,
            stop_grace_ms: 15_000,
            lost_worker_known_ms: 10 * 60_000,
            looks_per_event: 512,
            workspace_weights: BTreeMap::new(),
        }
    }
}

impl Policy {
    pub(crate) fn bound_ms(&self, class: WorkClass) -> u64 {
        match class {
            WorkClass::Serving => self.serving_bound_ms,
            WorkClass::Call => self.call_bound_ms,
            WorkClass::Job => self.job_bound_ms,
        }
    }

    /// The cores that leases of a class may ask for on a worker with so many.
    pub(crate) fn cpu_budget(&self, class: WorkClass, worker_milli_cpu: u32) -> u64 {
        let percent = match class {
            WorkClass::Serving => self.serving_cpu_percent,
            WorkClass::Call => self.call_cpu_percent,
            WorkClass::Job => self.job_cpu_percent,
        };
        u64::from(worker_milli_cpu) * u64::from(percent) / 100
    }

    pub(crate) fn workspace_weight(&self, workspace: WorkspaceId) -> u64 {
        self.workspace_weights.get(&workspace).copied().unwrap_or(1).max(1).into()
    }
}
