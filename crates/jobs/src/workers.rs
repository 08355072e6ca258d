//! The server's side of the worker protocol, and what is known about workers.

use std::collections::BTreeSet;
use std::time::Duration;

use corral_placement::WorkerView;
use corral_types::{BlobHash, JobId, TaskId, Timestamp, WorkerId};
use corral_worker_api::{
    Acknowledged, Capacity, Commands, EventBatch, Hello, MAX_EVENTS_PER_BATCH,
    MAX_TASK_EVENTS_PER_BATCH, POLL_WAIT_MS, Poll, TaskEventBatch, Welcome,
};

use crate::error::JobsError;
use crate::service::JobsService;

/// A worker as people see it.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    pub worker: WorkerId,
    pub host_name: String,
    pub capacity: Capacity,
    pub first_seen: Timestamp,
    /// When it last called; none while it is away.
    pub last_call: Option<Timestamp>,
    /// What is taken of it; none once it has been away for long.
    pub placement: Option<WorkerView>,
    /// The jobs that run there.
    pub jobs: Vec<JobId>,
}

impl JobsService {
    /// `POST /worker/v1/hello`.
    ///
    /// # Errors
    /// [`JobsError::Session`] for another version of the protocol.
    pub async fn hello(&self, hello: &Hello) -> Result<Welcome, JobsError> {
        let owner = self.shared.ports.tasks.as_ref();
        let named = hello.tasks.iter().map(|present| present.task);
        let wanted: BTreeSet<TaskId> =
            named.filter(|task| owner.is_some_and(|owner| owner.wants(*task))).collect();
        let (welcome, kept) =
            self.shared.with_engine(|engine, now| engine.hello(now, hello, &wanted)).await?;
        let welcome = welcome?;
        // What it says to forget must not be needed again after a crash.
        self.shared.until_kept(kept).await?;
        Ok(welcome)
    }

    /// `POST /worker/v1/poll`: answers as soon as there is a command, at the latest after
    /// [`POLL_WAIT_MS`] with none.
    ///
    /// # Errors
    /// [`JobsError::Session`] for a session that is not known: the worker says hello again.
    pub async fn poll(&self, poll: &Poll) -> Result<Commands, JobsError> {
        let notify = self.shared.poll_of(poll.worker);
        let mut stopping = self.shared.stopping.subscribe();
        let mut wait = std::pin::pin!(tokio::time::sleep(Duration::from_millis(POLL_WAIT_MS)));
        let mut woken = std::pin::pin!(notify.notified());
        woken.as_mut().enable();
        let (taken, _) = self.shared.with_engine(|engine, now| engine.poll(now, poll)).await?;
        let mut commands = taken?;
        while commands.is_empty() {
            tokio::select! {
                () = &mut wait => break,
                _ = stopping.wait_for(|stopping| *stopping) => return Err(JobsError::Stopping),
                () = &mut woken => {}
            }
            woken.set(notify.notified());
            woken.as_mut().enable();
            let (worker, session) = (poll.worker, poll.session);
            let (taken, _) = self
                .shared
                .with_engine(|engine, now| engine.commands(now, worker, session))
                .await?;
            commands = taken?;
        }
        Ok(Commands { commands })
    }

    /// `POST /worker/v1/events`: acknowledged once everything is on disk.
    ///
    /// # Errors
    /// [`JobsError::Session`] for a session that is not known.
    pub async fn events_from_worker(&self, batch: EventBatch) -> Result<Acknowledged, JobsError> {
        if batch.events.len() > MAX_EVENTS_PER_BATCH {
            let (events, limit) = (batch.events.len(), MAX_EVENTS_PER_BATCH);
            return Err(JobsError::BatchTooLarge { events, limit });
        }
        let worker = batch.worker;
        let (taken, kept) =
            self.shared.with_engine(|engine, now| engine.events(now, batch)).await?;
        let taken = taken?;
        self.shared.until_kept(kept).await?;
        let (_, _) =
            self.shared.with_engine(|engine, _| engine.events_are_kept(worker, &taken)).await?;
        Ok(taken.acknowledged)
    }

    /// `POST /worker/v1/tasks`: what happened with containers and builds.
    ///
    /// # Errors
    /// [`JobsError::Session`] for a session that is not known.
    pub async fn task_events(&self, batch: TaskEventBatch) -> Result<(), JobsError> {
        if batch.events.len() > MAX_TASK_EVENTS_PER_BATCH {
            let (events, limit) = (batch.events.len(), MAX_TASK_EVENTS_PER_BATCH);
            return Err(JobsError::BatchTooLarge { events, limit });
        }
        let (taken, _) =
            self.shared.with_engine(|engine, now| engine.task_events(now, batch)).await?;
        Ok(taken?)
    }

    /// Whether a worker may read a blob: an input or the checkpoint of what it runs.
    pub async fn worker_may_read(&self, worker: WorkerId, blob: BlobHash) -> bool {
        self.shared.engine.lock().await.engine.worker_may_read(worker, blob)
    }

    /// The worker takes no new task from now on.
    pub async fn drain_worker(&self, worker: WorkerId) -> Result<(), JobsError> {
        self.shared.with_engine(|engine, now| engine.drain(now, worker)).await.map(drop)
    }

    /// Every worker that is here or has been and is remembered.
    pub async fn workers(&self) -> Vec<WorkerStatus> {
        self.shared.engine.lock().await.engine.workers()
    }
}
