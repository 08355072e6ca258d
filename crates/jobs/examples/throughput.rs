//! Measures the jobs service with its journal on this machine's disk: jobs taken, events
//! taken and whole jobs per second, by so many callers at once.
//!
//! `cargo run --release -p corral-jobs --example throughput [DIR]`

use std::sync::Arc;
use std::time::Instant;

use corral_jobs::{
    Completing, FinishedWork, JobCompletion, JobRequest, JobsOptions, JobsPorts, JobsService,
};
use corral_types::{Caller, MIB, Scopes, SystemClock, Timestamp, WorkerId, WorkspaceId};
use corral_worker_api::{
    Accounting, AttemptEvent, Capacity, Command, Enforcement, Event, EventBatch, Hello, LogStream,
    Outcome, PROTOCOL_VERSION, Poll, Usage,
};
use serde_json::json;

const CALLERS: usize = 64;
const JOBS: usize = 6_400;

struct Nothing;

impl JobCompletion for Nothing {
    fn complete(&self, work: FinishedWork) -> Completing<'_> {
        Box::pin(async move { Ok(work.result) })
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = dir.join(format!("corral-jobs-throughput-{}", std::process::id()));
    let ports = JobsPorts {
        completion: Arc::new(Nothing),
        resident: None,
        tasks: None,
        clock: Arc::new(SystemClock),
    };
    let service = JobsService::start(JobsOptions::new(dir.clone()), ports)?;
    let workspace = WorkspaceId::from_u128(1);
    let caller = Caller { workspace, token: None, scopes: Scopes::ALL };

    for callers in [1, CALLERS] {
        let started = Instant::now();
        let each = JOBS / 2 / callers;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let service = Arc::clone(&service);
            tasks.spawn(async move {
                for _ in 0..each {
                    let mut request = JobRequest::new("test", "name", json!({ "rows": 1 }));
                    (request.memory_request_bytes, request.milli_cpu) = (MIB, 1);
                    service.submit(&caller, request).await.expect("it is taken");
                }
            });
        }
        tasks.join_all().await;
        let rate = (each * callers) as f64 / started.elapsed().as_secs_f64();
        println!("{callers:>3} callers: {rate:>8.0} jobs submitted/s");
    }

    let capacity = Capacity { memory_bytes: 1 << 36, milli_cpu: 1_000_000, disk_bytes: 1 << 40 };
    let worker = WorkerId::from_u128(1);
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        worker,
        host_name: "here".to_owned(),
        capacity,
        enforcement: Enforcement::Watchdog,
        attempts: Vec::new(),
        tasks: Vec::new(),
    };
    let started = Instant::now();
    let session = service.hello(&hello).await?.session;
    println!("hello with {JOBS} jobs to place: {:?}", started.elapsed());

    let started = Instant::now();
    let (mut done, mut events_taken, mut acknowledged) = (0, 0, 0);
    while done < JOBS {
        let poll = Poll { worker, session, acknowledged, usage: Usage::default() };
        let commands = service.poll(&poll).await?.commands;
        let mut batches = tokio::task::JoinSet::new();
        let mut events = Vec::new();
        for numbered in commands {
            acknowledged = numbered.number;
            let Command::Start(start) = numbered.command else { continue };
            let said = [
                Event::Started { process_id: 1 },
                Event::Log { stream: LogStream::Stdout, line: "a line of some length".to_owned() },
                Event::Progress { fraction: 0.5, message: "half".to_owned(), detail: json!({}) },
                Event::Ended {
                    outcome: Outcome::Succeeded { result: json!(1), outputs: Vec::new() },
                    accounting: Accounting::default(),
                },
            ];
            for (number, event) in (1..).zip(said) {
                let (attempt, at) = (start.attempt, Timestamp::now());
                events.push(AttemptEvent { attempt, number, at, event });
            }
            done += 1;
        }
        events_taken += events.len();
        for part in events.chunks(400) {
            let batch = EventBatch { worker, session, events: part.to_vec() };
            let service = Arc::clone(&service);
            batches.spawn(async move { service.events_from_worker(batch).await });
        }
        while let Some(taken) = batches.join_next().await {
            taken??;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{:>8.0} jobs run/s, {:>8.0} events taken/s",
        done as f64 / seconds,
        events_taken as f64 / seconds
    );
    service.stop().await;
    drop(service);

    let started = Instant::now();
    let ports = JobsPorts {
        completion: Arc::new(Nothing),
        resident: None,
        tasks: None,
        clock: Arc::new(SystemClock),
    };
    let service = JobsService::start(JobsOptions::new(dir.clone()), ports)?;
    println!("start with {JOBS} jobs in the journal: {:?}", started.elapsed());
    service.stop().await;
    drop(service);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
