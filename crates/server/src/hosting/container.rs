//! From a function's definition to a container: what it runs, in which image, with which files,
//! variables and limits.

use std::collections::BTreeMap;

use corral_apps::{AppsError, FunctionRole, ResolvedFunction};
use corral_containers::{
    ContainerSpec, Contract, FileTree, Limits, SmallFile, StopReason, TemplateSpec,
};
use corral_jobs::JobsError;
use corral_placement::{TaskRequest, WorkClass};
use corral_types::{
    Caller, ContainerId, Explain, Failure, FunctionId, Scopes, TaskId, WorkspaceId,
};
use corral_worker_api::TaskWork;

use super::template::Templates;
use super::{Hosted, task_of};
use crate::modal;

/// What a container is leased where nothing was asked for.
const MEMORY_REQUEST_BYTES: u64 = 128 << 20;
/// A fraction of a core, as the client's documentation has it.
const MILLI_CPU: u32 = 125;
/// Processes and threads of one container.
const MAX_PROCESSES: u32 = 4_096;
/// What a container may write into one file where nothing was asked for.
const DISK_BYTES: u64 = 16 << 30;

/// Where a container finds what it is.
const ARGUMENTS_PATH: &str = "/__corral/arguments.pb";

/// Has a container started; when it never can be, the functions service is told.
pub async fn start(
    hosted: &Hosted,
    templates: &mut Templates,
    container: ContainerId,
    function: FunctionId,
) {
    let Err(failure) = try_start(hosted, templates, container, function).await else { return };
    let refused = hosted.functions.start_refused(container, failure.message, failure.hint).await;
    if let Err(error) = refused {
        tracing::warn!(%container, %error, "a container that cannot start was not refused");
    }
}

async fn try_start(
    hosted: &Hosted,
    templates: &mut Templates,
    container: ContainerId,
    function: FunctionId,
) -> Result<(), Failure> {
    let Some(settings) = hosted.functions.settings(function).await else {
        // It was retired meanwhile, and so was its container.
        return Ok(());
    };
    let caller = within(settings.workspace);
    let resolved = hosted.apps.function(&caller, function).await.map_err(explained)?;
    let spec = spec(hosted, &caller, container, &resolved).await?;
    let request = request(task_of(container), &spec, &resolved);
    templates.used_by(hosted, &spec, &request, &resolved).await;
    let work = TaskWork::Container { spec: Box::new(spec) };
    match hosted.jobs.start_task(request, work).await {
        // The server stops; the next one asks again.
        Ok(()) | Err(JobsError::Stopping) => Ok(()),
        Err(error) => Err(Failure::from(error)),
    }
}

pub async fn stop(hosted: &Hosted, container: ContainerId, reason: StopReason) {
    match hosted.jobs.stop_task(task_of(container), reason).await {
        Ok(()) | Err(JobsError::Stopping) => {}
        Err(error) => tracing::error!(%container, %error, "a container was not stopped"),
    }
}

/// Acts within a workspace for what it has asked for before.
pub fn within(workspace: WorkspaceId) -> Caller {
    Caller { workspace, token: None, scopes: Scopes::ALL }
}

fn explained(error: AppsError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(error.kind(), error.to_string());
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// The lease that a container, or its template, asks for.
pub fn request(task: TaskId, spec: &ContainerSpec, resolved: &ResolvedFunction) -> TaskRequest {
    TaskRequest {
        task,
        workspace: spec.workspace,
        class: WorkClass::Call,
        milli_cpu: spec.limits.milli_cpu,
        memory_request_bytes: spec.limits.memory_request_bytes,
        memory_limit_bytes: resolved.spec.resources.memory_limit_bytes,
        gpus: spec.limits.gpus,
        priority: 0,
        deadline: None,
        bring_back_ms: 0,
        preferred_worker: None,
    }
}

/// What the container of a function is.
///
/// # Errors
/// When something that the function refers to is not there any more.
pub async fn spec(
    hosted: &Hosted,
    caller: &Caller,
    container: ContainerId,
    resolved: &ResolvedFunction,
) -> Result<ContainerSpec, Failure> {
    let spec = &resolved.spec;
    let image = hosted.apps.recipe(caller, spec.image).await.map_err(explained)?;
    let mut trees: Vec<FileTree> = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        let contents = hosted.apps.mount(caller, *mount).await.map_err(explained)?;
        if contents.global.is_none() {
            trees.push(contents.tree);
        }
    }
    let secrets = hosted.apps.secret_values(caller, &spec.secrets).await.map_err(explained)?;
    let arguments = modal::container_arguments(&hosted.edge, resolved, container, None)
        .await
        .map_err(|refusal| refusal.failure)?;
    let resources = &spec.resources;
    let memory_request_bytes = resources.memory_request_bytes.unwrap_or(MEMORY_REQUEST_BYTES);
    let mut spec = ContainerSpec {
        container,
        workspace: resolved.workspace,
        app: resolved.app.id,
        function: resolved.record.id,
        contract: Contract::Inputs,
        image,
        client_version: spec.client_version.clone(),
        builder_version: spec.builder_version.clone(),
        trees,
        files: vec![SmallFile { path: ARGUMENTS_PATH.to_owned(), bytes: arguments }],
        environment: environment(container, resolved),
        secrets,
        working_directory: None,
        command: ["python", "-u", "-m", "modal._container_entrypoint"].map(str::to_owned).to_vec(),
        limits: Limits {
            memory_request_bytes,
            // The lease says what it is in the end.
            memory_limit_bytes: resources.memory_limit_bytes.unwrap_or(memory_request_bytes),
            milli_cpu: resources.milli_cpu.unwrap_or(MILLI_CPU),
            milli_cpu_limit: resources.milli_cpu_limit,
            processes: MAX_PROCESSES,
            disk_bytes: resources.disk_bytes.unwrap_or(DISK_BYTES),
            gpus: resources.gpu.as_ref().map_or(0, |gpu| gpu.count),
        },
        network: spec.network,
        template: None,
        commit: hosted.runs.commit_of(resolved.record.id),
        startup_timeout_ms: u64::from(spec.startup_timeout_s) * 1_000,
    };
    spec.template = template_of(&spec, resolved);
    Ok(spec)
}

fn environment(container: ContainerId, resolved: &ResolvedFunction) -> BTreeMap<String, String> {
    let variables = [
        ("MODAL_IS_REMOTE", "1".to_owned()),
        ("MODAL_SERVER_URL", "unix:///__corral/api.sock".to_owned()),
        ("MODAL_CONTAINER_ARGUMENTS_PATH", ARGUMENTS_PATH.to_owned()),
        ("MODAL_TASK_ID", container.to_string()),
        ("MODAL_IMAGE_ID", resolved.spec.image.to_string()),
        ("MODAL_ENVIRONMENT", resolved.environment_name.clone()),
        ("MODAL_CLOUD_PROVIDER", "CLOUD_PROVIDER_UNSPECIFIED".to_owned()),
        ("MODAL_REGION", "local".to_owned()),
        ("PYTHONPATH", "/root".to_owned()),
        ("HOME", "/root".to_owned()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// What the containers of a function can be born of. Its module may read variables and files
/// while it is imported, so whatever has others has another template.
fn template_of(spec: &ContainerSpec, resolved: &ResolvedFunction) -> Option<TemplateSpec> {
    // A device must be opened by the process that uses it.
    if spec.limits.gpus > 0 || resolved.spec.role == FunctionRole::ImageBuild {
        return None;
    }
    let mut hasher = blake3::Hasher::new_derive_key("corral 2026 key of a function's template");
    hasher.update(&resolved.base().as_u128().to_le_bytes());
    hasher.update(&resolved.generation.to_le_bytes());
    hasher.update(spec.image.key().0.as_bytes());
    for (name, value) in &spec.secrets {
        for part in [name.as_str(), value.expose()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    // With a snapshot what was made of the parameters is in it.
    if resolved.spec.snapshot {
        hasher.update(resolved.parameters());
    }
    let module = resolved.spec.module.clone();
    Some(TemplateSpec {
        key: hasher.finalize().into(),
        imports: if module.is_empty() { Vec::new() } else { vec![module] },
        snapshot: resolved.spec.snapshot,
    })
}
