//! The processes under `corral up`, and a worker that joins from elsewhere.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use corral_server::api::{Page, WorkerDetail};
use corral_server::batch_job::BATCH_KIND;
use corral_server::label_job::LABEL_KIND;
use corral_server::training_job::TRAIN_KIND;
use corral_server::{Access, EndpointDomain, OpenLimits, Prices, ServerOptions, TlsFiles};
use corral_telemetry::{LogFormat, start_logging};
use corral_types::{ErrorKind, Failure, display_bytes, parse_bytes};
use corral_worker::{BaseChoice, ServerAddress, WorkerOptions};

use super::Context;
use crate::data_dir::DataDir;
use crate::failure::{refusal, reported};
use crate::output::table;

#[derive(Debug, Args)]
pub struct ServerArgs {
    #[arg(long)]
    data_dir: PathBuf,
    #[arg(long)]
    worker_socket: PathBuf,
    #[arg(long = "host")]
    hosts: Vec<String>,
    #[arg(long)]
    endpoint_domain: EndpointDomain,
    #[arg(long)]
    no_auth: bool,
    #[arg(long)]
    tls_cert: Option<PathBuf>,
    #[arg(long)]
    tls_key: Option<PathBuf>,
    #[arg(long, default_value_t = 30)]
    job_retention_days: u32,
    #[arg(long)]
    model_memory: u64,
    #[arg(long)]
    model_idle_minutes: u32,
    #[arg(long)]
    cpu_hour_price: Option<f64>,
    #[arg(long)]
    gib_hour_price: Option<f64>,
    #[arg(long)]
    gpu_hour_price: Option<f64>,
}

#[derive(Debug, Args)]
pub struct WorkerArgs {
    #[command(subcommand)]
    command: Option<WorkerCommand>,
    /// Run a worker for the server at this URL, which needs an admin token
    #[arg(long, value_name = "URL", required_unless_present = "server_socket")]
    join: Option<String>,
    /// Where the worker keeps its files
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Memory that tasks may use [default: the machine's, less the reserve]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Memory left to the rest of the machine
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_reserve: Option<u64>,
    /// What images of functions stand on: Debian's packages, the host's own system files, or
    /// whichever fits
    #[arg(long, value_name = "BASE", default_value = "auto", value_parser = image_base)]
    image_base: BaseChoice,
    /// Cores that tasks may use [default: the machine's]
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    #[arg(long, hide = true, conflicts_with = "join")]
    server_socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum WorkerCommand {
    /// List the workers
    Ls,
}

/// What images stand on, as people write it.
///
/// # Errors
/// When it is none of the words.
pub fn image_base(text: &str) -> Result<BaseChoice, String> {
    match text {
        "auto" => Ok(BaseChoice::Auto),
        "debian" => Ok(BaseChoice::Debian),
        "host" => Ok(BaseChoice::Host),
        _ => Err("an image base is auto, debian or host".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| error.to_string())
}

/// The server process: the listening socket is its standard input.
pub fn server(args: ServerArgs) -> anyhow::Result<()> {
    start_logging(LogFormat::Text);
    end_with_supervisor()?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("take over the socket")?;
    let options = ServerOptions {
        data_dir: args.data_dir,
        listener: TcpListener::from(socket),
        worker_socket: args.worker_socket,
        hosts: args.hosts,
        endpoint_domain: args.endpoint_domain,
        access: if args.no_auth { Access::Open } else { Access::Tokens },
        admin_token: std::env::var("CORRAL_ADMIN_TOKEN").ok(),
        tls: args
            .tls_cert
            .zip(args.tls_key)
            .map(|(certificate, key)| TlsFiles { certificate, key }),
        job_retention_days: args.job_retention_days,
        open_limits: OpenLimits {
            model_bytes: args.model_memory,
            idle: Duration::from_secs(60 * u64::from(args.model_idle_minutes)),
        },
        prices: Prices {
            cpu_hour: args.cpu_hour_price,
            gib_hour: args.gib_hour_price,
            gpu_hour: args.gpu_hour_price,
        },
    };
    corral_server::run(options).map_err(reported)
}

/// The worker process. Its launcher is started before any thread.
pub fn worker(args: WorkerArgs, context: &Context) -> anyhow::Result<()> {
    if let Some(WorkerCommand::Ls) = args.command {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(list(context));
    }
    start_logging(LogFormat::Text);
    let executable = std::env::current_exe().context("find the path of this binary")?;
    let (server, data_dir, _lock) = match (args.server_socket, args.join) {
        (Some(socket), _) => {
            end_with_supervisor()?;
            let data_dir = args.data_dir.context("the worker's directory is missing")?;
            (ServerAddress::UnixSocket(socket), data_dir, None)
        }
        (None, Some(url)) => {
            let root = args.data_dir.ok_or_else(|| {
                refusal(
                    Failure::new(ErrorKind::Invalid, "a joining worker needs a directory")
                        .with_hint("name one of its own by --data-dir"),
                )
            })?;
            let directory = DataDir::open(&root).map_err(reported)?;
            (ServerAddress::Url(url), directory.worker(), Some(directory))
        }
        (None, None) => unreachable!("the argument parser asks for one of them"),
    };
    let options = WorkerOptions {
        token: context.token(),
        ca_certificate: context.settings.value("client.ca_certificate").map(PathBuf::from),
        memory_bytes: args.memory,
        reserve_bytes: args.memory_reserve,
        image_base: args.image_base,
        milli_cpu: args.cpus.map(|cpus| (cpus * 1000.0) as u32),
        ..WorkerOptions::new(data_dir, server, executable)
    };
    corral_worker::run(options, corral_worker::shutdown_signal()).map_err(reported)
}

/// The process in which a worker's tasks are born.
pub fn launcher() -> ExitCode {
    corral_worker::launcher_main()
}

/// The process of one job attempt.
pub fn job_process() -> ExitCode {
    corral_worker::job_process_main(&[
        (TRAIN_KIND, &crate::train_job::TrainJob),
        (BATCH_KIND, &crate::batch_job::BatchJob),
        (LABEL_KIND, &crate::label_job::LabelJob),
    ])
}

/// Ends this process when its supervisor ends, however that ends.
fn end_with_supervisor() -> anyhow::Result<()> {
    let Some(supervisor) = std::env::var_os("CORRAL_SUPERVISOR") else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .context("ask to be told of the supervisor's end")?;
    let parent = rustix::process::getppid().map(|id| id.as_raw_nonzero().get().to_string());
    if parent.as_deref().map(Path::new) != Some(Path::new(&supervisor)) {
        // It ended before the question above was put.
        std::process::exit(0);
    }
    Ok(())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let items: Vec<WorkerDetail> = client.list(&["v1", "workers"]).await?;
    context.output.show(&Page { items, next: None }, |page| {
        let rows = page.items.iter().map(|worker| {
            [
                worker.host_name.clone(),
                worker.state.clone(),
                format!("{:.1}", f64::from(worker.milli_cpu) / 1000.0),
                display_bytes(worker.memory_bytes),
                display_bytes(worker.leased_memory_bytes),
                worker.running.to_string(),
                worker.id.clone(),
            ]
        });
        table(["host", "state", "#cpus", "#memory", "#leased", "#running", "id"], rows)
    });
    Ok(())
}
