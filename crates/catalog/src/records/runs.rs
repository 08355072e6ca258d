//! Runs, as MLflow means them: a job is an experiment, each of its trials a run.

use corral_types::{JobId, Timestamp, WorkspaceId};

use super::Answer;
use crate::{Page, PageRequest};

/// Runs in one call at most: one change of the catalog must not hold up the others.
pub const MAX_RUNS_PER_CALL: usize = 1_000;

/// The bytes of a run's parameters or metrics at most.
pub const MAX_RUN_JSON_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The number of the trial in its job.
    pub number: u32,
    pub status: RunStatus,
    /// A JSON object; the catalog does not look inside.
    pub params_json: String,
    /// A JSON object; the catalog does not look inside.
    pub metrics_json: String,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    Running,
    Finished,
    Failed,
    /// Stopped from outside: by a person, a budget, or early stopping.
    Stopped,
}

pub trait RunRecords {
    /// Notes runs of a job, all or none; a number noted before is replaced, so that a job may
    /// tell again what it told.
    fn record_runs(
        &self,
        workspace: WorkspaceId,
        job: JobId,
        runs: Vec<RunRecord>,
    ) -> Answer<'_, ()>;

    fn run(&self, workspace: WorkspaceId, job: JobId, number: u32) -> Answer<'_, RunRecord>;

    /// By number.
    fn list_runs(
        &self,
        workspace: WorkspaceId,
        job: JobId,
        page: PageRequest,
    ) -> Answer<'_, Page<RunRecord>>;

    /// Removes all runs of a job; answers how many there were.
    fn remove_runs(&self, workspace: WorkspaceId, job: JobId) -> Answer<'_, u64>;
}
