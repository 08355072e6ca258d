//! What a function has and what it took.

use serde::{Deserialize, Serialize};

/// A function at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionStats {
    /// Inputs that wait for a container, those in a pause before their next attempt included.
    pub backlog: u64,
    pub running_inputs: u64,
    pub containers: u32,
    /// Of these: asked for or starting …
    pub starting_containers: u32,
    /// … and waiting for inputs.
    pub idle_containers: u32,
    /// How many more inputs would find a place at once.
    pub input_headroom: u64,
}

/// What a function took since it was first defined. What its containers take now is in it as
/// far as they told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUsage {
    pub cpu_ms: u64,
    /// Milliseconds times MiB of the larger of requested and measured memory.
    pub memory_mib_ms: u64,
    /// Milliseconds times GPUs.
    pub gpu_ms: u64,
    pub wall_ms: u64,
    pub cold_starts: u64,
    pub template_starts: u64,
    pub snapshot_starts: u64,
    /// Containers that ended before they asked for an input, unless they were not needed.
    pub failed_starts: u64,
    pub inputs_succeeded: u64,
    pub inputs_failed: u64,
}

impl FunctionUsage {
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_ms as f64 / 1e3
    }

    pub fn memory_gib_seconds(&self) -> f64 {
        self.memory_mib_ms as f64 / (1024.0 * 1e3)
    }

    pub fn gpu_seconds(&self) -> f64 {
        self.gpu_ms as f64 / 1e3
    }

    pub fn starts(&self) -> u64 {
        self.cold_starts + self.template_starts + self.snapshot_starts
    }

    /// The part of the starts that were cold; none without a start.
    pub fn cold_share(&self) -> Option<f64> {
        (self.starts() > 0).then(|| self.cold_starts as f64 / self.starts() as f64)
    }

    pub fn add(&mut self, other: &Self) {
        self.cpu_ms += other.cpu_ms;
        self.memory_mib_ms += other.memory_mib_ms;
        self.gpu_ms += other.gpu_ms;
        self.wall_ms += other.wall_ms;
        self.cold_starts += other.cold_starts;
        self.template_starts += other.template_starts;
        self.snapshot_starts += other.snapshot_starts;
        self.failed_starts += other.failed_starts;
        self.inputs_succeeded += other.inputs_succeeded;
        self.inputs_failed += other.inputs_failed;
    }
}
