//! The service for those who define functions and call them.

use std::time::Duration;

use corral_types::{AppId, BlobHash, CallId, Caller, FunctionId, Scope, Timestamp, WorkspaceId};
use tokio::time::Instant;

use crate::call::{
    AcceptedInput, CallGraph, CallInfo, ChunkDirection, CreatedCall, DataChunk, NewCall, NewInput,
    OutputsPage, OutputsQuery, RetriedInput,
};
use crate::engine::{ChunksQuery, Engine, PageQuery, Told};
use crate::error::FunctionsError;
use crate::packed::CallKey;
use crate::service::{CancelContainers, Functions, Shared, may};
use crate::settings::{FunctionSettings, Scaling, ScalingChange};
use crate::usage::{FunctionStats, FunctionUsage};

/// How many calls are looked at before others take their turns.
const CALLS_PER_LOOK: u32 = 4_096;

/// Definitions and scaling.
impl Functions {
    /// Makes a function known or changes its settings; the same settings again change nothing.
    /// With another [`version`](FunctionSettings::version), containers of the old one take no
    /// more inputs and end when they have finished what they have. Scaling that was
    /// [changed](Self::change_scaling) is as the settings say again.
    ///
    /// # Errors
    /// [`FunctionsError::Settings`] when one is out of its range.
    pub async fn define(&self, settings: FunctionSettings) -> Result<(), FunctionsError> {
        self.shared.decide_durably(|engine, now| engine.define(now, settings)).await
    }

    /// Stops a function for good: its containers end, its unfinished inputs end as terminated.
    /// Doing it again changes nothing, nor does a function that is not known.
    pub async fn retire(&self, function: FunctionId) -> Result<(), FunctionsError> {
        let retire = |engine: &mut Engine, now| {
            engine.retire(now, function);
            Ok(())
        };
        self.shared.decide_durably(retire).await
    }

    /// The settings of a function, its changed scaling included, unless it was retired.
    pub async fn settings(&self, function: FunctionId) -> Option<FunctionSettings> {
        let settings = |engine: &Engine| {
            let known = &engine.core.functions[engine.core.function(function)?];
            known.retired_at.is_none().then(|| (*known.settings).clone())
        };
        self.shared.look(settings).await
    }

    /// Changes the scaling of a function until it is defined with other settings; what it is
    /// then.
    pub async fn change_scaling(
        &self,
        caller: &Caller,
        function: FunctionId,
        change: ScalingChange,
    ) -> Result<Scaling, FunctionsError> {
        may(caller, Scope::Write, "scale for")?;
        let workspace = caller.workspace;
        let scale =
            |engine: &mut Engine, now| engine.change_scaling(now, workspace, function, change);
        self.shared.decide_durably(scale).await
    }

    /// How many inputs a container of the function shall work on at the same time now: its
    /// target, or more where there can be no more containers.
    pub async fn dynamic_concurrency(&self, function: FunctionId) -> Result<u32, FunctionsError> {
        self.shared.look(|engine| engine.dynamic_concurrency(function)).await
    }

    pub async fn stats(&self, function: FunctionId) -> Result<FunctionStats, FunctionsError> {
        self.shared.look(|engine| engine.stats(function)).await
    }

    /// What each function of a workspace took, those that were retired and still have calls
    /// included.
    pub async fn usage(&self, workspace: WorkspaceId) -> Vec<(FunctionId, AppId, FunctionUsage)> {
        self.shared.look(|engine| engine.usage(workspace)).await
    }
}

/// Calls.
impl Functions {
    /// Makes a call with the inputs that travel with it.
    ///
    /// # Errors
    /// [`FunctionsError::NoFunction`], [`FunctionsError::Retired`], or
    /// [`FunctionsError::TooManyInputs`]: try again when some have run.
    pub async fn create_call(
        &self,
        caller: &Caller,
        call: NewCall,
    ) -> Result<CreatedCall, FunctionsError> {
        may(caller, Scope::Write, "make")?;
        let workspace = caller.workspace;
        self.shared.decide_durably(|engine, now| engine.create_call(now, workspace, call)).await
    }

    /// Adds inputs to a call. One whose index the call has already is not taken again.
    ///
    /// # Errors
    /// [`FunctionsError::TooManyInputs`]: try again when some have run.
    pub async fn put_inputs(
        &self,
        caller: &Caller,
        call: CallId,
        inputs: Vec<NewInput>,
    ) -> Result<Vec<AcceptedInput>, FunctionsError> {
        may(caller, Scope::Write, "add to")?;
        let workspace = caller.workspace;
        let put = |engine: &mut Engine, now| engine.put_inputs(now, workspace, call, inputs);
        self.shared.decide_durably(put).await
    }

    /// No more inputs will be put into the call.
    pub async fn finish_inputs(&self, caller: &Caller, call: CallId) -> Result<(), FunctionsError> {
        may(caller, Scope::Write, "finish")?;
        let workspace = caller.workspace;
        let finish = |engine: &mut Engine, _| engine.finish_inputs(workspace, call);
        self.shared.decide_durably(finish).await
    }

    /// Tries inputs again whose output the client was not content with. Inputs that have no
    /// output yet stay as they are.
    pub async fn retry_inputs(
        &self,
        caller: &Caller,
        call: CallId,
        inputs: Vec<RetriedInput>,
    ) -> Result<Vec<AcceptedInput>, FunctionsError> {
        may(caller, Scope::Write, "retry")?;
        let workspace = caller.workspace;
        let retry = |engine: &mut Engine, now| engine.retry_inputs(now, workspace, call, inputs);
        self.shared.decide_durably(retry).await
    }

    /// Outputs of a call, waiting for the first of them if there is none yet. Returns without
    /// any at once when none can come: all inputs are done.
    pub async fn outputs(
        &self,
        caller: &Caller,
        call: CallId,
        query: OutputsQuery,
    ) -> Result<OutputsPage, FunctionsError> {
        may(caller, Scope::Read, "read outputs of")?;
        let workspace = caller.workspace;
        let OutputsQuery { after, range, wait, after_fetch, limit } = query;
        let journal = &self.shared.journal;
        let read = |engine: &mut Engine, now| {
            let synced = journal.last_synced().get();
            let query = PageQuery { after, range, after_fetch, limit, synced };
            let place = engine.visible_call(workspace, call)?;
            Ok(engine.outputs(now, place, query))
        };
        self.shared.until_told(CallKey::of(call), wait, read).await
    }

    pub async fn call_info(
        &self,
        caller: &Caller,
        call: CallId,
    ) -> Result<CallInfo, FunctionsError> {
        may(caller, Scope::Read, "read")?;
        let workspace = caller.workspace;
        let info = |engine: &Engine| {
            let place = engine.visible_call(workspace, call)?;
            Ok(engine.call_info(place))
        };
        self.shared.look(info).await
    }

    /// The newest calls of a function, at most `limit`.
    ///
    /// # Errors
    /// [`FunctionsError::NoFunction`].
    pub async fn calls(
        &self,
        caller: &Caller,
        function: FunctionId,
        limit: usize,
    ) -> Result<Vec<CallInfo>, FunctionsError> {
        may(caller, Scope::Read, "list")?;
        let known = |engine: &Engine| {
            let place = engine.core.function(function)?;
            let settings = &engine.core.functions[place].settings;
            (settings.workspace == caller.workspace).then_some((place, engine.core.calls.end()))
        };
        let known = self.shared.look(known).await;
        let (place, end) = known.ok_or(FunctionsError::NoFunction { function })?;
        let mut found = Vec::new();
        for first in (0..end).step_by(CALLS_PER_LOOK as usize) {
            let places = first..first.saturating_add(CALLS_PER_LOOK).min(end);
            self.shared.look(|engine| engine.newest_calls(place, places, &mut found, limit)).await;
        }
        let infos = |engine: &Engine| {
            let places = found.iter().filter_map(|&call| engine.core.call(call));
            places.map(|place| engine.call_info(place)).collect()
        };
        Ok(self.shared.look(infos).await)
    }

    /// The call and what was called for its inputs.
    pub async fn call_graph(
        &self,
        caller: &Caller,
        call: CallId,
    ) -> Result<CallGraph, FunctionsError> {
        may(caller, Scope::Read, "read")?;
        let workspace = caller.workspace;
        let graph = |engine: &Engine| {
            let place = engine.visible_call(workspace, call)?;
            Ok(engine.call_graph(place))
        };
        self.shared.look(graph).await
    }

    /// Cancels all unfinished inputs of a call; doing it again changes nothing.
    pub async fn cancel_call(
        &self,
        caller: &Caller,
        call: CallId,
        containers: CancelContainers,
    ) -> Result<(), FunctionsError> {
        may(caller, Scope::Write, "cancel")?;
        let workspace = caller.workspace;
        let cancel =
            |engine: &mut Engine, now| engine.cancel_call(now, workspace, call, containers);
        self.shared.decide_durably(cancel).await
    }

    /// Adds chunks to a call as its client does. Chunks that are there already are skipped.
    ///
    /// # Errors
    /// [`FunctionsError::TooManyChunks`] as long as too many were not read;
    /// [`FunctionsError::ChunkGap`].
    pub async fn put_data_in(
        &self,
        caller: &Caller,
        call: CallId,
        chunks: Vec<DataChunk>,
    ) -> Result<(), FunctionsError> {
        may(caller, Scope::Write, "add to")?;
        let workspace = caller.workspace;
        let put = |engine: &mut Engine, _| {
            let place = engine.visible_call(workspace, call)?;
            engine.put_chunks(place, ChunkDirection::In, chunks)
        };
        self.shared.decide_durably(put).await
    }

    /// Chunks from the container with indices above `after`, waiting for the first of them;
    /// none when there was none in that time or the call is done. Chunks far behind `after` are
    /// forgotten.
    pub async fn data_out(
        &self,
        caller: &Caller,
        call: CallId,
        after: u64,
        wait: Duration,
    ) -> Result<Vec<DataChunk>, FunctionsError> {
        may(caller, Scope::Read, "read outputs of")?;
        let workspace = caller.workspace;
        let find = |engine: &Engine| engine.visible_call(workspace, call);
        self.shared.chunks(call, ChunkDirection::Out, after, wait, find).await
    }

    /// Every blob that a kept call refers to: what a collection of garbage spares.
    pub async fn referenced_blobs(&self) -> Vec<BlobHash> {
        let mut found = Vec::new();
        let mut first = 0;
        loop {
            let end = first + CALLS_PER_LOOK;
            let look = |engine: &Engine| {
                engine.blobs(first..end, &mut found);
                engine.core.calls.end()
            };
            if end >= self.shared.look(look).await {
                return found;
            }
            first = end;
        }
    }
}

impl Shared {
    /// Chunks of the call that `find` finds.
    pub async fn chunks(
        &self,
        call: CallId,
        direction: ChunkDirection,
        after: u64,
        wait: Duration,
        find: impl Fn(&Engine) -> Result<u32, FunctionsError>,
    ) -> Result<Vec<DataChunk>, FunctionsError> {
        let read = |engine: &mut Engine, _| {
            let place = find(engine)?;
            Ok(engine.chunks(place, ChunksQuery { direction, after }))
        };
        self.until_told(CallKey::of(call), wait, read).await
    }

    /// Reads of a call until there is something to tell or the time is over.
    async fn until_told<T>(
        &self,
        call: CallKey,
        wait: Duration,
        read: impl Fn(&mut Engine, Timestamp) -> Result<Told<T>, FunctionsError>,
    ) -> Result<T, FunctionsError> {
        let mut latest = match self.decide(&read).await?.0? {
            Told::Now(told) => return Ok(told),
            Told::Later(told) => told,
        };
        if wait.is_zero() {
            return Ok(latest);
        }
        let until = Instant::now() + wait;
        let mut stopping = self.stopping.subscribe();
        let mut failed = self.failed.subscribe();
        loop {
            // From before the next look on, so that no change falls in between.
            let changed = self.wait_for_change(call);
            match self.decide(&read).await?.0? {
                Told::Now(told) => return Ok(told),
                Told::Later(told) => latest = told,
            }
            tokio::select! {
                _ = changed => {}
                () = tokio::time::sleep_until(until) => return Ok(latest),
                _ = stopping.wait_for(|stopping| *stopping) => return Err(FunctionsError::Stopping),
                _ = failed.wait_for(Option::is_some) => self.check_working()?,
            }
        }
    }
}
