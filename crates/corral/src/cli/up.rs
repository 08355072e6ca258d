//! `corral up`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use corral_server::EndpointDomain;
use corral_types::{ErrorKind, Failure};

use super::Context;
use super::processes::image_base;
use crate::data_dir::DataDir;
use crate::failure::{refusal, reported};
use crate::supervisor::{self, SupervisorOptions};

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where everything is kept [env: CORRAL_DATA_DIR] [default: ~/.local/share/corral]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen on [env: CORRAL_LISTEN] [default: 127.0.0.1:8400]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Names under which clients reach this server, beside localhost and its address
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The domain below which every endpoint has a name, as in NAME.ml.localhost/VERSION
    /// [env: CORRAL_ENDPOINT_DOMAIN] [default: ml.localhost]
    #[arg(long, value_name = "NAME")]
    endpoint_domain: Option<EndpointDomain>,
    /// Memory that tasks may use, such as 12GiB [default: the machine's, less the reserve]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory left to the rest of the machine
    #[arg(long, value_name = "SIZE")]
    memory_reserve: Option<String>,
    /// Memory of open models, beyond which the one that was asked longest ago is closed
    /// [env: CORRAL_MODEL_MEMORY] [default: 2GiB]
    #[arg(long, value_name = "SIZE")]
    model_memory: Option<String>,
    /// What images of functions stand on: auto, debian (made once from its packages) or host (this
    /// machine's own system files, read only) [env: CORRAL_IMAGE_BASE] [default: auto]
    #[arg(long, value_name = "BASE")]
    image_base: Option<String>,
    /// Accept requests with any token or none (only on loopback)
    #[arg(long)]
    no_auth: bool,
    /// A PEM file with the certificate chain, to serve HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen beyond loopback without TLS
    #[arg(long)]
    insecure_http: bool,
    /// Create one more admin token and print it, when the first one was lost
    #[arg(long)]
    new_admin_token: bool,
}

pub fn run(args: UpArgs, context: &Context) -> anyhow::Result<()> {
    let setting = |key: &str| context.settings.value(key);
    let listen_text = args.listen.or_else(|| setting("up.listen")).unwrap_or_default();
    let listen: SocketAddr = listen_text.parse().map_err(|_| {
        refusal(
            Failure::new(ErrorKind::Invalid, format!("`{listen_text}` is not an address"))
                .with_hint("write an IP address and a port, as in 127.0.0.1:8400"),
        )
    })?;
    let tls_cert = args.tls_cert.or_else(|| setting("up.tls_cert").map(PathBuf::from));
    let tls_key = args.tls_key.or_else(|| setting("up.tls_key").map(PathBuf::from));
    if !listen.ip().is_loopback() {
        refuse_unsafe_exposure(listen, tls_cert.is_some(), args.insecure_http, args.no_auth)?;
    }
    let memory = checked_size(args.memory.or_else(|| setting("up.memory")))?;
    let memory_reserve =
        checked_size(args.memory_reserve.or_else(|| setting("up.memory_reserve")))?;

    let root = match args.data_dir.or_else(|| setting("up.data_dir").map(PathBuf::from)) {
        Some(root) => root,
        None => default_data_dir()?,
    };
    let data_dir = DataDir::open(&root).map_err(reported)?;
    let show_token = !args.no_auth && (data_dir.is_newly_made() || args.new_admin_token);

    let mut hosts = args.hosts;
    hosts.extend(
        setting("up.hosts").unwrap_or_default().split(',').map(|host| host.trim().to_owned()),
    );
    hosts.retain(|host| !host.is_empty());
    let mut server_arguments: Vec<String> =
        hosts.into_iter().flat_map(|host| ["--host".to_owned(), host]).collect();
    let endpoint_domain = args.endpoint_domain.map_or_else(
        || setting("up.endpoint_domain").unwrap_or_default().parse().map_err(reported),
        Ok,
    )?;
    server_arguments.extend(["--endpoint-domain".to_owned(), endpoint_domain.to_string()]);
    if args.no_auth {
        server_arguments.push("--no-auth".to_owned());
    }
    let scheme = if tls_cert.is_some() { "https" } else { "http" };
    for (flag, path) in [("--tls-cert", tls_cert), ("--tls-key", tls_key)] {
        if let Some(path) = path {
            server_arguments.extend([flag.to_owned(), path.display().to_string()]);
        }
    }
    for (flag, key) in [
        ("--job-retention-days", "up.job_retention_days"),
        ("--model-idle-minutes", "up.model_idle_minutes"),
    ] {
        if let Some(number) = setting(key) {
            server_arguments.extend([flag.to_owned(), number]);
        }
    }
    if let Some(bytes) = checked_size(args.model_memory.or_else(|| setting("up.model_memory")))? {
        server_arguments.extend(["--model-memory".to_owned(), bytes.to_string()]);
    }
    for (flag, key) in [
        ("--cpu-hour-price", "up.cpu_hour_price"),
        ("--gib-hour-price", "up.gib_hour_price"),
        ("--gpu-hour-price", "up.gpu_hour_price"),
    ] {
        if let Some(price) = setting(key) {
            server_arguments.extend([flag.to_owned(), checked_price(key, price)?]);
        }
    }
    let mut worker_arguments = Vec::new();
    for (flag, size) in [("--memory", memory), ("--memory-reserve", memory_reserve)] {
        if let Some(bytes) = size {
            worker_arguments.extend([flag.to_owned(), bytes.to_string()]);
        }
    }
    if let Some(base) = args.image_base.or_else(|| setting("up.image_base")) {
        image_base(&base).map_err(|why| refusal(Failure::new(ErrorKind::Invalid, why)))?;
        worker_arguments.extend(["--image-base".to_owned(), base]);
    }
    supervisor::run(SupervisorOptions {
        data_dir,
        listen,
        server_arguments,
        worker_arguments,
        admin_token: show_token.then(corral_server::new_token_secret),
        scheme,
    })
}

fn refuse_unsafe_exposure(
    listen: SocketAddr,
    has_tls: bool,
    insecure_http: bool,
    no_auth: bool,
) -> anyhow::Result<()> {
    let refused = if no_auth {
        Some("--no-auth is for loopback only; leave it out, or listen on 127.0.0.1")
    } else if !has_tls && !insecure_http {
        Some(
            "give --tls-cert and --tls-key, or --insecure-http where the network itself is \
             private, such as behind a proxy that speaks TLS",
        )
    } else {
        None
    };
    match refused {
        None => Ok(()),
        Some(hint) => Err(refusal(
            Failure::new(
                ErrorKind::Invalid,
                format!("{listen} can be reached from other machines, and that is not protected"),
            )
            .with_hint(hint),
        )),
    }
}

fn checked_price(key: &str, text: String) -> anyhow::Result<String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(text),
        _ => Err(refusal(
            Failure::new(ErrorKind::Invalid, format!("`{key}` is `{text}`, which is no price"))
                .with_hint("write a number from 0 on, as in 0.04"),
        )),
    }
}

fn checked_size(text: Option<String>) -> anyhow::Result<Option<u64>> {
    text.map(|text| {
        corral_types::parse_bytes(&text)
            .map_err(|error| refusal(Failure::new(ErrorKind::Invalid, error.to_string())))
    })
    .transpose()
}

fn default_data_dir() -> anyhow::Result<PathBuf> {
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")))
        .map(|folder| folder.join("corral"))
        .ok_or_else(|| {
            refusal(
                Failure::new(ErrorKind::Invalid, "there is no home directory to keep data in")
                    .with_hint("name a directory by --data-dir"),
            )
        })
}
