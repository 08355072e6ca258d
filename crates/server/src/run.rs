//! The server process: opens what is kept, wires the services, serves until told to stop.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::middleware;
use corral_apps::Apps;
use corral_apps::logs::AppLogs;
use corral_blobs::BlobStore;
use corral_catalog::{Catalog, CatalogError, SqliteCatalog};
use corral_datasets::{Datasets, Taxonomies};
use corral_functions::{Functions, FunctionsOptions, FunctionsPorts};
use corral_jobs::{JobsOptions, JobsPorts, JobsService};
use corral_labeling::Labelings;
use corral_observation::Wishes;
use corral_serving::{OpenLimits, RecorderOptions, Serving, USAGE_NOTE_INTERVAL};
use corral_types::{BlobHash, SystemClock};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tower_http::trace::TraceLayer;

use crate::auth::{Access, Tokens};
use crate::backup::{
    APP_LOGS_FOLDER, BLOBS_FOLDER, CATALOG_FILE, FUNCTIONS_FOLDER, JOBS_FOLDER, LOGS_FOLDER,
};
use crate::completion::Registrar;
use crate::endpoint_hosts::EndpointDomain;
use crate::error::ServerError;
use crate::guard::{Hosts, check_host};
use crate::hosting::{Builds, Hosted, Hosting, Orders, Runs};
use crate::listen::{Listener, serve};
use crate::state::{App, Prices, Stores};
use crate::training_texts::StoredTexts;
use crate::{collect, inference, modal, modelbit, rest, worker};

/// Where references of endpoints lie that are watched for drift. They can be made again.
const REFERENCES_FOLDER: &str = "references";

/// Where votes of labeling functions lie. They can be computed again.
const VOTES_FOLDER: &str = "votes";

/// What the process says on standard output once it answers requests.
pub const READY_LINE: &str = "ready";

/// How long a start waits for the folder of a server that is just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What a server is started with.
#[derive(Debug)]
pub struct ServerOptions {
    pub data_dir: PathBuf,
    pub listener: TcpListener,
    /// Where this machine's worker calls.
    pub worker_socket: PathBuf,
    /// Names under which clients reach it, beside localhost and its address.
    pub hosts: Vec<String>,
    /// Below it every endpoint has a name of its own.
    pub endpoint_domain: EndpointDomain,
    pub access: Access,
    /// The secret of an admin token to make sure of.
    pub admin_token: Option<String>,
    pub tls: Option<TlsFiles>,
    pub job_retention_days: u32,
    /// How many models may be open, and how long unasked.
    pub open_limits: OpenLimits,
    /// What usage of endpoints costs.
    pub prices: Prices,
}

/// Runs a server until SIGTERM or SIGINT. Blocking.
///
/// # Errors
/// When it cannot start, or the disk failed under it.
pub fn run(options: ServerOptions) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("server")
        .build()
        .map_err(ServerError::Runtime)?;
    runtime.block_on(run_async(options))
}

async fn run_async(options: ServerOptions) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Runtime)?;
    let _lock = lock(&options.data_dir)?;
    let Opened { app, wishes, edge, hosting } = open(&options).await?;
    let (stop, stopped) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();

    let address = options.listener.local_addr().map_err(ServerError::Runtime)?;
    let listen_error = |source| ServerError::Listen { address: address.to_string(), source };
    options.listener.set_nonblocking(true).map_err(listen_error)?;
    let listener = tokio::net::TcpListener::from_std(options.listener).map_err(listen_error)?;
    let tls = options.tls.as_ref().map(tls_config).transpose()?;
    let domain = options.endpoint_domain;
    let hosts = Hosts::new(options.hosts, domain.clone(), address.ip());
    let public = rest::router(app.clone())
        .merge(worker::remote_router(app.clone()))
        .merge(inference::router(app.clone()))
        .merge(modelbit::router(app.clone()))
        .merge(edge.client_router())
        .layer(middleware::from_fn_with_state(hosts, check_host))
        .layer(TraceLayer::new_for_http());
    let public = domain.before(public);
    servers.spawn(serve(Listener::Tcp { listener, tls }, public, stopped.clone()));

    let socket = worker_socket(&options.worker_socket)?;
    servers.spawn(serve(
        Listener::Unix(socket),
        worker::local_router(app.clone()).merge(edge.container_router()),
        stopped.clone(),
    ));
    servers.spawn(hosting.hosting.host(hosting.orders, hosting.hosted, stopped.clone()));
    servers.spawn(tend(edge, stopped.clone()));
    servers.spawn(collect_regularly(app.clone(), stopped.clone()));
    servers.spawn(keep_warm(app.clone(), stopped.clone()));
    follow_wishes(&app, wishes, &stopped, &mut servers);
    servers.spawn(note_usage_regularly(app.serving.clone(), stopped.clone()));

    // Whoever started this process reads the line, or does not care.
    let _told = writeln!(std::io::stdout(), "{READY_LINE}");
    tracing::info!(%address, "the server is ready");
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        error = app.jobs.failed() => Some(error),
        error = app.functions.failed() => Some(error),
    };
    stop.send_replace(true);
    app.functions.stop().await;
    app.jobs.stop().await;
    while servers.join_next().await.is_some() {}
    // What the last requests used.
    if let Err(error) = app.serving.finish_notes().await {
        tracing::error!(%error, "note what the last requests used");
    }
    failed.map_or(Ok(()), |error| Err(ServerError::JournalFailed(error)))
}

/// What a server works with once everything is open.
struct Opened {
    app: App,
    wishes: Wishes,
    edge: modal::Edge,
    hosting: OpenHosting,
}

struct OpenHosting {
    hosting: Arc<Hosting>,
    orders: Orders,
    hosted: Hosted,
}

/// Opens catalog, blobs and journals, and wires the services over them.
async fn open(options: &ServerOptions) -> Result<Opened, ServerError> {
    let metrics = corral_telemetry::start_metrics(
        corral_serving::METRICS
            .iter()
            .chain(corral_observation::METRICS)
            .chain(&corral_jobs::METRICS)
            .chain(&corral_functions::METRICS),
    )?;
    let data_dir = &options.data_dir;
    let blobs = BlobStore::open(data_dir.join(BLOBS_FOLDER))?;
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(&data_dir.join(CATALOG_FILE))?);
    catalog.abandon_unfinished_requests().await?;
    let tokens = Tokens::new(catalog.clone(), options.access);
    if let Some(secret) = &options.admin_token {
        tokens.ensure_admin(secret).await?;
    }
    let stores = Stores { catalog: catalog.clone(), blobs: blobs.clone() };
    let mut jobs_options = JobsOptions::new(data_dir.join(JOBS_FOLDER));
    jobs_options.policy.keep_ended_ms = u64::from(options.job_retention_days) * 86_400_000;
    let clock = Arc::new(SystemClock);
    let (hosting, orders) = Hosting::new();
    let ports = JobsPorts {
        completion: Arc::new(Registrar(stores)),
        resident: Some(hosting.clone()),
        tasks: Some(hosting.clone()),
        clock: clock.clone(),
    };
    let jobs = JobsService::start(jobs_options, ports)?;
    let apps = Apps::open(catalog.clone(), blobs.clone(), data_dir, clock.clone())?;
    let app_logs = AppLogs::new(data_dir.join(APP_LOGS_FOLDER));
    let functions = Functions::start(
        FunctionsOptions::new(data_dir.join(FUNCTIONS_FOLDER)),
        FunctionsPorts { host: hosting.clone(), clock },
    )?;
    // Before any worker says what it still runs.
    hosting.resume(&functions).await;
    let runs = Arc::new(Runs::default());
    runs.run_by(functions.clone(), apps.clone());
    let builds = Arc::new(Builds::new(runs.clone()));
    builds.run_by(jobs.clone());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let recorder = RecorderOptions {
        folder: data_dir.join(LOGS_FOLDER),
        references: data_dir.join(REFERENCES_FOLDER),
        key_secret: log_key_secret(&*catalog).await?,
    };
    let (serving, wishes) =
        Serving::open(catalog.clone(), blobs.clone(), cores, options.open_limits, recorder).await?;
    let edge = modal::Edge::new(modal::EdgeParts {
        apps: apps.clone(),
        functions: functions.clone(),
        logs: app_logs.clone(),
        images: builds.clone(),
        catalog: catalog.clone(),
        blobs: blobs.clone(),
        tokens: tokens.clone(),
    });
    let hosted = Hosted {
        functions: functions.clone(),
        apps: apps.clone(),
        jobs: jobs.clone(),
        logs: app_logs.clone(),
        builds,
        runs,
        edge: edge.clone(),
    };
    edge.resume().await.map_err(ServerError::Resume)?;
    let app = App {
        apps,
        edge: edge.clone(),
        app_logs,
        functions,
        datasets: Datasets::new(catalog.clone(), blobs.clone()),
        taxonomies: Taxonomies::new(catalog.clone(), blobs.clone()),
        labelings: Labelings::new(catalog.clone(), blobs.clone(), data_dir.join(VOTES_FOLDER)),
        catalog,
        blobs,
        jobs,
        serving,
        tokens,
        metrics,
        prices: options.prices,
    };
    Ok(Opened { app, wishes, edge, hosting: OpenHosting { hosting, orders, hosted } })
}

/// What makes hashes of the keys in endpoints' logs, the same for ever.
async fn log_key_secret(catalog: &dyn Catalog) -> Result<[u8; 32], CatalogError> {
    let fresh = crate::auth::new_token_secret();
    let kept = catalog.setting_or_insert("log_key_secret".to_owned(), fresh).await?;
    Ok(*BlobHash::of(kept.as_bytes()).as_bytes())
}

/// Only one server at a time may have the folder; one that was killed is gone in an instant.
fn lock(data_dir: &Path) -> Result<File, ServerError> {
    let folder_error = |source| ServerError::Folder { path: data_dir.to_owned(), source };
    std::fs::create_dir_all(data_dir).map_err(folder_error)?;
    let file = File::create(data_dir.join("lock")).map_err(folder_error)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(ServerError::InUse { path: data_dir.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(folder_error(source)),
        }
    }
}

/// The socket for this machine's worker, which only this user may open.
fn worker_socket(path: &Path) -> Result<UnixListener, ServerError> {
    use std::os::unix::fs::PermissionsExt;
    let listen_error = |source| ServerError::Listen { address: path.display().to_string(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(listen_error(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(listen_error)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(listen_error)?;
    Ok(listener)
}

fn tls_config(files: &TlsFiles) -> Result<Arc<rustls::ServerConfig>, ServerError> {
    let refuse = |path: &Path, reason: String| ServerError::Tls { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refuse(&files.certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| refuse(&files.key, error.to_string()))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refuse(&files.certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn keep_warm(app: App, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = app.serving.keep_warm() => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Does what the recorder of requests asks for, until the server stops.
fn follow_wishes(
    app: &App,
    wishes: Wishes,
    stopped: &watch::Receiver<bool>,
    servers: &mut tokio::task::JoinSet<()>,
) {
    let Wishes { references, alarms } = wishes;
    let texts = StoredTexts { catalog: app.catalog.clone(), datasets: app.datasets.clone() };
    let (serving, mut until) = (app.serving.clone(), stopped.clone());
    servers.spawn(async move {
        tokio::select! {
            () = serving.make_references(references, Arc::new(texts)) => {}
            _ = until.wait_for(|stopped| *stopped) => {}
        }
    });
    let (serving, mut until) = (app.serving.clone(), stopped.clone());
    servers.spawn(async move {
        tokio::select! {
            () = serving.send_alarms(alarms) => {}
            _ = until.wait_for(|stopped| *stopped) => {}
        }
    });
}

async fn note_usage_regularly(serving: Serving, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(USAGE_NOTE_INTERVAL) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        note_usage(&serving).await;
    }
}

async fn note_usage(serving: &Serving) {
    if let Err(error) = serving.note_usage().await {
        tracing::error!(%error, "note what endpoints used; it is tried again");
    }
}

/// Ends the apps whose clients are gone.
async fn tend(edge: modal::Edge, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(corral_apps::BEAT_INTERVAL) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        if let Err(error) = edge.end_abandoned().await {
            tracing::error!(%error, "end apps whose clients are gone; it is tried again");
        }
    }
}

async fn collect_regularly(app: App, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(collect::INTERVAL) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        match collect::collect(&app).await {
            Ok(swept) => tracing::info!(
                removed_blobs = swept.deleted_blobs,
                removed_bytes = swept.deleted_bytes,
                "collected garbage"
            ),
            Err(error) => tracing::error!(error = %error.0, "collect garbage"),
        }
    }
}
