//! The words every other crate shares: typed ids, names, the caller of a request,
//! error kinds, byte sizes and time. Plain values, no I/O beyond the system's
//! random source.

mod caller;
mod clock;
mod error;
mod hash;
mod id;
mod name;
mod size;

pub use caller::{Caller, Scope, Scopes};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use error::{ErrorKind, Explain, Failure, source_chain};
pub use hash::{BlobHash, ParseHashError};
pub use id::{
    AppId, AttemptId, CallId, ClsId, ContainerId, DatasetId, EndpointId, EnvironmentId, FunctionId,
    Id, ImageId, InputId, JobId, Kind, LeaseId, ModelId, MountId, ParseIdError, SecretId, TaskId,
    TaxonomyId, TokenId, UploadId, WorkerId, WorkspaceId,
};
pub use name::{MAX_NAME_BYTES, Name, NameError, nearest};
pub use size::{MIB, ParseSizeError, display_bytes, display_count, parse_bytes};
