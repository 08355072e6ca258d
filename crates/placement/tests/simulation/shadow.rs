//! A second, simpler bookkeeping of what placement decided, which checks every decision
//! against the rules.

use std::collections::{BTreeMap, BTreeSet};

use corral_placement::{
    Decision, HolderId, Policy, Reclaimable, Refusal, TaskRequest, WorkClass, WorkerOffer,
};
use corral_types::{LeaseId, TaskId, Timestamp, WorkerId};

#[derive(Clone, Debug)]
pub struct Machine {
    pub offer: WorkerOffer,
    pub present: bool,
    pub draining: bool,
    /// Lost so long ago that nobody counts on it.
    pub forgotten: bool,
    /// As last measured, with what ended tasks gave back since.
    pub free: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Running {
    pub request: TaskRequest,
    pub worker: WorkerId,
    pub lease: LeaseId,
    pub request_bytes: u64,
    pub measured: u64,
    pub stopping: bool,
}

#[derive(Default)]
pub struct Shadow {
    pub machines: BTreeMap<WorkerId, Machine>,
    pub waiting: BTreeMap<TaskId, (TaskRequest, Timestamp)>,
    pub running: BTreeMap<TaskId, Running>,
    pub refused: BTreeSet<TaskId>,
    pub over: BTreeSet<TaskId>,
    pub reclaimables: BTreeMap<HolderId, Reclaimable>,
    pub waits_ms: Vec<u64>,
}

impl Shadow {
    fn on(&self, worker: WorkerId) -> impl Iterator<Item = &Running> {
        self.running.values().filter(move |running| running.worker == worker)
    }

    pub fn charged(&self, worker: WorkerId) -> u64 {
        self.on(worker).map(|running| running.request_bytes.max(running.measured)).sum()
    }

    pub fn promised(&self, worker: WorkerId) -> u64 {
        self.on(worker).map(|running| running.request_bytes.saturating_sub(running.measured)).sum()
    }

    pub fn requested(&self, worker: WorkerId) -> u64 {
        self.on(worker).map(|running| running.request_bytes).sum()
    }

    /// Checks each decision in turn against what was the case before it.
    pub fn check(&mut self, now: Timestamp, decisions: &[Decision], policy: &Policy) {
        let mut asked: BTreeMap<WorkerId, (u8, u64)> = BTreeMap::new();
        for decision in decisions {
            match decision {
                Decision::Grant { task, worker, limits } => {
                    let (request, since) = self
                        .waiting
                        .remove(task)
                        .unwrap_or_else(|| panic!("{task} was granted and does not wait"));
                    let machine = &self.machines[worker];
                    assert!(machine.present && !machine.draining, "granted on a worker not there");
                    let asks = request.memory_request_bytes;
                    assert_eq!(limits.memory_request_bytes, asks);
                    let charged = self.charged(*worker);
                    assert!(
                        charged + asks <= machine.offer.memory_bytes,
                        "{charged} are charged, {asks} more were granted"
                    );
                    if let Some(free) = machine.free {
                        let promised = self.promised(*worker);
                        assert!(
                            promised + asks + machine.offer.reserve_bytes <= free,
                            "{free} are free, {promised} promised, {asks} more were granted"
                        );
                    }
                    let (cpu, gpus) = self.on(*worker).fold((0, 0), |(cpu, gpus), other| {
                        let same = other.request.class == request.class;
                        let cpu = cpu + u64::from(other.request.milli_cpu) * u64::from(same);
                        (cpu, gpus + other.request.gpus)
                    });
                    let percent = match request.class {
                        WorkClass::Job => policy.job_cpu_percent,
                        WorkClass::Call => policy.call_cpu_percent,
                        WorkClass::Serving => policy.serving_cpu_percent,
                    };
                    let budget = u64::from(machine.offer.milli_cpu) * u64::from(percent) / 100;
                    assert!(cpu + u64::from(request.milli_cpu) <= budget, "CPU of the class");
                    assert!(gpus + request.gpus <= machine.offer.gpus, "GPUs");
                    let limit = limits.memory_limit_bytes;
                    assert!(limit >= asks && limit <= machine.offer.memory_bytes.max(asks));
                    let expected = request
                        .memory_limit_bytes
                        .unwrap_or((asks * 4).max(2 << 30))
                        .min(machine.offer.memory_bytes);
                    assert_eq!(limit, expected.max(asks), "the limit follows its rule");
                    self.waits_ms.push(now.since(since).as_millis() as u64);
                    let running = Running {
                        request,
                        worker: *worker,
                        lease: limits.lease,
                        request_bytes: asks,
                        measured: 0,
                        stopping: false,
                    };
                    self.running.insert(*task, running);
                }
                Decision::Refuse { task, refusal } => {
                    let (request, _) = self.waiting.remove(task).expect("refused one that waits");
                    self.check_refusal(now, &request, refusal, policy);
                    self.refused.insert(*task);
                }
                Decision::LeaseLost { task, worker, lease } => {
                    let running = self.running.remove(task).expect("lost one that runs");
                    assert_eq!((running.worker, running.lease), (*worker, *lease));
                    self.over.insert(*task);
                }
                Decision::Stop { task, worker, numbers } => {
                    let machine = &self.machines[worker];
                    let victim = &self.running[task];
                    assert!(numbers.free_bytes < machine.offer.reserve_bytes, "no pressure");
                    assert_eq!(numbers.measured_bytes, victim.measured);
                    assert_eq!(numbers.request_bytes, victim.request_bytes);
                    let over = |one: &Running| one.measured.saturating_sub(one.request_bytes);
                    assert!(over(victim) > 0, "stopped one within its request");
                    for other in self.on(*worker).filter(|other| !other.stopping) {
                        let better = over(other) > 0
                            && (other.request.priority < victim.request.priority
                                || other.request.priority == victim.request.priority
                                    && over(other) > over(victim));
                        assert!(!better, "another should have been stopped: {other:?}");
                    }
                    self.running.get_mut(task).unwrap().stopping = true;
                }
                Decision::Reclaim { worker, holder, bytes } => {
                    let held = self.reclaimables[holder];
                    assert!(held.worker == *worker && *bytes <= held.bytes && *bytes > 0);
                    let order = (held.kind as u8, held.rebuild_ms);
                    // While nobody waits, memory is asked back for the reserve alone, and
                    // what is cheapest to rebuild comes first.
                    if let Some(before) = asked.insert(*worker, order)
                        && self.waiting.is_empty()
                    {
                        assert!(before <= order, "{before:?} was asked before {order:?}");
                    }
                }
                Decision::LeaseChanged { task, worker, limits } => {
                    let running = self.running.get_mut(task).expect("changed one that runs");
                    let grew = limits.memory_request_bytes > running.request_bytes;
                    running.request_bytes = limits.memory_request_bytes;
                    let offered = self.machines[worker].offer.memory_bytes;
                    assert!(!grew || self.requested(*worker) <= offered, "grown beyond the worker");
                }
                Decision::GrowthRefused { .. } | Decision::Drained { .. } => {}
            }
        }
    }

    fn check_refusal(
        &self,
        now: Timestamp,
        request: &TaskRequest,
        refusal: &Refusal,
        policy: &Policy,
    ) {
        if let Refusal::DeadlinePassed { .. } = refusal {
            assert!(request.deadline.is_some_and(|deadline| deadline <= now));
            return;
        }
        let known =
            self.machines.values().filter(|machine| !machine.draining && !machine.forgotten);
        for machine in known {
            let cpu = u64::from(machine.offer.milli_cpu)
                * u64::from(match request.class {
                    WorkClass::Job => policy.job_cpu_percent,
                    WorkClass::Call => policy.call_cpu_percent,
                    WorkClass::Serving => policy.serving_cpu_percent,
                })
                / 100;
            let holds = request.memory_request_bytes <= machine.offer.memory_bytes
                && u64::from(request.milli_cpu) <= cpu
                && request.gpus <= machine.offer.gpus;
            assert!(!holds, "refused {request:?} although {machine:?} can hold it");
        }
    }
}
