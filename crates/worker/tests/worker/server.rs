//! The server's side of the protocol, in memory, with the ways in which a server goes wrong.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::tls::TlsListener;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_types::{AttemptId, BlobHash};
use corral_worker_api::{
    Acknowledged, AttemptEvent, Command, Commands, Event, EventBatch, Hello, Numbered, Outcome,
    Poll, Usage, WORKER_HEADER, Welcome,
};

/// How long a test waits for what it expects; far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a poll of the test's server waits for commands.
const POLL_WAIT: Duration = Duration::from_millis(300);

/// Where the server listens.
#[derive(Clone, Debug)]
pub enum Listen {
    Unix(PathBuf),
    Tcp,
    /// With a certificate of the tests' own authority.
    Tls,
}

/// What the server has on its disk, so to speak: it survives a restart.
#[derive(Default)]
pub struct Records {
    pub hellos: Vec<Hello>,
    pub usage: Usage,
    pub events: BTreeMap<AttemptId, Vec<AttemptEvent>>,
    /// Events that came again after they had been taken.
    pub repeated: usize,
    pub blobs: HashMap<BlobHash, Bytes>,
    pub puts: usize,
    pub polls: usize,
    pub forget: Vec<AttemptId>,
    /// How many of the next transfers of blobs are cut short.
    pub cut_transfers: usize,
    /// Acknowledgements to lose after the events were taken.
    pub lose_acknowledgements: usize,
    /// Refuses outputs with this status.
    pub refuse_puts: Option<u16>,
    pub token: Option<String>,
    /// Starts that a worker has taken.
    placed: Vec<Command>,
    session: u64,
    commands: Vec<Numbered>,
    acknowledged: u64,
}

#[derive(Default)]
struct Shared {
    records: Mutex<Records>,
    changed: Condvar,
}

/// A server that can be stopped and started again.
pub struct Server {
    shared: Arc<Shared>,
    listen: Listen,
    port: Option<u16>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    pub fn start(listen: Listen) -> Self {
        let mut server = Self { shared: Arc::default(), listen, port: None, runtime: None };
        server.restart();
        server
    }

    /// The address in the form of the worker's settings.
    pub fn address(&self) -> String {
        match (&self.listen, self.port) {
            (Listen::Unix(path), _) => format!("unix:{}", path.display()),
            (Listen::Tcp, Some(port)) => format!("http://127.0.0.1:{port}"),
            (Listen::Tls, Some(port)) => format!("https://localhost:{port}"),
            (_, None) => panic!("the server has not listened yet"),
        }
    }

    /// Drops every connection at once, as a kill does.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts anew with what is on disk; sessions are not.
    pub fn restart(&mut self) {
        self.stop();
        {
            let mut records = self.records();
            records.session += 1000;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let app = Router::new()
            .route("/worker/v1/hello", post(hello))
            .route("/worker/v1/poll", post(poll))
            .route("/worker/v1/events", post(events))
            .route("/worker/v1/blobs/{hash}", get(get_blob).put(put_blob))
            .layer(axum::middleware::from_fn_with_state(self.shared.clone(), authenticate))
            .layer(DefaultBodyLimit::disable())
            .with_state(self.shared.clone());
        match &self.listen {
            Listen::Unix(path) => {
                let _ = std::fs::remove_file(path);
                let _entered = runtime.enter();
                let listener = tokio::net::UnixListener::bind(path).unwrap();
                runtime.spawn(async { axum::serve(listener, app).await });
            }
            Listen::Tcp | Listen::Tls => {
                let bind = tokio::net::TcpListener::bind(("127.0.0.1", self.port.unwrap_or(0)));
                let listener = runtime.block_on(bind).unwrap();
                self.port = Some(listener.local_addr().unwrap().port());
                if matches!(self.listen, Listen::Tls) {
                    let listener = TlsListener::over(listener);
                    runtime.spawn(async { axum::serve(listener, app).await });
                } else {
                    runtime.spawn(async { axum::serve(listener, app).await });
                }
            }
        }
        self.runtime = Some(runtime);
    }

    pub fn records(&self) -> MutexGuard<'_, Records> {
        self.shared.records.lock().unwrap()
    }

    pub fn command(&self, command: Command) {
        let mut records = self.records();
        let number = records.commands.last().map_or(records.acknowledged, |last| last.number) + 1;
        records.commands.push(Numbered { number, command });
        drop(records);
        self.shared.changed.notify_all();
    }

    pub fn add_blob(&self, bytes: &[u8]) -> BlobHash {
        let hash = BlobHash::of(bytes);
        self.records().blobs.insert(hash, Bytes::copy_from_slice(bytes));
        hash
    }

    /// Waits until `find` finds something in the records.
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&mut Records) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut records = self.records();
        loop {
            if let Some(found) = find(&mut records) {
                return found;
            }
            let left = end.checked_duration_since(Instant::now());
            let Some(left) = left else {
                panic!("waited in vain for {what}; events: {:#?}", records.events)
            };
            let step = left.min(Duration::from_millis(100));
            records = self.shared.changed.wait_timeout(records, step).unwrap().0;
        }
    }

    pub fn wait_for_event<T>(
        &self,
        attempt: AttemptId,
        what: &str,
        mut find: impl FnMut(&Event) -> Option<T>,
    ) -> T {
        self.wait_for(what, |records| {
            records.events.get(&attempt)?.iter().find_map(|event| find(&event.event))
        })
    }

    pub fn wait_for_process(&self, attempt: AttemptId) -> u32 {
        self.wait_for_event(attempt, "the start", |event| match event {
            Event::Started { process_id } => Some(*process_id),
            _ => None,
        })
    }

    pub fn wait_for_end(&self, attempt: AttemptId) -> Outcome {
        self.wait_for_event(attempt, "the end", |event| match event {
            Event::Ended { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
    }

    /// The attempt's events, checked: numbered without gaps, nothing after the end.
    pub fn events(&self, attempt: AttemptId) -> Vec<Event> {
        let records = self.records();
        let events = records.events.get(&attempt).cloned().unwrap_or_default();
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event.number, index as u64 + 1);
            let is_last = index + 1 == events.len();
            assert!(is_last || !matches!(event.event, Event::Ended { .. }), "{events:#?}");
        }
        events.into_iter().map(|event| event.event).collect()
    }

    pub fn log(&self, attempt: AttemptId) -> Vec<String> {
        let lines = self.events(attempt).into_iter();
        lines
            .filter_map(|event| match event {
                Event::Log { line, .. } => Some(line),
                _ => None,
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

type Context = State<Arc<Shared>>;

async fn authenticate(
    State(shared): Context,
    headers: HeaderMap,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let expected = shared.records.lock().unwrap().token.clone();
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    match expected {
        Some(token) if given != Some(&format!("Bearer {token}")) => {
            let body = serde_json::json!({"error": {"message": "this token is not known"}});
            (StatusCode::UNAUTHORIZED, Json(body)).into_response()
        }
        _ => next.run(request).await,
    }
}

async fn hello(State(shared): Context, Json(hello): Json<Hello>) -> Json<Welcome> {
    let mut records = shared.records.lock().unwrap();
    records.session += 1;
    records.hellos.push(hello);
    // Nobody asks for what was forgotten, also where the worker had not told that it has it.
    let forget = records.forget.clone();
    let is_forgotten = |command: &Command| matches!(command, Command::Start(start) if forget.contains(&start.attempt));
    records.commands.retain(|numbered| !is_forgotten(&numbered.command));
    records.placed.retain(|command| !is_forgotten(command));
    // A start that was taken, but which the worker does not know, is to be made again: it can
    // only have been lost before anything was told of it.
    let known = &records.hellos.last().unwrap().attempts;
    let lost: Vec<Command> = records
        .placed
        .iter()
        .filter(|placed| matches!(placed, Command::Start(start) if !known.contains(&start.attempt)))
        .filter(|placed| !has_ended(&records, placed))
        .cloned()
        .collect();
    for command in &lost {
        let Command::Start(start) = command else { unreachable!() };
        assert!(!records.events.contains_key(&start.attempt), "a told attempt is not known");
    }
    records.commands.extend(lost.into_iter().map(|command| Numbered { number: 0, command }));
    // What was not taken is still to be done; the numbers begin anew.
    records.acknowledged = 0;
    for (index, command) in records.commands.iter_mut().enumerate() {
        command.number = index as u64 + 1;
    }
    let session = records.session;
    drop(records);
    shared.changed.notify_all();
    Json(Welcome { session, forget })
}

fn has_ended(records: &Records, command: &Command) -> bool {
    let Command::Start(start) = command else { return true };
    let last = records.events.get(&start.attempt).and_then(|events| events.last());
    last.is_some_and(|event| matches!(event.event, Event::Ended { .. }))
}

async fn poll(State(shared): Context, Json(poll): Json<Poll>) -> Response {
    let end = Instant::now() + POLL_WAIT;
    loop {
        {
            let mut records = shared.records.lock().unwrap();
            if poll.session != records.session {
                return StatusCode::CONFLICT.into_response();
            }
            records.acknowledged = records.acknowledged.max(poll.acknowledged);
            records.usage = poll.usage.clone();
            let taken = records.acknowledged;
            let (done, left) = std::mem::take(&mut records.commands)
                .into_iter()
                .partition::<Vec<_>, _>(|command| command.number <= taken);
            records.commands = left;
            let started = done.into_iter().map(|numbered| numbered.command);
            records.placed.extend(started.filter(|done| matches!(done, Command::Start(_))));
            if !records.commands.is_empty() || Instant::now() > end {
                records.polls += 1;
                let commands = records.commands.clone();
                shared.changed.notify_all();
                return Json(Commands { commands }).into_response();
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn events(State(shared): Context, Json(batch): Json<EventBatch>) -> Response {
    let mut records = shared.records.lock().unwrap();
    if batch.session != records.session {
        return StatusCode::CONFLICT.into_response();
    }
    let mut up_to = BTreeMap::new();
    for event in batch.events {
        for hash in blobs_of(&event.event) {
            assert!(records.blobs.contains_key(&hash), "an event came before its blob");
        }
        let taken = records.events.entry(event.attempt).or_default();
        let last = taken.len() as u64;
        assert!(event.number <= last + 1, "event {} came after {last}", event.number);
        up_to.insert(event.attempt, last.max(event.number));
        if event.number == last + 1 {
            taken.push(event);
        } else {
            records.repeated += 1;
        }
    }
    shared.changed.notify_all();
    if records.lose_acknowledgements > 0 {
        records.lose_acknowledgements -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(Acknowledged { up_to: up_to.into_iter().collect() }).into_response()
}

fn blobs_of(event: &Event) -> Vec<BlobHash> {
    match event {
        Event::Checkpoint { blob } => vec![*blob],
        Event::Ended { outcome: Outcome::Succeeded { outputs, .. }, .. } => {
            outputs.iter().map(|output| output.blob).collect()
        }
        _ => Vec::new(),
    }
}

/// Also answers HEAD. Bytes are only for a worker that says which it is.
async fn get_blob(
    State(shared): Context,
    Path(hash): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let mut records = shared.records.lock().unwrap();
    let caller = headers.get(WORKER_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    let is_known = records.hellos.iter().any(|hello| Some(hello.worker) == caller);
    assert!(method == Method::HEAD || is_known, "a stranger reads inputs");
    let Some(bytes) = records.blobs.get(&hash.parse().unwrap()).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if records.cut_transfers > 0 {
        records.cut_transfers -= 1;
        return bytes.slice(..bytes.len() / 2).into_response();
    }
    bytes.into_response()
}

async fn put_blob(State(shared): Context, Path(hash): Path<String>, bytes: Bytes) -> Response {
    let mut records = shared.records.lock().unwrap();
    if let Some(status) = records.refuse_puts {
        return (StatusCode::from_u16(status).unwrap(), "over quota").into_response();
    }
    let hash: BlobHash = hash.parse().unwrap();
    if BlobHash::of(&bytes) != hash {
        return StatusCode::BAD_REQUEST.into_response();
    }
    records.puts += 1;
    records.blobs.insert(hash, bytes);
    StatusCode::OK.into_response()
}
