//! A worker as the protocol asks for it, with everything that can happen to one.

use std::collections::{BTreeMap, BTreeSet};

use corral_types::{AttemptId, BlobHash, MIB, Timestamp, WorkerId};
use corral_worker_api::{
    Accounting, AttemptEvent, AttemptUsage, Capacity, Command, Enforcement, Event, EventBatch,
    Hello, LogStream, Numbered, Outcome, Output, PROTOCOL_VERSION, Poll, Start, StopReason, Usage,
};
use serde_json::json;

use crate::rng::Rng;

/// An attempt on the worker: its spool of events, and what it is doing.
#[derive(Clone, Debug)]
pub struct Running {
    pub start: Start,
    pub spool: Vec<AttemptEvent>,
    /// Events up to here are acknowledged.
    pub acknowledged: u64,
    pub next: u64,
    pub ended: bool,
    pub measured: u64,
}

#[derive(Debug)]
pub struct Worker {
    pub id: WorkerId,
    pub memory_bytes: u64,
    pub session: Option<u64>,
    /// How often it said hello.
    pub hellos: u64,
    /// How long it waits for the answer to the last.
    pub hello_until: u64,
    pub taken: u64,
    /// What its data directory holds: survives the worker's death.
    pub attempts: BTreeMap<AttemptId, Running>,
    /// Every attempt that its disk ever held: none may be started twice.
    pub ever: BTreeSet<AttemptId>,
    pub down_until: u64,
}

impl Worker {
    pub fn new(number: u128, rng: &mut Rng) -> Self {
        Self {
            id: WorkerId::from_u128(number),
            memory_bytes: rng.between(2, 8) * 1024 * MIB,
            session: None,
            hellos: 0,
            hello_until: 0,
            taken: 0,
            attempts: BTreeMap::new(),
            ever: BTreeSet::new(),
            down_until: 0,
        }
    }

    pub fn hello(&self) -> Hello {
        Hello {
            protocol_version: PROTOCOL_VERSION,
            worker: self.id,
            host_name: format!("host-{}", self.id),
            capacity: Capacity {
                memory_bytes: self.memory_bytes,
                milli_cpu: 8_000,
                disk_bytes: 1 << 40,
            },
            enforcement: Enforcement::Watchdog,
            attempts: self.attempts.keys().copied().collect(),
            tasks: Vec::new(),
        }
    }

    pub fn poll(&self, session: u64) -> Poll {
        let used: u64 = self.attempts.values().map(|running| running.measured).sum();
        let usage = self.attempts.iter().map(|(&attempt, running)| AttemptUsage {
            attempt,
            memory_bytes: running.measured,
            cpu_ms: 1,
        });
        Poll {
            worker: self.id,
            session,
            acknowledged: self.taken,
            usage: Usage {
                free_memory_bytes: (self.memory_bytes + 512 * MIB).saturating_sub(used).max(1),
                free_disk_bytes: 1 << 40,
                attempts: usage.collect(),
                tasks: Vec::new(),
            },
        }
    }

    /// Takes commands in; each number once, in order.
    pub fn take(&mut self, now: u64, commands: &[Numbered]) {
        for numbered in commands {
            if numbered.number <= self.taken {
                continue;
            }
            assert_eq!(numbered.number, self.taken + 1, "a command was left out");
            self.taken = numbered.number;
            match &numbered.command {
                Command::Start(start) => {
                    assert!(self.ever.insert(start.attempt), "started twice: {}", start.attempt);
                    let running = Running {
                        start: (**start).clone(),
                        spool: Vec::new(),
                        acknowledged: 0,
                        next: 1,
                        ended: false,
                        measured: 0,
                    };
                    self.attempts.insert(start.attempt, running);
                    self.say(now, start.attempt, Event::Started { process_id: 1 });
                }
                Command::Stop { attempt, reason } => self.stop(now, *attempt, *reason),
                Command::SetLimits { .. }
                | Command::StartTask { .. }
                | Command::StopTask { .. } => {}
                Command::Forget { attempt } => {
                    if let Some(running) = self.attempts.remove(attempt) {
                        assert!(running.ended, "told to forget what runs");
                    }
                }
            }
        }
    }

    fn stop(&mut self, now: u64, attempt: AttemptId, reason: StopReason) {
        let outcome = match reason {
            StopReason::FinishNow => succeeded(attempt),
            _ => Outcome::Stopped { reason },
        };
        self.end(now, attempt, outcome);
    }

    pub fn say(&mut self, now: u64, attempt: AttemptId, event: Event) {
        let Some(running) = self.attempts.get_mut(&attempt) else { return };
        if running.ended {
            return;
        }
        running.ended = matches!(event, Event::Ended { .. });
        let number = running.next;
        running.next += 1;
        running.spool.push(AttemptEvent {
            attempt,
            number,
            at: Timestamp::from_millis(now),
            event,
        });
    }

    pub fn end(&mut self, now: u64, attempt: AttemptId, outcome: Outcome) {
        let accounting = Accounting { wall_ms: 5, cpu_ms: 3, peak_memory_bytes: 7 };
        self.say(now, attempt, Event::Ended { outcome, accounting });
        if let Some(running) = self.attempts.get_mut(&attempt) {
            running.measured = 0;
        }
    }

    /// The attempts go on: they log, report, checkpoint, succeed, fail, die.
    pub fn work(&mut self, now: u64, rng: &mut Rng) {
        let running: Vec<AttemptId> = self.attempts.keys().copied().collect();
        for attempt in running {
            match rng.between(0, 19) {
                0..=2 => {
                    let line = format!("line of {attempt}");
                    self.say(now, attempt, Event::Log { stream: LogStream::Stdout, line });
                }
                3..=4 => {
                    let fraction = rng.between(0, 100) as f32 / 100.0;
                    let (message, detail) = ("at it".to_owned(), json!({ "now": now }));
                    self.say(now, attempt, Event::Progress { fraction, message, detail });
                }
                5 => {
                    let blob = BlobHash::of(&now.to_le_bytes());
                    self.say(now, attempt, Event::Checkpoint { blob });
                }
                6..=7 => self.end(now, attempt, succeeded(attempt)),
                8 => {
                    let outcome = Outcome::Failed {
                        message: "would not".to_owned(),
                        causes: Vec::new(),
                        hint: None,
                        retryable: rng.chance(70),
                    };
                    self.end(now, attempt, outcome);
                }
                9 => {
                    self.end(now, attempt, Outcome::Died { exit_code: None, signal: Some(9) });
                }
                10..=12 => {
                    if let Some(running) = self.attempts.get_mut(&attempt)
                        && !running.ended
                    {
                        running.measured += rng.between(0, 512) * MIB;
                        let limits = running.start.limits;
                        if running.measured > limits.memory_limit_bytes {
                            let outcome = Outcome::OverMemory {
                                requested_bytes: limits.memory_request_bytes,
                                limit_bytes: limits.memory_limit_bytes,
                                measured_bytes: running.measured,
                            };
                            self.end(now, attempt, outcome);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// What is not acknowledged, or some of it.
    pub fn batch(&self, session: u64, rng: &mut Rng) -> EventBatch {
        let mut events: Vec<AttemptEvent> = self
            .attempts
            .values()
            .flat_map(|running| {
                running.spool.iter().filter(|event| event.number > running.acknowledged)
            })
            .cloned()
            .collect();
        if rng.chance(20) {
            let end = rng.between(0, events.len() as u64) as usize;
            events.truncate(end);
        }
        if rng.chance(10) {
            events.reverse();
        }
        EventBatch { worker: self.id, session, events }
    }

    pub fn acknowledged(&mut self, up_to: &[(AttemptId, u64)]) {
        for &(attempt, number) in up_to {
            if let Some(running) = self.attempts.get_mut(&attempt) {
                assert!(number < running.next, "acknowledged what was never said");
                running.acknowledged = running.acknowledged.max(number);
            }
        }
    }

    /// The process dies: its attempts' processes go with it, their spools stay, and it is
    /// back after a while, when it says that they are lost.
    pub fn die(&mut self, now: u64, rng: &mut Rng) {
        self.session = None;
        // An answer to the hello of an earlier life reaches nobody.
        self.hellos += 1;
        self.hello_until = 0;
        self.down_until = now + rng.between(100, 100_000);
        if rng.chance(20) {
            // The machine came back with an empty disk: it knows of nothing.
            self.attempts.clear();
            self.ever.clear();
        }
        let lost: Vec<AttemptId> = self.attempts.keys().copied().collect();
        for attempt in lost {
            self.end(now, attempt, Outcome::Lost);
        }
    }
}

pub fn succeeded(attempt: AttemptId) -> Outcome {
    let blob = BlobHash::of(&attempt.as_u128().to_le_bytes());
    Outcome::Succeeded {
        result: json!({ "by": attempt.to_string() }),
        outputs: vec![Output { name: "out".to_owned(), blob, bytes: 16 }],
    }
}
