//! Calls, as those who make them see them.

use std::pin::Pin;
use std::time::Duration;

use corral_functions::{
    AcceptedInput, AfterFetch, CallInfo, CallKind, CancelContainers, DataChunk, InputState,
    Invocation, MAX_INPUTS_OUTSTANDING, MAX_OUTPUTS_PER_PAGE, NewCall, NewInput, Outcome,
    OutcomeStatus, Output, OutputsQuery, RetriedInput,
};
use corral_modal_api as api;
use corral_modal_api::data_chunk::DataOneof as ChunkData;
use corral_modal_api::function_input::ArgsOneof;
use corral_modal_api::generic_result::{DataOneof as ResultData, GenericStatus};
use corral_types::{CallId, Caller, ErrorKind};
use futures_util::stream;

use super::Edge;
use super::call::Call;
use super::functions::callable;
use super::ids::{id, optional_id, seconds};
use super::payloads::{Carried, accept, deliver};
use super::refusal::{Answer, Refusal};
use super::tokens::url_base64;

/// How long a request waits for outputs at most; clients ask for 55 seconds.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long a stream of chunks is quiet before it ends; clients open another one.
const STREAM_WAIT: Duration = Duration::from_secs(50);

/// A stream that has nothing to say any more ends after this, so that a client which opens it
/// again at once does not do so a thousand times a second.
const STREAM_END_PAUSE: Duration = Duration::from_millis(100);

/// Outputs on one page where the client does not say.
const DEFAULT_OUTPUTS: usize = 100;

/// Calls of a function in one answer.
const MAX_CALLS_LISTED: usize = 100;

pub type Chunks = Pin<Box<dyn futures_util::Stream<Item = Answer<api::DataChunk>> + Send>>;

pub async fn map(
    edge: &Edge,
    call: &Call,
    request: api::FunctionMapRequest,
) -> Answer<api::FunctionMapResponse> {
    use api::FunctionCallInvocationType as Wire;
    let function = callable(edge, call, &request.function_id).await?;
    let kind = match request.function_call_type() {
        api::FunctionCallType::Map => CallKind::Map,
        _ => CallKind::Unary,
    };
    let invocation = match request.function_call_invocation_type() {
        Wire::Async | Wire::AsyncLegacy => Invocation::Async,
        Wire::SyncLegacy => Invocation::SyncLegacy,
        Wire::Sync | Wire::Unspecified => Invocation::Sync,
    };
    let new = NewCall {
        function: function.record.id,
        kind,
        invocation,
        parent: optional_id(&request.parent_input_id, "input")?,
        idempotency_key: call.idempotency_key.clone(),
        inputs: new_inputs(edge, call, request.pipelined_inputs).await?,
    };
    let created = edge.functions.create_call(&call.caller, new).await?;
    Ok(api::FunctionMapResponse {
        function_call_id: created.call.to_string(),
        pipelined_inputs: accepted(created.inputs),
        function_call_jwt: created.call.to_string(),
        max_inputs_outstanding: MAX_INPUTS_OUTSTANDING,
        // Attempts are repeated here, where they survive the client.
        sync_client_retries_enabled: false,
        retry_policy: None,
    })
}

pub async fn put_inputs(
    edge: &Edge,
    call: &Call,
    request: api::FunctionPutInputsRequest,
) -> Answer<api::FunctionPutInputsResponse> {
    let of = own_call(edge, call, &request.function_call_id).await?;
    let inputs = new_inputs(edge, call, request.inputs).await?;
    let inputs = edge.functions.put_inputs(&call.caller, of, inputs).await?;
    Ok(api::FunctionPutInputsResponse { inputs: accepted(inputs) })
}

pub async fn finish_inputs(
    edge: &Edge,
    call: &Call,
    request: api::FunctionFinishInputsRequest,
) -> Answer<()> {
    let of = own_call(edge, call, &request.function_call_id).await?;
    Ok(edge.functions.finish_inputs(&call.caller, of).await?)
}

pub async fn retry_inputs(
    edge: &Edge,
    call: &Call,
    request: api::FunctionRetryInputsRequest,
) -> Answer<api::FunctionRetryInputsResponse> {
    let of = own_call(edge, call, &request.function_call_jwt).await?;
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for item in request.inputs {
        let index = index_of(&item.input_jwt)?;
        let input = new_input(edge, call, index, item.input.unwrap_or_default()).await?;
        let NewInput { index, payload, data_format, method } = input;
        inputs.push(RetriedInput { index, payload, data_format, method });
    }
    let inputs = edge.functions.retry_inputs(&call.caller, of, inputs).await?;
    let input_jwts = inputs.iter().map(|input| input_jwt(input.index)).collect();
    Ok(api::FunctionRetryInputsResponse { input_jwts })
}

pub async fn outputs(
    edge: &Edge,
    call: &Call,
    request: api::FunctionGetOutputsRequest,
) -> Answer<api::FunctionGetOutputsResponse> {
    let of = own_call(edge, call, &request.function_call_id).await?;
    let limit = match usize::try_from(request.max_values) {
        Ok(0) | Err(_) => DEFAULT_OUTPUTS,
        Ok(most) => most.min(MAX_OUTPUTS_PER_PAGE),
    };
    let after = request
        .last_entry_id
        .parse()
        .map_err(|error: corral_functions::ParseEntryError| Refusal::invalid(error.to_string()))?;
    let range = match (request.start_idx, request.end_idx) {
        (None, None) => None,
        (start, end) => {
            let bound = |index: i32| u32::try_from(index).unwrap_or(0);
            Some((start.map_or(0, bound), end.map_or(u32::MAX, bound)))
        }
    };
    let query = OutputsQuery {
        after,
        range,
        wait: Duration::try_from_secs_f32(request.timeout).unwrap_or_default().min(MAX_WAIT),
        after_fetch: if request.clear_on_success { AfterFetch::Clear } else { AfterFetch::Keep },
        limit,
    };
    let page = edge.functions.outputs(&call.caller, of, query).await?;
    let mut outputs = Vec::with_capacity(page.outputs.len());
    for output in page.outputs {
        outputs.push(output_item(edge, output).await?);
    }
    Ok(api::FunctionGetOutputsResponse {
        idxs: outputs.iter().map(|output| output.idx).collect(),
        outputs,
        last_entry_id: page.last.to_string(),
        num_unfinished_inputs: page.unfinished_inputs as i32,
    })
}

pub async fn cancel(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCallCancelRequest,
) -> Answer<()> {
    let of = own_call(edge, call, &request.function_call_id).await?;
    let containers = if request.terminate_containers {
        CancelContainers::Terminate
    } else {
        CancelContainers::Keep
    };
    Ok(edge.functions.cancel_call(&call.caller, of, containers).await?)
}

pub async fn from_id(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCallFromIdRequest,
) -> Answer<api::FunctionCallFromIdResponse> {
    let of = own_call(edge, call, &request.function_call_id).await?;
    let info = edge.functions.call_info(&call.caller, of).await?;
    let function = edge.apps.function(&call.caller, info.function).await?;
    Ok(api::FunctionCallFromIdResponse {
        function_call_id: request.function_call_id,
        num_inputs: info.total_inputs as i32,
        metadata: Some(api::FunctionCallHandleMetadata {
            app_id: function.app.id.to_string(),
            function_id: info.function.to_string(),
        }),
    })
}

pub async fn get_info(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCallGetInfoRequest,
) -> Answer<api::FunctionCallGetInfoResponse> {
    let of = own_call(edge, call, &request.function_call_id).await?;
    let info = edge.functions.call_info(&call.caller, of).await?;
    Ok(api::FunctionCallGetInfoResponse { info: Some(call_info(&info)) })
}

pub async fn list(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCallListRequest,
) -> Answer<api::FunctionCallListResponse> {
    let function = callable(edge, call, &request.function_id).await?.record.id;
    let calls = edge.functions.calls(&call.caller, function, MAX_CALLS_LISTED).await?;
    Ok(api::FunctionCallListResponse { function_calls: calls.iter().map(call_info).collect() })
}

pub async fn graph(
    edge: &Edge,
    call: &Call,
    request: api::FunctionGetCallGraphRequest,
) -> Answer<api::FunctionGetCallGraphResponse> {
    let of = own_call(edge, call, &request.function_call_id).await?;
    let graph = edge.functions.call_graph(&call.caller, of).await?;
    let mut calls = Vec::with_capacity(graph.calls.len());
    for info in graph.calls {
        let function = edge.apps.function(&call.caller, info.function).await;
        // A function that is gone has calls still.
        let (function_name, module_name) = match function {
            Ok(function) => (function.record.tag.clone(), function.spec.module.clone()),
            Err(_) => (info.function.to_string(), String::new()),
        };
        calls.push(api::FunctionCallCallGraphInfo {
            function_call_id: info.call.to_string(),
            parent_input_id: info.parent.map(|id| id.to_string()).unwrap_or_default(),
            function_name,
            module_name,
        });
    }
    let inputs = graph.inputs.iter().map(|input| api::InputCallGraphInfo {
        input_id: input.input.to_string(),
        status: match input.state {
            InputState::Done(status) => wire_status(status).into(),
            InputState::Pending | InputState::Running => GenericStatus::Unspecified.into(),
        },
        function_call_id: input.call.to_string(),
        task_id: input.container.map(|id| id.to_string()).unwrap_or_default(),
    });
    Ok(api::FunctionGetCallGraphResponse {
        inputs: inputs.collect(),
        function_calls: calls,
        truncated: graph.is_truncated,
    })
}

/// What a generator yields, as it yields it.
pub async fn data_out(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCallGetDataRequest,
) -> Answer<Chunks> {
    let of = own_call(edge, call, data_call(&request)?).await?;
    let (edge, call) = (edge.clone(), call.clone());
    let ask = move |after| -> Asked { Box::pin(chunks_out(edge.clone(), call.caller, of, after)) };
    Ok(chunk_stream(request.last_index, ask))
}

async fn chunks_out(
    edge: Edge,
    caller: Caller,
    of: CallId,
    after: u64,
) -> Answer<Vec<api::DataChunk>> {
    let chunks = edge.functions.data_out(&caller, of, after, STREAM_WAIT).await?;
    wire_chunks(&edge, chunks).await
}

/// The call whose chunks are asked for.
pub fn data_call(request: &api::FunctionCallGetDataRequest) -> Answer<&str> {
    match &request.call_info {
        Some(api::function_call_get_data_request::CallInfo::FunctionCallId(call)) => Ok(call),
        _ => Err(Refusal::invalid("the request names no call")),
    }
}

/// Chunks that were asked for.
pub type Asked = Pin<Box<dyn Future<Output = Answer<Vec<api::DataChunk>>> + Send>>;

/// Chunks one after the other until there are none for a while.
pub fn chunk_stream(after: u64, ask: impl Fn(u64) -> Asked + Send + 'static) -> Chunks {
    let begin = (after, Vec::new().into_iter(), ask);
    Box::pin(stream::unfold(begin, |(after, mut ready, ask)| async move {
        if ready.len() == 0 {
            match ask(after).await {
                Ok(found) => ready = found.into_iter(),
                Err(refusal) => return Some((Err(refusal), (after, ready, ask))),
            }
        }
        let Some(chunk): Option<api::DataChunk> = ready.next() else {
            tokio::time::sleep(STREAM_END_PAUSE).await;
            return None;
        };
        let after = chunk.index;
        Some((Ok(chunk), (after, ready, ask)))
    }))
}

/// Chunks as messages carry them.
pub async fn wire_chunks(edge: &Edge, chunks: Vec<DataChunk>) -> Answer<Vec<api::DataChunk>> {
    let mut wire = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let data = match deliver(edge, chunk.payload).await? {
            Carried::Inline(bytes) => ChunkData::Data(bytes),
            Carried::BlobId(blob) => ChunkData::DataBlobId(blob),
        };
        wire.push(api::DataChunk {
            data_format: chunk.data_format as i32,
            index: chunk.index,
            data_oneof: Some(data),
        });
    }
    Ok(wire)
}

async fn output_item(edge: &Edge, output: Output) -> Answer<api::FunctionGetOutputsItem> {
    let data_format = output.outcome.data_format as i32;
    Ok(api::FunctionGetOutputsItem {
        idx: output.index as i32,
        input_id: output.input.to_string(),
        data_format,
        task_id: output.container.map(|id| id.to_string()).unwrap_or_default(),
        input_started_at: output.started_at.map(seconds).unwrap_or_default(),
        output_created_at: seconds(output.created_at),
        retry_count: output.retries,
        result: Some(result(edge, output.outcome).await?),
        ..Default::default()
    })
}

async fn result(edge: &Edge, outcome: Outcome) -> Answer<api::GenericResult> {
    let data_oneof = match outcome.payload {
        None => None,
        Some(payload) => Some(match deliver(edge, payload).await? {
            Carried::Inline(bytes) => ResultData::Data(bytes),
            Carried::BlobId(blob) => ResultData::DataBlobId(blob),
        }),
    };
    Ok(api::GenericResult {
        status: wire_status(outcome.status).into(),
        exception: outcome.exception,
        traceback: outcome.traceback,
        serialized_tb: outcome.serialized_traceback,
        tb_line_cache: outcome.traceback_lines,
        data_oneof,
        ..Default::default()
    })
}

pub const fn wire_status(status: OutcomeStatus) -> GenericStatus {
    match status {
        OutcomeStatus::Success => GenericStatus::Success,
        OutcomeStatus::Failure => GenericStatus::Failure,
        OutcomeStatus::Terminated => GenericStatus::Terminated,
        OutcomeStatus::Timeout => GenericStatus::Timeout,
        OutcomeStatus::InitFailure => GenericStatus::InitFailure,
        OutcomeStatus::InternalFailure => GenericStatus::InternalFailure,
    }
}

async fn new_inputs(
    edge: &Edge,
    call: &Call,
    items: Vec<api::FunctionPutInputsItem>,
) -> Answer<Vec<NewInput>> {
    let mut inputs = Vec::with_capacity(items.len());
    for item in items {
        let index = u32::try_from(item.idx)
            .map_err(|_| Refusal::invalid("the index of an input is negative"))?;
        inputs.push(new_input(edge, call, index, item.input.unwrap_or_default()).await?);
    }
    Ok(inputs)
}

async fn new_input(
    edge: &Edge,
    call: &Call,
    index: u32,
    input: api::FunctionInput,
) -> Answer<NewInput> {
    let carried = match input.args_oneof {
        Some(ArgsOneof::Args(bytes)) => Carried::Inline(bytes),
        Some(ArgsOneof::ArgsBlobId(blob)) => Carried::BlobId(blob),
        None => Carried::Inline(api::Bytes::new()),
    };
    Ok(NewInput {
        index,
        payload: accept(edge, call, carried).await?,
        data_format: u32::try_from(input.data_format).unwrap_or(0),
        method: input.method_name.unwrap_or_default(),
    })
}

fn accepted(inputs: Vec<AcceptedInput>) -> Vec<api::FunctionPutInputsResponseItem> {
    inputs
        .into_iter()
        .map(|input| api::FunctionPutInputsResponseItem {
            idx: input.index as i32,
            input_id: input.input.to_string(),
            input_jwt: input_jwt(input.index),
        })
        .collect()
}

/// What clients hold of an input: they read its number from it and check no signature.
fn input_jwt(index: u32) -> String {
    format!("e30.{}.{index}", url_base64(format!(r#"{{"idx":{index}}}"#).as_bytes()))
}

fn index_of(jwt: &str) -> Answer<u32> {
    let index = jwt.rsplit('.').next().and_then(|text| text.parse().ok());
    index.ok_or_else(|| Refusal::invalid("the input is not one that this server gave out"))
}

/// A call that the caller may see: a container those of its own app's functions, and those that
/// were made for an input that it works on.
pub async fn own_call(edge: &Edge, call: &Call, text: &str) -> Answer<CallId> {
    let of: CallId = id(text, "call")?;
    let Some(container) = &call.container else { return Ok(of) };
    let info = edge.functions.call_info(&call.caller, of).await?;
    let function = edge.apps.function(&call.caller, info.function).await?;
    let is_its_own = info.parent.is_some_and(|parent| container.inputs.contains(&parent));
    if function.app.id == container.app || is_its_own {
        return Ok(of);
    }
    Err(Refusal::new(ErrorKind::NotFound, format!("there is no call `{text}`")))
}

fn call_info(info: &CallInfo) -> api::FunctionCallInfo {
    let category =
        |total: u32| Some(api::InputCategoryInfo { total: total as i32, latest: Vec::new() });
    api::FunctionCallInfo {
        function_call_id: info.call.to_string(),
        created_at: seconds(info.created_at),
        scheduled_at: seconds(info.created_at),
        pending_inputs: category(info.pending_inputs + info.running_inputs),
        failed_inputs: category(info.failed_inputs),
        succeeded_inputs: category(info.succeeded_inputs),
        timeout_inputs: category(info.timed_out_inputs),
        cancelled_inputs: category(info.cancelled_inputs),
        total_inputs: info.total_inputs as i32,
        ..Default::default()
    }
}
