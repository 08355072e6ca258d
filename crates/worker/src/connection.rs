//! The worker's calls to its server, over a unix socket or HTTP(S). One attempt each: whoever
//! calls decides whether and when to try again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corral_blobs::{BlobError, BlobStore};
use corral_types::{BlobHash, WorkerId};
use corral_worker_api::{
    Acknowledged, Commands, EventBatch, Hello, POLL_WAIT_MS, Poll, TaskEventBatch, WORKER_HEADER,
    WORKER_TOKEN_SCHEME, Welcome,
};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use crate::{ServerAddress, WorkerError, WorkerOptions};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of answers to a container may be on its way: results of calls can be large.
const CONTAINER_WINDOW_BYTES: u32 = 16 << 20;

/// A call other than a poll: the server answers once it has synced to disk.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A poll waits at the server; this is on top.
const POLL_TIMEOUT: Duration = Duration::from_millis(POLL_WAIT_MS + 10_000);

/// How long a blob's bytes may stand still on their way here.
const BLOB_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// An upload that is slower than this, over all its bytes, is given up and begun again.
const SLOWEST_UPLOAD_BYTES_PER_SECOND: u64 = 256 << 10;

/// Pieces of a blob between the network and the disk: enough that neither waits for the
/// other, little enough that a fast network does not fill the memory.
const BLOB_PIECES_AHEAD: usize = 16;

/// How much of an error's body is kept for the message.
const MAX_ERROR_BYTES: usize = 2048;

/// The line to the server; clones share connections.
#[derive(Clone)]
pub struct Connection {
    calls: reqwest::Client,
    base: String,
    token: Option<String>,
    route: Arc<Route>,
}

/// The way to the server, from which clients are made.
struct Route {
    server: ServerAddress,
    worker: WorkerId,
    /// To be trusted beside the system's.
    certificates: Vec<reqwest::Certificate>,
}

impl Route {
    fn base(&self) -> String {
        match &self.server {
            ServerAddress::UnixSocket(_) => "http://localhost".to_owned(),
            ServerAddress::Url(url) => url.trim_end_matches('/').to_owned(),
        }
    }

    fn client(&self) -> reqwest::ClientBuilder {
        let named = HeaderValue::try_from(self.worker.to_string()).expect("an id is ASCII");
        let builder = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(
                HeaderName::from_static(WORKER_HEADER),
                named,
            )]))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        match &self.server {
            // Without TLS nobody's certificates need to be read.
            ServerAddress::UnixSocket(path) => {
                builder.unix_socket(path.as_path()).no_proxy().tls_certs_only([])
            }
            ServerAddress::Url(_) if !self.certificates.is_empty() => {
                builder.tls_certs_merge(self.certificates.clone())
            }
            ServerAddress::Url(url) if url.starts_with("https:") => builder,
            ServerAddress::Url(_) => builder.tls_certs_only([]),
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("reach the server")]
    Unreachable(#[source] reqwest::Error),
    /// Say hello again.
    #[error("the server does not know this worker's session")]
    UnknownSession,
    #[error("the server does not have the blob {0}")]
    BlobNotFound(BlobHash),
    #[error("the server cannot answer now ({status}): {message}")]
    Unavailable { status: u16, message: String },
    /// The same call fails again.
    #[error("the server refuses ({status}): {message}")]
    Refused { status: u16, message: String },
    #[error("keep a blob on this machine")]
    Blob(#[source] BlobError),
    #[error("read a blob of this machine")]
    ReadBlob(#[source] std::io::Error),
}

impl CallError {
    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::UnknownSession | Self::Unavailable { .. } => true,
            // A cut transfer has the wrong hash; the next may not.
            Self::Blob(error) => matches!(error, BlobError::Mismatch { .. }),
            Self::BlobNotFound(_) | Self::Refused { .. } | Self::ReadBlob(_) => false,
        }
    }
}

impl Connection {
    /// Prepares the calls of `worker` to the server of `options`; connects when the first is
    /// made.
    ///
    /// # Errors
    /// When the certificates to trust cannot be read, or TLS cannot be set up.
    pub fn prepare(options: &WorkerOptions, worker: WorkerId) -> Result<Self, WorkerError> {
        let certificates = match &options.ca_certificate {
            Some(path) => read_certificates(path)?,
            None => Vec::new(),
        };
        let route = Route { server: options.server.clone(), worker, certificates };
        let calls = route.client().build().map_err(WorkerError::Client)?;
        Ok(Self { calls, base: route.base(), token: options.token.clone(), route: Arc::new(route) })
    }

    /// A client of its own for the calls of one container, by HTTP/2 alone: however many wait
    /// at the server, they are in nobody else's way.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn container_client(&self) -> reqwest::Result<reqwest::Client> {
        self.route
            .client()
            .http2_prior_knowledge()
            .http2_initial_stream_window_size(CONTAINER_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONTAINER_WINDOW_BYTES)
            .build()
    }

    /// Where the server's paths begin.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What a request shows that is not from a socket on the server's own machine.
    pub fn authorization(&self) -> Option<HeaderValue> {
        let token = self.token.as_ref()?;
        HeaderValue::try_from(format!("{WORKER_TOKEN_SCHEME} {token}")).ok()
    }

    pub async fn hello(&self, hello: &Hello) -> Result<Welcome, CallError> {
        self.post("hello", hello, CALL_TIMEOUT).await
    }

    pub async fn poll(&self, poll: &Poll) -> Result<Commands, CallError> {
        self.post("poll", poll, POLL_TIMEOUT).await
    }

    pub async fn send_task_events(&self, batch: &TaskEventBatch) -> Result<(), CallError> {
        let url = format!("{}/worker/v1/tasks", self.base);
        self.call(self.calls.post(url).json(batch).timeout(CALL_TIMEOUT)).await.map(drop)
    }

    pub async fn send_events(&self, batch: &EventBatch) -> Result<Acknowledged, CallError> {
        self.post("events", batch, CALL_TIMEOUT).await
    }

    /// Fetches a blob into `store`, which checks it against its hash.
    ///
    /// # Errors
    /// When the server does not have it, cannot be reached, or the disk is full.
    pub async fn fetch_blob(&self, hash: BlobHash, store: &BlobStore) -> Result<(), CallError> {
        let answer = self.call(self.calls.get(self.blob_url(hash)));
        let answer = tokio::time::timeout(CALL_TIMEOUT, answer).await;
        let mut response =
            answer.unwrap_or_else(|_| Err(stands_still())).map_err(|error| match error {
                CallError::Refused { status: 404, .. } => CallError::BlobNotFound(hash),
                other => other,
            })?;
        let announced = response.content_length();
        let (pieces, mut received) = mpsc::channel::<Bytes>(BLOB_PIECES_AHEAD);
        let store = store.clone();
        let keep = tokio::task::spawn_blocking(move || {
            let mut writer = store.writer()?.expect_hash(hash);
            if let Some(bytes) = announced {
                writer = writer.announce_bytes(bytes)?;
            }
            while let Some(piece) = received.blocking_recv() {
                writer.append(&piece)?;
            }
            // A transfer that was cut is noticed here: its hash is another one.
            writer.finish()
        });
        let transferred = loop {
            match tokio::time::timeout(BLOB_IDLE_TIMEOUT, response.chunk()).await {
                Ok(Ok(Some(piece))) => {
                    if pieces.send(piece).await.is_err() {
                        // The writer gave up and says why.
                        break Ok(());
                    }
                }
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(error)) => break Err(CallError::Unreachable(error)),
                Err(_) => break Err(stands_still()),
            }
        };
        drop(pieces);
        let kept = keep.await.expect("storing a blob does not panic");
        transferred?;
        kept.map(drop).map_err(CallError::Blob)
    }

    /// Puts a blob of `store` on the server, unless it has it already.
    ///
    /// # Errors
    /// When it is not in the store or the server cannot take it.
    pub async fn put_blob(&self, hash: BlobHash, store: &BlobStore) -> Result<(), CallError> {
        match self.call(self.calls.head(self.blob_url(hash)).timeout(CALL_TIMEOUT)).await {
            Ok(_) => return Ok(()),
            Err(CallError::Refused { status: 404, .. }) => {}
            Err(other) => return Err(other),
        }
        let file = store.open_file(&hash).map_err(CallError::Blob)?;
        let bytes = file.metadata().map_err(CallError::ReadBlob)?.len();
        let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 << 10);
        let timeout = CALL_TIMEOUT + Duration::from_secs(bytes / SLOWEST_UPLOAD_BYTES_PER_SECOND);
        let request = self
            .calls
            .put(self.blob_url(hash))
            .timeout(timeout)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, bytes)
            .body(reqwest::Body::wrap_stream(pieces));
        self.call(request).await.map(drop)
    }

    fn blob_url(&self, hash: BlobHash) -> String {
        format!("{}/worker/v1/blobs/{hash}", self.base)
    }

    async fn post<A: DeserializeOwned>(
        &self,
        name: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let url = format!("{}/worker/v1/{name}", self.base);
        let response = self.call(self.calls.post(url).json(body).timeout(timeout)).await?;
        response.json().await.map_err(CallError::Unreachable)
    }

    async fn call(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let request = match &self.token {
            Some(token) => {
                request.header(header::AUTHORIZATION, format!("{WORKER_TOKEN_SCHEME} {token}"))
            }
            None => request,
        };
        let response = request.send().await.map_err(CallError::Unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::CONFLICT {
            return Err(CallError::UnknownSession);
        }
        let message = error_message(response).await;
        let again = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let status = status.as_u16();
        Err(match again {
            true => CallError::Unavailable { status, message },
            false => CallError::Refused { status, message },
        })
    }
}

fn stands_still() -> CallError {
    CallError::Unavailable { status: 0, message: "the transfer of a blob stands still".into() }
}

fn read_certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, WorkerError> {
    let failed = |source| WorkerError::CaCertificate { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let found = reqwest::Certificate::from_pem_bundle(&bytes);
    let found = found.map_err(|error| failed(error.into()))?;
    match found.is_empty() {
        true => Err(failed("there is no PEM certificate in it".into())),
        false => Ok(found),
    }
}

/// What the server says about the error: the message of its JSON, or the text itself.
async fn error_message(response: Response) -> String {
    let text = response.text().await.unwrap_or_default();
    let json = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = json
        .as_ref()
        .and_then(|body| body.pointer("/error/message").or_else(|| body.get("message"))?.as_str());
    let mut message = message.unwrap_or(&text).trim().to_owned();
    message.truncate(message.floor_char_boundary(MAX_ERROR_BYTES));
    message
}
