//! The worker's conversation with its server: hello, then polls for commands, and hello
//! again whenever either side has started anew.

use std::sync::Arc;
use std::time::Duration;

use corral_types::{AttemptId, MIB, source_chain};
use corral_worker_api::{Command, Hello, Numbered, PROTOCOL_VERSION, Poll, Usage};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::attempt::Order;
use crate::backoff::Backoff;
use crate::connection::CallError;
use crate::machine;
use crate::running::run_attempt;
use crate::tasks;
use crate::{Worker, WorkerError};

/// How often the worker looks whether what it last told of its memory still holds. A poll
/// may wait for long, and whoever places tasks needs to know of pressure before that.
const USAGE_CHECK_EVERY: Duration = Duration::from_millis(500);

/// A change of free memory worth telling at once.
const USAGE_CHANGE_BYTES: u64 = 128 * MIB;

/// The session in use, shared by those who need its number.
pub struct Session(watch::Sender<Option<u64>>);

impl Default for Session {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Session {
    /// The session's number; waits until there is a session.
    pub async fn current(&self) -> u64 {
        let mut watching = self.0.subscribe();
        let session = watching.wait_for(Option::is_some).await.map(|session| *session);
        session.ok().flatten().expect("the sender is self, and it was waited for")
    }

    /// The server does not know this session any more.
    pub fn lost(&self, session: u64) {
        self.0.send_if_modified(|current| {
            let is_current = *current == Some(session);
            if is_current {
                *current = None;
            }
            is_current
        });
    }

    async fn until_lost(&self) {
        let mut watching = self.0.subscribe();
        // The sender is self, so the channel does not close.
        let _ = watching.wait_for(Option::is_none).await;
    }
}

/// Talks to the server for ever; returns only when it refuses this worker for good.
/// The attempts it starts run in `running`.
pub async fn converse(worker: &Arc<Worker>, running: &mut JoinSet<()>) -> WorkerError {
    let mut backoff = Backoff::default();
    let mut was_welcome = false;
    loop {
        match hello(worker).await {
            Ok(session) => {
                was_welcome = true;
                backoff.reset();
                poll_until_lost(worker, session, running).await;
            }
            Err(CallError::Refused { status, message }) if !was_welcome => {
                return WorkerError::Refused { status, message };
            }
            Err(error) => {
                let causes = source_chain(&error);
                if backoff.is_long() {
                    tracing::warn!(%error, ?causes, "the server cannot be reached");
                } else if backoff.is_fresh() {
                    // As when both are just starting.
                    tracing::info!(%error, ?causes, "the server is not there yet");
                }
                backoff.wait().await;
            }
        }
    }
}

async fn hello(worker: &Arc<Worker>) -> Result<u64, CallError> {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        worker: worker.directory.worker,
        host_name: machine::host_name(),
        capacity: worker.capacity(),
        enforcement: worker.enforcer.kind(),
        attempts: worker.attempts().into_keys().collect(),
        tasks: worker.tasks.present(),
    };
    let welcome = worker.connection.hello(&hello).await?;
    worker.attempts().values().for_each(|attempt| attempt.forget_uploads());
    for attempt in welcome.forget {
        forget(worker, attempt).await;
    }
    tracing::info!(session = welcome.session, attempts = hello.attempts.len(), "joined the server");
    worker.session.0.send_replace(Some(welcome.session));
    Ok(welcome.session)
}

async fn poll_until_lost(worker: &Arc<Worker>, session: u64, running: &mut JoinSet<()>) {
    let mut acknowledged = 0;
    let mut backoff = Backoff::default();
    loop {
        // Ended attempts have nothing more to say.
        while running.try_join_next().is_some() {}
        let usage = worker.usage();
        let told_free_bytes = usage.free_memory_bytes;
        let poll = Poll { worker: worker.directory.worker, session, acknowledged, usage };
        let answer = tokio::select! {
            answer = worker.connection.poll(&poll) => answer,
            // A command in an answer that is not waited for comes again with the next poll.
            () = usage_changed(worker, told_free_bytes) => continue,
            () = worker.session.until_lost() => return,
        };
        match answer {
            Ok(commands) => {
                backoff.reset();
                for Numbered { number, command } in commands.commands {
                    if number > acknowledged {
                        obey(worker, command, running).await;
                        acknowledged = number;
                    }
                }
            }
            Err(CallError::UnknownSession) => {
                worker.session.lost(session);
                return;
            }
            Err(error) => {
                tracing::debug!(%error, causes = ?source_chain(&error), "a poll failed");
                backoff.wait().await;
            }
        }
    }
}

async fn usage_changed(worker: &Worker, told_free_bytes: u64) {
    loop {
        tokio::time::sleep(USAGE_CHECK_EVERY).await;
        let free_bytes = machine::free_memory_bytes(&worker.mounts);
        if free_bytes.abs_diff(told_free_bytes) > USAGE_CHANGE_BYTES {
            return;
        }
    }
}

async fn obey(worker: &Arc<Worker>, command: Command, running: &mut JoinSet<()>) {
    match command {
        Command::Start(start) => match worker.begin_attempt(start.attempt).await {
            Ok(Some((attempt, orders))) => {
                running.spawn(run_attempt(worker.clone(), attempt, *start, orders));
            }
            // It was started before, and the command has come twice.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(attempt = %start.attempt, %error, "an attempt has no place on disk");
                // In the next hello it is missing, so it will be tried elsewhere.
                worker.session.0.send_replace(None);
            }
        },
        Command::Stop { attempt, reason } => order(worker, attempt, Order::Stop(reason)),
        Command::SetLimits { attempt, limits } => {
            order(worker, attempt, Order::SetLimits(limits));
        }
        Command::Forget { attempt } => forget(worker, attempt).await,
        Command::StartTask { task, work, limits } => {
            tasks::begin(worker, task, work, limits, running);
        }
        Command::StopTask { task, reason } => worker.tasks.stop(task, reason),
    }
}

fn order(worker: &Worker, id: AttemptId, order: Order) {
    // One that has ended has said so, or is about to.
    if let Some(attempt) = worker.attempts().get(&id) {
        attempt.order(order);
    }
}

/// Lets go of an attempt: kills it where it runs, and removes its files.
async fn forget(worker: &Arc<Worker>, id: AttemptId) {
    let Some(attempt) = worker.attempts().remove(&id) else { return };
    if !attempt.order(Order::Abandon) {
        let worker = worker.clone();
        let removed = tokio::task::spawn_blocking(move || worker.remove_attempt(&attempt));
        removed.await.expect("removing files does not panic");
    }
}

impl Worker {
    fn usage(&self) -> Usage {
        Usage {
            free_memory_bytes: machine::free_memory_bytes(&self.mounts),
            free_disk_bytes: machine::free_disk_bytes(self.directory.path()),
            attempts: self.sampler.usage(),
            tasks: self.tasks.usage(),
        }
    }
}
