//! The state in pieces: written while the state goes on, read back before the records.
//!
//! A snapshot of a million inputs at one moment would hold everything up or need everything
//! twice. So it is taken in pieces, each at a moment of its own: functions and containers first,
//! at the record that the snapshot covers, then the calls a few hundred at a time. Each later
//! piece says up to which record its inputs have come, and when the records after the snapshot
//! are read, those that an input has behind it do nothing to it. Pieces are written before the
//! last of these records is on disk; the snapshot counts only after.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use corral_types::{AppId, ContainerId, FunctionId, Timestamp, WorkspaceId};

use crate::codec::{Reader, Writer};
use crate::core::{Core, QueueEnd};
use crate::error::CodecError;
use crate::packed::{CallKey, invocation_byte, read_invocation};
use crate::record::{
    from_json, json, kind_byte, read_chunk, read_kind, read_start_kind, read_u64, start_kind_byte,
    write_chunk,
};
use crate::settings::FunctionSettings;
use crate::slab::NOWHERE;
use crate::state::{Call, Chunks, Extra, Function, Input, Inputs, Phase};

/// The version of pieces that this program writes.
const PIECE_VERSION: u8 = 1;
/// How many calls a piece has: a fraction of a millisecond of everybody's time.
const CALLS_PER_PIECE: u32 = 512;
/// How many inputs of one call.
const INPUTS_PER_PIECE: usize = 1_024;

const FUNCTIONS: u8 = 1;
const CONTAINERS: u8 = 2;
const CALLS: u8 = 3;
const INPUTS: u8 = 4;

/// Which inputs are in a later state than the records that are being read.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// By the call's place: the last record that it has behind it.
    calls: Vec<u64>,
    /// For calls with many inputs: the same for inputs from an index on.
    inputs: HashMap<u32, Vec<(u32, u64)>>,
}

impl Ahead {
    pub fn has_call(&self, call: u32, sequence: u64) -> bool {
        self.calls.get(call as usize).is_some_and(|&up_to| up_to >= sequence)
    }

    pub fn has_input(&self, call: u32, index: u32, sequence: u64) -> bool {
        let Some(ranges) = self.inputs.get(&call) else { return self.has_call(call, sequence) };
        let after = ranges.partition_point(|&(first, _)| first <= index);
        after > 0 && ranges[after - 1].1 >= sequence
    }

    fn note_call(&mut self, call: u32, up_to: u64) {
        if self.calls.len() <= call as usize {
            self.calls.resize(call as usize + 1, 0);
        }
        self.calls[call as usize] = up_to;
    }
}

/// A snapshot that is being taken: where it has come to.
#[derive(Debug)]
pub(crate) struct SnapshotWalk {
    next_call: u32,
    end: u32,
    /// Calls with many inputs, and the index from which on their inputs are yet to come.
    many: VecDeque<(CallKey, u32)>,
}

impl SnapshotWalk {
    /// The pieces that are of one moment, and the way to the others.
    pub fn begin(core: &Core) -> (Vec<Vec<u8>>, Self) {
        let end = core.calls.end();
        (
            vec![functions_piece(core), containers_piece(core)],
            Self { next_call: 0, end, many: VecDeque::new() },
        )
    }

    /// The next piece, of this moment; none when there is no more.
    pub fn next_piece(&mut self, core: &Core) -> Option<Vec<u8>> {
        while let Some((key, first)) = self.many.pop_front() {
            let Some(call) = core.call_place(key) else { continue };
            let Inputs::Many(many) = &core.calls[call].inputs else { continue };
            let mut writer = Writer(vec![PIECE_VERSION, INPUTS]);
            writer.number(core.sequence);
            key.write(&mut writer);
            writer.number(first.into());
            let rest = many.by_index.get(first as usize..).unwrap_or_default();
            let places = rest.iter().take(INPUTS_PER_PIECE).filter(|&&place| place != NOWHERE);
            let places: Vec<u32> = places.copied().collect();
            writer.list(&places, |writer, &place| write_input(writer, core, &core.inputs[place]));
            if rest.len() > INPUTS_PER_PIECE {
                self.many.push_front((key, first + INPUTS_PER_PIECE as u32));
            }
            return Some(writer.0);
        }
        if self.next_call >= self.end {
            return None;
        }
        let until = (self.next_call + CALLS_PER_PIECE).min(self.end);
        let calls: Vec<&Call> =
            (self.next_call..until).filter_map(|place| core.calls.get(place)).collect();
        self.next_call = until;
        let mut writer = Writer(vec![PIECE_VERSION, CALLS]);
        writer.number(core.sequence);
        writer.list(&calls, |writer, call| write_call(writer, core, call));
        let many = calls.iter().filter(|call| matches!(call.inputs, Inputs::Many(_)));
        self.many.extend(many.map(|call| (call.key, 0)));
        Some(writer.0)
    }
}

fn functions_piece(core: &Core) -> Vec<u8> {
    let functions: Vec<&Function> = core.functions.iter().map(|(_, function)| function).collect();
    let mut writer = Writer(vec![PIECE_VERSION, FUNCTIONS]);
    writer.list(&functions, |writer, function| {
        writer.bytes(&json(&*function.settings));
        writer.optional(function.retired_at, Writer::time);
        writer.bytes(&json(&function.usage));
    });
    writer.0
}

fn containers_piece(core: &Core) -> Vec<u8> {
    let known = core.containers.iter().filter(|(_, container)| container.function != NOWHERE);
    let containers: Vec<_> = known.map(|(_, container)| container).collect();
    let mut writer = Writer(vec![PIECE_VERSION, CONTAINERS]);
    writer.list(&containers, |writer, container| {
        writer.id(container.id);
        writer.id(core.functions[container.function].settings.function);
        writer.number(container.version);
        writer.time(container.requested_at);
        writer.optional(container.started, |writer, (at, kind)| {
            writer.time(at);
            writer.byte(start_kind_byte(kind));
        });
        writer.optional(container.ready_at, Writer::time);
        writer.optional(container.draining_since, Writer::time);
        writer.list(&container.interrupted, |writer, (input, since)| {
            writer.id(*input);
            writer.time(*since);
        });
        writer.number(container.last_poll.into());
        writer.number(container.inputs_given);
    });
    writer.0
}

fn write_call(writer: &mut Writer, core: &Core, call: &Call) {
    call.key.write(writer);
    writer.id(core.functions[call.function].settings.function);
    writer.fixed(&call.idempotency.to_le_bytes());
    writer.byte(kind_byte(call.kind));
    writer.byte(invocation_byte(call.invocation));
    writer.byte(u8::from(call.is_finished) | u8::from(call.is_cancelled) << 1);
    writer.optional(call.extra.as_ref(), |writer, extra| {
        writer.optional(extra.parent, Writer::id);
        for chunks in &extra.chunks {
            writer.number(chunks.last);
            let list: Vec<_> = chunks.list.iter().collect();
            writer.list(&list, |writer, chunk| write_chunk(writer, chunk));
        }
    });
    match &call.inputs {
        Inputs::One(NOWHERE) => writer.byte(0),
        Inputs::One(place) => {
            writer.byte(1);
            write_input(writer, core, &core.inputs[*place]);
        }
        Inputs::Many(many) => {
            writer.byte(2);
            // Also places of outputs that are none any more are not given again.
            writer.number(many.order.len() as u64);
        }
    }
}

fn write_input(writer: &mut Writer, core: &Core, input: &Input) {
    writer.number(input.index.into());
    writer.byte(match input.phase {
        Phase::Queued => 0,
        Phase::Waiting => 1,
        Phase::Running => 2,
        Phase::Done => 3,
    });
    writer.time(input.since);
    writer.time(input.at);
    match input.phase {
        Phase::Queued | Phase::Waiting => {}
        Phase::Running => {
            writer.id(core.containers[input.place].id);
            writer.number(input.poll.into());
            writer.number(input.links[0].into());
        }
        Phase::Done => writer.number(input.place.into()),
    }
    writer.number(input.retries.into());
    writer.byte(input.failed);
    writer.byte(input.internal);
    writer.byte(input.format);
    writer.bytes(core.methods.name(input.method).as_bytes());
    writer.bytes(&input.body);
}

impl Core {
    /// Takes a piece in.
    ///
    /// # Errors
    /// When it was written by a newer program or is none.
    pub fn restore(&mut self, piece: &[u8]) -> Result<(), CodecError> {
        let mut reader = Reader::new(piece);
        let found = reader.byte()?;
        if found != PIECE_VERSION {
            return Err(CodecError::Version { found, known: PIECE_VERSION });
        }
        match reader.byte()? {
            FUNCTIONS => reader.list(|reader| self.restore_function(reader)).map(drop),
            CONTAINERS => reader.list(|reader| self.restore_container(reader)).map(drop),
            CALLS => {
                let up_to = reader.number()?;
                reader.list(|reader| self.restore_call(reader, up_to)).map(drop)
            }
            INPUTS => {
                let up_to = reader.number()?;
                let key = CallKey::read(&mut reader)?;
                let first = reader.narrow()?;
                let call = self.call_place(key).ok_or(CodecError::Value { what: "a call" })?;
                // As one that may have many, also when none of them is there any more.
                self.many(call);
                let ahead = self.ahead.get_or_insert_default();
                ahead.inputs.entry(call).or_default().push((first, up_to));
                reader.list(|reader| self.restore_input(reader, call, up_to)).map(drop)
            }
            found => Err(CodecError::Kind { found }),
        }
    }

    /// Puts the inputs that were restored as queued into their queues.
    pub fn link_restored(&mut self) {
        let queued = self.inputs.iter().filter(|(_, input)| input.phase == Phase::Queued);
        let mut queued: Vec<u32> = queued.map(|(place, _)| place).collect();
        queued.sort_by_cached_key(|&place| {
            let input = &self.inputs[place];
            (input.since, self.calls[input.call].key, input.index)
        });
        for place in queued {
            self.enqueue(place, QueueEnd::Back);
        }
    }

    fn restore_function(&mut self, reader: &mut Reader<'_>) -> Result<(), CodecError> {
        let settings: FunctionSettings = from_json(reader, "settings")?;
        let id = settings.function;
        let mut function = Function::new(settings);
        function.retired_at = reader.optional(Reader::time)?;
        function.usage = from_json(reader, "usage")?;
        let place = self.functions.insert(function);
        self.function_places.insert(id, place);
        Ok(())
    }

    /// The place of a function that a later record defines, if it is not known yet.
    fn function_or_later(&mut self, id: FunctionId) -> u32 {
        self.function(id).unwrap_or_else(|| {
            let (workspace, app) = (WorkspaceId::from_u128(0), AppId::from_u128(0));
            let function = Function::new(FunctionSettings::new(id, workspace, app));
            let place = self.functions.insert(function);
            self.function_places.insert(id, place);
            place
        })
    }

    fn restore_container(&mut self, reader: &mut Reader<'_>) -> Result<(), CodecError> {
        let id: ContainerId = reader.id()?;
        let place = self.container_or_new(id, Timestamp::default());
        let function = self.function_or_later(reader.id()?);
        self.functions[function].containers.push(place);
        let container = &mut self.containers[place];
        container.function = function;
        container.version = reader.number()?;
        container.requested_at = reader.time()?;
        container.started =
            reader.optional(|reader| Ok((reader.time()?, read_start_kind(reader.byte()?)?)))?;
        container.ready_at = reader.optional(Reader::time)?;
        container.draining_since = reader.optional(Reader::time)?;
        container.interrupted = reader.list(|reader| Ok((reader.id()?, reader.time()?)))?;
        container.last_poll = reader.narrow()?;
        container.inputs_given = reader.number()?;
        Ok(())
    }

    fn restore_call(&mut self, reader: &mut Reader<'_>, up_to: u64) -> Result<(), CodecError> {
        let key = CallKey::read(reader)?;
        let function = self.function_or_later(reader.id()?);
        let idempotency = read_u64(reader)?;
        let kind = read_kind(reader.byte()?)?;
        let invocation = read_invocation(reader.byte()?)?;
        let flags = reader.byte()?;
        let extra = reader.optional(|reader| {
            let parent = reader.optional(Reader::id)?;
            let mut extra = Extra { parent, ..Extra::default() };
            for chunks in &mut extra.chunks {
                let last = reader.number()?;
                let list = VecDeque::from(reader.list(read_chunk)?);
                let bytes = list.iter().map(|chunk| chunk.body.len()).sum();
                *chunks = Chunks { list, last, bytes };
            }
            Ok(Box::new(extra))
        })?;
        for chunks in extra.iter().flat_map(|extra| &extra.chunks) {
            self.resident_bytes += chunks.bytes;
        }
        let call = self.insert_call(Call {
            key,
            function,
            idempotency,
            inputs: Inputs::One(NOWHERE),
            extra,
            kind,
            invocation,
            is_finished: flags & 1 != 0,
            is_cancelled: flags & 2 != 0,
        });
        self.ahead.get_or_insert_default().note_call(call, up_to);
        match reader.byte()? {
            1 => self.restore_input(reader, call, up_to),
            2 => {
                let outputs: u32 = reader.narrow()?;
                self.many(call).order.resize(outputs as usize, NOWHERE);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn restore_input(
        &mut self,
        reader: &mut Reader<'_>,
        call: u32,
        up_to: u64,
    ) -> Result<(), CodecError> {
        let index = reader.narrow()?;
        let phase = match reader.byte()? {
            0 => Phase::Queued,
            1 => Phase::Waiting,
            2 => Phase::Running,
            3 => Phase::Done,
            _ => return Err(CodecError::Value { what: "a phase" }),
        };
        let (since, at) = (reader.time()?, reader.time()?);
        let (mut place, mut poll, mut ran_at_most) = (NOWHERE, 0, 0);
        match phase {
            Phase::Queued | Phase::Waiting => {}
            Phase::Running => {
                place = self.container_or_new(reader.id()?, since);
                poll = reader.narrow()?;
                ran_at_most = reader.narrow()?;
            }
            Phase::Done => place = reader.narrow()?,
        }
        let mut input = Input {
            call,
            index,
            links: [ran_at_most, NOWHERE],
            since,
            at,
            place,
            poll,
            retries: reader.narrow()?,
            failed: reader.byte()?,
            internal: reader.byte()?,
            format: reader.byte()?,
            method: self.methods.number(&reader.text()?),
            body: reader.shared()?,
            phase,
        };
        if input.body.is_empty() {
            input.body = Arc::clone(&self.empty);
        }
        if phase == Phase::Done {
            input.set_done_by_record(up_to);
        }
        let (holder, is_cleared) = (input.place, input.body.is_empty());
        let place = self.insert_input(input);
        match phase {
            Phase::Queued => {}
            Phase::Waiting => {
                self.waiting.insert((at, place));
                let function = self.calls[call].function;
                self.functions[function].waiting += 1;
            }
            Phase::Running => self.hold(place, holder),
            Phase::Done => {
                self.note_done(call, index, holder);
                if let Inputs::Many(many) = &mut self.calls[call].inputs {
                    many.cleared += u32::from(is_cleared);
                }
            }
        }
        Ok(())
    }
}
