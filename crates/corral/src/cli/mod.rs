//! The command line: what can be typed, one file a noun.

mod admin;
mod app;
mod batch;
mod call;
mod container;
mod dataset;
mod doctor;
mod encoder;
mod endpoint;
mod endpoint_drift;
mod endpoint_log;
mod events;
mod function;
mod hub;
mod job;
mod label;
mod labeling_function;
mod model;
mod predict;
mod processes;
mod registry;
mod run;
mod taxonomy;
mod train;
mod up;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::Client;
use crate::config::{ClientConfig, Settings};
use crate::failure::reported;
use crate::output::Output;

/// Classifiers from text and a taxonomy, and the machine they run on.
#[derive(Debug, Parser)]
#[command(name = "corral", version, propagate_version = true, disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// The server to ask [env: CORRAL_URL]
    #[arg(long, global = true, value_name = "URL", display_order = 900)]
    url: Option<String>,
    /// The token to show it [env: CORRAL_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN", display_order = 901)]
    token: Option<String>,
    /// Write JSON to standard output instead of text
    #[arg(long, global = true, display_order = 902)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server and a worker on this machine
    Up(up::UpArgs),
    /// Import, look at and export data sets
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Import and look at taxonomies
    #[command(subcommand)]
    Taxonomy(taxonomy::TaxonomyCommand),
    /// Write labeling functions and see what they vote
    #[command(subcommand)]
    Lf(labeling_function::FunctionCommand),
    /// Label a data set by its labeling functions
    #[command(subcommand)]
    Label(label::LabelCommand),
    /// Train a model on a data set in the background
    Train(Box<train::TrainArgs>),
    /// Look at and end background jobs
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Look at and compare the trials of searches
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Look at, tag, compare, export and import models
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Make a model, or a fixed answer, an endpoint's next version
    Deploy(endpoint::DeployArgs),
    /// Look at endpoints, lead their traffic, remove them
    #[command(subcommand)]
    Endpoint(endpoint::EndpointCommand),
    /// Ask an endpoint or a model file for predictions of texts, files or data sets
    Predict(Box<predict::PredictArgs>),
    /// Look at, end and roll back apps of Python functions
    #[command(subcommand)]
    App(app::AppCommand),
    /// Look at and call Python functions
    #[command(subcommand)]
    Function(function::FunctionCommand),
    /// Look at and cancel calls of functions
    #[command(subcommand)]
    Call(call::CallCommand),
    /// Look at and end containers of functions
    #[command(subcommand)]
    Container(container::ContainerCommand),
    /// What endpoints, functions and jobs used, and what that cost
    Usage(usage::UsageArgs),
    /// Install ready classifiers made from public facts
    #[command(subcommand)]
    Hub(hub::HubCommand),
    /// Install and list sentence encoders
    #[command(subcommand)]
    Encoder(encoder::EncoderCommand),
    /// Create and list workspaces
    #[command(subcommand)]
    Workspace(admin::WorkspaceCommand),
    /// Create, list and revoke tokens
    #[command(subcommand)]
    Token(admin::TokenCommand),
    /// Run a worker, or list the workers there are
    #[command(args_conflicts_with_subcommands = true)]
    Worker(processes::WorkerArgs),
    /// Write everything the server keeps into one file
    Backup(admin::BackupArgs),
    /// Make a data directory from a backup
    Restore(admin::RestoreArgs),
    /// Remove stored bytes that nothing refers to any more
    Gc,
    /// Say what this machine can do and what is wrong with it
    Doctor(doctor::DoctorArgs),
    /// Show the settings in force
    #[command(subcommand)]
    Config(admin::ConfigCommand),
    /// The server process under `corral up`
    #[command(hide = true)]
    Server(processes::ServerArgs),
    /// The process in which a worker's tasks are born
    #[command(hide = true)]
    Launcher,
    /// The process of one job attempt
    #[command(hide = true)]
    JobProcess,
}

/// What a command needs beside its own arguments.
pub struct Context {
    pub settings: Settings,
    pub output: Output,
    global: GlobalArgs,
}

impl Context {
    /// The token that flag, environment or file gives.
    pub fn token(&self) -> Option<String> {
        self.global.token.clone().or_else(|| self.settings.value("client.token"))
    }

    /// A client of the server that flags, environment or file name.
    ///
    /// # Errors
    /// When the address is none.
    pub fn client(&self) -> anyhow::Result<Client> {
        let setting = |key: &str| self.settings.value(key);
        Client::new(&ClientConfig {
            url: self.global.url.clone().or_else(|| setting("client.url")).unwrap_or_default(),
            token: self.token(),
            ca_certificate: setting("client.ca_certificate").map(PathBuf::from),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever the command could not do, to be reported with its hint.
pub fn run(command_line: CommandLine) -> anyhow::Result<ExitCode> {
    let CommandLine { global, command } = command_line;
    // The processes of a running system must not touch settings or start a thread first.
    match command {
        Command::Launcher => return Ok(processes::launcher()),
        Command::JobProcess => return Ok(processes::job_process()),
        _ => {}
    }
    use_ring();
    let settings = Settings::load().map_err(reported)?;
    let context = Context { settings, output: Output::from_flag(global.json), global };
    match command {
        Command::Up(args) => up::run(args, &context),
        Command::Server(args) => processes::server(args),
        Command::Worker(args) => processes::worker(args, &context),
        Command::Restore(args) => admin::restore(&args, &context),
        Command::Config(command) => admin::config(&command, &context),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask(command, &context))
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// The one provider of cryptography in this binary.
fn use_ring() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing has chosen another provider before");
}

/// The commands that are requests to a server.
async fn ask(command: Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Dataset(command) => dataset::run(command, context).await,
        Command::Taxonomy(command) => taxonomy::run(command, context).await,
        Command::Lf(command) => labeling_function::run(command, context).await,
        Command::Label(command) => label::run(command, context).await,
        Command::Train(args) => train::run(*args, context).await,
        Command::Job(command) => job::run(command, context).await,
        Command::Run(command) => run::run(command, context).await,
        Command::Model(command) => model::run(command, context).await,
        Command::Deploy(args) => endpoint::deploy(args, context).await,
        Command::Endpoint(command) => endpoint::run(command, context).await,
        Command::Predict(args) => predict::run(*args, context).await,
        Command::App(command) => app::run(command, context).await,
        Command::Function(command) => function::run(command, context).await,
        Command::Call(command) => call::run(command, context).await,
        Command::Container(command) => container::run(command, context).await,
        Command::Usage(args) => usage::run(args, context).await,
        Command::Hub(command) => hub::run(command, context).await,
        Command::Encoder(command) => encoder::run(command, context).await,
        Command::Workspace(command) => admin::workspace(command, context).await,
        Command::Token(command) => admin::token(command, context).await,
        Command::Backup(args) => admin::backup(args, context).await,
        Command::Gc => admin::collect(context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Up(_)
        | Command::Server(_)
        | Command::Worker(_)
        | Command::Restore(_)
        | Command::Config(_)
        | Command::Launcher
        | Command::JobProcess => unreachable!("`run` has taken these"),
    }
}

/// A thing's name and, after `@`, the number of a version.
#[derive(Clone, Debug)]
pub struct Versioned {
    pub name: String,
    pub version: Option<u32>,
}

impl std::str::FromStr for Versioned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('@') {
            None => Ok(Self { name: text.to_owned(), version: None }),
            Some((name, number)) => {
                let version = number.parse().map_err(|_| {
                    format!("`{number}` after `@` is not a version number, as in {name}@3")
                })?;
                Ok(Self { name: name.to_owned(), version: Some(version) })
            }
        }
    }
}

impl Versioned {
    /// The version as the query of a request.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        self.version.iter().map(|version| ("version", version.to_string())).collect()
    }

    /// As written on the command line and in requests.
    pub fn written(&self) -> String {
        match self.version {
            None => self.name.clone(),
            Some(version) => format!("{}@{version}", self.name),
        }
    }
}
