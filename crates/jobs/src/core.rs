//! The core of jobs: their states, and what is decided about them.
//!
//! Every change goes the same way: a question is put to the core as it is (`&self`), the
//! answer is a list of [`Record`]s, and [`JobsCore::apply`] makes of each record the next
//! state. So the state is a fold over the journal, and a core that read a journal is the
//! same as the one that wrote it. No I/O, no clock: time is handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corral_types::{AttemptId, JobId, Timestamp, WorkerId, WorkspaceId};
use corral_worker_api::{Capacity, Limits, WORKER_LOST_AFTER_MS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::{Ending, Job, JobFailure, JobState, Phase, StopCause};
use crate::record::{Next, Record};
use crate::request::JobRequest;

/// What may differ from one installation to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsPolicy {
    /// The pause before the second attempt; it doubles with every further one …
    pub back_off_ms: u64,
    /// … up to this.
    pub max_back_off_ms: u64,
    /// How long a cancelled attempt may take to stop before the job is over without it: a
    /// cancel shows within a second.
    pub cancel_grace_ms: u64,
    /// The same for one that was stopped by its time limit or for its memory: it may have
    /// a checkpoint to write.
    pub stop_grace_ms: u64,
    pub worker_lost_after_ms: u64,
    /// A worker that has not been here for this long is forgotten.
    pub worker_forgotten_after_ms: u64,
    /// How long ended jobs are kept …
    pub keep_ended_ms: u64,
    /// … and how many of them at most.
    pub keep_ended_jobs: usize,
    /// The most jobs that are not ended, over all workspaces: their requests are in memory.
    pub max_unfinished_jobs: usize,
}

impl Default for JobsPolicy {
    fn default() -> Self {
        Self {
            back_off_ms: 1_000,
            max_back_off_ms: 5 * 60_000,
            cancel_grace_ms: 800,
            stop_grace_ms: 20_000,
            worker_lost_after_ms: WORKER_LOST_AFTER_MS,
            worker_forgotten_after_ms: 7 * 24 * 3_600_000,
            keep_ended_ms: 30 * 24 * 3_600_000,
            keep_ended_jobs: 10_000,
            max_unfinished_jobs: 100_000,
        }
    }
}

/// A worker that has been here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownWorker {
    pub host_name: String,
    pub capacity: Capacity,
    pub first_seen: Timestamp,
}

/// Why a request about a job cannot be met in the state it is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("there is no job {job}")]
    Unknown { job: JobId },
    #[error("the job {job} is {state} already")]
    Ended { job: JobId, state: JobState },
    #[error("the job {job} has done its work and its outputs are being registered")]
    Completing { job: JobId },
    #[error("the job {job} is {state}: nothing of it runs that could finish")]
    NotRunning { job: JobId, state: JobState },
}

/// All jobs and known workers.
#[derive(Debug)]
pub struct JobsCore {
    pub(crate) policy: JobsPolicy,
    pub(crate) jobs: BTreeMap<JobId, Arc<Job>>,
    pub(crate) by_workspace: BTreeSet<(WorkspaceId, JobId)>,
    /// The attempts that occupy workers.
    pub(crate) attempts: BTreeMap<AttemptId, JobId>,
    pub(crate) workers: BTreeMap<WorkerId, KnownWorker>,
    pub(crate) ended: BTreeSet<(Timestamp, JobId)>,
    /// When each job next needs to be looked at.
    pub(crate) timers: BTreeSet<(Timestamp, JobId)>,
    pub(crate) counts: BTreeMap<JobState, usize>,
}

impl JobsCore {
    pub fn new(policy: JobsPolicy) -> Self {
        Self {
            policy,
            jobs: BTreeMap::new(),
            by_workspace: BTreeSet::new(),
            attempts: BTreeMap::new(),
            workers: BTreeMap::new(),
            ended: BTreeSet::new(),
            timers: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    pub fn policy(&self) -> &JobsPolicy {
        &self.policy
    }

    pub fn job(&self, job: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&job)
    }

    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// A workspace's jobs created before `before` (or all), the newest first.
    pub fn workspace_jobs(
        &self,
        workspace: WorkspaceId,
        before: Option<JobId>,
    ) -> impl Iterator<Item = &Arc<Job>> {
        let end = before.unwrap_or(JobId::from_u128(u128::MAX));
        self.by_workspace
            .range((workspace, JobId::from_u128(0))..(workspace, end))
            .rev()
            .filter_map(|(_, job)| self.jobs.get(job))
    }

    /// The job whose present attempt this is.
    pub fn job_of(&self, attempt: AttemptId) -> Option<&Arc<Job>> {
        self.jobs.get(self.attempts.get(&attempt)?)
    }

    /// The attempts that a worker has or shall have.
    pub fn attempts_on(&self, worker: WorkerId) -> Vec<AttemptId> {
        self.attempts
            .iter()
            .filter(|(_, job)| {
                let attempt = self.jobs.get(job).and_then(|job| job.attempt.as_ref());
                attempt.is_some_and(|attempt| attempt.worker == worker)
            })
            .map(|(&attempt, _)| attempt)
            .collect()
    }

    pub fn workers(&self) -> &BTreeMap<WorkerId, KnownWorker> {
        &self.workers
    }

    /// How many jobs are in each state.
    pub fn counts(&self) -> &BTreeMap<JobState, usize> {
        &self.counts
    }

    pub fn unfinished(&self) -> usize {
        self.jobs.len() - self.ended.len()
    }

    pub fn submit(
        &self,
        now: Timestamp,
        job: JobId,
        workspace: WorkspaceId,
        request: JobRequest,
    ) -> Vec<Record> {
        if self.jobs.contains_key(&job) {
            return Vec::new();
        }
        vec![Record::Submitted { job, workspace, at: now, request: Box::new(request) }]
    }

    /// Placement gave the job's next attempt a lease; nothing if the job does not wait.
    pub fn assign(
        &self,
        now: Timestamp,
        job: JobId,
        attempt: AttemptId,
        worker: WorkerId,
        limits: Limits,
    ) -> Vec<Record> {
        match self.jobs.get(&job).map(|job| &job.phase) {
            Some(Phase::Queued { since }) => {
                let waited_ms = now.since(*since).as_millis() as u64;
                vec![Record::Assigned { job, attempt, worker, limits, at: now, waited_ms }]
            }
            _ => Vec::new(),
        }
    }

    /// Placement will never give the job a lease.
    pub fn refuse(&self, now: Timestamp, job: JobId, failure: JobFailure) -> Vec<Record> {
        match self.jobs.get(&job).map(|job| &job.phase) {
            Some(Phase::Queued { .. }) => {
                vec![Record::Ended { job, at: now, ending: Ending::Failed { failure } }]
            }
            _ => Vec::new(),
        }
    }

    /// A person cancels the job. What does not run is over at once; what runs is stopped
    /// and, whatever it says from now on, cancelled.
    pub fn cancel(&self, now: Timestamp, id: JobId) -> Result<Vec<Record>, StateError> {
        let job = self.jobs.get(&id).ok_or(StateError::Unknown { job: id })?;
        Ok(match &job.phase {
            Phase::Queued { .. } | Phase::BackingOff { .. } => {
                vec![Record::Ended { job: id, at: now, ending: Ending::Cancelled }]
            }
            Phase::Starting | Phase::Running => {
                let cancelled =
                    job.stop.as_ref().is_some_and(|stop| stop.cause == StopCause::Cancelled);
                let wanted = Record::StopWanted { job: id, at: now, cause: StopCause::Cancelled };
                if cancelled { Vec::new() } else { vec![wanted] }
            }
            Phase::Completing { .. } => return Err(StateError::Completing { job: id }),
            Phase::Ended { ending: Ending::Cancelled, .. } => Vec::new(),
            Phase::Ended { .. } => return Err(StateError::Ended { job: id, state: job.state() }),
        })
    }

    /// A person asks the job to end early and keep what it has.
    pub fn finish_now(&self, now: Timestamp, id: JobId) -> Result<Vec<Record>, StateError> {
        let job = self.jobs.get(&id).ok_or(StateError::Unknown { job: id })?;
        match &job.phase {
            Phase::Starting | Phase::Running if job.stop.is_none() => Ok(if job.finish_now {
                Vec::new()
            } else {
                vec![Record::FinishNowWanted { job: id, at: now }]
            }),
            Phase::Ended { .. } => Err(StateError::Ended { job: id, state: job.state() }),
            Phase::Completing { .. } => Err(StateError::Completing { job: id }),
            _ => Err(StateError::NotRunning { job: id, state: job.state() }),
        }
    }

    /// Placement chose the attempt to be stopped.
    pub fn stop_for_memory(
        &self,
        now: Timestamp,
        attempt: AttemptId,
        cause: StopCause,
    ) -> Vec<Record> {
        match self.job_of(attempt) {
            Some(job) if job.stop.is_none() => {
                vec![Record::StopWanted { job: job.id, at: now, cause }]
            }
            _ => Vec::new(),
        }
    }

    /// The job's outputs are registered.
    pub fn completed(&self, now: Timestamp, job: JobId, result: Value) -> Vec<Record> {
        self.while_completing(job, Record::Completed { job, at: now, result })
    }

    /// The job's outputs will never be registered.
    pub fn completion_refused(
        &self,
        now: Timestamp,
        job: JobId,
        failure: JobFailure,
    ) -> Vec<Record> {
        self.while_completing(job, Record::CompletionRefused { job, at: now, failure })
    }

    fn while_completing(&self, job: JobId, record: Record) -> Vec<Record> {
        match self.jobs.get(&job).map(|job| &job.phase) {
            Some(Phase::Completing { .. }) => vec![record],
            _ => Vec::new(),
        }
    }

    pub fn worker_seen(
        &self,
        now: Timestamp,
        worker: WorkerId,
        host_name: &str,
        capacity: Capacity,
    ) -> Vec<Record> {
        let same = self.workers.get(&worker).is_some_and(|known| {
            known.host_name == host_name
                && known.capacity.memory_bytes == capacity.memory_bytes
                && known.capacity.milli_cpu == capacity.milli_cpu
        });
        if same {
            return Vec::new();
        }
        let host_name = host_name.to_owned();
        vec![Record::WorkerSeen { worker, at: now, host_name, capacity }]
    }

    /// Everything whose time has come: back-offs that are over, time limits that passed,
    /// stops that took too long, ended jobs that need not be kept.
    pub fn tick(&self, now: Timestamp) -> Vec<Record> {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now);
        let mut records: Vec<Record> =
            due.filter_map(|(_, job)| self.time_came(now, self.jobs.get(job)?)).collect();
        let surplus = self.ended.len().saturating_sub(self.policy.keep_ended_jobs);
        let keep = Duration::from_millis(self.policy.keep_ended_ms);
        let outlived = self.ended.iter().enumerate();
        records.extend(
            outlived
                .take_while(|&(index, &(at, _))| index < surplus || at.plus(keep) <= now)
                .map(|(_, &(_, job))| Record::Removed { job }),
        );
        records
    }

    fn time_came(&self, now: Timestamp, job: &Job) -> Option<Record> {
        match (&job.phase, &job.stop) {
            (Phase::BackingOff { .. }, _) => {
                let over = job.deadline().filter(|&deadline| deadline <= now);
                Some(match over {
                    Some(_) => Record::Ended { job: job.id, at: now, ending: timed_out(job) },
                    None => Record::Requeued { job: job.id, at: now },
                })
            }
            (Phase::Queued { .. }, _) => {
                Some(Record::Ended { job: job.id, at: now, ending: timed_out(job) })
            }
            (Phase::Starting | Phase::Running, None) => {
                Some(Record::StopWanted { job: job.id, at: now, cause: StopCause::TimeLimit })
            }
            (Phase::Starting | Phase::Running, Some(stop)) => Some(Record::Ended {
                job: job.id,
                at: now,
                ending: match stop.cause {
                    StopCause::Cancelled => Ending::Cancelled,
                    StopCause::TimeLimit => timed_out(job),
                    StopCause::MemoryPressure { numbers } => {
                        Ending::Failed { failure: crate::outcome::chosen_under_pressure(&numbers) }
                    }
                },
            }),
            (Phase::Completing { .. } | Phase::Ended { .. }, _) => None,
        }
    }

    /// When a job's state next changes by time alone.
    pub(crate) fn next_time(&self, job: &Job) -> Option<Timestamp> {
        let earlier = |deadline: Option<Timestamp>, at| {
            Some(deadline.map_or(at, |deadline: Timestamp| deadline.min(at)))
        };
        match (&job.phase, &job.stop) {
            (Phase::BackingOff { until }, _) => earlier(job.deadline(), *until),
            (Phase::Queued { .. }, _) => job.deadline(),
            (Phase::Starting | Phase::Running, None) => job.deadline(),
            (Phase::Starting | Phase::Running, Some(stop)) => {
                let grace_ms = match stop.cause {
                    StopCause::Cancelled => self.policy.cancel_grace_ms,
                    StopCause::TimeLimit | StopCause::MemoryPressure { .. } => {
                        self.policy.stop_grace_ms
                    }
                };
                Some(stop.since.plus(Duration::from_millis(grace_ms)))
            }
            (Phase::Completing { .. } | Phase::Ended { .. }, _) => None,
        }
    }

    /// What follows an end that another attempt may do better, if there is one left.
    pub(crate) fn retry_or(&self, now: Timestamp, job: &Job, failure: JobFailure) -> Next {
        let made = job.attempts_made();
        let doublings = made.saturating_sub(1).min(32);
        let pause_ms =
            self.policy.back_off_ms.saturating_mul(1 << doublings).min(self.policy.max_back_off_ms);
        let at = now.plus(Duration::from_millis(pause_ms));
        if made >= job.request.max_attempts {
            Next::End(Ending::Failed { failure })
        } else if job.deadline().is_some_and(|deadline| deadline <= now) {
            Next::End(timed_out(job))
        } else {
            Next::Retry { at }
        }
    }
}

pub(crate) fn timed_out(job: &Job) -> Ending {
    Ending::TimedOut { limit_ms: job.request.time_limit_ms.unwrap_or_default() }
}
