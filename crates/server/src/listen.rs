//! Accepting connections: HTTP/1.1 and HTTP/2 with prior knowledge on one port, plain or
//! TLS, and the unix socket on which this machine's worker calls.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Connections open at once. Each idle one costs some 20 KiB; past this number new ones
/// wait in the kernel's queue instead of taking the server's memory.
const MAX_CONNECTIONS: usize = 8192;

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a connection may lie idle, or take for the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);

/// Requests of one HTTP/2 connection at once. A client of functions has one for every call that
/// it waits for, a container one for every input.
const MAX_STREAMS: u32 = 4_096;

/// How much of what one HTTP/2 connection sends may wait here to be read: arguments and files
/// come in messages of some MiB.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How long requests under way may go on once the server shall end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept: out of file descriptors, it fails again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Where the server accepts connections.
pub enum Listener {
    Tcp { listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>> },
    Unix(UnixListener),
}

/// Serves `router` on `listener` until `stop` turns true, then lets the requests under
/// way end, for at most [`DRAIN_TIMEOUT`].
pub async fn serve(listener: Listener, router: Router, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let acceptor = match &listener {
        Listener::Tcp { tls: Some(config), .. } => Some(TlsAcceptor::from(config.clone())),
        _ => None,
    };
    loop {
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() =>
                permit.expect("the semaphore is never closed"),
            () = told_to_stop(&mut stop) => break,
        };
        tokio::select! {
            accepted = accept(&listener) => match accepted {
                Ok(Stream::Tcp(stream)) => {
                    let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
                    tokio::spawn(async move {
                        match acceptor {
                            None => serve_connection(stream, router, stop, permit).await,
                            Some(acceptor) => {
                                let handshake = tokio::time::timeout(
                                    HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                                if let Ok(Ok(stream)) = handshake {
                                    serve_connection(stream, router, stop, permit).await;
                                }
                            }
                        }
                    });
                }
                Ok(Stream::Unix(stream)) => {
                    tokio::spawn(serve_connection(stream, router.clone(), stop.clone(), permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            () = told_to_stop(&mut stop) => break,
        }
    }
    drop(listener);
    let all = u32::try_from(MAX_CONNECTIONS).expect("the limit fits");
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, connections.acquire_many(all)).await;
    if drained.is_err() {
        tracing::info!("connections still open at the end were cut");
    }
}

/// Returns once the server shall end; the sender lives as long as the server.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _told = stop.wait_for(|stopped| *stopped).await;
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Tcp { listener, .. } => {
            let (stream, _) = listener.accept().await?;
            // Answers are small and written once: waiting to fill a packet only delays them.
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
    }
}

async fn serve_connection<S>(
    stream: S,
    router: Router,
    mut stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(Some(Duration::from_secs(60)));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A connection that breaks is the client's affair: its requests are dropped with it.
    let _ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}
