//! The worker process: puts its parts together, runs until it is told to end, and takes
//! everything down in order.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_blobs::{BlobEntry, BlobStore};
use corral_images::{Images, ImagesOptions};
use corral_types::{AttemptId, BlobHash};
use corral_worker_api::Capacity;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::Containers;
use crate::attempt::{Attempt, Order};
use crate::connection::Connection;
use crate::delivery::deliver;
use crate::directory::WorkerDirectory;
use crate::enforcement::Enforcer;
use crate::launcher::{Launcher, LauncherProcess};
use crate::machine::{self, CgroupMounts};
use crate::process_tree::{kill_leftovers, reap_killed_children};
use crate::running::STOP_GRACE;
use crate::sampler::Sampler;
use crate::session::{Session, converse};
use crate::tasks::{BlobFiles, StepContainers, Tasks, deliver_tasks};
use crate::{WorkerError, WorkerOptions};

/// How large the cache of blobs may grow where nothing else was asked for. Inputs of a
/// training job are read again by its next attempt and by the next job on the same data.
pub const DEFAULT_CACHE_BYTES: u64 = 16 << 30;

/// Threads of the runtime: the worker passes on lines and bytes, the work is in its children.
const RUNTIME_THREADS: usize = 2;

/// How long an orderly end waits, after the processes are gone, for the server to take the
/// last events. What it does not take is delivered by the next start.
const LAST_DELIVERY_WAIT: Duration = Duration::from_secs(2);

/// What the parts of a worker share.
pub struct Worker {
    pub(crate) directory: WorkerDirectory,
    pub(crate) blobs: BlobStore,
    pub(crate) connection: Connection,
    pub(crate) session: Session,
    pub(crate) launcher: Launcher,
    pub(crate) enforcer: Enforcer,
    pub(crate) sampler: Sampler,
    pub(crate) tasks: Tasks,
    pub(crate) containers: Containers,
    pub(crate) images: Arc<Images>,
    pub(crate) mounts: CgroupMounts,
    pub(crate) job_environment: Vec<(String, String)>,
    /// Told when there may be something to deliver.
    pub(crate) wake: Arc<Notify>,
    memory_bytes: u64,
    milli_cpu: u32,
    cache_bytes: u64,
    attempts: Mutex<HashMap<AttemptId, Arc<Attempt>>>,
}

/// Runs a worker until `shutdown` resolves or something it cannot do without fails.
///
/// Call it on the main thread before any other thread is started: it first starts the
/// launcher, by running `options.executable launcher`. It does not return while a job
/// process of its own is alive. On an orderly shutdown running attempts are told to end,
/// may keep a last checkpoint, and are reported as lost, so that they are tried again.
///
/// # Errors
/// When the worker cannot start, the server refuses it, or its launcher dies.
pub fn run(
    options: WorkerOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WorkerError> {
    let directory = WorkerDirectory::open(&options.data_dir)?;
    let launcher = LauncherProcess::start(&options.executable).map_err(|source| {
        WorkerError::Launcher { executable: options.executable.clone(), source }
    })?;
    let reaper = launcher.id();
    let (launcher, launcher_end) = launcher.attach().map_err(WorkerError::Thread)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(WorkerError::Thread)?;
    let ended = runtime.block_on(async {
        let worker = Arc::new(Worker::open(options, directory, launcher, reaper)?);
        let ended = worker.serve(shutdown).await;
        // Ends the launcher and what it started; blocks, but nothing else runs any more.
        drop(launcher_end);
        if ended.is_err() {
            kill_leftovers(&worker.directory.attempts());
            reap_killed_children();
        }
        ended
    });
    runtime.shutdown_timeout(STOP_GRACE);
    ended
}

/// Resolves when this process is asked to end, by `SIGTERM` or from the terminal.
///
/// # Panics
/// When the runtime cannot install signal handlers, which needs descriptors.
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("handle SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("handle SIGINT");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Worker {
    fn open(
        options: WorkerOptions,
        directory: WorkerDirectory,
        launcher: Launcher,
        reaper: u32,
    ) -> Result<Self, WorkerError> {
        let killed =
            kill_leftovers(&directory.attempts()) + kill_leftovers(&directory.containers());
        directory.empty_containers()?;
        if killed > 0 {
            tracing::info!(killed, "ended processes that an earlier worker left");
        }
        let mounts = CgroupMounts::of_this_process();
        let name = directory.worker.to_string();
        let enforcer = Enforcer::choose(&mounts, options.enforcement, &name)?;
        enforcer.refill();
        let total_bytes = machine::total_memory_bytes(&mounts);
        let whole_bytes = options.memory_bytes.map_or(total_bytes, |bytes| bytes.min(total_bytes));
        let reserve_bytes =
            options.reserve_bytes.unwrap_or_else(|| machine::default_reserve_bytes(whole_bytes));
        let memory_bytes = whole_bytes.saturating_sub(reserve_bytes);
        if memory_bytes == 0 {
            return Err(WorkerError::NoMemory { memory_bytes: whole_bytes, reserve_bytes });
        }
        let wake = Arc::<Notify>::default();
        let mut attempts = HashMap::new();
        for (id, path) in directory.list_attempts()? {
            let recovered = Attempt::recover(id, path.clone(), wake.clone());
            attempts.insert(id, recovered.map_err(WorkerError::directory("recover", path))?);
        }
        let containers = Containers::open(launcher.clone(), &enforcer, &name);
        let blobs = BlobStore::open(directory.blobs()).map_err(WorkerError::Blobs)?;
        let files = Arc::new(BlobFiles(blobs.clone()));
        let steps = Arc::new(StepContainers::new(containers.clone()));
        let images = ImagesOptions { base: options.image_base, ..ImagesOptions::new(files, steps) };
        let images = Images::open(directory.images(), images).map_err(WorkerError::Images)?;
        let connection = Connection::prepare(&options, directory.worker)?;
        tracing::info!(
            worker = %directory.worker,
            enforcement = ?enforcer.kind(),
            memory_bytes,
            recovered = attempts.len(),
            "worker ready"
        );
        Ok(Self {
            blobs,
            containers,
            images: Arc::new(images),
            sampler: Sampler::start(reaper).map_err(WorkerError::Thread)?,
            tasks: Tasks::default(),
            connection,
            session: Session::default(),
            launcher,
            enforcer,
            milli_cpu: options.milli_cpu.unwrap_or_else(|| machine::milli_cpu(&mounts)),
            mounts,
            job_environment: options.job_environment,
            wake,
            memory_bytes,
            cache_bytes: options.cache_bytes.unwrap_or(DEFAULT_CACHE_BYTES),
            attempts: Mutex::new(attempts),
            directory,
        })
    }

    async fn serve(
        self: &Arc<Self>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), WorkerError> {
        let mut running = JoinSet::new();
        let delivering = tokio::spawn(deliver(self.clone()));
        let telling = tokio::spawn(deliver_tasks(self.clone()));
        let ended = tokio::select! {
            // In this order: the first poll of `shutdown` is what catches the signals, and the
            // server may have answered a hello before another branch is polled at all.
            biased;
            () = shutdown => Ok(()),
            () = self.launcher.gone().cancelled() => Err(WorkerError::LauncherDied),
            refused = converse(self, &mut running) => Err(refused),
        };
        if ended.is_ok() {
            self.attempts().values().for_each(|attempt| _ = attempt.order(Order::WorkerEnds));
            self.tasks.stop_all();
            // Each is killed after its grace, so this ends.
            while running.join_next().await.is_some() {}
            let _ = tokio::time::timeout(LAST_DELIVERY_WAIT, self.until_settled()).await;
        }
        delivering.abort();
        telling.abort();
        running.shutdown().await;
        ended
    }

    async fn until_settled(&self) {
        let outbox = self.tasks.outbox();
        while !(outbox.is_empty() && self.attempts().values().all(|attempt| attempt.is_settled())) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            memory_bytes: self.memory_bytes,
            milli_cpu: self.milli_cpu,
            disk_bytes: machine::free_disk_bytes(self.directory.path()),
        }
    }

    /// The attempts known at this moment.
    pub(crate) fn attempts(&self) -> HashMap<AttemptId, Arc<Attempt>> {
        self.lock_attempts().clone()
    }

    fn lock_attempts(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Attempt>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room on disk for an attempt; none when it is known already.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub(crate) async fn begin_attempt(
        self: &Arc<Self>,
        id: AttemptId,
    ) -> std::io::Result<Option<(Arc<Attempt>, mpsc::UnboundedReceiver<Order>)>> {
        if self.lock_attempts().contains_key(&id) {
            return Ok(None);
        }
        let worker = self.clone();
        let begin = move || {
            let directory = worker.directory.begin_attempt(id)?;
            let begun = Attempt::begin(id, directory, worker.wake.clone())?;
            worker.lock_attempts().insert(id, begun.0.clone());
            worker.trim_cache();
            Ok(Some(begun))
        };
        tokio::task::spawn_blocking(begin).await.unwrap_or_else(|panicked| Err(panicked.into()))
    }

    /// Removes an attempt that has ended; blocks on the disk.
    pub(crate) fn remove_attempt(&self, attempt: &Attempt) {
        self.lock_attempts().remove(&attempt.id);
        attempt.remove_files();
    }

    /// Drops the oldest blobs that no attempt needs until the cache is within its bound.
    pub(crate) fn trim_cache(&self) {
        let mut entries: Vec<BlobEntry> = self.blobs.iter().filter_map(Result::ok).collect();
        let mut held: u64 = entries.iter().map(|entry| entry.bytes).sum();
        if held <= self.cache_bytes {
            return;
        }
        entries.sort_by_key(|entry| entry.modified);
        let needed: HashSet<BlobHash> =
            self.attempts().values().flat_map(|attempt| attempt.needed()).collect();
        for entry in entries.iter().filter(|entry| !needed.contains(&entry.hash)) {
            if held <= self.cache_bytes {
                break;
            }
            match self.blobs.delete(&entry.hash) {
                Ok(_) => held -= entry.bytes,
                Err(error) => {
                    tracing::warn!(hash = %entry.hash, %error, "a blob stays in the cache")
                }
            }
        }
    }
}
