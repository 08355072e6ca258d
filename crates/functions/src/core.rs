//! The core of functions: their states as a fold over the journal's records.
//!
//! [`Core::apply`] makes of each record the next state; nothing else changes it. So a core that
//! read a journal is the same as the one that wrote it. No I/O, no clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use corral_types::{CallId, ContainerId, FunctionId, InputId, Timestamp};
use hashbrown::HashTable;

use crate::call::CallKind;
use crate::packed::CallKey;
use crate::slab::{NOWHERE, Slab};
use crate::snapshot::Ahead;
use crate::state::{Call, Container, Function, Input, Inputs, Many, Methods, Phase};

/// Everything about functions that outlives the server, and what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Core {
    pub functions: Slab<Function>,
    pub function_places: HashMap<FunctionId, u32>,
    pub calls: Slab<Call>,
    by_key: HashTable<u32>,
    by_idempotency: HashTable<u32>,
    pub inputs: Slab<Input>,
    pub containers: Slab<Container>,
    pub container_places: HashMap<ContainerId, u32>,
    pub methods: Methods,
    /// Inputs in a pause, by its end.
    pub waiting: BTreeSet<(Timestamp, u32)>,
    /// Inputs that run, by when they must be done.
    pub deadlines: BTreeSet<(Timestamp, u32)>,
    /// Inputs without an output.
    pub unfinished: usize,
    /// What payloads, outputs and chunks take of memory.
    pub resident_bytes: usize,
    /// The number of the last record that was applied.
    pub sequence: u64,
    /// While records are read back: which inputs the snapshot has in a later state.
    pub ahead: Option<Ahead>,
    pub empty: Arc<[u8]>,
}

impl Core {
    pub fn function(&self, id: FunctionId) -> Option<u32> {
        self.function_places.get(&id).copied()
    }

    pub fn container(&self, id: ContainerId) -> Option<u32> {
        self.container_places.get(&id).copied()
    }

    /// The place of a call, none for an id that is not one of ours.
    pub fn call(&self, id: CallId) -> Option<u32> {
        let key = CallKey::of(id);
        self.call_place(key).filter(|_| key.call() == id)
    }

    pub fn call_place(&self, key: CallKey) -> Option<u32> {
        let is_it = |&place: &u32| self.calls[place].key == key;
        self.by_key.find(hash_of_key(key), is_it).copied()
    }

    /// The call that was made under this key, of which the rest stands in `key`.
    pub fn call_made(&self, function: u32, key: CallKey, idempotency: u64) -> Option<u32> {
        let is_it = |&place: &u32| {
            let call = &self.calls[place];
            call.idempotency == idempotency && call.function == function && call.key.is_sibling(key)
        };
        self.by_idempotency.find(mix(idempotency), is_it).copied()
    }

    pub fn input_place(&self, call: u32, index: u32) -> Option<u32> {
        self.calls[call].place_of(index, |place| self.inputs[place].index)
    }

    pub fn input(&self, id: InputId) -> Option<u32> {
        let (key, index) = CallKey::of_input(id)?;
        self.input_place(self.call_place(key)?, index)
    }

    pub fn input_id(&self, input: &Input) -> InputId {
        self.calls[input.call].key.input(input.index)
    }

    pub fn function_of(&self, input: &Input) -> u32 {
        self.calls[input.call].function
    }

    /// How many inputs a call has, and how many of them are done.
    pub fn counts(&self, call: &Call) -> (u32, u32) {
        match &call.inputs {
            Inputs::One(NOWHERE) => (0, 0),
            Inputs::One(place) => (1, u32::from(self.inputs[*place].phase == Phase::Done)),
            Inputs::Many(many) => (many.total, many.done),
        }
    }

    /// How many outputs a call had so far.
    pub fn last_entry(&self, call: &Call) -> u32 {
        match &call.inputs {
            Inputs::One(NOWHERE) => 0,
            Inputs::One(place) => {
                let input = &self.inputs[*place];
                if input.phase == Phase::Done { input.place } else { 0 }
            }
            Inputs::Many(many) => many.order.len() as u32,
        }
    }

    pub(crate) fn insert_call(&mut self, call: Call) -> u32 {
        let (key, idempotency, function) = (call.key, call.idempotency, call.function);
        let place = self.calls.insert(call);
        let Self { calls, by_key, by_idempotency, .. } = self;
        by_key.insert_unique(hash_of_key(key), place, |&other| hash_of_key(calls[other].key));
        if idempotency != 0 {
            let rehash = |&other: &u32| mix(calls[other].idempotency);
            by_idempotency.insert_unique(mix(idempotency), place, rehash);
        }
        self.functions[function].calls += 1;
        place
    }

    pub(crate) fn remove_call(&mut self, place: u32) {
        let places: Vec<u32> = self.calls[place].places().collect();
        for input in places {
            self.leave(input);
            if self.inputs[input].phase != Phase::Done {
                self.unfinished -= 1;
            }
            self.resident_bytes -= self.inputs[input].body.len();
            self.inputs.remove(input);
        }
        let key = self.calls[place].key;
        if let Ok(entry) = self.by_key.find_entry(hash_of_key(key), |&other| other == place) {
            entry.remove();
        }
        let call = self.calls.remove(place).expect("the caller has its place");
        if call.idempotency != 0 {
            let found =
                self.by_idempotency.find_entry(mix(call.idempotency), |&other| other == place);
            if let Ok(entry) = found {
                entry.remove();
            }
        }
        for chunks in call.extra.iter().flat_map(|extra| &extra.chunks) {
            self.resident_bytes -= chunks.bytes;
        }
        self.functions[call.function].calls -= 1;
    }

    /// Adds an input that is in no phase's lists yet.
    pub(crate) fn insert_input(&mut self, input: Input) -> u32 {
        let (call, index) = (input.call, input.index);
        self.resident_bytes += input.body.len();
        if input.phase != Phase::Done {
            self.unfinished += 1;
        }
        let place = self.inputs.insert(input);
        let is_unary = self.calls[call].kind == CallKind::Unary;
        if is_unary && matches!(self.calls[call].inputs, Inputs::One(NOWHERE)) {
            self.calls[call].inputs = Inputs::One(place);
            return place;
        }
        let many = self.many(call);
        if many.by_index.len() <= index as usize {
            many.by_index.resize(index as usize + 1, NOWHERE);
        }
        many.by_index[index as usize] = place;
        many.total += 1;
        place
    }

    /// The inputs of a call as those of one that may have many.
    pub(crate) fn many(&mut self, call: u32) -> &mut Many {
        let Self { calls, inputs, .. } = self;
        let of_call = &mut calls[call].inputs;
        if let Inputs::One(first) = *of_call {
            let mut many = Many::default();
            if first != NOWHERE {
                let input = &inputs[first];
                many.by_index = vec![NOWHERE; input.index as usize + 1];
                many.by_index[input.index as usize] = first;
                many.total = 1;
                if input.phase == Phase::Done {
                    many.done = 1;
                    many.order = vec![NOWHERE; input.place as usize];
                    many.order[input.place as usize - 1] = input.index;
                    many.cleared = u32::from(input.body.is_empty());
                }
            }
            *of_call = Inputs::Many(Box::new(many));
        }
        match of_call {
            Inputs::Many(many) => many,
            Inputs::One(_) => unreachable!("it was made one of many"),
        }
    }

    /// Takes an input out of the lists of the phase it is in.
    pub(crate) fn leave(&mut self, place: u32) {
        let input = &self.inputs[place];
        let (phase, at, holder) = (input.phase, input.at, input.place);
        let (call, function) = (input.call, self.function_of(input));
        match phase {
            Phase::Queued => self.unlink(function, place),
            Phase::Waiting => {
                self.waiting.remove(&(at, place));
                self.functions[function].waiting -= 1;
            }
            Phase::Running => {
                self.deadlines.remove(&(at, place));
                self.functions[function].running -= 1;
                self.containers[holder].running.retain(|&other| other != place);
            }
            Phase::Done => {
                let is_cleared = self.inputs[place].body.is_empty();
                if let Inputs::Many(many) = &mut self.calls[call].inputs {
                    many.done -= 1;
                    many.cleared -= u32::from(is_cleared);
                }
            }
        }
    }

    /// Puts an input at the end of its function's queue, or at its beginning.
    pub(crate) fn enqueue(&mut self, place: u32, end: QueueEnd) {
        let function = self.function_of(&self.inputs[place]);
        self.inputs[place].phase = Phase::Queued;
        let Self { functions, inputs, .. } = self;
        let function = &mut functions[function];
        function.queued += 1;
        let near = match end {
            QueueEnd::Front => 0,
            QueueEnd::Back => 1,
        };
        let neighbour = function.queue[near];
        // Before, after.
        inputs[place].links = match end {
            QueueEnd::Front => [NOWHERE, neighbour],
            QueueEnd::Back => [neighbour, NOWHERE],
        };
        if neighbour == NOWHERE {
            function.queue = [place; 2];
        } else {
            inputs[neighbour].links[near] = place;
            function.queue[near] = place;
        }
    }

    fn unlink(&mut self, function: u32, place: u32) {
        let Self { functions, inputs, .. } = self;
        let function = &mut functions[function];
        let [before, after] = inputs[place].links;
        match before {
            NOWHERE => function.queue[0] = after,
            before => inputs[before].links[1] = after,
        }
        match after {
            NOWHERE => function.queue[1] = before,
            after => inputs[after].links[0] = before,
        }
        function.queued -= 1;
    }

    /// The first inputs in a function's queue.
    pub fn queued(&self, function: u32) -> impl Iterator<Item = u32> {
        let first = self.functions[function].queue[0];
        let present = |place| (place != NOWHERE).then_some(place);
        std::iter::successors(present(first), move |&place| present(self.inputs[place].links[1]))
    }

    /// The place of a container, made for it if it is not known.
    pub(crate) fn container_or_new(&mut self, id: ContainerId, now: Timestamp) -> u32 {
        if let Some(place) = self.container(id) {
            return place;
        }
        let place = self.containers.insert(Container::new(id, now));
        self.container_places.insert(id, place);
        place
    }
}

/// Where an input enters a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueEnd {
    Front,
    Back,
}

fn hash_of_key(key: CallKey) -> u64 {
    mix(key.others())
}

/// Spreads bits that differ in few places over all.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (value ^ value >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}
