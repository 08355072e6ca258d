//! A server that takes calls and runs them is killed at random moments, again and again, on one
//! directory. What it said it had taken must get one output in the end, and an output that it
//! told must stay as it was.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corral_containers::{ContainerEnd, ContainerEvent, StartKind, StopReason, Usage};
use corral_functions::{
    AfterFetch, AttemptOutput, CallKind, ContainerHost, EntryId, FunctionSettings, Functions,
    FunctionsOptions, FunctionsPorts, Invocation, NewCall, NewInput, NextInputs, Outcome,
    OutputsQuery, Payload, PollRequest, Scaling,
};
use corral_types::{
    AppId, CallId, Caller, ContainerId, FunctionId, Scopes, SystemClock, WorkspaceId,
};
use tokio::sync::mpsc;

/// Set for the process that is killed: the journal's directory.
const DIRECTORY: &str = "CORRAL_FUNCTIONS_KILL_DIRECTORY";
/// Set for the last process: the file with the calls of which it tells the outputs.
const CALLS: &str = "CORRAL_FUNCTIONS_KILL_CALLS";
const KILLS: u64 = 120;
const CALLERS: u64 = 8;
const CALLER: Caller =
    Caller { workspace: WorkspaceId::from_u128(1), token: None, scopes: Scopes::ALL };
const FUNCTION: FunctionId = FunctionId::from_u128(1);

struct Host(mpsc::UnboundedSender<ContainerId>);

impl ContainerHost for Host {
    fn start(&self, container: ContainerId, _: FunctionId) {
        let _ = self.0.send(container);
    }

    fn stop(&self, _: ContainerId, _: StopReason) {}
}

/// Not a test of its own: the other one runs it in a process, and kills that.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(serve(Path::new(&dir)));
}

async fn serve(dir: &Path) {
    let (orders, mut starts) = mpsc::unbounded_channel();
    let ports = FunctionsPorts { host: Arc::new(Host(orders)), clock: Arc::new(SystemClock) };
    let mut options = FunctionsOptions::new(dir.to_owned());
    options.journal.segment_bytes = 256 << 10;
    options.journal.reserve_bytes = 0;
    options.snapshot_after_bytes = 64 << 10;
    options.tick = Duration::from_millis(10);
    let functions = Functions::start(options, ports).unwrap();
    let scaling = Scaling { max_containers: 3, ..Scaling::default() };
    let settings = FunctionSettings::new(FUNCTION, CALLER.workspace, AppId::from_u128(1));
    functions.define(FunctionSettings { scaling, ..settings }).await.unwrap();
    // Containers are part of this process, and ended with the one before it.
    for container in functions.containers(None).await {
        if container.started_at.is_some() {
            let event = ContainerEvent::Ended { end: ContainerEnd::Lost, usage: Usage::default() };
            functions.container_event(container.container, event).await.unwrap();
        }
    }
    let service = Arc::clone(&functions);
    tokio::spawn(async move {
        while let Some(container) = starts.recv().await {
            tokio::spawn(run(Arc::clone(&service), container));
        }
    });
    if let Some(calls) = std::env::var_os(CALLS) {
        for line in std::fs::read_to_string(calls).unwrap().lines() {
            tell_output(&functions, line.parse().unwrap()).await;
        }
        say("whole");
        functions.stop().await;
        return;
    }
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let functions = Arc::clone(&functions);
        callers.spawn(async move {
            for number in 0u64.. {
                let payload = Payload::Inline(Bytes::from(number.to_string()));
                let input = NewInput { index: 0, payload, data_format: 1, method: String::new() };
                let call = NewCall {
                    function: FUNCTION,
                    kind: CallKind::Unary,
                    invocation: Invocation::Async,
                    parent: None,
                    idempotency_key: None,
                    inputs: vec![input],
                };
                let made = functions.create_call(&CALLER, call).await.unwrap();
                say(&format!("taken {}", made.call));
                if number.is_multiple_of(2) {
                    tell_output(&functions, made.call).await;
                }
            }
        });
    }
    callers.join_all().await;
}

fn say(words: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{words}").unwrap();
    output.flush().unwrap();
}

async fn tell_output(functions: &Functions, call: CallId) {
    let query = OutputsQuery {
        after: EntryId::default(),
        range: None,
        wait: Duration::from_secs(60),
        after_fetch: AfterFetch::Keep,
        limit: 10,
    };
    let page = functions.outputs(&CALLER, call, query).await.unwrap();
    for output in page.outputs {
        let Some(Payload::Inline(bytes)) = &output.outcome.payload else {
            panic!("{:?}", output.outcome)
        };
        say(&format!("output {call} {}", std::str::from_utf8(bytes).unwrap()));
    }
}

/// A container of which every attempt has an output of its own.
async fn run(functions: Arc<Functions>, container: ContainerId) {
    let event = ContainerEvent::Started { kind: StartKind::Cold, took_ms: 1, plain_reason: None };
    functions.container_event(container, event).await.unwrap();
    let wait = Duration::from_secs(60);
    loop {
        let request = PollRequest { idempotency_key: None, max_inputs: 1, wait };
        let Ok(NextInputs::Inputs(inputs)) = functions.next_inputs(container, request).await else {
            return;
        };
        let outputs = inputs.into_iter().map(|input| {
            let nonce = Bytes::from(ContainerId::generate().to_string());
            AttemptOutput {
                input: input.input,
                retries: input.retries,
                outcome: Outcome::success(Payload::Inline(nonce), 1),
                started_at: None,
                created_at: None,
            }
        });
        if functions.put_outputs(container, outputs.collect()).await.is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Heard {
    taken: BTreeSet<String>,
    outputs: BTreeMap<String, String>,
    is_whole: bool,
}

#[test]
fn what_was_taken_has_one_output_through_kills() {
    // In memory where that is possible: a kill loses nothing that was written, synced or not.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut heard = Heard::default();
    for kill in 0..KILLS {
        let lines = (kill * 7_919) % 211 * (kill % 4);
        run_process(&dir.path().join("functions"), Some(lines), None, &mut heard);
    }
    let calls = dir.path().join("calls");
    let taken: Vec<&str> = heard.taken.iter().map(String::as_str).collect();
    std::fs::write(&calls, taken.join("\n")).unwrap();
    let told = heard.outputs.len();
    run_process(&dir.path().join("functions"), None, Some(&calls), &mut heard);
    assert!(heard.is_whole);
    assert!(heard.taken.iter().all(|call| heard.outputs.contains_key(call)));
    println!(
        "{} calls taken over {KILLS} kills, {told} outputs told before the end",
        heard.taken.len()
    );
    assert!(told as u64 > KILLS && heard.taken.len() > told);
}

fn run_process(dir: &Path, kill_after: Option<u64>, calls: Option<&Path>, heard: &mut Heard) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "the_process_that_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped());
    if let Some(calls) = calls {
        command.env(CALLS, calls);
    }
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut seen) = (String::new(), 0);
    loop {
        if Some(seen) == kill_after {
            child.kill().unwrap();
        }
        // What was said before the kill is still in the pipe, its last line perhaps cut.
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["taken", call] => _ = heard.taken.insert(call.to_owned()),
            ["output", call, value] => {
                let before = heard.outputs.insert(call.to_owned(), value.to_owned());
                assert!(
                    before.as_deref().is_none_or(|before| before == value),
                    "the output of {call} was {before:?} and is {value}"
                );
            }
            ["whole"] => heard.is_whole = true,
            _ => continue,
        }
        seen += 1;
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code().is_none(), kill_after.is_some(), "the process ended: {status}");
}
