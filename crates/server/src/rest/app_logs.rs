//! What apps and containers wrote.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use corral_apps::AppRecord;
use corral_apps::logs::{LogEntry, LogFilter, MAX_LINES_READ, TimeRange};
use corral_types::{AppId, Caller, ContainerId, ErrorKind, Failure, FunctionId, Timestamp};
use tokio::time::Instant;

use super::answer::{Answer, ApiError, Query, id, invalid, time};
use super::apps;
use crate::api::{AppLogLine, AppLogPage, AppLogQuery, ContainerLogQuery};
use crate::auth::Reader;
use crate::state::App;

/// Lines when nothing is said of their number.
const USUAL_LINES: u32 = 100;

/// The longest that one request waits for a line; clients ask again.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What an app's containers wrote, and what Corral says of them.
#[utoipa::path(get, path = "/v1/apps/{app}/logs", tag = "functions",
    params(("app" = String, Path), AppLogQuery), responses((status = 200, body = AppLogPage)))]
pub async fn of_app(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<AppLogQuery>,
) -> Answer<Json<AppLogPage>> {
    let record = apps::find(&app, &caller, query.environment.as_deref(), &text).await?;
    let descriptor = query.stream.as_deref().map(descriptor_of).transpose()?;
    let functions = match &query.function {
        Some(name) => functions_named(&app, &caller, &record, name).await?,
        None => Vec::new(),
    };
    let filter = LogFilter {
        descriptor,
        container: query.container.as_deref().map(|text| id(text, "container")).transpose()?,
        functions,
        call: query.call.as_deref().map(|text| id(text, "call")).transpose()?,
        input: None,
        text: query.text.unwrap_or_default(),
    };
    let wanted = Wanted {
        filter,
        after: query.after,
        lines: lines(query.tail)?,
        since: query.since_seconds.map(Duration::from_secs),
        wait: wait(query.wait_seconds),
    };
    read(&app, record.id, wanted).await
}

/// What one container wrote; also for a while after its end.
#[utoipa::path(get, path = "/v1/containers/{id}/logs", tag = "functions",
    params(("id" = String, Path), ContainerLogQuery),
    responses((status = 200, body = AppLogPage)))]
pub async fn of_container(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<ContainerLogQuery>,
) -> Answer<Json<AppLogPage>> {
    let container: ContainerId = id(&text, "container")?;
    let found = app.functions.container(container).await;
    let Some(found) = found.filter(|found| found.workspace == caller.workspace) else {
        let message = format!("there is no container {container} now");
        let hint = "what one that has ended wrote is in its app's log: \
                    `corral app logs APP --container ID`";
        return Err(ApiError(Failure::new(ErrorKind::NotFound, message).with_hint(hint)));
    };
    let wanted = Wanted {
        filter: LogFilter { container: Some(container), ..LogFilter::default() },
        after: query.after,
        lines: lines(query.tail)?,
        since: None,
        wait: wait(query.wait_seconds),
    };
    read(&app, found.app, wanted).await
}

/// Which lines of an app's log.
struct Wanted {
    filter: LogFilter,
    after: Option<u64>,
    lines: usize,
    since: Option<Duration>,
    wait: Duration,
}

async fn read(app: &App, of: AppId, wanted: Wanted) -> Answer<Json<AppLogPage>> {
    let mut newest = app.app_logs.newest(of)?;
    let now = Timestamp::now();
    let since = wanted.since.map_or(0, |since| {
        now.as_millis().saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    });
    let since = Timestamp::from_millis(since);
    let Some(mut after) = wanted.after else {
        // What comes while these are read is told by the next request.
        let next = *newest.borrow_and_update();
        let range = TimeRange { since, until: Timestamp::from_millis(u64::MAX) };
        let entries = app.app_logs.range(of, range, wanted.filter, wanted.lines).await?;
        let entries = entries.into_iter().filter(|entry| entry.number <= next);
        return Ok(Json(AppLogPage { lines: entries.map(line).collect(), next }));
    };
    let deadline = Instant::now() + wanted.wait;
    loop {
        let reached = *newest.borrow_and_update();
        let (mut entries, looked) = app.app_logs.after(of, after, wanted.filter.clone()).await?;
        after = looked;
        entries.retain(|entry| entry.line.at >= since);
        if entries.len() > wanted.lines {
            entries.truncate(wanted.lines);
            after = entries.last().map_or(after, |last| last.number);
        }
        if !entries.is_empty() {
            return Ok(Json(AppLogPage {
                lines: entries.into_iter().map(line).collect(),
                next: after,
            }));
        }
        if after < reached {
            continue;
        }
        let came = tokio::time::timeout_at(deadline, newest.changed()).await;
        if !matches!(came, Ok(Ok(()))) {
            return Ok(Json(AppLogPage { lines: Vec::new(), next: after }));
        }
    }
}

fn lines(tail: Option<u32>) -> Answer<usize> {
    let tail = tail.unwrap_or(USUAL_LINES) as usize;
    if tail == 0 || tail > MAX_LINES_READ {
        return Err(invalid(format!(
            "`tail` is {tail}; one answer has 1 to {MAX_LINES_READ} lines"
        )));
    }
    Ok(tail)
}

fn wait(seconds: Option<u64>) -> Duration {
    Duration::from_secs(seconds.unwrap_or(0)).min(MAX_WAIT)
}

const STREAMS: [(&str, u8); 3] = [("stdout", 1), ("stderr", 2), ("system", 3)];

fn descriptor_of(word: &str) -> Answer<u8> {
    let found = STREAMS.iter().find(|(name, _)| *name == word);
    found
        .map(|(_, descriptor)| *descriptor)
        .ok_or_else(|| invalid(format!("`stream` is stdout, stderr or system, not `{word}`")))
}

/// A function of the app, and the same with other parameters.
async fn functions_named(
    app: &App,
    caller: &Caller,
    record: &AppRecord,
    name: &str,
) -> Answer<Vec<FunctionId>> {
    let layout = app.apps.layout(caller, record).await?;
    let Some(base) = layout.functions.get(name) else {
        let names: Vec<&str> = layout.functions.keys().map(String::as_str).collect();
        let message = format!("the app {} has no function `{name}`", record.description);
        let hint = format!("it has {}", names.join(", "));
        return Err(ApiError(Failure::new(ErrorKind::NotFound, message).with_hint(hint)));
    };
    let mut found = Vec::new();
    for function in app.apps.counting_functions(caller, record).await? {
        if app.apps.function(caller, function).await?.base() == base.id {
            found.push(function);
        }
    }
    Ok(found)
}

fn line(entry: LogEntry) -> AppLogLine {
    let LogEntry { number, line } = entry;
    let stream = STREAMS.iter().find(|(_, descriptor)| *descriptor == line.descriptor);
    AppLogLine {
        number,
        at: time(line.at),
        stream: stream.map_or("system", |(name, _)| name).to_owned(),
        text: line.text,
        container: line.container.map(|container| container.to_string()),
        function: line.function.map(|function| function.to_string()),
        call: line.call.map(|call| call.to_string()),
    }
}
