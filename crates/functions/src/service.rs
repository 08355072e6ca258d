//! The functions service: the engine and its journal behind async calls.
//!
//! A call locks the engine, lets it decide, and unlocks. Records that somebody is told of (an
//! input was accepted, an output was taken) go into the journal's queue in that order, and the
//! answer waits until they are on disk; meanwhile a container may have the input already. Records
//! that only spare work after a crash (which container has what) wait for the next that somebody
//! is told of. Outputs are told to nobody before they are on disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_journal::{Journal, JournalError, JournalOptions, Pending};
use corral_types::{Caller, Clock, ContainerId, Scope, Timestamp};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::container::{ContainerHost, NextInputs};
use crate::engine::{Engine, Outbox, Random};
use crate::error::FunctionsError;
use crate::packed::CallKey;

/// How many bytes of records that nobody waits for gather before they are written anyway.
const MAX_GATHERED_BYTES: usize = 256 << 10;
/// How many bytes of records go into the journal's queue at once: a part of what it takes.
const MAX_BATCH_BYTES: usize = 2 << 20;

/// What the service is started with.
#[derive(Clone, Debug)]
pub struct FunctionsOptions {
    /// Its own directory: the journal is below it.
    pub dir: PathBuf,
    pub journal: JournalOptions,
    /// How much is journaled before a snapshot replaces it: with a snapshot, what a restart
    /// reads.
    pub snapshot_after_bytes: u64,
    /// How often time is taken in where nothing is due sooner.
    pub tick: Duration,
}

impl FunctionsOptions {
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            journal: JournalOptions::default(),
            snapshot_after_bytes: 256 << 20,
            tick: Duration::from_millis(100),
        }
    }
}

/// What the service needs of the rest of the server.
#[derive(Clone)]
pub struct FunctionsPorts {
    pub host: Arc<dyn ContainerHost>,
    pub clock: Arc<dyn Clock>,
}

/// A container asks for inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollRequest {
    /// Repeating a request under the same key gives the same inputs again.
    pub idempotency_key: Option<String>,
    /// At most so many; 0 and 1 mean one.
    pub max_inputs: u32,
    /// How long to wait for the first of them.
    pub wait: Duration,
}

/// What a cancelled call does to the containers that work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelContainers {
    /// The input is interrupted, the container goes on.
    Keep,
    /// The containers end; other inputs in them are tried elsewhere.
    Terminate,
}

/// Calls of functions for all workspaces. Shared as an `Arc`; see [`Functions::stop`].
///
/// What a call to this acknowledges is on disk. Calls that wait can be dropped at any moment.
pub struct Functions {
    pub(crate) shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

pub(crate) struct Shared {
    pub at_work: Mutex<AtWork>,
    pub journal: Journal,
    pub ports: FunctionsPorts,
    pub options: FunctionsOptions,
    /// To the task that waits for the disk.
    unkept: mpsc::UnboundedSender<Unkept>,
    pub stopping: watch::Sender<bool>,
    pub failed: watch::Sender<Option<JournalError>>,
    /// For each call that somebody waits for, whom to wake.
    pub call_waiters: SyncMutex<HashMap<CallKey, Vec<oneshot::Sender<()>>>>,
    /// For each container that waits for inputs, where they go.
    pub polls: SyncMutex<HashMap<ContainerId, oneshot::Sender<NextInputs>>>,
    /// For each container that waits for inputs to leave alone, whom to wake.
    pub heartbeats: SyncMutex<HashMap<ContainerId, Arc<Notify>>>,
    /// Something is due sooner than was planned.
    pub sooner: Notify,
}

/// The engine, and what of its records is not in the journal's queue yet.
pub(crate) struct AtWork {
    pub engine: Engine,
    /// Encoded, in order.
    gathered: Vec<Vec<u8>>,
    gathered_bytes: usize,
    changed_calls: Vec<CallKey>,
    pub last_enqueued: u64,
    pub bytes_since_snapshot: u64,
    /// When the time is taken in next.
    pub planned: Timestamp,
}

/// Records on their way to the disk, and who is told when they are there.
pub(crate) struct Unkept {
    pub pending: Vec<Pending>,
    pub changed_calls: Vec<CallKey>,
    pub told: oneshot::Sender<()>,
}

/// That records are on disk is still to be waited for.
#[must_use = "nothing is acknowledged before it is on disk"]
pub(crate) enum Kept {
    Already,
    Later(Vec<Pending>),
    Told(oneshot::Receiver<()>),
}

impl Functions {
    /// Opens the journal in the options' directory, reads the state back and begins to work:
    /// containers that were asked for and did not start are asked for again. Blocks while it
    /// reads. Containers that ran before are taken to run still, until
    /// [`container_event`](Self::container_event) says otherwise.
    ///
    /// # Errors
    /// When the journal is in use, damaged, or written by a newer version.
    pub fn start(
        options: FunctionsOptions,
        ports: FunctionsPorts,
    ) -> Result<Arc<Self>, FunctionsError> {
        let (journal, recovery) = Journal::open(options.dir.join("journal"), options.journal)?;
        let (core, bytes_since_snapshot) = crate::recovery::recover(recovery)?;
        let now = ports.clock.now();
        let random: Random = Box::new(|| {
            let bits = ContainerId::generate().as_u128().to_be_bytes();
            bits[6..].try_into().expect("an id has sixteen bytes")
        });
        let mut engine = Engine::new(now, core, random);
        let out = engine.take_out();
        let (unkept, unkept_receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            at_work: Mutex::new(AtWork {
                engine,
                gathered_bytes: out.records.iter().map(Vec::len).sum(),
                gathered: out.records.clone(),
                changed_calls: Vec::new(),
                last_enqueued: journal.last_synced().get(),
                bytes_since_snapshot,
                planned: now,
            }),
            journal,
            ports,
            options,
            unkept,
            stopping: watch::Sender::new(false),
            failed: watch::Sender::new(None),
            call_waiters: SyncMutex::default(),
            polls: SyncMutex::default(),
            heartbeats: SyncMutex::default(),
            sooner: Notify::new(),
        });
        // No container polls yet, so that no inputs can be lost on their way to one.
        shared.deliver(&out);
        let tasks = crate::background::spawn_all(&shared, unkept_receiver);
        Ok(Arc::new(Self { shared, tasks: Mutex::new(tasks) }))
    }

    /// Ends the service's own tasks, lets waiting calls go with [`FunctionsError::Stopping`] and
    /// waits until everything is on disk. Containers go on.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        if self.shared.failed.borrow().is_none() {
            let mut at_work = self.shared.at_work.lock().await;
            if let Err(error) = self.shared.enqueue(&mut at_work).await {
                tracing::error!(%error, "the last records of functions were not written");
            }
        }
        let journal = self.shared.journal.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || journal.close()).await {
            tracing::error!(%error, "closing the functions' journal failed");
        }
    }

    /// Resolves when writing the journal failed, after which every call fails: the process is
    /// to end and be started again, so that it goes on from what is on disk.
    pub async fn failed(&self) -> JournalError {
        let mut failed = self.shared.failed.subscribe();
        let error = failed.wait_for(Option::is_some).await;
        error.ok().and_then(|error| error.clone()).unwrap_or(JournalError::Closed)
    }

    /// The journal, for a backup of it.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }
}

impl Shared {
    /// Lets the engine decide, and sees to what follows from it.
    pub async fn decide<T>(
        &self,
        decide: impl FnOnce(&mut Engine, Timestamp) -> T,
    ) -> Result<(T, Kept), FunctionsError> {
        let mut at_work = self.at_work.lock().await;
        self.check_working()?;
        let now = self.ports.clock.now();
        let decided = decide(&mut at_work.engine, now);
        let kept = self.follow_up(&mut at_work, now).await?;
        Ok((decided, kept))
    }

    /// [`decide`](Self::decide) for what may fail, acknowledged once it is on disk. What failed
    /// changed nothing.
    pub async fn decide_durably<T>(
        &self,
        decide: impl FnOnce(&mut Engine, Timestamp) -> Result<T, FunctionsError>,
    ) -> Result<T, FunctionsError> {
        let (decided, kept) = self.decide(decide).await?;
        let decided = decided?;
        self.until_kept(kept).await?;
        Ok(decided)
    }

    /// Looks at the engine.
    pub async fn look<T>(&self, look: impl FnOnce(&Engine) -> T) -> T {
        look(&self.at_work.lock().await.engine)
    }

    pub fn check_working(&self) -> Result<(), FunctionsError> {
        if let Some(error) = &*self.failed.borrow() {
            return Err(error.clone().into());
        }
        if *self.stopping.borrow() { Err(FunctionsError::Stopping) } else { Ok(()) }
    }

    pub async fn until_kept(&self, kept: Kept) -> Result<(), FunctionsError> {
        match kept {
            Kept::Already => Ok(()),
            Kept::Later(pending) => {
                for pending in pending {
                    if let Err(error) = pending.await {
                        self.fail(&error);
                        return Err(error.into());
                    }
                }
                Ok(())
            }
            Kept::Told(told) => told.await.map_err(|_| {
                self.failed.borrow().clone().map_or(FunctionsError::Stopping, Into::into)
            }),
        }
    }

    pub fn fail(&self, error: &JournalError) {
        self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert_with(|| error.clone());
            is_first
        });
    }

    /// Takes what the engine decided out of it and sees to it.
    async fn follow_up(
        &self,
        at_work: &mut AtWork,
        now: Timestamp,
    ) -> Result<Kept, FunctionsError> {
        let mut is_awaited = false;
        loop {
            let out = at_work.engine.take_out();
            is_awaited |= out.is_awaited || !out.changed_calls.is_empty();
            at_work.changed_calls.extend(&out.changed_calls);
            at_work.gathered_bytes += out.records.iter().map(Vec::len).sum::<usize>();
            let lost = self.deliver(&out);
            at_work.gathered.extend(out.records);
            if lost.is_empty() {
                break;
            }
            for (container, inputs) in lost {
                at_work.engine.undelivered(now, container, &inputs);
            }
        }
        if let Some(due) = at_work.engine.next_due()
            && due < at_work.planned
        {
            at_work.planned = due;
            self.sooner.notify_one();
        }
        if !is_awaited && at_work.gathered_bytes < MAX_GATHERED_BYTES {
            return Ok(Kept::Already);
        }
        self.enqueue(at_work).await
    }

    /// Tells hosts and containers; the inputs that found nobody at the other end.
    fn deliver(&self, out: &Outbox) -> Vec<(ContainerId, Vec<crate::GivenInput>)> {
        for &(container, function) in &out.starts {
            self.ports.host.start(container, function);
        }
        for &(container, reason) in &out.stops {
            self.ports.host.stop(container, reason);
        }
        for container in &out.interrupted {
            if let Some(waiter) = locked(&self.heartbeats).get(container) {
                waiter.notify_waiters();
            }
        }
        let mut lost = Vec::new();
        for (container, answer) in &out.answers {
            let poll = locked(&self.polls).remove(container);
            let unsent = match poll {
                Some(poll) => poll.send(answer.clone()).err(),
                None => Some(answer.clone()),
            };
            if let Some(NextInputs::Inputs(inputs)) = unsent {
                lost.push((*container, inputs));
            }
        }
        lost
    }

    /// Puts the gathered records into the journal's queue. They stay gathered until they are in
    /// it, so that a caller may go away while there is no room.
    pub async fn enqueue(&self, at_work: &mut AtWork) -> Result<Kept, FunctionsError> {
        let mut pending = Vec::with_capacity(1);
        loop {
            let mut bytes = 0;
            let batch = at_work.gathered.iter().take_while(|record| {
                let fits = bytes == 0 || bytes + record.len() <= MAX_BATCH_BYTES;
                bytes += record.len();
                fits
            });
            let count = batch.count();
            let queued = self.journal.enqueue(&at_work.gathered[..count]).await;
            let queued = queued.inspect_err(|error| self.fail(error))?;
            let taken: usize = at_work.gathered.drain(..count).map(|record| record.len()).sum();
            at_work.gathered_bytes -= taken;
            at_work.bytes_since_snapshot += taken as u64;
            at_work.last_enqueued = queued.last().get();
            pending.push(queued);
            if at_work.gathered.is_empty() {
                break;
            }
        }
        let changed_calls = std::mem::take(&mut at_work.changed_calls);
        if changed_calls.is_empty() {
            return Ok(Kept::Later(pending));
        }
        let (told, until_told) = oneshot::channel();
        // Nobody is at the other end only once the service has stopped or failed.
        let _ = self.unkept.send(Unkept { pending, changed_calls, told });
        Ok(Kept::Told(until_told))
    }

    /// Has the records written that nobody waits for, so that a crash costs little of them.
    pub async fn write_gathered(&self) -> Result<(), FunctionsError> {
        let mut at_work = self.at_work.lock().await;
        if !at_work.gathered.is_empty() {
            // Nobody waits for them.
            let _ = self.enqueue(&mut at_work).await?;
        }
        Ok(())
    }

    /// Wakes whoever waits for a change of these calls.
    pub fn wake(&self, calls: &[CallKey]) {
        let mut waiters = locked(&self.call_waiters);
        for call in calls {
            for waiter in waiters.remove(call).into_iter().flatten() {
                let _ = waiter.send(());
            }
        }
    }

    /// Something that resolves at the next change of a call.
    pub fn wait_for_change(&self, call: CallKey) -> oneshot::Receiver<()> {
        let (waiter, woken) = oneshot::channel();
        let mut waiters = locked(&self.call_waiters);
        let of_call = waiters.entry(call).or_default();
        of_call.retain(|waiter| !waiter.is_closed());
        of_call.push(waiter);
        woken
    }

    /// Forgets those who do not wait any more.
    pub fn forget_gone(&self) {
        locked(&self.call_waiters).retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        locked(&self.heartbeats).retain(|_, waiter| Arc::strong_count(waiter) > 1);
        locked(&self.polls).retain(|_, poll| !poll.is_closed());
    }
}

pub(crate) fn may(
    caller: &Caller,
    scope: Scope,
    action: &'static str,
) -> Result<(), FunctionsError> {
    if caller.may(scope) { Ok(()) } else { Err(FunctionsError::Forbidden { action, scope }) }
}

/// What these locks guard is whole at every step, so that a panic cannot leave it half done.
pub(crate) fn locked<T>(mutex: &SyncMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
