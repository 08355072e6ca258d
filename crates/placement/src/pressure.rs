//! Getting memory back: from what can be rebuilt, then from a task.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use corral_types::{TaskId, Timestamp, WorkerId};

use crate::core::Placement;
use crate::ledger::{Presence, Tenure};
use crate::messages::{Decision, HolderId, Reclaimable, ReclaimableKind, StopNumbers, TaskRequest};
use crate::schedule::{Reservation, ReservationReason};

/// The order of giving up: the kind, then what is cheapest to rebuild, then the largest.
type Order = (ReclaimableKind, u64, Reverse<u64>, HolderId);

#[derive(Clone, Copy, Debug)]
struct Held {
    reclaimable: Reclaimable,
    /// When so many bytes of it were asked back.
    asked: Option<(Timestamp, u64)>,
}

impl Held {
    fn order(&self, holder: HolderId) -> Order {
        let Reclaimable { kind, bytes, rebuild_ms, .. } = self.reclaimable;
        (kind, rebuild_ms, Reverse(bytes), holder)
    }

    fn is_asked(&self, now: Timestamp, grace_ms: u64) -> bool {
        self.asked.is_some_and(|(at, _)| now.since(at).as_millis() < u128::from(grace_ms))
    }
}

/// What holders would give back.
#[derive(Debug, Default)]
pub(crate) struct Reclaimables {
    held: BTreeMap<HolderId, Held>,
    order: BTreeMap<WorkerId, BTreeSet<Order>>,
}

impl Reclaimables {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Enters it, or its new size; what was asked of it before counts no more.
    pub fn hold(&mut self, holder: HolderId, reclaimable: Reclaimable) {
        self.remove(holder);
        if reclaimable.bytes > 0 {
            let held = Held { reclaimable, asked: None };
            self.order.entry(reclaimable.worker).or_default().insert(held.order(holder));
            self.held.insert(holder, held);
        }
    }

    pub fn remove(&mut self, holder: HolderId) {
        let Some(held) = self.held.remove(&holder) else { return };
        let worker = held.reclaimable.worker;
        if let Some(order) = self.order.get_mut(&worker) {
            order.remove(&held.order(holder));
            if order.is_empty() {
                self.order.remove(&worker);
            }
        }
    }

    pub fn remove_worker(&mut self, worker: WorkerId) {
        for (_, _, _, holder) in self.order.remove(&worker).unwrap_or_default() {
            self.held.remove(&holder);
        }
    }

    pub fn remove_task(&mut self, task: TaskId) {
        let holders: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.reclaimable.task == task)
            .map(|(&holder, _)| holder)
            .collect();
        for holder in holders {
            self.remove(holder);
        }
    }

    /// What may be asked back on a worker now, in the order of giving up.
    fn open(
        &self,
        worker: WorkerId,
        now: Timestamp,
        grace_ms: u64,
    ) -> impl Iterator<Item = (HolderId, Reclaimable)> {
        self.order
            .get(&worker)
            .into_iter()
            .flatten()
            .map(|&(_, _, _, holder)| (holder, &self.held[&holder]))
            .filter(move |(_, held)| !held.is_asked(now, grace_ms))
            .map(|(holder, held)| (holder, held.reclaimable))
    }

    /// Bytes on their way back on a worker.
    fn asked_bytes(&self, worker: WorkerId, now: Timestamp, grace_ms: u64) -> u64 {
        self.order
            .get(&worker)
            .into_iter()
            .flatten()
            .filter_map(|(_, _, _, holder)| self.held[holder].asked)
            .filter(|(at, _)| now.since(*at).as_millis() < u128::from(grace_ms))
            .map(|(_, bytes)| bytes)
            .sum()
    }

    fn ask(&mut self, now: Timestamp, holder: HolderId, bytes: u64, out: &mut Vec<Decision>) {
        let Some(held) = self.held.get_mut(&holder) else { return };
        held.asked = Some((now, bytes));
        out.push(Decision::Reclaim { worker: held.reclaimable.worker, holder, bytes });
    }
}

/// What to ask of each holder so that a task fits, and what rebuilding it would cost.
struct Plan {
    rebuild_ms: u64,
    worker: WorkerId,
    asks: Vec<(HolderId, u64)>,
}

impl Placement {
    /// Brings a worker's free memory back to its reserve: asks back what can be rebuilt;
    /// where that is not enough, stops tasks that took more than they requested, the
    /// lowest priority first, then the one furthest over. A task within its request is
    /// never stopped: it was promised that much.
    pub(crate) fn relieve_pressure(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        out: &mut Vec<Decision>,
    ) {
        let Some(entry) = self.ledger.worker(worker) else { return };
        let Some(free_bytes) = entry.free_bytes else { return };
        let reserve_bytes = entry.offer.reserve_bytes;
        let grace_ms = self.policy.reclaim_grace_ms;
        let coming_bytes =
            self.reclaimables.asked_bytes(worker, now, grace_ms) + self.stopping_bytes(now, worker);
        let mut lack_bytes = reserve_bytes.saturating_sub(free_bytes + coming_bytes);
        let open: Vec<_> = self.reclaimables.open(worker, now, grace_ms).collect();
        for (holder, reclaimable) in open {
            if lack_bytes == 0 {
                return;
            }
            let bytes = asked_of(&reclaimable, lack_bytes);
            self.reclaimables.ask(now, holder, bytes, out);
            lack_bytes = lack_bytes.saturating_sub(bytes);
        }
        while lack_bytes > 0
            && let Some(task) = self.victim(worker)
        {
            let lease = self.ledger.lease(task).expect("the victim has a lease");
            let numbers = StopNumbers {
                request_bytes: lease.limits.memory_request_bytes,
                measured_bytes: lease.measured_bytes,
                limit_bytes: lease.limits.memory_limit_bytes,
                free_bytes,
                reserve_bytes,
            };
            self.ledger.change(task, |lease| lease.stopping_since = Some(now));
            out.push(Decision::Stop { task, worker, numbers });
            lack_bytes = lack_bytes.saturating_sub(numbers.measured_bytes);
        }
    }

    fn victim(&self, worker: WorkerId) -> Option<TaskId> {
        self.ledger
            .worker(worker)?
            .leases
            .iter()
            .filter_map(|&task| Some((task, self.ledger.lease(task)?)))
            .filter(|(_, lease)| {
                lease.tenure == Tenure::Task
                    && lease.stopping_since.is_none()
                    && lease.over_request_bytes() > 0
            })
            .min_by_key(|&(task, lease)| {
                let furthest = Reverse(lease.over_request_bytes());
                (lease.priority, furthest, lease.bring_back_ms, task)
            })
            .map(|(task, _)| task)
    }

    /// What tasks that were told to stop will give back.
    fn stopping_bytes(&self, now: Timestamp, worker: WorkerId) -> u64 {
        let Some(entry) = self.ledger.worker(worker) else { return 0 };
        let grace_ms = u128::from(self.policy.stop_grace_ms);
        entry
            .leases
            .iter()
            .filter_map(|&task| self.ledger.lease(task))
            .filter(|lease| {
                lease.stopping_since.is_some_and(|at| now.since(at).as_millis() < grace_ms)
            })
            .map(|lease| lease.measured_bytes)
            .sum()
    }

    /// Asks back what makes room for a waiting task, on the worker where that is cheapest
    /// to rebuild, and keeps the worker for it meanwhile.
    pub(crate) fn reclaim_for_task(
        &mut self,
        now: Timestamp,
        task: TaskId,
        out: &mut Vec<Decision>,
    ) {
        if self.reclaimables.is_empty() {
            return;
        }
        let Some(waiting) = self.waiting.task(task) else { return };
        let mut own = None;
        let mut is_resident = false;
        for (&worker, reservation) in &self.reservations {
            if reservation.request.task == task {
                own = Some(worker);
                is_resident = reservation.reason == ReservationReason::Resident;
            }
        }
        if is_resident || own.is_none() && self.reservations.len() >= self.most_reservations() {
            return;
        }
        let request = waiting.request.clone();
        let plan = self
            .ledger
            .workers()
            .keys()
            .filter(|id| match own {
                Some(own) => **id == own,
                None => !self.reservations.contains_key(id),
            })
            .filter_map(|&worker| self.plan_reclaim(now, worker, &request))
            .min_by_key(|plan| (plan.rebuild_ms, plan.worker));
        let Some(plan) = plan else { return };
        for (holder, bytes) in plan.asks {
            self.reclaimables.ask(now, holder, bytes, out);
        }
        self.reservations.entry(plan.worker).or_insert(Reservation {
            request,
            since: now,
            reason: ReservationReason::Reclaiming,
        });
    }

    fn plan_reclaim(
        &self,
        now: Timestamp,
        worker: WorkerId,
        request: &TaskRequest,
    ) -> Option<Plan> {
        let entry = self.ledger.worker(worker)?;
        if entry.presence != Presence::Present || !entry.could_hold(&self.policy, request) {
            return None;
        }
        let class = request.class;
        let budget = self.policy.cpu_budget(class, entry.offer.milli_cpu);
        let grace_ms = self.policy.reclaim_grace_ms;
        let mut free_bytes =
            entry.available_bytes() + self.reclaimables.asked_bytes(worker, now, grace_ms);
        let mut milli_cpu = entry.milli_cpu[class as usize];
        let mut gpus = entry.gpus;
        let mut plan = Plan { rebuild_ms: 0, worker, asks: Vec::new() };
        let mut open = self.reclaimables.open(worker, now, grace_ms);
        // What each lease gives back in this plan, so that none counts for more than it is.
        let mut given: BTreeMap<TaskId, u64> = BTreeMap::new();
        loop {
            let lack_bytes = request.memory_request_bytes.saturating_sub(free_bytes);
            let fits = lack_bytes == 0
                && milli_cpu + u64::from(request.milli_cpu) <= budget
                && gpus + request.gpus <= entry.offer.gpus;
            if fits {
                return (!plan.asks.is_empty()).then_some(plan);
            }
            let (holder, reclaimable) = open.next()?;
            let Some(lease) = self.ledger.lease(reclaimable.task) else { continue };
            let given = given.entry(reclaimable.task).or_default();
            let left_bytes = lease.charge_bytes().saturating_sub(*given);
            if left_bytes == 0 {
                continue;
            }
            let bytes = match reclaimable.kind {
                // The holder is the task: its whole lease ends.
                ReclaimableKind::IdleTemplate | ReclaimableKind::IdleContainer => {
                    gpus -= lease.limits.gpus;
                    if lease.class == class {
                        milli_cpu -= u64::from(lease.limits.milli_cpu);
                    }
                    plan.asks.push((holder, reclaimable.bytes));
                    left_bytes
                }
                _ if lack_bytes == 0 => continue,
                _ => {
                    let bytes = asked_of(&reclaimable, lack_bytes);
                    plan.asks.push((holder, bytes));
                    bytes.min(left_bytes)
                }
            };
            free_bytes += bytes;
            *given += bytes;
            plan.rebuild_ms += reclaimable.rebuild_ms;
        }
    }
}

fn asked_of(reclaimable: &Reclaimable, lack_bytes: u64) -> u64 {
    if reclaimable.kind.is_divisible() {
        reclaimable.bytes.min(lack_bytes)
    } else {
        reclaimable.bytes
    }
}
