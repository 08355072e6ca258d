//! From a record to the next state.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use corral_types::{AttemptId, JobId, Timestamp};
use corral_worker_api::{Accounting, Event, Outcome};
use serde::{Deserialize, Serialize};

use crate::core::{JobsCore, JobsPolicy, KnownWorker};
use crate::event::{Chapter, JobEvent, JobEventKind, LogLine, StoryEntry};
use crate::job::{Attempt, Ending, Job, PastAttempt, Phase, Progress, StopWanted};
use crate::outcome::in_a_sentence;
use crate::record::{Next, Record, RecordError, Told, decode, encode};

/// The story as a record continues it.
#[derive(Debug, Default)]
struct Story(Vec<StoryEntry>);

impl Story {
    fn event(&mut self, job: &mut Job, at: Timestamp, kind: JobEventKind) {
        job.events += 1;
        let event = JobEvent { id: job.events, at, kind };
        self.0.push(StoryEntry { job: job.id, chapter: Chapter::Event(event) });
    }

    fn end(&mut self, job: &mut Job, at: Timestamp, ending: Ending) {
        let failure = match &ending {
            Ending::Failed { failure } => Some(failure.clone()),
            _ => None,
        };
        job.phase = Phase::Ended { at, ending };
        job.stop = None;
        let state = job.state();
        self.event(job, at, JobEventKind::Ended { state, failure });
    }
}

impl JobsCore {
    /// Makes the change that a record tells of; the same records give the same state.
    /// Returns what it adds to the story of its job. A record about something that is not
    /// there changes nothing.
    pub fn apply(&mut self, record: &Record) -> Vec<StoryEntry> {
        let mut story = Story::default();
        match record {
            Record::Submitted { job, workspace, at, request } => {
                let submitted = Job {
                    id: *job,
                    workspace: *workspace,
                    request: (**request).clone(),
                    submitted_at: *at,
                    phase: Phase::Queued { since: *at },
                    attempt: None,
                    past: Vec::new(),
                    first_started_at: None,
                    checkpoint: None,
                    progress: None,
                    stop: None,
                    finish_now: false,
                    accounting: Accounting::default(),
                    events: 0,
                    log_lines: 0,
                };
                self.enter(submitted);
                self.change(*job, |job| story.event(job, *at, JobEventKind::Submitted));
            }
            Record::Assigned { job: id, attempt, worker, limits, at, .. } => {
                self.attempts.insert(*attempt, *id);
                self.change(*id, |job| {
                    let ordinal = job.past.len() as u32 + 1;
                    job.phase = Phase::Starting;
                    job.attempt = Some(Attempt {
                        id: *attempt,
                        ordinal,
                        worker: *worker,
                        limits: *limits,
                        assigned_at: *at,
                        started_at: None,
                        last_event: 0,
                    });
                    let worker = *worker;
                    let kind = JobEventKind::Assigned { attempt: *attempt, ordinal, worker };
                    story.event(job, *at, kind);
                });
            }
            Record::Told { job, attempt, up_to, at, events } => {
                self.change(*job, |job| {
                    for told in events {
                        take_told(&mut story, job, *attempt, *at, told);
                    }
                    if let Some(attempt) = &mut job.attempt {
                        attempt.last_event = *up_to;
                    }
                });
            }
            Record::AttemptEnded { job, attempt, number, at, outcome, accounting, next } => {
                self.attempts.remove(attempt);
                self.change(*job, |job| {
                    let retry_at = match next {
                        Next::Retry { at } => Some(*at),
                        Next::Complete | Next::End(_) => None,
                    };
                    end_attempt(job, *number, *at, in_a_sentence(outcome), *accounting);
                    let kind = JobEventKind::AttemptEnded {
                        attempt: *attempt,
                        outcome: in_a_sentence(outcome),
                        accounting: *accounting,
                        retry_at,
                    };
                    story.event(job, *at, kind);
                    match next {
                        Next::Retry { at } => job.phase = Phase::BackingOff { until: *at },
                        Next::End(ending) => story.end(job, *at, ending.clone()),
                        Next::Complete => {
                            if let Outcome::Succeeded { result, outputs } = outcome {
                                let (result, outputs) = (result.clone(), outputs.clone());
                                job.phase = Phase::Completing { since: *at, result, outputs };
                                story.event(job, *at, JobEventKind::Completing);
                            }
                        }
                    }
                    job.stop = None;
                });
            }
            Record::StopWanted { job, at, cause } => self.change(*job, |job| {
                job.stop = Some(StopWanted { since: *at, cause: *cause });
                story.event(job, *at, JobEventKind::StopWanted { cause: *cause });
            }),
            Record::FinishNowWanted { job, at } => self.change(*job, |job| {
                job.finish_now = true;
                story.event(job, *at, JobEventKind::FinishNowWanted);
            }),
            Record::Requeued { job, at } => self.change(*job, |job| {
                job.phase = Phase::Queued { since: *at };
                story.event(job, *at, JobEventKind::Requeued);
            }),
            Record::Ended { job: id, at, ending } => {
                if let Some(attempt) = self.jobs.get(id).and_then(|job| job.attempt.as_ref()) {
                    self.attempts.remove(&attempt.id);
                }
                self.change(*id, |job| {
                    let outcome = "did not stop in time".to_owned();
                    end_attempt(job, None, *at, outcome, Accounting::default());
                    story.end(job, *at, ending.clone());
                });
            }
            Record::Completed { job, at, result } => self.change(*job, |job| {
                if let Phase::Completing { outputs, .. } = &mut job.phase {
                    let outputs = std::mem::take(outputs);
                    story.end(job, *at, Ending::Succeeded { result: result.clone(), outputs });
                }
            }),
            Record::CompletionRefused { job, at, failure } => self.change(*job, |job| {
                story.end(job, *at, Ending::Failed { failure: failure.clone() });
            }),
            Record::Removed { job } => {
                self.leave(*job);
                story.0.push(StoryEntry { job: *job, chapter: Chapter::Removed });
            }
            Record::WorkerSeen { worker, at, host_name, capacity } => {
                let first_seen = self.workers.get(worker).map_or(*at, |known| known.first_seen);
                let (host_name, capacity) = (host_name.clone(), *capacity);
                self.workers.insert(*worker, KnownWorker { host_name, capacity, first_seen });
            }
            Record::WorkerForgotten { worker } => {
                self.workers.remove(worker);
            }
        }
        story.0
    }

    fn enter(&mut self, job: Job) {
        self.index(&job);
        self.jobs.insert(job.id, Arc::new(job));
    }

    fn leave(&mut self, id: JobId) {
        if let Some(job) = self.jobs.remove(&id) {
            self.unindex(&job);
            if let Some(attempt) = &job.attempt {
                self.attempts.remove(&attempt.id);
            }
        }
    }

    /// Changes a job; every index over it follows.
    fn change(&mut self, id: JobId, change: impl FnOnce(&mut Job)) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        self.unindex(&job);
        change(Arc::make_mut(&mut job));
        self.index(&job);
        self.jobs.insert(id, job);
    }

    fn index(&mut self, job: &Job) {
        self.by_workspace.insert((job.workspace, job.id));
        *self.counts.entry(job.state()).or_default() += 1;
        if let Some(at) = job.ended_at() {
            self.ended.insert((at, job.id));
        }
        if let Some(at) = self.next_time(job) {
            self.timers.insert((at, job.id));
        }
    }

    fn unindex(&mut self, job: &Job) {
        self.by_workspace.remove(&(job.workspace, job.id));
        if let Entry::Occupied(mut count) = self.counts.entry(job.state()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if let Some(at) = job.ended_at() {
            self.ended.remove(&(at, job.id));
        }
        if let Some(at) = self.next_time(job) {
            self.timers.remove(&(at, job.id));
        }
    }

    /// The whole state in pieces, for a snapshot; cheap, since jobs are shared.
    pub fn state(&self) -> CoreState {
        CoreState {
            jobs: self.jobs.values().cloned().collect(),
            workers: self.workers.iter().map(|(&id, known)| (id, known.clone())).collect(),
        }
    }

    /// A core with the state of a snapshot.
    pub fn restore(policy: JobsPolicy, pieces: impl IntoIterator<Item = StatePiece>) -> Self {
        let mut core = Self::new(policy);
        for piece in pieces {
            match piece {
                StatePiece::Job(job) => {
                    if let Some(attempt) = &job.attempt {
                        core.attempts.insert(attempt.id, job.id);
                    }
                    core.enter(*job);
                }
                StatePiece::Worker(worker, known) => {
                    core.workers.insert(worker, known);
                }
            }
        }
        core
    }
}

/// All that a snapshot keeps.
#[derive(Clone, Debug)]
pub struct CoreState {
    jobs: Vec<Arc<Job>>,
    workers: Vec<(corral_types::WorkerId, KnownWorker)>,
}

/// One piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatePiece {
    Job(Box<Job>),
    Worker(corral_types::WorkerId, KnownWorker),
}

impl StatePiece {
    /// # Errors
    /// When the bytes were written by a newer program or are none of a piece.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode(bytes)
    }
}

impl CoreState {
    /// The bytes of each piece, in turn.
    pub fn encode(&self) -> impl Iterator<Item = Vec<u8>> {
        /// [`StatePiece`] without a copy of the job.
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Borrowed<'a> {
            Job(&'a Job),
            Worker(corral_types::WorkerId, &'a KnownWorker),
        }
        let workers = self.workers.iter().map(|(id, known)| encode(&Borrowed::Worker(*id, known)));
        workers.chain(self.jobs.iter().map(|job| encode(&Borrowed::Job(job))))
    }
}

fn take_told(story: &mut Story, job: &mut Job, attempt: AttemptId, now: Timestamp, told: &Told) {
    let at = told.at;
    match &told.event {
        Event::Started { .. } => {
            // The server's clock decides, so that a worker whose clock is off gets no
            // other time limit.
            job.first_started_at.get_or_insert(now);
            job.phase = Phase::Running;
            if let Some(attempt) = &mut job.attempt {
                attempt.started_at = Some(now);
            }
            story.event(job, at, JobEventKind::Started { attempt });
        }
        Event::Log { stream, line } => {
            job.log_lines += 1;
            let (stream, line) = (*stream, line.clone());
            let line = LogLine { id: job.log_lines, at, attempt, stream, line };
            story.0.push(StoryEntry { job: job.id, chapter: Chapter::Log(line) });
        }
        Event::Progress { fraction, message, detail } => {
            let (fraction, message, detail) = (*fraction, message.clone(), detail.clone());
            job.progress =
                Some(Progress { at, fraction, message: message.clone(), detail: detail.clone() });
            story.event(job, at, JobEventKind::Progress { fraction, message, detail });
        }
        Event::Checkpoint { blob } => {
            job.checkpoint = Some(*blob);
            story.event(job, at, JobEventKind::Checkpoint { blob: *blob });
        }
        // An end has a record of its own.
        Event::Ended { .. } => {}
    }
}

fn end_attempt(
    job: &mut Job,
    number: Option<u64>,
    at: Timestamp,
    outcome: String,
    accounting: Accounting,
) {
    let Some(attempt) = job.attempt.take() else { return };
    job.accounting.wall_ms += accounting.wall_ms;
    job.accounting.cpu_ms += accounting.cpu_ms;
    job.accounting.peak_memory_bytes =
        job.accounting.peak_memory_bytes.max(accounting.peak_memory_bytes);
    job.past.push(PastAttempt {
        id: attempt.id,
        ordinal: attempt.ordinal,
        worker: attempt.worker,
        assigned_at: attempt.assigned_at,
        started_at: attempt.started_at,
        ended_at: at,
        outcome,
        accounting,
        last_event: number.unwrap_or(attempt.last_event),
    });
}
