//! What the jobs service does by itself: waits for the disk, takes time in, writes
//! snapshots, registers outputs. All tasks belong to the service and end with it.

use std::sync::Arc;
use std::time::Duration;

use corral_journal::SequenceNumber;
use corral_types::{ErrorKind, Failure, JobId, display_bytes};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::completion::{CompletionError, FinishedWork};
use crate::error::JobsError;
use crate::event::{Chapter, StoryEntry};
use crate::job::{FailureReason, JobFailure, Phase};
use crate::metric;
use crate::outcome::MAX_RESULT_BYTES;
use crate::request::json_bytes;
use crate::service::{Kept, Shared, Unkept, locked};

/// How many jobs' outputs are registered at the same time: it is mostly waiting for disks.
const MAX_COMPLETIONS_AT_ONCE: usize = 8;
/// The first pause before registering is tried again; it doubles …
const COMPLETION_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const MAX_COMPLETION_PAUSE: Duration = Duration::from_secs(60);
/// How many calls' records are waited for at once.
const UNKEPT_AT_ONCE: usize = 256;

/// Starts all tasks. `done` are the jobs whose work was done when the service started.
pub(crate) fn spawn_all(
    shared: &Arc<Shared>,
    unkept: mpsc::Receiver<Unkept>,
    done: Vec<JobId>,
) -> JoinSet<()> {
    let (complete, jobs_to_complete) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(keep(Arc::clone(shared), unkept, complete));
    tasks.spawn(tick(Arc::clone(shared)));
    tasks.spawn(complete_jobs(Arc::clone(shared), done, jobs_to_complete));
    tasks
}

/// Waits for the disk, adds to the stories, lets everyone know, in this order. Goes on
/// until nothing can come any more, also while the service stops.
async fn keep(
    shared: Arc<Shared>,
    mut unkept: mpsc::Receiver<Unkept>,
    complete: mpsc::UnboundedSender<JobId>,
) {
    let mut stopping = shared.stopping.subscribe();
    let mut closed = false;
    let mut calls = Vec::with_capacity(UNKEPT_AT_ONCE);
    loop {
        tokio::select! {
            biased;
            received = unkept.recv_many(&mut calls, UNKEPT_AT_ONCE) => if received == 0 { return },
            _ = stopping.wait_for(|stopping| *stopping), if !closed => {
                // No call is taken any more; those that were, are kept.
                unkept.close();
                closed = true;
                continue;
            }
        }
        let mut story = Vec::new();
        let mut finished = Vec::new();
        let mut last = 0;
        for call in calls.drain(..) {
            for pending in call.pending {
                if let Err(error) = pending.await {
                    shared.fail(&error);
                    return;
                }
            }
            last = call.last;
            story.extend(call.story);
            finished.extend(call.complete);
        }
        let changed: Vec<JobId> = story.iter().map(|entry| entry.job).collect();
        write_story(&shared, story).await;
        shared.kept.send_modify(|kept| kept.up_to = kept.up_to.max(last));
        tell_followers(&shared, &changed);
        for job in finished {
            // Nobody listens only while the service stops; the next start asks again.
            let _ = complete.send(job);
        }
    }
}

async fn write_story(shared: &Arc<Shared>, story: Vec<StoryEntry>) {
    if story.is_empty() {
        return;
    }
    let writer = Arc::clone(&shared.story_writer);
    let removed: Vec<JobId> = story
        .iter()
        .filter(|entry| entry.chapter == Chapter::Removed)
        .map(|entry| entry.job)
        .collect();
    let written = tokio::task::spawn_blocking(move || locked(&writer).append(&story)).await;
    for job in removed {
        locked(&shared.followers).remove(&job);
    }
    match written {
        Ok(Ok(())) => {}
        // The journal has them; the next start writes what is missing.
        Ok(Err(error)) => {
            tracing::error!(
                error = %Failure::from(JobsError::Story(error)).causes.join(": "),
                "log lines and events of jobs could not be written and are missing for now"
            );
        }
        Err(error) => tracing::error!(%error, "writing the stories of jobs failed"),
    }
}

fn tell_followers(shared: &Shared, changed: &[JobId]) {
    let mut followers = locked(&shared.followers);
    for job in changed {
        if let Some(sender) = followers.get(job) {
            if sender.receiver_count() == 0 {
                followers.remove(job);
            } else {
                sender.send_modify(|version| *version += 1);
            }
        }
    }
}

/// Takes time in, and now and then a snapshot.
async fn tick(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    let mut interval = tokio::time::interval(shared.options.tick);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = interval.tick() => {}
        }
        let ticked = shared
            .with_engine(|engine, now| {
                engine.tick(now);
                metric::gauge_all(engine);
            })
            .await;
        match ticked {
            Ok(_) => {}
            Err(error) => {
                if !matches!(error, JobsError::Stopping) {
                    let error = Failure::from(error);
                    tracing::error!(%error, causes = ?error.causes, "jobs are at a standstill");
                }
                return;
            }
        }
        if let Err(error) = snapshot_if_due(&shared).await {
            let error = Failure::from(error);
            tracing::error!(%error, causes = ?error.causes, "no snapshot of the jobs was written");
        }
    }
}

async fn snapshot_if_due(shared: &Arc<Shared>) -> Result<(), JobsError> {
    let (state, covers) = {
        let mut at_work = shared.engine.lock().await;
        if at_work.bytes_since_snapshot < shared.options.snapshot_after_bytes {
            return Ok(());
        }
        at_work.bytes_since_snapshot = 0;
        (at_work.engine.core().state(), at_work.last_enqueued)
    };
    let mut kept = shared.kept.subscribe();
    let reached = kept.wait_for(|kept: &Kept| kept.up_to >= covers || kept.failed.is_some()).await;
    if reached.is_ok_and(|kept| kept.up_to < covers) {
        return Ok(());
    }
    let shared = Arc::clone(shared);
    let written = tokio::task::spawn_blocking(move || {
        // The records that could write the stories again are about to go.
        shared.stories.sync()?;
        crate::recovery::write_snapshot(&shared.journal, SequenceNumber::new(covers), &state)
    });
    written.await.unwrap_or_else(|error| {
        tracing::error!(%error, "writing a snapshot of the jobs failed");
        Ok(())
    })
}

/// Registers the outputs of jobs whose work is done and on disk.
async fn complete_jobs(
    shared: Arc<Shared>,
    done: Vec<JobId>,
    mut jobs: mpsc::UnboundedReceiver<JobId>,
) {
    let mut stopping = shared.stopping.subscribe();
    let permits = Arc::new(Semaphore::new(MAX_COMPLETIONS_AT_ONCE));
    let mut running = JoinSet::new();
    for job in done {
        running.spawn(complete(Arc::clone(&shared), job, Arc::clone(&permits)));
    }
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(job) = jobs.recv() => {
                running.spawn(complete(Arc::clone(&shared), job, Arc::clone(&permits)));
            }
            Some(_) = running.join_next() => {}
        }
    }
    // What is under way may be cut off: it is called again at the next start.
    running.shutdown().await;
}

async fn complete(shared: Arc<Shared>, job: JobId, permits: Arc<Semaphore>) {
    let mut pause = COMPLETION_PAUSE;
    loop {
        let Some(work) = finished_work(&shared, job).await else { return };
        let outcome = {
            let Ok(_permit) = permits.acquire().await else { return };
            shared.ports.completion.complete(work).await
        };
        let taken = match outcome {
            Ok(result) if json_bytes(&result) > MAX_RESULT_BYTES => {
                let (found, most) = (json_bytes(&result) as u64, MAX_RESULT_BYTES as u64);
                let message = format!(
                    "the registered result has {}; a result has at most {}",
                    display_bytes(found),
                    display_bytes(most)
                );
                refuse(&shared, job, Failure::new(ErrorKind::TooLarge, message)).await
            }
            Ok(result) => shared.completed(job, result).await,
            Err(CompletionError::Never(failure)) => refuse(&shared, job, failure).await,
            Err(CompletionError::Later(failure)) => {
                tracing::warn!(%job, %failure, causes = ?failure.causes, "a job's outputs are not registered yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_COMPLETION_PAUSE);
                continue;
            }
        };
        if let Err(error) = taken
            && !matches!(error, JobsError::Stopping)
        {
            let error = Failure::from(error);
            tracing::error!(%job, %error, causes = ?error.causes, "a job's end was not kept");
        }
        return;
    }
}

async fn finished_work(shared: &Shared, job: JobId) -> Option<FinishedWork> {
    let at_work = shared.engine.lock().await;
    let job = at_work.engine.core().job(job)?;
    match &job.phase {
        Phase::Completing { result, outputs, .. } => Some(FinishedWork::of(job, result, outputs)),
        _ => None,
    }
}

async fn refuse(shared: &Shared, job: JobId, failure: Failure) -> Result<(), JobsError> {
    let failure = JobFailure {
        reason: FailureReason::Completion,
        message: failure.message,
        causes: failure.causes,
        hint: failure.hint,
    };
    let (_, kept) =
        shared.with_engine(|engine, now| engine.completion_refused(now, job, failure)).await?;
    shared.until_kept(kept).await
}
