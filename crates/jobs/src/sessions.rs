//! The workers' sessions: which commands each worker has still to take.
//!
//! Nothing here is kept over a restart: hello settles anew what runs, and the commands
//! follow from the state of the jobs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corral_types::{AttemptId, Timestamp, WorkerId};
use corral_worker_api::{Command, Numbered, StopReason};

/// Why a worker's call is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error(
        "the worker {worker} speaks version {found} of the worker protocol; this server speaks {ours}"
    )]
    Protocol { worker: WorkerId, found: u32, ours: u32 },
    /// The worker shall say hello.
    #[error("the session {session} of worker {worker} is not known")]
    Unknown { worker: WorkerId, session: u64 },
}

/// What an attempt has been told in this session.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The number of the command; 0 for an attempt that the worker named itself.
    start: Option<u64>,
    finish_now: bool,
    stop: Option<StopReason>,
    forget: bool,
}

/// One worker's conversation with this server.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    number: u64,
    pub last_call: Timestamp,
    last_command: u64,
    /// The last command that went out with a poll's answer.
    handed_out: u64,
    /// Sent and not yet acknowledged, or not yet sent.
    open: VecDeque<Numbered>,
    told: BTreeMap<AttemptId, Told>,
}

impl Session {
    /// A session in which the worker has these attempts already.
    pub fn new(number: u64, now: Timestamp, running: impl IntoIterator<Item = AttemptId>) -> Self {
        let started = Told { start: Some(0), ..Told::default() };
        Self {
            number,
            last_call: now,
            last_command: 0,
            handed_out: 0,
            open: VecDeque::new(),
            told: running.into_iter().map(|attempt| (attempt, started.clone())).collect(),
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Everything up to this number has been taken and need not be sent again.
    pub fn acknowledge(&mut self, up_to: u64) {
        while let Some(command) = self.open.pop_front_if(|command| command.number <= up_to) {
            if let Command::Forget { attempt } = command.command {
                self.told.remove(&attempt);
            }
        }
    }

    /// What is to be sent now.
    pub fn hand_out(&mut self) -> Vec<Numbered> {
        self.handed_out = self.last_command;
        self.open.iter().cloned().collect()
    }

    /// Whether the worker may have begun the attempt.
    fn may_have_begun(&self, attempt: AttemptId) -> bool {
        let start = self.told.get(&attempt).and_then(|told| told.start);
        start.is_some_and(|number| number <= self.handed_out)
    }

    /// Each of these says a thing once per session; whether it was the first time.
    pub fn start(&mut self, attempt: AttemptId, command: impl FnOnce() -> Command) -> bool {
        let number = self.last_command + 1;
        let told = self.told.entry(attempt).or_default();
        told.start.is_none() && {
            told.start = Some(number);
            self.push(command())
        }
    }

    pub fn finish_now(&mut self, attempt: AttemptId) -> bool {
        let told = self.told.entry(attempt).or_default();
        let reason = StopReason::FinishNow;
        !std::mem::replace(&mut told.finish_now, true)
            && self.push(Command::Stop { attempt, reason })
    }

    pub fn stop(&mut self, attempt: AttemptId, reason: StopReason) -> bool {
        let told = self.told.entry(attempt).or_default();
        told.stop.replace(reason) != Some(reason) && self.push(Command::Stop { attempt, reason })
    }

    pub fn forget(&mut self, attempt: AttemptId) -> bool {
        let told = self.told.entry(attempt).or_default();
        !std::mem::replace(&mut told.forget, true) && self.push(Command::Forget { attempt })
    }

    pub fn push(&mut self, command: Command) -> bool {
        self.last_command += 1;
        self.open.push_back(Numbered { number: self.last_command, command });
        true
    }
}

/// All sessions, and when each worker was last heard of.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: BTreeMap<WorkerId, Session>,
    /// Workers that were known before this process began and have not called since.
    expected: BTreeMap<WorkerId, Timestamp>,
    /// Workers that are lost, and since when.
    away: BTreeMap<WorkerId, Timestamp>,
    last_number: u64,
    /// Workers for which there are new commands.
    woken: BTreeSet<WorkerId>,
}

impl Sessions {
    pub fn expect(&mut self, worker: WorkerId, since: Timestamp) {
        self.expected.insert(worker, since);
    }

    /// Whether a worker of before this process began has not called since and is not lost yet.
    pub fn expects_any(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Opens a session; its number is one that no earlier session had, in this process or,
    /// since it is made of the time, in one before.
    pub fn open(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        running: impl IntoIterator<Item = AttemptId>,
    ) -> u64 {
        self.last_number = now.as_millis().max(self.last_number + 1);
        self.expected.remove(&worker);
        self.away.remove(&worker);
        self.sessions.insert(worker, Session::new(self.last_number, now, running));
        self.last_number
    }

    /// The session of a call, which shows that the worker is there.
    pub fn of_call(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        number: u64,
    ) -> Result<&mut Session, SessionError> {
        match self.sessions.get_mut(&worker) {
            Some(session) if session.number() == number => {
                session.last_call = session.last_call.max(now);
                Ok(session)
            }
            _ => Err(SessionError::Unknown { worker, session: number }),
        }
    }

    /// Whether a worker has been sent the order to start an attempt, or has said that it
    /// has it, in its present session.
    pub fn may_have_begun(&self, worker: WorkerId, attempt: AttemptId) -> bool {
        self.sessions.get(&worker).is_some_and(|session| session.may_have_begun(attempt))
    }

    /// Says something to a worker if it is there; whoever waits for its commands is woken.
    pub fn say(&mut self, worker: WorkerId, say: impl FnOnce(&mut Session) -> bool) {
        if let Some(session) = self.sessions.get_mut(&worker)
            && say(session)
        {
            self.woken.insert(worker);
        }
    }

    pub fn take_woken(&mut self) -> BTreeSet<WorkerId> {
        std::mem::take(&mut self.woken)
    }

    /// Workers that have not been heard of for so long; they are no longer here.
    pub fn take_lost(&mut self, now: Timestamp, after_ms: u64) -> Vec<WorkerId> {
        let is_lost = |last: Timestamp| now.since(last).as_millis() >= u128::from(after_ms);
        let silent = self.sessions.iter().filter(|(_, session)| is_lost(session.last_call));
        let missing = self.expected.iter().filter(|(_, since)| is_lost(**since));
        let lost: Vec<WorkerId> =
            silent.map(|(&worker, _)| worker).chain(missing.map(|(&worker, _)| worker)).collect();
        for worker in &lost {
            self.sessions.remove(worker);
            self.expected.remove(worker);
            self.away.insert(*worker, now);
        }
        lost
    }

    /// Workers that have been lost for so long that they need not be remembered.
    pub fn take_forgotten(&mut self, now: Timestamp, after_ms: u64) -> Vec<WorkerId> {
        let is_over = |since: Timestamp| now.since(since).as_millis() >= u128::from(after_ms);
        let over: Vec<WorkerId> =
            self.away.iter().filter(|(_, since)| is_over(**since)).map(|(&id, _)| id).collect();
        self.away.retain(|_, since| !is_over(*since));
        over
    }

    pub fn last_call(&self, worker: WorkerId) -> Option<Timestamp> {
        self.sessions.get(&worker).map(|session| session.last_call)
    }
}
