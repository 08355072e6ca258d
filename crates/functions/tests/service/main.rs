//! The service with a journal on disk and containers that are tasks: what clients see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use std::time::{Duration, Instant};

use bytes::Bytes;
use corral_containers::StopReason;
use corral_functions::{
    AfterFetch, Batching, CallKind, CancelContainers, ContainerState, CreatedCall, DataChunk,
    EntryId, FunctionSettings, Functions, FunctionsError, FunctionsOptions, Invocation, NewCall,
    NewInput, Outcome, OutcomeStatus, Output, OutputsPage, OutputsQuery, Payload, RetryPolicy,
    Reuse, Scaling, ScalingChange,
};
use corral_types::{AppId, BlobHash, CallId, Caller, FunctionId, Scope, Scopes, WorkspaceId};
use fake::{Setup, Starts};

const CALLER: Caller =
    Caller { workspace: WorkspaceId::from_u128(1), token: None, scopes: Scopes::ALL };
const FUNCTION: FunctionId = FunctionId::from_u128(7);
const LONG: Duration = Duration::from_secs(20);

fn settings() -> FunctionSettings {
    let scaling = Scaling { scaledown_window_ms: 60_000, max_containers: 2, ..Scaling::default() };
    let known = FunctionSettings::new(FUNCTION, CALLER.workspace, AppId::from_u128(1));
    FunctionSettings { scaling, ..known }
}

fn options(dir: &tempfile::TempDir) -> FunctionsOptions {
    let mut options = FunctionsOptions::new(dir.path().to_owned());
    options.tick = Duration::from_millis(20);
    options.journal.segment_bytes = 1 << 20;
    options
}

fn input(index: u32, text: &str) -> NewInput {
    NewInput {
        index,
        payload: Payload::Inline(Bytes::copy_from_slice(text.as_bytes())),
        data_format: 4,
        method: String::new(),
    }
}

fn call(kind: CallKind, texts: &[&str]) -> NewCall {
    NewCall {
        function: FUNCTION,
        kind,
        invocation: Invocation::Async,
        parent: None,
        idempotency_key: None,
        inputs: (0..).zip(texts).map(|(index, text)| input(index, text)).collect(),
    }
}

fn query() -> OutputsQuery {
    OutputsQuery {
        after: EntryId::default(),
        range: None,
        wait: LONG,
        after_fetch: AfterFetch::Keep,
        limit: 100,
    }
}

async fn spawn(functions: &Functions, text: &str) -> CreatedCall {
    functions.create_call(&CALLER, call(CallKind::Unary, &[text])).await.unwrap()
}

async fn page(functions: &Functions, call: CallId) -> OutputsPage {
    functions.outputs(&CALLER, call, query()).await.unwrap()
}

async fn output(functions: &Functions, call: CallId) -> Output {
    let mut page = page(functions, call).await;
    assert_eq!(page.outputs.len(), 1);
    page.outputs.pop().unwrap()
}

fn text(outcome: &Outcome) -> &str {
    let Some(Payload::Inline(bytes)) = &outcome.payload else { panic!("{outcome:?}") };
    std::str::from_utf8(bytes).unwrap()
}

async fn remote(functions: &Functions, words: &str) -> Outcome {
    let made = spawn(functions, words).await;
    output(functions, made.call).await.outcome
}

async fn setup(dir: &tempfile::TempDir, settings: FunctionSettings) -> Setup {
    setup_with(dir, settings, Starts::Well).await
}

async fn setup_with(dir: &tempfile::TempDir, settings: FunctionSettings, starts: Starts) -> Setup {
    let setup = Setup::open(options(dir), starts);
    setup.functions.define(settings).await.unwrap();
    setup
}

/// Waits for a condition, for as long as it takes a slow machine.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < LONG, "it never was so that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_wakes_a_container_and_has_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, settings()).await;
    let functions = &setup.functions;
    let made = spawn(functions, "echo:hello").await;
    assert_eq!(made.inputs.len(), 1);
    let output = output(functions, made.call).await;
    assert_eq!(text(&output.outcome), "hello");
    assert_eq!((output.index, output.input, output.retries), (0, made.inputs[0].input, 0));
    assert!(output.container.is_some() && output.started_at.is_some());

    let info = functions.call_info(&CALLER, made.call).await.unwrap();
    assert_eq!((info.total_inputs, info.succeeded_inputs), (1, 1));
    let containers = functions.containers(Some(CALLER.workspace)).await;
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0].container, output.container.unwrap());
    let calls = functions.calls(&CALLER, FUNCTION, 10).await.unwrap();
    assert_eq!(calls.len(), 1);

    let other = Caller { workspace: WorkspaceId::from_u128(2), ..CALLER };
    let refused = functions.outputs(&other, made.call, query()).await;
    assert!(matches!(refused, Err(FunctionsError::NoCall { .. })));
    let refused = functions.create_call(&other, call(CallKind::Unary, &["echo:x"])).await;
    assert!(matches!(refused, Err(FunctionsError::NoFunction { .. })));
    let reader = Caller { scopes: Scopes::NONE.with(Scope::Read), ..CALLER };
    let refused = functions.create_call(&reader, call(CallKind::Unary, &["echo:x"])).await;
    assert!(matches!(refused, Err(FunctionsError::Forbidden { .. })));
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_makes_one_call_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = setup(&dir, settings()).await;
    let new = NewCall { idempotency_key: Some("k".into()), ..call(CallKind::Unary, &["echo:1"]) };
    let made = first.functions.create_call(&CALLER, new.clone()).await.unwrap();
    assert_eq!(first.functions.create_call(&CALLER, new.clone()).await.unwrap(), made);
    first.stop().await;
    let again = Setup::open(options(&dir), Starts::Well);
    assert_eq!(again.functions.create_call(&CALLER, new).await.unwrap(), made);
    assert_ne!(spawn(&again.functions, "echo:1").await.call, made.call);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_takes_inputs_as_they_come_and_gives_each_output_once() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, settings()).await;
    let functions = &setup.functions;
    let made = functions.create_call(&CALLER, call(CallKind::Map, &[])).await.unwrap();
    let mut seen = Vec::new();
    let mut after = EntryId::default();
    for first in [0, 40, 80] {
        let inputs: Vec<_> =
            (first..first + 40).map(|index| input(index, &format!("echo:{index}"))).collect();
        functions.put_inputs(&CALLER, made.call, inputs.clone()).await.unwrap();
        // A repeated request adds nothing.
        let again = functions.put_inputs(&CALLER, made.call, inputs).await.unwrap();
        assert_eq!(again.len(), 40);
    }
    functions.finish_inputs(&CALLER, made.call).await.unwrap();
    let closed = functions.put_inputs(&CALLER, made.call, vec![input(200, "echo:x")]).await;
    assert!(matches!(closed, Err(FunctionsError::CallClosed { .. })));
    loop {
        let query = OutputsQuery { after, limit: 7, ..query() };
        let page = functions.outputs(&CALLER, made.call, query).await.unwrap();
        assert!(page.outputs.len() <= 7);
        if page.outputs.is_empty() {
            assert_eq!(page.unfinished_inputs, 0);
            break;
        }
        after = page.last;
        for output in page.outputs {
            assert_eq!(text(&output.outcome), output.index.to_string());
            seen.push(output.index);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..120).collect::<Vec<_>>());
    let query = OutputsQuery { range: Some((10, 12)), ..query() };
    let some = functions.outputs(&CALLER, made.call, query).await.unwrap();
    assert_eq!(some.outputs.iter().map(|output| output.index).collect::<Vec<_>>(), [10, 11, 12]);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_runs_after_the_server_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    // Containers that never answer: all inputs are still to be done when the server is killed.
    let first = setup_with(&dir, settings(), Starts::Silently).await;
    let mut calls = Vec::new();
    for number in 0..20 {
        calls.push((number, spawn(&first.functions, &format!("echo:{number}")).await.call));
    }
    let abandoned = first.functions.containers(None).await;
    assert!(!abandoned.is_empty());
    let functions = first.functions.clone();
    first.kill();
    // The journal lets itself be opened anew once nobody has it.
    functions.stop().await;
    drop(functions);

    let second = Setup::open(options(&dir), Starts::Well);
    // What its worker says of containers that are gone.
    for container in abandoned {
        let event = corral_containers::ContainerEvent::Ended {
            end: corral_containers::ContainerEnd::Lost,
            usage: corral_containers::Usage::default(),
        };
        second.functions.container_event(container.container, event).await.unwrap();
    }
    for (number, call) in calls {
        let output = output(&second.functions, call).await;
        assert_eq!(text(&output.outcome), number.to_string());
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_tried_again_as_the_function_asks() {
    let dir = tempfile::tempdir().unwrap();
    let retries = RetryPolicy { retries: 1, initial_delay_ms: 10, ..RetryPolicy::default() };
    let setup = setup(&dir, FunctionSettings { retries, ..settings() }).await;
    let functions = &setup.functions;
    let outcome = remote(functions, "fail-first").await;
    assert_eq!((outcome.status, text(&outcome)), (OutcomeStatus::Success, "tried 1"));
    let made = spawn(functions, "fail").await;
    let output = output(functions, made.call).await;
    assert_eq!((output.outcome.status, output.retries), (OutcomeStatus::Failure, 1));
    assert_eq!(output.outcome.exception, "ValueError: no");
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_exits_costs_attempts_and_then_the_input_fails() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, settings()).await;
    let outcome = remote(&setup.functions, "exit").await;
    assert_eq!(outcome.status, OutcomeStatus::InternalFailure);
    assert!(outcome.exception.contains("exited with code 7"), "{}", outcome.exception);
    let outcome = remote(&setup.functions, "memory").await;
    assert_eq!(outcome.status, OutcomeStatus::Failure);
    assert!(outcome.exception.contains("2.00 MiB"), "{}", outcome.exception);
    assert!(outcome.exception.contains("memory="), "{}", outcome.exception);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_containers_that_cannot_start() {
    for (starts, status, words) in [
        (Starts::WithException("ImportError: x".into()), OutcomeStatus::Failure, "ImportError: x"),
        (Starts::NotAtAll("no image".into()), OutcomeStatus::InitFailure, "no image (hint: try"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let setup = setup_with(&dir, settings(), starts).await;
        let outcome = remote(&setup.functions, "echo:x").await;
        assert_eq!(outcome.status, status);
        assert!(outcome.exception.contains(words), "{}", outcome.exception);
        setup.stop().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let slow = FunctionSettings { startup_timeout_ms: 100, ..settings() };
    let setup = setup_with(&dir, slow, Starts::Silently).await;
    let outcome = remote(&setup.functions, "echo:x").await;
    assert_eq!(outcome.status, OutcomeStatus::InitFailure);
    assert!(outcome.exception.contains("startup timeout of 0.1 s"), "{}", outcome.exception);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_start_fails_what_waits_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup_with(&dir, settings(), Starts::Silently).await;
    let made = spawn(&setup.functions, "echo:x").await;
    let container = setup.functions.containers(None).await[0].container;
    let message = "the image has no Python 3.9".to_owned();
    setup.functions.start_refused(container, message, None).await.unwrap();
    let output = output(&setup.functions, made.call).await;
    assert_eq!(output.outcome.status, OutcomeStatus::InitFailure);
    assert_eq!(output.outcome.exception, "the image has no Python 3.9");
    setup.stop().await;
}

async fn is_running(functions: &Functions, call: CallId) -> bool {
    functions.call_info(&CALLER, call).await.unwrap().running_inputs > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_is_over_and_its_container_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let one = Scaling { max_containers: 1, ..settings().scaling };
    let setup = setup(&dir, FunctionSettings { scaling: one, ..settings() }).await;
    let functions = &setup.functions;
    let made = spawn(functions, "sleep").await;
    let queued = spawn(functions, "echo:x").await;
    until("it runs", || is_running(functions, made.call)).await;
    functions.cancel_call(&CALLER, queued.call, CancelContainers::Keep).await.unwrap();
    functions.cancel_call(&CALLER, made.call, CancelContainers::Keep).await.unwrap();
    for call in [made.call, queued.call] {
        let output = output(functions, call).await;
        assert_eq!(output.outcome.status, OutcomeStatus::Terminated);
    }
    assert_eq!(text(&remote(functions, "echo:after").await), "after");
    assert_eq!(setup.host.starts.lock().unwrap().len(), 1);
    assert!(setup.host.stops.lock().unwrap().is_empty());

    let made = spawn(functions, "sleep").await;
    until("it runs", || is_running(functions, made.call)).await;
    functions.cancel_call(&CALLER, made.call, CancelContainers::Terminate).await.unwrap();
    assert_eq!(text(&remote(functions, "echo:more").await), "more");
    assert_eq!(setup.host.starts.lock().unwrap().len(), 2);
    let stops = setup.host.stops.lock().unwrap().clone();
    assert_eq!(stops[0].1, StopReason::InputCancelled);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_takes_too_long_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, FunctionSettings { timeout_ms: 100, ..settings() }).await;
    let outcome = remote(&setup.functions, "sleep").await;
    assert_eq!(outcome.status, OutcomeStatus::Timeout);
    assert!(outcome.exception.contains("timeout of 0.1 s"), "{}", outcome.exception);
    assert_eq!(setup.host.stops.lock().unwrap()[0].1, StopReason::InputTimeout);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generators_yield_chunks_and_requests_have_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, settings()).await;
    let functions = &setup.functions;
    let made = spawn(functions, "yield").await;
    let mut chunks = Vec::new();
    loop {
        let more = functions.data_out(&CALLER, made.call, chunks.len() as u64, LONG).await.unwrap();
        if more.is_empty() {
            break;
        }
        chunks.extend(more);
    }
    assert_eq!(chunks.iter().map(|chunk| chunk.index).collect::<Vec<_>>(), [1, 2, 3]);
    // Whoever lost the connection reads again.
    assert_eq!(functions.data_out(&CALLER, made.call, 1, LONG).await.unwrap().len(), 2);

    let made = spawn(functions, "read").await;
    let payload = Payload::Inline(Bytes::from_static(b"body"));
    let chunk = DataChunk { index: 1, payload, data_format: 2 };
    functions.put_data_in(&CALLER, made.call, vec![chunk.clone()]).await.unwrap();
    functions.put_data_in(&CALLER, made.call, vec![chunk.clone()]).await.unwrap();
    assert_eq!(text(&output(functions, made.call).await.outcome), "1");
    let gap = DataChunk { index: 5, ..chunk };
    let refused = functions.put_data_in(&CALLER, made.call, vec![gap]).await;
    assert!(matches!(refused, Err(FunctionsError::ChunkGap { expected: 2, found: 5, .. })));
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_filled_or_linger() {
    let dir = tempfile::tempdir().unwrap();
    let batching = Some(Batching { max_size: 4, linger_ms: 200 });
    let one = Scaling { max_containers: 1, ..settings().scaling };
    let setup = setup(&dir, FunctionSettings { batching, scaling: one, ..settings() }).await;
    let functions = &setup.functions;
    let began = Instant::now();
    assert_eq!(text(&remote(functions, "batch").await), "1");
    assert!(began.elapsed() >= Duration::from_millis(200));
    let new = call(CallKind::Map, &["batch"; 8]);
    let made = functions.create_call(&CALLER, new).await.unwrap();
    let mut sizes = Vec::new();
    let mut after = EntryId::default();
    while sizes.len() < 8 {
        let query = OutputsQuery { after, ..query() };
        let page = functions.outputs(&CALLER, made.call, query).await.unwrap();
        after = page.last;
        sizes.extend(page.outputs.iter().map(|output| text(&output.outcome).to_owned()));
    }
    assert_eq!(sizes, ["4"; 8]);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_follow_the_scaling() {
    let dir = tempfile::tempdir().unwrap();
    let scaling = Scaling {
        min_containers: 2,
        max_containers: 3,
        scaledown_window_ms: 50,
        ..Scaling::default()
    };
    let setup = setup(&dir, FunctionSettings { scaling, ..settings() }).await;
    let functions = &setup.functions;
    let idle = async || functions.stats(FUNCTION).await.unwrap().idle_containers;
    until("two are warm", || async { idle().await == 2 }).await;
    let calls = [
        spawn(functions, "sleep").await,
        spawn(functions, "sleep").await,
        spawn(functions, "sleep").await,
        spawn(functions, "sleep").await,
    ];
    until("three run", || async { functions.stats(FUNCTION).await.unwrap().running_inputs == 3 })
        .await;
    let stats = functions.stats(FUNCTION).await.unwrap();
    assert_eq!((stats.containers, stats.backlog, stats.input_headroom), (3, 1, 0));
    for made in &calls {
        functions.cancel_call(&CALLER, made.call, CancelContainers::Keep).await.unwrap();
    }
    until("two are left", || async { functions.stats(FUNCTION).await.unwrap().containers == 2 })
        .await;
    let none = ScalingChange { min_containers: Some(0), ..ScalingChange::default() };
    let scaled = functions.change_scaling(&CALLER, FUNCTION, none).await.unwrap();
    assert_eq!((scaled.min_containers, scaled.max_containers), (0, 3));
    until("none is left", || async { functions.stats(FUNCTION).await.unwrap().containers == 0 })
        .await;
    let usage = functions.usage(CALLER.workspace).await;
    let (_, _, usage) = usage[0];
    assert_eq!((usage.template_starts, usage.failed_starts, usage.cpu_ms), (3, 0, 150));
    assert_eq!(usage.cold_share(), Some(0.0));
    let wrong = ScalingChange { min_containers: Some(9), ..ScalingChange::default() };
    let refused = functions.change_scaling(&CALLER, FUNCTION, wrong).await;
    assert!(matches!(refused, Err(FunctionsError::Settings(_))));
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_drains_the_containers_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, settings()).await;
    let functions = &setup.functions;
    let long = spawn(functions, "sleep").await;
    until("it runs", || is_running(functions, long.call)).await;
    functions.define(FunctionSettings { version: 2, ..settings() }).await.unwrap();
    assert_eq!(text(&remote(functions, "echo:new").await), "new");
    let containers = functions.containers(None).await;
    let of = |version| containers.iter().find(|info| info.version == version).unwrap();
    assert_eq!(of(1).state, ContainerState::Draining);
    assert_eq!(of(1).inputs, [long.inputs[0].input]);
    assert_ne!(of(2).state, ContainerState::Draining);
    functions.cancel_call(&CALLER, long.call, CancelContainers::Keep).await.unwrap();
    until("the old one ended", || async { functions.containers(None).await.len() == 1 }).await;
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_a_single_use_gets_one_input() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, FunctionSettings { reuse: Reuse::Single, ..settings() }).await;
    for number in ["1", "2", "3"] {
        assert_eq!(text(&remote(&setup.functions, &format!("echo:{number}")).await), number);
    }
    assert_eq!(setup.host.starts.lock().unwrap().len(), 3);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_function_ends_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir, settings()).await;
    let functions = &setup.functions;
    let running = spawn(functions, "sleep").await;
    until("it runs", || is_running(functions, running.call)).await;
    functions.retire(FUNCTION).await.unwrap();
    functions.retire(FUNCTION).await.unwrap();
    let output = output(functions, running.call).await;
    assert_eq!(output.outcome.status, OutcomeStatus::Terminated);
    let refused = functions.create_call(&CALLER, call(CallKind::Unary, &["echo:x"])).await;
    assert!(matches!(refused, Err(FunctionsError::Retired { .. })));
    until("no container is left", || async { functions.containers(None).await.is_empty() }).await;
    assert_eq!(setup.host.stops.lock().unwrap()[0].1, StopReason::AppStopped);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_replace_the_records_and_blobs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let small = || FunctionsOptions { snapshot_after_bytes: 8 << 10, ..options(&dir) };
    let first = Setup::open(small(), Starts::Well);
    first.functions.define(settings()).await.unwrap();
    let blob = BlobHash::of(b"large");
    let with_blob = NewInput { payload: Payload::Blob(blob), ..input(0, "") };
    // Nothing runs it, so that it is still an input later.
    let held = FunctionId::from_u128(8);
    let none = FunctionSettings { function: held, ..settings() };
    first.functions.define(FunctionSettings { app: AppId::from_u128(2), ..none }).await.unwrap();
    let new = NewCall { inputs: vec![with_blob], ..call(CallKind::Unary, &[]) };
    let kept = first.functions.create_call(&CALLER, new).await.unwrap();
    let mut calls = Vec::new();
    for number in 0..300 {
        calls.push(spawn(&first.functions, &format!("echo:{number}")).await.call);
    }
    for &call in &calls {
        output(&first.functions, call).await;
    }
    let journal = first.functions.journal().clone();
    until("a snapshot is there", || async { journal.newest_snapshot().get() > 100 }).await;
    drop(journal);
    first.stop().await;
    let second = Setup::open(small(), Starts::Silently);
    for (number, &call) in calls.iter().enumerate() {
        assert_eq!(text(&output(&second.functions, call).await.outcome), number.to_string());
    }
    assert_eq!(text(&output(&second.functions, kept.call).await.outcome), "a blob");
    let with_blob = NewInput { payload: Payload::Blob(blob), ..input(0, "") };
    let new = NewCall { inputs: vec![with_blob], function: held, ..call(CallKind::Unary, &[]) };
    second.functions.create_call(&CALLER, new).await.unwrap();
    assert_eq!(second.functions.referenced_blobs().await, [blob]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_with_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup_with(&dir, settings(), Starts::Silently).await;
    let functions = &setup.functions;
    let large = "x".repeat(corral_functions::MAX_INLINE_BYTES + 1);
    let refused = functions.create_call(&CALLER, call(CallKind::Unary, &[&large])).await;
    let Err(error @ FunctionsError::TooLarge { .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(error.to_string(), "an inline payload in bytes is 16385; it may be at most 16384");
    let new = NewCall { inputs: vec![input(5_000_000, "x")], ..call(CallKind::Map, &[]) };
    let refused = functions.create_call(&CALLER, new).await;
    assert!(matches!(refused, Err(FunctionsError::TooLarge { .. })), "{refused:?}");
    let wrong = FunctionSettings { timeout_ms: 0, ..settings() };
    let refused = functions.define(wrong).await.unwrap_err().to_string();
    assert_eq!(refused, "timeout_ms is 0; it may be from 1 to 86400000");
    setup.stop().await;
}
