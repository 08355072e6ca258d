//! The protocol without the official client: connections, and the requests of a call.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use corral_modal_api::modal_client_client::ModalClientClient;
use corral_modal_api::*;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

/// The client version that the raw clients speak like.
const CLIENT_VERSION: &str = "1.6.4";
const WINDOW_BYTES: u32 = 8 << 20;
/// What is received at once, at most: pages of outputs.
const MESSAGE_BYTES: usize = 64 << 20;
/// A client waits so long in one request for outputs, as the official one does.
const POLL_S: f32 = 55.0;
/// The arguments of a function that takes none: `((), {})`, pickled.
const NO_ARGUMENTS: &[u8] = b"\x80\x04)}\x86.";

/// Requests over one connection; clones share it.
pub type Wire = ModalClientClient<Connection>;

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Body>,
    speaker: Speaker,
}

/// Who the headers say is speaking.
#[derive(Clone, Copy)]
enum Speaker {
    Client,
    Container,
}

impl tonic::codegen::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let headers = request.headers_mut();
        let text = http::HeaderValue::from_static;
        headers.insert("x-modal-client-version", text(CLIENT_VERSION));
        match self.speaker {
            Speaker::Client => {
                headers.insert("x-modal-client-type", text("1"));
                headers.insert("x-modal-token-id", text("ak-bench"));
                headers.insert("x-modal-token-secret", text("as-bench"));
            }
            Speaker::Container => {
                headers.insert("x-modal-client-type", text("3"));
            }
        }
        Box::pin(self.requests.send_request(request))
    }
}

/// A client over the open port, at `http://HOST:PORT`.
pub async fn connect(url: &str) -> anyhow::Result<Wire> {
    let address = url.strip_prefix("http://").context("an http address")?;
    let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {url}"))?;
    stream.set_nodelay(true)?;
    open(stream, url, Speaker::Client).await
}

/// A container over its socket.
pub async fn connect_socket(path: &Path) -> anyhow::Result<Wire> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.with_context(|| format!("connect to {}", path.display()))?;
    open(stream, "http://localhost", Speaker::Container).await
}

async fn open(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    origin: &str,
    speaker: Speaker,
) -> anyhow::Result<Wire> {
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends with the last request that uses it, or with the server; requests then say so.
    tokio::spawn(connection);
    let wire = ModalClientClient::with_origin(Connection { requests, speaker }, origin.parse()?);
    Ok(wire.max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES))
}

/// What a call is to be answered with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller waits.
    Remote,
    /// The caller comes back later.
    Spawn,
}

/// A call of one input.
pub fn one_call(function_id: &str, kind: Kind, arguments: Vec<u8>) -> FunctionMapRequest {
    let invocation = match kind {
        Kind::Remote => FunctionCallInvocationType::Sync,
        Kind::Spawn => FunctionCallInvocationType::Async,
    };
    FunctionMapRequest {
        function_id: function_id.to_owned(),
        function_call_type: FunctionCallType::Unary.into(),
        function_call_invocation_type: invocation.into(),
        pipelined_inputs: vec![input(0, arguments)],
        ..FunctionMapRequest::default()
    }
}

/// An input with pickled arguments.
pub fn input(idx: i32, arguments: Vec<u8>) -> FunctionPutInputsItem {
    FunctionPutInputsItem {
        idx,
        input: Some(FunctionInput {
            args_oneof: Some(function_input::ArgsOneof::Args(arguments.into())),
            data_format: DataFormat::Pickle.into(),
            ..FunctionInput::default()
        }),
        ..FunctionPutInputsItem::default()
    }
}

pub fn no_arguments() -> Vec<u8> {
    NO_ARGUMENTS.to_vec()
}

/// `((text,), {})`, pickled.
pub fn text_argument(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a text of the benchmark is short");
    [b"\x80\x04X", &length.to_le_bytes()[..], text.as_bytes(), b"\x85}\x86."].concat()
}

/// Waits for the output of a call of one input.
pub async fn output(wire: &mut Wire, call_id: &str) -> Result<FunctionGetOutputsItem, Status> {
    loop {
        let asked = outputs_request(call_id, POLL_S);
        let came = wire.function_get_outputs(asked).await?.into_inner();
        if let Some(output) = came.outputs.into_iter().next() {
            return Ok(output);
        }
        if came.num_unfinished_inputs == 0 {
            return Err(Status::not_found(format!("{call_id} has neither inputs nor outputs")));
        }
    }
}

/// A request for the output of a call of one input.
pub fn outputs_request(call_id: &str, wait_s: f32) -> FunctionGetOutputsRequest {
    FunctionGetOutputsRequest {
        function_call_id: call_id.to_owned(),
        max_values: 1,
        timeout: wait_s,
        last_entry_id: "0-0".to_owned(),
        start_idx: Some(0),
        end_idx: Some(0),
        ..FunctionGetOutputsRequest::default()
    }
}

/// Makes a call, waits for its output, and takes care that it succeeded.
pub async fn remote(wire: &mut Wire, function_id: &str) -> anyhow::Result<FunctionGetOutputsItem> {
    let asked = one_call(function_id, Kind::Remote, no_arguments());
    let call = wire.function_map(asked).await?.into_inner();
    let output = output(wire, &call.function_call_id).await?;
    succeeded(&output)?;
    Ok(output)
}

pub fn succeeded(output: &FunctionGetOutputsItem) -> anyhow::Result<()> {
    let result = output.result.as_ref().context("an output has a result")?;
    anyhow::ensure!(
        result.status() == generic_result::GenericStatus::Success,
        "a call ended with {:?}: {}",
        result.status(),
        result.exception
    );
    Ok(())
}

/// A key that no other request has.
pub fn new_key() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("bench-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

/// A request that may be repeated: with the same key, the server acts on it once.
pub fn repeatable<T>(message: T, key: &str, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    let key = MetadataValue::try_from(key).expect("letters and digits are a header's value");
    request.metadata_mut().insert("x-idempotency-key", key);
    request
}
