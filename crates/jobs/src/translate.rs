//! Between the words of jobs, of placement and of the worker protocol.

use std::time::Duration;

use corral_placement::{LeaseLimits, Refusal, TaskRequest, WorkClass, WorkerOffer};
use corral_types::{
    AttemptId, Explain, JobId, LeaseId, MIB, TaskId, Timestamp, WorkerId, WorkspaceId,
};
use corral_worker_api::{Capacity, Limits, Start};

use crate::job::{FailureReason, Job, JobFailure};
use crate::record::Record;
use crate::request::JobRequest;

/// Memory of the machine's below which it is under pressure: less than a worker keeps in
/// reserve, so that leases that are all in full use do not count as pressure by themselves.
pub fn pressure_reserve_bytes(worker_memory_bytes: u64) -> u64 {
    (worker_memory_bytes / 32).clamp(64 * MIB, 1024 * MIB)
}

pub(crate) fn offer(capacity: &Capacity) -> WorkerOffer {
    WorkerOffer {
        memory_bytes: capacity.memory_bytes,
        reserve_bytes: pressure_reserve_bytes(capacity.memory_bytes),
        milli_cpu: capacity.milli_cpu,
        gpus: 0,
    }
}

/// An attempt is a task under the same number.
pub(crate) fn task_of(attempt: AttemptId) -> TaskId {
    TaskId::from_u128(attempt.as_u128())
}

pub(crate) fn attempt_of(task: TaskId) -> AttemptId {
    AttemptId::from_u128(task.as_u128())
}

pub(crate) fn task_request(
    task: TaskId,
    workspace: WorkspaceId,
    request: &JobRequest,
    last_worker: Option<WorkerId>,
) -> TaskRequest {
    TaskRequest {
        task,
        workspace,
        class: WorkClass::Job,
        milli_cpu: request.milli_cpu,
        memory_request_bytes: request.memory_request_bytes,
        memory_limit_bytes: request.memory_limit_bytes,
        gpus: 0,
        priority: request.priority,
        deadline: None,
        bring_back_ms: 0,
        preferred_worker: request.preferred_worker.or(last_worker),
    }
}

/// What an adopted attempt asks for: the lease it runs under.
pub(crate) fn adopted(job: &Job) -> Option<(TaskRequest, LeaseId)> {
    let attempt = job.attempt.as_ref()?;
    let mut request = task_request(task_of(attempt.id), job.workspace, &job.request, None);
    request.memory_request_bytes = attempt.limits.memory_request_bytes;
    request.memory_limit_bytes = Some(attempt.limits.memory_limit_bytes);
    request.milli_cpu = attempt.limits.milli_cpu;
    Some((request, attempt.lease()))
}

pub(crate) fn limits_of(limits: &LeaseLimits) -> Limits {
    Limits {
        lease: limits.lease,
        memory_request_bytes: limits.memory_request_bytes,
        memory_limit_bytes: limits.memory_limit_bytes,
        milli_cpu: limits.milli_cpu,
        cpu_weight: limits.cpu_weight,
    }
}

pub(crate) fn start(now: Timestamp, job: &Job) -> Start {
    let attempt = job.attempt.as_ref().expect("a job that starts has an attempt");
    let limit = job.request.time_limit_ms.map(Duration::from_millis);
    Start {
        attempt: attempt.id,
        job: job.id,
        workspace: job.workspace,
        kind: job.request.kind.clone(),
        payload: job.request.payload.clone(),
        inputs: job.request.inputs.clone(),
        checkpoint: job.checkpoint,
        limits: attempt.limits,
        deadline: job.deadline().or(limit.map(|limit| now.plus(limit))),
    }
}

pub(crate) fn refused(refusal: &Refusal) -> JobFailure {
    JobFailure {
        reason: FailureReason::Refused,
        message: refusal.to_string(),
        causes: Vec::new(),
        hint: refusal.hint(),
    }
}

/// The attempt that a record ends on its worker's own word or with its worker. One that was
/// given up while it still runs keeps its lease until its worker says that it is over.
pub(crate) fn over(record: &Record) -> Option<AttemptId> {
    match record {
        Record::AttemptEnded { attempt, .. } => Some(*attempt),
        _ => None,
    }
}

pub(crate) fn job_of(record: &Record) -> Option<JobId> {
    match record {
        Record::Submitted { job, .. }
        | Record::Assigned { job, .. }
        | Record::Told { job, .. }
        | Record::AttemptEnded { job, .. }
        | Record::StopWanted { job, .. }
        | Record::FinishNowWanted { job, .. }
        | Record::Requeued { job, .. }
        | Record::Ended { job, .. }
        | Record::Completed { job, .. }
        | Record::CompletionRefused { job, .. }
        | Record::Removed { job } => Some(*job),
        Record::WorkerSeen { .. } | Record::WorkerForgotten { .. } => None,
    }
}

/// The id of a job's next attempt: of the time and of what the job and the attempt's number
/// mix to, so that it differs from every other without a random source.
pub(crate) fn next_attempt_id(now: Timestamp, job: &Job) -> AttemptId {
    let ordinal = u128::from(job.attempts_made() + 1);
    let mut mixed =
        job.id.as_u128() ^ ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    for _ in 0..2 {
        mixed ^= mixed >> 67;
        mixed = mixed.wrapping_mul(0xda94_2042_e4dd_58b5_2d35_8f2b_1f4d_9a2b);
    }
    let mut low = [0; 10];
    low.copy_from_slice(&mixed.to_be_bytes()[..10]);
    AttemptId::from_parts(now, low)
}
