//! The jobs service: the engine, its journal and the stories, behind async calls.
//!
//! A call locks the engine, lets it decide, puts the records into the journal's queue in
//! that order and unlocks; then it waits until they are on disk. One task at the other end
//! of the queue waits for the disk, adds to the stories, and only then lets everyone know:
//! so whoever was answered finds what the answer says, also after a crash.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_journal::{Journal, JournalError, JournalOptions, Pending};
use corral_placement::{HolderId, Policy, Reclaimable, ResidentClaim, WaitReason};
use corral_types::{BlobHash, Caller, Clock, JobId, Scope, TaskId, Timestamp, WorkerId};
use serde_json::Value;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::completion::{JobCompletion, ResidentMemory};
use crate::core::{JobsCore, JobsPolicy};
use crate::engine::{Engine, Errand};
use crate::error::JobsError;
use crate::event::StoryEntry;
use crate::job::{Job, JobState};
use crate::metric;
use crate::record::Record;
use crate::request::JobRequest;
use crate::story::{StoryLimits, StoryReader, StoryWriter};

/// How many calls may be between the engine and the disk; one more waits. Each is at most
/// a few records, and the disk takes all that wait at once.
const MAX_UNKEPT_CALLS: usize = 1_024;
/// Records are handed to the journal in batches below its limit.
const BATCH_BYTES: usize = 4 << 20;
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
}

/// What the jobs service needs of the rest of the server.
#[derive(Clone)]
pub struct JobsPorts {
    pub completion: Arc<dyn JobCompletion>,
    pub resident: Option<Arc<dyn ResidentMemory>>,
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
    pub last_enqueued: u64,
    pub bytes_since_snapshot: u64,
}

/// How far the journal is on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub up_to: u64,
    /// Once writing failed, nothing is kept any more until the process starts anew.
    pub failed: Option<JournalError>,
}

/// What one call changed, on its way to the disk.
pub(crate) struct Unkept {
    pub pending: Vec<Pending>,
    pub last: u64,
    pub story: Vec<StoryEntry>,
    /// Jobs whose outputs can be registered once the records are on disk.
    pub complete: Vec<JobId>,
}

/// That everything up to a record is on disk is still to be waited for.
#[must_use = "nothing is acknowledged before it is on disk"]
pub(crate) struct UntilKept(u64);

impl JobsService {
    /// Opens the journal in the options' directory, reads the state back and begins to
    /// work. Blocks while it reads.
    ///
    /// # Errors
    /// When the journal is in use, damaged, or written by a newer version.
    pub fn start(options: JobsOptions, ports: JobsPorts) -> Result<Arc<Self>, JobsError> {
        let (journal, recovery) = Journal::open(options.dir.join("journal"), options.journal)?;
        let story_dir = options.dir.join("stories");
        let mut story_writer = StoryWriter::new(story_dir.clone(), options.story_limits)?;
        let (core, bytes_since_snapshot) =
            crate::recovery::recover(options.policy, recovery, &mut story_writer)?;
        let now = ports.clock.now();
        let mut engine = Engine::new(now, core, options.placement.clone());
        let done = engine.take_completing();
        let last = journal.last_synced().get();
        let (unkept, unkept_receiver) = mpsc::channel(MAX_UNKEPT_CALLS);
        let shared = Arc::new(Shared {
            engine: Mutex::new(EngineAtWork { engine, last_enqueued: last, bytes_since_snapshot }),
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

    /// The jobs' journal, for a backup of it.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }
}

impl Shared {
    /// Lets the engine decide something, and sends what it decided on its way.
    pub async fn with_engine<T>(
        &self,
        decide: impl FnOnce(&mut Engine, Timestamp) -> T,
    ) -> Result<(T, UntilKept), JobsError> {
        let mut at_work = self.engine.lock().await;
        self.check_failed()?;
        let now = self.ports.clock.now();
        let answer = decide(&mut at_work.engine, now);
        self.send_off(&mut at_work).await?;
        Ok((answer, UntilKept(at_work.last_enqueued)))
    }

    /// [`with_engine`](Self::with_engine) about a job of the caller's, waiting until it is
    /// kept.
    async fn about<T>(
        &self,
        caller: &Caller,
        job: JobId,
        decide: impl FnOnce(&mut Engine, Timestamp) -> Result<T, JobsError>,
    ) -> Result<T, JobsError> {
        let (answer, kept) = self
            .with_engine(|engine, now| {
                visible(engine.core(), caller, job)?;
                decide(engine, now)
            })
            .await?;
        let answer = answer?;
        self.until_kept(kept).await?;
        Ok(answer)
    }

    /// Waits until everything is on disk, and in the stories.
    pub async fn until_kept(&self, until: UntilKept) -> Result<(), JobsError> {
        let mut kept = self.kept.subscribe();
        let reached = kept
            .wait_for(|kept| kept.up_to >= until.0 || kept.failed.is_some())
            .await
            .map_err(|_| JobsError::Stopping)?;
        match &reached.failed {
            Some(error) if reached.up_to < until.0 => Err(JobsError::Journal(error.clone())),
            _ => Ok(()),
        }
    }

    fn check_failed(&self) -> Result<(), JobsError> {
        match &self.kept.borrow().failed {
            Some(error) => Err(JobsError::Journal(error.clone())),
            None if *self.stopping.borrow() => Err(JobsError::Stopping),
            None => Ok(()),
        }
    }

    /// Puts the engine's records into the journal's queue and does its errands.
    async fn send_off(&self, at_work: &mut EngineAtWork) -> Result<(), JobsError> {
        let records = at_work.engine.take_records();
        let story = at_work.engine.take_story();
        let mut complete = Vec::new();
        for errand in at_work.engine.take_errands() {
            match (errand, &self.ports.resident) {
                (Errand::Complete { job }, _) => complete.push(job),
                (Errand::Reclaim { worker, holder, bytes }, Some(resident)) => {
                    resident.reclaim(worker, holder, bytes);
                }
                (Errand::ResidentLease { task, limits }, Some(resident)) => {
                    resident.lease_changed(task, limits);
                }
                (Errand::Reclaim { .. } | Errand::ResidentLease { .. }, None) => {}
            }
        }
        let woken = at_work.engine.take_woken();
        if !records.is_empty() || !story.is_empty() || !complete.is_empty() {
            records.iter().for_each(metric::count_record);
            story.iter().for_each(metric::count_entry);
            let pending = match self.enqueue(at_work, &records).await {
                Ok(pending) => pending,
                Err(error) => {
                    // The engine is ahead of the disk now, and stays so.
                    self.fail(&error);
                    return Err(JobsError::Journal(error));
                }
            };
            let unkept = Unkept { pending, last: at_work.last_enqueued, story, complete };
            self.unkept.send(unkept).await.map_err(|_| JobsError::Stopping)?;
        }
        // A worker may start before its assignment is on disk: if that is lost, hello tells
        // it to forget.
        for worker in woken {
            self.poll_of(worker).notify_waiters();
        }
        Ok(())
    }

    async fn enqueue(
        &self,
        at_work: &mut EngineAtWork,
        records: &[Record],
    ) -> Result<Vec<Pending>, JournalError> {
        let mut pending = Vec::new();
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut batch_bytes = 0;
        for record in records {
            let bytes = record.encode();
            if batch_bytes + bytes.len() > BATCH_BYTES && !batch.is_empty() {
                pending.push(self.journal.enqueue(&std::mem::take(&mut batch)).await?);
                batch_bytes = 0;
            }
            batch_bytes += bytes.len();
            at_work.bytes_since_snapshot += bytes.len() as u64;
            batch.push(bytes);
        }
        if !batch.is_empty() {
            pending.push(self.journal.enqueue(&batch).await?);
        }
        if let Some(last) = pending.last() {
            at_work.last_enqueued = last.last().get();
        }
        Ok(pending)
    }

    /// Notes that nothing is kept any more.
    pub fn fail(&self, error: &JournalError) {
        self.kept.send_if_modified(|kept| {
            let first = kept.failed.is_none();
            if first {
                kept.failed = Some(error.clone());
            }
            first
        });
    }

    pub fn poll_of(&self, worker: WorkerId) -> Arc<Notify> {
        Arc::clone(locked(&self.polls).entry(worker).or_default())
    }

    /// The outputs of a job were registered.
    pub async fn completed(&self, job: JobId, result: Value) -> Result<(), JobsError> {
        let (_, kept) = self.with_engine(|engine, now| engine.completed(now, job, result)).await?;
        self.until_kept(kept).await
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
