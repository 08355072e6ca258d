//! The service for containers, their workers, and people who look at them.

use std::sync::Arc;
use std::time::Duration;

use corral_containers::ContainerEvent;
use corral_types::{CallId, Caller, ContainerId, InputId, Scope, WorkspaceId};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::call::{ChunkDirection, DataChunk, Outcome};
use crate::container::{AttemptOutput, ContainerInfo, NextInputs};
use crate::engine::{Engine, check_payload, within_limits};
use crate::error::FunctionsError;
use crate::service::{Functions, PollRequest, locked, may};
use crate::state::Poll;

/// What a container's client asks for.
impl Functions {
    /// The container's process runs and its client is there.
    pub async fn container_hello(&self, container: ContainerId) -> Result<(), FunctionsError> {
        self.shared.decide(|engine, now| engine.hello(now, container)).await?.0
    }

    /// Inputs for a container, which may be on their way to the disk still. A container that is
    /// not known (any more) is told to end.
    pub async fn next_inputs(
        &self,
        container: ContainerId,
        request: PollRequest,
    ) -> Result<NextInputs, FunctionsError> {
        let shared = &self.shared;
        let key = request.idempotency_key.as_deref().map_or(0, poll_key);
        let poll = Poll { key, max_inputs: request.max_inputs };
        let (sender, mut answer) = oneshot::channel();
        let ask = |engine: &mut Engine, now| {
            locked(&shared.polls).insert(container, sender);
            engine.poll(now, container, poll);
        };
        let ((), _) = shared.decide(ask).await?;
        let mut stopping = shared.stopping.subscribe();
        let mut failed = shared.failed.subscribe();
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer.unwrap_or(NOTHING)),
            _ = stopping.wait_for(|stopping| *stopping) => return Err(FunctionsError::Stopping),
            _ = failed.wait_for(Option::is_some) => shared.check_working()?,
            () = tokio::time::sleep(request.wait) => {}
        }
        let give_up = |engine: &mut Engine, _| {
            // An answer on its way is taken; a later poll of the same container goes on.
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
            let is_closed = {
                answer.close();
                let mut polls = locked(&shared.polls);
                let is_closed = polls.get(&container).is_some_and(oneshot::Sender::is_closed);
                if is_closed {
                    polls.remove(&container);
                }
                is_closed
            };
            if is_closed {
                engine.poll_ended(container);
            }
            NOTHING
        };
        Ok(shared.decide(give_up).await?.0)
    }

    /// Takes outputs. Those of inputs that have one already, or are not known, are dropped.
    ///
    /// # Errors
    /// [`FunctionsError::TooLarge`] for an inline payload that is to be a blob.
    pub async fn put_outputs(
        &self,
        container: ContainerId,
        outputs: Vec<AttemptOutput>,
    ) -> Result<(), FunctionsError> {
        let mut taken = Vec::with_capacity(outputs.len());
        for output in outputs {
            check_outcome(&output.outcome)?;
            taken.push(AttemptOutput { outcome: within_limits(output.outcome), ..output });
        }
        let put = |engine: &mut Engine, now| {
            engine.put_outputs(now, container, taken);
            Ok(())
        };
        self.shared.decide_durably(put).await
    }

    /// How the container's run ended by its own words, such as an exception while it imported
    /// the user's module: inputs that wait for it, or are in it, fail with that or are tried
    /// again.
    pub async fn task_result(
        &self,
        container: ContainerId,
        outcome: Outcome,
    ) -> Result<(), FunctionsError> {
        check_outcome(&outcome)?;
        let outcome = within_limits(outcome);
        let take = |engine: &mut Engine, now| {
            if let Some(place) = engine.core.container(container) {
                engine.task_result(now, place, outcome);
            }
            Ok(())
        };
        self.shared.decide_durably(take).await
    }

    /// Inputs that the container is to leave alone, waiting for the first of them. Each is told
    /// until the container gave its output.
    pub async fn heartbeat(
        &self,
        container: ContainerId,
        wait: Duration,
    ) -> Result<Vec<InputId>, FunctionsError> {
        let shared = &self.shared;
        let until = Instant::now() + wait;
        let waiter: Arc<Notify> =
            Arc::clone(locked(&shared.heartbeats).entry(container).or_default());
        let mut stopping = shared.stopping.subscribe();
        loop {
            let mut notified = std::pin::pin!(waiter.notified());
            // From before the look on, so that nothing falls in between.
            notified.as_mut().enable();
            shared.check_working()?;
            let inputs = shared.look(|engine| engine.interrupted(container)).await?;
            if !inputs.is_empty() {
                return Ok(inputs);
            }
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep_until(until) => return Ok(inputs),
                _ = stopping.wait_for(|stopping| *stopping) => return Err(FunctionsError::Stopping),
            }
        }
    }

    /// Adds chunks to a call as a container that works on it does. Chunks that are there already
    /// are skipped.
    ///
    /// # Errors
    /// As [`put_data_in`](Self::put_data_in); [`FunctionsError::NoCall`] for calls of other
    /// functions than the container's.
    pub async fn put_data_out(
        &self,
        container: ContainerId,
        call: CallId,
        chunks: Vec<DataChunk>,
    ) -> Result<(), FunctionsError> {
        let put = |engine: &mut Engine, _| {
            let place = call_for(engine, container, call)?;
            engine.put_chunks(place, ChunkDirection::Out, chunks)
        };
        self.shared.decide_durably(put).await
    }

    /// The chunks that a container reads, as [`data_out`](Self::data_out) for clients.
    pub async fn data_in(
        &self,
        container: ContainerId,
        call: CallId,
        after: u64,
        wait: Duration,
    ) -> Result<Vec<DataChunk>, FunctionsError> {
        let find = |engine: &Engine| call_for(engine, container, call);
        self.shared.chunks(call, ChunkDirection::In, after, wait, find).await
    }
}

/// What workers tell and people see.
impl Functions {
    /// What a worker tells of a container. Its end is taken once; events of a container that
    /// is not known are dropped. Lines are no concern of this service.
    pub async fn container_event(
        &self,
        container: ContainerId,
        event: ContainerEvent,
    ) -> Result<(), FunctionsError> {
        let take = |engine: &mut Engine, now| {
            engine.container_event(now, container, &event);
            Ok(())
        };
        self.shared.decide_durably(take).await
    }

    /// The container will never start, nor will another of this definition: inputs that wait
    /// for it fail with these words.
    pub async fn start_refused(
        &self,
        container: ContainerId,
        message: String,
        hint: Option<String>,
    ) -> Result<(), FunctionsError> {
        let words = match hint {
            Some(hint) => format!("{message} (hint: {hint})"),
            None => message,
        };
        let refuse = |engine: &mut Engine, now| {
            if let Some(place) = engine.core.container(container) {
                engine.start_refused(now, place, words);
            }
            Ok(())
        };
        self.shared.decide_durably(refuse).await
    }

    /// Ends a container by a person's wish; its inputs are tried elsewhere.
    pub async fn stop_container(
        &self,
        caller: &Caller,
        container: ContainerId,
    ) -> Result<(), FunctionsError> {
        may(caller, Scope::Write, "stop containers of")?;
        let workspace = caller.workspace;
        let stop = |engine: &mut Engine, now| {
            let place = engine.core.container(container).filter(|&place| {
                let info = engine.container_info(place);
                info.is_some_and(|info| info.workspace == workspace)
            });
            let place = place.ok_or(FunctionsError::NoContainer { container })?;
            engine.stop_container(now, place);
            Ok(())
        };
        self.shared.decide_durably(stop).await
    }

    /// The container, whoever asks: what it may do follows from this.
    pub async fn container(&self, container: ContainerId) -> Option<ContainerInfo> {
        let info = |engine: &Engine| engine.container_info(engine.core.container(container)?);
        self.shared.look(info).await
    }

    /// Every container of a workspace, or of all.
    pub async fn containers(&self, workspace: Option<WorkspaceId>) -> Vec<ContainerInfo> {
        self.shared.look(|engine| engine.containers(workspace)).await
    }
}

const NOTHING: NextInputs = NextInputs::Inputs(Vec::new());

fn call_for(engine: &Engine, container: ContainerId, call: CallId) -> Result<u32, FunctionsError> {
    let place = engine.core.call(call).ok_or(FunctionsError::NoCall { call })?;
    if engine.works_on(container, place) { Ok(place) } else { Err(FunctionsError::NoCall { call }) }
}

fn check_outcome(outcome: &Outcome) -> Result<(), FunctionsError> {
    if let Some(payload) = &outcome.payload {
        check_payload(payload)?;
    }
    if outcome.data_format > u8::MAX.into() {
        let (found, most) = (outcome.data_format.into(), u8::MAX.into());
        return Err(FunctionsError::TooLarge { what: "the number of a data format", found, most });
    }
    Ok(())
}

/// A number of a poll's key that is never 0, which stands for no key.
fn poll_key(key: &str) -> u32 {
    let hash = blake3::hash(key.as_bytes());
    let bytes = hash.as_bytes()[..4].try_into().expect("a hash has 32 bytes");
    u32::from_le_bytes(bytes).max(1)
}
