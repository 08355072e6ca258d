//! What a test needs around a jobs service: a clock, a completion hook, a worker.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corral_jobs::{
    Completing, CompletionError, FinishedWork, JobCompletion, JobRequest, JobsOptions, JobsPorts,
    JobsService, ResidentMemory, TaskNotice, TaskOwner,
};
use corral_placement::{HolderId, LeaseLimits};
use corral_types::{
    AttemptId, BlobHash, Caller, ErrorKind, Failure, MIB, ManualClock, Scopes, TaskId, Timestamp,
    WorkerId, WorkspaceId,
};
use corral_worker_api::{
    Accounting, AttemptEvent, Capacity, Command, Enforcement, Event, EventBatch, Hello, LogStream,
    Outcome, Output, PROTOCOL_VERSION, Poll, PresentTask, Start, StopReason, Usage,
};
use serde_json::{Value, json};

/// The longest a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Registers outputs as told, and counts.
#[derive(Default)]
pub struct Registrar {
    /// What the next calls answer; success when empty.
    pub answers: Mutex<VecDeque<CompletionError>>,
    pub calls: Mutex<Vec<FinishedWork>>,
}

impl JobCompletion for Registrar {
    fn complete(&self, work: FinishedWork) -> Completing<'_> {
        let result = json!({ "registered": work.outputs.len(), "by": work.result });
        self.calls.lock().unwrap().push(work);
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { answer.map_or(Ok(result), Err) })
    }
}

/// The holder of memory in the server's own process.
#[derive(Default)]
pub struct Resident {
    pub asked: Mutex<Vec<(HolderId, u64)>>,
    pub leases: Mutex<Vec<Option<u64>>>,
}

impl ResidentMemory for Resident {
    fn reclaim(&self, _: WorkerId, holder: HolderId, bytes: u64) {
        self.asked.lock().unwrap().push((holder, bytes));
    }

    fn lease_changed(&self, _: TaskId, limits: Option<LeaseLimits>) {
        self.leases.lock().unwrap().push(limits.map(|limits| limits.memory_request_bytes));
    }
}

/// Whoever starts containers: wants those that the test says, and keeps what it is told.
#[derive(Default)]
pub struct Owner {
    pub wanted: Mutex<Vec<TaskId>>,
    pub told: Mutex<Vec<TaskNotice>>,
}

impl TaskOwner for Owner {
    fn told(&self, notice: TaskNotice) {
        self.told.lock().unwrap().push(notice);
    }

    fn wants(&self, task: TaskId) -> bool {
        self.wanted.lock().unwrap().contains(&task)
    }
}

pub fn later() -> CompletionError {
    CompletionError::Later(Failure::new(ErrorKind::Unavailable, "the catalog is busy"))
}

pub fn never() -> CompletionError {
    CompletionError::Never(Failure::new(ErrorKind::DataLoss, "the model file is damaged"))
}

pub struct Server {
    pub service: Arc<JobsService>,
    pub registrar: Arc<Registrar>,
    pub owner: Arc<Owner>,
    pub clock: Arc<ManualClock>,
}

pub const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

impl Server {
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, Arc::new(ManualClock::at(START)), |_| {})
    }

    pub fn start_beside(dir: &Path, resident: Arc<Resident>) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        Self::start_whole(dir, clock, Some(resident as Arc<dyn ResidentMemory>), |_| {})
    }

    pub fn start_with(
        dir: &Path,
        clock: Arc<ManualClock>,
        change: impl FnOnce(&mut JobsOptions),
    ) -> Self {
        Self::start_whole(dir, clock, None, change)
    }

    fn start_whole(
        dir: &Path,
        clock: Arc<ManualClock>,
        resident: Option<Arc<dyn ResidentMemory>>,
        change: impl FnOnce(&mut JobsOptions),
    ) -> Self {
        let registrar = Arc::new(Registrar::default());
        let owner = Arc::new(Owner::default());
        let mut options = JobsOptions::new(dir.to_owned());
        options.tick = Duration::from_millis(20);
        options.journal.segment_bytes = 1 << 20;
        change(&mut options);
        let ports = JobsPorts {
            completion: Arc::clone(&registrar) as Arc<dyn JobCompletion>,
            resident,
            tasks: Some(Arc::clone(&owner) as Arc<dyn TaskOwner>),
            clock: Arc::clone(&clock) as Arc<_>,
        };
        let service = JobsService::start(options, ports).expect("the service starts");
        Self { service, registrar, owner, clock }
    }
}

pub fn caller(workspace: u128) -> Caller {
    Caller { workspace: WorkspaceId::from_u128(workspace), token: None, scopes: Scopes::ALL }
}

pub fn request(memory_mib: u64) -> JobRequest {
    let mut request = JobRequest::new("train", "banking", json!({ "rows": 10 }));
    request.memory_request_bytes = memory_mib * MIB;
    request
}

/// A worker of 4 GiB whose attempts do what the test says.
pub struct Worker {
    pub id: WorkerId,
    pub session: u64,
    taken: u64,
    next: std::collections::BTreeMap<AttemptId, u64>,
}

static WORKERS: AtomicU64 = AtomicU64::new(1);

impl Worker {
    /// A worker that has not said hello.
    pub fn fresh() -> Self {
        let id = WorkerId::from_u128(WORKERS.fetch_add(1, Ordering::Relaxed).into());
        Self { id, session: 0, taken: 0, next: Default::default() }
    }

    pub async fn join(server: &Server) -> Self {
        let mut worker = Self::fresh();
        worker.hello(server, Vec::new()).await;
        worker
    }

    /// Says hello, having these attempts; what it is to forget.
    pub async fn hello(&mut self, server: &Server, attempts: Vec<AttemptId>) -> Vec<AttemptId> {
        self.hello_with(server, attempts, Vec::new()).await
    }

    /// The same, having these containers too.
    pub async fn hello_with(
        &mut self,
        server: &Server,
        attempts: Vec<AttemptId>,
        tasks: Vec<PresentTask>,
    ) -> Vec<AttemptId> {
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            worker: self.id,
            host_name: "here".to_owned(),
            capacity: Capacity { memory_bytes: 4_096 * MIB, milli_cpu: 4_000, disk_bytes: 1 << 40 },
            enforcement: Enforcement::Watchdog,
            attempts,
            tasks,
        };
        let welcome = server.service.hello(&hello).await.expect("the worker is welcome");
        self.session = welcome.session;
        self.taken = 0;
        welcome.forget
    }

    pub fn poll_now(&self) -> Poll {
        Poll {
            worker: self.id,
            session: self.session,
            acknowledged: self.taken,
            usage: Usage::default(),
        }
    }

    /// The next commands, however long they take.
    pub async fn commands(&mut self, server: &Server) -> Vec<Command> {
        let poll = self.poll_now();
        let polled = tokio::time::timeout(PATIENCE, server.service.poll(&poll)).await;
        let commands = polled.expect("a command comes").expect("the session is known").commands;
        self.taken = commands.last().map_or(self.taken, |command| command.number);
        commands.into_iter().map(|command| command.command).collect()
    }

    /// Waits until an attempt is to start.
    pub async fn start(&mut self, server: &Server) -> Start {
        loop {
            for command in self.commands(server).await {
                if let Command::Start(start) = command {
                    self.say(server, start.attempt, Event::Started { process_id: 7 }).await;
                    return *start;
                }
            }
        }
    }

    /// Waits until an attempt is to stop.
    pub async fn stop(&mut self, server: &Server) -> (AttemptId, StopReason) {
        loop {
            for command in self.commands(server).await {
                if let Command::Stop { attempt, reason } = command {
                    return (attempt, reason);
                }
            }
        }
    }

    pub async fn say(&mut self, server: &Server, attempt: AttemptId, event: Event) {
        let number = self.next.entry(attempt).or_insert(1);
        let event = AttemptEvent { attempt, number: *number, at: START, event };
        *number += 1;
        self.tell(server, vec![event]).await;
    }

    pub async fn tell(&self, server: &Server, events: Vec<AttemptEvent>) {
        let last = events.last().expect("a batch has events").clone();
        let batch = EventBatch { worker: self.id, session: self.session, events };
        let acknowledged = server.service.events_from_worker(batch).await.expect("they are taken");
        assert_eq!(acknowledged.up_to, [(last.attempt, last.number)]);
    }

    pub async fn log(&mut self, server: &Server, attempt: AttemptId, line: &str) {
        let line = line.to_owned();
        self.say(server, attempt, Event::Log { stream: LogStream::Stdout, line }).await;
    }

    pub async fn end(&mut self, server: &Server, attempt: AttemptId, outcome: Outcome) {
        let accounting = Accounting { wall_ms: 11, cpu_ms: 5, peak_memory_bytes: 64 * MIB };
        self.say(server, attempt, Event::Ended { outcome, accounting }).await;
    }
}

pub fn succeeded(result: Value) -> Outcome {
    let blob = BlobHash::of(result.to_string().as_bytes());
    Outcome::Succeeded {
        result,
        outputs: vec![Output { name: "model".to_owned(), blob, bytes: 3 }],
    }
}
