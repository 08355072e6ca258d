//! Logs of apps: followed, read back, counted.

use std::time::{Duration, Instant};

use corral_apps::logs::{LogEntry, LogFilter, TimeRange};
use corral_modal_api as api;
use corral_types::{AppId, Timestamp};
use futures_util::stream;

use super::Edge;
use super::call::Call;
use super::ids::{id, millis, optional_id, seconds, timestamp};
use super::refusal::{Answer, Refusal};

/// How long a stream of logs lasts at most; clients open another one.
const MAX_STREAM: Duration = Duration::from_secs(60);

/// How often it is looked whether an app has ended while nothing is logged.
const END_CHECK: Duration = Duration::from_millis(200);

/// Lines of one message at most.
const MAX_ITEMS: usize = 500;

/// Lines where the client does not say how many.
const DEFAULT_LIMIT: usize = 1_000;

pub type Batches =
    std::pin::Pin<Box<dyn futures_util::Stream<Item = Answer<api::TaskLogsBatch>> + Send>>;

/// A stream of logs, and what is still to be sent of it.
struct Following {
    edge: Edge,
    call: Call,
    app: AppId,
    filter: LogFilter,
    after: u64,
    ends: Instant,
    ready: Vec<api::TaskLogsBatch>,
    is_done: bool,
}

pub async fn follow(edge: &Edge, call: &Call, request: api::AppGetLogsRequest) -> Answer<Batches> {
    let app = app_of(edge, call, &request.app_id, &request.task_id).await?;
    let function = text_of_either(&request.parametrized_function_id, &request.function_id);
    let filter = LogFilter {
        descriptor: descriptor(request.file_descriptor),
        container: optional_id(&request.task_id, "container")?,
        functions: optional_id(function, "function")?.into_iter().collect(),
        call: optional_id(&request.function_call_id, "call")?,
        input: optional_id(&request.input_id, "input")?,
        text: request.search_text,
    };
    let wait = Duration::try_from_secs_f32(request.timeout).unwrap_or_default().min(MAX_STREAM);
    let following = Following {
        edge: edge.clone(),
        call: call.clone(),
        app,
        filter,
        after: request.last_entry_id.parse().unwrap_or(0),
        ends: Instant::now() + wait,
        ready: Vec::new(),
        is_done: false,
    };
    let batches = stream::unfold(following, |mut following| async move {
        match following.next().await {
            Ok(Some(batch)) => Some((Ok(batch), following)),
            Ok(None) => None,
            Err(refusal) => Some((Err(refusal), following)),
        }
    });
    Ok(Box::pin(batches))
}

impl Following {
    async fn next(&mut self) -> Answer<Option<api::TaskLogsBatch>> {
        let mut newest = self.edge.logs.newest(self.app)?;
        loop {
            if let Some(batch) = self.ready.pop() {
                return Ok(Some(batch));
            }
            if self.is_done {
                return Ok(None);
            }
            newest.mark_unchanged();
            // Whether it is over is asked before what there is: what came until then is read.
            let app = self.edge.apps.app(&self.call.caller, self.app).await?;
            let is_over = self.edge.is_over(&app, &self.call.caller).await;
            let filter = self.filter.clone();
            let (entries, looked) = self.edge.logs.after(self.app, self.after, filter).await?;
            let is_behind = looked > self.after;
            self.after = looked;
            if !entries.is_empty() {
                self.ready = batches(entries);
                self.ready.reverse();
                continue;
            }
            if is_behind {
                continue;
            }
            if is_over {
                self.is_done = true;
                return Ok(Some(api::TaskLogsBatch { app_done: true, ..Default::default() }));
            }
            let left = self.ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let _changed = tokio::time::timeout(left.min(END_CHECK), newest.changed()).await;
        }
    }
}

pub async fn fetch(
    edge: &Edge,
    call: &Call,
    request: api::AppFetchLogsRequest,
) -> Answer<api::AppFetchLogsResponse> {
    let app = app_of(edge, call, &request.app_id, &request.task_id).await?;
    let function = text_of_either(&request.parametrized_function_id, &request.function_id);
    let filter = LogFilter {
        descriptor: descriptor(request.source),
        container: optional_id(&request.task_id, "container")?,
        functions: optional_id(function, "function")?.into_iter().collect(),
        call: optional_id(&request.function_call_id, "call")?,
        input: None,
        text: request.search_text,
    };
    let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit as usize };
    let range = range(request.since.as_ref(), request.until.as_ref());
    let entries = edge.logs.range(app, range, filter, limit).await?;
    Ok(api::AppFetchLogsResponse { batches: batches(entries) })
}

pub async fn count(
    edge: &Edge,
    call: &Call,
    request: api::AppCountLogsRequest,
) -> Answer<api::AppCountLogsResponse> {
    let app = app_of(edge, call, &request.app_id, &request.task_id).await?;
    let function = text_of_either(&request.parametrized_function_id, &request.function_id);
    let filter = LogFilter {
        descriptor: descriptor(request.source),
        container: optional_id(&request.task_id, "container")?,
        functions: optional_id(function, "function")?.into_iter().collect(),
        call: optional_id(&request.function_call_id, "call")?,
        input: None,
        text: request.search_text,
    };
    let range = range(request.since.as_ref(), request.until.as_ref());
    let bucket = Duration::from_secs(u64::from(request.bucket_secs.max(1)));
    let counts = edge.logs.count(app, range, filter, bucket).await?;
    let buckets = counts.into_iter().map(|(begin, [stdout, stderr, system])| {
        api::app_count_logs_response::LogBucket {
            bucket_start_at: Some(timestamp(begin)),
            stdout_logs: stdout,
            stderr_logs: stderr,
            system_logs: system,
        }
    });
    Ok(api::AppCountLogsResponse { app_id: app.to_string(), buckets: buckets.collect() })
}

/// The app that is named, or that of the container that is.
async fn app_of(edge: &Edge, call: &Call, app: &str, container: &str) -> Answer<AppId> {
    if app.is_empty() && !container.is_empty() {
        let found = edge.functions.container(id(container, "container")?).await;
        let found = found.filter(|found| found.workspace == call.caller.workspace);
        let not_there = || Refusal::not_found(format!("there is no container `{container}`"));
        return Ok(found.ok_or_else(not_there)?.app);
    }
    // Whether the app is the caller's is asked before its files are opened.
    Ok(edge.apps.app(&call.caller, id(app, "app")?).await?.id)
}

fn text_of_either<'a>(first: &'a str, second: &'a str) -> &'a str {
    if first.is_empty() { second } else { first }
}

fn descriptor(value: i32) -> Option<u8> {
    u8::try_from(value).ok().filter(|descriptor| (1..=3).contains(descriptor))
}

fn range(since: Option<&api::Timestamp>, until: Option<&api::Timestamp>) -> TimeRange {
    TimeRange {
        since: since.map(millis).unwrap_or_default(),
        until: until.map_or(Timestamp::from_millis(u64::MAX), millis),
    }
}

/// Lines as messages carry them: neighbours of one container together.
fn batches(entries: Vec<LogEntry>) -> Vec<api::TaskLogsBatch> {
    let mut batches: Vec<api::TaskLogsBatch> = Vec::new();
    for LogEntry { number, line } in entries {
        let task_id = line.container.map(|id| id.to_string()).unwrap_or_default();
        let function_id = line.function.map(|id| id.to_string()).unwrap_or_default();
        let item = api::TaskLogs {
            data: line.text,
            timestamp: seconds(line.at),
            timestamp_ns: line.at.as_millis() * 1_000_000,
            file_descriptor: i32::from(line.descriptor),
            function_call_id: line.call.map(|id| id.to_string()).unwrap_or_default(),
            input_id: line.input.map(|id| id.to_string()).unwrap_or_default(),
            container_id: task_id.clone(),
            ..Default::default()
        };
        match batches.last_mut() {
            Some(last)
                if last.task_id == task_id
                    && last.function_id == function_id
                    && last.items.len() < MAX_ITEMS =>
            {
                last.items.push(item);
                last.entry_id = number.to_string();
            }
            _ => batches.push(api::TaskLogsBatch {
                task_id,
                root_function_id: function_id.clone(),
                function_id,
                items: vec![item],
                entry_id: number.to_string(),
                ..Default::default()
            }),
        }
    }
    batches
}
