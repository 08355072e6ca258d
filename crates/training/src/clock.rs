//! The CPU time of a thread, and of the process.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

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

/// The CPU time of all threads of the process since it began.
pub fn process_cpu_time() -> Duration {
    as_duration(clock_gettime(ClockId::ProcessCPUTime))
}

fn now() -> Duration {
    as_duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn as_duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
