//! Each rule of placement in a small scene of its own.

use corral_placement::{
    Decision, Event, HolderId, LeaseLimits, Placement, Policy, Reclaimable, ReclaimableKind,
    Refusal, ResidentClaim, TICK_MS, TaskRequest, WaitReason, WorkClass, WorkerOffer,
};
use corral_types::{Explain, LeaseId, MIB, TaskId, Timestamp, WorkerId, WorkspaceId};

const GIB: u64 = 1024 * MIB;

/// A placement with a clock, and tasks by number.
struct Scene {
    placement: Placement,
    now: u64,
}

impl Scene {
    fn new() -> Self {
        Self { placement: Placement::new(Policy::default()), now: 1_000 }
    }

    fn apply(&mut self, event: Event) -> Vec<Decision> {
        self.placement.apply(Timestamp::from_millis(self.now), event)
    }

    fn join(&mut self, worker: u128, memory_bytes: u64) -> Vec<Decision> {
        let offer =
            WorkerOffer { memory_bytes, reserve_bytes: 100 * MIB, milli_cpu: 4_000, gpus: 0 };
        self.apply(Event::WorkerJoined { worker: wk(worker), offer, running: Vec::new() })
    }

    fn submit(&mut self, request: TaskRequest) -> Vec<Decision> {
        self.apply(Event::TaskSubmitted(request))
    }

    fn end(&mut self, number: u128) -> Vec<Decision> {
        self.apply(Event::TaskEnded { task: task(number) })
    }

    fn measure(&mut self, free_bytes: u64, leases: &[(u128, u64)]) -> Vec<Decision> {
        let leases = leases.iter().map(|&(number, bytes)| (task(number), bytes)).collect();
        self.apply(Event::Measured { worker: wk(1), free_memory_bytes: Some(free_bytes), leases })
    }

    fn hold(&mut self, holder: u64, number: u128, kind: ReclaimableKind, mib: u64, cost: u64) {
        let (bytes, rebuild_ms) = (mib * MIB, cost);
        let reclaimable =
            Reclaimable { worker: wk(1), task: task(number), kind, bytes, rebuild_ms };
        self.apply(Event::ReclaimableHeld { holder: HolderId(holder), reclaimable });
    }

    /// Lets time pass, tick by tick; what was decided on the way.
    fn pass(&mut self, millis: u64) -> Vec<Decision> {
        let end = self.now + millis;
        let mut decisions = Vec::new();
        while self.now < end {
            self.now += TICK_MS;
            decisions.extend(self.apply(Event::Tick));
        }
        decisions
    }
}

fn task(number: u128) -> TaskId {
    TaskId::from_u128(number)
}

fn wk(number: u128) -> WorkerId {
    WorkerId::from_u128(number)
}

fn request(number: u128, memory_request_bytes: u64) -> TaskRequest {
    TaskRequest {
        task: task(number),
        workspace: WorkspaceId::from_u128(1),
        class: WorkClass::Job,
        milli_cpu: 100,
        memory_request_bytes,
        memory_limit_bytes: None,
        gpus: 0,
        priority: 0,
        deadline: None,
        bring_back_ms: 0,
        preferred_worker: None,
    }
}

fn granted(decisions: &[Decision]) -> Vec<u128> {
    let grants = decisions.iter().filter_map(|decision| match decision {
        Decision::Grant { task, .. } => Some(task.as_u128()),
        _ => None,
    });
    grants.collect()
}

fn reclaimed(decisions: &[Decision]) -> Vec<(u64, u64)> {
    let reclaims = decisions.iter().filter_map(|decision| match decision {
        Decision::Reclaim { holder, bytes, .. } => Some((holder.0, bytes / MIB)),
        _ => None,
    });
    reclaims.collect()
}

fn stopped(decisions: &[Decision]) -> Vec<u128> {
    let stops = decisions.iter().filter_map(|decision| match decision {
        Decision::Stop { task, .. } => Some(task.as_u128()),
        _ => None,
    });
    stops.collect()
}

#[test]
fn two_that_do_not_fit_together_run_one_after_the_other() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    assert_eq!(granted(&scene.submit(request(1, 3 * GIB))), [1]);
    assert!(scene.submit(request(2, 3 * GIB)).is_empty());
    let Some(WaitReason::Busy { asked_bytes, most_free_bytes, ahead, reserved, .. }) =
        scene.placement.wait_reason(task(2))
    else {
        panic!("it waits");
    };
    assert_eq!((asked_bytes, most_free_bytes, ahead, reserved), (3 * GIB, GIB, 0, false));
    assert_eq!(granted(&scene.end(1)), [2]);
}

#[test]
fn a_lease_has_the_limit_that_was_asked_or_four_times_its_request() {
    let limit = |request: TaskRequest| {
        let mut scene = Scene::new();
        scene.join(1, 16 * GIB);
        match scene.submit(request).as_slice() {
            [Decision::Grant { limits: LeaseLimits { memory_limit_bytes, .. }, .. }] => {
                *memory_limit_bytes
            }
            other => panic!("not granted: {other:?}"),
        }
    };
    assert_eq!(limit(request(1, 100 * MIB)), 2 * GIB);
    assert_eq!(limit(request(1, GIB)), 4 * GIB);
    assert_eq!(limit(request(1, 8 * GIB)), 16 * GIB, "at most the worker");
    let asked = Some(3 * GIB);
    assert_eq!(limit(TaskRequest { memory_limit_bytes: asked, ..request(1, GIB) }), 3 * GIB);
}

#[test]
fn what_can_never_fit_is_refused_with_the_numbers_once_a_worker_is_known() {
    let mut scene = Scene::new();
    assert!(scene.submit(request(1, 64 * GIB)).is_empty(), "while none is known, it waits");
    assert_eq!(scene.placement.wait_reason(task(1)), Some(WaitReason::NoWorker));
    let refused = scene.join(1, 4 * GIB);
    let [Decision::Refuse { refusal, .. }] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(
        refusal.to_string(),
        "asked for 64.0 GiB of memory; the largest worker gives 4.00 GiB to tasks"
    );
    assert!(refusal.hint().unwrap().starts_with("ask for at most 4.00 GiB"));
    let check = |request: TaskRequest, expect: &str| {
        let refusal = scene.placement.refusal(&request).expect("it can never fit");
        assert_eq!(refusal.to_string(), expect);
    };
    check(
        TaskRequest { milli_cpu: 4_500, ..request(2, GIB) },
        "asked for 4.5 cores; the largest worker gives 4 to this class of work",
    );
    check(TaskRequest { gpus: 1, ..request(2, GIB) }, "asked for 1 GPUs; the largest worker has 0");
    check(
        TaskRequest { memory_limit_bytes: Some(MIB), ..request(2, GIB) },
        "the memory limit of 1.00 MiB is below the request of 1.00 GiB",
    );
    // A call may ask for more cores than there are; a job may not.
    let call = TaskRequest { milli_cpu: 4_500, class: WorkClass::Call, ..request(2, GIB) };
    assert_eq!(scene.placement.refusal(&call), None);
}

#[test]
fn what_only_a_lost_worker_could_hold_waits_for_it_and_then_is_refused() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.join(2, 32 * GIB);
    scene.apply(Event::WorkerLost { worker: wk(2) });
    assert!(scene.submit(request(1, 16 * GIB)).is_empty());
    assert_eq!(scene.placement.wait_reason(task(1)), Some(WaitReason::WorkerAway));
    assert_eq!(granted(&scene.join(2, 32 * GIB)), [1]);
    scene.submit(request(2, 30 * GIB));
    let lost = scene.apply(Event::WorkerLost { worker: wk(2) });
    assert!(
        matches!(lost.as_slice(), [Decision::LeaseLost { task, .. }] if *task == self::task(1))
    );
    let refused = scene.pass(11 * 60_000);
    assert!(matches!(
        refused.as_slice(),
        [Decision::Refuse { task, refusal: Refusal::Memory { .. } }] if *task == self::task(2)
    ));
}

#[test]
fn small_tasks_fill_the_gap_until_the_large_one_has_waited_its_bound() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, 3 * GIB));
    scene.submit(request(2, 4 * GIB));
    assert_eq!(granted(&scene.submit(request(3, GIB / 2))), [3], "backfill");
    assert!(scene.pass(61_000).is_empty());
    assert!(scene.submit(request(4, GIB / 2)).is_empty(), "the worker is kept for task 2");
    assert!(scene.end(1).is_empty());
    assert_eq!(granted(&scene.end(3)), [2]);
    assert_eq!(granted(&scene.end(2)), [4]);
}

#[test]
fn a_reservation_that_waits_in_vain_lets_others_through_again() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, 3 * GIB));
    scene.submit(request(2, 4 * GIB));
    scene.pass(61_000);
    assert!(scene.submit(request(3, GIB / 2)).is_empty());
    assert_eq!(granted(&scene.pass(10 * 60_000)), [3], "task 1 outlived the reservation");
    // It comes back later, for longer.
    let later = scene.pass(11 * 60_000);
    assert!(later.is_empty());
    assert!(scene.submit(request(4, GIB / 2)).is_empty());
    assert!(scene.pass(15 * 60_000).is_empty(), "held for 20 minutes this time");
}

#[test]
fn a_job_short_of_cores_does_not_keep_calls_out() {
    let mut scene = Scene::new();
    scene.join(1, 16 * GIB);
    scene.submit(TaskRequest { milli_cpu: 4_000, ..request(1, GIB) });
    scene.submit(TaskRequest { milli_cpu: 4_000, ..request(2, GIB) });
    scene.pass(61_000);
    let call = |number| TaskRequest { class: WorkClass::Call, ..request(number, GIB) };
    assert_eq!(granted(&scene.submit(call(3))), [3]);
    assert!(scene.submit(TaskRequest { milli_cpu: 0, ..request(4, 14 * GIB) }).is_empty());
}

#[test]
fn serving_comes_before_calls_before_jobs_and_priority_counts_within_a_class() {
    let mut scene = Scene::new();
    let with = |number, class, priority| TaskRequest { class, priority, ..request(number, GIB) };
    scene.submit(with(1, WorkClass::Job, 0));
    scene.submit(with(2, WorkClass::Job, 5));
    scene.submit(with(3, WorkClass::Call, 0));
    scene.submit(with(4, WorkClass::Serving, 0));
    assert_eq!(granted(&scene.join(1, 8 * GIB)), [4, 3, 2, 1]);
}

#[test]
fn a_deadline_that_passes_while_waiting_is_a_refusal() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, 4 * GIB));
    let deadline = Some(Timestamp::from_millis(scene.now + 5_000));
    scene.submit(TaskRequest { deadline, ..request(2, GIB) });
    let refused = scene.pass(6_000);
    assert!(matches!(
        refused.as_slice(),
        [Decision::Refuse { refusal: Refusal::DeadlinePassed { waited_ms: 5_000 }, .. }]
    ));
}

#[test]
fn what_is_measured_beyond_the_request_is_charged() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, GIB));
    scene.measure(8 * GIB, &[(1, 3 * GIB)]);
    assert!(scene.submit(request(2, 2 * GIB)).is_empty());
    assert_eq!(granted(&scene.measure(8 * GIB, &[(1, GIB)])), [2]);
}

#[test]
fn memory_that_others_on_the_machine_took_is_not_granted() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, GIB));
    // 2 GiB are free, one of them promised, 100 MiB in reserve.
    scene.measure(2 * GIB, &[(1, 0)]);
    assert!(scene.submit(request(2, GIB)).is_empty());
    assert_eq!(granted(&scene.submit(request(3, 900 * MIB))), [3]);
}

#[test]
fn under_pressure_the_cheapest_to_rebuild_goes_first_and_only_as_much_as_needed() {
    let mut scene = Scene::new();
    scene.join(1, 8 * GIB);
    for number in 1..=4 {
        scene.submit(request(number, GIB));
    }
    scene.hold(10, 1, ReclaimableKind::IdleContainer, 500, 1);
    scene.hold(11, 2, ReclaimableKind::MappedHeads, 30, 9);
    scene.hold(12, 3, ReclaimableKind::IdleTemplate, 20, 5);
    scene.hold(13, 4, ReclaimableKind::IdleTemplate, 10, 2);
    let decisions = scene.measure(55 * MIB, &[]);
    assert_eq!(reclaimed(&decisions), [(13, 10), (12, 20), (11, 15)]);
    assert!(stopped(&decisions).is_empty());
    assert!(reclaimed(&scene.measure(55 * MIB, &[])).is_empty(), "it is on its way");
    scene.now += 6_000;
    assert_eq!(
        reclaimed(&scene.measure(55 * MIB, &[])),
        [(13, 10), (12, 20), (11, 15)],
        "it was not"
    );
}

#[test]
fn then_the_task_of_the_lowest_priority_furthest_over_its_request_is_stopped() {
    let mut scene = Scene::new();
    scene.join(1, 8 * GIB);
    scene.submit(TaskRequest { priority: 1, ..request(1, GIB) });
    scene.submit(request(2, GIB));
    scene.submit(request(3, GIB));
    scene.submit(TaskRequest { priority: -1, ..request(4, GIB) });
    let usage = [(1, 3 * GIB), (2, GIB + MIB), (3, 2 * GIB), (4, GIB)];
    let decisions = scene.measure(10 * MIB, &usage);
    let [Decision::Stop { task: victim, numbers, .. }] = decisions.as_slice() else {
        panic!("{decisions:?}");
    };
    assert_eq!(*victim, task(3), "4 keeps to its request, 1 is of a higher priority");
    assert_eq!((numbers.request_bytes, numbers.measured_bytes), (GIB, 2 * GIB));
    assert_eq!((numbers.free_bytes, numbers.reserve_bytes), (10 * MIB, 100 * MIB));
    assert!(stopped(&scene.measure(10 * MIB, &usage)).is_empty(), "one at a time");
    scene.end(3);
    assert_eq!(stopped(&scene.measure(10 * MIB, &[(2, GIB + MIB)])), [2]);
    scene.end(2);
    scene.end(1);
    assert!(stopped(&scene.measure(10 * MIB, &[(4, GIB)])).is_empty(), "none within its request");
}

#[test]
fn what_idles_makes_room_for_what_waits() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, 2 * GIB));
    scene.submit(request(2, 2 * GIB));
    scene.hold(10, 1, ReclaimableKind::IdleContainer, 100, 50);
    scene.hold(11, 2, ReclaimableKind::IdleContainer, 100, 20);
    let asked = scene.submit(request(3, GIB));
    assert_eq!(reclaimed(&asked), [(11, 100)], "the cheaper of the two");
    assert!(granted(&scene.submit(request(4, 2 * GIB))).is_empty());
    assert_eq!(granted(&scene.end(2)), [3], "the room is kept for whom it was made");
}

#[test]
fn a_lease_shrinks_at_will_and_grows_into_what_is_free() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, 2 * GIB));
    scene.submit(request(2, GIB));
    let resize = |scene: &mut Scene, bytes| {
        let (memory_request_bytes, memory_limit_bytes) = (bytes, None);
        scene.apply(Event::LeaseResized { task: task(1), memory_request_bytes, memory_limit_bytes })
    };
    let refused = resize(&mut scene, 4 * GIB);
    assert!(matches!(
        refused.as_slice(),
        [Decision::GrowthRefused { asked_bytes, free_bytes, worker_bytes, .. }]
            if (*asked_bytes, *free_bytes, *worker_bytes) == (4 * GIB, GIB, 4 * GIB)
    ));
    let grown = resize(&mut scene, 3 * GIB);
    assert!(matches!(grown.as_slice(), [Decision::LeaseChanged { limits, .. }]
        if limits.memory_request_bytes == 3 * GIB));
    scene.submit(request(3, 2 * GIB));
    assert_eq!(granted(&resize(&mut scene, GIB)), [3]);
}

#[test]
fn the_servers_own_lease_comes_first_and_outlives_the_worker() {
    let mut scene = Scene::new();
    scene.submit(request(1, 3 * GIB));
    scene.apply(Event::ResidentClaimed(ResidentClaim {
        task: task(100),
        workspace: WorkspaceId::from_u128(9),
        worker: wk(1),
        memory_request_bytes: GIB,
        memory_limit_bytes: None,
    }));
    assert_eq!(granted(&scene.join(1, 4 * GIB)), [100, 1]);
    assert!(scene.placement.refusal(&request(2, 3 * GIB + MIB)).is_some(), "never beside it");
    let lost = scene.apply(Event::WorkerLost { worker: wk(1) });
    assert!(
        matches!(lost.as_slice(), [Decision::LeaseLost { task, .. }] if *task == self::task(1))
    );
    assert_eq!(granted(&scene.join(1, 4 * GIB)), [100]);
}

#[test]
fn a_claim_that_cannot_be_met_keeps_the_worker_until_it_is_given_up() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, 3 * GIB));
    scene.apply(Event::ResidentClaimed(ResidentClaim {
        task: task(100),
        workspace: WorkspaceId::from_u128(9),
        worker: wk(1),
        memory_request_bytes: 2 * GIB,
        memory_limit_bytes: None,
    }));
    assert!(scene.submit(request(2, GIB)).is_empty());
    assert_eq!(granted(&scene.end(100)), [2]);
}

#[test]
fn what_runs_on_a_worker_that_joins_is_charged_before_anything_is_granted() {
    let mut scene = Scene::new();
    scene.submit(request(1, 2 * GIB));
    let offer = WorkerOffer { memory_bytes: 4 * GIB, reserve_bytes: 0, milli_cpu: 4_000, gpus: 0 };
    let lease = LeaseId::from_u128(77);
    let running = vec![(request(2, 3 * GIB), lease)];
    let joined = scene.apply(Event::WorkerJoined { worker: wk(1), offer, running });
    assert!(joined.is_empty());
    assert!(scene.placement.leases().any(|view| view.lease == lease && view.task == task(2)));
    assert_eq!(granted(&scene.end(2)), [1]);
}

#[test]
fn a_draining_worker_takes_nothing_more_and_says_when_it_is_empty() {
    let mut scene = Scene::new();
    scene.join(1, 4 * GIB);
    scene.submit(request(1, GIB));
    assert!(scene.apply(Event::WorkerDraining { worker: wk(1) }).is_empty());
    assert!(scene.submit(request(2, GIB)).is_empty());
    assert_eq!(scene.end(1), [Decision::Drained { worker: wk(1) }]);
    assert_eq!(granted(&scene.join(1, 4 * GIB)), [2], "joined again, it is back");
}

#[test]
fn tasks_go_where_they_prefer_else_where_load_is_least() {
    let mut scene = Scene::new();
    scene.join(1, 8 * GIB);
    scene.join(2, 8 * GIB);
    let worker_of = |decisions: Vec<Decision>| match decisions.as_slice() {
        [Decision::Grant { worker, .. }] => worker.as_u128(),
        other => panic!("{other:?}"),
    };
    let prefers = Some(wk(2));
    let first = scene.submit(TaskRequest { preferred_worker: prefers, ..request(1, GIB) });
    assert_eq!(worker_of(first), 2);
    assert_eq!(worker_of(scene.submit(request(2, GIB))), 1, "the other one is idle");
}

/// What one event may cost with ten thousand tasks waiting behind it, in the dev profile
/// of a busy machine; `cargo run --release --example rate -p corral-placement` measures.
#[test]
fn ten_thousand_waiting_tasks_are_cheap() {
    let mut scene = Scene::new();
    scene.join(1, 64 * GIB);
    let mut running = std::collections::VecDeque::new();
    for number in 1..=10_000 {
        let workspace = WorkspaceId::from_u128(number % 50);
        let decisions =
            scene.submit(TaskRequest { workspace, milli_cpu: 1, ..request(number, GIB) });
        running.extend(granted(&decisions));
    }
    let started = std::time::Instant::now();
    let mut decided = 0;
    while let Some(number) = running.pop_front() {
        let decisions = scene.end(number);
        decided += decisions.len();
        running.extend(granted(&decisions));
    }
    assert_eq!(decided, 10_000 - 64);
    let per_decision = started.elapsed() / decided as u32;
    assert!(per_decision.as_micros() < 2_000, "{per_decision:?} a decision");
}
