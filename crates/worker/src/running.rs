//! The life of one attempt on this worker: its inputs come, its process runs, its end is told.

use std::sync::Arc;
use std::time::Duration;

use corral_types::{BlobHash, Timestamp};
use corral_worker_api::{Accounting, Event, Limits, Outcome, Start, StopReason};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::Worker;
use crate::attempt::{Attempt, Order};
use crate::backoff::Backoff;
use crate::enforcement::Hold;
use crate::job::{FromJob, JobFailure, JobOutput, ToJob};
use crate::launcher::ProcessEvent;
use crate::outcome::{Decision, Ending, decide, failed};
use crate::prepare::{keep_checkpoint, keep_outputs, prepare};
use crate::process::JobProcess;
use crate::sampler::Watched;

/// How long a process has to end by itself when it is told to stop: a cancel shall be over
/// within a second.
pub const STOP_GRACE: Duration = Duration::from_millis(700);

/// How long a process has to exit after its handler's last word.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How often progress is passed on: five times a second is as much as a person can follow.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Runs the attempt to its end and tells it.
pub async fn run_attempt(
    worker: Arc<Worker>,
    attempt: Arc<Attempt>,
    start: Start,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let end = live(&worker, &attempt, start, &mut orders).await;
    attempt.close();
    worker.sampler.forget(attempt.id);
    match end {
        End::Tell(outcome, accounting) => tell_end(&attempt, outcome, accounting).await,
        End::WorkerEnds => tell_end(&attempt, Outcome::Lost, Accounting::default()).await,
        End::Abandoned => worker.remove_attempt(&attempt),
        // The next start of this worker tells the server.
        End::LauncherGone => return,
    }
    let refill = worker.clone();
    let tidy = tokio::task::spawn_blocking(move || {
        attempt.remove_work_files();
        refill.enforcer.refill();
    });
    // Nothing depends on it but the disk space.
    let _ = tidy.await;
}

enum End {
    Tell(Outcome, Accounting),
    Abandoned,
    WorkerEnds,
    LauncherGone,
}

/// Records the last event, however long the disk takes to have room for it.
async fn tell_end(attempt: &Arc<Attempt>, outcome: Outcome, accounting: Accounting) {
    let mut backoff = Backoff::default();
    let event = Event::Ended { outcome, accounting };
    while let Err(error) = attempt.record_essential(event.clone()) {
        tracing::error!(attempt = %attempt.id, %error, "the end of an attempt waits for the disk");
        // What fills the disk may be the job's own.
        let full = attempt.clone();
        let _ = tokio::task::spawn_blocking(move || full.remove_work_files()).await;
        backoff.wait().await;
    }
    if let Err(error) = attempt.sync().await {
        // It is synced again before it is sent.
        tracing::warn!(attempt = %attempt.id, %error, "the end of an attempt is not synced yet");
    }
}

async fn live(
    worker: &Arc<Worker>,
    attempt: &Arc<Attempt>,
    start: Start,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> End {
    let mut limits = start.limits;
    let deadline = start
        .deadline
        .map(|deadline| Instant::now() + deadline.since(Timestamp::now()).min(FARTHEST_DEADLINE));
    let unstarted = |outcome| End::Tell(outcome, Accounting::default());
    let prepared = tokio::select! {
        prepared = prepare(worker, attempt, start) => prepared,
        interrupted = interruption(orders, &mut limits, deadline) => match interrupted {
            Order::Stop(reason) => return unstarted(Outcome::Stopped { reason }),
            Order::WorkerEnds => return End::WorkerEnds,
            Order::Abandon | Order::SetLimits(_) => return End::Abandoned,
        },
    };
    if let Err(failure) = prepared {
        return unstarted(failed(failure));
    }
    let preparing = worker.clone();
    let hold = tokio::task::spawn_blocking(move || preparing.enforcer.prepare(&limits)).await;
    let hold = hold.unwrap_or_else(|panicked| Err(panicked.into()));
    let started = hold.and_then(|hold| {
        JobProcess::start(worker, attempt, &limits, &hold).map(|process| (hold, process))
    });
    let (hold, process) = match started {
        Ok(started) => started,
        Err(_) if worker.launcher.gone().is_cancelled() => return End::LauncherGone,
        Err(error) => return unstarted(not_started(&error.to_string())),
    };
    let running = Running {
        worker: worker.clone(),
        attempt: attempt.clone(),
        process,
        hold: hold.clone(),
        limits,
        deadline,
        watched: None,
        started: Instant::now(),
        progress: None,
        checkpoint: None,
        answer: None,
        stopped: None,
        exceeded_memory: false,
        kill_at: None,
    };
    let end = running.run(orders).await;
    // Removing a group waits for the kernel.
    let _ = tokio::task::spawn_blocking(move || drop(hold)).await;
    end
}

/// The clock of the runtime counts in milliseconds from the start of the machine; a deadline
/// beyond this would overflow it.
const FARTHEST_DEADLINE: Duration = Duration::from_secs(10 * 365 * 86_400);

fn not_started(error: &str) -> Outcome {
    let message = "the job's process could not be started";
    failed(JobFailure { causes: vec![error.to_owned()], ..JobFailure::retryable(message) })
}

/// Waits for a reason not to start after all.
async fn interruption(
    orders: &mut mpsc::UnboundedReceiver<Order>,
    limits: &mut Limits,
    deadline: Option<Instant>,
) -> Order {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::SetLimits(new)) => *limits = new,
                Some(order) => return order,
                None => return Order::WorkerEnds,
            },
            () = at(deadline) => return Order::Stop(StopReason::TimeLimit),
        }
    }
}

/// Waits until then; for ever when there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

type KeepingCheckpoint = tokio::task::JoinHandle<Result<BlobHash, JobFailure>>;

struct Running {
    worker: Arc<Worker>,
    attempt: Arc<Attempt>,
    process: JobProcess,
    hold: Hold,
    limits: Limits,
    deadline: Option<Instant>,
    /// None until the process has started.
    watched: Option<Arc<Watched>>,
    started: Instant,
    /// The newest progress that was not passed on yet.
    progress: Option<Event>,
    checkpoint: Option<KeepingCheckpoint>,
    answer: Option<Result<JobOutput, JobFailure>>,
    stopped: Option<StopReason>,
    exceeded_memory: bool,
    kill_at: Option<Instant>,
}

impl Running {
    async fn run(mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> End {
        let mut progress_ticks = tokio::time::interval(PROGRESS_EVERY);
        // Ticks that a busy machine missed are not made up for in a burst.
        progress_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut channel_open = true;
        let mut let_go: Option<End> = None;
        loop {
            tokio::select! {
                event = self.process.handle.next() => match event {
                    Some(ProcessEvent::Started { process_id }) => self.note_started(process_id),
                    Some(ProcessEvent::NotStarted { error }) => {
                        return let_go.unwrap_or(End::Tell(not_started(&error), Accounting::default()));
                    }
                    Some(ProcessEvent::Exited { exit_code, signal, cpu_ms }) => {
                        self.finish_talk().await;
                        return match let_go {
                            Some(end) => end,
                            None => self.end(exit_code, signal, cpu_ms).await,
                        };
                    }
                    None => return End::LauncherGone,
                },
                message = self.process.messages.recv(), if channel_open => match message {
                    Some(message) => self.hear(message),
                    None => channel_open = false,
                },
                order = orders.recv() => match order {
                    Some(Order::Stop(reason)) => self.stop(reason),
                    Some(Order::SetLimits(limits)) => self.set_limits(limits),
                    Some(Order::Abandon) => {
                        self.process.handle.kill();
                        let_go = Some(End::Abandoned);
                    }
                    Some(Order::WorkerEnds) | None => {
                        self.process.tell(&ToJob::WorkerEnds);
                        self.kill_at = Some(Instant::now() + STOP_GRACE);
                        let_go.get_or_insert(End::WorkerEnds);
                    }
                },
                () = exceeded(self.watched.as_deref()), if !self.exceeded_memory => {
                    self.exceeded_memory = true;
                    self.process.handle.kill();
                }
                () = at(self.deadline) => {
                    self.deadline = None;
                    self.stop(StopReason::TimeLimit);
                }
                () = at(self.kill_at) => {
                    self.kill_at = None;
                    self.process.handle.kill();
                }
                _ = progress_ticks.tick(), if self.progress.is_some() => self.pass_on_progress(),
                kept = kept(&mut self.checkpoint) => self.answer_checkpoint(kept).await,
            }
        }
    }

    fn note_started(&mut self, process_id: u32) {
        self.started = Instant::now();
        self.attempt.record([Event::Started { process_id }]);
        self.process.begin_reading(&self.attempt);
        let watched = Arc::new(Watched::new(
            self.attempt.id,
            process_id,
            self.attempt.directory.clone(),
            self.hold.group.clone(),
            self.limits.memory_limit_bytes,
        ));
        self.worker.sampler.watch(watched.clone());
        self.watched = Some(watched);
    }

    fn hear(&mut self, message: FromJob) {
        match message {
            FromJob::Progress { fraction, message, detail } => {
                self.progress = Some(Event::Progress { fraction, message, detail });
            }
            FromJob::Checkpoint { file } => {
                let (worker, attempt) = (self.worker.clone(), self.attempt.clone());
                // The job waits for the answer, so there is never a second one.
                self.checkpoint =
                    Some(tokio::spawn(
                        async move { keep_checkpoint(&worker, &attempt, &file).await },
                    ));
            }
            FromJob::Succeeded(output) => self.take_answer(Ok(output)),
            FromJob::Failed(failure) => self.take_answer(Err(failure)),
        }
    }

    fn take_answer(&mut self, answer: Result<JobOutput, JobFailure>) {
        if self.answer.is_none() {
            self.answer = Some(answer);
            if let Some(watched) = &self.watched {
                // A job that is over in a moment was measured at its start only.
                watched.measure();
            }
            self.kill_at.get_or_insert(Instant::now() + EXIT_GRACE);
        }
    }

    fn pass_on_progress(&mut self) {
        self.attempt.record(self.progress.take());
    }

    async fn answer_checkpoint(&mut self, kept: Result<BlobHash, JobFailure>) {
        self.checkpoint = None;
        self.pass_on_progress();
        let safe = match kept {
            Ok(blob) => match self.attempt.record_essential(Event::Checkpoint { blob }) {
                Ok(()) => self.attempt.sync().await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            Err(failure) => Err(failure.message),
        };
        self.process.tell(&ToJob::CheckpointKept { refused: safe.err() });
        // A job of many hours keeps many; those that were replaced may go.
        let worker = self.worker.clone();
        tokio::task::spawn_blocking(move || worker.trim_cache());
    }

    fn stop(&mut self, reason: StopReason) {
        match reason {
            StopReason::MemoryPressure => self.process.handle.kill(),
            StopReason::Cancelled | StopReason::TimeLimit => {
                let grace = Instant::now() + STOP_GRACE;
                self.kill_at = Some(self.kill_at.map_or(grace, |earlier| earlier.min(grace)));
            }
            // The job decides how long it takes to put together what it has.
            StopReason::FinishNow => {}
        }
        self.process.tell(&ToJob::Stop { reason });
        // What came after the last word changes nothing; a firm stop outranks a soft one.
        let outranks = matches!(self.stopped, None | Some(StopReason::FinishNow));
        if self.answer.is_none() && outranks {
            self.stopped = Some(reason);
        }
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        if let Some(watched) = &self.watched {
            watched.set_memory_limit(limits.memory_limit_bytes);
        }
        self.process.tell(&ToJob::Limits { limits });
        let (attempt, hold) = (self.attempt.clone(), self.hold.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = hold.set_limits(&limits) {
                attempt.record_system_line(format!("the new memory limit was not taken: {error}"));
            }
        });
    }

    /// Takes in what the process said before it ended.
    async fn finish_talk(&mut self) {
        let last = self.process.drain().await;
        last.into_iter().for_each(|message| self.hear(message));
        if let Some(keeping) = self.checkpoint.take() {
            let kept =
                keeping.await.unwrap_or_else(|panicked| Err(JobFailure::from_error(&panicked)));
            self.answer_checkpoint(kept).await;
        }
        self.pass_on_progress();
    }

    async fn end(&mut self, exit_code: Option<i32>, signal: Option<i32>, cpu_ms: u64) -> End {
        let group = self.hold.group.as_ref();
        let killed_in_group = group.is_some_and(|group| group.kills() > 0);
        let measured = self.watched.as_ref().map_or(0, |watched| watched.peak_bytes());
        // The kernel stopped it at the limit, between two measurements.
        let peak_bytes = match group {
            Some(group) if killed_in_group => measured.max(group.peak_bytes()),
            _ => measured,
        };
        let accounting = Accounting {
            wall_ms: self.started.elapsed().as_millis() as u64,
            cpu_ms,
            peak_memory_bytes: peak_bytes,
        };
        let decision = decide(Ending {
            limits: self.limits,
            exceeded_memory: (self.exceeded_memory || killed_in_group) && self.answer.is_none(),
            answer: self.answer.take(),
            stopped: self.stopped,
            failed_allocation_bytes: self.process.failed_allocation_bytes(),
            peak_bytes,
            exit_code,
            signal,
        });
        let outcome = match decision {
            Decision::Other(outcome) => outcome,
            Decision::Succeeded(output) => {
                match keep_outputs(&self.worker, &self.attempt, &output).await {
                    Ok(outputs) => Outcome::Succeeded { result: output.result, outputs },
                    Err(failure) => failed(failure),
                }
            }
        };
        End::Tell(outcome, accounting)
    }
}

async fn exceeded(watched: Option<&Watched>) {
    match watched {
        Some(watched) => watched.exceeded().cancelled().await,
        None => std::future::pending().await,
    }
}

async fn kept(checkpoint: &mut Option<KeepingCheckpoint>) -> Result<BlobHash, JobFailure> {
    match checkpoint {
        Some(keeping) => {
            keeping.await.unwrap_or_else(|panicked| Err(JobFailure::from_error(&panicked)))
        }
        None => std::future::pending().await,
    }
}
