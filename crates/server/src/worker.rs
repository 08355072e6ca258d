//! The server's side of the worker protocol: translates calls, decides nothing.
//!
//! The same paths are served on the unix socket of this machine, where file permissions say
//! who may call, and on the open port, where a token with the scope `admin` is needed.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use corral_catalog::DEFAULT_WORKSPACE;
use corral_placement::{ResidentClaim, WorkerPresence};
use corral_types::{BlobHash, ErrorKind, Failure, TaskId, WorkerId};
use corral_worker_api::{
    Acknowledged, Commands, EventBatch, Hello, Poll, TaskEventBatch, WORKER_HEADER, Welcome,
};
use tokio_util::io::ReaderStream;

use crate::api::WorkerDetail;
use crate::auth::Admin;
use crate::rest::{self, Answer, ApiError};
use crate::state::App;

/// The largest batch of events: 512 lines of 16 KiB, and their names.
const MAX_CALL_BYTES: usize = 16 << 20;

/// The largest output of a job.
const MAX_OUTPUT_BYTES: u64 = 64 << 30;

/// The memory that the server leases on its own machine for mapped models, encoders and
/// caches, or the eighth of a small machine.
const SERVER_LEASE_BYTES: u64 = 256 << 20;
const SERVER_LEASE_SHARE: u64 = 8;

/// The task under which the server's own lease stands.
const SERVER_TASK: TaskId = TaskId::from_u128(1);

/// The calls as the unix socket serves them.
pub fn local_router(app: App) -> Router {
    calls(post(local_hello)).with_state(app)
}

/// The calls as the open port serves them.
pub fn remote_router(app: App) -> Router {
    calls(post(hello))
        .layer(middleware::from_fn_with_state(app.clone(), admins_only))
        .with_state(app)
}

fn calls(hello: MethodRouter<App>) -> Router<App> {
    Router::new()
        .route("/worker/v1/hello", hello)
        .route("/worker/v1/poll", post(poll))
        .route("/worker/v1/events", post(events))
        .route("/worker/v1/tasks", post(task_events))
        .layer(DefaultBodyLimit::max(MAX_CALL_BYTES))
        .route("/worker/v1/blobs/{hash}", get(read_blob).head(keep_blob).put(write_blob))
}

async fn admins_only(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match Admin::from_request_parts(&mut parts, &app).await {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    }
}

async fn hello(State(app): State<App>, Json(hello): Json<Hello>) -> Answer<Json<Welcome>> {
    Ok(Json(app.jobs.hello(&hello).await?))
}

/// The worker that calls by the socket shares this machine, so the server's own memory is
/// leased from it.
async fn local_hello(State(app): State<App>, Json(hello): Json<Hello>) -> Answer<Json<Welcome>> {
    let share = hello.capacity.memory_bytes / SERVER_LEASE_SHARE;
    let claim = ResidentClaim {
        task: SERVER_TASK,
        workspace: DEFAULT_WORKSPACE,
        worker: hello.worker,
        memory_request_bytes: SERVER_LEASE_BYTES.min(share),
        memory_limit_bytes: None,
    };
    // Before hello, so that no waiting job takes the memory first.
    app.jobs.claim_resident(claim).await?;
    Ok(Json(app.jobs.hello(&hello).await?))
}

async fn poll(State(app): State<App>, Json(poll): Json<Poll>) -> Answer<Json<Commands>> {
    Ok(Json(app.jobs.poll(&poll).await?))
}

async fn events(
    State(app): State<App>,
    Json(batch): Json<EventBatch>,
) -> Answer<Json<Acknowledged>> {
    Ok(Json(app.jobs.events_from_worker(batch).await?))
}

async fn task_events(
    State(app): State<App>,
    Json(batch): Json<TaskEventBatch>,
) -> Answer<StatusCode> {
    app.jobs.task_events(batch).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read_blob(
    State(app): State<App>,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let hash = parse_hash(&text)?;
    let worker = headers.get(WORKER_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    let worker: WorkerId = worker.ok_or_else(|| {
        let message = format!("the header `{WORKER_HEADER}` does not name a worker");
        ApiError(Failure::new(ErrorKind::Invalid, message))
    })?;
    if !app.jobs.worker_may_read(worker, hash).await {
        return Err(ApiError(Failure::new(
            ErrorKind::NotFound,
            format!("{hash} is no input of what this worker runs"),
        )));
    }
    let bytes = app.blobs.len(&hash)?;
    let file = tokio::fs::File::from_std(app.blobs.open_file(&hash)?);
    let length = [(header::CONTENT_LENGTH, bytes.to_string())];
    Ok((length, Body::from_stream(ReaderStream::with_capacity(file, 256 * 1024))).into_response())
}

/// Whether the blob is here; if it is, it is kept from collection as if it had been put.
async fn keep_blob(State(app): State<App>, Path(text): Path<String>) -> Answer<StatusCode> {
    let is_here = app.blobs.revive(&parse_hash(&text)?)?;
    Ok(if is_here { StatusCode::OK } else { StatusCode::NOT_FOUND })
}

async fn write_blob(
    State(app): State<App>,
    Path(text): Path<String>,
    body: Body,
) -> Answer<StatusCode> {
    let hash = parse_hash(&text)?;
    let put = rest::receive_blob(&app.blobs, body, MAX_OUTPUT_BYTES).await?;
    if put.hash != hash {
        return Err(ApiError(Failure::new(
            ErrorKind::Invalid,
            format!("the bytes have the hash {}, not {hash}", put.hash),
        )));
    }
    Ok(StatusCode::NO_CONTENT)
}

fn parse_hash(text: &str) -> Answer<BlobHash> {
    text.parse().map_err(|error: corral_types::ParseHashError| {
        ApiError(Failure::new(ErrorKind::Invalid, error.to_string()))
    })
}

/// The workers as the REST API shows them.
pub async fn details(app: &App) -> Vec<WorkerDetail> {
    let workers = app.jobs.workers().await;
    let details = workers.into_iter().map(|status| {
        let is_here =
            status.placement.as_ref().is_some_and(|view| view.presence == WorkerPresence::Present);
        WorkerDetail {
            id: status.worker.to_string(),
            host_name: status.host_name,
            state: if is_here { "connected" } else { "lost" }.to_owned(),
            memory_bytes: status.capacity.memory_bytes,
            leased_memory_bytes: status.placement.as_ref().map_or(0, |view| view.charged_bytes),
            milli_cpu: status.capacity.milli_cpu,
            running: status.jobs.len() as u32,
        }
    });
    details.collect()
}

/// Whether any worker is connected.
pub async fn is_any_here(app: &App) -> bool {
    app.jobs.workers().await.iter().any(|status| {
        status.placement.as_ref().is_some_and(|view| view.presence == WorkerPresence::Present)
    })
}
