//! What a worker would find on this machine, for `corral doctor`.

use std::path::{Path, PathBuf};

use crate::enforcement::{EnforcementFinding, find_enforcement};
use crate::machine::{self, CgroupMounts, MemoryBound};

/// What a worker would find on this machine.
#[derive(Clone, Debug)]
pub struct WorkerInspection {
    /// Every kind of enforcement, strongest first, with what keeps it from working here.
    pub enforcement: Vec<EnforcementFinding>,
    /// Memory of the machine or of the tightest limit on this process.
    pub memory_bytes: u64,
    /// What could be given now.
    pub free_memory_bytes: u64,
    /// What a worker keeps back unless told otherwise.
    pub reserve_bytes: u64,
    /// The limits that cgroups put on this process.
    pub memory_bounds: Vec<MemoryBound>,
    pub milli_cpu: u32,
    /// Where the kernel's cgroup hierarchies are mounted: what each is, and where.
    pub cgroup_mounts: Vec<(&'static str, PathBuf)>,
    /// Free space on the disk of the data directory.
    pub free_disk_bytes: u64,
    pub host_name: String,
}

/// Looks at this machine, and tries what it can enforce: makes and removes a cgroup where
/// that is possible. `data_dir` may not exist yet.
pub fn inspect(data_dir: &Path) -> WorkerInspection {
    let mounts = CgroupMounts::of_this_process();
    let memory_bytes = machine::total_memory_bytes(&mounts);
    let named = [
        ("cgroup v2", &mounts.v2),
        ("cgroup v1, memory", &mounts.v1_memory),
        ("cgroup v1, cpu", &mounts.v1_cpu),
        ("cgroup v1, cpuacct", &mounts.v1_cpuacct),
        ("cgroup v1, pids", &mounts.v1_pids),
        ("cgroup v1, freezer", &mounts.v1_freezer),
    ];
    let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    WorkerInspection {
        enforcement: find_enforcement(&mounts),
        memory_bytes,
        free_memory_bytes: machine::free_memory_bytes(&mounts),
        reserve_bytes: machine::default_reserve_bytes(memory_bytes),
        memory_bounds: machine::memory_bounds(&mounts),
        milli_cpu: machine::milli_cpu(&mounts),
        cgroup_mounts: named
            .into_iter()
            .filter_map(|(name, mount)| Some((name, mount.as_ref()?.mount.clone())))
            .collect(),
        free_disk_bytes: machine::free_disk_bytes(existing),
        host_name: machine::host_name(),
    }
}

#[cfg(test)]
mod tests {
    use corral_worker_api::Enforcement;

    use super::*;

    #[test]
    fn the_inspection_is_complete() {
        let found = inspect(Path::new("/nonexistent/data"));
        assert!(found.memory_bytes > found.reserve_bytes);
        assert!(found.free_disk_bytes > 0 && found.milli_cpu > 0);
        let kinds: Vec<Enforcement> = found.enforcement.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, [Enforcement::CgroupV2, Enforcement::CgroupV1, Enforcement::Watchdog]);
    }
}
