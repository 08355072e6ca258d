//! What is counted about functions.

use corral_telemetry::{Metric, MetricKind};
use metrics::{counter, gauge};

use crate::OutcomeStatus;
use crate::container::ContainerState;
use crate::engine::Engine;
use crate::packed::ending_status;
use crate::record::{Counted, Record};

pub const INPUTS: Metric = Metric {
    name: "corral_function_inputs_unfinished",
    kind: MetricKind::Gauge,
    description: "Inputs of functions without an output, by state.",
};
pub const INPUTS_ACCEPTED: Metric = Metric {
    name: "corral_function_inputs_accepted_total",
    kind: MetricKind::Counter,
    description: "Inputs that were accepted.",
};
pub const INPUTS_ENDED: Metric = Metric {
    name: "corral_function_inputs_ended_total",
    kind: MetricKind::Counter,
    description: "Inputs that ended, by status of their output.",
};
pub const INPUTS_RETRIED: Metric = Metric {
    name: "corral_function_inputs_retried_total",
    kind: MetricKind::Counter,
    description: "Attempts that another attempt follows, by what failed.",
};
pub const CALLS: Metric = Metric {
    name: "corral_function_calls",
    kind: MetricKind::Gauge,
    description: "Calls that are kept.",
};
pub const RESIDENT: Metric = Metric {
    name: "corral_function_payload_bytes",
    kind: MetricKind::Gauge,
    description: "Memory that payloads, outputs and chunks of functions take.",
};
pub const CONTAINERS: Metric = Metric {
    name: "corral_function_containers",
    kind: MetricKind::Gauge,
    description: "Containers of functions, by state.",
};
pub const CONTAINERS_STARTED: Metric = Metric {
    name: "corral_function_containers_started_total",
    kind: MetricKind::Counter,
    description: "Containers of functions that started, by kind of start.",
};

/// All of them, for [`corral_telemetry::start_metrics`].
pub const METRICS: [Metric; 8] = [
    INPUTS,
    INPUTS_ACCEPTED,
    INPUTS_ENDED,
    INPUTS_RETRIED,
    CALLS,
    RESIDENT,
    CONTAINERS,
    CONTAINERS_STARTED,
];

pub(crate) fn count_record(record: &Record) {
    match record {
        Record::CallCreated { inputs, .. } | Record::InputsPut { inputs, .. } => {
            counter!(INPUTS_ACCEPTED.name).increment(inputs.len() as u64);
        }
        Record::Requeued { counted, inputs, .. } => {
            let what = match counted {
                Counted::Failure => "function",
                Counted::Internal => "container",
                Counted::Not => "none",
            };
            counter!(INPUTS_RETRIED.name, "failed" => what).increment(inputs.len() as u64);
        }
        Record::Done { body, .. } => count_ended(ending_status(body), 1),
        Record::DoneAlike { body, inputs, .. } => {
            count_ended(ending_status(body), inputs.len() as u64);
        }
        Record::ContainerStarted { kind, .. } => {
            let kind = match kind {
                corral_containers::StartKind::Cold => "cold",
                corral_containers::StartKind::Template => "template",
                corral_containers::StartKind::Snapshot => "snapshot",
            };
            counter!(CONTAINERS_STARTED.name, "kind" => kind).increment(1);
        }
        _ => {}
    }
}

fn count_ended(status: OutcomeStatus, inputs: u64) {
    counter!(INPUTS_ENDED.name, "status" => status.as_str()).increment(inputs);
}

pub(crate) fn gauge_all(engine: &Engine) {
    let core = &engine.core;
    let waiting = core.waiting.len();
    let running = core.deadlines.len();
    let queued = core.unfinished - waiting - running;
    for (state, count) in [("queued", queued), ("retrying", waiting), ("running", running)] {
        gauge!(INPUTS.name, "state" => state).set(count as f64);
    }
    gauge!(CALLS.name).set(core.calls.len() as f64);
    gauge!(RESIDENT.name).set(core.resident_bytes as f64);
    let containers = engine.containers(None);
    for state in ContainerState::ALL {
        let count = containers.iter().filter(|container| container.state == state).count();
        gauge!(CONTAINERS.name, "state" => state.as_str()).set(count as f64);
    }
}
