//! Calls as those who make them see them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use corral_types::{BlobHash, CallId, ContainerId, FunctionId, InputId, Timestamp};

/// The largest payload that travels inline; larger ones are put as blobs first.
pub const MAX_INLINE_BYTES: usize = 16 << 10;
/// The most inputs that one request may put.
pub const MAX_INPUTS_PER_REQUEST: usize = 1_000;
/// How many inputs of one map a client shall have unfinished, so that it does not run ahead
/// of the containers; told to it, not enforced.
pub const MAX_INPUTS_OUTSTANDING: u32 = 1_000;
/// The highest index of an input within its call.
pub const MAX_INPUT_INDEX: u32 = (1 << 24) - 1;
/// The longest name of a method.
pub const MAX_METHOD_BYTES: usize = 256;
/// The most outputs on one page.
pub const MAX_OUTPUTS_PER_PAGE: usize = 1_000;
/// The longest text of an exception or a traceback that is kept; the rest is cut.
pub const MAX_ERROR_TEXT_BYTES: usize = 64 << 10;
/// The largest serialized traceback that is kept; a larger one is left out.
pub const MAX_SERIALIZED_TRACEBACK_BYTES: usize = 256 << 10;

/// Bytes that nothing of ours reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// At most [`MAX_INLINE_BYTES`].
    Inline(Bytes),
    /// Put before it is named here.
    Blob(BlobHash),
}

/// What kind of call it is to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// One input.
    Unary,
    /// Inputs that come until the client says that there are no more.
    Map,
}

/// How the client waits for the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invocation {
    /// It waits.
    Sync,
    /// It comes back for them, perhaps days later.
    Async,
    /// It waits for what a generator yields.
    SyncLegacy,
}

/// An input to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInput {
    /// The client's number of the input within its call. The same number again is the same
    /// input: it is not taken twice.
    pub index: u32,
    pub payload: Payload,
    /// The client's number of the payload's format, below 256.
    pub data_format: u32,
    /// For a cls: which of its methods. Empty otherwise.
    pub method: String,
}

/// A call to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCall {
    pub function: FunctionId,
    pub kind: CallKind,
    pub invocation: Invocation,
    /// The input that was worked on when this call was made.
    pub parent: Option<InputId>,
    /// Repeating a request under the same key makes no second call.
    pub idempotency_key: Option<String>,
    /// What travels with the call.
    pub inputs: Vec<NewInput>,
}

/// An input that was accepted, or had been before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedInput {
    pub input: InputId,
    pub index: u32,
}

/// A call that was made, or had been before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedCall {
    pub call: CallId,
    pub inputs: Vec<AcceptedInput>,
}

/// An input to be tried again by its client's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetriedInput {
    pub index: u32,
    /// What replaces its payload.
    pub payload: Payload,
    pub data_format: u32,
    pub method: String,
}

/// A place in the order in which outputs of one call came: outputs *after* it are asked for.
/// Written `3-0`, as clients expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u32);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-0", self.0)
    }
}

/// A text that is not an [`EntryId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place among outputs of the form 3-0")]
pub struct ParseEntryError(String);

impl FromStr for EntryId {
    type Err = ParseEntryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let number = text.strip_suffix("-0").and_then(|number| number.parse().ok());
        number.map(Self).ok_or_else(|| ParseEntryError(text.chars().take(40).collect()))
    }
}

/// Whether outputs are to be kept once they were fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFetch {
    Keep,
    /// Outputs of success may go.
    Clear,
}

/// Which outputs of a call are asked for.
#[derive(Clone, Debug)]
pub struct OutputsQuery {
    pub after: EntryId,
    /// Only inputs with these indices, both ends included.
    pub range: Option<(u32, u32)>,
    /// How long to wait for the first of them.
    pub wait: Duration,
    pub after_fetch: AfterFetch,
    /// At most so many, and [`MAX_OUTPUTS_PER_PAGE`].
    pub limit: usize,
}

/// Outputs, in the order in which they came, or by index where a range was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputsPage {
    pub outputs: Vec<Output>,
    /// To be given as [`OutputsQuery::after`] next.
    pub last: EntryId,
    /// Inputs of the call that have no output yet.
    pub unfinished_inputs: u32,
}

/// The output of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub input: InputId,
    pub index: u32,
    pub outcome: Outcome,
    /// Who made it; none if no attempt did.
    pub container: Option<ContainerId>,
    pub started_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// Attempts before the one that led to this.
    pub retries: u32,
}

/// How an input, an attempt or a container's whole run ended. As the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeStatus {
    Success,
    Failure,
    Terminated,
    Timeout,
    InitFailure,
    InternalFailure,
}

impl OutcomeStatus {
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Failure,
        Self::Terminated,
        Self::Timeout,
        Self::InitFailure,
        Self::InternalFailure,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Terminated => "terminated",
            Self::Timeout => "timeout",
            Self::InitFailure => "init_failure",
            Self::InternalFailure => "internal_failure",
        }
    }
}

/// What came of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: OutcomeStatus,
    /// The returned value, or the raised exception as the client serialized it.
    pub payload: Option<Payload>,
    /// The client's number of the payload's format, below 256.
    pub data_format: u32,
    /// For everything but success, in words.
    pub exception: String,
    pub traceback: String,
    /// For the client to show the traceback as if it were its own.
    pub serialized_traceback: Bytes,
    pub traceback_lines: Bytes,
}

impl Outcome {
    pub fn success(payload: Payload, data_format: u32) -> Self {
        Self {
            payload: Some(payload),
            data_format,
            ..Self::without_payload(OutcomeStatus::Success, String::new())
        }
    }

    /// An end that has only words.
    pub fn without_payload(status: OutcomeStatus, exception: impl Into<String>) -> Self {
        Self {
            status,
            payload: None,
            data_format: 0,
            exception: exception.into(),
            traceback: String::new(),
            serialized_traceback: Bytes::new(),
            traceback_lines: Bytes::new(),
        }
    }
}

/// What is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallInfo {
    pub call: CallId,
    pub function: FunctionId,
    pub kind: CallKind,
    pub invocation: Invocation,
    pub parent: Option<InputId>,
    pub created_at: Timestamp,
    pub total_inputs: u32,
    /// Waiting for a container or for their next attempt.
    pub pending_inputs: u32,
    pub running_inputs: u32,
    pub succeeded_inputs: u32,
    pub failed_inputs: u32,
    pub timed_out_inputs: u32,
    pub cancelled_inputs: u32,
}

/// An input with its whereabouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputInfo {
    pub input: InputId,
    pub call: CallId,
    pub index: u32,
    pub state: InputState,
    pub container: Option<ContainerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputState {
    Pending,
    Running,
    Done(OutcomeStatus),
}

/// A call and those that were made while its inputs were worked on, and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallGraph {
    pub calls: Vec<CallInfo>,
    pub inputs: Vec<InputInfo>,
    /// There is more than was listed.
    pub is_truncated: bool,
}

/// Which way chunks of a call flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChunkDirection {
    /// To the container: the body of a request.
    In,
    /// From the container: what a generator yields.
    Out,
}

/// A piece of what a generator yields or a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataChunk {
    /// From 1 on, without gaps.
    pub index: u64,
    pub payload: Payload,
    pub data_format: u32,
}
