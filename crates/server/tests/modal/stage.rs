//! The edge with all that it needs, on a free port, and clients that talk to it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corral_apps::Apps;
use corral_apps::logs::AppLogs;
use corral_blobs::{BlobStore, BlobStoreOptions};
use corral_catalog::{Catalog, DEFAULT_WORKSPACE, SqliteCatalog};
use corral_containers::ContainerLine;
use corral_functions::{Functions, FunctionsOptions, FunctionsPorts};
use corral_server::modal::{
    BuildProgress, BuildStatus, BuiltImage, Edge, EdgeParts, ImageBuilds, ImageWanted,
};
use corral_server::{Access, Tokens};
use corral_types::{ErrorKind, Failure, ImageId, SystemClock, Timestamp, WorkspaceId};

use crate::clients;
use crate::containers::{Processes, scripts};

/// The secret of the token that clients show.
const SECRET: &str = "corral_of_the_stage";

pub struct Stage {
    pub edge: Edge,
    pub url: String,
    pub folder: tempfile::TempDir,
    python: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Images that are there as soon as they were asked for twice.
#[derive(Default)]
struct InstantImages(Mutex<Vec<ImageId>>);

type Answer<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

fn built() -> BuildStatus {
    BuildStatus::Built(BuiltImage {
        python_version: Some("Python 3.11.0".to_owned()),
        ..BuiltImage::default()
    })
}

impl ImageBuilds for InstantImages {
    fn begin(&self, wanted: ImageWanted) -> Answer<'_, BuildStatus> {
        let mut known = self.0.lock().unwrap();
        let status = if known.contains(&wanted.image) { built() } else { BuildStatus::Running };
        known.push(wanted.image);
        Box::pin(async move { Ok(status) })
    }

    fn follow(
        &self,
        _: WorkspaceId,
        image: ImageId,
        after: u64,
        _: Duration,
    ) -> Answer<'_, BuildProgress> {
        let known = self.0.lock().unwrap().contains(&image);
        Box::pin(async move {
            if !known {
                return Err(Failure::new(ErrorKind::NotFound, "it was not begun"));
            }
            let line = ContainerLine {
                at: Timestamp::now(),
                descriptor: 1,
                text: "a line of the build\n".to_owned(),
            };
            let lines = if after == 0 { vec![line] } else { Vec::new() };
            let status = if after == 0 { BuildStatus::Running } else { built() };
            Ok(BuildProgress { lines, last: 1, status })
        })
    }
}

impl Stage {
    /// With the client of this version on both sides; none where it cannot be had.
    pub fn start(version: &str) -> Option<Self> {
        let python = clients::python(version)?;
        Some(Self::start_with(python.clone(), python))
    }

    /// With one client outside and another one's container side.
    pub fn start_with(python: PathBuf, container_python: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let options = BlobStoreOptions { reserve_bytes: 0 };
        let blobs = BlobStore::open_with(path.join("blobs"), options).unwrap();
        let catalog: Arc<dyn Catalog> =
            Arc::new(SqliteCatalog::open(&path.join("catalog.sqlite")).unwrap());
        let clock = Arc::new(SystemClock);
        let apps = Apps::open(catalog.clone(), blobs.clone(), path, clock.clone()).unwrap();
        let host = Processes::new(
            path.join("containers"),
            container_python,
            blobs.clone(),
            runtime.handle().clone(),
            DEFAULT_WORKSPACE,
        );
        let (edge, url) = runtime.block_on(async {
            let ports = FunctionsPorts { host: host.clone(), clock };
            let functions =
                Functions::start(FunctionsOptions::new(path.join("functions")), ports).unwrap();
            let tokens = Tokens::new(catalog.clone(), Access::Tokens);
            tokens.ensure_admin(SECRET).await.unwrap();
            let edge = Edge::new(EdgeParts {
                apps,
                functions,
                logs: AppLogs::new(path.join("logs")),
                images: Arc::new(InstantImages::default()),
                catalog,
                blobs,
                tokens,
            });
            edge.resume().await.unwrap();
            host.edge.set(edge.clone()).ok().unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let router = edge.client_router();
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            (edge, url)
        });
        Self { edge, url, folder, python, runtime: Some(runtime) }
    }

    /// The client's command line.
    pub fn modal(&self, arguments: &[&str]) -> Command {
        let mut command = self.script(&["-m", "modal"]);
        command.args(arguments);
        command
    }

    /// A Python program that uses the client.
    pub fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command
            .args(arguments)
            .current_dir(scripts())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("MODAL_CONFIG_PATH", self.folder.path().join("modal.toml"))
            .env("MODAL_SERVER_URL", &self.url)
            .env("MODAL_TOKEN_SECRET", SECRET)
            .env("MODAL_TOKEN_ID", self.token_id())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("COLUMNS", "200")
            .env("NO_PROXY", "*")
            .stdin(Stdio::null());
        command
    }

    fn token_id(&self) -> String {
        let caller = self.block_on(self.edge.tokens.caller_with_secret(Some(SECRET)));
        caller.ok().unwrap().token.unwrap().to_string()
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    /// Runs a command that must succeed, and gives what it wrote to both.
    #[track_caller]
    pub fn succeeds(&self, command: &mut Command) -> String {
        let output: Output = command.output().unwrap();
        let said = clients::text(&output);
        assert!(output.status.success(), "{command:?}\n{said}");
        said
    }

    /// Runs a command that must fail, and gives what it wrote to both.
    #[track_caller]
    pub fn fails(&self, command: &mut Command) -> String {
        let output: Output = command.output().unwrap();
        let said = clients::text(&output);
        assert!(!output.status.success(), "{command:?}\n{said}");
        said
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.edge.functions.stop());
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// Polls until a condition holds.
#[track_caller]
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
