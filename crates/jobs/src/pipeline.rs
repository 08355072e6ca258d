//! From a decision of the engine to the journal's queue, and back once it is on disk.

use std::sync::Arc;

use corral_journal::{JournalError, Pending};
use corral_types::{Caller, JobId, Timestamp, WorkerId};
use serde_json::Value;
use tokio::sync::Notify;

use crate::engine::{Engine, Errand};
use crate::error::JobsError;
use crate::metric;
use crate::record::Record;
use crate::service::{EngineAtWork, Shared, Unkept, UntilKept, locked, visible};

/// Records are handed to the journal in batches below its limit.
const BATCH_BYTES: usize = 4 << 20;

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
    pub async fn about<T>(
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
