//! The container's side: what a container asks for and what it gives.

use std::time::Duration;

use corral_functions::{
    AttemptOutput, DataChunk, GivenInput, Invocation, MAX_ERROR_TEXT_BYTES,
    MAX_SERIALIZED_TRACEBACK_BYTES, NextInputs, Outcome, OutcomeStatus, PollRequest,
};
use corral_modal_api as api;
use corral_modal_api::data_chunk::DataOneof as ChunkData;
use corral_modal_api::function_call_put_data_request::CallInfo as PutCall;
use corral_modal_api::function_input::ArgsOneof;
use corral_modal_api::generic_result::{DataOneof as ResultData, GenericStatus};
use corral_types::{CallId, ContainerId, InputId, Timestamp};

use super::Edge;
use super::call::Call;
use super::calls::{Asked, Chunks, chunk_stream, data_call, wire_chunks};
use super::ids::id;
use super::payloads::{Carried, accept, deliver};
use super::refusal::{Answer, Refusal};

/// How long a container that asks for inputs waits before it is told that there are none.
const INPUT_WAIT: Duration = Duration::from_secs(50);

/// How long a heartbeat is held, so that a cancellation is told at once: clients give it 15.1
/// seconds and send the next one 15 seconds after it.
const HEARTBEAT_WAIT: Duration = Duration::from_millis(14_500);

/// How long a stream of chunks is quiet before it ends; the container opens another one.
const STREAM_WAIT: Duration = Duration::from_secs(50);

pub async fn hello(edge: &Edge, call: &Call, _: ()) -> Answer<()> {
    Ok(edge.functions.container_hello(call.calling_container()?.container).await?)
}

pub async fn heartbeat(
    edge: &Edge,
    call: &Call,
    _: api::ContainerHeartbeatRequest,
) -> Answer<api::ContainerHeartbeatResponse> {
    let container = call.calling_container()?.container;
    let cancelled = edge.functions.heartbeat(container, HEARTBEAT_WAIT).await?;
    let event = (!cancelled.is_empty()).then(|| api::CancelInputEvent {
        input_ids: cancelled.iter().map(InputId::to_string).collect(),
        ..Default::default()
    });
    Ok(api::ContainerHeartbeatResponse { cancel_input_event: event })
}

pub async fn get_inputs(
    edge: &Edge,
    call: &Call,
    request: api::FunctionGetInputsRequest,
) -> Answer<api::FunctionGetInputsResponse> {
    let poll = PollRequest {
        idempotency_key: call.idempotency_key.clone(),
        max_inputs: request.batch_max_size,
        wait: INPUT_WAIT,
    };
    let container = call.calling_container()?.container;
    let mut answer = api::FunctionGetInputsResponse::default();
    match edge.functions.next_inputs(container, poll).await? {
        NextInputs::Kill => {
            answer
                .inputs
                .push(api::FunctionGetInputsItem { kill_switch: true, ..Default::default() });
        }
        NextInputs::Inputs(inputs) => {
            for input in inputs {
                answer.inputs.push(input_item(edge, input).await?);
            }
        }
    }
    Ok(answer)
}

async fn input_item(edge: &Edge, input: GivenInput) -> Answer<api::FunctionGetInputsItem> {
    use api::FunctionCallInvocationType as Wire;
    let args = match deliver(edge, input.payload).await? {
        Carried::Inline(bytes) => ArgsOneof::Args(bytes),
        Carried::BlobId(blob) => ArgsOneof::ArgsBlobId(blob),
    };
    let invocation = match input.invocation {
        Invocation::Sync => Wire::Sync,
        Invocation::Async => Wire::Async,
        Invocation::SyncLegacy => Wire::SyncLegacy,
    };
    Ok(api::FunctionGetInputsItem {
        input_id: input.input.to_string(),
        function_call_id: input.call.to_string(),
        function_call_invocation_type: invocation.into(),
        retry_count: input.retries,
        function_map_idx: Some(input.index as i32),
        input: Some(api::FunctionInput {
            args_oneof: Some(args),
            final_input: input.is_final,
            data_format: input.data_format as i32,
            method_name: (!input.method.is_empty()).then_some(input.method),
        }),
        ..Default::default()
    })
}

pub async fn put_outputs(
    edge: &Edge,
    call: &Call,
    request: api::FunctionPutOutputsRequest,
) -> Answer<()> {
    let container = call.calling_container()?.container;
    let mut outputs = Vec::with_capacity(request.outputs.len());
    for item in request.outputs {
        let data_format = u32::try_from(item.data_format).unwrap_or(0);
        outputs.push(AttemptOutput {
            input: id(&item.input_id, "input")?,
            retries: item.retry_count,
            outcome: outcome(edge, call, item.result.unwrap_or_default(), data_format).await?,
            started_at: moment(item.input_started_at),
            created_at: moment(item.output_created_at),
        });
    }
    Ok(edge.functions.put_outputs(container, outputs).await?)
}

pub async fn task_result(edge: &Edge, call: &Call, request: api::TaskResultRequest) -> Answer<()> {
    let container = call.calling_container()?.container;
    let result = request.result.unwrap_or_default();
    let outcome = outcome(edge, call, result, 0).await?;
    Ok(edge.functions.task_result(container, outcome).await?)
}

pub async fn dynamic_concurrency(
    edge: &Edge,
    call: &Call,
    _: api::FunctionGetDynamicConcurrencyRequest,
) -> Answer<api::FunctionGetDynamicConcurrencyResponse> {
    let function = call.calling_container()?.function;
    let concurrency = edge.functions.dynamic_concurrency(function).await?;
    Ok(api::FunctionGetDynamicConcurrencyResponse { concurrency })
}

/// The container stands at its checkpoint and will close its connections. Its worker, through
/// which this came, has seen it too and goes on from here.
pub async fn checkpoint(_: &Edge, call: &Call, _: api::ContainerCheckpointRequest) -> Answer<()> {
    call.calling_container().map(drop)
}

pub async fn put_data_out(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCallPutDataRequest,
) -> Answer<()> {
    let container = call.calling_container()?.container;
    let of: CallId = match &request.call_info {
        Some(PutCall::FunctionCallId(of)) => id(of, "call")?,
        _ => return Err(Refusal::invalid("the request names no call")),
    };
    let mut chunks = Vec::with_capacity(request.data_chunks.len());
    for chunk in request.data_chunks {
        let carried = match chunk.data_oneof {
            Some(ChunkData::Data(bytes)) => Carried::Inline(bytes),
            Some(ChunkData::DataBlobId(blob)) => Carried::BlobId(blob),
            None => Carried::Inline(api::Bytes::new()),
        };
        chunks.push(DataChunk {
            index: chunk.index,
            payload: accept(edge, call, carried).await?,
            data_format: u32::try_from(chunk.data_format).unwrap_or(0),
        });
    }
    Ok(edge.functions.put_data_out(container, of, chunks).await?)
}

pub async fn data_in(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCallGetDataRequest,
) -> Answer<Chunks> {
    let container: ContainerId = call.calling_container()?.container;
    let of: CallId = id(data_call(&request)?, "call")?;
    let edge = edge.clone();
    let ask = move |after| -> Asked { Box::pin(chunks_in(edge.clone(), container, of, after)) };
    Ok(chunk_stream(request.last_index, ask))
}

async fn chunks_in(
    edge: Edge,
    container: ContainerId,
    of: CallId,
    after: u64,
) -> Answer<Vec<api::DataChunk>> {
    let chunks = edge.functions.data_in(container, of, after, STREAM_WAIT).await?;
    wire_chunks(&edge, chunks).await
}

async fn outcome(
    edge: &Edge,
    call: &Call,
    result: api::GenericResult,
    data_format: u32,
) -> Answer<Outcome> {
    let status = match result.status() {
        GenericStatus::Success => OutcomeStatus::Success,
        GenericStatus::Terminated => OutcomeStatus::Terminated,
        GenericStatus::Timeout => OutcomeStatus::Timeout,
        GenericStatus::InitFailure => OutcomeStatus::InitFailure,
        GenericStatus::InternalFailure => OutcomeStatus::InternalFailure,
        _ => OutcomeStatus::Failure,
    };
    let payload = match result.data_oneof {
        Some(ResultData::Data(bytes)) => Some(accept(edge, call, Carried::Inline(bytes)).await?),
        Some(ResultData::DataBlobId(blob)) => {
            Some(accept(edge, call, Carried::BlobId(blob)).await?)
        }
        None => None,
    };
    // A traceback that is too large to keep is left out whole: a part of it cannot be read.
    let kept = |bytes: &api::Bytes| bytes.len() <= MAX_SERIALIZED_TRACEBACK_BYTES;
    let is_kept = kept(&result.serialized_tb) && kept(&result.tb_line_cache);
    let copy = |bytes: &api::Bytes| {
        if is_kept { api::Bytes::copy_from_slice(bytes) } else { api::Bytes::new() }
    };
    Ok(Outcome {
        status,
        payload,
        data_format,
        exception: cut(result.exception),
        traceback: cut(result.traceback),
        serialized_traceback: copy(&result.serialized_tb),
        traceback_lines: copy(&result.tb_line_cache),
    })
}

/// The beginning of a text that is too long to keep.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(MAX_ERROR_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// A time in seconds, if one was given.
fn moment(seconds: f64) -> Option<Timestamp> {
    (seconds > 0.0).then(|| Timestamp::from_millis((seconds * 1e3) as u64))
}
