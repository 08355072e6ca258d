//! The jobs service: the engine, its journal and the stories, behind async calls.
//!
//! A call locks the engine, lets it decide, puts the records into the journal's queue in
//! that order and unlocks; then it waits until they are on disk. One task at the other end
//! of the queue waits for the disk, adds to the stories, and only then lets everyone know:
//! so whoever was answered finds what the answer says, also after a crash.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_containers::StopReason;
use corral_journal::{Journal, JournalError, JournalOptions, Pending};
use corral_placement::{HolderId, Policy, Reclaimable, ResidentClaim, TaskRequest, WaitReason};
use corral_types::{BlobHash, Caller, Clock, JobId, Scope, TaskId, WorkerId};
use corral_worker_api::TaskWork;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::completion::{JobCompletion, ResidentMemory};
use crate::core::{JobsCore, JobsPolicy};
use crate::engine::Engine;
use crate::error::JobsError;
use crate::event::StoryEntry;
use crate::job::{Job, JobState};
use crate::request::JobRequest;
use crate::story::{StoryLimits, StoryReader, StoryWriter};
use crate::tasks::TaskOwner;

/// How many calls may be between the engine and the disk; one more waits. Each is at most
/// a few records, and the disk takes all that wait at once.
const MAX_UNKEPT_CALLS: usize = 1_024;
/// The most jobs on one page of a list.
pub const MAX_JOBS_PER_PAGE: usize = 500;

/// What a jobs service is started with.
#[derive(Clone, Debug)]
pub struct JobsOptions {
    /// Its own directory: the journal and the stories are below it.
    pub dir: PathBuf,
    pub policy: JobsPolicy,
    pub placement: Policy,
    pub journal: JournalOptions,
    pub story_limits: StoryLimits,
    /// How often time is taken in; a cancel and a time limit are this late at most.
    pub tick: Duration,
    /// How much is journaled before a snapshot replaces it: what a restart reads.
    pub snapshot_after_bytes: u64,
}

impl JobsOptions {
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            policy: JobsPolicy::default(),
            placement: Policy::default(),
            journal: JournalOptions::default(),
            story_limits: StoryLimits::default(),
            tick: Duration::from_millis(200),
            snapshot_after_bytes: 64 << 20,
        }
    }

    fn stories_dir(&self) -> PathBuf {
        self.dir.join("stories")
    }
}

/// What the jobs service needs of the rest of the server.
#[derive(Clone)]
pub struct JobsPorts {
    pub completion: Arc<dyn JobCompletion>,
    pub resident: Option<Arc<dyn ResidentMemory>>,
    /// Whoever starts containers and builds; none where nobody does.
    pub tasks: Option<Arc<dyn TaskOwner>>,
    pub clock: Arc<dyn Clock>,
}

/// A job and, if it waits for a lease, why.
#[derive(Clone, Debug)]
pub struct JobView {
    pub job: Arc<Job>,
    pub waits: Option<WaitReason>,
}

/// Which jobs a list shows.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Any of these; all if empty.
    pub states: Vec<JobState>,
    pub kind: Option<String>,
    pub name: Option<String>,
}

impl JobFilter {
    fn shows(&self, job: &Job) -> bool {
        (self.states.is_empty() || self.states.contains(&job.state()))
            && self.kind.as_ref().is_none_or(|kind| *kind == job.request.kind)
            && self.name.as_ref().is_none_or(|name| *name == job.request.name)
    }
}

/// Jobs, the newest first, and where the next page begins.
#[derive(Clone, Debug)]
pub struct JobsPage {
    pub jobs: Vec<Arc<Job>>,
    pub next: Option<JobId>,
}

/// Durable background work for all workspaces. Shared as an `Arc`; see [`JobsService::stop`].
pub struct JobsService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
}

pub(crate) struct Shared {
    pub engine: Mutex<EngineAtWork>,
    pub journal: Journal,
    pub stories: StoryReader,
    pub story_writer: Arc<SyncMutex<StoryWriter>>,
    pub ports: JobsPorts,
    pub options: JobsOptions,
    /// To the task that waits for the disk.
    pub unkept: mpsc::Sender<Unkept>,
    pub kept: watch::Sender<Kept>,
    pub stopping: watch::Sender<bool>,
    /// For each worker, whom to wake when there are commands.
    pub polls: SyncMutex<HashMap<WorkerId, Arc<Notify>>>,
    /// For each job that somebody follows, whom to tell that its story goes on.
    pub followers: SyncMutex<HashMap<JobId, watch::Sender<u64>>>,
}

/// The engine and how far its records have gone into the journal's queue.
pub(crate) struct EngineAtWork {
    pub engine: Engine,
    pub outgoing: Outgoing,
    pub last_enqueued: u64,
    pub bytes_since_snapshot: u64,
}

/// What the engine decided and the journal's queue has not taken yet. It outlives the call
/// that led to it: a caller may go away at any moment, a decision may not.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// Encoded, in order.
    pub records: VecDeque<Vec<u8>>,
    pub unkept: Unkept,
    pub woken: BTreeSet<WorkerId>,
}

/// How far the journal is on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub up_to: u64,
    /// Once writing failed, nothing is kept any more until the process starts anew.
    pub failed: Option<JournalError>,
}

/// What one call changed, on its way to the disk.
#[derive(Default)]
pub(crate) struct Unkept {
    pub pending: Vec<Pending>,
    pub last: u64,
    pub story: Vec<StoryEntry>,
    /// Jobs whose outputs can be registered once the records are on disk.
    pub complete: Vec<JobId>,
}

/// That everything up to a record is on disk is still to be waited for.
#[must_use = "nothing is acknowledged before it is on disk"]
pub(crate) struct UntilKept(pub u64);

impl JobsService {
    /// Opens the journal in the options' directory, reads the state back and begins to
    /// work. Blocks while it reads.
    ///
    /// # Errors
    /// When the journal is in use, damaged, or written by a newer version.
    pub fn start(options: JobsOptions, ports: JobsPorts) -> Result<Arc<Self>, JobsError> {
        let (journal, recovery) = Journal::open(options.dir.join("journal"), options.journal)?;
        let story_dir = options.stories_dir();
        let mut story_writer = StoryWriter::new(story_dir.clone(), options.story_limits)?;
        let (core, bytes_since_snapshot) =
            crate::recovery::recover(options.policy, recovery, &mut story_writer)?;
        let now = ports.clock.now();
        let mut engine = Engine::new(now, core, options.placement.clone());
        let done = engine.take_completing();
        let last = journal.last_synced().get();
        let (unkept, unkept_receiver) = mpsc::channel(MAX_UNKEPT_CALLS);
        let shared = Arc::new(Shared {
            engine: Mutex::new(EngineAtWork {
                engine,
                outgoing: Outgoing::default(),
                last_enqueued: last,
                bytes_since_snapshot,
            }),
            journal,
            stories: StoryReader::new(story_dir),
            story_writer: Arc::new(SyncMutex::new(story_writer)),
            ports,
            options,
            unkept,
            kept: watch::Sender::new(Kept { up_to: last, failed: None }),
            stopping: watch::Sender::new(false),
            polls: SyncMutex::new(HashMap::new()),
            followers: SyncMutex::new(HashMap::new()),
        });
        let tasks = crate::background::spawn_all(&shared, unkept_receiver, done);
        Ok(Arc::new(Self { shared, tasks: Mutex::new(tasks) }))
    }

    /// Ends the service's own tasks, lets waiting calls go with [`JobsError::Stopping`] and
    /// waits until everything is on disk. Jobs go on on their workers.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        let journal = self.shared.journal.clone();
        let close = tokio::task::spawn_blocking(move || journal.close());
        if let Err(error) = close.await {
            tracing::error!(%error, "closing the jobs' journal failed");
        }
    }

    /// Resolves when writing the journal failed, after which every call fails: the process
    /// is to end and be started again, so that it goes on from what is on disk.
    pub async fn failed(&self) -> JournalError {
        let mut kept = self.shared.kept.subscribe();
        let failed = kept.wait_for(|kept| kept.failed.is_some()).await;
        match failed.ok().and_then(|kept| kept.failed.clone()) {
            Some(error) => error,
            None => JournalError::Closed,
        }
    }

    /// Takes a job. It is acknowledged once it is on disk.
    ///
    /// # Errors
    /// [`JobsError::Refused`] when no known worker could ever run it, with the numbers.
    pub async fn submit(&self, caller: &Caller, request: JobRequest) -> Result<JobId, JobsError> {
        self.submit_as(caller, JobId::generate(), request).await
    }

    /// [`submit`](Self::submit) under an id that the caller chose, so that it can be
    /// repeated: if the job exists already, that is all.
    pub async fn submit_as(
        &self,
        caller: &Caller,
        job: JobId,
        request: JobRequest,
    ) -> Result<JobId, JobsError> {
        may(caller, Scope::Write, "submit")?;
        request.validate()?;
        let limit = self.shared.options.policy.max_unfinished_jobs;
        let workspace = caller.workspace;
        let taken = self
            .shared
            .with_engine(|engine, now| {
                if engine.core().job(job).is_some() {
                    return Ok(());
                }
                if engine.core().unfinished() >= limit {
                    return Err(JobsError::TooManyUnfinished { limit });
                }
                if let Some(refusal) = engine.refusal(workspace, &request) {
                    return Err(JobsError::Refused(refusal));
                }
                engine.submit(now, job, workspace, request);
                Ok(())
            })
            .await?;
        self.shared.until_kept(taken.1).await?;
        taken.0.map(|()| job)
    }

    pub async fn get(&self, caller: &Caller, job: JobId) -> Result<JobView, JobsError> {
        may(caller, Scope::Read, "read")?;
        let at_work = self.shared.engine.lock().await;
        let job = visible(at_work.engine.core(), caller, job)?.clone();
        let waits = at_work.engine.wait_reason(job.id);
        Ok(JobView { job, waits })
    }

    /// The workspace's jobs, the newest first, those created before `cursor`.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: &JobFilter,
        cursor: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, JobsError> {
        may(caller, Scope::Read, "list")?;
        let limit = limit.clamp(1, MAX_JOBS_PER_PAGE);
        let at_work = self.shared.engine.lock().await;
        let mut shown = at_work
            .engine
            .core()
            .workspace_jobs(caller.workspace, cursor)
            .filter(|job| filter.shows(job));
        let jobs: Vec<Arc<Job>> = shown.by_ref().take(limit).cloned().collect();
        let more = shown.next().is_some();
        let next = jobs.last().filter(|_| more).map(|job| job.id);
        Ok(JobsPage { jobs, next })
    }

    /// Cancels a job: what waits is over at once, what runs within a second or so. Doing
    /// it again changes nothing.
    ///
    /// # Errors
    /// [`JobsError::State`] when it ended otherwise, or its work is done.
    pub async fn cancel(&self, caller: &Caller, job: JobId) -> Result<(), JobsError> {
        may(caller, Scope::Write, "cancel")?;
        self.shared.about(caller, job, |engine, now| Ok(engine.cancel(now, job)?)).await
    }

    /// Asks a running job to end early and keep what it has.
    ///
    /// # Errors
    /// [`JobsError::State`] when nothing of it runs.
    pub async fn finish_now(&self, caller: &Caller, job: JobId) -> Result<(), JobsError> {
        may(caller, Scope::Write, "finish")?;
        self.shared.about(caller, job, |engine, now| Ok(engine.finish_now(now, job)?)).await
    }

    /// How many jobs are in each state, over all workspaces.
    pub async fn counts(&self) -> BTreeMap<JobState, usize> {
        self.shared.engine.lock().await.engine.core().counts().clone()
    }

    /// Every blob that a kept job refers to: what a collection of garbage spares.
    pub async fn referenced_blobs(&self) -> Vec<BlobHash> {
        let at_work = self.shared.engine.lock().await;
        at_work.engine.core().jobs().flat_map(|job| job.blobs()).collect()
    }

    /// The server's own lease on the machine it shares with a worker; it is granted as soon
    /// as that worker is here, before anything else.
    pub async fn claim_resident(&self, claim: ResidentClaim) -> Result<(), JobsError> {
        self.shared.with_engine(|engine, now| engine.claim_resident(now, claim)).await.map(drop)
    }

    /// Asks for the server's lease to be of another size; the answer comes to
    /// [`ResidentMemory::lease_changed`].
    pub async fn resize_resident(&self, task: TaskId, bytes: u64) -> Result<(), JobsError> {
        self.shared
            .with_engine(|engine, now| engine.resize_resident(now, task, bytes))
            .await
            .map(drop)
    }

    /// Says what a holder in this process could give back; `None` when nothing any more.
    pub async fn hold_reclaimable(
        &self,
        holder: HolderId,
        reclaimable: Option<Reclaimable>,
    ) -> Result<(), JobsError> {
        self.shared
            .with_engine(|engine, now| engine.hold_reclaimable(now, holder, reclaimable))
            .await
            .map(drop)
    }

    /// Asks for a lease for a container or a build and has a worker begin it; what becomes of
    /// it is told to the [`TaskOwner`].
    ///
    /// # Errors
    /// [`JobsError::TaskRefused`] when no known worker could ever have it, with the numbers.
    pub async fn start_task(&self, request: TaskRequest, work: TaskWork) -> Result<(), JobsError> {
        let (taken, _) = self
            .shared
            .with_engine(|engine, now| match engine.task_refusal(&request) {
                Some(refusal) => Err(JobsError::TaskRefused(refusal)),
                None => {
                    engine.start_task(now, request, work);
                    Ok(())
                }
            })
            .await?;
        taken
    }

    /// Ends a container or a build; its end is told as any other.
    pub async fn stop_task(&self, task: TaskId, reason: StopReason) -> Result<(), JobsError> {
        self.shared.with_engine(|engine, now| engine.stop_task(now, task, reason)).await.map(drop)
    }

    /// The jobs' journal, for a backup of it.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// The folder of the jobs' logs and events, for a backup: to be copied after the journal.
    pub fn stories_dir(&self) -> PathBuf {
        self.shared.options.stories_dir()
    }
}

pub(crate) fn may(caller: &Caller, scope: Scope, action: &'static str) -> Result<(), JobsError> {
    if caller.may(scope) { Ok(()) } else { Err(JobsError::Forbidden { action, scope }) }
}

/// The job if it is one of the caller's workspace; others do not exist for it.
pub(crate) fn visible<'a>(
    core: &'a JobsCore,
    caller: &Caller,
    job: JobId,
) -> Result<&'a Arc<Job>, JobsError> {
    core.job(job).filter(|job| job.workspace == caller.workspace).ok_or(JobsError::NotFound { job })
}

/// What these locks guard is whole at every step, so that a panic cannot leave it half done.
pub(crate) fn locked<T>(mutex: &SyncMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
