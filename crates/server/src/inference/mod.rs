//! The Open Inference Protocol, version 2, under `/v2`: our endpoints are its models.
//!
//! A model has one input, texts, and as outputs what a prediction names: the classes' names
//! and ids and their probabilities. Tensors come and go as JSON or in binary.

mod binary;
mod error;
mod request;
mod response;

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use corral_catalog::all_pages;
use corral_types::{Caller, ErrorKind, Failure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::error::InferError;
use self::request::{Inference, Output};
use crate::asking::{Addressed, ask, find};
use crate::auth::{Asker, Writer};
use crate::rest::{Answer, ApiError, MAX_BODY_BYTES, unread};
use crate::state::App;
use crate::{encoding, plain_error};

/// How many bytes of a body are JSON, before the binary tensors.
const HEADER_LENGTH: &str = "inference-header-content-length";

/// What we have of the protocol's extensions, by their names.
const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "model_repository"];

/// Every path of the protocol.
pub fn router(app: App) -> Router {
    let protocol = Router::new()
        .route("/", get(server))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/models/{name}", get(model))
        .route("/models/{name}/ready", get(model_ready))
        .route("/models/{name}/infer", post(infer))
        .route("/models/{name}/versions/{version}", get(model))
        .route("/models/{name}/versions/{version}/ready", get(model_ready))
        .route("/models/{name}/versions/{version}/infer", post(infer))
        .route("/repository/index", post(index))
        .route("/repository/models/{name}/load", post(load))
        .route("/repository/models/{name}/unload", post(unload))
        .fallback(plain_error::no_such_path)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(encoding::negotiate))
        .layer(middleware::map_response(plain_error::plain))
        .with_state(app);
    Router::new().nest("/v2", protocol)
}

async fn server() -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({"name": "corral", "version": version, "extensions": EXTENSIONS}))
}

async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

/// Ready to answer: the catalog is there. A worker is needed for training only.
async fn ready(State(app): State<App>) -> Answer<Json<Value>> {
    app.catalog.setting("instance".to_owned()).await?;
    Ok(Json(json!({"ready": true})))
}

/// A model as a path names it.
#[derive(Deserialize)]
struct ModelPath {
    name: String,
    version: Option<String>,
}

impl ModelPath {
    fn addressed(&self) -> Answer<Addressed> {
        Addressed::read(&self.name, self.version.as_deref())
    }
}

#[derive(Serialize)]
struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    shape: [i64; 1],
}

async fn model(
    State(app): State<App>,
    Asker(caller): Asker,
    Path(path): Path<ModelPath>,
) -> Answer<Json<Value>> {
    let endpoint = find(&app, &caller, &path.addressed()?).await?;
    let versions = endpoint.numbers();
    let versions: Vec<String> = versions.iter().map(u32::to_string).collect();
    let tensor = |name, datatype| TensorMetadata { name, datatype, shape: [-1] };
    let outputs = Output::ALL.map(|output| tensor(output.as_str(), output.datatype()));
    Ok(Json(json!({
        "name": endpoint.record.name.as_str(),
        "versions": versions,
        "platform": "corral",
        "inputs": [tensor(request::INPUT, "BYTES")],
        "outputs": outputs,
    })))
}

/// Every endpoint is ready that is there: models are opened as they are asked.
async fn model_ready(
    State(app): State<App>,
    Asker(caller): Asker,
    Path(path): Path<ModelPath>,
) -> Answer<Json<Value>> {
    let endpoint = find(&app, &caller, &path.addressed()?).await?;
    Ok(Json(json!({"name": endpoint.record.name.as_str(), "ready": true})))
}

async fn infer(
    State(app): State<App>,
    Asker(caller): Asker,
    Path(path): Path<ModelPath>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body = body.map_err(|rejection| unread(&rejection))?;
    let inference = Inference::read(&body, header_length(&headers)?)?;
    let question = inference.options.question(inference.texts);
    let top_k = inference.options.top_k;
    let addressed = path.addressed()?;
    let asked = ask(&app, &caller, &addressed, question);
    let answered = within(inference.timeout, asked).await?;
    let reply = response::Reply {
        id: inference.id,
        model: addressed.endpoint.as_str(),
        version: answered.endpoint_version,
        top_k,
        outputs: &inference.outputs,
    };
    let written = reply.write(&answered.predictions);
    let json_length = [(HEADER_LENGTH, written.json_bytes.to_string())];
    Ok(if written.json_bytes == written.body.len() {
        ([(header::CONTENT_TYPE, "application/json")], written.body).into_response()
    } else {
        let content_type = [(header::CONTENT_TYPE, "application/octet-stream")];
        (content_type, json_length, written.body).into_response()
    })
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, InferError> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| InferError::HeaderLength { found: format!("{value:?}") })
}

async fn within<T>(
    timeout: Option<Duration>,
    answer: impl Future<Output = Answer<T>>,
) -> Answer<T> {
    let Some(timeout) = timeout else { return answer.await };
    tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
        let message = format!("there was no answer within {} microseconds", timeout.as_micros());
        Err(ApiError(Failure::new(ErrorKind::Timeout, message)))
    })
}

/// What a request to the repository says, if it says anything. That the index shall hold
/// only models that are ready changes nothing: all are.
#[derive(Default, Deserialize)]
struct RepositoryRequest {
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Its body, which may be empty.
struct Repository(RepositoryRequest);

impl<S: Send + Sync> FromRequest<S> for Repository {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let read = Bytes::from_request(request, state).await;
        let body = read.map_err(|rejection| unread(&rejection))?;
        if body.trim_ascii().is_empty() {
            return Ok(Self(RepositoryRequest::default()));
        }
        let request = serde_json::from_slice(&body).map_err(InferError::Json)?;
        Ok(Self(request))
    }
}

#[derive(Serialize)]
struct IndexEntry {
    name: String,
    version: String,
    state: &'static str,
    reason: &'static str,
}

async fn index(
    State(app): State<App>,
    Asker(caller): Asker,
    Repository(_): Repository,
) -> Answer<Json<Vec<IndexEntry>>> {
    let endpoints = all_pages(|page| app.serving.endpoints(&caller, page)).await?;
    let entries = endpoints.iter().flat_map(|endpoint| {
        endpoint.record.versions.iter().map(|version| IndexEntry {
            name: endpoint.record.name.to_string(),
            version: version.number.to_string(),
            state: "READY",
            reason: "",
        })
    });
    Ok(Json(entries.collect()))
}

async fn load(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(path): Path<ModelPath>,
    Repository(request): Repository,
) -> Answer<Json<Value>> {
    if let Some(name) = request.parameters.keys().next() {
        return Err(InferError::Load { name: name.clone() }.into());
    }
    see_to(app, caller, path, Wish::Warm).await
}

async fn unload(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(path): Path<ModelPath>,
    Repository(_): Repository,
) -> Answer<Json<Value>> {
    see_to(app, caller, path, Wish::Cool).await
}

#[derive(Clone, Copy)]
enum Wish {
    Warm,
    Cool,
}

async fn see_to(app: App, caller: Caller, path: ModelPath, wish: Wish) -> Answer<Json<Value>> {
    let Addressed { endpoint, .. } = path.addressed()?;
    // Opening reads files: not on a thread that answers others.
    let done = tokio::task::spawn_blocking(move || match wish {
        Wish::Warm => app.serving.warm(&caller, &endpoint),
        Wish::Cool => app.serving.cool(&caller, &endpoint),
    });
    done.await.map_err(|_| corral_serving::ServingError::CutOff)??;
    Ok(Json(json!({})))
}
