//! Which waiting task gets which worker: turns, backfill and reservations.

use corral_types::{TaskId, Timestamp, WorkerId};

use crate::core::Placement;
use crate::ledger::{Presence, Tenure, Worker};
use crate::messages::{Decision, TaskRequest, WorkClass};
use crate::waiting::{QueueKey, Room};

/// A worker kept for a task that does not fit yet: what would take from it what the task
/// lacks is not granted there.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    pub request: TaskRequest,
    pub since: Timestamp,
    pub reason: ReservationReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReservationReason {
    /// Its queue got nothing for its bound; held this long.
    Overdue { hold_ms: u64 },
    /// Something was asked back to make room for it.
    Reclaiming,
    /// A resident of this machine comes before everything else.
    Resident,
}

/// For the first task of how many queues one event plans what to ask back: those whose
/// turn it is first; a plan looks at every worker and holder.
const RECLAIM_PLANS_PER_EVENT: usize = 16;

impl Placement {
    /// Grants all that fits, in this order: residents, those with a reservation, the
    /// first of every queue that is overdue, then everyone in turns.
    pub(crate) fn schedule(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        self.end_reservations(now);
        self.place_residents(now, out);
        self.place_reserved(now, out);
        self.place_overdue(now, out);
        self.take_turns(now, out);
    }

    fn end_reservations(&mut self, now: Timestamp) {
        let ended: Vec<WorkerId> = self
            .reservations
            .iter()
            .filter(|(_, reservation)| {
                let held_ms = now.since(reservation.since).as_millis();
                match reservation.reason {
                    ReservationReason::Overdue { hold_ms } => held_ms >= u128::from(hold_ms),
                    ReservationReason::Reclaiming => {
                        held_ms >= u128::from(self.policy.reclaim_grace_ms)
                    }
                    ReservationReason::Resident => false,
                }
            })
            .map(|(&worker, _)| worker)
            .collect();
        for worker in ended {
            let Some(ended) = self.reservations.remove(&worker) else { continue };
            if let ReservationReason::Overdue { hold_ms } = ended.reason {
                let key = QueueKey::of(&ended.request);
                self.waiting.hold_ran_out(now, &self.policy, key, hold_ms);
            }
        }
    }

    fn place_residents(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        let unplaced: Vec<_> = self
            .residents
            .values()
            .filter(|claim| self.ledger.lease(claim.task).is_none())
            .cloned()
            .collect();
        for claim in unplaced {
            let Some(worker) = self.ledger.worker(claim.worker) else { continue };
            if worker.presence != Presence::Present {
                continue;
            }
            let request = TaskRequest {
                task: claim.task,
                workspace: claim.workspace,
                class: WorkClass::Serving,
                milli_cpu: 0,
                memory_request_bytes: claim.memory_request_bytes,
                memory_limit_bytes: claim.memory_limit_bytes,
                gpus: 0,
                priority: 0,
                deadline: None,
                bring_back_ms: 0,
                preferred_worker: Some(claim.worker),
            };
            if worker.has_room(&self.policy, &request) {
                let tenure = Tenure::Resident { floor_bytes: claim.memory_request_bytes };
                self.grant(now, &request, claim.worker, tenure, out);
            } else {
                let reason = ReservationReason::Resident;
                let reservation = Reservation { request, since: now, reason };
                self.reservations.insert(claim.worker, reservation);
            }
        }
    }

    fn place_reserved(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        let mut reserved: Vec<_> = self
            .reservations
            .values()
            .filter(|reservation| reservation.reason != ReservationReason::Resident)
            .map(|reservation| (reservation.since, reservation.request.task))
            .collect();
        reserved.sort_unstable();
        for (_, task) in reserved {
            self.place(now, task, out);
        }
    }

    fn place_overdue(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        let overdue: Vec<QueueKey> =
            self.waiting.due_queues(now).take(self.policy.looks_per_event).collect();
        for key in overdue {
            let Some(task) = self.waiting.queue(key).and_then(|queue| queue.first()) else {
                continue;
            };
            if self.place_or_reclaim(now, task, out) || self.has_reservation(key) {
                continue;
            }
            if self.reservations.len() >= self.most_reservations() {
                break;
            }
            self.reserve_for_overdue(now, key, task);
        }
    }

    /// One pass over the waiting in the order of turns. Granting takes room and gives
    /// none, so what did not fit once in a pass is not asked again.
    fn take_turns(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        let mut looks = self.policy.looks_per_event;
        let mut reclaims = RECLAIM_PLANS_PER_EVENT;
        let mut room = self.most_room();
        let mut last = None;
        while let Some(turn) = self.fairness.next(last) {
            let least = self.waiting.least_request_bytes();
            if least.is_none_or(|least| room.memory_bytes < least && self.reclaimables.is_empty()) {
                return;
            }
            'queues: for key in self.fairness.queue_keys(turn.workspace) {
                let mut behind = None;
                while let Some((place, task)) =
                    self.waiting.next_with_chance(key, behind, &room, &mut looks)
                {
                    behind = Some(place);
                    if self.place(now, task, out) {
                        looks = self.policy.looks_per_event;
                        room = self.most_room();
                        break 'queues;
                    }
                }
                if looks == 0 {
                    return;
                }
                let first = self.waiting.queue(key).and_then(|queue| queue.first());
                if let Some(first) = first.filter(|_| reclaims > 0) {
                    reclaims -= 1;
                    self.reclaim_for_task(now, first, out);
                }
            }
            // A grant moved the workspace behind this turn, from where it comes up again.
            last = Some(turn);
        }
    }

    /// The most of each resource that is free on any worker: what lies above it fits
    /// nowhere, without looking at each.
    fn most_room(&self) -> Room {
        let mut room = Room::default();
        for worker in self.ledger.workers().values() {
            if worker.presence != Presence::Present {
                continue;
            }
            room.memory_bytes = room.memory_bytes.max(worker.available_bytes());
            room.gpus = room.gpus.max(worker.offer.gpus.saturating_sub(worker.gpus));
            for class in WorkClass::ALL {
                let budget = self.policy.cpu_budget(class, worker.offer.milli_cpu);
                let free = budget.saturating_sub(worker.milli_cpu[class as usize]);
                let most = &mut room.milli_cpu[class as usize];
                *most = (*most).max(free);
            }
        }
        room
    }

    /// Grants the task if it fits anywhere; else asks back what makes room for it. Whether
    /// it was granted.
    pub(crate) fn place_or_reclaim(
        &mut self,
        now: Timestamp,
        task: TaskId,
        out: &mut Vec<Decision>,
    ) -> bool {
        self.place(now, task, out) || {
            self.reclaim_for_task(now, task, out);
            false
        }
    }

    fn place(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Decision>) -> bool {
        let Some(waiting) = self.waiting.task(task) else { return false };
        let Some(worker) = self.best_worker(&waiting.request) else { return false };
        let request = waiting.request.clone();
        self.grant(now, &request, worker, Tenure::Task, out);
        true
    }

    /// The worker for a request: the preferred one if it fits there; else one without a
    /// GPU to spare for others, the least loaded, the tightest.
    fn best_worker(&self, request: &TaskRequest) -> Option<WorkerId> {
        let fits = |id: WorkerId, worker: &Worker| {
            worker.has_room(&self.policy, request) && self.leaves_reserved(id, worker, request)
        };
        if let Some(preferred) = request.preferred_worker
            && self.ledger.worker(preferred).is_some_and(|worker| fits(preferred, worker))
        {
            return Some(preferred);
        }
        self.ledger
            .workers()
            .iter()
            .filter(|&(&id, worker)| fits(id, worker))
            .min_by_key(|&(&id, worker)| {
                let wasted_gpus = worker.offer.gpus.saturating_sub(request.gpus);
                let asked = worker.milli_cpu.iter().sum::<u64>() + u64::from(request.milli_cpu);
                let load = asked * 1_000 / u64::from(worker.offer.milli_cpu.max(1));
                (wasted_gpus, load, worker.available_bytes(), id)
            })
            .map(|(&id, _)| id)
    }

    /// Whether the request, granted here, takes nothing that the task for which the
    /// worker is reserved needs.
    fn leaves_reserved(&self, id: WorkerId, worker: &Worker, request: &TaskRequest) -> bool {
        let Some(Reservation { request: kept, .. }) = self.reservations.get(&id) else {
            return true;
        };
        if kept.task == request.task {
            return true;
        }
        let both_bytes = request.memory_request_bytes.saturating_add(kept.memory_request_bytes);
        let both_cpu = u64::from(request.milli_cpu) + u64::from(kept.milli_cpu);
        let class = request.class;
        let cpu_left = class != kept.class
            || worker.milli_cpu[class as usize] + both_cpu
                <= self.policy.cpu_budget(class, worker.offer.milli_cpu);
        let gpus_left =
            request.gpus == 0 || worker.gpus + request.gpus + kept.gpus <= worker.offer.gpus;
        both_bytes <= worker.available_bytes() && cpu_left && gpus_left
    }

    /// Half of the workers stay open, so that large tasks do not stop the small ones
    /// everywhere at once; of one worker, the one.
    pub(crate) fn most_reservations(&self) -> usize {
        let present = |worker: &&Worker| worker.presence == Presence::Present;
        (self.ledger.workers().values().filter(present).count() / 2).max(1)
    }

    fn has_reservation(&self, key: QueueKey) -> bool {
        self.reservations.values().any(|reservation| QueueKey::of(&reservation.request) == key)
    }

    fn reserve_for_overdue(&mut self, now: Timestamp, key: QueueKey, task: TaskId) {
        let Some(waiting) = self.waiting.task(task) else { return };
        let request = &waiting.request;
        let nearest = self
            .ledger
            .workers()
            .iter()
            .filter(|&(id, worker)| {
                worker.presence == Presence::Present
                    && worker.could_hold(&self.policy, request)
                    && !self.reservations.contains_key(id)
            })
            .min_by_key(|&(&id, worker)| {
                let lacks = request.memory_request_bytes.saturating_sub(worker.available_bytes());
                (lacks, id)
            })
            .map(|(&id, _)| id);
        let Some(worker) = nearest else { return };
        let held_before = self.waiting.queue(key).map_or(0, |queue| queue.held_in_vain_ms());
        let hold_ms = (held_before * 2)
            .clamp(self.policy.reservation_hold_ms, self.policy.max_reservation_hold_ms);
        let reason = ReservationReason::Overdue { hold_ms };
        let reservation = Reservation { request: request.clone(), since: now, reason };
        self.reservations.insert(worker, reservation);
    }
}
