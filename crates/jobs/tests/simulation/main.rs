//! Random worlds through the engine: lost, doubled and late messages, dying workers, and a
//! server that is cut off at any record.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod rng;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corral_jobs::{
    Chapter, Engine, Errand, JobEventKind, JobRequest, JobState, JobsCore, JobsPolicy, OverMemory,
    Phase, Record, StatePiece, StoryEntry, TakenEvents,
};
use corral_placement::Policy;
use corral_types::{AttemptId, JobId, MIB, Timestamp, WorkspaceId};
use corral_worker_api::{EventBatch, Hello, Numbered, Poll, Welcome};
use rng::Rng;
use serde_json::json;
use worker::Worker;

const TIME_LIMIT_MS: u64 = 60_000;
const STEP_MS: u64 = 2_000;
const SEEDS: u64 = 500;
const HELLO_TIMEOUT_MS: u64 = 10_000;

/// A message on its way.
#[derive(Clone, Debug)]
enum Message {
    /// With its number: an answer to an earlier one is read by nobody.
    Hello(usize, u64, Hello),
    Welcome(usize, u64, Welcome),
    Poll(usize, Poll),
    Commands(usize, u64, Vec<Numbered>),
    Events(usize, EventBatch),
    Acknowledged(usize, u64, Vec<(AttemptId, u64)>),
    SessionUnknown(usize, u64),
}

/// An answer that is given once the records before it are on disk.
enum Held {
    Submitted(JobId),
    Cancelled(JobId),
    Welcome(usize, u64, Welcome),
    Taken(usize, u64, TakenEvents),
    Complete(JobId),
}

struct World {
    rng: Rng,
    now: u64,
    policy: JobsPolicy,
    engine: Engine,
    workers: Vec<Worker>,
    network: Vec<(u64, Message)>,
    /// The journal's records, of which so many are on disk.
    journal: Vec<Vec<u8>>,
    on_disk: usize,
    held: VecDeque<(usize, Held)>,
    /// How many events each job has had, and how many of them were its end.
    story: BTreeMap<JobId, (u64, u64)>,
    // What the world was promised.
    submitted: BTreeMap<JobId, JobRequest>,
    acknowledged: BTreeSet<JobId>,
    cancelled: BTreeSet<JobId>,
    /// How often each job's outputs were delivered, and of which attempt.
    delivered: BTreeMap<JobId, BTreeSet<String>>,
    ended: BTreeMap<JobId, JobState>,
    restarts: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let policy = JobsPolicy { keep_ended_jobs: 1_000, ..JobsPolicy::default() };
        let now = 1_000_000;
        let engine = Engine::new(at(now), JobsCore::new(policy), Policy::default());
        let workers = (1..=rng.between(1, 3)).map(|n| Worker::new(n.into(), &mut rng)).collect();
        Self {
            rng,
            now,
            policy,
            engine,
            workers,
            network: Vec::new(),
            journal: Vec::new(),
            on_disk: 0,
            held: VecDeque::new(),
            story: BTreeMap::new(),
            submitted: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            delivered: BTreeMap::new(),
            ended: BTreeMap::new(),
            restarts: 0,
        }
    }

    /// Takes what the engine decided to the journal's queue.
    fn collect(&mut self) {
        for record in self.engine.take_records() {
            self.journal.push(record.encode());
        }
        for entry in self.engine.take_story() {
            self.tell(entry);
        }
        let last = self.journal.len();
        for errand in self.engine.take_errands() {
            if let Errand::Complete { job } = errand {
                self.held.push_back((last, Held::Complete(job)));
            }
        }
        self.engine.take_woken();
    }

    /// Entries come numbered without gaps, and the same ones again after a crash.
    fn tell(&mut self, entry: StoryEntry) {
        if let Chapter::Event(event) = &entry.chapter {
            let (events, ends) = self.story.entry(entry.job).or_default();
            *events += 1;
            *ends += u64::from(matches!(event.kind, JobEventKind::Ended { .. }));
            assert_eq!(event.id, *events, "events without gaps");
        }
    }

    fn hold(&mut self, answer: Held) {
        self.held.push_back((self.journal.len(), answer));
    }

    /// The disk takes some more; answers that waited for it are given.
    fn sync(&mut self, up_to: usize) {
        self.on_disk = self.on_disk.max(up_to.min(self.journal.len()));
        while let Some((last, _)) = self.held.front()
            && *last <= self.on_disk
        {
            match self.held.pop_front().unwrap().1 {
                Held::Submitted(job) => {
                    self.acknowledged.insert(job);
                }
                Held::Cancelled(job) => {
                    self.cancelled.insert(job);
                }
                Held::Welcome(worker, hello, welcome) => {
                    self.send(Message::Welcome(worker, hello, welcome));
                }
                Held::Taken(worker, session, taken) => {
                    self.engine.events_are_kept(self.workers[worker].id, &taken);
                    let up_to = taken.acknowledged.up_to;
                    self.send(Message::Acknowledged(worker, session, up_to));
                }
                Held::Complete(job) => self.complete(job),
            }
        }
    }

    /// The completion hook: mostly works, and is told again when it did not.
    fn complete(&mut self, job: JobId) {
        let Some(Phase::Completing { result, .. }) =
            self.engine.core().job(job).map(|job| job.phase.clone())
        else {
            return;
        };
        self.delivered.entry(job).or_default().insert(result["by"].to_string());
        if self.rng.chance(80) {
            self.engine.completed(at(self.now), job, result);
            self.collect();
        } else {
            self.hold(Held::Complete(job));
        }
    }

    fn send(&mut self, message: Message) {
        if self.rng.chance(10) {
            return;
        }
        let times = if self.rng.chance(10) { 2 } else { 1 };
        for _ in 0..times {
            let delay = if self.rng.chance(5) { 20_000 } else { 500 };
            let arrives = self.now + self.rng.between(0, delay);
            self.network.push((arrives, message.clone()));
        }
    }

    fn deliver(&mut self) {
        let mut due: Vec<(u64, Message)> =
            self.network.extract_if(.., |(arrives, _)| *arrives <= self.now).collect();
        due.sort_by_key(|(arrives, _)| *arrives);
        for (_, message) in due {
            self.receive(message);
        }
    }

    fn receive(&mut self, message: Message) {
        let now = at(self.now);
        match message {
            Message::Hello(worker, number, hello) => {
                let welcome =
                    self.engine.hello(now, &hello, &BTreeSet::new()).expect("the version is ours");
                self.collect();
                self.hold(Held::Welcome(worker, number, welcome));
            }
            Message::Welcome(index, hello, welcome) => {
                let worker = &mut self.workers[index];
                if worker.session.is_none()
                    && worker.hellos == hello
                    && worker.down_until <= self.now
                {
                    // One answer to a request is read, whatever the network doubles.
                    worker.hellos += 1;
                    worker.session = Some(welcome.session);
                    worker.taken = 0;
                    for attempt in welcome.forget {
                        worker.attempts.remove(&attempt);
                    }
                }
            }
            Message::Poll(worker, poll) => {
                let answer = self.engine.poll(now, &poll);
                self.collect();
                match answer {
                    Ok(commands) => {
                        self.send(Message::Commands(worker, poll.session, commands));
                    }
                    Err(_) => self.send(Message::SessionUnknown(worker, poll.session)),
                }
            }
            Message::Commands(index, session, commands) => {
                let worker = &mut self.workers[index];
                if worker.session == Some(session) {
                    worker.take(self.now, &commands);
                }
            }
            Message::Events(worker, batch) => {
                let session = batch.session;
                let answer = self.engine.events(now, batch);
                self.collect();
                match answer {
                    Ok(taken) => self.hold(Held::Taken(worker, session, taken)),
                    Err(_) => self.send(Message::SessionUnknown(worker, session)),
                }
            }
            Message::Acknowledged(index, session, up_to) => {
                let worker = &mut self.workers[index];
                if worker.session == Some(session) {
                    worker.acknowledged(&up_to);
                }
            }
            Message::SessionUnknown(index, session) => {
                let worker = &mut self.workers[index];
                if worker.session == Some(session) {
                    worker.session = None;
                }
            }
        }
    }

    fn submit(&mut self) {
        let number = self.submitted.len() as u128 + 1;
        let job = JobId::from_u128(number << 64 | u128::from(self.rng.next()));
        let workspace = WorkspaceId::from_u128(u128::from(self.rng.between(1, 2)));
        let mut request = JobRequest::new("test", "job", json!({ "number": number as u64 }));
        request.memory_request_bytes = self.rng.between(64, 3_072) * MIB;
        request.max_attempts = self.rng.between(1, 4) as u32;
        request.time_limit_ms = self.rng.chance(50).then_some(TIME_LIMIT_MS);
        request.priority = self.rng.between(0, 2) as i32;
        if self.rng.chance(30) {
            request.over_memory = OverMemory::Retry;
        }
        self.submitted.insert(job, request.clone());
        self.engine.submit(at(self.now), job, workspace, request);
        self.collect();
        self.hold(Held::Submitted(job));
    }

    fn cancel(&mut self) {
        let jobs: Vec<JobId> = self.acknowledged.iter().copied().collect();
        let Some(&job) = self.rng.pick(&jobs) else { return };
        let taken = self.engine.cancel(at(self.now), job);
        self.collect();
        if taken.is_ok() {
            self.hold(Held::Cancelled(job));
        }
    }

    fn finish_now(&mut self) {
        let jobs: Vec<JobId> = self.acknowledged.iter().copied().collect();
        if let Some(&job) = self.rng.pick(&jobs) {
            // Refused where nothing runs, which is fine.
            let _ = self.engine.finish_now(at(self.now), job);
            self.collect();
        }
    }

    /// The server dies; what is on disk is all that is left, and perhaps some more that was
    /// on its way there.
    fn crash(&mut self) {
        self.restarts += 1;
        let unsynced = (self.journal.len() - self.on_disk) as u64;
        let kept = self.on_disk + self.rng.between(0, unsynced) as usize;
        self.journal.truncate(kept);
        self.on_disk = kept;
        self.held.clear();
        self.network.retain(|(_, message)| {
            // What the server had not received is lost with its sockets.
            matches!(message, Message::Commands(..) | Message::Acknowledged(..))
        });
        self.story.clear();
        let mut core = if self.rng.chance(50) {
            JobsCore::new(self.policy)
        } else {
            // By way of a snapshot in the middle.
            let middle = self.rng.between(0, kept as u64) as usize;
            let mut before = JobsCore::new(self.policy);
            for bytes in &self.journal[..middle] {
                before.apply(&Record::decode(bytes).unwrap());
            }
            let pieces: Vec<StatePiece> =
                before.state().encode().map(|bytes| StatePiece::decode(&bytes).unwrap()).collect();
            let restored = JobsCore::restore(self.policy, pieces);
            for bytes in &self.journal[middle..] {
                before.apply(&Record::decode(bytes).unwrap());
            }
            let mut after = restored;
            for bytes in &self.journal[middle..] {
                after.apply(&Record::decode(bytes).unwrap());
            }
            let states =
                |core: &JobsCore| core.jobs().map(|job| (**job).clone()).collect::<Vec<_>>();
            assert_eq!(states(&before), states(&after), "a snapshot is the records before it");
            JobsCore::new(self.policy)
        };
        let journal = std::mem::take(&mut self.journal);
        for bytes in &journal {
            for entry in core.apply(&Record::decode(bytes).unwrap()) {
                self.tell(entry);
            }
        }
        self.journal = journal;
        self.now += self.rng.between(0, 90_000);
        self.engine = Engine::new(at(self.now), core, Policy::default());
        for job in self.engine.take_completing() {
            self.held.push_back((0, Held::Complete(job)));
        }
        self.collect();
    }

    fn step(&mut self, calm: bool) {
        self.now += self.rng.between(1, STEP_MS);
        if !calm {
            match self.rng.between(0, 99) {
                0..=19 => self.submit(),
                20..=22 => self.cancel(),
                23..=24 => self.finish_now(),
                25..=26 => self.crash(),
                27..=28 => {
                    let count = self.workers.len() as u64;
                    let index = self.rng.between(0, count - 1) as usize;
                    let (now, rng) = (self.now, &mut self.rng);
                    self.workers[index].die(now, rng);
                }
                _ => {}
            }
        }
        self.deliver();
        for index in 0..self.workers.len() {
            self.run_worker(index);
        }
        self.engine.tick(at(self.now));
        self.collect();
        self.check();
        let queued = self.journal.len() as u64;
        let up_to = self.rng.between(self.on_disk as u64, queued) as usize;
        self.sync(if calm { self.journal.len() } else { up_to });
    }

    fn run_worker(&mut self, index: usize) {
        let now = self.now;
        let worker = &mut self.workers[index];
        if worker.down_until > now {
            return;
        }
        match worker.session {
            None if now < worker.hello_until => {}
            None => {
                worker.hello_until = now + HELLO_TIMEOUT_MS;
                worker.hellos += 1;
                let (number, hello) = (worker.hellos, worker.hello());
                self.send(Message::Hello(index, number, hello));
            }
            Some(session) => {
                worker.work(now, &mut self.rng);
                let poll = worker.poll(session);
                let batch = worker.batch(session, &mut self.rng);
                self.send(Message::Poll(index, poll));
                if !batch.events.is_empty() {
                    self.send(Message::Events(index, batch));
                }
            }
        }
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        for view in self.engine.placement().workers() {
            assert!(view.requested_bytes <= view.offer.memory_bytes, "over-committed: {view:?}");
        }
        let mut waiting = 0;
        for job in self.engine.core().jobs() {
            assert!(job.attempts_made() <= job.request.max_attempts, "too many attempts");
            let queued = matches!(job.phase, Phase::Queued { .. });
            waiting += usize::from(queued);
            assert_eq!(
                job.attempt.is_some(),
                matches!(job.phase, Phase::Starting | Phase::Running)
            );
        }
        assert_eq!(self.engine.placement().totals().waiting, waiting, "who waits, waits once");
    }

    fn finish(mut self) -> (u64, u64) {
        // Everyone is back for good, and time goes on until nothing is left to do.
        for _ in 0..4_000 {
            for worker in &mut self.workers {
                worker.down_until = worker.down_until.min(self.now);
            }
            self.step(true);
            if self.engine.core().unfinished() == 0 {
                break;
            }
        }
        self.sync(self.journal.len());
        for &job in &self.acknowledged {
            let request = &self.submitted[&job];
            let job = self.engine.core().job(job).unwrap_or_else(|| panic!("{job} was lost"));
            let state = job.state();
            assert!(state.is_ended(), "{job:?} did not end");
            let by = self.delivered.get(&job.id).cloned().unwrap_or_default();
            assert!(by.len() <= 1, "outputs of two attempts were delivered: {by:?}");
            assert!(state != JobState::Succeeded || by.len() == 1, "succeeded without outputs");
            if self.cancelled.contains(&job.id) {
                assert_eq!(state, JobState::Cancelled, "a cancel that was acknowledged wins");
            }
            if state == JobState::Cancelled || state == JobState::TimedOut {
                assert!(by.is_empty(), "{state}, and its outputs were delivered");
            }
            if let (Some(_), Some(first), Some(ended)) =
                (request.time_limit_ms, job.first_started_at, job.ended_at())
                && !matches!(state, JobState::Succeeded)
            {
                // The limit and the grace to stop; the server may be away for a while each
                // time, and have forgotten that it had asked for the stop.
                let took = ended.since(first).as_millis() as u64;
                let grace_ms = self.policy.stop_grace_ms + 2 * STEP_MS;
                let most = TIME_LIMIT_MS + grace_ms + self.restarts * (90_000 + grace_ms);
                assert!(took <= most, "ran {took} ms: {job:?}");
            }
            assert_eq!(self.story[&job.id].1, 1, "a job ends once");
        }
        self.ended.extend(self.engine.core().jobs().map(|job| (job.id, job.state())));
        let succeeded = self.ended.values().filter(|state| **state == JobState::Succeeded).count();
        (succeeded as u64, self.restarts)
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn run(seed: u64) -> (u64, u64) {
    let run = || {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step(false);
        }
        world.finish()
    };
    match std::panic::catch_unwind(run) {
        Ok(result) => result,
        Err(panic) => {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn run_all(seeds: std::ops::Range<u64>) {
    let (mut succeeded, mut restarts) = (0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let (more, again) = run(seed);
        succeeded += more;
        restarts += again;
    }
    assert!(succeeded > 5 * count, "only {succeeded} jobs succeeded: the worlds are too hard");
    assert!(restarts > count, "only {restarts} restarts");
}

/// How many worlds each test runs; `CORRAL_SIMULATION_SEEDS` for more.
fn seeds() -> u64 {
    let wanted = std::env::var("CORRAL_SIMULATION_SEEDS").ok();
    wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn acknowledged_jobs_end_once_in_every_world() {
    run_all(0..seeds());
}

/// The same in other worlds, beside the first on a second core.
#[test]
fn acknowledged_jobs_end_once_in_every_other_world() {
    run_all(1_000_000..1_000_000 + seeds());
}
