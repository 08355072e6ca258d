//! What follows when an attempt is over: its output is taken, or another attempt follows.

use std::collections::BTreeMap;
use std::time::Duration;

use corral_containers::{ContainerEnd, StopReason};
use corral_types::{ContainerId, Timestamp, display_bytes};

use super::Engine;
use super::containers::measured;
use crate::call::{Outcome, OutcomeStatus};
use crate::container::AttemptOutput;
use crate::packed::Ending;
use crate::policy::{INPUTS_PER_RECORD, MAX_INTERNAL_RETRIES, MAX_MEMORY_RETRIES};
use crate::record::{Counted, Record};
use crate::state::Phase;

/// What short attempts count as taking, of which the clock sees nothing.
const SHORTEST_SERVICE_MS: f64 = 0.5;

impl Engine {
    /// Takes outputs of a container. Those of inputs that are done, or unknown, are dropped:
    /// somebody else's came first, or nobody waits for them.
    pub fn put_outputs(&mut self, now: Timestamp, id: ContainerId, outputs: Vec<AttemptOutput>) {
        // Also what is dropped may be so by a record that is on its way to the disk.
        self.out.is_awaited = true;
        let holder = self.core.container(id);
        let mut functions = Vec::new();
        for output in outputs {
            if let Some(holder) = holder {
                self.release(holder, &output);
            }
            let Some(place) = self.core.input(output.input) else { continue };
            let input = &self.core.inputs[place];
            if input.phase == Phase::Done {
                continue;
            }
            functions.push(self.core.function_of(input));
            let is_holders = input.phase == Phase::Running && Some(input.place) == holder;
            let is_current = is_holders && u32::from(input.retries) == output.retries;
            self.take_output(now, id, place, output, is_current);
        }
        if let Some(holder) = holder {
            self.note_idle(now, holder);
        }
        functions.sort_unstable();
        functions.dedup();
        for function in functions {
            self.dispatch(now, function);
            self.scale(now, function);
        }
    }

    /// The container is through with an input that it was to leave alone.
    fn release(&mut self, holder: u32, output: &AttemptOutput) {
        let container = &self.core.containers[holder];
        if container.interrupted.iter().any(|&(input, _)| input == output.input) {
            let (container, inputs) = (container.id, vec![output.input]);
            self.commit(Record::Released { container, inputs });
        }
    }

    fn take_output(
        &mut self,
        now: Timestamp,
        id: ContainerId,
        place: u32,
        output: AttemptOutput,
        is_current: bool,
    ) {
        let status = output.outcome.status;
        if !is_current && status != OutcomeStatus::Success {
            // Of an earlier attempt, whose end was taken in otherwise.
            return;
        }
        let input = &self.core.inputs[place];
        let known = is_current.then(|| input.started_at());
        let ending = Ending {
            outcome: output.outcome,
            container: Some(id),
            started_at: output.started_at.or(known),
        };
        if let Some(started_at) = known
            && matches!(status, OutcomeStatus::Success | OutcomeStatus::Failure)
        {
            let took = (now.since(started_at).as_millis() as f64).max(SHORTEST_SERVICE_MS);
            let function = self.core.function_of(input);
            let pace = &mut self.core.functions[function].pace;
            pace.service_ms = measured(pace.service_ms, took);
        }
        match status {
            OutcomeStatus::Success => {
                if !is_current {
                    self.interrupt(now, &[place]);
                }
                self.finish(now, place, &ending);
            }
            // Nobody of ours cancelled it: the container ended under it.
            OutcomeStatus::Terminated => self.after_internal(now, &[place], || {
                "the container was stopped while it worked on the input".to_owned()
            }),
            _ => self.after_failure(now, place, ending),
        }
    }

    /// The input is done.
    pub(super) fn finish(&mut self, now: Timestamp, place: u32, ending: &Ending) {
        let input = self.key_of(place);
        let call = &self.core.calls[self.core.inputs[place].call];
        let entry = self.core.last_entry(call) + 1;
        self.out.changed_calls.push(input.0);
        self.commit_awaited(Record::Done { input, entry, at: now, body: ending.pack() });
    }

    /// The function failed: another attempt by its own rules, or the end.
    pub(super) fn after_failure(&mut self, now: Timestamp, place: u32, ending: Ending) {
        let input = &self.core.inputs[place];
        let function = self.function(self.core.function_of(input));
        match function.settings.retries.delay_ms(u32::from(input.failed) + 1) {
            Some(delay_ms) if function.retired_at.is_none() => {
                let until = Some(now.plus(Duration::from_millis(delay_ms)));
                let inputs = self.keys_of(&[place]);
                self.commit_awaited(Record::Requeued { until, counted: Counted::Failure, inputs });
                if delay_ms == 0 {
                    self.resume_due(now);
                }
            }
            _ => self.finish(now, place, &ending),
        }
    }

    /// Something else than the function failed: another attempt at once, within limits.
    pub(super) fn after_internal(
        &mut self,
        now: Timestamp,
        places: &[u32],
        words: impl Fn() -> String,
    ) {
        let (again, over): (Vec<u32>, Vec<u32>) = places
            .iter()
            .partition(|&&place| self.core.inputs[place].internal < MAX_INTERNAL_RETRIES);
        if !again.is_empty() {
            let inputs = self.keys_of(&again);
            let counted = Counted::Internal;
            self.commit_awaited(Record::Requeued { until: None, counted, inputs });
        }
        for place in over {
            let words = format!(
                "{}; it was the last of {} attempts",
                words(),
                u32::from(MAX_INTERNAL_RETRIES) + 1
            );
            let outcome = Outcome::without_payload(OutcomeStatus::InternalFailure, words);
            let input = &self.core.inputs[place];
            let started_at = (input.phase == Phase::Running).then(|| input.started_at());
            self.finish(now, place, &Ending { outcome, container: None, started_at });
        }
    }

    /// What follows for the inputs of a container that ended.
    pub(super) fn after_end(
        &mut self,
        now: Timestamp,
        holder: u32,
        running: &[u32],
        end: &ContainerEnd,
    ) {
        if running.is_empty() {
            return;
        }
        match end {
            ContainerEnd::OverMemory { limit_bytes, measured_bytes } => {
                self.after_memory(now, holder, running, *limit_bytes, *measured_bytes);
            }
            // What others in the same container did is not these inputs' doing.
            ContainerEnd::Stopped {
                reason:
                    StopReason::InputTimeout
                    | StopReason::InputCancelled
                    | StopReason::Idle
                    | StopReason::Retired
                    | StopReason::StartupTimeout,
            } => {
                let inputs = self.keys_of(running);
                let counted = Counted::Not;
                self.commit_awaited(Record::Requeued { until: None, counted, inputs });
            }
            end => self.after_internal(now, running, || while_working(end)),
        }
    }

    fn after_memory(
        &mut self,
        now: Timestamp,
        holder: u32,
        running: &[u32],
        limit_bytes: u64,
        measured_bytes: u64,
    ) {
        let words = format!(
            "the container took {} of memory while it worked on the input, more than its limit of \
             {}; ask for more with `memory=`",
            display_bytes(measured_bytes),
            display_bytes(limit_bytes)
        );
        let container = Some(self.core.containers[holder].id);
        for &place in running {
            let input = &self.core.inputs[place];
            if input.internal < MAX_MEMORY_RETRIES {
                self.after_internal(now, &[place], || words.clone());
            } else {
                let started_at = Some(input.started_at());
                let outcome = Outcome::without_payload(OutcomeStatus::Failure, words.clone());
                self.after_failure(now, place, Ending { outcome, container, started_at });
            }
        }
    }

    /// Inputs that ran for as long as they may.
    pub(super) fn time_out_due(&mut self, now: Timestamp) {
        while let Some(&(at, place)) = self.core.deadlines.first()
            && at.max(self.lenient_until()) <= now
        {
            let input = &self.core.inputs[place];
            let (holder, started_at) = (input.place, Some(input.started_at()));
            let words = format!(
                "the input took longer than its timeout of {} s",
                f64::from(input.links[0]) / 1e3
            );
            let container = &self.core.containers[holder];
            let (container, is_alone) = (Some(container.id), container.running.len() == 1);
            self.interrupt(now, &[place]);
            let outcome = Outcome::without_payload(OutcomeStatus::Timeout, words);
            self.after_failure(now, place, Ending { outcome, container, started_at });
            self.drain(now, holder);
            // Others in the container have as long as it takes to leave the one alone.
            if is_alone {
                self.stop(now, holder, StopReason::InputTimeout);
            }
        }
    }

    /// No container can be started: what waits for one fails.
    pub(super) fn fail_queued(&mut self, now: Timestamp, function: u32, outcome: &Outcome) {
        let queued: Vec<u32> = self.core.queued(function).collect();
        let retries = self.function(function).settings.retries;
        let mut again: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut over = Vec::new();
        for place in queued {
            match retries.delay_ms(u32::from(self.core.inputs[place].failed) + 1) {
                Some(delay_ms) => again.entry(delay_ms).or_default().push(place),
                None => over.push(place),
            }
        }
        for (delay_ms, places) in again {
            let until = Some(now.plus(Duration::from_millis(delay_ms)));
            for places in places.chunks(INPUTS_PER_RECORD) {
                let inputs = self.keys_of(places);
                self.commit_awaited(Record::Requeued { until, counted: Counted::Failure, inputs });
            }
        }
        self.finish_alike(now, &over, outcome.clone());
        self.out.is_awaited = true;
    }
}

fn while_working(end: &ContainerEnd) -> String {
    match end {
        ContainerEnd::Exited { exit_code } => {
            format!("the container exited with code {exit_code} while it worked on the input")
        }
        ContainerEnd::Killed { signal } => {
            format!("the container was killed by signal {signal} while it worked on the input")
        }
        ContainerEnd::Lost => {
            "the worker of the container was lost while it worked on the input".to_owned()
        }
        ContainerEnd::Stopped { reason: StopReason::MemoryPressure } => {
            "the machine was short of memory and the container was stopped".to_owned()
        }
        ContainerEnd::Stopped { reason: StopReason::WorkerEnds } => {
            "the worker ended while the container worked on the input".to_owned()
        }
        ContainerEnd::Stopped { .. } | ContainerEnd::OverMemory { .. } => {
            "the container was stopped while it worked on the input".to_owned()
        }
        ContainerEnd::NotStarted { message, .. } => {
            format!("the container could not be started: {message}")
        }
    }
}
