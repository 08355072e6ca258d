//! Random worlds through placement: thousands of seeds, every decision checked.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod rng;
mod shadow;
mod starvation;

use std::hash::{DefaultHasher, Hash, Hasher};

use corral_placement::{
    Decision, Event, HolderId, Placement, Policy, Reclaimable, ReclaimableKind, TaskRequest,
    WorkClass, WorkerOffer,
};
use corral_types::{MIB, TaskId, Timestamp, WorkerId, WorkspaceId};
use rng::Rng;
use shadow::{Machine, Shadow};

const STEP_MS: u64 = 500;
/// How many worlds are run; `CORRAL_SIMULATION_SEEDS` for more.
const SEEDS: u64 = 3_000;

struct World {
    rng: Rng,
    now: u64,
    policy: Policy,
    placement: Placement,
    shadow: Shadow,
    /// When each running task ends by itself.
    ends: Vec<(u64, TaskId)>,
    /// How much of the machine something else takes.
    outside: u64,
    tasks: u64,
    holders: u64,
    trace: DefaultHasher,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let policy = Policy {
            reservation_hold_ms: rng.between(5_000, 60_000),
            lost_worker_known_ms: 20_000,
            looks_per_event: rng.between(2, 64) as usize,
            ..Policy::default()
        };
        let placement = Placement::new(policy.clone());
        Self {
            rng,
            now: 1_000_000,
            policy,
            placement,
            shadow: Shadow::default(),
            ends: Vec::new(),
            outside: 0,
            tasks: 0,
            holders: 0,
            trace: DefaultHasher::new(),
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn apply(&mut self, event: Event) -> Vec<Decision> {
        let now = self.at();
        let decisions = self.placement.apply(now, event);
        format!("{decisions:?}").hash(&mut self.trace);
        self.shadow.check(now, &decisions, &self.policy);
        for decision in &decisions {
            if let Decision::Grant { task, .. } = decision {
                let ends = self.now + self.rng.between(1, 20_000);
                self.ends.push((ends, *task));
            }
        }
        let totals = self.placement.totals();
        assert_eq!(totals.waiting, self.shadow.waiting.len(), "waiting");
        assert_eq!(totals.leases, self.shadow.running.len(), "leases");
        decisions
    }

    fn offer(&mut self) -> WorkerOffer {
        WorkerOffer {
            memory_bytes: self.rng.between(1, 16) * 1024 * MIB,
            reserve_bytes: 256 * MIB,
            milli_cpu: self.rng.between(1, 8) as u32 * 1_000,
            gpus: if self.rng.chance(20) { self.rng.between(1, 4) as u32 } else { 0 },
        }
    }

    fn join(&mut self, worker: WorkerId) {
        let offer = match self.shadow.machines.get(&worker) {
            Some(machine) if self.rng.chance(80) => machine.offer,
            _ => self.offer(),
        };
        let machine =
            Machine { offer, present: true, draining: false, forgotten: false, free: None };
        let free =
            self.shadow.machines.get(&worker).filter(|old| old.present).and_then(|old| old.free);
        self.shadow.machines.insert(worker, Machine { free, ..machine });
        self.apply(Event::WorkerJoined { worker, offer, running: Vec::new() });
    }

    fn submit(&mut self) {
        self.tasks += 1;
        let task = TaskId::from_u128(u128::from(self.tasks));
        let memory_request_bytes = match self.rng.between(0, 9) {
            0 => self.rng.between(1, 20) * 1024 * MIB,
            1..=3 => self.rng.between(1, 4) * 1024 * MIB,
            _ => self.rng.between(16, 1024) * MIB,
        };
        let limit = self.rng.chance(30);
        let deadline = self.rng.chance(10);
        let prefers = self.rng.chance(20);
        let request = TaskRequest {
            task,
            workspace: WorkspaceId::from_u128(u128::from(self.rng.between(1, 4))),
            class: WorkClass::ALL[self.rng.between(0, 2) as usize],
            milli_cpu: self.rng.between(0, 3_000) as u32,
            memory_request_bytes,
            memory_limit_bytes: limit
                .then(|| memory_request_bytes + self.rng.between(0, 2_048) * MIB),
            gpus: if self.rng.chance(8) { self.rng.between(1, 2) as u32 } else { 0 },
            priority: self.rng.between(0, 4) as i32 - 2,
            deadline: deadline
                .then(|| Timestamp::from_millis(self.now + self.rng.between(500, 60_000))),
            bring_back_ms: self.rng.between(0, 1_000),
            preferred_worker: prefers
                .then(|| WorkerId::from_u128(u128::from(self.rng.between(1, 5)))),
        };
        self.shadow.waiting.insert(task, (request.clone(), self.at()));
        self.apply(Event::TaskSubmitted(request));
    }

    /// The task is over, and with it what could be taken from it.
    fn end(&mut self, task: TaskId) {
        if let Some(running) = self.shadow.running.remove(&task) {
            let machine = self.shadow.machines.get_mut(&running.worker).unwrap();
            machine.free = machine.free.map(|free| free + running.measured);
            self.shadow.over.insert(task);
            self.shadow.reclaimables.retain(|_, held| held.task != task);
            self.apply(Event::TaskEnded { task });
        }
    }

    fn lose(&mut self, worker: WorkerId) {
        if let Some(machine) = self.shadow.machines.get_mut(&worker) {
            machine.present = false;
            machine.draining = false;
            machine.free = None;
            self.shadow.reclaimables.retain(|_, held| held.worker != worker);
            self.apply(Event::WorkerLost { worker });
        }
    }

    /// What the machine's worker would measure: usage moves, some of it far beyond the
    /// request.
    fn measure(&mut self, worker: WorkerId) {
        let mut leases = Vec::new();
        let mut used = self.outside;
        for (&task, running) in &mut self.shadow.running {
            if running.worker == worker {
                running.measured = match self.rng.between(0, 9) {
                    0 => running.measured + self.rng.between(0, running.request_bytes),
                    1..=5 => running.measured.max(running.request_bytes / 2),
                    _ => running.measured,
                };
                used += running.measured;
                leases.push((task, running.measured));
            }
        }
        let machine = self.shadow.machines.get_mut(&worker).unwrap();
        let total = machine.offer.memory_bytes + machine.offer.reserve_bytes + 256 * MIB;
        let free = total.saturating_sub(used);
        machine.free = Some(free);
        let event = Event::Measured { worker, free_memory_bytes: Some(free), leases };
        let decisions = self.apply(event);
        self.obey(&decisions);
    }

    /// Holders give back, stopped tasks end: some at once, some later or never.
    fn obey(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            match *decision {
                Decision::Stop { task, .. } if self.rng.chance(70) => self.end(task),
                Decision::Reclaim { holder, bytes, .. } if self.rng.chance(70) => {
                    let Some(held) = self.shadow.reclaimables.get(&holder).copied() else {
                        continue;
                    };
                    let whole = [ReclaimableKind::IdleContainer, ReclaimableKind::IdleTemplate];
                    if whole.contains(&held.kind) {
                        self.end(held.task);
                    } else if held.bytes > bytes {
                        let reclaimable = Reclaimable { bytes: held.bytes - bytes, ..held };
                        self.shadow.reclaimables.insert(holder, reclaimable);
                        self.apply(Event::ReclaimableHeld { holder, reclaimable });
                    } else {
                        self.shadow.reclaimables.remove(&holder);
                        self.apply(Event::ReclaimableGone { holder });
                    }
                }
                _ => {}
            }
        }
    }

    fn hold(&mut self) {
        let running: Vec<_> =
            self.shadow.running.iter().map(|(&task, one)| (task, one.worker)).collect();
        let Some(&(task, worker)) = self.rng.pick(&running) else { return };
        self.holders += 1;
        let kinds = [
            ReclaimableKind::IdleTemplate,
            ReclaimableKind::DecodedCache,
            ReclaimableKind::MappedHeads,
            ReclaimableKind::ResidentSession,
            ReclaimableKind::IdleContainer,
        ];
        let reclaimable = Reclaimable {
            worker,
            task,
            kind: *self.rng.pick(&kinds).unwrap(),
            bytes: self.rng.between(1, 512) * MIB,
            rebuild_ms: self.rng.between(1, 1_000),
        };
        let holder = HolderId(self.holders);
        self.shadow.reclaimables.insert(holder, reclaimable);
        let decisions = self.apply(Event::ReclaimableHeld { holder, reclaimable });
        self.obey(&decisions);
    }

    fn resize(&mut self) {
        let running: Vec<_> =
            self.shadow.running.iter().map(|(&task, one)| (task, one.request_bytes)).collect();
        if let Some(&(task, bytes)) = self.rng.pick(&running) {
            let memory_request_bytes = self.rng.between(MIB, bytes * 2);
            let memory_limit_bytes = None;
            self.apply(Event::LeaseResized { task, memory_request_bytes, memory_limit_bytes });
        }
    }

    fn step(&mut self) {
        self.now += self.rng.between(1, STEP_MS);
        let due: Vec<TaskId> =
            self.ends.extract_if(.., |(at, _)| *at <= self.now).map(|(_, task)| task).collect();
        for task in due {
            self.end(task);
        }
        let worker = WorkerId::from_u128(u128::from(self.rng.between(1, 5)));
        let present = self.shadow.machines.get(&worker).is_some_and(|machine| machine.present);
        match self.rng.between(0, 99) {
            0..=39 => self.submit(),
            40..=59 if present => self.measure(worker),
            60..=62 => self.join(worker),
            63..=64 => self.lose(worker),
            65 if present => {
                self.shadow.machines.get_mut(&worker).unwrap().draining = true;
                self.apply(Event::WorkerDraining { worker });
            }
            66..=70 => self.hold(),
            71..=74 => self.resize(),
            75..=77 => {
                let waiting: Vec<_> = self.shadow.waiting.keys().copied().collect();
                if let Some(&task) = self.rng.pick(&waiting) {
                    self.shadow.waiting.remove(&task);
                    self.shadow.over.insert(task);
                    self.apply(Event::TaskWithdrawn { task });
                }
            }
            78..=79 => self.outside = self.rng.between(0, 1_024) * MIB,
            _ => self.tick(),
        }
    }

    fn tick(&mut self) {
        // Whether a lost worker is forgotten by now is for placement to say.
        let known: Vec<_> = self.placement.workers().map(|view| view.worker).collect();
        for (worker, machine) in &mut self.shadow.machines {
            machine.forgotten = !known.contains(worker);
        }
        let forget: Vec<_> = self.lost_for_long();
        for worker in forget {
            self.shadow.machines.get_mut(&worker).unwrap().forgotten = true;
        }
        self.apply(Event::Tick);
    }

    /// Workers that are away: any of them may be forgotten by the next tick.
    fn lost_for_long(&self) -> Vec<WorkerId> {
        let away = self.shadow.machines.iter().filter(|(_, machine)| !machine.present);
        away.map(|(&worker, _)| worker).collect()
    }

    /// Everyone comes back and nothing new comes: all that waits is granted.
    fn calm_down(&mut self) {
        self.outside = 0;
        for number in 1..=5 {
            let worker = WorkerId::from_u128(number);
            self.join(worker);
        }
        for _ in 0..20_000 {
            if self.shadow.waiting.is_empty() && self.shadow.running.is_empty() {
                return;
            }
            self.now += STEP_MS;
            let due: Vec<TaskId> =
                self.ends.extract_if(.., |(at, _)| *at <= self.now).map(|(_, task)| task).collect();
            for task in due {
                self.end(task);
            }
            for number in 1..=5 {
                self.measure(WorkerId::from_u128(number));
            }
            self.tick();
        }
        panic!("{} still wait", self.shadow.waiting.len());
    }

    fn run(mut self) -> (u64, usize) {
        for _ in 0..250 {
            self.step();
        }
        self.calm_down();
        let accounted = self.shadow.refused.len() + self.shadow.over.len();
        assert_eq!(accounted as u64, self.tasks, "each task ended in one way");
        (self.trace.finish(), self.shadow.waits_ms.len())
    }
}

/// Runs a seed, and names it if it fails.
fn with_seed<T>(seed: u64, run: impl FnOnce() -> T + std::panic::UnwindSafe) -> T {
    match std::panic::catch_unwind(run) {
        Ok(value) => value,
        Err(panic) => {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn every_decision_keeps_the_rules_in_thousands_of_worlds() {
    let wanted = std::env::var("CORRAL_SIMULATION_SEEDS").ok();
    let seeds = wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(SEEDS);
    let mut granted = 0;
    for seed in 0..seeds {
        granted += with_seed(seed, || World::new(seed).run()).1;
    }
    let least = 30 * seeds as usize;
    assert!(granted > least, "only {granted} grants: the worlds are too poor to show anything");
}

#[test]
fn the_same_seed_gives_the_same_decisions() {
    for seed in 0..200 {
        assert_eq!(World::new(seed).run(), World::new(seed).run(), "seed {seed}");
    }
}
