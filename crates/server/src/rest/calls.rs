//! Calls of functions with JSON.
//!
//! Arguments travel in the one format of the client's protocol that is not Python's own; a
//! function answers in the format in which it was asked. Pickles are never opened here.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use corral_apps::ResolvedFunction;
use corral_catalog::MAX_KEY_BYTES;
use corral_functions::{
    AfterFetch, CallInfo, CallKind, CancelContainers, EntryId, Invocation, MAX_INLINE_BYTES,
    MAX_METHOD_BYTES, NewCall, NewInput, OutcomeStatus, Output, OutputsQuery, Payload,
};
use corral_modal_api::DataFormat;
use corral_modal_api::function::FunctionType;
use corral_types::{CallId, Caller, ErrorKind, Failure, Scope};
use tokio::time::Instant;

use super::answer::{Answer, ApiError, Body, Query, id, invalid, time};
use super::functions::{Callee, definition, find, has_cbor};
use super::{apps, upload};
use crate::api::{
    CallDetail, CallErrorDetail, CallQuery, CallRequest, CancelCallRequest, EnvironmentQuery,
    InputCounts,
};
use crate::auth::{Asker, FunctionCaller};
use crate::cbor::{self, CBOR_FORMAT};
use crate::state::App;

/// How long a caller waits when it says nothing.
const USUAL_WAIT: Duration = Duration::from_secs(60);

/// The longest that one request waits: proxies give up on longer ones.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The largest result that is shown as JSON, which takes several times as much memory.
const MAX_SHOWN_BYTES: u64 = 8 << 20;

/// Calls a function of an app that has not ended. Answers with the call when it is done (200),
/// or as it is after the time to wait (202); it goes on then. The same `Idempotency-Key` for the
/// same function is the same call.
#[utoipa::path(post, path = "/v1/functions/{app}/{function}/calls", tag = "functions",
    params(("app" = String, Path), ("function" = String, Path), EnvironmentQuery),
    request_body = CallRequest,
    responses((status = 200, body = CallDetail), (status = 202, body = CallDetail)))]
pub async fn create(
    State(app): State<App>,
    FunctionCaller(caller): FunctionCaller,
    Path((of, name)): Path<(String, String)>,
    Query(query): Query<EnvironmentQuery>,
    headers: HeaderMap,
    Body(request): Body<CallRequest>,
) -> Answer<(StatusCode, Json<CallDetail>)> {
    let caller = with_rights_to_call(&caller);
    let wait = match request.wait {
        Some(false) => Duration::ZERO,
        Some(true) | None => request.timeout_s.map_or(Ok(USUAL_WAIT), wait_of)?,
    };
    let record = apps::find(&app, &caller, query.environment.as_deref(), &of).await?;
    let Callee { function, method } = find(&app, &caller, &record, &name).await?;
    let method = method_of(&function, method.or(request.method))?;
    let arguments = cbor::encode_arguments(&request.args, &request.kwargs);
    let input = NewInput {
        index: 0,
        payload: put(&app, arguments).await?,
        data_format: CBOR_FORMAT,
        method,
    };
    let call = NewCall {
        function: function.record.id,
        kind: CallKind::Unary,
        invocation: if wait.is_zero() { Invocation::Async } else { Invocation::Sync },
        parent: None,
        idempotency_key: key(&headers, &function)?,
        inputs: vec![input],
    };
    let call = app.functions.create_call(&caller, call).await?.call;
    answer(&app, &caller, call, wait).await
}

/// A call: its state, and its result or error once there is one.
#[utoipa::path(get, path = "/v1/calls/{id}", tag = "functions",
    params(("id" = String, Path), CallQuery),
    responses((status = 200, body = CallDetail), (status = 202, body = CallDetail)))]
pub async fn show(
    State(app): State<App>,
    Asker(caller): Asker,
    Path(text): Path<String>,
    Query(query): Query<CallQuery>,
) -> Answer<(StatusCode, Json<CallDetail>)> {
    let wait = query.wait_seconds.map_or(Ok(Duration::ZERO), wait_of)?;
    answer(&app, &with_rights_to_call(&caller), id(&text, "call")?, wait).await
}

/// Ends what of a call is unfinished. Cancelling it again changes nothing.
#[utoipa::path(post, path = "/v1/calls/{id}/cancel", tag = "functions",
    params(("id" = String, Path)), request_body = CancelCallRequest,
    responses((status = 200, body = CallDetail)))]
pub async fn cancel(
    State(app): State<App>,
    FunctionCaller(caller): FunctionCaller,
    Path(text): Path<String>,
    Body(request): Body<CancelCallRequest>,
) -> Answer<Json<CallDetail>> {
    let caller = with_rights_to_call(&caller);
    let call = id(&text, "call")?;
    let containers = if request.terminate_containers {
        CancelContainers::Terminate
    } else {
        CancelContainers::Keep
    };
    app.functions.cancel_call(&caller, call, containers).await?;
    let (_, detail) = answer(&app, &caller, call, Duration::ZERO).await?;
    Ok(detail)
}

/// The service knows rights to read and to write; who may call may see what becomes of it.
fn with_rights_to_call(caller: &Caller) -> Caller {
    let scopes = caller.scopes.with(Scope::Read).with(Scope::Write);
    Caller { scopes, ..*caller }
}

fn wait_of(seconds: f64) -> Answer<Duration> {
    let wait = Duration::try_from_secs_f64(seconds).ok().filter(|wait| *wait <= MAX_WAIT);
    wait.ok_or_else(|| {
        let most = MAX_WAIT.as_secs();
        invalid(format!("{seconds} seconds cannot be waited; it is 0 to {most}"))
    })
}

/// The key of a request that may be repeated, which is one of its function's.
fn key(headers: &HeaderMap, function: &ResolvedFunction) -> Answer<Option<String>> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES);
    let key = key.ok_or_else(|| {
        invalid(format!("an Idempotency-Key has 1 to {MAX_KEY_BYTES} ASCII characters"))
    })?;
    Ok(Some(format!("rest {} {key}", function.record.id)))
}

/// The method that is called, empty for a function; refused where it cannot be called so.
fn method_of(function: &ResolvedFunction, method: Option<String>) -> Answer<String> {
    let definition = definition(function)?;
    let name = &function.record.tag;
    let refuse = |message: String, hint: &str| {
        Err(ApiError(Failure::new(ErrorKind::Conflict, message).with_hint(hint)))
    };
    let (method, kind, is_web, formats) = if definition.method_definitions.is_empty() {
        if let Some(method) = method {
            return Err(invalid(format!("`{name}` is a function; it has no method `{method}`")));
        }
        let is_web = definition.webhook_config.is_some();
        (String::new(), definition.function_type, is_web, &definition.supported_input_formats)
    } else {
        let mut names: Vec<&str> =
            definition.method_definitions.keys().map(String::as_str).collect();
        names.sort_unstable();
        let chosen = match method {
            Some(method) => method,
            None if names.len() == 1 => names[0].to_owned(),
            None => {
                let message = format!("`{name}` is a class; say which method is called");
                let hint = format!("its methods are {}", names.join(", "));
                return Err(ApiError(Failure::new(ErrorKind::Invalid, message).with_hint(hint)));
            }
        };
        let Some(found) = definition.method_definitions.get(&chosen) else {
            let chosen: String = chosen.chars().take(MAX_METHOD_BYTES).collect();
            let message = format!("`{name}` has no method `{chosen}`");
            let hint = format!("its methods are {}", names.join(", "));
            return Err(ApiError(Failure::new(ErrorKind::NotFound, message).with_hint(hint)));
        };
        let is_web = found.webhook_config.is_some();
        (chosen, found.function_type, is_web, &found.supported_input_formats)
    };
    if is_web {
        let message = format!("`{name}` answers web requests, not calls");
        return refuse(message, "ask its URL");
    }
    if kind == FunctionType::Generator as i32 {
        let message = format!("`{name}` yields values one after another, which is no JSON answer");
        return refuse(message, "call it by `.remote_gen()` of the modal client");
    }
    if !has_cbor(formats) {
        let version = &function.spec.client_version;
        let message = format!(
            "`{name}` takes arguments as Python pickles alone: it was defined by modal {version}"
        );
        return refuse(message, "deploy it with a newer client, such as modal 1.6");
    }
    Ok(method)
}

/// Arguments as the service takes them: large ones are put as a blob first.
async fn put(app: &App, arguments: Vec<u8>) -> Answer<Payload> {
    if arguments.len() <= MAX_INLINE_BYTES {
        return Ok(Payload::Inline(arguments.into()));
    }
    let blobs = app.blobs.clone();
    let put = tokio::task::spawn_blocking(move || blobs.put_bytes(&arguments));
    Ok(Payload::Blob(put.await.map_err(|_| upload::cut_off())??.hash))
}

/// The call as it is when it is done, or when the time is over.
async fn answer(
    app: &App,
    caller: &Caller,
    call: CallId,
    wait: Duration,
) -> Answer<(StatusCode, Json<CallDetail>)> {
    let deadline = Instant::now() + wait;
    loop {
        let info = app.functions.call_info(caller, call).await?;
        let is_over = is_done(&info);
        let wait = deadline.saturating_duration_since(Instant::now());
        let is_last = is_over || wait.is_zero();
        let output = match info.kind {
            CallKind::Unary => {
                first_output(app, caller, call, if is_over { Duration::ZERO } else { wait }).await?
            }
            CallKind::Map => {
                if !is_last {
                    // Maps are watched, not waited for: their results are the client's to read.
                    tokio::time::sleep(wait.min(MAP_PAUSE)).await;
                }
                None
            }
        };
        if output.is_some() || is_last {
            // What came while it was waited for is in the numbers too.
            let info = app.functions.call_info(caller, call).await?;
            let status = if is_done(&info) { StatusCode::OK } else { StatusCode::ACCEPTED };
            return Ok((status, Json(detail(app, &info, output).await?)));
        }
    }
}

/// The pause between looks at a map that is waited for.
const MAP_PAUSE: Duration = Duration::from_millis(500);

async fn first_output(
    app: &App,
    caller: &Caller,
    call: CallId,
    wait: Duration,
) -> Answer<Option<Output>> {
    let query = OutputsQuery {
        after: EntryId::default(),
        range: Some((0, 0)),
        wait,
        after_fetch: AfterFetch::Keep,
        limit: 1,
    };
    Ok(app.functions.outputs(caller, call, query).await?.outputs.pop())
}

fn is_done(info: &CallInfo) -> bool {
    info.total_inputs > 0 && info.pending_inputs == 0 && info.running_inputs == 0
}

async fn detail(app: &App, info: &CallInfo, output: Option<Output>) -> Answer<CallDetail> {
    let mut detail = CallDetail {
        id: info.call.to_string(),
        function: info.function.to_string(),
        kind: match info.kind {
            CallKind::Unary => "unary",
            CallKind::Map => "map",
        }
        .to_owned(),
        state: state(info).to_owned(),
        created: time(info.created_at),
        started: None,
        ended: None,
        inputs: InputCounts {
            total: info.total_inputs,
            pending: info.pending_inputs,
            running: info.running_inputs,
            succeeded: info.succeeded_inputs,
            failed: info.failed_inputs,
            timed_out: info.timed_out_inputs,
            cancelled: info.cancelled_inputs,
        },
        result: None,
        result_not_shown: None,
        error: None,
    };
    let Some(output) = output else {
        if info.kind == CallKind::Unary && is_done(info) {
            let reason = "it was fetched by its client and is kept no longer";
            detail.result_not_shown = Some(reason.to_owned());
        }
        return Ok(detail);
    };
    detail.started = output.started_at.map(time);
    detail.ended = Some(time(output.created_at));
    if output.outcome.status == OutcomeStatus::Success {
        match result(app, info.call, &output).await? {
            Shown::Value(value) => detail.result = Some(value),
            Shown::Not(reason) => detail.result_not_shown = Some(reason),
        }
    } else {
        detail.error = Some(CallErrorDetail {
            status: output.outcome.status.as_str().to_owned(),
            exception: output.outcome.exception,
            traceback: output.outcome.traceback,
            container: output.container.map(|container| container.to_string()),
            retries: output.retries,
        });
    }
    Ok(detail)
}

/// The state of all inputs together: what is unfinished first, then the worst end.
fn state(info: &CallInfo) -> &'static str {
    if info.running_inputs > 0 {
        "running"
    } else if !is_done(info) {
        "pending"
    } else if info.failed_inputs > 0 {
        "failed"
    } else if info.timed_out_inputs > 0 {
        "timed_out"
    } else if info.cancelled_inputs > 0 {
        "cancelled"
    } else {
        "succeeded"
    }
}

enum Shown {
    Value(serde_json::Value),
    Not(String),
}

async fn result(app: &App, call: CallId, output: &Output) -> Answer<Shown> {
    let by_client = format!("`modal.FunctionCall.from_id(\"{call}\").get()` reads it");
    let format = output.outcome.data_format;
    if format != CBOR_FORMAT {
        let what = match DataFormat::try_from(format as i32) {
            Ok(DataFormat::Pickle | DataFormat::Unspecified) => {
                "a Python pickle, since it was called by a Python client"
            }
            Ok(DataFormat::GeneratorDone) => "a sequence of values",
            _ => "of a format that is not shown",
        };
        return Ok(Shown::Not(format!("it is {what}; {by_client}")));
    }
    let bytes = match &output.outcome.payload {
        None => return Ok(Shown::Value(serde_json::Value::Null)),
        Some(Payload::Inline(bytes)) => bytes.clone(),
        Some(Payload::Blob(hash)) => {
            let (blobs, hash) = (app.blobs.clone(), *hash);
            let read = tokio::task::spawn_blocking(move || {
                let length = blobs.len(&hash)?;
                if length > MAX_SHOWN_BYTES { Ok(Err(length)) } else { blobs.read(&hash).map(Ok) }
            });
            match read.await.map_err(|_| upload::cut_off())?? {
                Ok(bytes) => bytes.into(),
                Err(length) => {
                    let [found, most] = [length, MAX_SHOWN_BYTES].map(corral_types::display_bytes);
                    let large = format!("it has {found}, and {most} are shown at most");
                    return Ok(Shown::Not(format!("{large}; {by_client}")));
                }
            }
        }
    };
    Ok(match cbor::decode(&bytes) {
        Ok(value) => Shown::Value(value),
        Err(error) => Shown::Not(format!("{error}; {by_client}")),
    })
}

#[cfg(test)]
mod tests {
    use corral_types::{FunctionId, Timestamp};

    use super::*;

    fn info(pending: u32, running: u32, succeeded: u32, failed: u32, cancelled: u32) -> CallInfo {
        CallInfo {
            call: CallId::from_u128(1),
            function: FunctionId::from_u128(2),
            kind: CallKind::Map,
            invocation: Invocation::Async,
            parent: None,
            created_at: Timestamp::from_millis(0),
            total_inputs: pending + running + succeeded + failed + cancelled,
            pending_inputs: pending,
            running_inputs: running,
            succeeded_inputs: succeeded,
            failed_inputs: failed,
            timed_out_inputs: 0,
            cancelled_inputs: cancelled,
        }
    }

    #[test]
    fn a_calls_state_is_that_of_its_inputs() {
        for (info, expected) in [
            (info(0, 0, 0, 0, 0), "pending"),
            (info(2, 0, 1, 1, 0), "pending"),
            (info(2, 1, 1, 1, 0), "running"),
            (info(0, 0, 3, 0, 0), "succeeded"),
            (info(0, 0, 3, 1, 1), "failed"),
            (info(0, 0, 3, 0, 1), "cancelled"),
        ] {
            assert_eq!(state(&info), expected, "{info:?}");
        }
    }

    #[test]
    fn waits_have_a_limit() {
        assert_eq!(wait_of(0.5).unwrap(), Duration::from_millis(500));
        assert_eq!(wait_of(600.0).unwrap(), MAX_WAIT);
        for wrong in [-1.0, 600.1, f64::NAN, f64::INFINITY] {
            assert!(wait_of(wrong).is_err(), "{wrong}");
        }
    }
}
