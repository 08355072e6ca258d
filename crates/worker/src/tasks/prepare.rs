//! What a container needs before it starts: its files, its image, its socket, its plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_blobs::BlobStore;
use corral_containers::{ContainerLine, ContainerSpec, Contract, FileTree, ImageKey, ImageRecipe};
use corral_images::{
    BuildError, BuildLine, BuildLog, ClientBundle, ClientVersion, Files, LaidOut, LineSource,
    ReadyImage,
};
use corral_isolation::{Access, Bind, ContainerPlan, PlannedFile, Writable};
use corral_types::{BlobHash, ContainerId, Explain, TaskId, Timestamp, source_chain};
use corral_worker_api::{BuildSpec, BuiltImage, Limits};

use super::api_socket::ApiSocket;
use super::outbox::Outbox;
use crate::Worker;
use crate::backoff::Backoff;
use crate::connection::CallError;

/// Where a container finds its socket.
const API_SOCKET: &str = "/__corral/api.sock";

/// Where Python looks for modules beside its own.
const PYTHON_PATH: &str = "PYTHONPATH";

/// A container that can be started; what it was made of stays as long as this lives.
pub struct Prepared {
    pub plan: ContainerPlan,
    image: ReadyImage,
    _bundle: Option<ClientBundle>,
    _trees: Vec<LaidOut>,
    pub socket: ApiSocket,
    folder: TaskFolder,
}

impl Prepared {
    /// Makes an image of what the container wrote, now that it has ended.
    ///
    /// # Errors
    /// When there is no room for it.
    pub async fn commit(&self, worker: &Worker, key: ImageKey) -> Result<(), Unprepared> {
        let (images, image) = (worker.images.clone(), self.image.clone());
        let upper = self.folder.0.join("upper");
        let commit = move || {
            // What was made for this container alone is no part of the image.
            let own = upper.join("__corral");
            match std::fs::remove_dir_all(&own) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Unprepared::because(
                        "leave out what is the container's own",
                        &error,
                    ));
                }
                _ => {}
            }
            images.commit(&upper, &image, key).map(drop).map_err(Unprepared::from)
        };
        tokio::task::spawn_blocking(commit).await.expect("keeping an image does not panic")
    }
}

/// Why there is nothing to start.
#[derive(Debug)]
pub struct Unprepared {
    pub message: String,
    pub hint: Option<String>,
}

impl Unprepared {
    fn because(action: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes: Vec<String> =
            std::iter::once(error.to_string()).chain(source_chain(error)).collect();
        Self { message: format!("{action}: {}", causes.join(": ")), hint: None }
    }
}

impl From<BuildError> for Unprepared {
    fn from(error: BuildError) -> Self {
        let causes: Vec<String> =
            std::iter::once(error.to_string()).chain(source_chain(&error)).collect();
        Self { message: causes.join(": "), hint: error.hint() }
    }
}

/// The folder of one task, removed with this.
struct TaskFolder(PathBuf);

impl TaskFolder {
    fn make(worker: &Worker, task: TaskId) -> std::io::Result<Self> {
        let path =
            worker.directory.containers().join(ContainerId::from_u128(task.as_u128()).to_string());
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TaskFolder {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        // What a container wrote may be many files.
        std::thread::spawn(move || {
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "files of a container stay until the next start");
            }
        });
    }
}

/// The worker's blobs, as the builder reads them.
pub struct BlobFiles(pub BlobStore);

impl Files for BlobFiles {
    fn open(&self, hash: &BlobHash) -> std::io::Result<std::fs::File> {
        self.0.open_file(hash).map_err(std::io::Error::other)
    }
}

/// Passes a build's lines on.
struct Lines {
    outbox: Arc<Outbox>,
    task: TaskId,
    /// Whether the task is the build itself, or a container that needs the image.
    is_build: bool,
}

impl BuildLog for Lines {
    fn line(&self, line: BuildLine<'_>) {
        let descriptor = match line.source {
            LineSource::Builder => 3,
            LineSource::Output => 1,
            LineSource::Error => 2,
        };
        let line =
            ContainerLine { at: Timestamp::now(), descriptor, text: format!("{}\n", line.text) };
        match self.is_build {
            true => self.outbox.build_lines(self.task, vec![line]),
            false => self.outbox.lines(self.task, vec![line]),
        }
    }
}

/// Has an image ready for a build that was asked for.
pub async fn build_image(
    worker: &Arc<Worker>,
    task: TaskId,
    spec: &BuildSpec,
) -> Result<BuiltImage, Unprepared> {
    fetch_context(worker, &spec.recipe).await?;
    let version = ClientVersion {
        client_version: spec.client_version.clone(),
        builder_version: spec.builder_version.clone(),
    };
    let lines = Lines { outbox: worker.tasks.outbox(), task, is_build: true };
    let image = ensure(worker, spec.recipe.clone(), version, lines).await?;
    Ok(BuiltImage {
        python_version: image.metadata.python_version,
        libc_version: image.metadata.libc_version,
        working_directory: image.metadata.working_directory,
    })
}

async fn ensure(
    worker: &Arc<Worker>,
    recipe: ImageRecipe,
    version: ClientVersion,
    lines: Lines,
) -> Result<ReadyImage, Unprepared> {
    let images = worker.images.clone();
    let building = move || images.ensure(&recipe, &version, &lines);
    let built = tokio::task::spawn_blocking(building).await.expect("a build does not panic");
    Ok(built?)
}

/// Everything that the container needs.
pub async fn prepare(
    worker: &Arc<Worker>,
    task: TaskId,
    spec: &ContainerSpec,
    limits: &Limits,
) -> Result<Prepared, Unprepared> {
    for tree in &spec.trees {
        fetch_tree(worker, tree).await?;
    }
    fetch_context(worker, &spec.image).await?;
    let version = ClientVersion {
        client_version: spec.client_version.clone(),
        builder_version: spec.builder_version.clone(),
    };
    let lines = Lines { outbox: worker.tasks.outbox(), task, is_build: false };
    let image = ensure(worker, spec.image.clone(), version.clone(), lines).await?;
    let images = worker.images.clone();
    let trees = spec.trees.clone();
    let needs_client = spec.contract == Contract::Inputs;
    let (under, log) =
        (image.clone(), Lines { outbox: worker.tasks.outbox(), task, is_build: false });
    let lay_out = move || -> Result<(Option<ClientBundle>, Vec<LaidOut>), BuildError> {
        let bundle = match needs_client {
            true => Some(images.client_bundle(&version, &under, &log)?),
            false => None,
        };
        let mut laid = Vec::with_capacity(trees.len());
        for tree in trees.iter().rev() {
            laid.push(images.lay_out(tree)?);
        }
        Ok((bundle, laid))
    };
    let laid = tokio::task::spawn_blocking(lay_out).await.expect("laying files out does not panic");
    let (bundle, laid) = laid?;
    let mut lowers: Vec<PathBuf> = laid.iter().map(|tree| tree.path.clone()).collect();
    let certificates = worker.images.certificates();
    let environment = environment(&image, bundle.as_ref(), certificates.as_ref(), spec);
    lowers.extend(bundle.iter().flat_map(|bundle| bundle.lowers.iter().cloned()));
    lowers.extend(image.lowers.iter().cloned());
    let folder = TaskFolder::make(worker, task)
        .map_err(|error| Unprepared::because("make a folder for the container", &error))?;
    let socket = ApiSocket::listen(&folder.0.join("api.sock"), spec.container, &worker.connection)
        .map_err(|error| Unprepared::because("listen for the container's calls", &error))?;
    let arguments = match spec.command.is_empty() {
        false => spec.command.clone(),
        true => image.entrypoint.iter().chain(&image.command).cloned().collect(),
    };
    let working_directory = spec.working_directory.as_ref().or(image.working_directory.as_ref());
    let plan = ContainerPlan {
        name: spec.container.to_string(),
        lowers,
        writable: Writable::Directory { path: folder.0.clone() },
        binds: [Bind {
            source: socket.path().to_owned(),
            target: API_SOCKET.into(),
            access: Access::Read,
        }]
        .into_iter()
        .chain(certificates.map(|(bind, _)| Bind {
            source: bind.source,
            target: bind.target,
            access: Access::Read,
        }))
        .collect(),
        files: spec
            .files
            .iter()
            .map(|file| PlannedFile {
                path: file.path.clone().into(),
                mode: 0o644,
                bytes: file.bytes.clone(),
            })
            .collect(),
        environment: environment.into_iter().collect(),
        arguments,
        working_directory: working_directory.map_or_else(|| Path::new("/root"), Path::new).into(),
        hostname: "corral".to_owned(),
        limits: corral_containers::Limits {
            memory_limit_bytes: limits.memory_limit_bytes,
            ..spec.limits
        },
        network: spec.network,
    };
    Ok(Prepared { plan, image, _bundle: bundle, _trees: laid, socket, folder })
}

/// What later ones say counts, but for the ways that Python looks along, which are joined.
fn environment(
    image: &ReadyImage,
    bundle: Option<&ClientBundle>,
    certificates: Option<&(corral_images::Bind, BTreeMap<String, String>)>,
    spec: &ContainerSpec,
) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> =
        certificates.map(|(_, variables)| variables.clone()).unwrap_or_default();
    environment.extend(image.environment.clone());
    let mut add = |name: &str, value: &str| match environment.get_mut(name) {
        Some(ways) if name == PYTHON_PATH => *ways = format!("{value}:{ways}"),
        _ => _ = environment.insert(name.to_owned(), value.to_owned()),
    };
    for (name, value) in bundle.iter().flat_map(|bundle| &bundle.environment) {
        add(name, value);
    }
    for (name, value) in &spec.environment {
        add(name, value);
    }
    for (name, value) in &spec.secrets {
        add(name, value.expose());
    }
    environment
}

async fn fetch_context(worker: &Worker, recipe: &ImageRecipe) -> Result<(), Unprepared> {
    for layer in recipe.chain() {
        if let Some(context) = &layer.step.context {
            fetch_tree(worker, context).await?;
        }
    }
    Ok(())
}

/// Has every file of a tree here.
async fn fetch_tree(worker: &Worker, tree: &FileTree) -> Result<(), Unprepared> {
    for file in &tree.files {
        let mut backoff = Backoff::default();
        while !worker.blobs.contains(&file.blob).unwrap_or(false) {
            match worker.connection.fetch_blob(file.blob, &worker.blobs).await {
                Ok(()) => {}
                Err(error) if error.is_temporary() => backoff.wait().await,
                Err(error @ CallError::BlobNotFound(_)) => {
                    return Err(Unprepared::because(&format!("fetch {}", file.path), &error));
                }
                Err(error) => {
                    return Err(Unprepared::because(&format!("fetch {}", file.path), &error));
                }
            }
        }
    }
    Ok(())
}
