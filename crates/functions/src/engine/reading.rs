//! What is told of calls, containers and functions.

use bytes::Bytes;
use corral_types::{
    AppId, BlobHash, CallId, ContainerId, FunctionId, InputId, Timestamp, WorkspaceId,
};

use super::Engine;
use crate::call::{
    AfterFetch, CallGraph, CallInfo, ChunkDirection, DataChunk, EntryId, InputInfo, InputState,
    MAX_OUTPUTS_PER_PAGE, Outcome, OutcomeStatus, Output, OutputsPage,
};
use crate::container::{ContainerInfo, ContainerState};
use crate::error::FunctionsError;
use crate::packed::{Ending, ending_blob, ending_status, payload_blob, unpack_payload};
use crate::policy::KEEP_READ_CHUNK_BYTES;
use crate::slab::NOWHERE;
use crate::state::{Call, Container, Inputs, Phase};
use crate::usage::{FunctionStats, FunctionUsage};

/// The most calls and inputs of a graph.
const MAX_GRAPH_ENTRIES: usize = 1_000;
/// The most chunks that are told at once.
const CHUNKS_PER_PAGE: usize = 256;

/// Which outputs are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageQuery {
    pub after: EntryId,
    pub range: Option<(u32, u32)>,
    pub after_fetch: AfterFetch,
    pub limit: usize,
    /// What is on disk up to this record may be told.
    pub synced: u64,
}

/// Which chunks are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunksQuery {
    pub direction: ChunkDirection,
    pub after: u64,
}

/// What there is to tell now.
#[derive(Debug)]
pub(crate) enum Told<T> {
    /// This, or that there will be nothing.
    Now(T),
    /// Nothing yet.
    Later(T),
}

impl Engine {
    /// Outputs of a call.
    pub fn outputs(&mut self, now: Timestamp, place: u32, query: PageQuery) -> Told<OutputsPage> {
        let call = &self.core.calls[place];
        let limit = query.limit.clamp(1, MAX_OUTPUTS_PER_PAGE);
        let is_visible = |input: &u32| {
            let input = &self.core.inputs[*input];
            input.phase == Phase::Done && input.done_by_record() <= query.synced
        };
        let mut last = query.after;
        let mut found: Vec<u32> = Vec::new();
        match (&call.inputs, query.range) {
            (Inputs::One(NOWHERE), _) => {}
            (Inputs::One(place), range) => {
                let input = &self.core.inputs[*place];
                let is_asked_for =
                    range.is_none_or(|(first, end)| (first..=end).contains(&input.index));
                if is_asked_for && is_visible(place) && input.place > query.after.0 {
                    found.push(*place);
                }
            }
            (Inputs::Many(many), Some((first, end))) => {
                let end = (end as usize + 1).min(many.by_index.len());
                let places = many.by_index.get(first as usize..end).unwrap_or_default();
                let known = places.iter().copied().filter(|&place| place != NOWHERE);
                let newer = |place: &u32| self.core.inputs[*place].place > query.after.0;
                found.extend(known.filter(is_visible).filter(newer).take(limit));
            }
            (Inputs::Many(many), None) => {
                let first = (query.after.0 as usize).min(many.order.len());
                for (entry, &index) in (first as u32 + 1..).zip(&many.order[first..]) {
                    let place = many.by_index.get(index as usize).copied().unwrap_or(NOWHERE);
                    if place == NOWHERE {
                        continue;
                    }
                    let input = &self.core.inputs[place];
                    let is_of_this_entry = input.phase == Phase::Done && input.place == entry;
                    if is_of_this_entry && !is_visible(&place) || found.len() == limit {
                        break;
                    }
                    last = EntryId(entry);
                    if is_of_this_entry {
                        found.push(place);
                    }
                }
            }
        }
        // What was cleared is there no more, but was given.
        found.retain(|&place| !self.core.inputs[place].body.is_empty());
        let outputs: Vec<Output> = found.iter().map(|&place| self.output(place)).collect();
        let highest = found.iter().map(|&place| self.core.inputs[place].place).max();
        last = last.max(EntryId(highest.unwrap_or(0)));

        let (total, done) = self.core.counts(call);
        let mut unfinished_inputs = total - done;
        if unfinished_inputs == 0 {
            unfinished_inputs = u32::from(self.has_invisible(call, query.synced));
        }
        let may_come = unfinished_inputs > 0 || !(call.is_finished || call.is_cancelled);
        let (is_empty, key) = (outputs.is_empty(), call.key);
        if query.after_fetch == AfterFetch::Clear {
            let inputs = found.iter().map(|&place| &self.core.inputs[place]);
            let succeeded =
                inputs.filter(|input| ending_status(&input.body) == OutcomeStatus::Success);
            let indices: Vec<u32> = succeeded.map(|input| input.index).collect();
            if !indices.is_empty() {
                self.fetched.push_back((now, key, indices));
            }
        }
        let page = OutputsPage { outputs, last, unfinished_inputs };
        if is_empty && may_come { Told::Later(page) } else { Told::Now(page) }
    }

    /// Whether the newest output of a call is not on disk yet.
    fn has_invisible(&self, call: &Call, synced: u64) -> bool {
        let newest = match &call.inputs {
            Inputs::One(place) => *place,
            Inputs::Many(many) => many
                .order
                .last()
                .and_then(|&index| many.by_index.get(index as usize).copied())
                .unwrap_or(NOWHERE),
        };
        newest != NOWHERE && {
            let input = &self.core.inputs[newest];
            input.phase == Phase::Done && input.done_by_record() > synced
        }
    }

    fn output(&self, place: u32) -> Output {
        let input = &self.core.inputs[place];
        let Ending { outcome, container, started_at } =
            Ending::unpack(&input.body).expect("what was packed here can be unpacked");
        Output {
            input: self.core.input_id(input),
            index: input.index,
            outcome,
            container,
            started_at,
            created_at: input.at,
            retries: input.retries.into(),
        }
    }

    pub fn call_info(&self, place: u32) -> CallInfo {
        let call = &self.core.calls[place];
        let mut info = CallInfo {
            call: call.key.call(),
            function: self.function(call.function).settings.function,
            kind: call.kind,
            invocation: call.invocation,
            parent: call.extra.as_ref().and_then(|extra| extra.parent),
            created_at: call.key.created_at(),
            total_inputs: self.core.counts(call).0,
            pending_inputs: 0,
            running_inputs: 0,
            succeeded_inputs: 0,
            failed_inputs: 0,
            timed_out_inputs: 0,
            cancelled_inputs: 0,
        };
        for place in call.places() {
            let input = &self.core.inputs[place];
            *match input.phase {
                Phase::Queued | Phase::Waiting => &mut info.pending_inputs,
                Phase::Running => &mut info.running_inputs,
                // What was fetched and cleared had succeeded.
                Phase::Done if input.body.is_empty() => &mut info.succeeded_inputs,
                Phase::Done => match ending_status(&input.body) {
                    OutcomeStatus::Success => &mut info.succeeded_inputs,
                    OutcomeStatus::Timeout => &mut info.timed_out_inputs,
                    OutcomeStatus::Terminated => &mut info.cancelled_inputs,
                    _ => &mut info.failed_inputs,
                },
            } += 1;
        }
        info
    }

    /// The newest calls of a function among those at these places, and those found before.
    pub fn newest_calls(
        &self,
        function: u32,
        places: std::ops::Range<u32>,
        found: &mut Vec<CallId>,
        limit: usize,
    ) {
        let calls = places.filter_map(|place| self.core.calls.get(place));
        found.extend(calls.filter(|call| call.function == function).map(|call| call.key.call()));
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(limit);
    }

    /// The call at the root and what was called for its inputs: `children` are the calls that
    /// have a parent, by its call.
    pub fn call_graph(&self, root: u32) -> CallGraph {
        let mut graph = CallGraph::default();
        let mut level = vec![root];
        while !level.is_empty() && !graph.is_truncated {
            for &place in &level {
                if graph.calls.len() + graph.inputs.len() >= MAX_GRAPH_ENTRIES {
                    graph.is_truncated = true;
                    break;
                }
                graph.calls.push(self.call_info(place));
                let room = MAX_GRAPH_ENTRIES.saturating_sub(graph.calls.len() + graph.inputs.len());
                let places = self.core.calls[place].places();
                graph.inputs.extend(places.take(room).map(|place| self.input_info(place)));
            }
            let parents: std::collections::HashSet<CallId> =
                level.iter().map(|&place| self.core.calls[place].key.call()).collect();
            let is_child = |call: &Call| {
                let parent = call.extra.as_ref().and_then(|extra| extra.parent);
                let parent = parent.and_then(crate::packed::CallKey::of_input);
                parent.is_some_and(|(parent, _)| parents.contains(&parent.call()))
            };
            let children = self.core.calls.iter().filter(|(_, call)| is_child(call));
            level = children.map(|(place, _)| place).take(MAX_GRAPH_ENTRIES).collect();
        }
        graph
    }

    fn input_info(&self, place: u32) -> InputInfo {
        let input = &self.core.inputs[place];
        let (state, container) = match input.phase {
            Phase::Queued | Phase::Waiting => (InputState::Pending, None),
            Phase::Running => (InputState::Running, Some(self.core.containers[input.place].id)),
            Phase::Done if input.body.is_empty() => {
                (InputState::Done(OutcomeStatus::Success), None)
            }
            Phase::Done => {
                let ending = Ending::unpack(&input.body).ok();
                let container = ending.and_then(|ending| ending.container);
                (InputState::Done(ending_status(&input.body)), container)
            }
        };
        let (index, call) = (input.index, self.core.calls[input.call].key.call());
        InputInfo { input: self.core.input_id(input), call, index, state, container }
    }

    /// Chunks of a call. Those far behind the reader are forgotten.
    pub fn chunks(&mut self, place: u32, query: ChunksQuery) -> Told<Vec<DataChunk>> {
        let ChunksQuery { direction, after } = query;
        let call = &self.core.calls[place];
        let (total, done) = self.core.counts(call);
        let is_over = total > 0 && total == done && call.is_finished;
        let Some(extra) = &call.extra else {
            return if is_over { Told::Now(Vec::new()) } else { Told::Later(Vec::new()) };
        };
        let chunks = &extra.chunks[direction as usize];
        let from = chunks.list.partition_point(|chunk| chunk.index <= after);
        let behind: usize = chunks.list.range(..from).map(|chunk| chunk.body.len()).sum();
        let mut surplus = behind.saturating_sub(KEEP_READ_CHUNK_BYTES);
        let mut forgotten = 0;
        for chunk in chunks.list.range(..from) {
            if surplus < chunk.body.len() {
                break;
            }
            surplus -= chunk.body.len();
            forgotten = chunk.index;
        }
        let told: Vec<DataChunk> = chunks
            .list
            .range(from..)
            .take(CHUNKS_PER_PAGE)
            .map(|chunk| DataChunk {
                index: chunk.index,
                payload: unpack_payload(&chunk.body).expect("what was packed here can be unpacked"),
                data_format: chunk.format.into(),
            })
            .collect();
        if forgotten > 0 {
            self.core.drop_chunks(place, direction, forgotten);
        }
        if told.is_empty() && !is_over { Told::Later(told) } else { Told::Now(told) }
    }

    pub fn container_info(&self, place: u32) -> Option<ContainerInfo> {
        let container = self.core.containers.get(place)?;
        let settings = &self.core.functions.get(container.function)?.settings;
        Some(ContainerInfo {
            container: container.id,
            function: settings.function,
            version: container.version,
            workspace: settings.workspace,
            app: settings.app,
            state: state_of(container),
            start_kind: container.started.map(|(_, kind)| kind),
            requested_at: container.requested_at,
            started_at: container.started.map(|(at, _)| at),
            inputs: self.inputs_of(container),
            inputs_given: container.inputs_given,
        })
    }

    fn inputs_of(&self, container: &Container) -> Vec<InputId> {
        let inputs = container.running.iter().map(|&place| &self.core.inputs[place]);
        inputs.map(|input| self.core.input_id(input)).collect()
    }

    pub fn containers(&self, workspace: Option<WorkspaceId>) -> Vec<ContainerInfo> {
        let all = self.core.containers.iter().filter_map(|(place, _)| self.container_info(place));
        all.filter(|info| workspace.is_none_or(|workspace| workspace == info.workspace)).collect()
    }

    /// Whether a container may have to do with a call: it has, or is given, inputs of it.
    pub fn works_on(&self, container: ContainerId, call: u32) -> bool {
        let container = self.core.container(container).map(|place| &self.core.containers[place]);
        container.is_some_and(|container| container.function == self.core.calls[call].function)
    }

    pub fn stats(&self, id: FunctionId) -> Result<FunctionStats, FunctionsError> {
        let function = self.function(self.known_function(id)?);
        let containers = function.containers.iter().map(|&place| &self.core.containers[place]);
        let mut stats = FunctionStats {
            backlog: u64::from(function.queued) + u64::from(function.waiting),
            running_inputs: function.running.into(),
            ..FunctionStats::default()
        };
        let target = u64::from(function.settings.target());
        for container in containers {
            stats.containers += 1;
            match state_of(container) {
                ContainerState::Requested | ContainerState::Starting => {
                    stats.starting_containers += 1
                }
                ContainerState::Idle => {
                    stats.idle_containers += 1;
                    stats.input_headroom += target;
                }
                ContainerState::Busy => {
                    stats.input_headroom += target.saturating_sub(container.running.len() as u64);
                }
                ContainerState::Draining => {}
            }
        }
        Ok(stats)
    }

    pub fn usage(&self, workspace: WorkspaceId) -> Vec<(FunctionId, AppId, FunctionUsage)> {
        let functions = self.core.functions.iter().map(|(_, function)| function);
        functions
            .filter(|function| function.settings.workspace == workspace)
            .map(|function| {
                let mut usage = function.usage;
                for &place in &function.containers {
                    usage.add(&self.core.containers[place].present.used);
                }
                (function.settings.function, function.settings.app, usage)
            })
            .collect()
    }

    /// The blobs that calls at these places refer to.
    pub fn blobs(&self, places: std::ops::Range<u32>, found: &mut Vec<BlobHash>) {
        for call in places.filter_map(|place| self.core.calls.get(place)) {
            for place in call.places() {
                let input = &self.core.inputs[place];
                found.extend(match input.phase {
                    Phase::Done => ending_blob(&input.body),
                    _ => payload_blob(&input.body),
                });
            }
            let chunks = call.extra.iter().flat_map(|extra| &extra.chunks);
            let chunks = chunks.flat_map(|chunks| &chunks.list);
            found.extend(chunks.filter_map(|chunk| payload_blob(&chunk.body)));
        }
    }
}

fn state_of(container: &Container) -> ContainerState {
    if container.draining_since.is_some() {
        ContainerState::Draining
    } else if !container.running.is_empty() {
        ContainerState::Busy
    } else if container.ready_at.is_some() {
        ContainerState::Idle
    } else if container.started.is_some() {
        ContainerState::Starting
    } else {
        ContainerState::Requested
    }
}

/// An outcome within what is kept of it: texts are cut, what is only for show is left out.
pub(crate) fn within_limits(mut outcome: Outcome) -> Outcome {
    use crate::call::{MAX_ERROR_TEXT_BYTES, MAX_SERIALIZED_TRACEBACK_BYTES};
    for text in [&mut outcome.exception, &mut outcome.traceback] {
        if text.len() > MAX_ERROR_TEXT_BYTES {
            let end = text.floor_char_boundary(MAX_ERROR_TEXT_BYTES);
            text.truncate(end);
            text.push_str(" …");
        }
    }
    for bytes in [&mut outcome.serialized_traceback, &mut outcome.traceback_lines] {
        if bytes.len() > MAX_SERIALIZED_TRACEBACK_BYTES {
            *bytes = Bytes::new();
        }
    }
    outcome
}
