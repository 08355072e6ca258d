//! What is counted about jobs.

use corral_telemetry::{Metric, MetricKind};
use metrics::{counter, gauge, histogram};

use crate::engine::Engine;
use crate::event::{Chapter, JobEventKind, StoryEntry};
use crate::job::JobState;
use crate::record::{Next, Record};

pub const JOBS: Metric = Metric {
    name: "corral_jobs",
    kind: MetricKind::Gauge,
    description: "Jobs that are kept, by state.",
};
pub const JOBS_SUBMITTED: Metric = Metric {
    name: "corral_jobs_submitted_total",
    kind: MetricKind::Counter,
    description: "Jobs that were taken, by kind of handler.",
};
pub const JOBS_ENDED: Metric = Metric {
    name: "corral_jobs_ended_total",
    kind: MetricKind::Counter,
    description: "Jobs that ended, by state.",
};
pub const ATTEMPTS_STARTED: Metric = Metric {
    name: "corral_job_attempts_assigned_total",
    kind: MetricKind::Counter,
    description: "Attempts that were given to a worker.",
};
pub const ATTEMPTS_RETRIED: Metric = Metric {
    name: "corral_job_attempts_retried_total",
    kind: MetricKind::Counter,
    description: "Attempts that ended in a way that another attempt follows.",
};
pub const QUEUE_WAIT: Metric = Metric {
    name: "corral_job_queue_wait_seconds",
    kind: MetricKind::Histogram,
    description: "How long a job waited for a lease, each time it did.",
};
pub const TASKS_WAITING: Metric = Metric {
    name: "corral_placement_waiting_tasks",
    kind: MetricKind::Gauge,
    description: "Tasks that wait for a lease.",
};
pub const RESERVATIONS: Metric = Metric {
    name: "corral_placement_reserved_workers",
    kind: MetricKind::Gauge,
    description: "Workers kept for a task that does not fit yet.",
};
pub const WORKERS_PRESENT: Metric = Metric {
    name: "corral_workers_present",
    kind: MetricKind::Gauge,
    description: "Workers that are here.",
};
pub const MEMORY_OFFERED: Metric = Metric {
    name: "corral_placement_offered_bytes",
    kind: MetricKind::Gauge,
    description: "Memory that the workers that are here offer to leases.",
};
pub const MEMORY_REQUESTED: Metric = Metric {
    name: "corral_placement_requested_bytes",
    kind: MetricKind::Gauge,
    description: "Memory that leases requested.",
};
pub const MEMORY_CHARGED: Metric = Metric {
    name: "corral_placement_charged_bytes",
    kind: MetricKind::Gauge,
    description: "Memory that leases are charged: the larger of requested and measured.",
};

/// All of them, for [`corral_telemetry::start_metrics`].
pub const METRICS: [Metric; 12] = [
    JOBS,
    JOBS_SUBMITTED,
    JOBS_ENDED,
    ATTEMPTS_STARTED,
    ATTEMPTS_RETRIED,
    QUEUE_WAIT,
    TASKS_WAITING,
    RESERVATIONS,
    WORKERS_PRESENT,
    MEMORY_OFFERED,
    MEMORY_REQUESTED,
    MEMORY_CHARGED,
];

pub(crate) fn count_record(record: &Record) {
    match record {
        Record::Submitted { request, .. } => {
            counter!(JOBS_SUBMITTED.name, "kind" => request.kind.clone()).increment(1);
        }
        Record::Assigned { waited_ms, .. } => {
            counter!(ATTEMPTS_STARTED.name).increment(1);
            histogram!(QUEUE_WAIT.name).record(*waited_ms as f64 / 1_000.0);
        }
        Record::AttemptEnded { next: Next::Retry { .. }, .. } => {
            counter!(ATTEMPTS_RETRIED.name).increment(1);
        }
        _ => {}
    }
}

pub(crate) fn count_entry(entry: &StoryEntry) {
    if let Chapter::Event(event) = &entry.chapter
        && let JobEventKind::Ended { state, .. } = &event.kind
    {
        counter!(JOBS_ENDED.name, "state" => state.as_str()).increment(1);
    }
}

pub(crate) fn gauge_all(engine: &Engine) {
    for state in JobState::ALL {
        let count = engine.core().counts().get(&state).copied().unwrap_or(0);
        gauge!(JOBS.name, "state" => state.as_str()).set(count as f64);
    }
    let totals = engine.placement().totals();
    gauge!(TASKS_WAITING.name).set(totals.waiting as f64);
    gauge!(RESERVATIONS.name).set(totals.reservations as f64);
    gauge!(WORKERS_PRESENT.name).set(totals.workers_present as f64);
    gauge!(MEMORY_OFFERED.name).set(totals.offered_bytes as f64);
    gauge!(MEMORY_REQUESTED.name).set(totals.requested_bytes as f64);
    gauge!(MEMORY_CHARGED.name).set(totals.charged_bytes as f64);
}
