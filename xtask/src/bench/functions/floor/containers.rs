//! The client's own container side as plain processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use corral_modal_api::{
    AppLayout, ContainerArguments, Function, Message, Object, object::HandleMetadataOneof,
};

use super::super::process::Owned;
use super::answers::handle_metadata;

/// How containers are started.
pub struct Entrypoint {
    /// A Python that has the client installed.
    pub python: PathBuf,
    /// Where the modules of the functions lie.
    pub modules: PathBuf,
    /// Sockets and arguments go here.
    pub folder: PathBuf,
}

impl Entrypoint {
    /// The server's socket for containers.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("floor.sock")
    }

    /// Starts the container of a number.
    pub fn start(
        &self,
        number: usize,
        app_id: &str,
        function_id: &str,
        function: &Function,
    ) -> anyhow::Result<Owned> {
        let task_id = format!("ta-{number}");
        let arguments = ContainerArguments {
            task_id: task_id.clone(),
            function_id: function_id.to_owned(),
            app_id: app_id.to_owned(),
            app_layout: Some(layout(function_id, function)),
            function_def: Some(function.clone()),
            environment_name: "main".to_owned(),
            ..ContainerArguments::default()
        };
        let path = self.folder.join(format!("{task_id}.arguments"));
        std::fs::write(&path, arguments.encode_to_vec())
            .with_context(|| format!("write {}", path.display()))?;
        let mut command = clean(&self.python);
        command
            .args(["-u", "-m", "modal._container_entrypoint"])
            .current_dir(&self.modules)
            .env("PYTHONPATH", &self.modules)
            .env("MODAL_IS_REMOTE", "1")
            .env("MODAL_SERVER_URL", format!("unix://{}", self.socket().display()))
            .env("MODAL_CONTAINER_ARGUMENTS_PATH", &path)
            .env("MODAL_TASK_ID", &task_id)
            .env("MODAL_ENVIRONMENT", "main")
            .env("MODAL_CLOUD_PROVIDER", "CLOUD_PROVIDER_AUTO")
            .env("MODAL_REGION", "here")
            .stdin(Stdio::null());
        Owned::start(&mut command).context("start a container of the official client")
    }
}

/// A command without settings of the client that the caller's environment may hold.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MODAL_") {
            command.env_remove(name);
        }
    }
    // A proxy of the machine would be asked for loopback too.
    command.env("MODAL_DISABLE_API_PROXY", "1").env("MODAL_CONFIG_PATH", "/nonexistent");
    command
}

/// Everything that the container resolves by id: the function and what it depends on.
fn layout(function_id: &str, function: &Function) -> AppLayout {
    let depended = function.object_dependencies.iter().map(|dependency| Object {
        object_id: dependency.object_id.clone(),
        handle_metadata_oneof: None,
    });
    let own = Object {
        object_id: function_id.to_owned(),
        handle_metadata_oneof: Some(HandleMetadataOneof::FunctionHandleMetadata(handle_metadata(
            function,
        ))),
    };
    AppLayout {
        objects: depended.chain([own]).collect(),
        function_ids: [(function.function_name.clone(), function_id.to_owned())].into(),
        class_ids: Default::default(),
    }
}
