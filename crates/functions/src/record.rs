//! What the journal keeps of functions: every change of state, as it was decided.
//!
//! A record carries the decision, not what led to it: reading the same records gives the same
//! state whatever the rules say by then. Each is a byte of version, a byte that says which, and
//! the values in the order of its fields. What changes one input names it by call and index and
//! changes nothing else, so that records can be applied to a state that some of their inputs
//! are ahead of (see `snapshot`).

use std::sync::Arc;

use corral_containers::StartKind;
use corral_types::{ContainerId, FunctionId, InputId, Timestamp};

use crate::call::{CallKind, ChunkDirection, Invocation};
use crate::codec::{Reader, Writer};
use crate::error::CodecError;
use crate::packed::{CallKey, invocation_byte, read_invocation};
use crate::settings::{FunctionSettings, Scaling};
use crate::usage::FunctionUsage;

/// The version of records that this program writes.
pub const RECORD_VERSION: u8 = 1;

/// An input by its place.
pub(crate) type InputKey = (CallKey, u32);

/// An input that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedInput {
    pub index: u32,
    pub format: u8,
    pub method: String,
    /// A packed payload.
    pub body: Arc<[u8]>,
}

/// A chunk of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedChunk {
    pub index: u64,
    pub format: u8,
    /// A packed payload.
    pub body: Arc<[u8]>,
}

/// What an input's way back to the queue says of the attempt before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// The function failed: one of its retries is used up.
    Failure,
    /// Something else did.
    Internal,
    /// Nothing did.
    Not,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Defined {
        settings: Box<FunctionSettings>,
    },
    ScalingChanged {
        function: FunctionId,
        scaling: Scaling,
    },
    Retired {
        function: FunctionId,
        at: Timestamp,
    },
    Forgotten {
        function: FunctionId,
    },
    CallCreated {
        call: CallKey,
        function: FunctionId,
        kind: CallKind,
        invocation: Invocation,
        /// What more of the idempotency key's hash there is than in the call's id; 0 without.
        key: u64,
        parent: Option<InputId>,
        at: Timestamp,
        inputs: Vec<PackedInput>,
    },
    InputsPut {
        call: CallKey,
        at: Timestamp,
        inputs: Vec<PackedInput>,
    },
    InputsFinished {
        call: CallKey,
    },
    /// Inputs that were done are to be done again.
    InputsRetried {
        call: CallKey,
        at: Timestamp,
        inputs: Vec<PackedInput>,
    },
    CallCancelled {
        call: CallKey,
    },
    /// The container has the inputs, by its poll of this key, until their time is over.
    Assigned {
        container: ContainerId,
        poll: u32,
        at: Timestamp,
        timeout_ms: u32,
        inputs: Vec<InputKey>,
    },
    /// The inputs wait until then for another attempt; for none if that is now.
    Requeued {
        until: Option<Timestamp>,
        counted: Counted,
        inputs: Vec<InputKey>,
    },
    /// The pause before the next attempt is over.
    Resumed {
        inputs: Vec<InputKey>,
    },
    /// An input is done, as the given one of its call: a packed ending.
    Done {
        input: InputKey,
        entry: u32,
        at: Timestamp,
        body: Arc<[u8]>,
    },
    /// Inputs are done alike.
    DoneAlike {
        at: Timestamp,
        body: Arc<[u8]>,
        inputs: Vec<(InputKey, u32)>,
    },
    /// Outputs were fetched and are kept no longer.
    Cleared {
        call: CallKey,
        indices: Vec<u32>,
    },
    Removed {
        calls: Vec<CallKey>,
    },
    Chunks {
        call: CallKey,
        direction: ChunkDirection,
        chunks: Vec<PackedChunk>,
    },
    ContainerRequested {
        container: ContainerId,
        function: FunctionId,
        at: Timestamp,
    },
    ContainerStarted {
        container: ContainerId,
        at: Timestamp,
        kind: StartKind,
    },
    /// It asked for its first input.
    ContainerReady {
        container: ContainerId,
        at: Timestamp,
    },
    ContainerDraining {
        container: ContainerId,
        at: Timestamp,
    },
    /// It is to leave inputs alone that it has, since they are done otherwise.
    Interrupted {
        container: ContainerId,
        at: Timestamp,
        inputs: Vec<InputId>,
    },
    /// It left them alone.
    Released {
        container: ContainerId,
        inputs: Vec<InputId>,
    },
    ContainerEnded {
        container: ContainerId,
        usage: Box<FunctionUsage>,
    },
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(vec![RECORD_VERSION]);
        self.write(&mut writer);
        writer.0
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Defined { settings } => {
                writer.byte(1);
                writer.bytes(&json(settings));
            }
            Self::ScalingChanged { function, scaling } => {
                writer.byte(2);
                writer.id(*function);
                writer.bytes(&json(scaling));
            }
            Self::Retired { function, at } => {
                writer.byte(3);
                writer.id(*function);
                writer.time(*at);
            }
            Self::Forgotten { function } => {
                writer.byte(4);
                writer.id(*function);
            }
            Self::CallCreated { call, function, kind, invocation, key, parent, at, inputs } => {
                writer.byte(5);
                call.write(writer);
                writer.id(*function);
                writer.byte(kind_byte(*kind));
                writer.byte(invocation_byte(*invocation));
                writer.fixed(&key.to_le_bytes());
                writer.optional(*parent, Writer::id);
                writer.time(*at);
                writer.list(inputs, write_input);
            }
            Self::InputsPut { call, at, inputs } => {
                writer.byte(6);
                call.write(writer);
                writer.time(*at);
                writer.list(inputs, write_input);
            }
            Self::InputsFinished { call } => {
                writer.byte(7);
                call.write(writer);
            }
            Self::InputsRetried { call, at, inputs } => {
                writer.byte(8);
                call.write(writer);
                writer.time(*at);
                writer.list(inputs, write_input);
            }
            Self::CallCancelled { call } => {
                writer.byte(9);
                call.write(writer);
            }
            Self::Assigned { container, poll, at, timeout_ms, inputs } => {
                writer.byte(10);
                writer.id(*container);
                writer.number((*poll).into());
                writer.time(*at);
                writer.number((*timeout_ms).into());
                writer.list(inputs, write_key);
            }
            Self::Requeued { until, counted, inputs } => {
                writer.byte(11);
                writer.optional(*until, Writer::time);
                writer.byte(match counted {
                    Counted::Failure => 0,
                    Counted::Internal => 1,
                    Counted::Not => 2,
                });
                writer.list(inputs, write_key);
            }
            Self::Resumed { inputs } => {
                writer.byte(12);
                writer.list(inputs, write_key);
            }
            Self::Done { input, entry, at, body } => {
                writer.byte(13);
                write_key(writer, input);
                writer.number((*entry).into());
                writer.time(*at);
                writer.bytes(body);
            }
            Self::DoneAlike { at, body, inputs } => {
                writer.byte(14);
                writer.time(*at);
                writer.bytes(body);
                writer.list(inputs, |writer, (key, entry)| {
                    write_key(writer, key);
                    writer.number((*entry).into());
                });
            }
            Self::Cleared { call, indices } => {
                writer.byte(15);
                call.write(writer);
                writer.list(indices, |writer, index| writer.number((*index).into()));
            }
            Self::Removed { calls } => {
                writer.byte(16);
                writer.list(calls, |writer, call| call.write(writer));
            }
            Self::Chunks { call, direction, chunks } => {
                writer.byte(17);
                call.write(writer);
                writer.byte(direction_byte(*direction));
                writer.list(chunks, write_chunk);
            }
            Self::ContainerRequested { container, function, at } => {
                writer.byte(18);
                writer.id(*container);
                writer.id(*function);
                writer.time(*at);
            }
            Self::ContainerStarted { container, at, kind } => {
                writer.byte(19);
                writer.id(*container);
                writer.time(*at);
                writer.byte(start_kind_byte(*kind));
            }
            Self::ContainerReady { container, at } => {
                writer.byte(20);
                writer.id(*container);
                writer.time(*at);
            }
            Self::ContainerDraining { container, at } => {
                writer.byte(21);
                writer.id(*container);
                writer.time(*at);
            }
            Self::Interrupted { container, at, inputs } => {
                writer.byte(22);
                writer.id(*container);
                writer.time(*at);
                writer.list(inputs, |writer, input| writer.id(*input));
            }
            Self::Released { container, inputs } => {
                writer.byte(23);
                writer.id(*container);
                writer.list(inputs, |writer, input| writer.id(*input));
            }
            Self::ContainerEnded { container, usage } => {
                writer.byte(24);
                writer.id(*container);
                writer.bytes(&json(usage));
            }
        }
    }

    /// # Errors
    /// When the bytes were written by a newer program or are none of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let found = reader.byte()?;
        if found != RECORD_VERSION {
            return Err(CodecError::Version { found, known: RECORD_VERSION });
        }
        Self::read(&mut reader)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match reader.byte()? {
            1 => Self::Defined { settings: from_json(reader, "settings")? },
            2 => Self::ScalingChanged {
                function: reader.id()?,
                scaling: from_json(reader, "scaling")?,
            },
            3 => Self::Retired { function: reader.id()?, at: reader.time()? },
            4 => Self::Forgotten { function: reader.id()? },
            5 => Self::CallCreated {
                call: CallKey::read(reader)?,
                function: reader.id()?,
                kind: read_kind(reader.byte()?)?,
                invocation: read_invocation(reader.byte()?)?,
                key: read_u64(reader)?,
                parent: reader.optional(Reader::id)?,
                at: reader.time()?,
                inputs: reader.list(read_input)?,
            },
            6 => Self::InputsPut {
                call: CallKey::read(reader)?,
                at: reader.time()?,
                inputs: reader.list(read_input)?,
            },
            7 => Self::InputsFinished { call: CallKey::read(reader)? },
            8 => Self::InputsRetried {
                call: CallKey::read(reader)?,
                at: reader.time()?,
                inputs: reader.list(read_input)?,
            },
            9 => Self::CallCancelled { call: CallKey::read(reader)? },
            10 => Self::Assigned {
                container: reader.id()?,
                poll: reader.narrow()?,
                at: reader.time()?,
                timeout_ms: reader.narrow()?,
                inputs: reader.list(read_key)?,
            },
            11 => Self::Requeued {
                until: reader.optional(Reader::time)?,
                counted: match reader.byte()? {
                    0 => Counted::Failure,
                    1 => Counted::Internal,
                    2 => Counted::Not,
                    _ => return Err(CodecError::Value { what: "what is counted" }),
                },
                inputs: reader.list(read_key)?,
            },
            12 => Self::Resumed { inputs: reader.list(read_key)? },
            13 => Self::Done {
                input: read_key(reader)?,
                entry: reader.narrow()?,
                at: reader.time()?,
                body: reader.shared()?,
            },
            14 => Self::DoneAlike {
                at: reader.time()?,
                body: reader.shared()?,
                inputs: reader.list(|reader| Ok((read_key(reader)?, reader.narrow()?)))?,
            },
            15 => Self::Cleared {
                call: CallKey::read(reader)?,
                indices: reader.list(Reader::narrow)?,
            },
            16 => Self::Removed { calls: reader.list(CallKey::read)? },
            17 => Self::Chunks {
                call: CallKey::read(reader)?,
                direction: read_direction(reader.byte()?)?,
                chunks: reader.list(read_chunk)?,
            },
            18 => Self::ContainerRequested {
                container: reader.id()?,
                function: reader.id()?,
                at: reader.time()?,
            },
            19 => Self::ContainerStarted {
                container: reader.id()?,
                at: reader.time()?,
                kind: read_start_kind(reader.byte()?)?,
            },
            20 => Self::ContainerReady { container: reader.id()?, at: reader.time()? },
            21 => Self::ContainerDraining { container: reader.id()?, at: reader.time()? },
            22 => Self::Interrupted {
                container: reader.id()?,
                at: reader.time()?,
                inputs: reader.list(Reader::id)?,
            },
            23 => Self::Released { container: reader.id()?, inputs: reader.list(Reader::id)? },
            24 => {
                Self::ContainerEnded { container: reader.id()?, usage: from_json(reader, "usage")? }
            }
            found => return Err(CodecError::Kind { found }),
        })
    }
}

/// What there are few of, and to what may be added.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("it is made of plain values")
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Result<T, CodecError> {
    serde_json::from_slice(reader.bytes()?).map_err(|_| CodecError::Value { what })
}

fn write_key(writer: &mut Writer, (call, index): &InputKey) {
    call.write(writer);
    writer.number((*index).into());
}

fn read_key(reader: &mut Reader<'_>) -> Result<InputKey, CodecError> {
    Ok((CallKey::read(reader)?, reader.narrow()?))
}

fn write_input(writer: &mut Writer, input: &PackedInput) {
    writer.number(input.index.into());
    writer.byte(input.format);
    writer.bytes(input.method.as_bytes());
    writer.bytes(&input.body);
}

fn read_input(reader: &mut Reader<'_>) -> Result<PackedInput, CodecError> {
    Ok(PackedInput {
        index: reader.narrow()?,
        format: reader.byte()?,
        method: reader.text()?,
        body: reader.shared()?,
    })
}

pub(crate) fn write_chunk(writer: &mut Writer, chunk: &PackedChunk) {
    writer.number(chunk.index);
    writer.byte(chunk.format);
    writer.bytes(&chunk.body);
}

pub(crate) fn read_chunk(reader: &mut Reader<'_>) -> Result<PackedChunk, CodecError> {
    Ok(PackedChunk { index: reader.number()?, format: reader.byte()?, body: reader.shared()? })
}

pub(crate) fn read_u64(reader: &mut Reader<'_>) -> Result<u64, CodecError> {
    Ok(u64::from_le_bytes(reader.fixed(8)?.try_into().expect("eight bytes were taken")))
}

pub(crate) fn kind_byte(kind: CallKind) -> u8 {
    match kind {
        CallKind::Unary => 0,
        CallKind::Map => 1,
    }
}

pub(crate) fn read_kind(byte: u8) -> Result<CallKind, CodecError> {
    match byte {
        0 => Ok(CallKind::Unary),
        1 => Ok(CallKind::Map),
        _ => Err(CodecError::Value { what: "a kind of call" }),
    }
}

fn direction_byte(direction: ChunkDirection) -> u8 {
    match direction {
        ChunkDirection::In => 0,
        ChunkDirection::Out => 1,
    }
}

fn read_direction(byte: u8) -> Result<ChunkDirection, CodecError> {
    match byte {
        0 => Ok(ChunkDirection::In),
        1 => Ok(ChunkDirection::Out),
        _ => Err(CodecError::Value { what: "a direction" }),
    }
}

pub(crate) fn start_kind_byte(kind: StartKind) -> u8 {
    match kind {
        StartKind::Cold => 0,
        StartKind::Template => 1,
        StartKind::Snapshot => 2,
    }
}

pub(crate) fn read_start_kind(byte: u8) -> Result<StartKind, CodecError> {
    match byte {
        0 => Ok(StartKind::Cold),
        1 => Ok(StartKind::Template),
        2 => Ok(StartKind::Snapshot),
        _ => Err(CodecError::Value { what: "a kind of start" }),
    }
}
