//! What happens with calls of Python functions: inputs, attempts, outputs, and the containers
//! that are wanted for them.
//!
//! Three layers, each tested by itself:
//!
//! - the core is what there is: a fold over the journal's records. No I/O, no clock. It is packed
//!   so that a million inputs that wait take some 200 bytes each;
//! - the engine decides: which container gets which input, how many containers there are, what
//!   follows a failure. Still without I/O: the simulation runs thousands of seeded worlds of
//!   crashes, slow starts and lost answers through it;
//! - [`Functions`] gives it a journal and async calls: what edges call for clients
//!   ([`Functions::create_call`], …), for containers ([`Functions::next_inputs`], …) and for
//!   workers ([`Functions::container_event`]). Containers are started and stopped through the
//!   port [`ContainerHost`].
//!
//! What holds, whatever crashes when: an input that was acknowledged ends exactly once, with one
//! output; it is tried at least once; a container's output that was acknowledged is not lost; an
//! output that was told stays as it is.

mod apply;
mod background;
mod call;
mod client_calls;
mod codec;
mod container;
mod container_calls;
mod core;
mod engine;
mod error;
mod metric;
mod packed;
mod policy;
mod record;
mod recovery;
mod service;
mod settings;
mod slab;
mod snapshot;
mod state;
mod usage;

pub use call::{
    AcceptedInput, AfterFetch, CallGraph, CallInfo, CallKind, ChunkDirection, CreatedCall,
    DataChunk, EntryId, InputInfo, InputState, Invocation, MAX_ERROR_TEXT_BYTES, MAX_INLINE_BYTES,
    MAX_INPUT_INDEX, MAX_INPUTS_OUTSTANDING, MAX_INPUTS_PER_REQUEST, MAX_METHOD_BYTES,
    MAX_OUTPUTS_PER_PAGE, MAX_SERIALIZED_TRACEBACK_BYTES, NewCall, NewInput, Outcome,
    OutcomeStatus, Output, OutputsPage, OutputsQuery, ParseEntryError, Payload, RetriedInput,
};
pub use container::{
    AttemptOutput, ContainerHost, ContainerInfo, ContainerState, GivenInput, NextInputs,
};
pub use error::{CodecError, FunctionsError, SnapshotError};
pub use metric::METRICS;
pub use record::RECORD_VERSION;
pub use service::{CancelContainers, Functions, FunctionsOptions, FunctionsPorts, PollRequest};
pub use settings::{
    Batching, DEFAULT_SCALEDOWN_WINDOW_MS, DEFAULT_TIMEOUT_MS, FunctionSettings, MAX_BATCH_SIZE,
    MAX_CONCURRENT_INPUTS, MAX_CONTAINERS, MAX_LINGER_MS, MAX_RETRIES, MAX_TIMEOUT_MS, Resources,
    RetryPolicy, Reuse, Scaling, ScalingChange, SettingsError,
};
pub use usage::{FunctionStats, FunctionUsage};

#[cfg(test)]
mod tests;
