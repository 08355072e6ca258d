//! The CPU time of a thread.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Measures the CPU time that the calling thread takes from a moment on.
#[derive(Clone, Copy, Debug)]
pub struct ThreadCpuClock {
    started: Duration,
}

impl ThreadCpuClock {
    pub fn start() -> Self {
        Self { started: now() }
    }

    /// CPU time since the start; to be asked on the thread that started it.
    pub fn elapsed(&self) -> Duration {
        now().saturating_sub(self.started)
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
