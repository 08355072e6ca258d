//! Measures how many decisions a second placement makes with many tasks waiting.
//!
//! `cargo run --release -p corral-placement --example rate`

use std::collections::VecDeque;
use std::time::Instant;

use corral_placement::{Decision, Event, Placement, Policy, TaskRequest, WorkClass, WorkerOffer};
use corral_types::{MIB, TaskId, Timestamp, WorkerId, WorkspaceId};

fn main() {
    for (workers, workspaces, waiting) in
        [(1, 1, 10_000), (1, 50, 10_000), (20, 50, 10_000), (20, 5_000, 10_000), (20, 50, 100_000)]
    {
        let (submit, churn, blocked) = measure(workers, workspaces, waiting);
        println!(
            "{workers:>3} workers {workspaces:>5} workspaces {waiting:>7} waiting: \
             {submit:>9.0} submits/s {churn:>9.0} end+grant/s {blocked:>9.0} ticks/s with all full"
        );
    }
}

fn request(number: u128, workspaces: u128) -> TaskRequest {
    TaskRequest {
        task: TaskId::from_u128(number),
        workspace: WorkspaceId::from_u128(number % workspaces),
        class: WorkClass::ALL[(number % 3) as usize],
        milli_cpu: 1,
        // Sizes of many kinds, so that some fit and some do not.
        memory_request_bytes: (256 + (number as u64 * 7_919) % 2_048) * MIB,
        memory_limit_bytes: None,
        gpus: 0,
        priority: (number % 3) as i32,
        deadline: None,
        bring_back_ms: 0,
        preferred_worker: None,
    }
}

fn measure(workers: u128, workspaces: u128, waiting: u128) -> (f64, f64, f64) {
    let mut placement = Placement::new(Policy::default());
    let mut now = 1_000;
    let mut apply = |event| {
        now += 1;
        placement.apply(Timestamp::from_millis(now), event)
    };
    for worker in 1..=workers {
        let offer = WorkerOffer {
            memory_bytes: 65_536 * MIB,
            reserve_bytes: 0,
            milli_cpu: 1_000_000,
            gpus: 0,
        };
        let worker = WorkerId::from_u128(worker);
        apply(Event::WorkerJoined { worker, offer, running: Vec::new() });
    }
    let mut running = VecDeque::new();
    let grants = |decisions: Vec<Decision>, running: &mut VecDeque<TaskId>| {
        for decision in decisions {
            if let Decision::Grant { task, .. } = decision {
                running.push_back(task);
            }
        }
    };
    let started = Instant::now();
    for number in 1..=waiting {
        let decisions = apply(Event::TaskSubmitted(request(number, workspaces)));
        grants(decisions, &mut running);
    }
    let submit = waiting as f64 / started.elapsed().as_secs_f64();

    // Every end lets others in, and one more comes.
    let rounds = 20_000;
    let started = Instant::now();
    for round in 0..rounds {
        let Some(task) = running.pop_front() else { break };
        let decisions = apply(Event::TaskEnded { task });
        grants(decisions, &mut running);
        let decisions = apply(Event::TaskSubmitted(request(waiting + round + 1, workspaces)));
        grants(decisions, &mut running);
    }
    let churn = rounds as f64 / started.elapsed().as_secs_f64();

    // Ticks with everything full.
    let ticks = 20_000;
    let started = Instant::now();
    for _ in 0..ticks {
        let decisions = apply(Event::Tick);
        grants(decisions, &mut running);
    }
    (submit, churn, f64::from(ticks) / started.elapsed().as_secs_f64())
}
