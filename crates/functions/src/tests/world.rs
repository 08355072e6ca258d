//! A server that can be killed: an engine, and a disk that has what was synced, perhaps more.

use std::collections::VecDeque;

use corral_types::Timestamp;

use super::Rng;
use super::describe::{check, describe};
use crate::core::Core;
use crate::engine::{Engine, Outbox};
use crate::record::Record;
use crate::snapshot::SnapshotWalk;

/// What was told once the records up to `after` were on disk.
pub(super) struct Answer<A> {
    pub after: usize,
    pub what: A,
}

pub(super) struct Server<A> {
    pub engine: Option<Engine>,
    /// Every record since the beginning that is on disk or on its way there.
    pub log: Vec<Vec<u8>>,
    /// How many of them are on disk for sure.
    pub synced: usize,
    /// Records that are not on their way yet.
    gathered: Vec<Vec<u8>>,
    pub answers: VecDeque<Answer<A>>,
    snapshot: Option<(usize, Vec<Vec<u8>>)>,
    walk: Option<(usize, SnapshotWalk, Vec<Vec<u8>>)>,
}

impl<A> Server<A> {
    pub fn new(now: Timestamp, rng: &mut Rng) -> Self {
        let mut server = Self {
            engine: None,
            log: Vec::new(),
            synced: 0,
            gathered: Vec::new(),
            answers: VecDeque::new(),
            snapshot: None,
            walk: None,
        };
        server.restart(now, rng);
        server
    }

    /// What the engine wants to have done; what is to be told comes with it, once it is on disk.
    pub fn take_out(&mut self, told: Option<A>) -> Outbox {
        let engine = self.engine.as_mut().unwrap();
        let out = engine.take_out();
        self.gathered.extend(out.records.iter().cloned());
        assert_eq!(engine.core.sequence as usize, self.log.len() + self.gathered.len());
        if out.is_awaited || !out.changed_calls.is_empty() {
            self.log.append(&mut self.gathered);
        }
        if let Some(what) = told {
            self.answers.push_back(Answer { after: self.log.len(), what });
        }
        out
    }

    /// The disk takes some of what is on its way; answers that can be told.
    pub fn sync(&mut self, rng: &mut Rng) -> Vec<A> {
        let more = rng.below((self.log.len() - self.synced) as u64 + 1) as usize;
        self.synced += if rng.percent(70) { self.log.len() - self.synced } else { more };
        let mut told = Vec::new();
        while self.answers.front().is_some_and(|answer| answer.after <= self.synced) {
            told.push(self.answers.pop_front().unwrap().what);
        }
        told
    }

    /// A step of a snapshot.
    pub fn snapshot(&mut self, rng: &mut Rng) {
        let engine = self.engine.as_ref().unwrap();
        match &mut self.walk {
            None => {
                self.log.append(&mut self.gathered);
                let (pieces, walk) = SnapshotWalk::begin(&engine.core);
                self.walk = Some((self.log.len(), walk, pieces));
            }
            Some((_, walk, pieces)) => match walk.next_piece(&engine.core) {
                Some(piece) => pieces.push(piece),
                None => {
                    self.log.append(&mut self.gathered);
                    if self.synced == self.log.len() || rng.percent(50) {
                        self.synced = self.log.len();
                        let (covers, _, pieces) = self.walk.take().unwrap();
                        self.snapshot = Some((covers, pieces));
                    }
                }
            },
        }
    }

    /// The process is gone, and with it what was not on disk, or part of that.
    pub fn kill(&mut self, rng: &mut Rng) {
        self.engine = None;
        self.gathered.clear();
        self.answers.clear();
        self.walk = None;
        let kept = self.synced + rng.below((self.log.len() - self.synced) as u64 + 1) as usize;
        self.log.truncate(kept);
        self.synced = kept;
    }

    /// A new process reads what is on disk.
    pub fn restart(&mut self, now: Timestamp, rng: &mut Rng) -> Outbox {
        let core = self.recover();
        check(&core);
        if self.snapshot.is_some() {
            let from_the_start = replay(Core::default(), &self.log);
            for ((one, words), (other, others)) in
                describe(&core).iter().zip(&describe(&from_the_start))
            {
                assert_eq!((one, words), (other, others), "with and without the snapshot");
            }
        }
        let mut bits = Rng(rng.next());
        self.engine = Some(Engine::new(now, core, Box::new(move || bits.bits())));
        self.take_out(None)
    }

    fn recover(&self) -> Core {
        let mut core = Core::default();
        let Some((covers, pieces)) = &self.snapshot else { return replay(core, &self.log) };
        core.sequence = *covers as u64;
        for piece in pieces {
            core.restore(piece).unwrap();
        }
        core.link_restored();
        let mut core = replay(core, &self.log[*covers..]);
        core.ahead = None;
        core
    }
}

fn replay(mut core: Core, records: &[Vec<u8>]) -> Core {
    for record in records {
        let decoded = Record::decode(record).unwrap();
        assert_eq!(decoded.encode(), *record);
        core.apply(decoded);
    }
    core
}
