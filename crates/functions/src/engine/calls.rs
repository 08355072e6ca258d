//! What those who call ask for.

use std::time::Duration;

use corral_types::{CallId, FunctionId, Timestamp, WorkspaceId};

use super::Engine;
use crate::call::{
    AcceptedInput, ChunkDirection, CreatedCall, DataChunk, MAX_INLINE_BYTES, MAX_INPUT_INDEX,
    MAX_INPUTS_PER_REQUEST, MAX_METHOD_BYTES, NewCall, NewInput, Outcome, OutcomeStatus, Payload,
    RetriedInput,
};
use crate::error::FunctionsError;
use crate::packed::{CallKey, Ending, pack_payload};
use crate::policy::{
    BYTES_PER_RECORD, MAX_CHUNK_BYTES, MAX_INDEX_GAP, MAX_RESIDENT_BYTES, MAX_UNFINISHED_INPUTS,
};
use crate::record::{PackedChunk, PackedInput, Record};
use crate::service::CancelContainers;
use crate::settings::{FunctionSettings, Scaling, ScalingChange};
use crate::slab::NOWHERE;
use crate::state::{MAX_METHODS, Phase};

impl Engine {
    pub fn define(
        &mut self,
        now: Timestamp,
        settings: FunctionSettings,
    ) -> Result<(), FunctionsError> {
        settings.validate()?;
        let id = settings.function;
        if let Some(place) = self.core.function(id) {
            let known = self.function(place);
            if known.retired_at.is_none() && *known.settings == settings {
                return Ok(());
            }
        }
        self.commit_awaited(Record::Defined { settings: Box::new(settings) });
        if let Some(place) = self.core.function(id) {
            self.drain_older(now, place);
            self.dispatch(now, place);
            self.scale(now, place);
        }
        Ok(())
    }

    pub fn change_scaling(
        &mut self,
        now: Timestamp,
        workspace: WorkspaceId,
        id: FunctionId,
        change: ScalingChange,
    ) -> Result<Scaling, FunctionsError> {
        let place = self.known_function(id)?;
        let settings = &self.function(place).settings;
        if settings.workspace != workspace {
            return Err(FunctionsError::NoFunction { function: id });
        }
        let scaling = change.apply_to(settings.scaling);
        FunctionSettings { scaling, ..(**settings).clone() }.validate()?;
        self.commit_awaited(Record::ScalingChanged { function: id, scaling });
        self.scale(now, place);
        Ok(scaling)
    }

    pub fn retire(&mut self, now: Timestamp, id: FunctionId) {
        let Some(place) = self.core.function(id) else { return };
        if self.function(place).retired_at.is_some() {
            return;
        }
        self.commit_awaited(Record::Retired { function: id, at: now });
        let mut unfinished: Vec<u32> = self.core.queued(place).collect();
        let waiting = self.core.waiting.iter().map(|&(_, input)| input);
        unfinished.extend(
            waiting.filter(|&input| self.core.function_of(&self.core.inputs[input]) == place),
        );
        let containers = self.function(place).containers.clone();
        for &container in &containers {
            unfinished.extend(&self.core.containers[container].running);
        }
        let outcome = Outcome::without_payload(OutcomeStatus::Terminated, "the app was stopped");
        self.finish_alike(now, &unfinished, outcome);
        for container in containers {
            self.drain(now, container);
            self.stop(now, container, corral_containers::StopReason::AppStopped);
        }
    }

    /// The call that was made before under the same key, or a new one.
    pub fn create_call(
        &mut self,
        now: Timestamp,
        workspace: WorkspaceId,
        new: NewCall,
    ) -> Result<CreatedCall, FunctionsError> {
        let id = new.function;
        let function = self.known_function(id)?;
        let known = self.function(function);
        if known.settings.workspace != workspace {
            return Err(FunctionsError::NoFunction { function: id });
        }
        if known.retired_at.is_some() {
            return Err(FunctionsError::Retired { function: id });
        }
        let (key, rest) = match &new.idempotency_key {
            Some(key) => hashed(now, workspace, id, key),
            None => (self.random_key(now), 0),
        };
        if rest != 0
            && let Some(place) = self.core.call_made(function, key, rest)
        {
            // Of a large request a server that was killed may have kept the first inputs only.
            let inputs = self.add_inputs(now, place, new.inputs)?;
            return Ok(CreatedCall { call: self.core.calls[place].key.call(), inputs });
        }
        // Two keys of which 48 bits and the millisecond agree are told apart by the time.
        let mut created = now;
        let mut key = key;
        while self.core.call_place(key).is_some() {
            created = created.plus(Duration::from_millis(1));
            key = key.at(created);
        }
        let inputs = self.pack_inputs(0, new.inputs)?;
        let accepted = inputs.iter().map(|input| accepted(key, input.index)).collect();
        let mut parts = split(inputs).into_iter();
        self.commit_awaited(Record::CallCreated {
            call: key,
            function: id,
            kind: new.kind,
            invocation: new.invocation,
            key: rest,
            parent: new.parent,
            at: now,
            inputs: parts.next().unwrap_or_default(),
        });
        for inputs in parts {
            self.commit(Record::InputsPut { call: key, at: now, inputs });
        }
        self.dispatch(now, function);
        self.scale(now, function);
        Ok(CreatedCall { call: key.call(), inputs: accepted })
    }

    fn random_key(&mut self, now: Timestamp) -> CallKey {
        let [a, b, c, d, e, f, ..] = (self.random)();
        CallKey::new(now, [a, b, c, d, e, f])
    }

    /// The place of a call that a workspace may see.
    pub fn visible_call(&self, workspace: WorkspaceId, id: CallId) -> Result<u32, FunctionsError> {
        let place = self.known_call(id)?;
        let settings = &self.function(self.core.calls[place].function).settings;
        if settings.workspace != workspace {
            return Err(FunctionsError::NoCall { call: id });
        }
        Ok(place)
    }

    pub fn put_inputs(
        &mut self,
        now: Timestamp,
        workspace: WorkspaceId,
        id: CallId,
        inputs: Vec<NewInput>,
    ) -> Result<Vec<AcceptedInput>, FunctionsError> {
        let place = self.visible_call(workspace, id)?;
        self.add_inputs(now, place, inputs)
    }

    /// Adds those inputs to a call that it has not.
    fn add_inputs(
        &mut self,
        now: Timestamp,
        place: u32,
        inputs: Vec<NewInput>,
    ) -> Result<Vec<AcceptedInput>, FunctionsError> {
        let call = &self.core.calls[place];
        let (id, key, function) = (call.key.call(), call.key, call.function);
        let all: Vec<_> = inputs.iter().map(|input| accepted(key, input.index)).collect();
        // Those that are there already may be on their way to the disk still.
        self.out.is_awaited = true;
        let is_new = |input: &NewInput| self.core.input_place(place, input.index).is_none();
        let inputs: Vec<_> = inputs.into_iter().filter(is_new).collect();
        if inputs.is_empty() {
            return Ok(all);
        }
        let closed = |reason| Err(FunctionsError::CallClosed { call: id, reason });
        let call = &self.core.calls[place];
        if call.is_cancelled {
            return closed("it was cancelled");
        }
        if self.function(function).retired_at.is_some() {
            return closed("its app was stopped");
        }
        if call.is_finished && call.kind == crate::CallKind::Map {
            return closed("its inputs were said to be complete");
        }
        let inputs = self.pack_inputs(self.core.counts(call).0, inputs)?;
        for inputs in split(inputs) {
            self.commit(Record::InputsPut { call: key, at: now, inputs });
        }
        self.dispatch(now, function);
        self.scale(now, function);
        Ok(all)
    }

    pub fn finish_inputs(
        &mut self,
        workspace: WorkspaceId,
        id: CallId,
    ) -> Result<(), FunctionsError> {
        let place = self.visible_call(workspace, id)?;
        let call = &self.core.calls[place];
        self.out.is_awaited = true;
        if !call.is_finished {
            let key = call.key;
            self.out.changed_calls.push(key);
            self.commit(Record::InputsFinished { call: key });
        }
        Ok(())
    }

    pub fn retry_inputs(
        &mut self,
        now: Timestamp,
        workspace: WorkspaceId,
        id: CallId,
        inputs: Vec<RetriedInput>,
    ) -> Result<Vec<AcceptedInput>, FunctionsError> {
        let place = self.visible_call(workspace, id)?;
        let call = &self.core.calls[place];
        let (key, function) = (call.key, call.function);
        if call.is_cancelled || self.function(function).retired_at.is_some() {
            let reason = "it was cancelled or its app was stopped";
            return Err(FunctionsError::CallClosed { call: id, reason });
        }
        let all: Vec<_> = inputs.iter().map(|input| accepted(key, input.index)).collect();
        let is_done = |input: &RetriedInput| {
            let known = self.core.input_place(place, input.index);
            known.is_some_and(|input| self.core.inputs[input].phase == Phase::Done)
        };
        let retried = inputs.into_iter().filter(is_done).map(|retried| {
            let RetriedInput { index, payload, data_format, method } = retried;
            NewInput { index, payload, data_format, method }
        });
        let inputs = retried.collect();
        let inputs = self.pack_inputs(self.core.counts(call).0, inputs)?;
        self.out.is_awaited = true;
        for inputs in split(inputs) {
            self.commit(Record::InputsRetried { call: key, at: now, inputs });
        }
        self.dispatch(now, function);
        self.scale(now, function);
        Ok(all)
    }

    pub fn cancel_call(
        &mut self,
        now: Timestamp,
        workspace: WorkspaceId,
        id: CallId,
        containers: CancelContainers,
    ) -> Result<(), FunctionsError> {
        let place = self.visible_call(workspace, id)?;
        let call = &self.core.calls[place];
        let key = call.key;
        let unfinished: Vec<u32> =
            call.places().filter(|&place| self.core.inputs[place].phase != Phase::Done).collect();
        self.out.is_awaited = true;
        if !call.is_cancelled {
            self.commit(Record::CallCancelled { call: key });
        }
        let holders = self.holders(&unfinished);
        let outcome = Outcome::without_payload(OutcomeStatus::Terminated, "the call was cancelled");
        self.finish_alike(now, &unfinished, outcome);
        self.out.changed_calls.push(key);
        if containers == CancelContainers::Terminate {
            for holder in holders {
                self.drain(now, holder);
                self.stop(now, holder, corral_containers::StopReason::InputCancelled);
            }
        }
        Ok(())
    }

    /// The containers that have these inputs.
    fn holders(&self, places: &[u32]) -> Vec<u32> {
        let inputs = places.iter().map(|&place| &self.core.inputs[place]);
        let running = inputs.filter(|input| input.phase == Phase::Running);
        let mut holders: Vec<u32> = running.map(|input| input.place).collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    pub fn put_chunks(
        &mut self,
        place: u32,
        direction: ChunkDirection,
        chunks: Vec<DataChunk>,
    ) -> Result<(), FunctionsError> {
        let call = &self.core.calls[place];
        let key = call.key;
        let (mut last, held) = call.extra.as_ref().map_or((0, 0), |extra| {
            let chunks = &extra.chunks[direction as usize];
            (chunks.last, chunks.bytes)
        });
        self.out.is_awaited = true;
        let mut added = Vec::new();
        let mut bytes = held;
        for chunk in chunks {
            if chunk.index <= last {
                continue;
            }
            if chunk.index != last + 1 {
                let (expected, found) = (last + 1, chunk.index);
                return Err(FunctionsError::ChunkGap { call: key.call(), expected, found });
            }
            last = chunk.index;
            let format = format_byte(chunk.data_format)?;
            check_payload(&chunk.payload)?;
            let body = pack_payload(&chunk.payload);
            bytes += body.len();
            added.push(PackedChunk { index: chunk.index, format, body });
        }
        if bytes > MAX_CHUNK_BYTES && !added.is_empty() {
            let limit_bytes = MAX_CHUNK_BYTES;
            return Err(FunctionsError::TooManyChunks { call: key.call(), limit_bytes });
        }
        let mut part = Vec::new();
        let mut part_bytes = 0;
        for chunk in added {
            part_bytes += chunk.body.len();
            part.push(chunk);
            if part_bytes >= BYTES_PER_RECORD {
                let chunks = std::mem::take(&mut part);
                part_bytes = 0;
                self.commit(Record::Chunks { call: key, direction, chunks });
            }
        }
        if !part.is_empty() {
            self.commit(Record::Chunks { call: key, direction, chunks: part });
        }
        self.out.changed_calls.push(key);
        Ok(())
    }

    /// Inputs as they are kept; `known` is how many the call has.
    fn pack_inputs(
        &self,
        known: u32,
        inputs: Vec<NewInput>,
    ) -> Result<Vec<PackedInput>, FunctionsError> {
        let at_most = |what, found: usize, most: usize| {
            if found <= most {
                return Ok(());
            }
            Err(FunctionsError::TooLarge { what, found: found as u64, most: most as u64 })
        };
        at_most("the number of inputs in a request", inputs.len(), MAX_INPUTS_PER_REQUEST)?;
        if self.core.unfinished + inputs.len() > MAX_UNFINISHED_INPUTS
            || self.core.resident_bytes > MAX_RESIDENT_BYTES
        {
            return Err(FunctionsError::TooManyInputs { limit: MAX_UNFINISHED_INPUTS });
        }
        let highest = (known + inputs.len() as u32 + MAX_INDEX_GAP).min(MAX_INPUT_INDEX);
        let mut packed = Vec::with_capacity(inputs.len());
        for input in inputs {
            at_most("an input's index", input.index as usize, highest as usize)?;
            at_most("a method's name in bytes", input.method.len(), MAX_METHOD_BYTES)?;
            if !self.core.methods.has_room_for(&input.method) {
                at_most("the number of methods' names", MAX_METHODS + 1, MAX_METHODS)?;
            }
            check_payload(&input.payload)?;
            packed.push(PackedInput {
                index: input.index,
                format: format_byte(input.data_format)?,
                body: pack_payload(&input.payload),
                method: input.method,
            });
        }
        Ok(packed)
    }

    /// Ends inputs, wherever they are, with the same outcome.
    pub(super) fn finish_alike(&mut self, now: Timestamp, places: &[u32], outcome: Outcome) {
        let body = Ending { outcome, container: None, started_at: None }.pack();
        for places in places.chunks(crate::policy::INPUTS_PER_RECORD) {
            self.interrupt(now, places);
            let mut entries = std::collections::HashMap::new();
            let inputs: Vec<_> = places
                .iter()
                .map(|&place| {
                    let call = self.core.inputs[place].call;
                    let last = || self.core.last_entry(&self.core.calls[call]);
                    let entry = entries.entry(call).or_insert_with(last);
                    *entry += 1;
                    (self.key_of(place), *entry)
                })
                .collect();
            self.out.changed_calls.extend(inputs.iter().map(|((call, _), _)| *call));
            self.commit(Record::DoneAlike { at: now, body: body.clone(), inputs });
        }
    }

    /// Tells the containers of inputs that run to leave them alone.
    pub(super) fn interrupt(&mut self, now: Timestamp, places: &[u32]) {
        for holder in self.holders(places) {
            let held = places.iter().filter(|&&place| {
                let input = &self.core.inputs[place];
                input.phase == Phase::Running && input.place == holder
            });
            let inputs = held.map(|&place| self.core.input_id(&self.core.inputs[place])).collect();
            let container = self.core.containers[holder].id;
            self.commit(Record::Interrupted { container, at: now, inputs });
            self.out.interrupted.push(container);
        }
    }

    /// How many inputs a container of the function shall have at the same time.
    pub fn dynamic_concurrency(&self, id: FunctionId) -> Result<u32, FunctionsError> {
        let place = self.known_function(id)?;
        let function = self.function(place);
        let settings = &function.settings;
        let is_at_most = self.alive(place) >= settings.scaling.max_containers as usize;
        Ok(if is_at_most && function.queue[0] != NOWHERE {
            settings.max_concurrent_inputs
        } else {
            settings.target_concurrent_inputs
        })
    }
}

fn accepted(key: CallKey, index: u32) -> AcceptedInput {
    AcceptedInput { input: key.input(index), index }
}

/// The key of a call by its idempotency key, and what of the hash has no room in it.
fn hashed(
    now: Timestamp,
    workspace: WorkspaceId,
    function: FunctionId,
    key: &str,
) -> (CallKey, u64) {
    let mut hasher = blake3::Hasher::new_derive_key("corral 2026 call by its idempotency key");
    hasher.update(&workspace.as_u128().to_le_bytes());
    hasher.update(&function.as_u128().to_le_bytes());
    hasher.update(key.as_bytes());
    let hash = hasher.finalize();
    let (others, rest) = hash.as_bytes().split_at(6);
    let others = others.try_into().expect("it was split there");
    let rest = u64::from_le_bytes(rest[..8].try_into().expect("a hash has 32 bytes"));
    (CallKey::new(now, others), rest.max(1))
}

fn format_byte(format: u32) -> Result<u8, FunctionsError> {
    let most = u8::MAX.into();
    u8::try_from(format).map_err(|_| FunctionsError::TooLarge {
        what: "the number of a data format",
        found: format.into(),
        most,
    })
}

pub(crate) fn check_payload(payload: &Payload) -> Result<(), FunctionsError> {
    match payload {
        Payload::Inline(bytes) if bytes.len() > MAX_INLINE_BYTES => Err(FunctionsError::TooLarge {
            what: "an inline payload in bytes",
            found: bytes.len() as u64,
            most: MAX_INLINE_BYTES as u64,
        }),
        _ => Ok(()),
    }
}

/// Inputs in parts that each fit a record.
fn split(inputs: Vec<PackedInput>) -> Vec<Vec<PackedInput>> {
    let mut parts: Vec<Vec<PackedInput>> = Vec::new();
    let mut bytes = BYTES_PER_RECORD;
    for input in inputs {
        if bytes >= BYTES_PER_RECORD {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += input.body.len() + input.method.len() + 16;
        parts.last_mut().expect("one was pushed first").push(input);
    }
    parts
}
