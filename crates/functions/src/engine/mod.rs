//! What is decided: which container gets which input, how many containers there are, what
//! follows a failure. Without I/O: requests and the time go in; records, starts, stops and
//! answers come out.

mod calls;
mod containers;
mod outcomes;
mod reading;
mod scaling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corral_containers::StopReason;
use corral_types::{CallId, ContainerId, FunctionId, Timestamp};

use crate::container::NextInputs;
use crate::core::Core;
use crate::error::FunctionsError;
use crate::metric;
use crate::packed::CallKey;
use crate::policy::{
    CALLS_SWEPT_PER_TICK, INPUTS_PER_RECORD, KEEP_FETCHED, KEEP_OUTPUTS, RESTART_GRACE,
};
use crate::record::{InputKey, Record};
use crate::slab::NOWHERE;
use crate::state::{Function, Inputs};

pub(crate) use calls::check_payload;
pub(crate) use reading::{ChunksQuery, PageQuery, Told, within_limits};

/// Random bits for ids, handed in.
pub(crate) type Random = Box<dyn FnMut() -> [u8; 10] + Send>;

/// What is to be done beside what the state says.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Encoded, to be written in this order.
    pub records: Vec<Vec<u8>>,
    /// Somebody is told only once they are on disk.
    pub is_awaited: bool,
    pub starts: Vec<(ContainerId, FunctionId)>,
    pub stops: Vec<(ContainerId, StopReason)>,
    /// To containers that wait for inputs.
    pub answers: Vec<(ContainerId, NextInputs)>,
    /// Calls that have more outputs or chunks once the records are on disk.
    pub changed_calls: Vec<CallKey>,
    /// Containers that have inputs to leave alone.
    pub interrupted: Vec<ContainerId>,
}

pub(crate) struct Engine {
    pub(crate) core: Core,
    pub(crate) out: Outbox,
    random: Random,
    /// Since when this server runs.
    runs_since: Timestamp,
    /// There were inputs in containers when it began.
    found_running: bool,
    /// Outputs that were fetched and may go, the first first.
    fetched: VecDeque<(Timestamp, CallKey, Vec<u32>)>,
    /// Functions of which a batch waits to be filled, and until when.
    lingering: BTreeMap<u32, Timestamp>,
    /// The call that is swept next.
    swept: u32,
}

impl Engine {
    /// An engine that goes on from a state that was read back. Containers are taken to run as
    /// they did; those that never started are asked for again.
    pub fn new(now: Timestamp, core: Core, random: Random) -> Self {
        let found_running = !core.deadlines.is_empty();
        let mut engine = Self {
            core,
            out: Outbox::default(),
            random,
            runs_since: now,
            found_running,
            fetched: VecDeque::new(),
            lingering: BTreeMap::new(),
            swept: 0,
        };
        let containers: Vec<u32> = engine.core.containers.iter().map(|(place, _)| place).collect();
        for place in containers {
            let container = &mut engine.core.containers[place];
            container.present.idle_since = now;
            let Some(function) = engine.core.functions.get_mut(container.function) else {
                continue;
            };
            if container.ready_at.is_some() && container.version == function.settings.version {
                function.pace.is_proven = true;
            }
            let is_requested = container.started.is_none() && container.ready_at.is_none();
            // One that ends may have something to finish; it is seen to in time.
            if is_requested && container.draining_since.is_none() {
                engine.out.starts.push((container.id, function.settings.function));
            }
        }
        engine.tick(now);
        engine
    }

    pub fn take_out(&mut self) -> Outbox {
        std::mem::take(&mut self.out)
    }

    /// Until when no input times out.
    fn lenient_until(&self) -> Timestamp {
        if self.found_running { self.runs_since.plus(RESTART_GRACE) } else { self.runs_since }
    }

    /// When [`tick`](Self::tick) has something to do that cannot wait for the next regular one.
    pub fn next_due(&self) -> Option<Timestamp> {
        let soonest = |due: &BTreeSet<(Timestamp, u32)>| due.first().map(|&(at, _)| at);
        let linger = self.lingering.values().min().copied();
        [soonest(&self.core.waiting), soonest(&self.core.deadlines), linger]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes the time in; to be called some times a second, and at [`next_due`](Self::next_due).
    pub fn tick(&mut self, now: Timestamp) {
        self.resume_due(now);
        self.time_out_due(now);
        let functions: Vec<u32> = self.core.functions.iter().map(|(place, _)| place).collect();
        for place in functions {
            self.look_after_containers(now, place);
            self.trim(now, place);
            self.dispatch(now, place);
            self.scale(now, place);
        }
        self.forget_fetched(now);
        self.sweep(now);
    }

    /// Makes a change.
    fn commit(&mut self, record: Record) {
        metric::count_record(&record);
        self.out.records.push(record.encode());
        self.core.apply(record);
    }

    /// Makes a change that somebody is told of.
    fn commit_awaited(&mut self, record: Record) {
        self.out.is_awaited = true;
        self.commit(record);
    }

    fn known_function(&self, id: FunctionId) -> Result<u32, FunctionsError> {
        self.core.function(id).ok_or(FunctionsError::NoFunction { function: id })
    }

    fn known_call(&self, id: CallId) -> Result<u32, FunctionsError> {
        self.core.call(id).ok_or(FunctionsError::NoCall { call: id })
    }

    fn known_container(&self, id: ContainerId) -> Result<u32, FunctionsError> {
        self.core.container(id).ok_or(FunctionsError::NoContainer { container: id })
    }

    fn function(&self, place: u32) -> &Function {
        &self.core.functions[place]
    }

    /// The key of the input at a place.
    fn key_of(&self, place: u32) -> InputKey {
        let input = &self.core.inputs[place];
        (self.core.calls[input.call].key, input.index)
    }

    fn keys_of(&self, places: &[u32]) -> Vec<InputKey> {
        places.iter().map(|&place| self.key_of(place)).collect()
    }

    /// Inputs whose pause is over go back into their queues.
    fn resume_due(&mut self, now: Timestamp) {
        loop {
            let due = self.core.waiting.iter().take_while(|(at, _)| *at <= now);
            let due: Vec<u32> = due.take(INPUTS_PER_RECORD).map(|&(_, place)| place).collect();
            if due.is_empty() {
                return;
            }
            self.commit(Record::Resumed { inputs: self.keys_of(&due) });
        }
    }

    fn forget_fetched(&mut self, now: Timestamp) {
        while let Some((at, ..)) = self.fetched.front()
            && at.plus(KEEP_FETCHED) <= now
        {
            let Some((_, call, indices)) = self.fetched.pop_front() else { return };
            let Some(place) = self.core.call_place(call) else { continue };
            if matches!(self.core.calls[place].inputs, Inputs::One(_)) {
                self.commit(Record::Removed { calls: vec![call] });
                continue;
            }
            self.commit(Record::Cleared { call, indices });
            if self.core.is_spent(&self.core.calls[place]) {
                self.commit(Record::Removed { calls: vec![call] });
            }
        }
    }

    /// Looks at some calls and functions for whether they are kept long enough.
    fn sweep(&mut self, now: Timestamp) {
        let end = self.core.calls.end();
        let first = if self.swept >= end { 0 } else { self.swept };
        self.swept = first.saturating_add(CALLS_SWEPT_PER_TICK).min(end);
        let outlived = |place: &u32| {
            let call = self.core.calls.get(*place)?;
            (self.ended_at(call)?.plus(KEEP_OUTPUTS) <= now).then_some(call.key)
        };
        let calls: Vec<CallKey> =
            (first..self.swept).filter_map(|place| outlived(&place)).collect();
        for calls in calls.chunks(INPUTS_PER_RECORD) {
            self.commit(Record::Removed { calls: calls.to_vec() });
        }
        let is_over = |function: &&Function| {
            let is_unused = function.calls == 0 && function.containers.is_empty();
            is_unused && function.retired_at.is_some_and(|at| at.plus(KEEP_OUTPUTS) <= now)
        };
        let functions = self.core.functions.iter().map(|(_, function)| function).filter(is_over);
        let over: Vec<FunctionId> = functions.map(|function| function.settings.function).collect();
        for function in over {
            self.commit(Record::Forgotten { function });
        }
    }

    /// Since when a call has nothing to wait for; none while an input of it does.
    fn ended_at(&self, call: &crate::state::Call) -> Option<Timestamp> {
        let last = match &call.inputs {
            Inputs::One(NOWHERE) => return Some(call.key.created_at()),
            Inputs::One(place) => *place,
            Inputs::Many(many) if many.total == 0 => return Some(call.key.created_at()),
            Inputs::Many(many) => {
                let index = many.order.iter().rev().find(|&&index| index != NOWHERE)?;
                *many.by_index.get(*index as usize)?
            }
        };
        let (total, done) = self.core.counts(call);
        (total == done).then(|| self.core.inputs[last].at)
    }
}
