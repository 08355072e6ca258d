//! Measures the functions service with its journal on this machine's disk: inputs taken and
//! completed per second, the latency of one call, and what a million inputs that wait cost.
//!
//! `cargo run --release -p corral-functions --example functions_speed [DIR]`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corral_containers::{ContainerEvent, StartKind, StopReason};
use corral_functions::{
    AfterFetch, AttemptOutput, CallKind, ContainerHost, EntryId, FunctionSettings, Functions,
    FunctionsOptions, FunctionsPorts, Invocation, NewCall, NewInput, NextInputs, Outcome,
    OutputsQuery, Payload, PollRequest, Scaling,
};
use corral_types::{
    AppId, Caller, ContainerId, FunctionId, Scopes, SystemClock, WorkspaceId, display_bytes,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLER: Caller =
    Caller { workspace: WorkspaceId::from_u128(1), token: None, scopes: Scopes::ALL };
/// A function that containers run, and one that nothing runs.
const RUN: FunctionId = FunctionId::from_u128(1);
const HELD: FunctionId = FunctionId::from_u128(2);
const CONTAINERS: u32 = 32;
const CALLERS: usize = 64;
const MANY_CALLERS: usize = 512;
const A_WHILE: Duration = Duration::from_secs(5);
const WAITING: usize = 1_000_000;
/// What the client makes of a call without arguments, about.
const PAYLOAD: &[u8] = &[7; 40];

struct Host(mpsc::UnboundedSender<(ContainerId, FunctionId)>);

impl ContainerHost for Host {
    fn start(&self, container: ContainerId, function: FunctionId) {
        let _ = self.0.send((container, function));
    }

    fn stop(&self, _: ContainerId, _: StopReason) {}
}

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = dir.join(format!("corral-functions-throughput-{}", std::process::id()));
    let measured = measure(&dir).await;
    std::fs::remove_dir_all(dir)?;
    measured
}

async fn measure(dir: &Path) -> Result<(), Error> {
    let functions = open(dir)?;
    for (function, least) in [(RUN, CONTAINERS), (HELD, 0)] {
        let mut settings = FunctionSettings::new(function, CALLER.workspace, AppId::from_u128(1));
        settings.scaling =
            Scaling { min_containers: least, max_containers: CONTAINERS, ..settings.scaling };
        functions.define(settings).await?;
    }

    latency(&functions).await?;
    for callers in [1, CALLERS, MANY_CALLERS] {
        let began = Instant::now();
        let count = for_a_while(callers, &functions, |functions| async move {
            functions.create_call(&CALLER, call(HELD, CallKind::Unary, 0..1)).await.map(drop)
        })
        .await?;
        report(&format!("{callers} callers: spawns"), count, began);
    }
    for callers in [CALLERS, MANY_CALLERS] {
        let began = Instant::now();
        let complete = |functions: Arc<Functions>| async move { remote(&functions).await };
        let count = for_a_while(callers, &functions, complete).await?;
        report(&format!("{callers} callers: calls completed, of one input"), count, began);
    }
    map(&functions, 50_000).await?;
    functions.stop().await;
    drop(functions);

    let waiting = dir.join("waiting");
    let before = resident_bytes()?;
    let functions = open(&waiting)?;
    functions.define(FunctionSettings::new(HELD, CALLER.workspace, AppId::from_u128(1))).await?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..MANY_CALLERS {
        let functions = Arc::clone(&functions);
        tasks.spawn(async move {
            for _ in (caller..WAITING).step_by(MANY_CALLERS) {
                let call = call(HELD, CallKind::Unary, 0..1);
                functions.create_call(&CALLER, call).await?;
            }
            Ok::<_, corral_functions::FunctionsError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    report("calls taken that wait", WAITING, began);
    memory("with a million calls of one input waiting", before)?;
    functions.stop().await;
    drop(functions);
    let before = resident_bytes()?;
    let began = Instant::now();
    let functions = open(&waiting)?;
    println!("a start with a million calls in the journal: {:?}", began.elapsed());
    memory("  after it", before)?;
    functions.stop().await;
    Ok(())
}

fn open(dir: &Path) -> Result<Arc<Functions>, Error> {
    let (orders, mut starts) = mpsc::unbounded_channel();
    let ports = FunctionsPorts { host: Arc::new(Host(orders)), clock: Arc::new(SystemClock) };
    let functions = Functions::start(FunctionsOptions::new(dir.to_owned()), ports)?;
    let service = Arc::downgrade(&functions);
    tokio::spawn(async move {
        while let Some((container, function)) = starts.recv().await {
            let Some(functions) = service.upgrade() else { return };
            if function == RUN {
                tokio::spawn(async move { run(functions, container).await });
            }
        }
    });
    Ok(functions)
}

/// A container: it takes what it is given and answers at once.
async fn run(functions: Arc<Functions>, container: ContainerId) -> Result<(), Error> {
    let started = ContainerEvent::Started { kind: StartKind::Cold, took_ms: 1, plain_reason: None };
    functions.container_event(container, started).await?;
    let wait = Duration::from_secs(3_600);
    loop {
        let request = PollRequest { idempotency_key: None, max_inputs: 1, wait };
        let NextInputs::Inputs(inputs) = functions.next_inputs(container, request).await? else {
            return Ok(());
        };
        let outputs = inputs.into_iter().map(|input| AttemptOutput {
            input: input.input,
            retries: input.retries,
            outcome: Outcome::success(input.payload, 1),
            started_at: None,
            created_at: None,
        });
        functions.put_outputs(container, outputs.collect()).await?;
    }
}

fn call(function: FunctionId, kind: CallKind, indices: std::ops::Range<u32>) -> NewCall {
    NewCall {
        function,
        kind,
        invocation: Invocation::Async,
        parent: None,
        idempotency_key: Some(ContainerId::generate().to_string()),
        inputs: indices.map(input).collect(),
    }
}

fn input(index: u32) -> NewInput {
    let payload = Payload::Inline(Bytes::from_static(PAYLOAD));
    NewInput { index, payload, data_format: 1, method: String::new() }
}

fn query(after: EntryId) -> OutputsQuery {
    OutputsQuery {
        after,
        range: None,
        wait: Duration::from_secs(60),
        after_fetch: AfterFetch::Clear,
        limit: 1_000,
    }
}

async fn remote(functions: &Functions) -> Result<(), corral_functions::FunctionsError> {
    let made = functions.create_call(&CALLER, call(RUN, CallKind::Unary, 0..1)).await?;
    let page = functions.outputs(&CALLER, made.call, query(EntryId::default())).await?;
    assert_eq!(page.outputs.len(), 1);
    Ok(())
}

async fn latency(functions: &Arc<Functions>) -> Result<(), Error> {
    let mut took = Vec::new();
    for _ in 0..2_000 {
        let began = Instant::now();
        remote(functions).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let at = |part: usize| took[took.len() * part / 100];
    println!("one call after the other: p50 {:?}, p99 {:?}", at(50), at(99));
    Ok(())
}

async fn map(functions: &Arc<Functions>, count: u32) -> Result<(), Error> {
    let began = Instant::now();
    let made = functions.create_call(&CALLER, call(RUN, CallKind::Map, 0..0)).await?;
    let putting = Arc::clone(functions);
    let put = tokio::spawn(async move {
        for first in (0..count).step_by(50) {
            let inputs = (first..first + 50).map(input).collect();
            putting.put_inputs(&CALLER, made.call, inputs).await?;
        }
        putting.finish_inputs(&CALLER, made.call).await
    });
    let (mut seen, mut after) = (0, EntryId::default());
    while seen < count as usize {
        let page = functions.outputs(&CALLER, made.call, query(after)).await?;
        seen += page.outputs.len();
        after = page.last;
    }
    put.await??;
    report("inputs of one map completed", count as usize, began);
    Ok(())
}

/// Has so many callers do something again and again; how often they did.
async fn for_a_while<F>(
    callers: usize,
    functions: &Arc<Functions>,
    act: fn(Arc<Functions>) -> F,
) -> Result<usize, Error>
where
    F: Future<Output = Result<(), corral_functions::FunctionsError>> + Send + 'static,
{
    let until = Instant::now() + A_WHILE;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let functions = Arc::clone(functions);
        tasks.spawn(async move {
            let mut count = 0;
            while Instant::now() < until {
                act(Arc::clone(&functions)).await?;
                count += 1;
            }
            Ok::<usize, corral_functions::FunctionsError>(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(count)
}

fn report(what: &str, count: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {:.0}/s ({count} in {seconds:.1} s)", count as f64 / seconds);
}

fn memory(what: &str, before: u64) -> Result<(), Error> {
    let now = resident_bytes()?;
    println!("{what}: {} resident, {} before", display_bytes(now), display_bytes(before));
    Ok(())
}

/// What this process has in memory.
fn resident_bytes() -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
