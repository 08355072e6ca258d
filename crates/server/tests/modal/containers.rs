//! A stand-in for workers: each container is a plain process that runs the client's own container
//! side against the worker's router, with the header that a worker would add.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::map_request;
use corral_apps::logs::NewLogLine;
use corral_blobs::BlobStore;
use corral_containers::{ContainerEnd, ContainerEvent, StartKind, StopReason, Usage};
use corral_functions::ContainerHost;
use corral_server::modal::{Edge, container_arguments};
use corral_types::{Caller, ContainerId, FunctionId, Scopes, Timestamp, WorkspaceId};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::runtime::Handle;

/// Starts containers as processes of this machine.
pub struct Processes {
    pub folder: PathBuf,
    pub python: PathBuf,
    pub blobs: BlobStore,
    pub runtime: Handle,
    pub workspace: WorkspaceId,
    pub edge: OnceLock<Edge>,
    running: Mutex<HashMap<ContainerId, u32>>,
    me: Weak<Self>,
}

impl Processes {
    pub fn new(
        folder: PathBuf,
        python: PathBuf,
        blobs: BlobStore,
        runtime: Handle,
        workspace: WorkspaceId,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            folder,
            python,
            blobs,
            runtime,
            workspace,
            edge: OnceLock::new(),
            running: Mutex::default(),
            me: me.clone(),
        })
    }

    async fn run(&self, container: ContainerId, function: FunctionId) {
        let edge = self.edge.get().unwrap();
        let url = door(edge, container).await;
        let caller = Caller { workspace: self.workspace, token: None, scopes: Scopes::ALL };
        let resolved = edge.apps.function(&caller, function).await.unwrap();
        let arguments = container_arguments(edge, &resolved, container, None).await.unwrap();
        let folder = self.folder.join(container.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("arguments"), arguments).unwrap();
        for mount in &resolved.spec.mounts {
            for file in edge.apps.mount(&caller, *mount).await.unwrap().tree.files {
                let path = file.path.trim_start_matches("/root/").trim_start_matches('/');
                let path = folder.join("root").join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::copy(self.blobs.local_path(&file.blob).unwrap(), path).unwrap();
            }
        }
        let secrets = edge.apps.secret_values(&caller, &resolved.spec.secrets).await.unwrap();
        let root = folder.join("root");
        std::fs::create_dir_all(&root).unwrap();
        let mut child = Command::new(&self.python)
            .args(["-u", "-m", "modal._container_entrypoint"])
            .current_dir(&root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("PYTHONPATH", &root)
            .env("HOME", &folder)
            .env("MODAL_CONFIG_PATH", folder.join("no-config"))
            .env("MODAL_IS_REMOTE", "1")
            .env("MODAL_SERVER_URL", url)
            .env("MODAL_CONTAINER_ARGUMENTS_PATH", folder.join("arguments"))
            .env("MODAL_TASK_ID", container.to_string())
            .env("MODAL_ENVIRONMENT", &resolved.environment_name)
            .env("MODAL_LOGLEVEL", "WARNING")
            .env("NO_PROXY", "*")
            .envs(secrets.iter().map(|(key, value)| (key, value.expose())))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.running.lock().unwrap().insert(container, child.id().unwrap());
        let started =
            ContainerEvent::Started { kind: StartKind::Cold, took_ms: 1, plain_reason: None };
        edge.functions.container_event(container, started).await.unwrap();
        let app = resolved.app.id;
        let log = |descriptor, text: String| {
            let line = NewLogLine {
                at: Timestamp::now(),
                descriptor,
                container: Some(container),
                function: Some(function),
                call: None,
                input: None,
                text: text + "\n",
            };
            edge.logs.append(app, vec![line]).unwrap();
        };
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let out = async {
            while let Ok(Some(line)) = stdout.next_line().await {
                log(1, line);
            }
        };
        let err = async {
            while let Ok(Some(line)) = stderr.next_line().await {
                log(2, line);
            }
        };
        let ((), (), status) = tokio::join!(out, err, child.wait());
        self.running.lock().unwrap().remove(&container);
        let status = status.unwrap();
        let end = match (status.code(), status.signal()) {
            (Some(exit_code), _) => ContainerEnd::Exited { exit_code },
            (None, Some(signal)) => ContainerEnd::Killed { signal },
            (None, None) => ContainerEnd::Lost,
        };
        let ended = ContainerEvent::Ended { end, usage: Usage::default() };
        edge.functions.container_event(container, ended).await.unwrap();
    }
}

impl ContainerHost for Processes {
    fn start(&self, container: ContainerId, function: FunctionId) {
        let me = self.me.upgrade().unwrap();
        self.runtime.spawn(async move { me.run(container, function).await });
    }

    fn stop(&self, container: ContainerId, _: StopReason) {
        if let Some(process) = self.running.lock().unwrap().get(&container) {
            send(*process, "TERM");
        }
    }
}

/// A port for one container, which says who speaks there, as its worker would.
async fn door(edge: &Edge, container: ContainerId) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let name = HeaderValue::try_from(container.to_string()).unwrap();
    let router = edge.container_router_at(&url).layer(map_request(move |mut request: Request| {
        let name = name.clone();
        async move {
            request.headers_mut().insert("corral-container", name);
            request
        }
    }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// Sends a signal to a process that this test started.
pub fn send(process: u32, signal: &str) {
    let sent = std::process::Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(process.to_string())
        .output();
    assert!(sent.is_ok(), "kill is part of every system");
}

/// Where the scripts of these tests lie.
pub fn scripts() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/modal/scripts"))
}
