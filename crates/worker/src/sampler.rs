//! The thread that measures what attempts take, and notices when one passes its limit.
//!
//! Where groups hold the limit, the kernel stops an attempt and this thread hears of it and
//! supplies the numbers; elsewhere this thread is the watchdog itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_types::AttemptId;
use corral_worker_api::AttemptUsage;
use tokio_util::sync::CancellationToken;

use crate::cgroup::Group;
use crate::process_tree::{
    attempt_directory_of, list_processes, members, read_process, read_resident_memory,
};

/// How often memory is measured. A process that touches 2 GiB a second is 100 MiB past its
/// limit when it is noticed; reading one process takes 20 µs.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// After how many samples the whole process table is read for new descendants, which takes
/// a millisecond or more.
const SAMPLES_PER_SCAN: u64 = 10;

/// An attempt under watch.
pub struct Watched {
    attempt: AttemptId,
    root: i32,
    attempt_directory: std::path::PathBuf,
    group: Option<Arc<Group>>,
    memory_limit_bytes: AtomicU64,
    memory_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    cpu_ms: AtomicU64,
    exceeded: CancellationToken,
    members: Mutex<Vec<i32>>,
}

impl Watched {
    pub fn new(
        attempt: AttemptId,
        root: u32,
        attempt_directory: std::path::PathBuf,
        group: Option<Arc<Group>>,
        memory_limit_bytes: u64,
    ) -> Self {
        Self {
            attempt,
            root: root as i32,
            attempt_directory,
            group,
            memory_limit_bytes: memory_limit_bytes.into(),
            memory_bytes: 0.into(),
            peak_bytes: 0.into(),
            cpu_ms: 0.into(),
            exceeded: CancellationToken::new(),
            members: Mutex::new(vec![root as i32]),
        }
    }

    /// Cancelled once the attempt has passed its limit.
    pub fn exceeded(&self) -> &CancellationToken {
        &self.exceeded
    }

    pub fn set_memory_limit(&self, bytes: u64) {
        self.memory_limit_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The most that was measured.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    pub fn usage(&self) -> AttemptUsage {
        AttemptUsage {
            attempt: self.attempt,
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            cpu_ms: self.cpu_ms.load(Ordering::Relaxed),
        }
    }

    /// Measures now.
    pub fn measure(&self) {
        let members = self.group.as_ref().map_or_else(
            || self.members.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            |group| group.processes(),
        );
        let bytes = match &self.group {
            Some(group) => group.memory_bytes(),
            None => members
                .iter()
                .filter_map(|id| read_resident_memory(*id))
                .map(|memory| memory.total_bytes())
                .sum(),
        };
        let ticks: u64 =
            members.iter().filter_map(|id| read_process(*id)).map(|p| p.cpu_ticks).sum();
        // Processes that ended take their time with them; what was used stays used.
        self.cpu_ms.fetch_max(ticks * 1000 / ticks_per_second(), Ordering::Relaxed);
        self.memory_bytes.store(bytes, Ordering::Relaxed);
        self.peak_bytes.fetch_max(bytes, Ordering::Relaxed);
        let over = bytes > self.memory_limit_bytes.load(Ordering::Relaxed);
        if over || self.group.as_ref().is_some_and(|group| group.kills() > 0) {
            self.exceeded.cancel();
        }
    }
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

/// The attempts under watch, and the thread's right to go on: it ends when this is dropped.
#[derive(Clone, Default)]
pub struct Sampler {
    watched: Arc<Mutex<HashMap<AttemptId, Arc<Watched>>>>,
}

impl Sampler {
    /// Starts the thread. Orphans are looked for among the children of `reaper`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(reaper: u32) -> std::io::Result<Self> {
        let sampler = Self::default();
        let watched = Arc::downgrade(&sampler.watched);
        let run = move || {
            let mut sample = 0u64;
            while let Some(watched) = watched.upgrade() {
                let attempts: Vec<Arc<Watched>> = lock(&watched).values().cloned().collect();
                drop(watched);
                if sample.is_multiple_of(SAMPLES_PER_SCAN) {
                    find_members(&attempts, reaper as i32);
                }
                attempts.iter().for_each(|attempt| attempt.measure());
                sample += 1;
                std::thread::sleep(SAMPLE_EVERY);
            }
        };
        std::thread::Builder::new().name("sampler".into()).spawn(run)?;
        Ok(sampler)
    }

    pub fn watch(&self, watched: Arc<Watched>) {
        watched.measure();
        lock(&self.watched).insert(watched.attempt, watched);
    }

    pub fn forget(&self, attempt: AttemptId) {
        lock(&self.watched).remove(&attempt);
    }

    /// What every attempt takes at the moment.
    pub fn usage(&self) -> Vec<AttemptUsage> {
        lock(&self.watched).values().map(|watched| watched.usage()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find_members(attempts: &[Arc<Watched>], reaper: i32) {
    // Groups list their own members.
    if attempts.iter().all(|attempt| attempt.group.is_some()) {
        return;
    }
    let all = list_processes();
    for attempt in attempts {
        let found = members(&all, attempt.root, reaper, |id| {
            attempt_directory_of(id).is_some_and(|dir| dir == attempt.attempt_directory)
        });
        *lock(&attempt.members) = found;
    }
}
