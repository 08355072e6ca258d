//! The socket by which a container reaches Corral, and nothing else of this machine.
//!
//! A container speaks gRPC on a unix socket of its own. What it says is passed on as it is, with
//! one header that says which container said it: who speaks is known by the socket, so a
//! container needs no token and cannot pass for another. While the server is away a call waits
//! here and is made when it is back: a container does not notice a restart. Calls may therefore
//! be made twice; the server tells by the client's own idempotency key.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use corral_types::{ContainerId, source_chain};
use corral_worker_api::CONTAINER_HEADER;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::connection::Connection;

/// The largest message of the protocol.
const MAX_MESSAGE_BYTES: usize = 100 << 20;

/// Calls of one container at once: one for each input that it works on, and those that these
/// wait for.
const MAX_CALLS_AT_ONCE: u32 = 4_096;

/// How much of a container's arguments and results may be on its way.
const WINDOW_BYTES: u32 = 16 << 20;

/// A quiet connection is looked after this often, so that one whose container is gone ends.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(60);

/// The method by which a container asks for work.
const ASKS_FOR_INPUTS: &str = "/FunctionGetInputs";

/// gRPC's number for a call whose message is too large.
const RESOURCE_EXHAUSTED: &str = "8";
/// gRPC's number for a call that may be made again.
const UNAVAILABLE: &str = "14";

/// A listening socket; it is gone when this is dropped.
pub struct ApiSocket {
    path: PathBuf,
    stop: CancellationToken,
    passing: Arc<Passing>,
}

impl fmt::Debug for ApiSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiSocket").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What every call of a container needs on its way.
struct Passing {
    client: reqwest::Client,
    base: String,
    authorization: Option<HeaderValue>,
    container: HeaderValue,
    id: ContainerId,
    /// Whether it has asked for inputs.
    has_asked: AtomicBool,
}

impl ApiSocket {
    /// Listens at `path` and passes on what comes as said by `container`.
    ///
    /// # Errors
    /// When the socket or the client cannot be made.
    pub fn listen(
        path: &Path,
        container: ContainerId,
        connection: &Connection,
    ) -> std::io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        // Inside the container its program may have any id; outside, the folder is closed.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        let passing = Arc::new(Passing {
            client: connection.container_client().map_err(std::io::Error::other)?,
            base: connection.base().to_owned(),
            authorization: connection.authorization(),
            container: HeaderValue::try_from(container.to_string()).expect("an id is ASCII"),
            id: container,
            has_asked: AtomicBool::new(false),
        });
        let stop = CancellationToken::new();
        let accepting = accept(listener, passing.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        Ok(Self { path: path.to_owned(), stop, passing })
    }

    /// Whether the container has asked for inputs: before that its program is still being
    /// imported, and there is nothing that it could leave in order.
    pub fn has_asked(&self) -> bool {
        self.passing.has_asked.load(Ordering::Relaxed)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        self.stop.cancel();
        // The folder that it is in goes too; what is left is removed with that.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, passing: Arc<Passing>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, it fails again at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let passing = passing.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let passing = passing.clone();
                async move { Ok::<_, Infallible>(pass_on(&passing, request).await) }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_CALLS_AT_ONCE)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .keep_alive_interval(Some(KEEP_ALIVE_EVERY))
                .serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the container's affair.
            let _ended = serving.await;
        });
    }
}

async fn pass_on(passing: &Passing, request: Request<Incoming>) -> Response<reqwest::Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if path.ends_with(ASKS_FOR_INPUTS) {
        passing.has_asked.store(true, Ordering::Relaxed);
    }
    let url = format!("{}{path}", passing.base);
    let mut headers = parts.headers;
    headers.remove(HOST);
    headers.insert(HeaderName::from_static(CONTAINER_HEADER), passing.container.clone());
    match &passing.authorization {
        Some(authorization) => headers.insert(AUTHORIZATION, authorization.clone()),
        None => headers.remove(AUTHORIZATION),
    };
    let message: Bytes = match Limited::new(body, MAX_MESSAGE_BYTES).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => {
            let reason = format!("the message is cut off or larger than {MAX_MESSAGE_BYTES} bytes");
            return refusal(RESOURCE_EXHAUSTED, &reason);
        }
    };
    let mut backoff = Backoff::default();
    loop {
        let call = passing
            .client
            .request(parts.method.clone(), &url)
            .headers(headers.clone())
            .body(message.clone());
        match call.send().await {
            Ok(response) => return response.into(),
            Err(error) if error.is_builder() => {
                return refusal(UNAVAILABLE, &error.to_string());
            }
            Err(error) => {
                let causes = source_chain(&error);
                tracing::debug!(container = %passing.id, %error, ?causes, "a call waits for the server");
                backoff.wait().await;
            }
        }
    }
}

/// An answer of gRPC without a message.
fn refusal(status: &'static str, message: &str) -> Response<reqwest::Body> {
    let mut response = Response::new(reqwest::Body::default());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    if let Ok(message) = HeaderValue::try_from(message.replace('%', "%25")) {
        headers.insert("grpc-message", message);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use corral_types::WorkerId;
    use http_body_util::{Full, StreamBody};
    use hyper::HeaderMap;
    use hyper::body::Frame;

    use super::*;
    use crate::{ServerAddress, WorkerOptions};

    /// A server of gRPC's kind: it answers with what it was sent, who sent it, and a trailer.
    fn serve(path: &Path) -> tokio::task::JoinHandle<()> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper::service::service_fn(|request: Request<Incoming>| async {
                    let said_by = request.headers()[CONTAINER_HEADER].clone();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    let frames =
                        [Frame::data(body), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
                    let mut response =
                        Response::new(StreamBody::new(futures_util::stream::iter(frames)));
                    response.headers_mut().insert("said-by", said_by);
                    Ok::<_, Infallible>(response)
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        })
    }

    /// One call by the socket, as a container makes it.
    async fn call(socket: PathBuf) -> Response<Incoming> {
        let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://localhost/modal.client.ModalClient/ContainerHello")
            .header(CONTAINER_HEADER, "ta-forged")
            .header(AUTHORIZATION, "Bearer stolen")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap();
        sender.send_request(request).await.unwrap()
    }

    #[tokio::test]
    async fn calls_are_passed_on_under_the_containers_own_name_and_wait_for_the_server() {
        // Clients cannot be made without one, plain or not; another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let upstream = folder.path().join("server.sock");
        let options = WorkerOptions::new(
            folder.path().to_owned(),
            ServerAddress::UnixSocket(upstream.clone()),
            "corral".into(),
        );
        let connection = Connection::prepare(&options, WorkerId::from_u128(1)).unwrap();
        let container = ContainerId::from_u128(7);
        let path = folder.path().join("api.sock");
        let socket = ApiSocket::listen(&path, container, &connection).unwrap();

        // Nobody is there yet: the call waits.
        let waiting = tokio::spawn(call(socket.path().to_owned()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        let server = serve(&upstream);
        let response = waiting.await.unwrap();
        assert_eq!(response.headers()["said-by"], container.to_string());
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "hello");

        // It goes away and comes back.
        server.abort();
        let _ = server.await;
        let waiting = tokio::spawn(call(socket.path().to_owned()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        let server = serve(&upstream);
        assert!(waiting.await.unwrap().status().is_success());
        server.abort();

        drop(socket);
        assert!(!path.exists());
    }
}
