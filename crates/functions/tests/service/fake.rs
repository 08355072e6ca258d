//! A host whose containers are tasks of the test: they ask the service for inputs as the client's
//! container side does, and do what the inputs' payloads say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use corral_containers::{ContainerEnd, ContainerEvent, StartKind, StopReason, Usage};
use corral_functions::{
    AttemptOutput, ContainerHost, DataChunk, Functions, FunctionsError, FunctionsOptions,
    FunctionsPorts, GivenInput, NextInputs, Outcome, OutcomeStatus, Payload, PollRequest,
};
use corral_journal::JournalError;
use corral_types::{ContainerId, FunctionId, SystemClock};
use tokio::sync::{mpsc, oneshot};

/// How containers of a test behave before they ask for inputs.
#[derive(Clone, Debug)]
pub enum Starts {
    Well,
    /// The user's module cannot be imported.
    WithException(String),
    /// There is no such program.
    NotAtAll(String),
    /// They exist and do nothing.
    Silently,
}

enum Order {
    Start(ContainerId),
    Stop(ContainerId, StopReason),
}

pub struct FakeHost {
    orders: mpsc::UnboundedSender<Order>,
    pub stops: Mutex<Vec<(ContainerId, StopReason)>>,
    pub starts: Mutex<Vec<ContainerId>>,
}

impl ContainerHost for FakeHost {
    fn start(&self, container: ContainerId, _function: FunctionId) {
        self.starts.lock().unwrap().push(container);
        let _ = self.orders.send(Order::Start(container));
    }

    fn stop(&self, container: ContainerId, reason: StopReason) {
        self.stops.lock().unwrap().push((container, reason));
        let _ = self.orders.send(Order::Stop(container, reason));
    }
}

/// A service, its host and its containers; all end with it.
pub struct Setup {
    pub functions: Arc<Functions>,
    pub host: Arc<FakeHost>,
    containers: tokio::task::JoinHandle<()>,
}

impl Setup {
    pub fn open(options: FunctionsOptions, starts: Starts) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let host = Arc::new(FakeHost { orders, stops: Mutex::default(), starts: Mutex::default() });
        let ports = FunctionsPorts { host: host.clone(), clock: Arc::new(SystemClock) };
        let functions = started(&options, &ports);
        let service = Arc::new(OnceLock::new());
        service.set(Arc::downgrade(&functions)).unwrap();
        let containers = tokio::spawn(run_containers(service, receiver, starts));
        Self { functions, host, containers }
    }

    /// Ends as a killed process would: nothing is waited for.
    pub fn kill(self) {
        self.containers.abort();
    }

    pub async fn stop(self) {
        self.functions.stop().await;
        self.containers.abort();
    }
}

/// The service, as soon as the last who had the one before it has let go of its journal.
fn started(options: &FunctionsOptions, ports: &FunctionsPorts) -> Arc<Functions> {
    for _ in 0..4_000 {
        match Functions::start(options.clone(), ports.clone()) {
            Err(FunctionsError::Journal(JournalError::Locked { .. })) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            started => return started.unwrap(),
        }
    }
    panic!("the journal is never let go of")
}

async fn run_containers(
    service: Arc<OnceLock<Weak<Functions>>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    starts: Starts,
) {
    let mut running: HashMap<ContainerId, oneshot::Sender<StopReason>> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(order) = orders.recv().await {
        let Some(functions) = service.get().and_then(Weak::upgrade) else { return };
        match order {
            Order::Start(container) => {
                let (stop, stopped) = oneshot::channel();
                running.insert(container, stop);
                let starts = starts.clone();
                let service = Arc::downgrade(&functions);
                tasks.spawn(async move {
                    let end = tokio::select! {
                        end = run(&service, container, starts) => end,
                        reason = stopped => match reason {
                            Ok(reason) => ContainerEnd::Stopped { reason },
                            Err(_) => ContainerEnd::Lost,
                        },
                    };
                    if let Some(functions) = service.upgrade() {
                        let usage = Usage { wall_ms: 100, cpu_ms: 50, ..Usage::default() };
                        let event = ContainerEvent::Ended { end, usage };
                        let _ = functions.container_event(container, event).await;
                    }
                });
            }
            Order::Stop(container, reason) => {
                if let Some(stop) = running.remove(&container) {
                    let _ = stop.send(reason);
                }
            }
        }
    }
}

async fn run(service: &Weak<Functions>, container: ContainerId, starts: Starts) -> ContainerEnd {
    let gone = ContainerEnd::Lost;
    let Some(functions) = service.upgrade() else { return gone };
    if let Starts::NotAtAll(message) = starts {
        return ContainerEnd::NotStarted { message, hint: Some("try another".to_owned()) };
    }
    let event =
        ContainerEvent::Started { kind: StartKind::Template, took_ms: 1, plain_reason: None };
    if functions.container_event(container, event).await.is_err()
        || functions.container_hello(container).await.is_err()
    {
        return gone;
    }
    match starts {
        Starts::WithException(words) => {
            let outcome = Outcome::without_payload(OutcomeStatus::Failure, words);
            let _ = functions.task_result(container, outcome).await;
            return ContainerEnd::Exited { exit_code: 1 };
        }
        Starts::Silently => std::future::pending::<()>().await,
        Starts::Well | Starts::NotAtAll(_) => {}
    }
    let heartbeat = interrupted(Arc::downgrade(&functions), container);
    drop(functions);
    let (cancels, heart) = heartbeat;
    let end = work(service, container, cancels).await;
    heart.abort();
    end
}

type Cancels = Arc<Mutex<Vec<corral_types::InputId>>>;

fn interrupted(
    service: Weak<Functions>,
    container: ContainerId,
) -> (Cancels, tokio::task::JoinHandle<()>) {
    let cancels = Cancels::default();
    let told = Arc::clone(&cancels);
    let heart = tokio::spawn(async move {
        while let Some(functions) = service.upgrade() {
            match functions.heartbeat(container, Duration::from_millis(200)).await {
                Ok(inputs) => *told.lock().unwrap() = inputs,
                Err(_) => return,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    (cancels, heart)
}

async fn work(service: &Weak<Functions>, container: ContainerId, cancels: Cancels) -> ContainerEnd {
    for number in 0u64.. {
        let Some(functions) = service.upgrade() else { return ContainerEnd::Lost };
        let request = PollRequest {
            idempotency_key: Some(number.to_string()),
            max_inputs: 100,
            wait: Duration::from_millis(500),
        };
        let inputs = match functions.next_inputs(container, request).await {
            Ok(NextInputs::Inputs(inputs)) => inputs,
            Ok(NextInputs::Kill) => return ContainerEnd::Exited { exit_code: 0 },
            Err(_) => return ContainerEnd::Lost,
        };
        if inputs.is_empty() {
            continue;
        }
        let is_final = inputs.iter().any(|input| input.is_final);
        let count = inputs.len();
        let mut outputs = Vec::new();
        for input in inputs {
            match attempt(&functions, container, &input, count, &cancels).await {
                Ok(outcome) => outputs.push(AttemptOutput {
                    input: input.input,
                    retries: input.retries,
                    outcome,
                    started_at: None,
                    created_at: None,
                }),
                Err(end) => return end,
            }
        }
        if functions.put_outputs(container, outputs).await.is_err() {
            return ContainerEnd::Lost;
        }
        if is_final {
            return ContainerEnd::Exited { exit_code: 0 };
        }
    }
    ContainerEnd::Exited { exit_code: 0 }
}

/// What payloads say: `echo:X`, `fail`, `fail-first`, `exit`, `sleep`, `batch`, `yield`.
async fn attempt(
    functions: &Functions,
    container: ContainerId,
    input: &GivenInput,
    batch: usize,
    cancels: &Cancels,
) -> Result<Outcome, ContainerEnd> {
    let said = |text: String| Outcome::success(Payload::Inline(Bytes::from(text)), 4);
    let Payload::Inline(bytes) = &input.payload else { return Ok(said("a blob".to_owned())) };
    let text = std::str::from_utf8(bytes).unwrap();
    let failed = Outcome::without_payload(OutcomeStatus::Failure, "ValueError: no");
    Ok(match text.split_once(':') {
        Some(("echo", rest)) => said(format!("{rest}{}", input.method)),
        _ => match text {
            "fail" => failed,
            "fail-first" if input.retries == 0 => failed,
            "exit" => return Err(ContainerEnd::Exited { exit_code: 7 }),
            "memory" => {
                let (limit_bytes, measured_bytes) = (1 << 20, 2 << 20);
                return Err(ContainerEnd::OverMemory { limit_bytes, measured_bytes });
            }
            "sleep" => loop {
                if cancels.lock().unwrap().contains(&input.input) {
                    break Outcome::without_payload(OutcomeStatus::Terminated, "cancelled");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            },
            "batch" => said(batch.to_string()),
            "yield" => {
                for index in 1..=3 {
                    let payload = Payload::Inline(Bytes::from(format!("chunk {index}")));
                    let chunk = DataChunk { index, payload, data_format: 4 };
                    functions.put_data_out(container, input.call, vec![chunk]).await.unwrap();
                }
                said("3".to_owned())
            }
            "read" => {
                let wait = Duration::from_secs(5);
                let chunks = functions.data_in(container, input.call, 0, wait).await.unwrap();
                said(chunks.len().to_string())
            }
            _ => said(format!("tried {}", input.retries)),
        },
    })
}
