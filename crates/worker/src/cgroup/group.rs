//! The group of one attempt or container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use corral_types::MIB;
use corral_worker_api::Limits;

use super::GroupVersion;
use super::tree::{processes_in, remove_tree};
use crate::machine::{read_field, read_number};

/// Over which the kernel measures a limit on the processor's time, in microseconds: its default.
const CPU_PERIOD_US: u64 = 100_000;

/// Where a group is. Version 1 has a hierarchy for each controller, though some may be one;
/// version 2 has a single one, named as that of memory.
#[derive(Clone, Debug)]
pub struct Places {
    pub memory: PathBuf,
    pub cpu: Option<PathBuf>,
    pub accounting: Option<PathBuf>,
    pub pids: Option<PathBuf>,
    pub freezer: Option<PathBuf>,
}

impl Places {
    /// Each directory once.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.memory.as_path()).chain(self.others())
    }

    /// Each directory that is not that of memory, once.
    pub fn others(&self) -> impl Iterator<Item = &Path> {
        let mut paths = [&self.cpu, &self.accounting, &self.pids, &self.freezer]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .filter(|path| *path != self.memory)
            .collect::<Vec<_>>();
        paths.sort_unstable();
        paths.dedup();
        paths.into_iter()
    }
}

/// What a group may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    pub memory_limit_bytes: u64,
    /// Against that of other groups; 1,000 is a call's.
    pub cpu_weight: u32,
    /// Thousandths of a core that it may not pass.
    pub milli_cpu_limit: Option<u32>,
    /// Processes and threads.
    pub processes: Option<u32>,
}

impl From<&Limits> for GroupLimits {
    /// Of an attempt of a job.
    fn from(limits: &Limits) -> Self {
        Self {
            memory_limit_bytes: limits.memory_limit_bytes,
            cpu_weight: limits.cpu_weight,
            milli_cpu_limit: None,
            processes: None,
        }
    }
}

impl From<&corral_containers::Limits> for GroupLimits {
    /// Of a container, which is weighed by the cores that it asked for.
    fn from(limits: &corral_containers::Limits) -> Self {
        Self {
            memory_limit_bytes: limits.memory_limit_bytes,
            cpu_weight: limits.milli_cpu,
            milli_cpu_limit: limits.milli_cpu_limit,
            processes: Some(limits.processes),
        }
    }
}

/// See the module. Dropping it kills what is in it and removes it.
pub struct Group {
    version: GroupVersion,
    places: Places,
    frozen: AtomicBool,
}

impl Group {
    pub(super) fn new(version: GroupVersion, places: Places) -> Self {
        Self { version, places, frozen: AtomicBool::new(false) }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The files into which a process writes to join.
    pub fn membership_files(&self) -> Vec<PathBuf> {
        self.places.all().map(|group| group.join("cgroup.procs")).collect()
    }

    /// Takes a process in, with those that it forks from now on.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn add(&self, process_id: u32) -> io::Result<()> {
        let join = |file: &PathBuf| fs::write(file, process_id.to_string());
        self.membership_files().iter().try_for_each(join)
    }

    /// Whether the kernel shares out the processor by the group's weight.
    pub fn has_cpu_weight(&self) -> bool {
        match self.version {
            GroupVersion::V1 => self.places.cpu.is_some(),
            GroupVersion::V2 => self.places.memory.join("cpu.weight").exists(),
        }
    }

    /// Puts the limits in place, also while processes run.
    ///
    /// # Errors
    /// When the kernel refuses, as version 1 does for a limit below what is held.
    pub fn set_limits(&self, limits: &GroupLimits) -> io::Result<()> {
        let bytes = limits.memory_limit_bytes.to_string();
        let write = |name: &str, value: &str| fs::write(self.places.memory.join(name), value);
        match self.version {
            GroupVersion::V1 => {
                // Memory and swap together may never be under memory alone: out of the way first.
                let swap = "memory.memsw.limit_in_bytes";
                let _ = write(swap, "-1");
                write("memory.limit_in_bytes", &bytes)?;
                let _ = write(swap, &bytes);
            }
            GroupVersion::V2 => {
                write("memory.max", &bytes)?;
                let _ = write("memory.swap.max", "0");
                let _ = write("memory.oom.group", "1");
            }
        }
        self.share_processor(limits);
        let processes = limits.processes.map_or("max".into(), |count| count.to_string());
        match (&self.places.pids, self.version) {
            (Some(pids), _) => fs::write(pids.join("pids.max"), processes),
            // Where nothing counts processes, their user's limit holds.
            (None, GroupVersion::V2) => {
                let _ = write("pids.max", &processes);
                Ok(())
            }
            (None, GroupVersion::V1) => Ok(()),
        }
    }

    /// Without weights the processes are ordered by `nice`, and nothing limits them.
    fn share_processor(&self, limits: &GroupLimits) {
        let quota = |milli: u32| u64::from(milli) * CPU_PERIOD_US / 1000;
        if let Some(cpu) = &self.places.cpu {
            let shares = (u64::from(limits.cpu_weight) * 1024 / 1000).clamp(2, 262_144);
            let _ = fs::write(cpu.join("cpu.shares"), shares.to_string());
            let limit =
                limits.milli_cpu_limit.map_or("-1".into(), |milli| quota(milli).to_string());
            let _ = fs::write(cpu.join("cpu.cfs_quota_us"), limit);
        } else if self.version == GroupVersion::V2 {
            let write = |name: &str, value: String| fs::write(self.places.memory.join(name), value);
            let _ = write("cpu.weight", (limits.cpu_weight / 10).clamp(1, 10_000).to_string());
            if let Some(milli) = limits.milli_cpu_limit {
                let _ = write("cpu.max", format!("{} {CPU_PERIOD_US}", quota(milli)));
            }
        }
    }

    /// Stops everything in the group where it is. Nothing of it can end before it is thawed.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn freeze(&self) -> io::Result<()> {
        self.frozen.store(true, Ordering::Relaxed);
        self.set_frozen("FROZEN", "1")
    }

    /// Lets everything go on; does nothing to what is not frozen.
    pub fn thaw(&self) {
        if self.frozen.swap(false, Ordering::Relaxed)
            && let Err(error) = self.set_frozen("THAWED", "0")
        {
            tracing::warn!(%error, group = %self.places.memory.display(), "a group stays frozen");
        }
    }

    fn set_frozen(&self, v1: &str, v2: &str) -> io::Result<()> {
        match (&self.places.freezer, self.version) {
            (Some(freezer), _) => fs::write(freezer.join("freezer.state"), v1),
            (None, GroupVersion::V2) => fs::write(self.places.memory.join("cgroup.freeze"), v2),
            (None, GroupVersion::V1) => Err(io::Error::other("no freezer is mounted")),
        }
    }

    /// Processor time of everything that was ever in the group; none where nothing counts it.
    pub fn cpu_ms(&self) -> Option<u64> {
        match (&self.places.accounting, self.version) {
            (Some(accounting), _) => {
                read_number(&accounting.join("cpuacct.usage")).map(|ns| ns / 1_000_000)
            }
            (None, GroupVersion::V2) => {
                read_field(&self.places.memory.join("cpu.stat"), "usage_usec").map(|us| us / 1000)
            }
            (None, GroupVersion::V1) => None,
        }
    }

    /// Anonymous and shared memory of all processes in the group.
    pub fn memory_bytes(&self) -> u64 {
        let stat = self.places.memory.join("memory.stat");
        let names = match self.version {
            GroupVersion::V1 => ["total_rss", "total_shmem"],
            GroupVersion::V2 => ["anon", "shmem"],
        };
        names.into_iter().filter_map(|name| read_field(&stat, name)).sum()
    }

    /// The most the group ever held, file cache included; the limit at most.
    pub fn peak_bytes(&self) -> u64 {
        let name = match self.version {
            GroupVersion::V1 => "memory.max_usage_in_bytes",
            GroupVersion::V2 => "memory.peak",
        };
        read_number(&self.places.memory.join(name)).unwrap_or(0)
    }

    /// How often the kernel killed in this group for want of memory.
    pub fn kills(&self) -> u64 {
        let name = match self.version {
            GroupVersion::V1 => "memory.oom_control",
            GroupVersion::V2 => "memory.events",
        };
        read_field(&self.places.memory.join(name), "oom_kill").unwrap_or(0)
    }

    pub fn processes(&self) -> Vec<i32> {
        processes_in(&self.places.memory)
    }

    /// Sets a limit and reads it back.
    pub(super) fn prove(&self) -> io::Result<()> {
        let name = match self.version {
            GroupVersion::V1 => "memory.limit_in_bytes",
            GroupVersion::V2 => "memory.max",
        };
        let file = self.places.memory.join(name);
        fs::write(&file, (64 * MIB).to_string())?;
        match read_number(&file) {
            Some(bytes) if bytes == 64 * MIB => Ok(()),
            other => Err(io::Error::other(format!("the limit reads back as {other:?}"))),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.thaw();
        self.places.all().for_each(remove_tree);
    }
}
