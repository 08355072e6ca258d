//! What the functions service does by itself: waits for the disk, takes time in, writes
//! snapshots. All tasks belong to the service and end with it.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use corral_journal::{SequenceNumber, SnapshotWriter};
use corral_types::Failure;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{FunctionsError, SnapshotError};
use crate::metric;
use crate::service::{Shared, Unkept};
use crate::snapshot::SnapshotWalk;

/// How many ticks there are between two looks at who does not wait any more.
const TICKS_PER_FORGETTING: u64 = 300;
/// How many ticks there are between two looks at what is gauged.
const TICKS_PER_GAUGING: u64 = 10;
/// How many bytes of pieces are handed to the disk at once.
const SNAPSHOT_WRITE_BYTES: usize = 4 << 20;

pub(crate) fn spawn_all(
    shared: &Arc<Shared>,
    unkept: mpsc::UnboundedReceiver<Unkept>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(keep(Arc::clone(shared), unkept));
    tasks.spawn(tick(Arc::clone(shared)));
    tasks.spawn(write_snapshots(Arc::clone(shared)));
    tasks
}

/// Waits for the disk, then lets everyone know. Goes on until nothing can come any more, also
/// while the service stops.
async fn keep(shared: Arc<Shared>, mut unkept: mpsc::UnboundedReceiver<Unkept>) {
    let mut stopping = shared.stopping.subscribe();
    let mut closed = false;
    loop {
        let call = tokio::select! {
            biased;
            call = unkept.recv() => call,
            _ = stopping.wait_for(|stopping| *stopping), if !closed => {
                // No call is taken any more; those that were, are kept.
                unkept.close();
                closed = true;
                continue;
            }
        };
        let Some(call) = call else { return };
        for pending in call.pending {
            if let Err(error) = pending.await {
                shared.fail(&error);
                return;
            }
        }
        shared.wake(&call.changed_calls);
        // Who asked may have gone away.
        let _ = call.told.send(());
    }
}

/// Takes time in: when something is due, and regularly.
async fn tick(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    let mut failed = shared.failed.subscribe();
    for ticks in 0u64.. {
        let pause = {
            let mut at_work = shared.at_work.lock().await;
            let now = shared.ports.clock.now();
            let regular = now.plus(shared.options.tick);
            let due = at_work.engine.next_due().unwrap_or(regular).min(regular);
            at_work.planned = due;
            // A millisecond at least, since time is measured in these.
            due.since(now).max(Duration::from_millis(1))
        };
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = failed.wait_for(Option::is_some) => return,
            () = tokio::time::sleep(pause) => {}
            () = shared.sooner.notified() => continue,
        }
        let ticked = shared
            .decide(|engine, now| {
                engine.tick(now);
                if ticks.is_multiple_of(TICKS_PER_GAUGING) {
                    metric::gauge_all(engine);
                }
            })
            .await;
        let ticked = match ticked {
            Ok(_) => shared.write_gathered().await,
            Err(error) => Err(error),
        };
        if let Err(error) = ticked {
            if !matches!(error, FunctionsError::Stopping) {
                let error = Failure::from(error);
                tracing::error!(%error, causes = ?error.causes, "functions are at a standstill");
            }
            return;
        }
        if ticks.is_multiple_of(TICKS_PER_FORGETTING) {
            shared.forget_gone();
        }
    }
}

/// Replaces records by the state that they led to, each time there are enough of them.
async fn write_snapshots(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    let mut interval = tokio::time::interval(shared.options.tick);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = interval.tick() => {}
        }
        if shared.failed.borrow().is_some() {
            return;
        }
        let is_due = {
            let mut at_work = shared.at_work.lock().await;
            let is_due = at_work.bytes_since_snapshot >= shared.options.snapshot_after_bytes;
            if is_due {
                at_work.bytes_since_snapshot = 0;
            }
            is_due
        };
        if is_due && let Err(error) = write_snapshot(&shared).await {
            let error = Failure::from(error);
            tracing::error!(%error, causes = ?error.causes, "no snapshot of functions was written");
        }
    }
}

async fn write_snapshot(shared: &Arc<Shared>) -> Result<(), FunctionsError> {
    let (mut pieces, mut walk, covers) = {
        let mut at_work = shared.at_work.lock().await;
        // The snapshot covers what is in the journal's queue, and waits for it at its end.
        let _ = shared.enqueue(&mut at_work).await?;
        let (pieces, walk) = SnapshotWalk::begin(&at_work.engine.core);
        (pieces, walk, at_work.last_enqueued)
    };
    let mut writer = shared.journal.begin_snapshot(SequenceNumber::new(covers))?;
    loop {
        let mut bytes: usize = pieces.iter().map(Vec::len).sum();
        let mut is_whole = false;
        while bytes < SNAPSHOT_WRITE_BYTES && !is_whole {
            // A lock for each piece: others take their turns in between.
            let at_work = shared.at_work.lock().await;
            match walk.next_piece(&at_work.engine.core) {
                Some(piece) => {
                    bytes += piece.len();
                    pieces.push(piece);
                }
                None => is_whole = true,
            }
        }
        let full = std::mem::take(&mut pieces);
        writer = blocking(move || put(writer, &full)).await?;
        if is_whole {
            break;
        }
        if *shared.stopping.borrow() {
            return Ok(());
        }
    }
    // Pieces tell of records that nobody waited for; those must be on disk before it counts.
    let kept = {
        let mut at_work = shared.at_work.lock().await;
        shared.enqueue(&mut at_work).await?
    };
    shared.until_kept(kept).await?;
    blocking(move || Ok(writer.install()?)).await
}

fn put(mut writer: SnapshotWriter, pieces: &[Vec<u8>]) -> Result<SnapshotWriter, FunctionsError> {
    for piece in pieces {
        let length = u32::try_from(piece.len()).expect("a piece is far below 4 GiB");
        writer
            .write_all(&length.to_le_bytes())
            .and_then(|()| writer.write_all(piece))
            .map_err(|error| FunctionsError::Snapshot(SnapshotError::Write(error)))?;
    }
    Ok(writer)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FunctionsError> + Send + 'static,
) -> Result<T, FunctionsError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(FunctionsError::Stopping),
    }
}
