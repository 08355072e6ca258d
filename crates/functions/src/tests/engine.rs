//! Single decisions of the engine.

use std::time::Duration;

use bytes::Bytes;
use corral_containers::{ContainerEvent, StartKind, Usage};
use corral_types::{ContainerId, Timestamp};

use super::{Rng, WORKSPACE, at, settings};
use crate::call::{AfterFetch, CallKind, EntryId, Invocation, NewCall, NewInput, Outcome, Payload};
use crate::container::{AttemptOutput, GivenInput, NextInputs};
use crate::core::Core;
use crate::engine::{Engine, PageQuery, Told};
use crate::policy::{KEEP_FETCHED, KEEP_OUTPUTS, KILL_GRACE, RESTART_GRACE};
use crate::settings::{FunctionSettings, Resources, Scaling};
use crate::state::Poll;

struct Bench {
    engine: Engine,
    now: Timestamp,
}

impl Bench {
    fn new(settings: FunctionSettings) -> Self {
        let mut bits = Rng(1);
        let now = at(1_000_000);
        let mut engine = Engine::new(now, Core::default(), Box::new(move || bits.bits()));
        engine.define(now, settings).unwrap();
        Self { engine, now }
    }

    /// Another server goes on from what this one decided.
    fn restart(&mut self) {
        let mut bits = Rng(2);
        let core = std::mem::take(&mut self.engine.core);
        self.engine = Engine::new(self.now, core, Box::new(move || bits.bits()));
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.plus(Duration::from_millis(millis));
        self.engine.tick(self.now);
    }

    fn call(&mut self, count: u32) -> crate::CreatedCall {
        let input = |index| NewInput {
            index,
            payload: Payload::Inline(Bytes::from_static(b"x")),
            data_format: 1,
            method: String::new(),
        };
        let kind = if count == 1 { CallKind::Unary } else { CallKind::Map };
        let call = NewCall {
            function: settings(1).function,
            kind,
            invocation: Invocation::Sync,
            parent: None,
            idempotency_key: None,
            inputs: (0..count).map(input).collect(),
        };
        self.engine.create_call(self.now, WORKSPACE, call).unwrap()
    }

    /// The containers that were asked for since the last look.
    fn starts(&mut self) -> Vec<ContainerId> {
        let out = self.engine.take_out();
        out.starts.into_iter().map(|(container, _)| container).collect()
    }

    fn ready(&mut self, container: ContainerId) {
        let kind = StartKind::Cold;
        let started = ContainerEvent::Started { kind, took_ms: 1, plain_reason: None };
        self.engine.container_event(self.now, container, &started);
    }

    fn poll(&mut self, container: ContainerId, key: u32) -> Option<NextInputs> {
        self.engine.poll(self.now, container, Poll { key, max_inputs: 1 });
        let answers = self.engine.take_out().answers;
        answers.into_iter().find(|(to, _)| *to == container).map(|(_, answer)| answer)
    }

    fn given(&mut self, container: ContainerId, key: u32) -> GivenInput {
        let Some(NextInputs::Inputs(mut inputs)) = self.poll(container, key) else {
            panic!("there was no input")
        };
        inputs.pop().unwrap()
    }

    fn done(&mut self, container: ContainerId, input: &GivenInput) {
        let GivenInput { input, retries, payload, .. } = input.clone();
        let outcome = Outcome::success(payload, 1);
        let output = AttemptOutput { input, retries, outcome, started_at: None, created_at: None };
        self.engine.put_outputs(self.now, container, vec![output]);
    }
}

fn up_to(max_containers: u32) -> FunctionSettings {
    FunctionSettings { scaling: Scaling { max_containers, ..Scaling::default() }, ..settings(1) }
}

#[test]
fn an_unmeasured_function_begins_with_few_containers() {
    let mut bench = Bench::new(up_to(100));
    bench.call(1);
    assert_eq!(bench.starts().len(), 1);
    bench.pass(1);
    bench.call(50);
    assert_eq!(bench.starts().len(), 3);
    bench.pass(100);
    assert_eq!(bench.starts().len(), 0);
}

#[test]
fn attempts_that_take_long_get_a_container_each() {
    let mut bench = Bench::new(up_to(100));
    bench.call(50);
    let first = bench.starts();
    for (key, &container) in (1..).zip(&first) {
        bench.ready(container);
        bench.given(container, key);
    }
    bench.pass(1_500);
    // Four run, and nobody knows for how long: one for each of the others.
    assert_eq!(bench.starts().len(), 46);
}

#[test]
fn a_long_queue_of_short_attempts_needs_no_more_containers() {
    let mut bench = Bench::new(up_to(100));
    bench.call(1);
    let container = bench.starts()[0];
    bench.ready(container);
    let input = bench.given(container, 1);
    bench.pass(2);
    bench.done(container, &input);
    bench.call(300);
    assert_eq!(bench.starts().len(), 0);
    bench.pass(1);
    // Three hundred times two milliseconds are worked off within a second; three thousand are not.
    bench.call(1_000);
    bench.pass(1);
    bench.call(1_000);
    bench.pass(1);
    let more = bench.starts().len();
    assert!((3..=6).contains(&more), "{more}");
}

#[test]
fn concurrent_inputs_share_a_container() {
    let concurrent =
        FunctionSettings { max_concurrent_inputs: 10, target_concurrent_inputs: 8, ..up_to(2) };
    let mut bench = Bench::new(concurrent);
    bench.call(20);
    let containers = bench.starts();
    assert_eq!(containers.len(), 2);
    let function = settings(1).function;
    assert_eq!(bench.engine.dynamic_concurrency(function).unwrap(), 10);
    bench.ready(containers[0]);
    for key in 1..=10 {
        bench.given(containers[0], key);
    }
    // The eleventh waits, also though the container asks.
    assert_eq!(bench.poll(containers[0], 11), None);
}

#[test]
fn a_poll_under_the_same_key_gives_the_same_inputs() {
    let concurrent =
        FunctionSettings { max_concurrent_inputs: 4, target_concurrent_inputs: 4, ..up_to(1) };
    let mut bench = Bench::new(concurrent);
    bench.call(3);
    let container = bench.starts()[0];
    bench.ready(container);
    let first = bench.given(container, 1);
    assert_eq!(bench.given(container, 1), first);
    assert_ne!(bench.given(container, 2).input, first.input);
}

#[test]
fn what_a_container_never_got_goes_to_another() {
    let mut bench = Bench::new(up_to(2));
    bench.call(1);
    let lost = bench.starts()[0];
    bench.ready(lost);
    let input = bench.given(lost, 1);
    bench.engine.undelivered(bench.now, lost, std::slice::from_ref(&input));
    bench.pass(1);
    let again = bench.given(lost, 2);
    assert_eq!((again.input, again.retries), (input.input, 1));
}

#[test]
fn the_first_in_the_queue_is_the_first_to_run_also_after_a_lost_container() {
    let mut bench = Bench::new(up_to(1));
    let calls: Vec<_> = (0..3).map(|_| bench.call(1).inputs[0].input).collect();
    let container = bench.starts()[0];
    bench.ready(container);
    assert_eq!(bench.given(container, 1).input, calls[0]);
    let end = corral_containers::ContainerEnd::Lost;
    let event = ContainerEvent::Ended { end, usage: Usage::default() };
    bench.engine.container_event(bench.now, container, &event);
    bench.pass(1);
    let container = bench.starts()[0];
    bench.ready(container);
    for (key, call) in (1..).zip(&calls) {
        let input = bench.given(container, key);
        assert_eq!(input.input, *call);
        bench.done(container, &input);
    }
}

#[test]
fn a_stale_failure_does_not_end_a_later_attempt_and_a_stale_success_does() {
    let mut bench = Bench::new(up_to(2));
    let call = bench.call(1);
    let first = bench.starts()[0];
    bench.ready(first);
    let stale = bench.given(first, 1);
    bench.engine.undelivered(bench.now, first, std::slice::from_ref(&stale));
    let fresh = bench.given(first, 2);
    let failure = Outcome::without_payload(crate::OutcomeStatus::Failure, "old");
    let GivenInput { input, retries, .. } = stale.clone();
    let output =
        AttemptOutput { input, retries, outcome: failure, started_at: None, created_at: None };
    bench.engine.put_outputs(bench.now, first, vec![output]);
    let place = bench.engine.core.call(call.call).unwrap();
    assert_eq!(bench.engine.call_info(place).running_inputs, 1);
    bench.done(first, &stale);
    assert_eq!(bench.engine.call_info(place).succeeded_inputs, 1);
    assert_eq!(bench.engine.interrupted(first).unwrap(), [fresh.input]);
}

fn page(bench: &mut Bench, call: corral_types::CallId, synced: u64) -> Option<Told<usize>> {
    let place = bench.engine.core.call(call)?;
    let query = PageQuery {
        after: EntryId::default(),
        range: None,
        after_fetch: AfterFetch::Clear,
        limit: 10,
        synced,
    };
    Some(match bench.engine.outputs(bench.now, place, query) {
        Told::Now(page) => Told::Now(page.outputs.len()),
        Told::Later(page) => Told::Later(page.outputs.len()),
    })
}

#[test]
fn outputs_are_told_once_on_disk_and_go_some_time_after_they_were_fetched() {
    let mut bench = Bench::new(up_to(1));
    let call = bench.call(1).call;
    let container = bench.starts()[0];
    bench.ready(container);
    let input = bench.given(container, 1);
    let before = bench.engine.core.sequence;
    bench.done(container, &input);
    assert!(matches!(page(&mut bench, call, before), Some(Told::Later(0))));
    let after = bench.engine.core.sequence;
    assert!(matches!(page(&mut bench, call, after), Some(Told::Now(1))));
    // Whoever lost the answer asks again.
    assert!(matches!(page(&mut bench, call, after), Some(Told::Now(1))));
    bench.pass(KEEP_FETCHED.as_millis() as u64);
    assert!(page(&mut bench, call, after).is_none());
    assert_eq!(bench.engine.core.resident_bytes, 0);
}

#[test]
fn outputs_that_nobody_fetches_are_kept_for_seven_days() {
    let mut bench = Bench::new(up_to(1));
    let call = bench.call(1).call;
    let container = bench.starts()[0];
    bench.ready(container);
    let input = bench.given(container, 1);
    bench.done(container, &input);
    bench.pass(KEEP_OUTPUTS.as_millis() as u64 - 1_000);
    assert!(bench.engine.core.call(call).is_some());
    bench.pass(1_000);
    assert!(bench.engine.core.call(call).is_none());
}

#[test]
fn usage_adds_up_from_what_workers_tell() {
    let resources = Resources { memory_request_bytes: 100 << 20, gpus: 2 };
    let mut bench = Bench::new(FunctionSettings { resources, ..up_to(1) });
    bench.call(1);
    let container = bench.starts()[0];
    bench.ready(container);
    let told = |wall_ms, cpu_ms, memory_mib: u64| Usage {
        wall_ms,
        cpu_ms,
        memory_bytes: memory_mib << 20,
        peak_memory_bytes: 0,
    };
    for usage in [told(1_000, 400, 50), told(2_000, 500, 300)] {
        bench.engine.container_event(bench.now, container, &ContainerEvent::Usage { usage });
    }
    let (_, _, usage) = bench.engine.usage(WORKSPACE)[0];
    assert_eq!((usage.cpu_ms, usage.wall_ms, usage.gpu_ms), (500, 2_000, 4_000));
    assert_eq!(usage.memory_mib_ms, 1_000 * 100 + 1_000 * 300);
    let end = corral_containers::ContainerEnd::Exited { exit_code: 0 };
    let event = ContainerEvent::Ended { end, usage: told(2_500, 600, 0) };
    bench.engine.container_event(bench.now, container, &event);
    let (_, _, usage) = bench.engine.usage(WORKSPACE)[0];
    assert_eq!((usage.cpu_ms, usage.wall_ms, usage.cold_starts), (600, 2_500, 1));
    assert_eq!(usage.gpu_seconds(), 5.0);
}

#[test]
fn what_an_older_version_works_on_goes_on_over_a_restart() {
    let mut bench = Bench::new(up_to(1));
    let call = bench.call(1).call;
    let container = bench.starts()[0];
    bench.ready(container);
    let input = bench.given(container, 1);
    let newer = FunctionSettings { version: 2, ..up_to(1) };
    bench.engine.define(bench.now, newer).unwrap();
    bench.restart();
    bench.pass(60_000);
    assert!(bench.engine.take_out().stops.is_empty());
    bench.done(container, &input);
    let place = bench.engine.core.call(call).unwrap();
    assert_eq!(bench.engine.call_info(place).succeeded_inputs, 1);
    assert_eq!(bench.poll(container, 2), Some(NextInputs::Kill));
    // It does not end by itself, and is helped.
    bench.pass(KILL_GRACE.as_millis() as u64);
    let stops = bench.engine.take_out().stops;
    assert_eq!(stops, [(container, corral_containers::StopReason::Idle)]);
}

#[test]
fn a_deadline_holds_over_a_restart_with_time_for_what_is_under_way() {
    let mut bench = Bench::new(FunctionSettings { timeout_ms: 20_000, ..up_to(1) });
    let call = bench.call(1).call;
    let container = bench.starts()[0];
    bench.ready(container);
    bench.given(container, 1);
    bench.pass(19_000);
    bench.restart();
    bench.pass(RESTART_GRACE.as_millis() as u64 - 1);
    let timed_out = |bench: &Bench| {
        let place = bench.engine.core.call(call).unwrap();
        bench.engine.call_info(place).timed_out_inputs
    };
    assert_eq!(timed_out(&bench), 0);
    bench.pass(1);
    assert_eq!(timed_out(&bench), 1);
}
