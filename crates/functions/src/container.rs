//! Containers as the functions core sees them, and what they are told.

use corral_containers::{StartKind, StopReason};
use corral_types::{AppId, CallId, ContainerId, FunctionId, InputId, Timestamp, WorkspaceId};

use crate::call::{Invocation, Outcome, Payload};

/// An input in the hands of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenInput {
    pub input: InputId,
    pub call: CallId,
    pub index: u32,
    pub payload: Payload,
    pub data_format: u32,
    pub method: String,
    pub invocation: Invocation,
    /// Attempts before this one: the same input with the same number is the same attempt.
    pub retries: u32,
    /// The container gets no other input after this.
    pub is_final: bool,
}

/// What a container that asked for inputs is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextInputs {
    /// Empty if there was none for as long as the container wanted to wait.
    Inputs(Vec<GivenInput>),
    /// End.
    Kill,
}

/// What a container says of an input that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptOutput {
    pub input: InputId,
    /// As it was given: an earlier attempt's failure is not this one's.
    pub retries: u32,
    pub outcome: Outcome,
    pub started_at: Option<Timestamp>,
    pub created_at: Option<Timestamp>,
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerState {
    /// Asked for.
    Requested,
    /// Its process runs and has not yet asked for an input.
    Starting,
    Idle,
    Busy,
    /// It gets no more inputs.
    Draining,
}

impl ContainerState {
    pub const ALL: [Self; 5] =
        [Self::Requested, Self::Starting, Self::Idle, Self::Busy, Self::Draining];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Draining => "draining",
        }
    }
}

/// A container and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInfo {
    pub container: ContainerId,
    pub function: FunctionId,
    /// The definition that it runs.
    pub version: u64,
    pub workspace: WorkspaceId,
    pub app: AppId,
    pub state: ContainerState,
    pub start_kind: Option<StartKind>,
    pub requested_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// The inputs that it works on.
    pub inputs: Vec<InputId>,
    /// Inputs that it was given so far.
    pub inputs_given: u64,
}

/// Whoever starts and stops containers. Both calls note and return: they are made from within
/// other calls and never wait. What becomes of it is told by
/// [`container_event`](crate::Functions::container_event).
pub trait ContainerHost: Send + Sync + 'static {
    /// Starts a container of the function's present definition. Called again with the same id
    /// after a restart of the server, as long as the container did not start.
    fn start(&self, container: ContainerId, function: FunctionId);

    /// Ends a container, wherever it is; also one that was asked for and never started. That one
    /// that is nowhere has ended is told again.
    fn stop(&self, container: ContainerId, reason: StopReason);
}
