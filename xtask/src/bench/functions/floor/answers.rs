//! What the floor answers: canned where it can be.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use corral_modal_api::*;
use futures_util::stream;
use hyper::body::Incoming;
use tonic::codegen::http;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::calls::{locked, now_s};
use super::{AskedImage, Floor};

/// The newest that the client of this benchmark knows.
const IMAGE_BUILDER_VERSION: &str = "2026.10";
/// Larger than anything that the benchmark passes: nothing goes to a blob.
const INLINE_BYTES: u64 = 16 << 20;
/// How many inputs of a map may wait, as the client assumes by default.
const INPUTS_OUTSTANDING: u32 = 1000;
const MESSAGE_BYTES: usize = 64 << 20;

type Answer = http::Response<tonic::body::Body>;

/// Answers one request.
pub async fn answer(
    floor: Arc<Floor>,
    request: http::Request<Incoming>,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let method = path.rsplit('/').next().unwrap_or_default();
    let floor = &floor;
    Ok(match method {
        "AppCreate" => {
            unary(request, |_: AppCreateRequest| {
                let app_id = format!("ap-{}", floor.next());
                let app_page_url = format!("http://127.0.0.1/{app_id}");
                ready(AppCreateResponse { app_id, app_page_url, ..Default::default() })
            })
            .await
        }
        "EnvironmentGetOrCreate" => {
            unary(request, |_: EnvironmentGetOrCreateRequest| ready(environment())).await
        }
        "FunctionPrecreate" => {
            unary(request, |asked: FunctionPrecreateRequest| {
                let function = Function {
                    function_name: asked.function_name,
                    function_type: asked.function_type,
                    supported_input_formats: asked.supported_input_formats,
                    supported_output_formats: asked.supported_output_formats,
                    ..Function::default()
                };
                let handle_metadata = Some(handle_metadata(&function));
                let function_id = format!("fu-{}", floor.next());
                ready(FunctionPrecreateResponse { function_id, handle_metadata })
            })
            .await
        }
        "FunctionCreate" => {
            unary(request, |asked: FunctionCreateRequest| async move { floor.create(asked) }).await
        }
        "MountGetOrCreate" => {
            unary(request, |_: MountGetOrCreateRequest| {
                ready(MountGetOrCreateResponse {
                    mount_id: format!("mo-{}", floor.next()),
                    handle_metadata: Some(MountHandleMetadata::default()),
                })
            })
            .await
        }
        "MountBatchedCheckExistence" => {
            unary(request, |_: MountBatchedCheckExistenceRequest| {
                ready(MountBatchedCheckExistenceResponse::default())
            })
            .await
        }
        "MountPutFile" => {
            unary(request, |_: MountPutFileRequest| {
                ready(MountPutFileResponse { exists: true, checked_at: None })
            })
            .await
        }
        "ImageGetOrCreate" => {
            unary(request, |request: ImageGetOrCreateRequest| {
                let image_id = format!("im-{}", floor.next());
                locked(&floor.images).push(AskedImage { image_id: image_id.clone(), request });
                ready(built(image_id))
            })
            .await
        }
        "AppPublish" => {
            unary(request, |_: AppPublishRequest| {
                ready(AppPublishResponse {
                    url: "http://127.0.0.1/".to_owned(),
                    deployed_at: now_s(),
                    ..AppPublishResponse::default()
                })
            })
            .await
        }
        "FunctionMap" => {
            unary(request, |asked: FunctionMapRequest| async move { map(floor, asked) }).await
        }
        "FunctionPutInputs" => {
            unary(request, |asked: FunctionPutInputsRequest| async move {
                let inputs = floor.calls.put_inputs(&asked.function_call_id, asked.inputs)?;
                Ok(FunctionPutInputsResponse { inputs })
            })
            .await
        }
        "FunctionGetOutputs" => {
            unary(request, |asked: FunctionGetOutputsRequest| floor.calls.outputs(asked)).await
        }
        "FunctionGetInputs" => {
            unary(request, |asked: FunctionGetInputsRequest| async move {
                let limit = asked.batch_max_size.max(1) as usize;
                let inputs = floor.calls.queue(&asked.function_id).take(limit).await;
                Ok(FunctionGetInputsResponse { inputs, ..Default::default() })
            })
            .await
        }
        "FunctionPutOutputs" => {
            unary(request, |asked: FunctionPutOutputsRequest| async move {
                floor.calls.put_outputs(asked.outputs)
            })
            .await
        }
        "ContainerHeartbeat" => {
            unary(request, |_: ContainerHeartbeatRequest| {
                ready(ContainerHeartbeatResponse::default())
            })
            .await
        }
        "AppHeartbeat" | "ContainerHello" | "TaskResult" | "FunctionFinishInputs" => {
            unary(request, |(): ()| ready(())).await
        }
        "AppClientDisconnect" => {
            unary(request, |_: AppClientDisconnectRequest| {
                floor.end_app();
                ready(())
            })
            .await
        }
        "AppGetLogs" => app_logs(floor, request).await,
        _ => Status::unimplemented(format!("the floor does not answer {method}")).into_http(),
    })
}

async fn unary<Q, A, F>(request: http::Request<Incoming>, answer: impl Fn(Q) -> F) -> Answer
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Result<A, Status>> + Send,
{
    let service = service_fn(|asked: Request<Q>| {
        let answered = answer(asked.into_inner());
        async { answered.await.map(Response::new) }
    });
    grpc().unary(service, request).await
}

fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

async fn ready<A>(answer: A) -> Result<A, Status> {
    Ok(answer)
}

/// A log without lines that ends with the app.
async fn app_logs(floor: &Arc<Floor>, request: http::Request<Incoming>) -> Answer {
    let service = service_fn(|asked: Request<AppGetLogsRequest>| {
        let floor = floor.clone();
        let asked = asked.into_inner();
        async move {
            let ended = stream::once(async move {
                let wait = Duration::try_from_secs_f32(asked.timeout).unwrap_or_default();
                let app_done = tokio::time::timeout(wait, floor.app_end()).await.is_ok();
                Ok(TaskLogsBatch { app_done, entry_id: "1-0".to_owned(), ..Default::default() })
            });
            Ok::<_, Status>(Response::new(ended))
        }
    });
    grpc().server_streaming(service, request).await
}

fn environment() -> EnvironmentGetOrCreateResponse {
    let settings = EnvironmentSettings {
        image_builder_version: IMAGE_BUILDER_VERSION.to_owned(),
        ..EnvironmentSettings::default()
    };
    EnvironmentGetOrCreateResponse {
        environment_id: "en-1".to_owned(),
        metadata: Some(EnvironmentMetadata {
            name: "main".to_owned(),
            settings: Some(settings),
            ..EnvironmentMetadata::default()
        }),
    }
}

/// Every image is there already.
fn built(image_id: String) -> ImageGetOrCreateResponse {
    ImageGetOrCreateResponse {
        image_id,
        result: Some(GenericResult {
            status: generic_result::GenericStatus::Success.into(),
            ..GenericResult::default()
        }),
        metadata: Some(ImageMetadata {
            image_builder_version: Some(IMAGE_BUILDER_VERSION.to_owned()),
            ..ImageMetadata::default()
        }),
    }
}

fn map(floor: &Floor, asked: FunctionMapRequest) -> Result<FunctionMapResponse, Status> {
    let invocation = asked.function_call_invocation_type();
    let id = floor.calls.create(asked.function_id, invocation);
    let pipelined_inputs = floor.calls.put_inputs(&id, asked.pipelined_inputs)?;
    Ok(FunctionMapResponse {
        function_call_jwt: id.clone(),
        function_call_id: id,
        pipelined_inputs,
        max_inputs_outstanding: INPUTS_OUTSTANDING,
        ..FunctionMapResponse::default()
    })
}

/// What a client is told of a function.
pub fn handle_metadata(function: &Function) -> FunctionHandleMetadata {
    FunctionHandleMetadata {
        function_name: function.function_name.clone(),
        function_type: function.function_type,
        supported_input_formats: function.supported_input_formats.clone(),
        supported_output_formats: function.supported_output_formats.clone(),
        max_object_size_bytes: Some(INLINE_BYTES),
        max_async_object_size_bytes: Some(INLINE_BYTES),
        ..FunctionHandleMetadata::default()
    }
}
