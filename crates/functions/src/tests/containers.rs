//! Containers that a test makes up: they start, ask for inputs, work, answer, crash.

use std::collections::BTreeMap;

use bytes::Bytes;
use corral_containers::{ContainerEnd, ContainerEvent, StartKind, StopReason, Usage};
use corral_types::{ContainerId, InputId, Timestamp};

use super::Rng;
use crate::call::{Outcome, OutcomeStatus, Payload};
use crate::container::{AttemptOutput, GivenInput, NextInputs};
use crate::settings::{FunctionSettings, Reuse};
use crate::state::Poll;

/// How an input behaves, as its payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Behaviour {
    Works,
    /// In the first attempt.
    FailsOnce,
    Fails,
    KillsItsContainer,
    TakesForEver,
    TakesItsMemory,
}

impl Behaviour {
    pub fn payload(self) -> Payload {
        Payload::Inline(Bytes::copy_from_slice(&[self as u8]))
    }

    fn of(payload: &Payload) -> Self {
        let Payload::Inline(bytes) = payload else { panic!("payloads of the test are inline") };
        match bytes[0] {
            0 => Self::Works,
            1 => Self::FailsOnce,
            2 => Self::Fails,
            3 => Self::KillsItsContainer,
            4 => Self::TakesForEver,
            _ => Self::TakesItsMemory,
        }
    }
}

pub(super) struct Work {
    input: GivenInput,
    until: Timestamp,
    /// What it said, once it is done.
    output: Option<AttemptOutput>,
}

/// What a container does next.
#[derive(Debug)]
pub(super) enum Deed {
    Event(ContainerEvent),
    Hello,
    Poll(Poll),
    Outputs(Vec<AttemptOutput>),
    TaskResult(Outcome),
}

/// How starts go in a world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Starts {
    pub slowest_ms: u64,
    pub fail_percent: u64,
}

pub(super) struct Body {
    settings: FunctionSettings,
    starts_at: Timestamp,
    fails: bool,
    /// What its worker has to tell, until it was taken in.
    events: Vec<ContainerEvent>,
    has_started: bool,
    has_said_hello: bool,
    pub works: Vec<Work>,
    poll: Option<(Poll, Timestamp)>,
    next_key: u32,
    /// It asks for no more inputs.
    pub is_leaving: bool,
    pub stop: Option<(Timestamp, StopReason)>,
    pub has_ended: bool,
    resend_at: Timestamp,
    event_sent_at: Timestamp,
    pub most_at_once: usize,
}

#[derive(Default)]
pub(super) struct Host {
    pub bodies: BTreeMap<ContainerId, Body>,
    /// Attempts that were made of each input.
    pub attempts: BTreeMap<InputId, u32>,
}

impl Host {
    pub fn start(
        &mut self,
        now: Timestamp,
        id: ContainerId,
        settings: &FunctionSettings,
        starts: Starts,
        rng: &mut Rng,
    ) {
        let starts_at = now.plus(std::time::Duration::from_millis(rng.below(starts.slowest_ms)));
        self.bodies.entry(id).or_insert_with(|| Body {
            settings: settings.clone(),
            starts_at,
            fails: rng.percent(starts.fail_percent),
            events: Vec::new(),
            has_started: false,
            has_said_hello: false,
            works: Vec::new(),
            poll: None,
            next_key: 1,
            is_leaving: false,
            stop: None,
            has_ended: false,
            resend_at: now,
            event_sent_at: Timestamp::default(),
            most_at_once: 0,
        });
    }

    pub fn stop(&mut self, now: Timestamp, id: ContainerId, reason: StopReason, rng: &mut Rng) {
        let takes = std::time::Duration::from_millis(rng.below(500));
        match self.bodies.get_mut(&id) {
            Some(body) => _ = body.stop.get_or_insert((now.plus(takes), reason)),
            // It is nowhere: its end is told again.
            None => {
                let starts = Starts { slowest_ms: 0, fail_percent: 0 };
                let settings = super::settings(u128::MAX);
                self.start(now, id, &settings, starts, rng);
                self.bodies.get_mut(&id).unwrap().end(ContainerEnd::Lost);
            }
        }
    }

    /// The answer to a container's poll arrives.
    pub fn answer(&mut self, now: Timestamp, id: ContainerId, answer: NextInputs, rng: &mut Rng) {
        let Some(body) = self.bodies.get_mut(&id).filter(|body| !body.has_ended) else { return };
        body.poll = None;
        match answer {
            NextInputs::Kill => body.is_leaving = true,
            NextInputs::Inputs(inputs) => {
                let known = |input: &GivenInput| {
                    body.works.iter().any(|work| {
                        work.input.input == input.input && work.input.retries == input.retries
                    })
                };
                let new: Vec<GivenInput> =
                    inputs.into_iter().filter(|input| !known(input)).collect();
                for input in new {
                    *self.attempts.entry(input.input).or_default() += 1;
                    let takes = match Behaviour::of(&input.payload) {
                        Behaviour::TakesForEver => 3_600_000,
                        _ => rng.below(400),
                    };
                    let until = now.plus(std::time::Duration::from_millis(takes));
                    body.works.push(Work { input, until, output: None });
                }
                let settings = &body.settings;
                body.most_at_once = body.most_at_once.max(body.works.len());
                assert!(body.works.len() <= settings.capacity() as usize, "over its capacity");
                body.is_leaving |= settings.reuse == Reuse::Single;
            }
        }
    }

    /// What was sent came through.
    pub fn taken_outputs(&mut self, id: ContainerId, outputs: &[AttemptOutput]) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.works.retain(|work| {
                let is_it = |output: &AttemptOutput| {
                    output.input == work.input.input && output.retries == work.input.retries
                };
                !(work.output.is_some() && outputs.iter().any(is_it))
            });
        }
    }

    pub fn taken_event(&mut self, id: ContainerId, event: &ContainerEvent) {
        let Some(body) = self.bodies.get_mut(&id) else { return };
        body.events.retain(|other| other != event);
        if matches!(event, ContainerEvent::Ended { .. }) {
            self.bodies.remove(&id);
        }
    }

    /// The inputs are to be left alone.
    pub fn interrupt(&mut self, id: ContainerId, inputs: &[InputId]) {
        let Some(body) = self.bodies.get_mut(&id) else { return };
        for work in &mut body.works {
            if inputs.contains(&work.input.input) && work.output.is_none() {
                work.output = Some(AttemptOutput {
                    input: work.input.input,
                    retries: work.input.retries,
                    outcome: Outcome::without_payload(OutcomeStatus::Terminated, "cancelled"),
                    started_at: None,
                    created_at: None,
                });
            }
        }
    }

    /// The server is another: what was under way is sent again.
    pub fn server_is_new(&mut self, now: Timestamp) {
        for body in self.bodies.values_mut() {
            body.resend_at = now;
            body.event_sent_at = Timestamp::default();
            if let Some((_, sent_at)) = &mut body.poll {
                *sent_at = Timestamp::default();
            }
        }
    }
}

impl Body {
    fn end(&mut self, end: ContainerEnd) {
        if !self.has_ended {
            self.has_ended = true;
            self.works.clear();
            let usage = Usage { wall_ms: 10, cpu_ms: 5, ..Usage::default() };
            self.events.push(ContainerEvent::Ended { end, usage });
        }
    }

    /// What the container and its worker do in this moment.
    pub fn act(&mut self, now: Timestamp, crash: bool, rng: &mut Rng) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if let Some((at, reason)) = self.stop
            && at <= now
        {
            self.end(ContainerEnd::Stopped { reason });
        }
        if crash && self.has_started {
            let lost = rng.percent(50);
            let end = ContainerEnd::Killed { signal: 9 };
            self.end(if lost { ContainerEnd::Lost } else { end });
        }
        if !self.has_ended && !self.has_started && self.starts_at <= now {
            if self.fails {
                let hint = None;
                self.end(ContainerEnd::NotStarted { message: "no luck".into(), hint });
            } else {
                self.has_started = true;
                let (kind, plain_reason) = (StartKind::Template, None);
                self.events.push(ContainerEvent::Started { kind, took_ms: 1, plain_reason });
            }
        }
        if !self.has_ended && self.has_started {
            self.work(now, rng, &mut deeds);
        }
        if !self.has_ended && self.has_started && rng.percent(1) {
            deeds.push(Deed::Event(ContainerEvent::Usage { usage: Usage::default() }));
        }
        let resend = std::time::Duration::from_millis(400);
        if !self.events.is_empty() && self.event_sent_at.plus(resend) <= now {
            self.event_sent_at = now;
            deeds.extend(self.events.iter().cloned().map(Deed::Event));
        }
        deeds
    }

    fn work(&mut self, now: Timestamp, rng: &mut Rng, deeds: &mut Vec<Deed>) {
        if !self.has_said_hello {
            self.has_said_hello = true;
            deeds.push(Deed::Hello);
            return;
        }
        for index in 0..self.works.len() {
            let work = &mut self.works[index];
            if work.output.is_some() || work.until > now {
                continue;
            }
            let status = match Behaviour::of(&work.input.payload) {
                Behaviour::Works | Behaviour::TakesForEver => OutcomeStatus::Success,
                Behaviour::FailsOnce if work.input.retries > 0 => OutcomeStatus::Success,
                Behaviour::Fails | Behaviour::FailsOnce => OutcomeStatus::Failure,
                Behaviour::KillsItsContainer => {
                    self.end(ContainerEnd::Exited { exit_code: 3 });
                    return;
                }
                Behaviour::TakesItsMemory => {
                    self.end(ContainerEnd::OverMemory { limit_bytes: 1, measured_bytes: 2 });
                    return;
                }
            };
            let outcome = match status {
                OutcomeStatus::Success => {
                    Outcome::success(Payload::Inline(Bytes::copy_from_slice(&[index as u8])), 1)
                }
                status => Outcome::without_payload(status, "no"),
            };
            let GivenInput { input, retries, .. } = work.input;
            work.output =
                Some(AttemptOutput { input, retries, outcome, started_at: None, created_at: None });
        }
        let done = self.works.iter().filter_map(|work| work.output.clone());
        let done: Vec<AttemptOutput> = done.collect();
        if !done.is_empty() && self.resend_at <= now {
            self.resend_at = now.plus(std::time::Duration::from_millis(300));
            deeds.push(Deed::Outputs(done));
            return;
        }
        if self.is_leaving {
            if self.works.is_empty() {
                if rng.percent(50) {
                    let outcome = Outcome::without_payload(OutcomeStatus::Success, "");
                    deeds.push(Deed::TaskResult(outcome));
                }
                self.end(ContainerEnd::Exited { exit_code: 0 });
            }
            return;
        }
        // As the client does: a place is free once the outputs of a batch were taken.
        let batches = match self.settings.batching {
            Some(_) => {
                usize::from(!self.works.is_empty()) * self.settings.max_concurrent_inputs as usize
            }
            None => self.works.len(),
        };
        if batches >= self.settings.max_concurrent_inputs as usize {
            return;
        }
        let retry = std::time::Duration::from_millis(600);
        match &mut self.poll {
            Some((_, sent_at)) if sent_at.plus(retry) > now => {}
            Some((poll, sent_at)) => {
                *sent_at = now;
                deeds.push(Deed::Poll(*poll));
            }
            None => {
                let max_inputs = self.settings.batching.map_or(1, |batching| batching.max_size);
                let poll = Poll { key: self.next_key, max_inputs };
                self.next_key += 1;
                self.poll = Some((poll, now));
                deeds.push(Deed::Poll(poll));
            }
        }
    }
}
