//! The state of functions, calls, inputs and containers, packed for millions of inputs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use corral_containers::{StartKind, StopReason, Usage};
use corral_types::{ContainerId, InputId, Timestamp};

use crate::call::{CallKind, Invocation};
use crate::packed::CallKey;
use crate::record::PackedChunk;
use crate::settings::FunctionSettings;
use crate::slab::NOWHERE;
use crate::usage::FunctionUsage;

/// Where an input stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In its function's queue.
    Queued,
    /// In a pause before its next attempt.
    Waiting,
    /// A container has it.
    Running,
    Done,
}

/// An input. There may be a million: every field counts.
#[derive(Debug)]
pub(crate) struct Input {
    /// Place of its call.
    pub call: u32,
    /// The client's number of it.
    pub index: u32,
    /// [`Phase::Queued`]: its neighbours. [`Phase::Running`]: how long it may run, in
    /// milliseconds, and nothing. [`Phase::Done`]: the record that said so, in two halves.
    pub links: [u32; 2],
    /// Since when it could be worked on.
    pub since: Timestamp,
    /// [`Phase::Waiting`]: until when. [`Phase::Running`]: until when at most. [`Phase::Done`]:
    /// since when.
    pub at: Timestamp,
    /// [`Phase::Running`]: the container's place. [`Phase::Done`]: which output of its call.
    pub place: u32,
    /// [`Phase::Running`]: the poll by which the container got it.
    pub poll: u32,
    /// Its payload, or packed ending; empty when the output was cleared.
    pub body: Arc<[u8]>,
    pub method: u16,
    /// Attempts before the present or next one.
    pub retries: u16,
    /// Of these, attempts in which the function failed …
    pub failed: u8,
    /// … and those in which something else did.
    pub internal: u8,
    pub phase: Phase,
    pub format: u8,
}

impl Input {
    pub fn started_at(&self) -> Timestamp {
        let ran_at_most = u64::from(self.links[0]);
        Timestamp::from_millis(self.at.as_millis().saturating_sub(ran_at_most))
    }

    pub fn done_by_record(&self) -> u64 {
        u64::from(self.links[0]) | u64::from(self.links[1]) << 32
    }

    pub fn set_done_by_record(&mut self, sequence: u64) {
        self.links = [sequence as u32, (sequence >> 32) as u32];
    }
}

/// The inputs of a call.
#[derive(Debug)]
pub(crate) enum Inputs {
    /// The place of the only one, or [`NOWHERE`].
    One(u32),
    Many(Box<Many>),
}

#[derive(Debug, Default)]
pub(crate) struct Many {
    /// Places by index; [`NOWHERE`] where there is none yet.
    pub by_index: Vec<u32>,
    /// Indices in the order in which they were done, the first at 0. One that was retried stands
    /// twice, the first time in vain; one of [`NOWHERE`] is not known yet.
    pub order: Vec<u32>,
    pub total: u32,
    pub done: u32,
    /// Of those done, how many have no output any more.
    pub cleared: u32,
}

/// A call. There may be a million of these as well.
#[derive(Debug)]
pub(crate) struct Call {
    pub key: CallKey,
    /// Place of its function.
    pub function: u32,
    /// Of the idempotency key's hash, what is not in the key; 0 without one.
    pub idempotency: u64,
    pub inputs: Inputs,
    pub extra: Option<Box<Extra>>,
    pub kind: CallKind,
    pub invocation: Invocation,
    /// No more inputs come.
    pub is_finished: bool,
    pub is_cancelled: bool,
}

/// What few calls have.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub parent: Option<InputId>,
    /// In, out.
    pub chunks: [Chunks; 2],
}

#[derive(Debug, Default)]
pub(crate) struct Chunks {
    pub list: VecDeque<PackedChunk>,
    /// The highest index that came.
    pub last: u64,
    pub bytes: usize,
}

impl Call {
    pub fn place_of(&self, index: u32, input_index: impl Fn(u32) -> u32) -> Option<u32> {
        match &self.inputs {
            Inputs::One(NOWHERE) => None,
            Inputs::One(place) => (input_index(*place) == index).then_some(*place),
            Inputs::Many(many) => {
                many.by_index.get(index as usize).copied().filter(|&place| place != NOWHERE)
            }
        }
    }

    /// The places of all inputs, by index.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        let places = match &self.inputs {
            Inputs::One(place) => std::slice::from_ref(place),
            Inputs::Many(many) => many.by_index.as_slice(),
        };
        places.iter().copied().filter(|&place| place != NOWHERE)
    }
}

/// A function and what follows from its calls and containers.
#[derive(Debug)]
pub(crate) struct Function {
    /// With the scaling as it was changed.
    pub settings: Arc<FunctionSettings>,
    pub retired_at: Option<Timestamp>,
    /// First, last.
    pub queue: [u32; 2],
    pub queued: u32,
    pub waiting: u32,
    pub running: u32,
    pub calls: u32,
    /// Places of those that did not end.
    pub containers: Vec<u32>,
    /// What ended containers took.
    pub usage: FunctionUsage,
    pub pace: Pace,
}

/// What was learnt of a function since the server started.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Containers that wait for inputs, the one that began last at the end.
    pub pollers: Vec<u32>,
    /// How long an attempt takes, the newest counting most; 0 when not known.
    pub service_ms: f64,
    /// How long a start takes, likewise.
    pub startup_ms: f64,
    /// Starts that failed one after the other.
    pub failed_starts: u32,
    pub start_after: Timestamp,
    /// When its containers were last counted.
    pub scaled_at: Timestamp,
    /// A container of the present definition asked for inputs once.
    pub is_proven: bool,
}

impl Function {
    pub fn new(settings: FunctionSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            retired_at: None,
            queue: [NOWHERE; 2],
            queued: 0,
            waiting: 0,
            running: 0,
            calls: 0,
            containers: Vec::new(),
            usage: FunctionUsage::default(),
            pace: Pace::default(),
        }
    }
}

/// A container that did not end.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: ContainerId,
    /// Place of its function; [`NOWHERE`] as long as only an input's word of it was read.
    pub function: u32,
    pub version: u64,
    pub requested_at: Timestamp,
    pub started: Option<(Timestamp, StartKind)>,
    /// Since when it asks for inputs.
    pub ready_at: Option<Timestamp>,
    pub draining_since: Option<Timestamp>,
    /// Places of the inputs that it has.
    pub running: Vec<u32>,
    /// Inputs that it is to leave alone, since when.
    pub interrupted: Vec<(InputId, Timestamp)>,
    pub last_poll: u32,
    pub inputs_given: u64,
    pub present: Present,
}

/// What is known of a container only as long as the server runs.
#[derive(Debug)]
pub(crate) struct Present {
    pub poll: Option<Poll>,
    pub idle_since: Timestamp,
    pub measured: Usage,
    pub used: FunctionUsage,
    pub stop: Option<(StopReason, Timestamp)>,
}

/// A container's question for inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Poll {
    pub key: u32,
    pub max_inputs: u32,
}

impl Container {
    pub fn new(id: ContainerId, now: Timestamp) -> Self {
        Self {
            id,
            function: NOWHERE,
            version: 0,
            requested_at: now,
            started: None,
            ready_at: None,
            draining_since: None,
            running: Vec::new(),
            interrupted: Vec::new(),
            last_poll: 0,
            inputs_given: 0,
            present: Present {
                poll: None,
                idle_since: now,
                measured: Usage::default(),
                used: FunctionUsage::default(),
                stop: None,
            },
        }
    }
}

/// Names of methods, each kept once.
#[derive(Debug)]
pub(crate) struct Methods {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

/// The most different names of methods that are kept; it is what a number has room for.
pub(crate) const MAX_METHODS: usize = u16::MAX as usize;

impl Default for Methods {
    fn default() -> Self {
        let mut methods = Self { names: Vec::new(), numbers: HashMap::new() };
        methods.number("");
        methods
    }
}

impl Methods {
    pub fn has_room_for(&self, name: &str) -> bool {
        self.numbers.contains_key(name) || self.names.len() < MAX_METHODS
    }

    /// The name's number; that of no name when there is no room, which is refused before.
    pub fn number(&mut self, name: &str) -> u16 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        if self.names.len() >= MAX_METHODS {
            return 0;
        }
        let (number, name) = (self.names.len() as u16, Arc::<str>::from(name));
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    pub fn name(&self, number: u16) -> &str {
        &self.names[usize::from(number)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_inputs_are_small() {
        assert_eq!(size_of::<Input>(), 64);
        assert_eq!(size_of::<Option<Input>>(), 64);
        assert!(size_of::<Call>() <= 56, "{}", size_of::<Call>());
    }
}
