//! Progress as one fraction over phases of expected length.

use std::time::Instant;

use serde_json::{Value, json};

use crate::memory::resident_memory_bytes;
use crate::observer::Observer;

/// Tells an observer how far a run is, by the time its phases are expected to take.
pub struct Progress<'a> {
    observer: &'a dyn Observer,
    /// Where each phase begins, of 1, and the end.
    starts: Vec<f32>,
    started: Instant,
}

impl<'a> Progress<'a> {
    pub fn new(observer: &'a dyn Observer, phase_seconds: &[f64], started: Instant) -> Self {
        let total: f64 = phase_seconds.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let mut starts = vec![0.0];
        let mut sum = 0.0;
        for seconds in phase_seconds {
            sum += seconds;
            starts.push((sum / total) as f32);
        }
        Self { observer, starts, started }
    }

    /// `fraction` of a phase is done. Seconds gone and left are added to `detail`, and the memory
    /// that the process takes.
    pub fn within(&self, phase: usize, fraction: f32, message: &str, mut detail: Value) {
        let (start, end) = (self.starts[phase], self.starts[phase + 1]);
        let overall = (start + (end - start) * fraction).clamp(0.0, 1.0);
        let gone = self.started.elapsed().as_secs_f32();
        detail["seconds"] = json!(gone);
        if overall > 0.0 {
            detail["seconds_left"] = json!(gone / overall * (1.0 - overall));
        }
        if let Some(bytes) = resident_memory_bytes() {
            detail["memory_bytes"] = json!(bytes);
        }
        self.observer.progress(overall, message, detail);
    }
}
