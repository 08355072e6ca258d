//! Thousands of worlds in which clients call, containers work and crash, answers are lost and
//! the server is killed with its journal's end in the air.
//!
//! What must hold in all of them: what was acknowledged gets one output and the client sees it
//! once; no container has more than it may, no function more containers than it may; failures
//! are tried again as often as asked for, not more often; in the end nothing is left over.

use std::collections::BTreeMap;
use std::time::Duration;

use corral_types::{CallId, ContainerId, Timestamp};

use super::containers::{Behaviour, Deed, Host, Starts};
use super::describe::check;
use super::world::Server;
use super::{Rng, WORKSPACE, at, settings};
use crate::call::{
    AfterFetch, CallKind, CreatedCall, EntryId, Invocation, NewCall, NewInput, OutcomeStatus,
};
use crate::container::{AttemptOutput, NextInputs};
use crate::engine::{Engine, Outbox, PageQuery, Told};
use crate::service::CancelContainers;
use crate::settings::{Batching, FunctionSettings, RetryPolicy, Reuse, Scaling};
use crate::{ContainerState, FunctionsError};

/// A moment of a world …
const STEP: Duration = Duration::from_millis(20);
/// … and one in which nothing is left but to wait for graces and windows.
const LONG_STEP: Duration = Duration::from_millis(400);
/// For how long things go wrong.
const TROUBLE_STEPS: usize = 400;
/// By when everything is done after that: back-offs, graces of half a minute, attempts that are
/// spoiled nine times.
const QUIET_STEPS: usize = 30_000;

/// What is told to whom once it is on disk.
#[derive(Debug)]
enum Ack {
    Created { client: usize, call: CreatedCall },
    Put { client: usize, up_to: u32 },
    Finished { client: usize },
    Outputs { container: ContainerId, outputs: Vec<AttemptOutput> },
    Event { container: ContainerId, event: corral_containers::ContainerEvent },
    Nothing,
}

struct Client {
    function: usize,
    key: String,
    kind: CallKind,
    inputs: Vec<Behaviour>,
    begins_at: Timestamp,
    cancels_at: Option<Timestamp>,
    call: Option<CallId>,
    acknowledged: u32,
    is_finished: bool,
    /// A request is under way since then.
    asked_at: Option<Timestamp>,
    after: EntryId,
    seen: BTreeMap<u32, OutcomeStatus>,
}

impl Client {
    fn is_done(&self) -> bool {
        self.seen.len() == self.inputs.len()
    }
}

struct World {
    now: Timestamp,
    rng: Rng,
    server: Server<Ack>,
    host: Host,
    clients: Vec<Client>,
    functions: Vec<FunctionSettings>,
    starts: Starts,
    crash_percent: u64,
    lost_percent: u64,
    /// Outputs that were fetched may go.
    clears: bool,
    step: Duration,
    restart_at: Timestamp,
}

fn functions(rng: &mut Rng) -> Vec<FunctionSettings> {
    (1..=3)
        .map(|number| {
            let concurrent = if rng.percent(40) { 1 + rng.below(4) as u32 } else { 1 };
            let batch = Batching { max_size: 1 + rng.below(4) as u32, linger_ms: rng.below(200) };
            let max_containers = 1 + rng.below(5) as u32;
            FunctionSettings {
                scaling: Scaling {
                    min_containers: 0,
                    max_containers,
                    buffer_containers: rng.below(2) as u32,
                    scaledown_window_ms: 200 + rng.below(3_000),
                },
                max_concurrent_inputs: concurrent,
                target_concurrent_inputs: 1 + rng.below(concurrent.into()) as u32,
                batching: rng.percent(30).then_some(batch),
                reuse: if rng.percent(15) { Reuse::Single } else { Reuse::Many },
                timeout_ms: 2_500 + rng.below(3_000),
                startup_timeout_ms: 4_000,
                retries: RetryPolicy {
                    retries: rng.below(3) as u32,
                    initial_delay_ms: rng.below(300),
                    ..RetryPolicy::default()
                },
                ..settings(number)
            }
        })
        .collect()
}

fn client(number: usize, rng: &mut Rng) -> Client {
    let kind = if rng.percent(60) { CallKind::Unary } else { CallKind::Map };
    let count = if kind == CallKind::Unary { 1 } else { 1 + rng.below(30) };
    let inputs: Vec<Behaviour> = (0..count)
        .map(|_| match rng.below(40) {
            0 => Behaviour::FailsOnce,
            1 => Behaviour::Fails,
            2 => Behaviour::KillsItsContainer,
            3 => Behaviour::TakesForEver,
            4 => Behaviour::TakesItsMemory,
            _ => Behaviour::Works,
        })
        .collect();
    let begins_at = at(1_000_000 + rng.below(6_000));
    Client {
        function: rng.below(3) as usize,
        key: format!("key {number}"),
        kind,
        inputs,
        begins_at,
        cancels_at: rng
            .percent(10)
            .then(|| begins_at.plus(Duration::from_millis(rng.below(3_000)))),
        call: None,
        acknowledged: 0,
        is_finished: false,
        asked_at: None,
        after: EntryId::default(),
        seen: BTreeMap::new(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let functions = functions(&mut rng);
        let now = at(1_000_000);
        let mut server = Server::new(now, &mut rng);
        for function in &functions {
            server.engine.as_mut().unwrap().define(now, function.clone()).unwrap();
            server.take_out(None);
        }
        server.synced = server.log.len();
        let clients = (0..4 + rng.below(10)).map(|number| client(number as usize, &mut rng));
        Self {
            now,
            clients: clients.collect(),
            server,
            host: Host::default(),
            functions,
            starts: Starts { slowest_ms: 50 + rng.below(1_500), fail_percent: rng.below(15) },
            crash_percent: rng.below(3),
            lost_percent: rng.below(20),
            clears: rng.percent(50),
            step: STEP,
            restart_at: now,
            rng,
        }
    }

    /// Lets the engine do something, and everyone have what follows from it.
    fn with_engine<T>(
        &mut self,
        told: impl FnOnce(&T) -> Option<Ack>,
        act: impl FnOnce(&mut Engine, Timestamp) -> T,
    ) -> Option<T> {
        let now = self.now;
        let done = act(self.server.engine.as_mut()?, now);
        let out = self.server.take_out(told(&done));
        self.see_to(out);
        Some(done)
    }

    fn see_to(&mut self, mut out: Outbox) {
        let now = self.now;
        loop {
            for &(container, function) in &out.starts {
                let settings =
                    self.functions.iter().find(|known| known.function == function).unwrap();
                self.host.start(now, container, settings, self.starts, &mut self.rng);
            }
            for &(container, reason) in &out.stops {
                self.host.stop(now, container, reason, &mut self.rng);
            }
            let mut undelivered = Vec::new();
            for (container, answer) in out.answers {
                if self.rng.percent(self.lost_percent) {
                    // Lost on the way: the container asks again under the same key. Or the server
                    // sees that nobody was there.
                    if let (NextInputs::Inputs(inputs), true) = (answer, self.rng.percent(50)) {
                        undelivered.push((container, inputs));
                    }
                } else {
                    self.host.answer(now, container, answer, &mut self.rng);
                }
            }
            if undelivered.is_empty() {
                return;
            }
            let engine = self.server.engine.as_mut().unwrap();
            for (container, inputs) in undelivered {
                engine.undelivered(now, container, &inputs);
            }
            out = self.server.take_out(None);
        }
    }

    fn step(&mut self, is_trouble: bool) {
        self.now = self.now.plus(self.step);
        if self.server.engine.is_none() {
            if self.restart_at > self.now {
                return self.containers_act(is_trouble);
            }
            let out = self.server.restart(self.now, &mut self.rng);
            self.host.server_is_new(self.now);
            self.see_to(out);
            for client in &mut self.clients {
                client.asked_at = None;
            }
        }
        self.with_engine(|()| None, |engine, now| engine.tick(now));
        for number in 0..self.clients.len() {
            self.client_acts(number);
        }
        self.containers_act(is_trouble);
        for ack in self.server.sync(&mut self.rng) {
            self.take_in(ack);
        }
        if self.rng.percent(10) {
            self.server.snapshot(&mut self.rng);
        }
        self.check_limits();
        if is_trouble && self.rng.below(200) == 0 {
            let number = self.rng.below(3) as usize;
            self.functions[number].version += 1;
            let settings = self.functions[number].clone();
            let define = |engine: &mut Engine, now| engine.define(now, settings);
            self.with_engine(|_| Some(Ack::Nothing), define).unwrap().unwrap();
        }
        if is_trouble && self.rng.percent(1) {
            self.server.kill(&mut self.rng);
            self.restart_at = self.now.plus(Duration::from_millis(self.rng.below(1_000)));
        }
    }

    fn take_in(&mut self, ack: Ack) {
        match ack {
            Ack::Created { client, call } => {
                let client = &mut self.clients[client];
                assert!(client.call.is_none_or(|known| known == call.call), "another call");
                client.call = Some(call.call);
                client.acknowledged = client.acknowledged.max(call.inputs.len() as u32);
                client.is_finished |= client.kind == CallKind::Unary;
                client.asked_at = None;
            }
            Ack::Put { client, up_to } => {
                let client = &mut self.clients[client];
                client.acknowledged = client.acknowledged.max(up_to);
                client.asked_at = None;
            }
            Ack::Finished { client } => {
                self.clients[client].is_finished = true;
                self.clients[client].asked_at = None;
            }
            Ack::Outputs { container, outputs } => self.host.taken_outputs(container, &outputs),
            Ack::Event { container, event } => self.host.taken_event(container, &event),
            Ack::Nothing => {}
        }
    }

    fn client_acts(&mut self, number: usize) {
        let now = self.now;
        let client = &mut self.clients[number];
        if client.begins_at > now || client.is_done() {
            return;
        }
        let is_waiting = client.asked_at.is_some_and(|at| at.plus(Duration::from_secs(1)) > now);
        let new_inputs = |client: &Client, from: u32, count: u32| -> Vec<NewInput> {
            let until = (from + count).min(client.inputs.len() as u32);
            let input = |index: u32| NewInput {
                index,
                payload: client.inputs[index as usize].payload(),
                data_format: 1,
                method: if index.is_multiple_of(2) { "run".into() } else { String::new() },
            };
            (from..until).map(input).collect()
        };
        let Some(call) = client.call else {
            if is_waiting {
                return;
            }
            client.asked_at = Some(now);
            let pipelined =
                if client.kind == CallKind::Unary { 1 } else { self.rng.below(4) as u32 };
            let new = NewCall {
                function: self.functions[client.function].function,
                kind: client.kind,
                invocation: Invocation::Async,
                parent: None,
                idempotency_key: Some(client.key.clone()),
                inputs: new_inputs(client, 0, pipelined),
            };
            let told = |made: &Result<CreatedCall, FunctionsError>| {
                let call = made.as_ref().unwrap().clone();
                // A repeated request with other inputs than the first only acknowledges the call.
                let inputs = if pipelined == 1 { call.inputs } else { Vec::new() };
                Some(Ack::Created { client: number, call: CreatedCall { inputs, ..call } })
            };
            self.with_engine(told, |engine, now| engine.create_call(now, WORKSPACE, new));
            return;
        };
        if client.cancels_at.is_some_and(|at| at <= now) && client.is_finished {
            client.cancels_at = None;
            let containers = if self.rng.percent(50) {
                CancelContainers::Keep
            } else {
                CancelContainers::Terminate
            };
            let cancel =
                |engine: &mut Engine, now| engine.cancel_call(now, WORKSPACE, call, containers);
            self.with_engine(|_| Some(Ack::Nothing), cancel).unwrap().unwrap();
            return;
        }
        if !is_waiting && client.acknowledged < client.inputs.len() as u32 {
            client.asked_at = Some(now);
            let count = 1 + self.rng.below(9) as u32;
            let inputs = new_inputs(client, client.acknowledged, count);
            let up_to = client.acknowledged + inputs.len() as u32;
            let put = |engine: &mut Engine, now| engine.put_inputs(now, WORKSPACE, call, inputs);
            let told = |_: &Result<_, _>| Some(Ack::Put { client: number, up_to });
            self.with_engine(told, put).unwrap().unwrap();
            return;
        }
        if !is_waiting && !client.is_finished {
            client.asked_at = Some(now);
            let finish = |engine: &mut Engine, _| engine.finish_inputs(WORKSPACE, call);
            let told = |_: &Result<_, _>| Some(Ack::Finished { client: number });
            self.with_engine(told, finish).unwrap().unwrap();
            return;
        }
        self.client_reads(number, call);
    }

    fn client_reads(&mut self, number: usize, call: CallId) {
        if self.rng.percent(70) {
            return;
        }
        let after = self.clients[number].after;
        let is_unary = self.clients[number].kind == CallKind::Unary;
        let query = PageQuery {
            after,
            range: is_unary.then_some((0, 0)),
            after_fetch: if self.clears { AfterFetch::Clear } else { AfterFetch::Keep },
            limit: 1 + self.rng.below(10) as usize,
            synced: self.server.synced as u64,
        };
        let read = |engine: &mut Engine, now| {
            let place = engine.visible_call(WORKSPACE, call).unwrap();
            engine.outputs(now, place, query)
        };
        let Some(told) = self.with_engine(|_| None, read) else { return };
        let (Told::Now(page) | Told::Later(page)) = told;
        if self.rng.percent(self.lost_percent) {
            return;
        }
        let client = &mut self.clients[number];
        client.after = page.last;
        for output in page.outputs {
            let before = client.seen.insert(output.index, output.outcome.status);
            assert_eq!(before, None, "an output was delivered twice");
        }
        if page.unfinished_inputs == 0 && client.is_finished && query.limit > 30 {
            assert!(client.is_done(), "it says that no more comes");
        }
    }

    fn containers_act(&mut self, is_trouble: bool) {
        let ids: Vec<ContainerId> = self.host.bodies.keys().copied().collect();
        for id in ids {
            let crash = is_trouble && self.rng.below(1_000) < self.crash_percent;
            let Some(body) = self.host.bodies.get_mut(&id) else { continue };
            for deed in body.act(self.now, crash, &mut self.rng) {
                self.carry_out(id, deed);
            }
            if self.rng.percent(5)
                && let Some(engine) = &self.server.engine
                && let Ok(inputs) = engine.interrupted(id)
            {
                self.host.interrupt(id, &inputs);
            }
        }
    }

    fn carry_out(&mut self, id: ContainerId, deed: Deed) {
        match deed {
            Deed::Event(event) => {
                let ack = Ack::Event { container: id, event: event.clone() };
                let tell = |engine: &mut Engine, now| engine.container_event(now, id, &event);
                self.with_engine(|()| Some(ack), tell);
            }
            Deed::Hello => {
                let hello = |engine: &mut Engine, now| drop(engine.hello(now, id));
                self.with_engine(|()| None, hello);
            }
            Deed::Poll(poll) => {
                self.with_engine(|()| None, |engine, now| engine.poll(now, id, poll));
            }
            Deed::Outputs(outputs) => {
                let ack = Ack::Outputs { container: id, outputs: outputs.clone() };
                let put = |engine: &mut Engine, now| engine.put_outputs(now, id, outputs);
                self.with_engine(|()| Some(ack), put);
            }
            Deed::TaskResult(outcome) => {
                let take = |engine: &mut Engine, now| {
                    if let Some(place) = engine.core.container(id) {
                        engine.task_result(now, place, outcome);
                    }
                };
                self.with_engine(|()| None, take);
            }
        }
    }

    fn check_limits(&self) {
        let Some(engine) = &self.server.engine else { return };
        let containers = engine.containers(None);
        for function in &self.functions {
            let of_function = containers.iter().filter(|info| {
                info.function == function.function && info.state != ContainerState::Draining
            });
            let count = of_function.clone().count();
            assert!(count <= function.scaling.max_containers as usize, "{count} containers");
            for info in of_function {
                assert!(info.inputs.len() <= function.capacity() as usize);
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..TROUBLE_STEPS {
            self.step(true);
        }
        (self.lost_percent, self.starts.fail_percent) = (0, 0);
        let mut steps = 0;
        while !self.clients.iter().all(Client::is_done) {
            steps += 1;
            if steps > QUIET_STEPS {
                let waiting = self.clients.iter().position(|client| !client.is_done()).unwrap();
                let client = &self.clients[waiting];
                if let Some(engine) = &self.server.engine {
                    for (_, words) in super::describe::describe(&engine.core) {
                        eprintln!("{words}");
                    }
                }
                panic!(
                    "client {waiting} of {:?} waits for ever; it saw {:?} of {}",
                    self.functions[client.function],
                    client.seen,
                    client.inputs.len()
                );
            }
            self.step(false);
        }
        self.check_results();
        let left = |world: &Self| {
            let engine = world.server.engine.as_ref();
            engine.is_none_or(|engine| !engine.containers(None).is_empty())
                || world.host.bodies.values().any(|body| !body.has_ended)
        };
        // The longest window, and what an interrupted or hung container is given.
        self.step = LONG_STEP;
        for _ in 0..1_000 {
            if !left(self) {
                break;
            }
            self.step(false);
        }
        assert!(
            !left(self),
            "containers are left over: {:?}",
            self.server.engine.as_ref().unwrap().containers(None)
        );
        check(&self.server.engine.as_ref().unwrap().core);
    }

    fn check_results(&self) {
        for client in &self.clients {
            let function = &self.functions[client.function];
            for (&index, &status) in &client.seen {
                let behaviour = client.inputs[index as usize];
                // What one input does to a container, all in it have to bear.
                let shares = function.capacity() > 1;
                let is_fine = shares
                    || match status {
                        OutcomeStatus::Success => {
                            matches!(behaviour, Behaviour::Works | Behaviour::FailsOnce)
                        }
                        OutcomeStatus::Failure => match behaviour {
                            Behaviour::Fails | Behaviour::TakesItsMemory => true,
                            Behaviour::FailsOnce => function.retries.retries == 0,
                            _ => false,
                        },
                        OutcomeStatus::Timeout => behaviour == Behaviour::TakesForEver,
                        // Whoever shares a container with one that ends it, or starts with bad luck.
                        OutcomeStatus::InternalFailure | OutcomeStatus::InitFailure => true,
                        OutcomeStatus::Terminated => true,
                    };
                assert!(is_fine, "{behaviour:?} ended as {status:?}");
            }
        }
    }
}

/// Runs the worlds of so many seeds from one on: 300, or what `CORRAL_WORLDS` says.
fn run_worlds(first: u64) {
    let count = std::env::var("CORRAL_WORLDS").map_or(300, |count| count.parse().unwrap());
    let mut outputs = BTreeMap::<OutcomeStatus, usize>::new();
    for seed in first..first + count {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            world
        });
        let world = outcome.unwrap_or_else(|panic| {
            eprintln!("the world of seed {seed}");
            std::panic::resume_unwind(panic);
        });
        for status in world.clients.iter().flat_map(|client| client.seen.values()) {
            *outputs.entry(*status).or_default() += 1;
        }
    }
    println!("outputs: {outputs:?}");
    assert!(outputs[&OutcomeStatus::Success] > outputs.values().sum::<usize>() / 2);
}

#[test]
fn worlds_of_the_first_seeds() {
    run_worlds(0);
}

#[test]
fn worlds_of_the_second_seeds() {
    run_worlds(10_000);
}

#[test]
fn worlds_of_the_third_seeds() {
    run_worlds(20_000);
}

#[test]
fn worlds_of_the_fourth_seeds() {
    run_worlds(30_000);
}
