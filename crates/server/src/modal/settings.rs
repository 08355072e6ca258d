//! From what a function asks for to what the functions service is told of it.

use corral_apps::ResolvedFunction;
use corral_functions::{
    Batching, DEFAULT_SCALEDOWN_WINDOW_MS, DEFAULT_TIMEOUT_MS, FunctionSettings, MAX_CONTAINERS,
    Resources, RetryPolicy, Reuse, Scaling, ScalingChange,
};
use corral_modal_api as api;

/// The settings of a function.
pub fn function_settings(function: &ResolvedFunction) -> FunctionSettings {
    let spec = &function.spec;
    let milliseconds = |seconds: u32, otherwise: u64| match seconds {
        0 => otherwise,
        seconds => u64::from(seconds) * 1000,
    };
    let scaling = &spec.scaling;
    let most = scaling.max_containers.filter(|most| *most > 0).unwrap_or(MAX_CONTAINERS);
    let max_concurrent_inputs = spec.max_concurrent_inputs.max(1);
    let timeout_ms = milliseconds(spec.timeout_s, DEFAULT_TIMEOUT_MS);
    FunctionSettings {
        version: function.generation,
        scaling: Scaling {
            // Fewer may be asked for at most than at least when one of them is changed.
            min_containers: scaling.min_containers.unwrap_or(0).min(most),
            max_containers: most,
            buffer_containers: scaling.buffer_containers.unwrap_or(0),
            scaledown_window_ms: scaling
                .scaledown_window_s
                .map_or(DEFAULT_SCALEDOWN_WINDOW_MS, |seconds| u64::from(seconds) * 1000),
        },
        max_concurrent_inputs,
        target_concurrent_inputs: spec.target_concurrent_inputs.clamp(1, max_concurrent_inputs),
        batching: spec
            .batching
            .map(|batch| Batching { max_size: batch.max_size, linger_ms: batch.linger_ms }),
        reuse: if spec.single_use { Reuse::Single } else { Reuse::Many },
        timeout_ms,
        startup_timeout_ms: milliseconds(spec.startup_timeout_s, timeout_ms),
        retries: spec.retries.map_or_else(RetryPolicy::default, |retries| RetryPolicy {
            retries: retries.retries,
            initial_delay_ms: u64::from(retries.initial_delay_ms),
            backoff_coefficient: f64::from(retries.backoff_coefficient),
            max_delay_ms: u64::from(retries.max_delay_ms),
        }),
        resources: Resources {
            memory_request_bytes: spec.resources.memory_request_bytes.unwrap_or(0),
            gpus: spec.resources.gpu.as_ref().map_or(0, |gpu| gpu.count),
        },
        ..FunctionSettings::new(function.record.id, function.workspace, function.app.id)
    }
}

/// Another scaling, as a message says it.
pub fn scaling_change(settings: &api::AutoscalerSettings) -> ScalingChange {
    ScalingChange {
        min_containers: settings.min_containers,
        max_containers: settings.max_containers,
        buffer_containers: settings.buffer_containers,
        scaledown_window_ms: settings.scaledown_window.map(|seconds| u64::from(seconds) * 1000),
    }
}

/// A scaling as a message says it.
pub fn autoscaler(scaling: Scaling) -> api::AutoscalerSettings {
    api::AutoscalerSettings {
        min_containers: Some(scaling.min_containers),
        max_containers: Some(scaling.max_containers),
        buffer_containers: Some(scaling.buffer_containers),
        scaledown_window: Some((scaling.scaledown_window_ms / 1000) as u32),
        ..Default::default()
    }
}
