//! From a decision of the engine to the journal's queue, and back once it is on disk.

use std::sync::Arc;

use corral_journal::JournalError;
use corral_types::{Caller, JobId, Timestamp, WorkerId};
use serde_json::Value;
use tokio::sync::Notify;

use crate::engine::{Engine, Errand};
use crate::error::JobsError;
use crate::metric;
use crate::service::{EngineAtWork, Shared, UntilKept, locked, visible};

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

    /// Puts the engine's records into the journal's queue and does its errands. A caller
    /// that goes away in the middle leaves what is left to the next.
    async fn send_off(&self, at_work: &mut EngineAtWork) -> Result<(), JobsError> {
        self.collect(at_work);
        if let Err(error) = self.enqueue(at_work).await {
            // The engine is ahead of the disk now, and stays so.
            self.fail(&error);
            return Err(JobsError::Journal(error));
        }
        let unkept = &at_work.outgoing.unkept;
        if !(unkept.pending.is_empty() && unkept.story.is_empty() && unkept.complete.is_empty()) {
            let place = self.unkept.reserve().await.map_err(|_| JobsError::Stopping)?;
            at_work.outgoing.unkept.last = at_work.last_enqueued;
            place.send(std::mem::take(&mut at_work.outgoing.unkept));
        }
        // A worker may start before its assignment is on disk: if that is lost, hello tells
        // it to forget.
        for worker in std::mem::take(&mut at_work.outgoing.woken) {
            self.poll_of(worker).notify_waiters();
        }
        Ok(())
    }

    /// Takes over what the engine decided.
    fn collect(&self, at_work: &mut EngineAtWork) {
        let EngineAtWork { engine, outgoing, bytes_since_snapshot, .. } = at_work;
        for record in engine.take_records() {
            metric::count_record(&record);
            let bytes = record.encode();
            *bytes_since_snapshot += bytes.len() as u64;
            outgoing.records.push_back(bytes);
        }
        for entry in engine.take_story() {
            metric::count_entry(&entry);
            outgoing.unkept.story.push(entry);
        }
        for errand in engine.take_errands() {
            match (errand, &self.ports.resident) {
                (Errand::Task(notice), _) => {
                    if let Some(owner) = &self.ports.tasks {
                        owner.told(notice);
                    }
                }
                (Errand::Complete { job }, _) => outgoing.unkept.complete.push(job),
                (Errand::Reclaim { worker, holder, bytes }, Some(resident)) => {
                    resident.reclaim(worker, holder, bytes);
                }
                (Errand::ResidentLease { task, limits }, Some(resident)) => {
                    resident.lease_changed(task, limits);
                }
                (Errand::Reclaim { .. } | Errand::ResidentLease { .. }, None) => {}
            }
        }
        outgoing.woken.append(&mut engine.take_woken());
    }

    async fn enqueue(&self, at_work: &mut EngineAtWork) -> Result<(), JournalError> {
        while !at_work.outgoing.records.is_empty() {
            let records = at_work.outgoing.records.make_contiguous();
            let mut bytes = 0;
            let count = records
                .iter()
                .take_while(|record| {
                    bytes += record.len();
                    bytes <= BATCH_BYTES
                })
                .count()
                .max(1);
            // Only waiting for room can be cut off: then nothing has been taken.
            let pending = self.journal.enqueue(&records[..count]).await?;
            at_work.outgoing.records.drain(..count);
            at_work.last_enqueued = pending.last().get();
            at_work.outgoing.unkept.pending.push(pending);
        }
        Ok(())
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
