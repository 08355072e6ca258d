//! What each record does to the state.

use std::sync::Arc;

use corral_types::{ContainerId, Timestamp};

use crate::call::ChunkDirection;
use crate::core::{Core, QueueEnd};
use crate::packed::{CallKey, ending_status};
use crate::record::{Counted, InputKey, PackedChunk, PackedInput, Record};
use crate::settings::FunctionSettings;
use crate::slab::NOWHERE;
use crate::state::{Call, Extra, Function, Input, Inputs, Phase};
use crate::{CallKind, OutcomeStatus};

impl Core {
    /// Makes a change, the next in the journal's order. Changes of what is not known, or known
    /// in a later state, are none.
    pub fn apply(&mut self, record: Record) {
        self.sequence += 1;
        match record {
            Record::Defined { settings } => self.define(*settings),
            Record::ScalingChanged { function, scaling } => {
                if let Some(function) = self.function(function) {
                    Arc::make_mut(&mut self.functions[function].settings).scaling = scaling;
                }
            }
            Record::Retired { function, at } => {
                if let Some(function) = self.function(function) {
                    self.functions[function].retired_at.get_or_insert(at);
                }
            }
            Record::Forgotten { function } => {
                if let Some(place) = self.function_places.remove(&function) {
                    self.functions.remove(place);
                }
            }
            Record::CallCreated { call, function, kind, invocation, key, parent, at, inputs } => {
                if self.call_place(call).is_some() {
                    return;
                }
                let Some(function) = self.function(function) else { return };
                let extra = parent
                    .map(|parent| Box::new(Extra { parent: Some(parent), ..Extra::default() }));
                let call = Call {
                    key: call,
                    function,
                    idempotency: key,
                    inputs: Inputs::One(NOWHERE),
                    extra,
                    kind,
                    invocation,
                    is_finished: kind == CallKind::Unary,
                    is_cancelled: false,
                };
                let call = self.insert_call(call);
                self.put_inputs(call, at, inputs);
            }
            Record::InputsPut { call, at, inputs } => {
                if let Some(call) = self.call_place(call) {
                    self.put_inputs(call, at, inputs);
                }
            }
            Record::InputsFinished { call } => {
                if let Some(call) = self.call_place(call) {
                    self.calls[call].is_finished = true;
                }
            }
            Record::InputsRetried { call, at, inputs } => {
                if let Some(call) = self.call_place(call) {
                    self.retry_inputs(call, at, inputs);
                }
            }
            Record::CallCancelled { call } => {
                if let Some(call) = self.call_place(call) {
                    self.calls[call].is_cancelled = true;
                }
            }
            Record::Assigned { container, poll, at, timeout_ms, inputs } => {
                self.assign(container, poll, at, timeout_ms, &inputs);
            }
            Record::Requeued { until, counted, inputs } => self.requeue(until, counted, &inputs),
            Record::Resumed { inputs } => {
                for place in self.places(&inputs) {
                    if self.inputs[place].phase == Phase::Waiting {
                        self.leave(place);
                        self.inputs[place].since = self.inputs[place].at;
                        self.enqueue(place, QueueEnd::Back);
                    }
                }
            }
            Record::Done { input, entry, at, body } => self.finish(input, entry, at, &body),
            Record::DoneAlike { at, body, inputs } => {
                for (input, entry) in inputs {
                    self.finish(input, entry, at, &body);
                }
            }
            Record::Cleared { call, indices } => {
                let inputs: Vec<InputKey> =
                    indices.into_iter().map(|index| (call, index)).collect();
                for place in self.places(&inputs) {
                    self.clear(place);
                }
            }
            Record::Removed { calls } => {
                for call in calls {
                    if let Some(place) = self.call_place(call) {
                        self.remove_call(place);
                    }
                }
            }
            Record::Chunks { call, direction, chunks } => {
                let is_ahead = self.ahead.as_ref().is_some_and(|ahead| {
                    self.call_place(call).is_some_and(|call| ahead.has_call(call, self.sequence))
                });
                if let Some(call) = self.call_place(call).filter(|_| !is_ahead) {
                    self.put_chunks(call, direction, chunks);
                }
            }
            Record::ContainerRequested { container, function, at } => {
                let Some(function) = self.function(function) else { return };
                let place = self.container_or_new(container, at);
                let version = self.functions[function].settings.version;
                let container = &mut self.containers[place];
                (container.function, container.version) = (function, version);
                container.requested_at = at;
                self.functions[function].containers.push(place);
            }
            Record::ContainerStarted { container, at, kind } => {
                if let Some(place) = self.container(container) {
                    self.containers[place].started.get_or_insert((at, kind));
                }
            }
            Record::ContainerReady { container, at } => {
                if let Some(place) = self.container(container) {
                    self.containers[place].ready_at.get_or_insert(at);
                }
            }
            Record::ContainerDraining { container, at } => {
                if let Some(place) = self.container(container) {
                    self.containers[place].draining_since.get_or_insert(at);
                }
            }
            Record::Interrupted { container, at, inputs } => {
                if let Some(place) = self.container(container) {
                    let added = inputs.into_iter().map(|input| (input, at));
                    self.containers[place].interrupted.extend(added);
                }
            }
            Record::Released { container, inputs } => {
                if let Some(place) = self.container(container) {
                    let interrupted = &mut self.containers[place].interrupted;
                    interrupted.retain(|(input, _)| !inputs.contains(input));
                }
            }
            Record::ContainerEnded { container, usage } => {
                if let Some(place) = self.container_places.remove(&container) {
                    let ended = self.containers.remove(place).expect("a known container is there");
                    if let Some(function) = self.functions.get_mut(ended.function) {
                        function.containers.retain(|&other| other != place);
                        function.pace.pollers.retain(|&other| other != place);
                        function.usage.add(&usage);
                    }
                }
            }
        }
    }

    fn define(&mut self, settings: FunctionSettings) {
        match self.function(settings.function) {
            Some(place) => {
                let function = &mut self.functions[place];
                if function.settings.version != settings.version {
                    function.pace.is_proven = false;
                    function.pace.failed_starts = 0;
                    function.pace.start_after = Timestamp::default();
                }
                function.settings = Arc::new(settings);
                function.retired_at = None;
            }
            None => {
                let id = settings.function;
                let place = self.functions.insert(Function::new(settings));
                self.function_places.insert(id, place);
            }
        }
    }

    /// The places of those inputs that the state is not ahead of.
    fn places(&self, inputs: &[InputKey]) -> Vec<u32> {
        inputs.iter().filter_map(|&(call, index)| self.place(call, index)).collect()
    }

    fn place(&self, call: CallKey, index: u32) -> Option<u32> {
        let call = self.call_place(call)?;
        self.input_place(call, index).filter(|_| !self.is_ahead(call, index))
    }

    fn is_ahead(&self, call: u32, index: u32) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.has_input(call, index, self.sequence))
    }

    fn put_inputs(&mut self, call: u32, at: Timestamp, inputs: Vec<PackedInput>) {
        for packed in inputs {
            let index = packed.index;
            if self.is_ahead(call, index) || self.input_place(call, index).is_some() {
                continue;
            }
            let input = Input {
                call,
                index,
                links: [NOWHERE; 2],
                since: at,
                at,
                place: NOWHERE,
                poll: 0,
                body: packed.body,
                method: self.methods.number(&packed.method),
                retries: 0,
                failed: 0,
                internal: 0,
                phase: Phase::Queued,
                format: packed.format,
            };
            let place = self.insert_input(input);
            self.enqueue(place, QueueEnd::Back);
        }
    }

    fn retry_inputs(&mut self, call: u32, at: Timestamp, inputs: Vec<PackedInput>) {
        // The next output of an input of one is another than its first.
        self.many(call);
        for packed in inputs {
            let Some(place) = self.input_place(call, packed.index) else { continue };
            if self.is_ahead(call, packed.index) || self.inputs[place].phase != Phase::Done {
                continue;
            }
            self.leave(place);
            let method = self.methods.number(&packed.method);
            let input = &mut self.inputs[place];
            self.resident_bytes = self.resident_bytes - input.body.len() + packed.body.len();
            self.unfinished += 1;
            input.body = packed.body;
            (input.format, input.method, input.since) = (packed.format, method, at);
            (input.failed, input.internal) = (0, 0);
            input.retries = input.retries.saturating_add(1);
            self.enqueue(place, QueueEnd::Back);
        }
    }

    fn assign(
        &mut self,
        container: ContainerId,
        poll: u32,
        at: Timestamp,
        timeout_ms: u32,
        inputs: &[InputKey],
    ) {
        let holder = self.container(container);
        if let Some(holder) = holder {
            let container = &mut self.containers[holder];
            container.last_poll = poll;
            container.inputs_given += inputs.len() as u64;
        }
        let places = self.places(inputs);
        if places.is_empty() {
            return;
        }
        let holder = holder.unwrap_or_else(|| self.container_or_new(container, at));
        for place in places {
            if self.inputs[place].phase == Phase::Done {
                continue;
            }
            self.leave(place);
            let input = &mut self.inputs[place];
            input.phase = Phase::Running;
            (input.place, input.poll) = (holder, poll);
            input.links = [timeout_ms, NOWHERE];
            input.at = Timestamp::from_millis(at.as_millis() + u64::from(timeout_ms));
            self.hold(place, holder);
        }
    }

    /// Adds a running input to the lists of that phase.
    pub(crate) fn hold(&mut self, place: u32, holder: u32) {
        let input = &self.inputs[place];
        let function = self.function_of(input);
        self.deadlines.insert((input.at, place));
        self.functions[function].running += 1;
        self.containers[holder].running.push(place);
    }

    fn requeue(&mut self, until: Option<Timestamp>, counted: Counted, inputs: &[InputKey]) {
        let places = self.places(inputs);
        // From the last to the first, so that they stand at the front in their order.
        for place in places.into_iter().rev() {
            if self.inputs[place].phase == Phase::Done {
                continue;
            }
            self.leave(place);
            let function = self.function_of(&self.inputs[place]);
            let input = &mut self.inputs[place];
            input.retries = input.retries.saturating_add(1);
            match counted {
                Counted::Failure => input.failed = input.failed.saturating_add(1),
                Counted::Internal => input.internal = input.internal.saturating_add(1),
                Counted::Not => {}
            }
            match until {
                Some(until) => {
                    (input.phase, input.at) = (Phase::Waiting, until);
                    self.waiting.insert((until, place));
                    self.functions[function].waiting += 1;
                }
                None => self.enqueue(place, QueueEnd::Front),
            }
        }
    }

    fn finish(&mut self, (key, index): InputKey, entry: u32, at: Timestamp, body: &Arc<[u8]>) {
        let Some(call) = self.call_place(key) else { return };
        let function = self.calls[call].function;
        let usage = &mut self.functions[function].usage;
        match ending_status(body) {
            OutcomeStatus::Success => usage.inputs_succeeded += 1,
            _ => usage.inputs_failed += 1,
        }
        let Some(place) = self.place(key, index) else { return };
        if self.inputs[place].phase == Phase::Done {
            return;
        }
        self.leave(place);
        self.unfinished -= 1;
        let (sequence, input) = (self.sequence, &mut self.inputs[place]);
        self.resident_bytes = self.resident_bytes - input.body.len() + body.len();
        input.body = Arc::clone(body);
        (input.phase, input.at, input.place) = (Phase::Done, at, entry);
        input.set_done_by_record(sequence);
        self.note_done(call, index, entry);
    }

    /// Counts an input that is done among those of its call.
    pub(crate) fn note_done(&mut self, call: u32, index: u32, entry: u32) {
        if let Inputs::Many(many) = &mut self.calls[call].inputs {
            if many.order.len() < entry as usize {
                many.order.resize(entry as usize, NOWHERE);
            }
            many.order[entry as usize - 1] = index;
            many.done += 1;
        }
    }

    fn clear(&mut self, place: u32) {
        let input = &mut self.inputs[place];
        if input.phase != Phase::Done || input.body.is_empty() {
            return;
        }
        self.resident_bytes -= input.body.len();
        input.body = Arc::clone(&self.empty);
        let call = input.call;
        if let Inputs::Many(many) = &mut self.calls[call].inputs {
            many.cleared += 1;
        }
    }

    fn put_chunks(&mut self, call: u32, direction: ChunkDirection, added: Vec<PackedChunk>) {
        let extra = self.calls[call].extra.get_or_insert_default();
        let chunks = &mut extra.chunks[direction as usize];
        for chunk in added {
            if chunk.index > chunks.last {
                chunks.last = chunk.index;
                chunks.bytes += chunk.body.len();
                self.resident_bytes += chunk.body.len();
                chunks.list.push_back(chunk);
            }
        }
    }

    /// Forgets chunks up to `index`.
    pub(crate) fn drop_chunks(&mut self, call: u32, direction: ChunkDirection, index: u64) {
        let Some(extra) = &mut self.calls[call].extra else { return };
        let chunks = &mut extra.chunks[direction as usize];
        while chunks.list.front().is_some_and(|chunk| chunk.index <= index) {
            let Some(chunk) = chunks.list.pop_front() else { return };
            chunks.bytes -= chunk.body.len();
            self.resident_bytes -= chunk.body.len();
        }
    }

    /// Whether the outputs of a call, which is done, need not be asked for again.
    pub(crate) fn is_spent(&self, call: &Call) -> bool {
        let (total, done) = self.counts(call);
        let cleared = match &call.inputs {
            Inputs::One(NOWHERE) => 0,
            Inputs::One(place) => u32::from(self.inputs[*place].body.is_empty()),
            Inputs::Many(many) => many.cleared,
        };
        total > 0 && done == total && cleared == total && (call.is_finished || call.is_cancelled)
    }
}
