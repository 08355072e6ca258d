//! What a worker is started with.

use std::path::PathBuf;

use corral_images::BaseChoice;
use corral_worker_api::Enforcement;

/// Where the server listens for this worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// The socket of the server on this machine.
    UnixSocket(PathBuf),
    /// `http://` or `https://` with host and port, for a worker that joined from elsewhere.
    Url(String),
}

/// What a worker is started with. [`WorkerOptions::new`] leaves everything to be found out.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The worker's own directory: its identity, its cache of blobs, its attempts. Never the
    /// server's, and never shared with another worker.
    pub data_dir: PathBuf,
    pub server: ServerAddress,
    /// The token with which a worker joins over the network.
    pub token: Option<String>,
    /// A PEM file with certificates to trust beside the system's.
    pub ca_certificate: Option<PathBuf>,
    /// This program, which the launcher and every job process run.
    pub executable: PathBuf,
    /// Memory to offer, before the reserve; no more than the machine has.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core to offer.
    pub milli_cpu: Option<u32>,
    /// Memory kept back for the system, the server and the worker itself.
    /// None: [`crate::default_reserve_bytes`].
    pub reserve_bytes: Option<u64>,
    /// How large the cache of inputs and outputs may grow.
    /// None: [`crate::DEFAULT_CACHE_BYTES`].
    pub cache_bytes: Option<u64>,
    /// The strongest kind of enforcement to use; none for the strongest that works here.
    pub enforcement: Option<Enforcement>,
    /// What images stand on.
    pub image_base: BaseChoice,
    /// Environment variables for job processes, beside the few that they inherit.
    pub job_environment: Vec<(String, String)>,
}

impl WorkerOptions {
    pub fn new(data_dir: PathBuf, server: ServerAddress, executable: PathBuf) -> Self {
        Self {
            data_dir,
            server,
            token: None,
            ca_certificate: None,
            executable,
            memory_bytes: None,
            milli_cpu: None,
            reserve_bytes: None,
            cache_bytes: None,
            enforcement: None,
            image_base: BaseChoice::default(),
            job_environment: Vec::new(),
        }
    }
}
