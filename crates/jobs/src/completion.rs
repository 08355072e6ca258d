//! What the rest of the server does for jobs: registers what they made, gives memory back.

use std::pin::Pin;

use corral_placement::{HolderId, LeaseLimits};
use corral_types::{Failure, JobId, TaskId, WorkerId, WorkspaceId};
use corral_worker_api::Output;
use serde_json::Value;

use crate::job::Job;

/// Work that was done and whose outputs are to be registered.
#[derive(Clone, Debug)]
pub struct FinishedWork {
    pub job: JobId,
    pub workspace: WorkspaceId,
    pub kind: String,
    pub name: String,
    /// The request's payload.
    pub payload: Value,
    pub result: Value,
    /// Every one has been put as a blob.
    pub outputs: Vec<Output>,
}

impl FinishedWork {
    pub(crate) fn of(job: &Job, result: &Value, outputs: &[Output]) -> Self {
        Self {
            job: job.id,
            workspace: job.workspace,
            kind: job.request.kind.clone(),
            name: job.request.name.clone(),
            payload: job.request.payload.clone(),
            result: result.clone(),
            outputs: outputs.to_vec(),
        }
    }
}

/// Why outputs were not registered.
#[derive(Debug, thiserror::Error)]
pub enum CompletionError {
    /// It may go better later: it is tried again, with growing pauses, until it succeeds.
    #[error("the outputs cannot be registered now: {0}")]
    Later(Failure),
    /// It will never do: the job fails with this.
    #[error("the outputs cannot be registered: {0}")]
    Never(Failure),
}

/// A future that a `dyn` trait can return.
pub type Completing<'a> = Pin<Box<dyn Future<Output = Result<Value, CompletionError>> + Send + 'a>>;

/// Registers what jobs made, such as a model in the catalog.
pub trait JobCompletion: Send + Sync + 'static {
    /// Called at least once for every job whose work is done, again after a crash or a
    /// [`CompletionError::Later`], never twice at the same time for one job; so it must do
    /// the same however often it is called. What it returns becomes the job's result. The
    /// job succeeds only after this has.
    fn complete(&self, work: FinishedWork) -> Completing<'_>;
}

/// The holders of memory in the server's own process. Both calls are made from within
/// other calls to the jobs service: they note and return, and never wait.
pub trait ResidentMemory: Send + Sync + 'static {
    /// Give this much back, then report the new size with
    /// [`hold_reclaimable`](crate::JobsService::hold_reclaimable).
    fn reclaim(&self, worker: WorkerId, holder: HolderId, bytes: u64);

    /// The server's lease is of this size from now on; `None` if it may not grow.
    fn lease_changed(&self, task: TaskId, limits: Option<LeaseLimits>);
}
