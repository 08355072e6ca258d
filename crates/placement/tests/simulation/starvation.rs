//! Nobody waits for ever: large tasks among streams of small ones, on a machine that is
//! always full.

use corral_placement::{Decision, Event, Placement, Policy, TaskRequest, WorkClass, WorkerOffer};
use corral_types::{MIB, TaskId, Timestamp, WorkerId, WorkspaceId};

use crate::rng::Rng;

const RUN_MS: u64 = 4_000;
const STEP_MS: u64 = 250;

struct Crowd {
    placement: Placement,
    now: u64,
    tasks: u64,
    waiting: Vec<(TaskId, u64, bool)>,
    ends: Vec<(u64, TaskId)>,
    longest_large_ms: u64,
    longest_small_ms: u64,
    large_granted: u64,
}

impl Crowd {
    fn apply(&mut self, event: Event) {
        for decision in self.placement.apply(Timestamp::from_millis(self.now), event) {
            if let Decision::Grant { task, .. } = decision {
                let index = self.waiting.iter().position(|(id, ..)| *id == task).unwrap();
                let (_, since, large) = self.waiting.swap_remove(index);
                let waited = self.now - since;
                if large {
                    self.large_granted += 1;
                    self.longest_large_ms = self.longest_large_ms.max(waited);
                } else {
                    self.longest_small_ms = self.longest_small_ms.max(waited);
                }
                self.ends.push((self.now + RUN_MS, task));
            }
        }
    }

    fn submit(&mut self, workspace: u128, bytes: u64, class: WorkClass, priority: i32) {
        self.tasks += 1;
        let task = TaskId::from_u128(u128::from(self.tasks));
        self.waiting.push((task, self.now, bytes > 2_048 * MIB));
        self.apply(Event::TaskSubmitted(TaskRequest {
            task,
            workspace: WorkspaceId::from_u128(workspace),
            class,
            milli_cpu: 0,
            memory_request_bytes: bytes,
            memory_limit_bytes: None,
            gpus: 0,
            priority,
            deadline: None,
            bring_back_ms: 0,
            preferred_worker: None,
        }));
    }
}

/// One task at a time wants the whole worker; `small` more come from each of `others`
/// workspaces in every step, more than the worker can run.
fn crowd(seed: u64, others: u128, small: usize, same_queue: bool) -> Crowd {
    let mut rng = Rng::new(seed);
    let policy = Policy { job_bound_ms: 10_000, priority_step_ms: 20_000, ..Policy::default() };
    let mut crowd = Crowd {
        placement: Placement::new(policy),
        now: 0,
        tasks: 0,
        waiting: Vec::new(),
        ends: Vec::new(),
        longest_large_ms: 0,
        longest_small_ms: 0,
        large_granted: 0,
    };
    let offer =
        WorkerOffer { memory_bytes: 8_192 * MIB, reserve_bytes: 0, milli_cpu: 8_000, gpus: 0 };
    crowd.apply(Event::WorkerJoined { worker: WorkerId::from_u128(1), offer, running: Vec::new() });
    for step in 0..2_400 {
        crowd.now += STEP_MS;
        let now = crowd.now;
        let due: Vec<TaskId> =
            crowd.ends.extract_if(.., |(at, _)| *at <= now).map(|(_, task)| task).collect();
        for task in due {
            crowd.apply(Event::TaskEnded { task });
        }
        for other in 0..others {
            let queued = crowd.waiting.len();
            if queued < 200 {
                for _ in 0..small {
                    let workspace = if same_queue { 1 } else { other + 2 };
                    let bytes = rng.between(512, 1_024) * MIB;
                    crowd.submit(workspace, bytes, WorkClass::Job, rng.between(0, 1) as i32);
                }
            }
        }
        // Rare enough that one is over before the next comes.
        if step % 200 == 0 {
            crowd.submit(1, 8_192 * MIB, WorkClass::Job, 0);
        }
        crowd.apply(Event::Tick);
    }
    crowd
}

#[test]
fn a_large_task_of_another_workspace_runs_within_its_bound_and_the_drain() {
    for seed in 0..20 {
        for others in 1..=3 {
            let crowd = crowd(seed, others, 4, false);
            // The bound, then at most one reservation of each other queue that became due
            // before and its run, then the drain: each at most a run long.
            let per_turn_ms = 2 * RUN_MS + 2 * STEP_MS;
            let bound_ms = 10_000 + (others as u64 + 1) * per_turn_ms;
            assert!(crowd.large_granted >= 10, "seed {seed}: {}", crowd.large_granted);
            assert!(
                crowd.longest_large_ms <= bound_ms,
                "seed {seed}, {others} others: waited {} of {bound_ms} ms",
                crowd.longest_large_ms
            );
        }
    }
}

#[test]
fn a_large_task_is_not_overtaken_for_ever_in_its_own_queue() {
    for seed in 0..20 {
        let crowd = crowd(seed, 1, 4, true);
        // Before it stand the 200 that came earlier, and the urgent ones of the next 20 s;
        // some 10 run at a time. Then its bound and the drain.
        let bound_ms = 20_000 + (200 / 10 + 1) * RUN_MS * 2 + 10_000 + 2 * RUN_MS;
        assert!(crowd.large_granted >= 5, "seed {seed}: {}", crowd.large_granted);
        assert!(
            crowd.longest_large_ms <= bound_ms,
            "seed {seed}: waited {} of {bound_ms} ms",
            crowd.longest_large_ms
        );
    }
}

#[test]
fn workspaces_share_by_their_weights() {
    let light = WorkspaceId::from_u128(1);
    let heavy = WorkspaceId::from_u128(2);
    let policy = Policy { workspace_weights: [(heavy, 3)].into(), ..Policy::default() };
    let mut placement = Placement::new(policy);
    let offer =
        WorkerOffer { memory_bytes: 8_000 * MIB, reserve_bytes: 0, milli_cpu: 100_000, gpus: 0 };
    let now = Timestamp::from_millis(1);
    let worker = WorkerId::from_u128(1);
    for number in 0..100u128 {
        let workspace = if number < 50 { light } else { heavy };
        placement.apply(
            now,
            Event::TaskSubmitted(TaskRequest {
                task: TaskId::from_u128(number + 1),
                workspace,
                class: WorkClass::Call,
                milli_cpu: 100,
                memory_request_bytes: 500 * MIB,
                memory_limit_bytes: None,
                gpus: 0,
                priority: 0,
                deadline: None,
                bring_back_ms: 0,
                preferred_worker: None,
            }),
        );
    }
    placement.apply(now, Event::WorkerJoined { worker, offer, running: Vec::new() });
    let held = |workspace| placement.leases().filter(|lease| lease.workspace == workspace).count();
    assert_eq!((held(light), held(heavy)), (4, 12));
}
