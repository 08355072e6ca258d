//! What containers ask for, and what becomes of them.

use corral_containers::{ContainerEnd, ContainerEvent, StartKind, StopReason, Usage};
use corral_types::{ContainerId, InputId, Timestamp};

use super::Engine;
use crate::call::{Outcome, OutcomeStatus};
use crate::container::{GivenInput, NextInputs};
use crate::packed::{Ending, unpack_payload};
use crate::policy::FAILED_STARTS_BEFORE_GIVING_UP;
use crate::policy::{
    INTERRUPT_GRACE, KILL_GRACE, MAX_START_BACK_OFF_MS, NEWEST_WEIGHT, SILENCE_GRACE,
    START_BACK_OFF_MS, STOP_AGAIN_AFTER,
};
use crate::record::{Counted, Record};
use crate::settings::Reuse;
use crate::state::Poll;

/// How much a start that failed says of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartFailure {
    /// The user's own code failed: it will again, unless it did not once before.
    OwnCode,
    /// Something around it.
    Around,
    /// The next will fail as well.
    ForGood,
}

impl Engine {
    /// The container's client is there.
    pub fn hello(&mut self, now: Timestamp, id: ContainerId) -> Result<(), crate::FunctionsError> {
        let place = self.known_container(id)?;
        if self.core.containers[place].started.is_none() {
            // Its worker's word is on its way still.
            let kind = StartKind::Cold;
            self.commit(Record::ContainerStarted { container: id, at: now, kind });
        }
        Ok(())
    }

    /// A container asks for inputs. The answer comes to the outbox, perhaps later.
    pub fn poll(&mut self, now: Timestamp, id: ContainerId, poll: Poll) {
        let Some(place) = self.core.container(id) else {
            self.out.answers.push((id, NextInputs::Kill));
            return;
        };
        if self.core.containers[place].ready_at.is_none() {
            self.became_ready(now, place);
        }
        let container = &self.core.containers[place];
        let function = container.function;
        let settings = &self.function(function).settings;
        let is_single = settings.reuse == Reuse::Single;
        // A container asks when it has a place free. With one place only, what it has by our
        // knowledge never reached it; nor did what the same poll was answered before.
        let has_one_place = settings.max_concurrent_inputs == 1;
        let lost: Vec<u32> = container
            .running
            .iter()
            .copied()
            .filter(|&input| {
                let by = self.core.inputs[input].poll;
                has_one_place || poll.key != 0 && by == poll.key
            })
            .collect();
        if has_one_place && !container.interrupted.is_empty() {
            let inputs = container.interrupted.iter().map(|&(input, _)| input).collect();
            self.commit(Record::Released { container: id, inputs });
        }
        if !lost.is_empty() {
            self.hand_over(place, &lost);
            return;
        }
        let container = &self.core.containers[place];
        if container.draining_since.is_some() || is_single && container.inputs_given > 0 {
            self.kill(now, place);
            return;
        }
        self.core.containers[place].present.poll = Some(poll);
        let pollers = &mut self.core.functions[function].pace.pollers;
        pollers.retain(|&other| other != place);
        pollers.push(place);
        self.dispatch(now, function);
    }

    /// Nobody waits for the answer to a container's poll any more.
    pub fn poll_ended(&mut self, id: ContainerId) {
        let Some(place) = self.core.container(id) else { return };
        let container = &mut self.core.containers[place];
        if container.present.poll.take().is_some() {
            let pollers = &mut self.core.functions[container.function].pace.pollers;
            pollers.retain(|&other| other != place);
        }
    }

    /// Inputs did not reach the container that they were given to.
    pub fn undelivered(&mut self, now: Timestamp, id: ContainerId, inputs: &[GivenInput]) {
        let holder = self.core.container(id);
        let is_held = |place: &u32| Some(self.core.inputs[*place].place) == holder;
        let places = inputs.iter().filter_map(|input| self.core.input(input.input));
        let running = places.filter(|&place| self.is_running(place)).filter(is_held);
        let running: Vec<u32> = running.collect();
        let Some(&first) = running.first() else { return };
        let function = self.core.function_of(&self.core.inputs[first]);
        let inputs = self.keys_of(&running);
        self.commit(Record::Requeued { until: None, counted: Counted::Not, inputs });
        self.dispatch(now, function);
    }

    fn became_ready(&mut self, now: Timestamp, place: u32) {
        let container = &self.core.containers[place];
        let (id, took) = (container.id, now.since(container.requested_at).as_millis() as f64);
        let (function, version) = (container.function, container.version);
        self.commit_awaited(Record::ContainerReady { container: id, at: now });
        self.core.containers[place].present.idle_since = now;
        let function = &mut self.core.functions[function];
        if function.settings.version == version {
            let pace = &mut function.pace;
            pace.is_proven = true;
            pace.failed_starts = 0;
            pace.startup_ms = measured(pace.startup_ms, took);
        }
    }

    /// Answers a poll with inputs that the container has.
    pub(super) fn hand_over(&mut self, holder: u32, places: &[u32]) {
        let container = &self.core.containers[holder];
        let settings = &self.function(container.function).settings;
        let is_final = settings.reuse == Reuse::Single;
        let inputs = places.iter().map(|&place| self.given(place, is_final)).collect();
        self.out.answers.push((container.id, NextInputs::Inputs(inputs)));
    }

    fn given(&self, place: u32, is_final: bool) -> GivenInput {
        let input = &self.core.inputs[place];
        let call = &self.core.calls[input.call];
        GivenInput {
            input: call.key.input(input.index),
            call: call.key.call(),
            index: input.index,
            payload: unpack_payload(&input.body).expect("what was packed here can be unpacked"),
            data_format: input.format.into(),
            method: self.core.methods.name(input.method).to_owned(),
            invocation: call.invocation,
            retries: input.retries.into(),
            is_final,
        }
    }

    /// Tells a container that waits for inputs to end.
    fn kill(&mut self, now: Timestamp, place: u32) {
        self.drain(now, place);
        let id = self.core.containers[place].id;
        self.poll_ended(id);
        self.out.answers.push((id, NextInputs::Kill));
    }

    /// Gives a container no more inputs. One that waits is told to end, one that did not start
    /// is stopped.
    pub(super) fn drain(&mut self, now: Timestamp, place: u32) {
        let container = &self.core.containers[place];
        if container.draining_since.is_some() {
            return;
        }
        let (id, is_polling) = (container.id, container.present.poll.is_some());
        let has_started = container.started.is_some() || container.ready_at.is_some();
        self.commit(Record::ContainerDraining { container: id, at: now });
        if is_polling {
            self.kill(now, place);
        } else if !has_started {
            self.stop(now, place, StopReason::Idle);
        }
    }

    /// Drains the containers of a function that run another definition than its present one.
    pub(super) fn drain_older(&mut self, now: Timestamp, function: u32) {
        let known = self.function(function);
        let version = known.settings.version;
        for place in known.containers.clone() {
            if self.core.containers[place].version != version {
                self.drain(now, place);
            }
        }
    }

    /// Has a container ended, once in a while.
    pub(super) fn stop(&mut self, now: Timestamp, place: u32, reason: StopReason) {
        let container = &mut self.core.containers[place];
        if container.present.stop.is_none_or(|(_, at)| at.plus(STOP_AGAIN_AFTER) <= now) {
            container.present.stop = Some((reason, now));
            self.out.stops.push((container.id, reason));
        }
    }

    /// A person wants a container to end.
    pub fn stop_container(&mut self, now: Timestamp, place: u32) {
        self.drain(now, place);
        self.stop(now, place, StopReason::Requested);
        self.out.is_awaited = true;
    }

    /// What each container of a function is due for.
    pub(super) fn look_after_containers(&mut self, now: Timestamp, function: u32) {
        let known = self.function(function);
        if known.containers.is_empty() {
            return;
        }
        let settings = known.settings.clone();
        let window = std::time::Duration::from_millis(settings.scaling.scaledown_window_ms);
        let startup = std::time::Duration::from_millis(settings.startup_timeout_ms);
        let (containers, floor) = (known.containers.clone(), self.floor(function));
        let mut alive = self.alive(function);
        for place in containers {
            let Some(container) = self.core.containers.get(place) else { continue };
            let present = &container.present;
            if let Some((reason, at)) = present.stop {
                if at.plus(STOP_AGAIN_AFTER) <= now {
                    self.stop(now, place, reason);
                }
            } else if let Some(since) = container.draining_since {
                let since = since.max(present.idle_since);
                if container.running.is_empty() && since.plus(KILL_GRACE) <= now {
                    self.stop(now, place, StopReason::Idle);
                }
            } else if container.ready_at.is_some() {
                let is_idle = container.running.is_empty() && container.interrupted.is_empty();
                let until = present.idle_since.plus(window);
                if !is_idle || until > now {
                    // It has something to do, or may wait for it.
                } else if present.poll.is_some() {
                    if alive > floor {
                        alive -= 1;
                        self.kill(now, place);
                    }
                } else if until.plus(SILENCE_GRACE) <= now {
                    // It hangs, or works on what it was given by a server that was killed before
                    // that was on disk, and which was given to another since.
                    alive -= 1;
                    self.drain(now, place);
                    self.stop(now, place, StopReason::Idle);
                }
            } else if let Some((at, _)) = container.started {
                if at.plus(startup) <= now {
                    let words = format!(
                        "the container took longer to start than its startup timeout of {} s",
                        settings.startup_timeout_ms as f64 / 1e3
                    );
                    self.drain(now, place);
                    self.stop(now, place, StopReason::StartupTimeout);
                    let outcome = Outcome::without_payload(OutcomeStatus::InitFailure, words);
                    // One that a server before this one started may have been ready to that one.
                    let is_ours = at > self.runs_since;
                    let failure =
                        if is_ours { StartFailure::OwnCode } else { StartFailure::Around };
                    self.start_failed(now, place, outcome, failure);
                }
            } else if container.requested_at.plus(window) <= now
                && present.idle_since.plus(window) <= now
                && alive > floor
                && self.function(function).queued == 0
            {
                alive -= 1;
                self.drain(now, place);
            }
            let Some(container) = self.core.containers.get(place) else { continue };
            let goes_on = |&(_, since): &(InputId, Timestamp)| since.plus(INTERRUPT_GRACE) <= now;
            if container.interrupted.iter().any(goes_on) {
                self.drain(now, place);
                self.stop(now, place, StopReason::InputCancelled);
            }
        }
    }

    /// What a worker tells of a container.
    pub fn container_event(&mut self, now: Timestamp, id: ContainerId, event: &ContainerEvent) {
        let Some(place) = self.core.container(id) else {
            // It was asked for by a server that was killed before that was on disk, or its end
            // was taken in: nothing is to be done in it.
            if !matches!(event, ContainerEvent::Ended { .. }) {
                self.out.stops.push((id, StopReason::Retired));
            }
            return;
        };
        match event {
            ContainerEvent::Started { kind, .. } => {
                self.commit_awaited(Record::ContainerStarted {
                    container: id,
                    at: now,
                    kind: *kind,
                });
            }
            ContainerEvent::Lines { .. } => {}
            ContainerEvent::Usage { usage } => self.account(place, usage),
            ContainerEvent::Ended { end, usage } => {
                self.account(place, usage);
                self.ended(now, place, end);
            }
        }
    }

    /// No container of this definition will ever start.
    pub fn start_refused(&mut self, now: Timestamp, place: u32, words: String) {
        self.out.is_awaited = true;
        let outcome = Outcome::without_payload(OutcomeStatus::InitFailure, words);
        self.start_failed(now, place, outcome, StartFailure::ForGood);
        self.remove(place);
    }

    /// The container says how its run ended.
    pub fn task_result(&mut self, now: Timestamp, place: u32, outcome: Outcome) {
        self.out.is_awaited = true;
        let container = &self.core.containers[place];
        let (is_draining, has_polled) =
            (container.draining_since.is_some(), container.ready_at.is_some());
        let (id, running) = (container.id, container.running.clone());
        self.drain(now, place);
        if outcome.status == OutcomeStatus::Success {
            return;
        }
        if !has_polled && !is_draining {
            self.start_failed(now, place, outcome, StartFailure::OwnCode);
            return;
        }
        for input in running {
            let started_at = Some(self.core.inputs[input].started_at());
            let ending = Ending { outcome: outcome.clone(), container: Some(id), started_at };
            self.after_failure(now, input, ending);
        }
    }

    fn account(&mut self, place: u32, usage: &Usage) {
        let container = &mut self.core.containers[place];
        let Some(function) = self.core.functions.get(container.function) else { return };
        let (resources, present) = (function.settings.resources, &mut container.present);
        let wall_ms = usage.wall_ms.saturating_sub(present.measured.wall_ms);
        let memory_mib = usage.memory_bytes.max(resources.memory_request_bytes) >> 20;
        let used = &mut present.used;
        used.wall_ms += wall_ms;
        used.cpu_ms += usage.cpu_ms.saturating_sub(present.measured.cpu_ms);
        used.memory_mib_ms += wall_ms * memory_mib;
        used.gpu_ms += wall_ms * u64::from(resources.gpus);
        present.measured = *usage;
    }

    fn ended(&mut self, now: Timestamp, place: u32, end: &ContainerEnd) {
        self.out.is_awaited = true;
        let container = &self.core.containers[place];
        let function = container.function;
        let failed_to_start = container.ready_at.is_none() && container.draining_since.is_none();
        let running = container.running.clone();
        if failed_to_start && !matches!(end, ContainerEnd::Lost | ContainerEnd::Stopped { .. }) {
            let outcome = Outcome::without_payload(OutcomeStatus::InitFailure, before_ready(end));
            self.start_failed(now, place, outcome, StartFailure::Around);
        }
        self.after_end(now, place, &running, end);
        self.remove(place);
        self.dispatch(now, function);
        self.scale(now, function);
    }

    fn remove(&mut self, place: u32) {
        let container = &self.core.containers[place];
        let mut usage = Box::new(container.present.used);
        if let Some((_, kind)) = container.started {
            match kind {
                StartKind::Cold => usage.cold_starts += 1,
                StartKind::Template => usage.template_starts += 1,
                StartKind::Snapshot => usage.snapshot_starts += 1,
            }
        }
        let container = container.id;
        self.poll_ended(container);
        self.commit(Record::ContainerEnded { container, usage });
    }

    /// A container did not get as far as asking for inputs.
    pub(super) fn start_failed(
        &mut self,
        now: Timestamp,
        place: u32,
        outcome: Outcome,
        failure: StartFailure,
    ) {
        let container = &mut self.core.containers[place];
        container.present.used.failed_starts += 1;
        let (function, version) = (container.function, container.version);
        let known = &mut self.core.functions[function];
        if known.settings.version != version {
            return;
        }
        let pace = &mut known.pace;
        pace.failed_starts = pace.failed_starts.saturating_add(1);
        let doublings = (pace.failed_starts - 1).min(16);
        let pause_ms = (START_BACK_OFF_MS << doublings).min(MAX_START_BACK_OFF_MS);
        pace.start_after = now.plus(std::time::Duration::from_millis(pause_ms));
        let is_hopeless = match failure {
            StartFailure::ForGood => true,
            StartFailure::OwnCode => !pace.is_proven,
            StartFailure::Around => false,
        };
        let has_place = known.containers.iter().any(|&other| {
            let other = &self.core.containers[other];
            other.ready_at.is_some() && other.draining_since.is_none()
        });
        if is_hopeless || pace.failed_starts >= FAILED_STARTS_BEFORE_GIVING_UP && !has_place {
            self.fail_queued(now, function, &outcome);
        }
    }

    pub(super) fn is_running(&self, place: u32) -> bool {
        self.core.inputs[place].phase == crate::state::Phase::Running
    }

    /// How many containers of a function take inputs, now or soon.
    pub(super) fn alive(&self, function: u32) -> usize {
        let containers = self.function(function).containers.iter();
        containers.filter(|&&place| self.core.containers[place].draining_since.is_none()).count()
    }

    /// The containers that have inputs that they are to leave alone.
    pub fn interrupted(&self, id: ContainerId) -> Result<Vec<InputId>, crate::FunctionsError> {
        let place = self.known_container(id)?;
        let interrupted = &self.core.containers[place].interrupted;
        Ok(interrupted.iter().map(|&(input, _)| input).collect())
    }

    /// The container noted that an input of it is over.
    pub(super) fn note_idle(&mut self, now: Timestamp, place: u32) {
        let container = &mut self.core.containers[place];
        if container.running.is_empty() {
            container.present.idle_since = now;
        }
    }
}

/// A mean of measurements of which the newest count most.
pub(super) fn measured(mean: f64, newest: f64) -> f64 {
    if mean == 0.0 { newest } else { mean + NEWEST_WEIGHT * (newest - mean) }
}

fn before_ready(end: &ContainerEnd) -> String {
    match end {
        ContainerEnd::Exited { exit_code } => {
            format!("the container exited with code {exit_code} while it started")
        }
        ContainerEnd::Killed { signal } => {
            format!("the container was killed by signal {signal} while it started")
        }
        ContainerEnd::OverMemory { limit_bytes, measured_bytes } => format!(
            "the container took {} while it started, more than its limit of {}",
            corral_types::display_bytes(*measured_bytes),
            corral_types::display_bytes(*limit_bytes)
        ),
        ContainerEnd::NotStarted { message, hint } => match hint {
            Some(hint) => format!("the container could not be started: {message} (hint: {hint})"),
            None => format!("the container could not be started: {message}"),
        },
        ContainerEnd::Stopped { .. } => "the container was stopped while it started".to_owned(),
        ContainerEnd::Lost => "the worker of the container was lost while it started".to_owned(),
    }
}
