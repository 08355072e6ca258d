//! The protocol of the official `modal` client: translates, decides nothing.
//!
//! The same methods are served on the open port, where clients show a token, and on the socket
//! of this machine's worker, which passes on what containers say and names the container in a
//! header. A method says in one table (`methods.rs`) who may call it.
//!
//! What is defined is asked of `apps`, what happens of `functions`, images of a port
//! ([`ImageBuilds`]).

mod apps;
mod arguments;
mod blobs;
mod call;
mod calls;
mod classes;
mod containers;
mod definitions;
mod environments;
mod functions;
mod grpc;
mod ids;
mod images;
mod life;
mod logs;
mod metadata;
mod methods;
mod mounts;
mod options;
mod payloads;
mod ports;
mod refusal;
mod secrets;
mod settings;
mod tasks;
mod tokens;
mod versions;

pub use arguments::container_arguments;
pub use ports::{BuildAnswer, BuildProgress, BuildStatus, BuiltImage, ImageBuilds, ImageWanted};
pub use settings::function_settings;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{any, post};
use corral_apps::Apps;
use corral_apps::logs::AppLogs;
use corral_blobs::BlobStore;
use corral_catalog::Catalog;
use corral_functions::Functions;
use corral_modal_api::SERVICE;
use corral_worker_api::CONTAINER_BLOB_PORT;

use crate::auth::Tokens;
use call::Door;

/// What the edge works with. Clones share it.
#[derive(Clone)]
pub struct Edge {
    inner: Arc<EdgeParts>,
}

/// What an edge is made of.
pub struct EdgeParts {
    pub apps: Apps,
    pub functions: Arc<Functions>,
    pub logs: AppLogs,
    pub images: Arc<dyn ImageBuilds>,
    pub catalog: Arc<dyn Catalog>,
    pub blobs: BlobStore,
    pub tokens: Tokens,
}

impl std::ops::Deref for Edge {
    type Target = EdgeParts;

    fn deref(&self) -> &EdgeParts {
        &self.inner
    }
}

impl Edge {
    pub fn new(parts: EdgeParts) -> Self {
        Self { inner: Arc::new(parts) }
    }

    /// The methods as clients reach them on the open port, with the addresses where payloads
    /// are uploaded and downloaded.
    pub fn client_router(&self) -> Router {
        let served = Served { edge: self.clone(), door: Door::Port };
        Router::new()
            .route(&format!("/{SERVICE}/{{method}}"), post(serve))
            .route("/modal/blobs/{id}", any(blobs::transfer))
            .with_state(served)
    }

    /// The methods as workers pass them on from containers.
    pub fn container_router(&self) -> Router {
        self.container_router_at(&format!("http://127.0.0.1:{CONTAINER_BLOB_PORT}"))
    }

    /// The same, for containers that put and get payloads at another address.
    pub fn container_router_at(&self, blobs_url: &str) -> Router {
        let door = Door::Worker { blobs_url: blobs_url.into() };
        let served = Served { edge: self.clone(), door };
        Router::new()
            .route(&format!("/{SERVICE}/{{method}}"), post(serve))
            .route("/modal/blobs/{id}", any(blobs::transfer))
            .with_state(served)
    }
}

/// The edge as it is reached through one door.
#[derive(Clone)]
struct Served {
    edge: Edge,
    door: Door,
}

async fn serve(
    State(served): State<Served>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    grpc::answer(served.edge, served.door, &method, request).await
}
