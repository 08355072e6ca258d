//! `/v1/jobs`.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use corral_jobs::{Ending, Job, JobFilter, JobRequest, JobState, JobView, Phase};
use corral_placement::WaitReason;
use corral_types::{Caller, ErrorKind, Failure, JobId, Timestamp, display_bytes};
use corral_worker_api::LogStream;
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use super::answer::{Answer, ApiError, Body, Query, id, invalid, page_of, page_request, time};
use crate::api::{
    DEFAULT_PAGE, ErrorDetail, JobDetail, JobListQuery, LogLine, LogPage, LogQuery, MAX_PAGE, Page,
    PageQuery, ProbeRequest, RunDetail,
};
use crate::auth::{Admin, Reader, Writer};
use crate::state::App;

/// The kind of job that only takes memory and time.
const PROBE_KIND: &str = "probe";

/// The pause between signs of life on a silent stream of events.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The jobs of the workspace, newest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(JobListQuery),
    responses((status = 200, body = Page<JobDetail>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<JobListQuery>,
) -> Answer<Json<Page<JobDetail>>> {
    let states = match query.state.as_deref() {
        None => Vec::new(),
        Some(word) => vec![JobState::from_word(word).ok_or_else(|| {
            let words = JobState::ALL.map(JobState::as_str).join(", ");
            invalid(format!("`{word}` is not a job's state; the states are {words}"))
        })?],
    };
    let after = query.after.as_deref().map(|text| id(text, "job")).transpose()?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE) as usize;
    let filter = JobFilter { states, ..JobFilter::default() };
    let page = app.jobs.list(&caller, &filter, after, limit).await?;
    Ok(Json(Page {
        items: page.jobs.iter().map(|job| detail(job, None)).collect(),
        next: page.next.map(|id| id.to_string()),
    }))
}

/// One job.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
) -> Answer<Json<JobDetail>> {
    read(&app, &caller, id(&text, "job")?).await
}

/// What the job wrote.
#[utoipa::path(get, path = "/v1/jobs/{id}/logs", tag = "jobs",
    params(("id" = String, Path), LogQuery), responses((status = 200, body = LogPage)))]
pub async fn logs(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<LogQuery>,
) -> Answer<Json<LogPage>> {
    let limit = query.limit.unwrap_or(MAX_PAGE) as usize;
    let job = id(&text, "job")?;
    let page = app.jobs.logs(&caller, job, query.after.unwrap_or(0), limit).await?;
    let lines = page.entries.into_iter().map(|line| LogLine {
        number: line.id,
        at: time(line.at),
        stream: match line.stream {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
            LogStream::System => "system",
        }
        .to_owned(),
        line: line.line,
    });
    Ok(Json(LogPage { lines: lines.collect(), dropped: page.first_kept.saturating_sub(1) }))
}

/// The job's events as they come, as server-sent events. `Last-Event-ID` resumes.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub async fn events(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let after = match headers.get("last-event-id") {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| invalid("Last-Event-ID is not a number that this stream gave out"))?,
    };
    let events = app.jobs.events(&caller, id(&text, "job")?, after).await?;
    // An error ends the stream; the client resumes and is told in its answer.
    let stream = events.take_while(|event| std::future::ready(event.is_ok())).filter_map(
        |event| async move {
            let event = event.ok()?;
            let data = serde_json::to_value(&event).ok()?;
            let written =
                Event::default().id(event.id.to_string()).event(event.kind.name()).json_data(data);
            written.ok().map(Ok)
        },
    );
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The trials of a training job.
#[utoipa::path(get, path = "/v1/jobs/{id}/runs", tag = "jobs",
    params(("id" = String, Path), PageQuery), responses((status = 200, body = Page<RunDetail>)))]
pub async fn runs(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<RunDetail>>> {
    let job: JobId = id(&text, "job")?;
    app.jobs.get(&caller, job).await?;
    let page = app.catalog.list_runs(caller.workspace, job, page_request(&query)?).await?;
    Ok(page_of(page, |run| {
        let params: Value = serde_json::from_str(&run.params_json).unwrap_or_default();
        RunDetail {
            run: run.number,
            name: params["name"].as_str().unwrap_or_default().to_owned(),
            status: mlflow_status(run.status).to_owned(),
            started: time(run.started),
            ended: run.ended.map(time).unwrap_or_default(),
            params,
            metrics: serde_json::from_str(&run.metrics_json).unwrap_or_default(),
        }
    }))
}

fn mlflow_status(status: corral_catalog::RunStatus) -> &'static str {
    match status {
        corral_catalog::RunStatus::Running => "RUNNING",
        corral_catalog::RunStatus::Finished => "FINISHED",
        corral_catalog::RunStatus::Failed => "FAILED",
        corral_catalog::RunStatus::Stopped => "KILLED",
    }
}

/// A file that a job which succeeded has made, such as `predictions`; kept as long as the job is.
#[utoipa::path(get, path = "/v1/jobs/{id}/outputs/{name}", tag = "jobs",
    params(("id" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub async fn output(
    State(app): State<App>,
    Reader(caller): Reader,
    Path((text, name)): Path<(String, String)>,
) -> Answer<Response> {
    let JobView { job, .. } = app.jobs.get(&caller, id(&text, "job")?).await?;
    let Phase::Ended { ending: Ending::Succeeded { outputs, .. }, .. } = &job.phase else {
        let message = format!("the job {text} is {}, and has no outputs", job.state());
        return Err(ApiError(Failure::new(ErrorKind::Conflict, message)));
    };
    let Some(output) = outputs.iter().find(|output| output.name == name) else {
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let message = format!("the job {text} made no `{name}`");
        let hint = format!("it made {}", names.join(", "));
        return Err(ApiError(Failure::new(ErrorKind::NotFound, message).with_hint(hint)));
    };
    let file = tokio::fs::File::from_std(app.blobs.open_file(&output.blob)?);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, output.bytes.to_string()),
    ];
    Ok((headers, axum::body::Body::from_stream(ReaderStream::new(file))).into_response())
}

/// Ends the job and drops what it has.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobDetail)))]
pub async fn cancel(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
) -> Answer<Json<JobDetail>> {
    let job = id(&text, "job")?;
    app.jobs.cancel(&caller, job).await?;
    read(&app, &caller, job).await
}

/// Ends the job early; it keeps what it has.
#[utoipa::path(post, path = "/v1/jobs/{id}/finish", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobDetail)))]
pub async fn finish(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
) -> Answer<Json<JobDetail>> {
    let job = id(&text, "job")?;
    app.jobs.finish_now(&caller, job).await?;
    read(&app, &caller, job).await
}

/// Runs a job that takes memory and time and nothing else, to see limits at work.
#[utoipa::path(post, path = "/v1/jobs/probe", tag = "jobs", request_body = ProbeRequest,
    responses((status = 200, body = JobDetail)))]
pub async fn probe(
    State(app): State<App>,
    Admin(caller): Admin,
    Body(probe): Body<ProbeRequest>,
) -> Answer<Json<JobDetail>> {
    let mut request = JobRequest::new(PROBE_KIND, PROBE_KIND, probe.payload);
    if let Some(bytes) = probe.memory_bytes {
        request.memory_request_bytes = bytes;
    }
    request.memory_limit_bytes = probe.memory_limit_bytes;
    request.time_limit_ms = probe.time_limit_seconds.map(|seconds| seconds.saturating_mul(1000));
    if let Some(attempts) = probe.max_attempts {
        request.max_attempts = attempts;
    }
    let job = app.jobs.submit(&caller, request).await?;
    read(&app, &caller, job).await
}

/// The job as it is now, for the caller who may read or has just changed it.
pub async fn read(app: &App, caller: &Caller, job: JobId) -> Answer<Json<JobDetail>> {
    // Whoever may change a job may see what became of it.
    let reader = Caller { scopes: caller.scopes.with(corral_types::Scope::Read), ..*caller };
    let JobView { job, waits } = app.jobs.get(&reader, job).await?;
    Ok(Json(detail(&job, waits.map(|waits| why_it_waits(&waits)))))
}

fn detail(job: &Job, waits: Option<String>) -> JobDetail {
    let (ended, result, error) = match &job.phase {
        Phase::Ended { at, ending } => {
            let (result, error) = ending_of(ending);
            (Some(*at), result, error)
        }
        _ => (None, None, None),
    };
    let running = job.attempt.as_ref().and_then(|attempt| attempt.started_at);
    let accounting = &job.accounting;
    let progress = job.progress.as_ref();
    JobDetail {
        id: job.id.to_string(),
        kind: job.request.kind.clone(),
        name: job.request.name.clone(),
        state: job.state().as_str().to_owned(),
        created: time(job.submitted_at),
        started: job.first_started_at.map(time),
        ended: ended.map(time),
        attempts: job.past.len() as u32 + u32::from(job.attempt.is_some()),
        progress: if result.is_some() {
            1.0
        } else {
            progress.map_or(0.0, |progress| progress.fraction)
        },
        message: waits.or_else(|| progress.map(|p| p.message.clone())).unwrap_or_default(),
        memory_request_bytes: job.request.memory_request_bytes,
        peak_memory_bytes: (accounting.peak_memory_bytes > 0)
            .then_some(accounting.peak_memory_bytes),
        cpu_ms: accounting.cpu_ms,
        running_ms: running
            .filter(|_| ended.is_none())
            .map(|since| Timestamp::now().since(since).as_millis() as u64),
        request: job.request.payload.clone(),
        result,
        error,
    }
}

fn why_it_waits(reason: &WaitReason) -> String {
    match reason {
        WaitReason::NoWorker => "waits for a worker".to_owned(),
        WaitReason::WorkerAway => "waits for a worker that is away".to_owned(),
        WaitReason::Busy { asked_bytes, most_free_bytes, ahead, .. } => format!(
            "waits for {} of memory: {} is free, {ahead} are before it",
            display_bytes(*asked_bytes),
            display_bytes(*most_free_bytes)
        ),
    }
}

fn ending_of(ending: &Ending) -> (Option<Value>, Option<ErrorDetail>) {
    let error = |kind: ErrorKind, message: String, causes: Vec<String>, hint: Option<String>| {
        Some(ErrorDetail { kind: kind.as_str().to_owned(), message, causes, hint })
    };
    match ending {
        Ending::Succeeded { result, .. } => (Some(result.clone()), None),
        Ending::Failed { failure } => {
            let (causes, hint) = (failure.causes.clone(), failure.hint.clone());
            (None, error(failure_kind(failure.reason), failure.message.clone(), causes, hint))
        }
        Ending::Cancelled => {
            let message = "it was cancelled".to_owned();
            (None, error(ErrorKind::Conflict, message, Vec::new(), None))
        }
        Ending::TimedOut { limit_ms } => {
            let message = format!("it was not done within its time limit of {limit_ms} ms");
            let hint = Some("give it more time, or less to do".to_owned());
            (None, error(ErrorKind::Timeout, message, Vec::new(), hint))
        }
    }
}

fn failure_kind(reason: corral_jobs::FailureReason) -> ErrorKind {
    use corral_jobs::FailureReason;
    match reason {
        FailureReason::Refused | FailureReason::Handler => ErrorKind::Invalid,
        FailureReason::OverMemory => ErrorKind::Exhausted,
        FailureReason::Died | FailureReason::WorkerLost => ErrorKind::Unavailable,
        FailureReason::Completion => ErrorKind::Internal,
    }
}
