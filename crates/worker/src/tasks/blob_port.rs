//! The address by which a container puts and gets payloads that are too large for a message.
//!
//! The client does that over plain HTTP, and the server's own port is out of a container's reach.
//! So there is a port on the container's own loopback that passes such requests on and nothing
//! else: the address that it is given is signed by the server and is the right to it.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use corral_worker_api::{BLOB_PATH, CONTAINER_BLOB_PORT};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;

/// Passes payloads on as long as this lives.
pub struct BlobPort {
    stop: CancellationToken,
}

struct Passing {
    client: reqwest::Client,
    base: String,
    authorization: Option<HeaderValue>,
}

impl BlobPort {
    /// Listens in the network of the container whose first process this is.
    ///
    /// # Errors
    /// When this process may not enter that network, or the client cannot be made.
    pub async fn listen(process_id: u32, connection: &Connection) -> io::Result<Self> {
        let passing = Arc::new(Passing {
            client: connection.container_client().map_err(io::Error::other)?,
            base: connection.base().to_owned(),
            authorization: connection.authorization(),
        });
        // A thread of its own: it stays in that network until it ends.
        let entering = std::thread::spawn(move || -> io::Result<TcpListener> {
            let network = std::fs::File::open(format!("/proc/{process_id}/ns/net"))?;
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), kind)?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, CONTAINER_BLOB_PORT))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = tokio::task::spawn_blocking(move || entering.join()).await?;
        let listener = listener.map_err(|_| io::Error::other("entering a network panicked"))??;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, passing)));
        Ok(Self { stop })
    }
}

impl Drop for BlobPort {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: tokio::net::TcpListener, passing: Arc<Passing>) {
    let mut connections = tokio::task::JoinSet::new();
    // It fails when the container's network is gone.
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let passing = passing.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let passing = passing.clone();
                async move { Ok::<_, Infallible>(pass_on(&passing, request).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the container's affair.
            let _ended = serving.await;
        });
    }
}

async fn pass_on(passing: &Passing, request: Request<Incoming>) -> Response<reqwest::Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with(BLOB_PATH) || path.contains("..") {
        return refusal(StatusCode::NOT_FOUND, "only payloads are put and got here");
    }
    let mut headers = parts.headers;
    headers.remove(HOST);
    headers.remove(hyper::header::CONNECTION);
    headers.remove(hyper::header::TRANSFER_ENCODING);
    match &passing.authorization {
        Some(authorization) => headers.insert(AUTHORIZATION, authorization.clone()),
        None => headers.remove(AUTHORIZATION),
    };
    let call = passing
        .client
        .request(parts.method, format!("{}{path}", passing.base))
        .headers(headers)
        .body(reqwest::Body::wrap(body));
    match call.send().await {
        Ok(response) => response.into(),
        // The client tries again.
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn refusal(status: StatusCode, message: &str) -> Response<reqwest::Body> {
    let mut response = Response::new(reqwest::Body::from(format!("{message}\n")));
    *response.status_mut() = status;
    response
}
