//! Events and blobs on their way to the server: in order within each attempt, an event never
//! before the blobs it names, everything until it is acknowledged.

use std::collections::HashMap;
use std::sync::Arc;

use corral_types::{AttemptId, BlobHash, source_chain};
use corral_worker_api::{AttemptEvent, EventBatch, MAX_EVENTS_PER_BATCH};
use tokio::sync::Semaphore;

use crate::Worker;
use crate::attempt::Attempt;
use crate::backoff::Backoff;
use crate::connection::CallError;

/// About how long a batch gets, so that it stays within a request's size limit.
const MAX_BATCH_BYTES: u64 = 1 << 20;

/// Uploads at a time: one large output shall not hold up the checkpoint of another job, and
/// more would only share the same network.
const UPLOADS_AT_ONCE: usize = 2;

/// Delivers for ever; dropped when the worker ends.
pub async fn deliver(worker: Arc<Worker>) {
    let uploads = Arc::new(Semaphore::new(UPLOADS_AT_ONCE));
    let mut backoff = Backoff::default();
    loop {
        let session = worker.session.current().await;
        let attempts = worker.attempts();
        let events = collect(&worker, &attempts, &uploads);
        if events.is_empty() {
            worker.wake.notified().await;
            continue;
        }
        let delivered = match sync_all(&attempts, &events).await {
            Ok(()) => {
                let batch = EventBatch { worker: worker.directory.worker, session, events };
                send(&worker, &attempts, batch).await
            }
            Err(error) => {
                tracing::error!(%error, "events wait for the disk");
                false
            }
        };
        if delivered {
            backoff.reset();
        } else {
            backoff.wait().await;
        }
    }
}

type Attempts = HashMap<AttemptId, Arc<Attempt>>;

/// A batch from all attempts, a fair share from each. Begins uploads for events that are held up.
fn collect(
    worker: &Arc<Worker>,
    attempts: &Attempts,
    uploads: &Arc<Semaphore>,
) -> Vec<AttemptEvent> {
    let waiting: Vec<&Arc<Attempt>> = attempts.values().filter(|a| a.has_waiting()).collect();
    let share = (MAX_EVENTS_PER_BATCH / waiting.len().max(1)).max(1);
    let share_bytes = (MAX_BATCH_BYTES / waiting.len().max(1) as u64).max(1);
    let mut events = Vec::new();
    for attempt in waiting {
        match attempt.deliverable(share, share_bytes) {
            Ok((ready, missing)) => {
                events.extend(ready);
                for hash in missing {
                    if attempt.begin_upload(hash) {
                        let upload = upload(worker.clone(), attempt.clone(), hash, uploads.clone());
                        tokio::spawn(upload);
                    }
                }
            }
            Err(error) => {
                tracing::error!(attempt = %attempt.id, %error, "events of an attempt cannot be read");
            }
        }
    }
    // More attempts than a batch has events: the rest comes next, since these are then gone.
    events.truncate(MAX_EVENTS_PER_BATCH);
    events
}

/// What was told must not be told otherwise after a power loss: numbers are never used twice.
async fn sync_all(attempts: &Attempts, events: &[AttemptEvent]) -> std::io::Result<()> {
    let mut last = None;
    for event in events {
        if last.replace(event.attempt) != Some(event.attempt)
            && let Some(attempt) = attempts.get(&event.attempt)
        {
            attempt.sync().await?;
        }
    }
    Ok(())
}

/// Whether the batch moved anything.
async fn send(worker: &Worker, attempts: &Attempts, batch: EventBatch) -> bool {
    match worker.connection.send_events(&batch).await {
        Ok(acknowledged) => {
            for (id, up_to) in &acknowledged.up_to {
                if let Some(attempt) = attempts.get(id)
                    && let Err(error) = attempt.acknowledge(*up_to)
                {
                    tracing::error!(attempt = %id, %error, "an acknowledgement was not kept");
                }
            }
            !acknowledged.up_to.is_empty()
        }
        Err(CallError::UnknownSession) => {
            worker.session.lost(batch.session);
            false
        }
        Err(error) if error.is_temporary() => {
            tracing::debug!(%error, causes = ?source_chain(&error), "events wait for the server");
            false
        }
        Err(error) => {
            tracing::error!(%error, causes = ?source_chain(&error), "the server refuses events");
            false
        }
    }
}

async fn upload(
    worker: Arc<Worker>,
    attempt: Arc<Attempt>,
    hash: BlobHash,
    uploads: Arc<Semaphore>,
) {
    let mut backoff = Backoff::default();
    let refused = loop {
        let permit = uploads.acquire().await.expect("the semaphore is never closed");
        match worker.connection.put_blob(hash, &worker.blobs).await {
            Ok(()) => break None,
            Err(error) if error.is_temporary() => {
                tracing::debug!(%hash, %error, "an output waits for the server");
                drop(permit);
                backoff.wait().await;
            }
            Err(error) => {
                let causes = source_chain(&error);
                tracing::error!(attempt = %attempt.id, %hash, %error, ?causes, "an output was refused");
                break Some(
                    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": "),
                );
            }
        }
    };
    attempt.end_upload(hash, refused);
}
