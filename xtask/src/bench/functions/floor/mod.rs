//! A server with canned answers: what the official client and its container side take by
//! themselves.
//!
//! It accepts every app, says that every image is built, keeps calls in memory and hands them to
//! containers, which are plain processes of the client's own entrypoint. What a real server
//! takes is measured as the difference to it.

mod answers;
mod calls;
mod containers;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use corral_modal_api::{
    FunctionCreateRequest, FunctionCreateResponse, FunctionData, ImageGetOrCreateRequest,
    function_data::RankedFunction,
};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::Status;

use super::process::Owned;
use calls::{Calls, locked};
use containers::Entrypoint;

pub use calls::now_s;
pub use containers::clean;

/// What a stream or connection may hold unread, as the client has it.
const WINDOW_BYTES: u32 = 64 << 20;

/// The running server with its containers, ended with the value.
pub struct RunningFloor {
    pub url: String,
    floor: Arc<Floor>,
    /// Dropped last: containers are ended before the server is.
    _runtime: Runtime,
}

impl Drop for RunningFloor {
    fn drop(&mut self) {
        locked(&self.floor.containers).clear();
    }
}

impl RunningFloor {
    /// Listens on loopback and, for containers, on a socket in a folder. Containers find their
    /// functions in the folder of modules.
    pub fn start(python: &Path, modules: &Path, folder: &Path) -> anyhow::Result<Self> {
        let runtime = Runtime::new().context("start the floor's threads")?;
        let entrypoint = Entrypoint {
            python: python.to_owned(),
            modules: modules.to_owned(),
            folder: folder.to_owned(),
        };
        let (address, floor) = runtime.block_on(async {
            let port = TcpListener::bind("127.0.0.1:0").await?;
            let socket = UnixListener::bind(entrypoint.socket())?;
            let address = port.local_addr()?;
            let floor = Arc::new(Floor::new(entrypoint));
            tokio::spawn(serve_port(port, floor.clone()));
            tokio::spawn(serve_socket(socket, floor.clone()));
            anyhow::Ok((address, floor))
        })?;
        Ok(Self { url: format!("http://{address}"), floor, _runtime: runtime })
    }

    /// The images that were asked for since the last time, in their order.
    pub fn take_asked_images(&self) -> Vec<AskedImage> {
        std::mem::take(&mut *locked(&self.floor.images))
    }
}

/// An image that a client asked for, and what it was called.
pub struct AskedImage {
    pub image_id: String,
    pub request: ImageGetOrCreateRequest,
}

async fn serve_port(port: TcpListener, floor: Arc<Floor>) {
    while let Ok((stream, _)) = port.accept().await {
        // Without it every second packet of a conversation would wait for an acknowledgement.
        if stream.set_nodelay(true).is_ok() {
            tokio::spawn(serve(stream, floor.clone()));
        }
    }
}

async fn serve_socket(socket: UnixListener, floor: Arc<Floor>) {
    while let Ok((stream, _)) = socket.accept().await {
        tokio::spawn(serve(stream, floor.clone()));
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, floor: Arc<Floor>) {
    let answers = service_fn(move |request| answers::answer(floor.clone(), request));
    let served = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .serve_connection(TokioIo::new(stream), answers)
        .await;
    // Clients that are killed end their connections so.
    drop(served);
}

/// What the answers share.
struct Floor {
    calls: Calls,
    containers: Mutex<Vec<Owned>>,
    images: Mutex<Vec<AskedImage>>,
    entrypoint: Entrypoint,
    last: AtomicU64,
    /// How many apps have ended: one runs at a time.
    ended_apps: watch::Sender<u64>,
}

impl Floor {
    fn new(entrypoint: Entrypoint) -> Self {
        Self {
            calls: Calls::default(),
            containers: Mutex::default(),
            images: Mutex::default(),
            entrypoint,
            last: AtomicU64::new(1),
            ended_apps: watch::Sender::new(0),
        }
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a function and starts as many containers as it may have.
    fn create(&self, asked: FunctionCreateRequest) -> Result<FunctionCreateResponse, Status> {
        let function = asked.function.ok_or_else(|| Status::invalid_argument("no function"))?;
        let function_id = asked.existing_function_id;
        let scaling = function.autoscaler_settings.unwrap_or_default();
        let count = scaling.max_containers.unwrap_or(1);
        for _ in 0..count {
            let mut containers = locked(&self.containers);
            let number = containers.len();
            let started = self.entrypoint.start(number, &asked.app_id, &function_id, &function);
            containers.push(started.map_err(|error| Status::internal(format!("{error:#}")))?);
        }
        let ranked = RankedFunction { rank: 0, function: Some(function.clone()) };
        Ok(FunctionCreateResponse {
            function_id,
            handle_metadata: Some(answers::handle_metadata(&function)),
            function_data: Some(FunctionData {
                function_name: function.function_name.clone(),
                function_type: function.function_type,
                ranked_functions: vec![ranked],
                ..FunctionData::default()
            }),
            function: Some(function),
            ..FunctionCreateResponse::default()
        })
    }

    fn end_app(&self) {
        self.ended_apps.send_modify(|count| *count += 1);
        locked(&self.containers).clear();
    }

    async fn app_end(&self) {
        let mut ended = self.ended_apps.subscribe();
        ended.mark_unchanged();
        // The sender lives as long as this does.
        let _ended = ended.changed().await;
    }
}
