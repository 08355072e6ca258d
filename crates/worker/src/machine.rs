//! What this machine, or the container this program runs in, has and has left.

use std::fs;
use std::path::{Path, PathBuf};

use corral_types::MIB;

/// Where a cgroup controller is mounted and which group this process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerMount {
    pub mount: PathBuf,
    /// This process's own group, as a directory below the mount.
    pub own_group: PathBuf,
}

/// The cgroup hierarchies that this process can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupMounts {
    pub v2: Option<ControllerMount>,
    pub v1_memory: Option<ControllerMount>,
    pub v1_cpu: Option<ControllerMount>,
    pub v1_cpuacct: Option<ControllerMount>,
    pub v1_pids: Option<ControllerMount>,
    pub v1_freezer: Option<ControllerMount>,
}

impl CgroupMounts {
    /// As the kernel tells this process.
    pub fn of_this_process() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    /// From the texts of `mountinfo` and `cgroup` in `/proc/self`.
    pub fn parse(mountinfo: &str, membership: &str) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let before: Vec<&str> = before.split(' ').collect();
            let after: Vec<&str> = after.split(' ').collect();
            let ([_, _, _, root, mount, ..], [kind, _, options, ..]) = (&before[..], &after[..])
            else {
                continue;
            };
            let found = |controller: &str| {
                own_group(membership, controller).map(|group| {
                    let group = Path::new(group);
                    // In a container the mount shows only the tree below the container's group.
                    let below = group.strip_prefix(unescape(root)).unwrap_or(Path::new(""));
                    let below = below.strip_prefix("/").unwrap_or(below);
                    let mount = unescape(mount);
                    ControllerMount { own_group: mount.join(below), mount }
                })
            };
            match *kind {
                "cgroup2" => mounts.v2 = mounts.v2.or_else(|| found("")),
                "cgroup" => {
                    let controllers = [
                        ("memory", &mut mounts.v1_memory),
                        ("cpu", &mut mounts.v1_cpu),
                        ("cpuacct", &mut mounts.v1_cpuacct),
                        ("pids", &mut mounts.v1_pids),
                        ("freezer", &mut mounts.v1_freezer),
                    ];
                    for (controller, place) in controllers {
                        if place.is_none() && options.split(',').any(|option| option == controller)
                        {
                            *place = found(controller);
                        }
                    }
                }
                _ => {}
            }
        }
        mounts
    }
}

/// The path of this process's group in the hierarchy of `controller`; v2 has no name.
fn own_group<'a>(membership: &'a str, controller: &str) -> Option<&'a str> {
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

/// `mountinfo` writes spaces and backslashes in paths as `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if first == b'\\' => {
                bytes.push(code);
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// A memory limit that a cgroup puts on this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    pub limit_bytes: u64,
    /// What the group holds now, without file cache that could be dropped.
    pub held_bytes: u64,
}

/// The limits on this process's memory in all hierarchies, from its group up to the mount.
pub fn memory_bounds(mounts: &CgroupMounts) -> Vec<MemoryBound> {
    let v2 = mounts.v2.iter().flat_map(|mount| {
        groups_upwards(mount)
            .filter_map(|group| bound(&group, "memory.max", "memory.current", "inactive_file"))
    });
    let v1 = mounts.v1_memory.iter().flat_map(|mount| {
        groups_upwards(mount).filter_map(|group| {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
            bound(&group, names[0], names[1], names[2])
        })
    });
    v2.chain(v1).collect()
}

/// v1 writes "no limit" as the largest number of whole pages.
const UNLIMITED_FROM_BYTES: u64 = 1 << 60;

fn bound(group: &Path, limit: &str, held: &str, cache: &str) -> Option<MemoryBound> {
    let limit_bytes = read_number(&group.join(limit))?;
    let held_bytes = read_number(&group.join(held)).unwrap_or(0);
    let cache_bytes = read_field(&group.join("memory.stat"), cache).unwrap_or(0);
    (limit_bytes < UNLIMITED_FROM_BYTES)
        .then(|| MemoryBound { limit_bytes, held_bytes: held_bytes.saturating_sub(cache_bytes) })
}

fn groups_upwards(mount: &ControllerMount) -> impl Iterator<Item = PathBuf> + '_ {
    let within = |path: &&Path| path.starts_with(&mount.mount);
    mount.own_group.ancestors().take_while(within).map(Path::to_owned)
}

/// A file that holds one number; none when it is missing or says `max`.
pub fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `name` in a file of one `name number` a line.
pub fn read_field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Memory of the machine, in bytes: all of it, and what could be given without swapping.
fn machine_memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    let total = field("MemTotal:").unwrap_or(0) * 1024;
    (total, field("MemAvailable:").unwrap_or(0) * 1024)
}

/// The memory this process may count on: the machine's, or the smallest limit on it.
pub fn total_memory_bytes(mounts: &CgroupMounts) -> u64 {
    let limits = memory_bounds(mounts).into_iter().map(|bound| bound.limit_bytes);
    limits.fold(machine_memory().0, u64::min)
}

/// What the machine, or the tightest group, could still give.
pub fn free_memory_bytes(mounts: &CgroupMounts) -> u64 {
    let left = memory_bounds(mounts).into_iter();
    let left = left.map(|bound| bound.limit_bytes.saturating_sub(bound.held_bytes));
    left.fold(machine_memory().1, u64::min)
}

/// Thousandths of a core that this process may use: its affinity, and the quota of its groups.
pub fn milli_cpu(mounts: &CgroupMounts) -> u32 {
    let cores = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().max(1));
    let v2 = mounts.v2.iter().flat_map(groups_upwards).filter_map(|group| {
        let text = fs::read_to_string(group.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        Some((quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?))
    });
    let v1 = mounts.v1_cpu.iter().flat_map(groups_upwards).filter_map(|group| {
        let quota = read_number(&group.join("cpu.cfs_quota_us"))?;
        Some((quota, read_number(&group.join("cpu.cfs_period_us"))?))
    });
    let quotas = v2.chain(v1).filter(|(_, period)| *period > 0);
    let least = quotas.map(|(quota, period)| quota.saturating_mul(1000) / period).min();
    let affinity = u64::from(cores) * 1000;
    least.map_or(affinity, |quota| quota.clamp(1, affinity)).min(u32::MAX.into()) as u32
}

/// Free space for this user on the disk that holds `path`.
pub fn free_disk_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What is kept back where nothing else was asked for: a sixteenth of the memory, at least
/// 512 MiB and at most 4 GiB, for the system, the file cache and the worker itself; never
/// more than a quarter, so that a small machine still does something.
pub fn default_reserve_bytes(memory_bytes: u64) -> u64 {
    (memory_bytes / 16).clamp(512 * MIB, 4096 * MIB).min(memory_bytes / 4)
}

/// The machine's name, for people.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid_hosts_have_both_versions() {
        let membership = "4:memory:/a/b\n3:cpu,cpuacct:/c\n0::/\n";
        let mounts = CgroupMounts::parse(HYBRID, membership);
        let memory = mounts.v1_memory.unwrap();
        assert_eq!(memory.own_group, Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(mounts.v1_cpu.unwrap().mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(mounts.v2.unwrap().own_group, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn containers_see_their_own_part_of_the_tree() {
        let mountinfo = "40 30 0:27 /docker/abc /sys/fs/cg\\040roup rw - cgroup2 cgroup rw\n";
        let mounts = CgroupMounts::parse(mountinfo, "0::/docker/abc/init\n");
        let v2 = mounts.v2.unwrap();
        assert_eq!(v2.own_group, Path::new("/sys/fs/cg roup/init"));
        let elsewhere = CgroupMounts::parse(mountinfo, "0::/\n").v2.unwrap();
        assert_eq!(elsewhere.own_group, elsewhere.mount);
        assert_eq!(CgroupMounts::parse("nonsense - x\n", ""), CgroupMounts::default());
    }

    #[test]
    fn the_tightest_group_counts() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        let write = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
        write("outer/memory.max", "1000000\n");
        write("outer/memory.current", "700000\n");
        write("outer/memory.stat", "anon 1\ninactive_file 200000\nfile 5\n");
        write("outer/cpu.max", "150000 100000\n");
        write("outer/inner/memory.max", "max\n");
        write("outer/inner/cpu.max", "max 100000\n");
        let mount = ControllerMount { mount: dir.path().to_owned(), own_group: inner };
        let mounts = CgroupMounts { v2: Some(mount), ..CgroupMounts::default() };
        assert_eq!(total_memory_bytes(&mounts), 1_000_000);
        assert_eq!(free_memory_bytes(&mounts), 500_000);
        assert!(milli_cpu(&mounts) <= 1500);
    }

    #[test]
    fn this_machine_has_something_to_offer() {
        let mounts = CgroupMounts::of_this_process();
        let total = total_memory_bytes(&mounts);
        assert!(total > 64 * MIB && free_memory_bytes(&mounts) <= total);
        assert!(milli_cpu(&mounts) >= 1);
        assert!(free_disk_bytes(Path::new("/")) > 0);
        assert!(default_reserve_bytes(total) <= total / 4);
        assert_eq!(default_reserve_bytes(24 << 30), 1536 * MIB);
    }
}
