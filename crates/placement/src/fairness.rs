//! Whose turn it is: dominant resource fairness over what each workspace holds now.
//!
//! A workspace's share is the larger of its part of all memory and its part of all CPU,
//! divided by its weight. The smallest share is first; equal shares take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use corral_types::WorkspaceId;

use crate::ledger::Lease;
use crate::messages::WorkClass;
use crate::policy::Policy;
use crate::waiting::QueueKey;

/// Shares are counted in billionths.
const WHOLE: u128 = 1_000_000_000;

/// What leases hold, as the shares count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holding {
    memory_bytes: u64,
    milli_cpu: u64,
}

impl Holding {
    fn add(&mut self, lease: &Lease) {
        self.memory_bytes += lease.limits.memory_request_bytes;
        self.milli_cpu += u64::from(lease.limits.milli_cpu);
    }

    fn take(&mut self, lease: &Lease) {
        self.memory_bytes -= lease.limits.memory_request_bytes;
        self.milli_cpu -= u64::from(lease.limits.milli_cpu);
    }

    fn share(&self, all: &Self, weight: u64) -> u64 {
        let part = |held: u64, of: u64| u128::from(held) * WHOLE / u128::from(of.max(1));
        let largest =
            part(self.memory_bytes, all.memory_bytes).max(part(self.milli_cpu, all.milli_cpu));
        u64::try_from(largest / u128::from(weight)).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Debug, Default)]
struct Workspace {
    holding: Holding,
    by_class: [Holding; 3],
    /// Turn numbers of the last grant, of the workspace and of each class.
    served: u64,
    served_by_class: [u64; 3],
    /// How many queues with waiting tasks it has.
    queues: usize,
    /// Its key in the order while it has any.
    key: Option<TurnKey>,
}

/// A workspace's place in the order of turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TurnKey {
    share: u64,
    served: u64,
    pub workspace: WorkspaceId,
}

/// The order of turns.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    workspaces: BTreeMap<WorkspaceId, Workspace>,
    order: BTreeSet<TurnKey>,
    all: Holding,
    turn: u64,
}

impl Fairness {
    /// The workspace whose turn it is after `last` (or at all), among those that wait.
    pub fn next(&self, last: Option<TurnKey>) -> Option<TurnKey> {
        match last {
            None => self.order.first().copied(),
            Some(last) => self.order.range((Excluded(last), Unbounded)).next().copied(),
        }
    }

    /// A workspace's classes, the one whose turn it is first. Each class's share counts
    /// by its CPU weight, so that serving comes before calls before jobs.
    pub fn classes(&self, workspace: WorkspaceId) -> [WorkClass; 3] {
        let mut classes = WorkClass::ALL;
        if let Some(entry) = self.workspaces.get(&workspace) {
            classes.sort_by_key(|&class| {
                let weight = u64::from(class.cpu_weight());
                let share = entry.by_class[class as usize].share(&self.all, weight);
                (share, entry.served_by_class[class as usize], class)
            });
        }
        classes
    }

    /// The sum of what all workers offer changed.
    pub fn set_all(&mut self, policy: &Policy, memory_bytes: u64, milli_cpu: u64) {
        let all = Holding { memory_bytes, milli_cpu };
        if self.all != all {
            self.all = all;
            let waiting: Vec<_> = self.order.iter().map(|key| key.workspace).collect();
            for workspace in waiting {
                self.place(policy, workspace);
            }
        }
    }

    /// How many of a workspace's queues have waiting tasks.
    pub fn set_waiting(&mut self, policy: &Policy, workspace: WorkspaceId, queues: usize) {
        let entry = self.workspaces.entry(workspace).or_default();
        if entry.queues != queues {
            entry.queues = queues;
            self.place(policy, workspace);
        }
    }

    /// A lease was granted to a waiting task: the workspace had its turn.
    pub fn granted(&mut self, policy: &Policy, lease: &Lease) {
        self.turn += 1;
        let entry = self.workspaces.entry(lease.workspace).or_default();
        entry.served = self.turn;
        entry.served_by_class[lease.class as usize] = self.turn;
        self.entered(policy, lease);
    }

    /// A lease is there.
    pub fn entered(&mut self, policy: &Policy, lease: &Lease) {
        let entry = self.workspaces.entry(lease.workspace).or_default();
        entry.holding.add(lease);
        entry.by_class[lease.class as usize].add(lease);
        self.place(policy, lease.workspace);
    }

    /// A lease is gone.
    pub fn left(&mut self, policy: &Policy, lease: &Lease) {
        let entry = self.workspaces.entry(lease.workspace).or_default();
        entry.holding.take(lease);
        entry.by_class[lease.class as usize].take(lease);
        self.place(policy, lease.workspace);
    }

    fn place(&mut self, policy: &Policy, workspace: WorkspaceId) {
        let Some(entry) = self.workspaces.get_mut(&workspace) else { return };
        if let Some(old) = entry.key.take() {
            self.order.remove(&old);
        }
        if entry.queues > 0 {
            let share = entry.holding.share(&self.all, policy.workspace_weight(workspace));
            let key = TurnKey { share, served: entry.served, workspace };
            self.order.insert(key);
            entry.key = Some(key);
        } else if entry.holding == Holding::default() {
            self.workspaces.remove(&workspace);
        }
    }

    pub fn queue_keys(&self, workspace: WorkspaceId) -> [QueueKey; 3] {
        self.classes(workspace).map(|class| QueueKey { workspace, class })
    }
}
