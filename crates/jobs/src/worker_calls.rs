//! The workers' calls: hello, poll, events.

use std::collections::{BTreeMap, BTreeSet};

use corral_placement::Event as PlacementEvent;
use corral_types::{AttemptId, BlobHash, TaskId, Timestamp, WorkerId};
use corral_worker_api::{
    Acknowledged, AttemptEvent, Event, EventBatch, Hello, Numbered, PROTOCOL_VERSION, Poll, Usage,
    Welcome,
};

use crate::engine::Engine;
use crate::job::Phase;
use crate::sessions::SessionError;
use crate::translate::{adopted, attempt_of, offer, task_of};

/// What to do once the records of an event batch are on disk.
#[derive(Clone, Debug)]
pub struct TakenEvents {
    pub acknowledged: Acknowledged,
    /// Attempts whose last event it was.
    over: Vec<AttemptId>,
}

impl Engine {
    /// Settles what runs on a worker. What it names and a job waits for goes on; what it
    /// names otherwise is forgotten. Of what it should have and does not name, an attempt
    /// that it was told to start is lost, and one that it was not, as far as this process
    /// knows, is started.
    ///
    /// The answer may be given once everything before it is on disk, since it may tell the
    /// worker to forget. Of its containers and builds, those `wanted` go on.
    pub fn hello(
        &mut self,
        now: Timestamp,
        hello: &Hello,
        wanted: &BTreeSet<TaskId>,
    ) -> Result<Welcome, SessionError> {
        let worker = hello.worker;
        if hello.protocol_version != PROTOCOL_VERSION {
            let (found, ours) = (hello.protocol_version, PROTOCOL_VERSION);
            return Err(SessionError::Protocol { worker, found, ours });
        }
        let expected = self.core.attempts_on(worker);
        let (running, forget): (Vec<AttemptId>, Vec<AttemptId>) =
            hello.attempts.iter().copied().partition(|attempt| expected.contains(attempt));
        let mut records = self.core.worker_seen(now, worker, &hello.host_name, hello.capacity);
        for &attempt in expected.iter().filter(|attempt| !running.contains(attempt)) {
            let runs = self.core.job_of(attempt).is_some_and(|job| job.phase == Phase::Running);
            if runs || self.sessions.may_have_begun(worker, attempt) {
                records.extend(self.core.attempt_lost(now, attempt));
            }
        }
        self.adopt_tasks(now, hello, wanted);
        // Leases of attempts that no job waits for any more end with this hello.
        let given_up: Vec<TaskId> = self
            .placement
            .leases()
            .filter(|lease| lease.worker == worker && !self.is_resident(lease.task))
            .filter(|lease| !self.tasks.contains(lease.task))
            .map(|lease| lease.task)
            .filter(|task| !expected.contains(&attempt_of(*task)))
            .collect();
        for task in given_up {
            self.place(now, PlacementEvent::TaskEnded { task });
        }
        let session = self.sessions.open(now, worker, running);
        self.commit(now, records);
        let kept: Vec<_> = self
            .core
            .attempts_on(worker)
            .into_iter()
            .filter_map(|attempt| self.core.job_of(attempt).cloned())
            .collect();
        let mut leases: Vec<_> = kept.iter().filter_map(|job| adopted(job)).collect();
        leases.extend(self.tasks.leases_on(worker));
        let offer = offer(&hello.capacity);
        self.place(now, PlacementEvent::WorkerJoined { worker, offer, running: leases });
        for job in kept {
            self.look_at(job.id);
        }
        self.tell_tasks(hello);
        self.settle_tasks();
        self.settle(now);
        Ok(Welcome { session, forget })
    }

    /// Takes a poll in and gives the commands that the worker has not acknowledged, none
    /// of them if there is nothing to say yet.
    pub fn poll(&mut self, now: Timestamp, poll: &Poll) -> Result<Vec<Numbered>, SessionError> {
        let session = self.sessions.of_call(now, poll.worker, poll.session)?;
        session.acknowledge(poll.acknowledged);
        self.measured(now, poll.worker, &poll.usage);
        self.commands(now, poll.worker, poll.session)
    }

    /// The commands for a poll that has been taken in and waits.
    pub fn commands(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        session: u64,
    ) -> Result<Vec<Numbered>, SessionError> {
        Ok(self.sessions.of_call(now, worker, session)?.hand_out())
    }

    fn measured(&mut self, now: Timestamp, worker: WorkerId, usage: &Usage) {
        // A machine without a byte free does not answer: zero means not measured.
        let free_memory_bytes = Some(usage.free_memory_bytes).filter(|&free_bytes| free_bytes > 0);
        let leases = usage
            .attempts
            .iter()
            .map(|usage| (task_of(usage.attempt), usage.memory_bytes))
            .chain(usage.tasks.iter().copied())
            .collect();
        self.place(now, PlacementEvent::Measured { worker, free_memory_bytes, leases });
        self.settle(now);
    }

    /// Takes in what attempts told. The acknowledgement may be given once the records are
    /// on disk; then [`Engine::events_are_kept`] is due.
    pub fn events(
        &mut self,
        now: Timestamp,
        batch: EventBatch,
    ) -> Result<TakenEvents, SessionError> {
        let worker = batch.worker;
        self.sessions.of_call(now, worker, batch.session)?;
        let mut by_attempt: BTreeMap<AttemptId, Vec<AttemptEvent>> = BTreeMap::new();
        for event in batch.events {
            by_attempt.entry(event.attempt).or_default().push(event);
        }
        let mut taken =
            TakenEvents { acknowledged: Acknowledged { up_to: Vec::new() }, over: Vec::new() };
        for (attempt, events) in by_attempt {
            let highest = events.iter().map(|event| event.number).max().unwrap_or(0);
            let ends = events.iter().any(|event| matches!(event.event, Event::Ended { .. }));
            let is_awaited = self.core.job_of(attempt).is_some_and(|job| {
                job.attempt.as_ref().is_some_and(|attempt| attempt.worker == worker)
            });
            if is_awaited {
                let records = self.core.told(now, attempt, events);
                self.commit(now, records);
                let last = self
                    .core
                    .job_of(attempt)
                    .and_then(|job| job.attempt.as_ref())
                    .map(|attempt| attempt.last_event);
                taken.acknowledged.up_to.push((attempt, last.unwrap_or(highest)));
                if last.is_none() {
                    taken.over.push(attempt);
                }
            } else {
                // Nobody waits for it: it has been taken before, or its job went on
                // without it.
                taken.acknowledged.up_to.push((attempt, highest));
                if ends {
                    self.place(now, PlacementEvent::TaskEnded { task: task_of(attempt) });
                    self.settle(now);
                    taken.over.push(attempt);
                }
            }
        }
        Ok(taken)
    }

    /// The records of these events are on disk: the worker may forget what is over.
    pub fn events_are_kept(&mut self, worker: WorkerId, taken: &TakenEvents) {
        for &attempt in &taken.over {
            self.sessions.say(worker, |session| session.forget(attempt));
        }
    }

    /// Whether a worker may read a blob: it is an input or the checkpoint of an attempt
    /// that it has, or a file of one of its containers and builds.
    pub fn worker_may_read(&self, worker: WorkerId, blob: BlobHash) -> bool {
        self.tasks.may_read(worker, blob)
            || self.core.attempts_on(worker).into_iter().any(|attempt| {
                self.core.job_of(attempt).is_some_and(|job| {
                    job.checkpoint == Some(blob) || job.request.inputs.contains(&blob)
                })
            })
    }
}
