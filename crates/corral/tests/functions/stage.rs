//! Where one client's programs run: its processes, their environment, what they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::clients::{Client, Clients, NEWEST};
use crate::corral::Corral;
use crate::process::Running;

/// How long a single command of the client may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What the environment is called that is always there.
pub const DEFAULT_ENVIRONMENT: &str = "default";

/// What came of the parts of a program: nothing, or why it did not work.
pub type Outcomes = BTreeMap<String, Result<(), String>>;

/// A client before a server.
pub struct Stage<'a> {
    pub client: Client,
    pub corral: &'a Corral,
    clients: &'a Clients,
    /// A folder for what this client writes.
    scratch: tempfile::TempDir,
}

/// The folder of the programs.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions/scripts")
}

impl<'a> Stage<'a> {
    pub fn new(client: Client, corral: &'a Corral, clients: &'a Clients) -> Self {
        Self { client, corral, clients, scratch: tempfile::tempdir().unwrap() }
    }

    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Each client has an environment of its own, so that names of apps do not meet. That of the
    /// newest one is where others, who bring no apps, look things up as well.
    pub fn environment(client: Client) -> String {
        match client {
            Client::Python(version) if client != NEWEST => {
                format!("of-{}", version.replace('.', "-"))
            }
            _ => DEFAULT_ENVIRONMENT.to_owned(),
        }
    }

    /// A command with the settings of this client and nothing of the machine's own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars() {
            if name.starts_with("MODAL_") || name.ends_with("_proxy") || name.ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command
            .env("MODAL_SERVER_URL", &self.corral.url)
            .env("MODAL_TOKEN_ID", &self.corral.token.id)
            .env("MODAL_TOKEN_SECRET", &self.corral.token.secret)
            .env("MODAL_CONFIG_PATH", self.scratch().join("modal.toml"))
            .env("MODAL_ENVIRONMENT", Self::environment(self.client))
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .env("COLUMNS", "200")
            .env("NO_COLOR", "1")
            .env("TERM", "dumb")
            .current_dir(scripts());
        command
    }

    /// Starts the command line of the client.
    pub fn modal(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&self.clients.home(self.client).join("bin/modal"));
        command.args(arguments);
        Running::start(command)
    }

    /// The same with no more of a token than the client's settings have.
    pub fn without_token(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&self.clients.home(self.client).join("bin/modal"));
        command.args(arguments).env_remove("MODAL_TOKEN_ID").env_remove("MODAL_TOKEN_SECRET");
        Running::start(command)
    }

    /// Starts a program that uses the client.
    pub fn program(&self, file: &str) -> Running {
        let home = self.clients.home(self.client);
        match self.client {
            Client::Python(_) => {
                let mut command = self.command(&home.join("bin/python"));
                command.arg(file);
                Running::start(command)
            }
            Client::JavaScript(_) => {
                // A module finds packages beside itself.
                let copy = home.join(file);
                std::fs::copy(scripts().join(file), &copy).unwrap();
                let mut command = self.command(Path::new("node"));
                command.arg(copy);
                Running::start(command)
            }
        }
    }

    /// Runs a command of the client that must succeed: what it said.
    pub fn said(&self, arguments: &[&str]) -> Result<String> {
        self.modal(arguments).end(COMMAND_LIMIT)?.success()
    }

    /// Runs a command of the client that must succeed, and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let said = self.said(&[arguments, &["--json"]].concat())?;
        // What the client has to say about itself comes before.
        let from = said.find('[');
        ensure!(from.is_some(), "no JSON in {said}");
        Ok(serde_json::from_str(&said[from.unwrap()..])?)
    }
}

/// What came of the parts that a program names in its own lines.
pub fn outcomes_in(said: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("works: ") {
            let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
            outcomes.entry(name.to_owned()).or_insert(Ok(()));
        } else if let Some((_, rest)) = line.split_once("fails: ") {
            let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
            outcomes.insert(name.to_owned(), Err(why.to_owned()));
        }
    }
    outcomes
}

/// Tries the parts of a program one after another, each by its name.
#[derive(Default)]
pub struct Tried(pub Outcomes);

impl Tried {
    pub fn part(&mut self, name: &str, body: impl FnOnce() -> Result<()>) {
        let outcome = body().map_err(|error| format!("{error:#}"));
        self.0.insert(name.to_owned(), outcome);
    }
}
