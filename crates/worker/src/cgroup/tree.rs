//! A worker's tree of groups: found out, made, given out, and removed whatever happened to whoever
//! used it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corral_types::Timestamp;
use rustix::fs::FlockOperation;

use super::group::{Group, Places};
use super::{GroupVersion, Unavailable};
use crate::machine::{CgroupMounts, ControllerMount};
use crate::process_tree::kill_until_gone;

/// The top-level group; not below the group that this program was started in, whose limits
/// and life are someone else's.
const TOP_GROUP: &str = "corral";

/// How many groups are made ahead, so that a start does not wait for the kernel to make one.
const READY_GROUPS: usize = 2;

/// How often a busy group is tried to be removed, with waits from 1 ms doubling each time.
const REMOVE_ROUNDS: usize = 10;

/// This worker's tree of groups. Dropping it removes the groups.
pub struct GroupTree {
    version: GroupVersion,
    places: Places,
    /// Numbers from the time of opening on: a group that an earlier worker left, held by a
    /// process that nobody has reaped, does not take the name of a new one.
    next: AtomicU64,
    ready: Mutex<Vec<Group>>,
    /// Held as long as the tree is in use; who can take it knows that its worker is dead.
    _lock: fs::File,
}

impl GroupTree {
    /// Finds out whether groups with a memory limit can be made here and makes the tree
    /// `name`, without what an earlier worker left in it.
    ///
    /// # Errors
    /// Why not, and what would allow it.
    pub fn open(
        mounts: &CgroupMounts,
        version: GroupVersion,
        name: &str,
    ) -> Result<Self, Unavailable> {
        let mount = match version {
            GroupVersion::V1 => mount_v1(mounts)?,
            GroupVersion::V2 => mount_v2(mounts)?,
        };
        // A tree that is made and not locked yet looks abandoned to others that open theirs.
        let _opening = lock_top(mount).map_err(|error| top_unavailable(mount, &error))?;
        let places = match version {
            GroupVersion::V1 => open_v1(mount, mounts, name)?,
            GroupVersion::V2 => open_v2(mount, name)?,
        };
        let unproven = |path: &Path, error: io::Error| Unavailable {
            reason: format!("a group in {} does not take a memory limit: {error}", path.display()),
            setting: "run the worker as root on a host whose cgroup file system is writable".into(),
        };
        let lock = lock_tree(&places.memory).map_err(|error| unproven(&places.memory, error))?;
        remove_abandoned(&places);
        let (next, ready) = (AtomicU64::new(Timestamp::now().as_millis()), Mutex::default());
        let tree = Self { version, places, next, ready, _lock: lock };
        let proven = tree.make().and_then(|group| group.prove());
        proven.map_err(|error| unproven(&tree.places.memory, error))?;
        Ok(tree)
    }

    pub fn version(&self) -> GroupVersion {
        self.version
    }

    /// A group nobody uses yet, one made ahead where there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self) -> io::Result<Group> {
        let ready = self.ready().pop();
        ready.map_or_else(|| self.make(), Ok)
    }

    /// Makes groups ahead of use; blocks on the kernel for some milliseconds.
    pub fn refill(&self) {
        while self.ready().len() < READY_GROUPS {
            match self.make() {
                Ok(group) => self.ready().push(group),
                // The next start makes its own and reports what is wrong.
                Err(_) => return,
            }
        }
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Vec<Group>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> io::Result<Group> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let make = |parent: &PathBuf| {
            let path = parent.join(&name);
            match fs::create_dir(&path) {
                // Another controller of the same hierarchy was here first.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(path),
            }
        };
        let memory = make(&self.places.memory)?;
        // What the others do is a courtesy: without weights `nice` orders the processes.
        let other = |parent: &Option<PathBuf>| parent.as_ref().and_then(|parent| make(parent).ok());
        let places = Places {
            memory,
            cpu: other(&self.places.cpu),
            accounting: other(&self.places.accounting),
            pids: other(&self.places.pids),
            freezer: other(&self.places.freezer),
        };
        Ok(Group::new(self.version, places))
    }
}

impl Drop for GroupTree {
    fn drop(&mut self) {
        self.ready().clear();
        self.places.all().for_each(remove_tree);
        let _opening = self.places.memory.ancestors().nth(2).map(lock_top);
        for path in self.places.all() {
            if let Some(top) = path.parent() {
                // Other workers of this machine may still have theirs there.
                let _ = fs::remove_dir(top);
            }
        }
    }
}

fn mount_v1(mounts: &CgroupMounts) -> Result<&Path, Unavailable> {
    let mount = mounts.v1_memory.as_ref().ok_or_else(|| Unavailable {
        reason: "no cgroup v1 memory controller is mounted".into(),
        setting: "none needed where cgroup v2 has the memory controller".into(),
    })?;
    Ok(&mount.mount)
}

fn open_v1(mount: &Path, mounts: &CgroupMounts, name: &str) -> Result<Places, Unavailable> {
    let memory = make_tree(mount, name)?;
    let other = |found: &Option<ControllerMount>| {
        let mount = &found.as_ref()?.mount;
        let path = mount.join(TOP_GROUP).join(name);
        // Controllers may share a hierarchy, in which the tree has just been made.
        if path.exists() { Some(path) } else { make_tree(mount, name).ok() }
    };
    let all = [&mounts.v1_cpu, &mounts.v1_cpuacct, &mounts.v1_pids, &mounts.v1_freezer];
    // What a dead worker of the same name left.
    for found in all.into_iter().flatten() {
        let path = found.mount.join(TOP_GROUP).join(name);
        if path != memory {
            remove_tree(&path);
        }
    }
    Ok(Places {
        cpu: other(&mounts.v1_cpu),
        accounting: other(&mounts.v1_cpuacct),
        pids: other(&mounts.v1_pids),
        freezer: other(&mounts.v1_freezer),
        memory,
    })
}

fn mount_v2(mounts: &CgroupMounts) -> Result<&Path, Unavailable> {
    let mount = &mounts
        .v2
        .as_ref()
        .ok_or_else(|| Unavailable {
            reason: "no cgroup v2 tree is mounted".into(),
            setting: "mount -t cgroup2 none /sys/fs/cgroup".into(),
        })?
        .mount;
    if !lists(&mount.join("cgroup.controllers"), "memory") {
        return Err(Unavailable {
            reason: format!("the cgroup v2 tree {} has no memory controller", mount.display()),
            setting: "boot with systemd.unified_cgroup_hierarchy=1, or let cgroup v1 do it".into(),
        });
    }
    Ok(mount)
}

fn open_v2(mount: &Path, name: &str) -> Result<Places, Unavailable> {
    hand_down_controllers(mount)?;
    let memory = make_tree(mount, name)?;
    hand_down_controllers(&mount.join(TOP_GROUP))?;
    hand_down_controllers(&memory)?;
    Ok(Places { memory, cpu: None, accounting: None, pids: None, freezer: None })
}

/// Lets the groups below `group` use the memory controller, and those for the processor and
/// the number of processes where there are any.
fn hand_down_controllers(group: &Path) -> Result<(), Unavailable> {
    let file = group.join("cgroup.subtree_control");
    if !lists(&file, "memory") {
        fs::write(&file, "+memory").map_err(|error| Unavailable {
            reason: format!("write +memory to {}: {error}", file.display()),
            setting: "run the worker as root with the host's cgroup tree, or in a group that has \
                      no processes of its own (systemd: Delegate=yes and DelegateSubgroup=)"
                .into(),
        })?;
    }
    // A courtesy: without weights `nice` orders the processes.
    let _ = fs::write(&file, "+cpu");
    let _ = fs::write(&file, "+pids");
    Ok(())
}

fn lists(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|found| found == word))
}

fn make_tree(mount: &Path, name: &str) -> Result<PathBuf, Unavailable> {
    let path = mount.join(TOP_GROUP).join(name);
    remove_tree(&path);
    fs::create_dir_all(&path).map_err(|error| top_unavailable(mount, &error))?;
    Ok(path)
}

fn top_unavailable(mount: &Path, error: &io::Error) -> Unavailable {
    let top = mount.join(TOP_GROUP);
    Unavailable {
        reason: format!("make a group in {}: {error}", top.display()),
        setting: format!(
            "run the worker as root, or as root: mkdir -p {top} && chown {user} {top}",
            top = top.display(),
            user = rustix::process::getuid().as_raw(),
        ),
    }
}

/// Makes the top-level group and holds it: trees are opened by one worker at a time, and the
/// group stays meanwhile. Waits for whoever holds it.
fn lock_top(mount: &Path) -> io::Result<fs::File> {
    let top = mount.join(TOP_GROUP);
    loop {
        fs::create_dir_all(&top)?;
        let held = match fs::File::open(&top) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(&held, FlockOperation::LockExclusive))?;
        // The last worker to leave may have removed it while this one waited.
        let inode = |found: io::Result<fs::Metadata>| found.map(|metadata| metadata.ino()).ok();
        if inode(held.metadata()) == inode(fs::metadata(&top)) {
            return Ok(held);
        }
    }
}

fn lock_tree(path: &Path) -> io::Result<fs::File> {
    let tree = fs::File::open(path)?;
    rustix::fs::flock(&tree, FlockOperation::NonBlockingLockExclusive)?;
    Ok(tree)
}

/// Removes the trees beside `own` whose workers are dead and will not come back for them.
fn remove_abandoned(places: &Places) {
    let own = &places.memory;
    for sibling in
        own.parent().and_then(|top| fs::read_dir(top).ok()).into_iter().flatten().flatten()
    {
        let path = sibling.path();
        let is_tree = sibling.file_type().is_ok_and(|kind| kind.is_dir()) && path != *own;
        if is_tree && let Ok(_abandoned) = lock_tree(&path) {
            remove_tree(&path);
            for top in places.others().filter_map(Path::parent) {
                remove_tree(&top.join(sibling.file_name()));
            }
        }
    }
}

/// Kills what runs in the groups at and below `path` and removes them.
pub fn remove_tree(path: &Path) {
    for round in 0..REMOVE_ROUNDS {
        // Looked for anew each time: one may have been made ahead meanwhile.
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            }
        }
        kill_until_gone(|| processes_in(path));
        match fs::remove_dir(path) {
            // A group stays busy for a moment after its last process was reaped.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(1 << round));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(group = %path.display(), %error, "a group stays");
                return;
            }
            _ => return,
        }
    }
    tracing::warn!(group = %path.display(), "a group stays busy and is left");
}

pub fn processes_in(group: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use corral_types::MIB;

    use super::super::GroupLimits;
    use super::*;
    use crate::machine::read_number;

    /// A directory that looks like a version 2 tree; the kernel's own behaviour is tested
    /// where a machine has one.
    fn fake_v2(controllers: &str) -> (tempfile::TempDir, CgroupMounts) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        let mount = ControllerMount { mount: dir.path().into(), own_group: dir.path().into() };
        (dir, CgroupMounts { v2: Some(mount), ..CgroupMounts::default() })
    }

    fn limits(memory_limit_bytes: u64) -> GroupLimits {
        GroupLimits {
            memory_limit_bytes,
            cpu_weight: 200,
            milli_cpu_limit: Some(500),
            processes: Some(70),
        }
    }

    #[test]
    fn missing_controllers_are_explained() {
        let nothing = CgroupMounts::default();
        for version in [GroupVersion::V1, GroupVersion::V2] {
            let why = GroupTree::open(&nothing, version, "t").err().unwrap();
            assert!(!why.reason.is_empty() && !why.setting.is_empty());
        }
        let (_dir, mounts) = fake_v2("cpu io\n");
        let why = GroupTree::open(&mounts, GroupVersion::V2, "t").err().unwrap();
        assert!(why.reason.contains("no memory controller"));
    }

    #[test]
    fn version_2_writes_the_files_the_kernel_reads() {
        let (dir, mounts) = fake_v2("cpu memory pids\n");
        let tree = GroupTree::open(&mounts, GroupVersion::V2, "worker").unwrap();
        let group = tree.make().unwrap();
        group.set_limits(&limits(5 * MIB)).unwrap();
        let read = |name: &str| fs::read_to_string(group.places().memory.join(name)).unwrap();
        assert_eq!(read("memory.max"), (5 * MIB).to_string());
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("cpu.weight"), "20");
        assert_eq!((read("cpu.max").as_str(), read("pids.max").as_str()), ("50000 100000", "70"));
        let memory = &group.places().memory;
        fs::write(memory.join("memory.stat"), "anon 10\nfile 99\nshmem 5\n").unwrap();
        fs::write(memory.join("memory.events"), "oom 7\noom_kill 2\n").unwrap();
        assert_eq!((group.memory_bytes(), group.kills()), (15, 2));
        assert_eq!(group.membership_files(), [memory.join("cgroup.procs")]);
        assert!(memory.starts_with(dir.path().join("corral/worker")));
    }

    #[test]
    fn version_1_limits_hold_where_this_machine_has_it() {
        let mounts = CgroupMounts::of_this_process();
        let name = format!("test-{}", std::process::id());
        let tree = match GroupTree::open(&mounts, GroupVersion::V1, &name) {
            Ok(tree) => tree,
            Err(why) => return println!("skipped: no cgroup v1 here: {}", why.reason),
        };
        tree.refill();
        let group = tree.take().unwrap();
        group.set_limits(&limits(32 * MIB)).unwrap();
        group.set_limits(&limits(48 * MIB)).unwrap();
        let read = read_number(&group.places().memory.join("memory.limit_in_bytes"));
        assert_eq!(read, Some(48 * MIB));
        assert_eq!((group.memory_bytes(), group.kills()), (0, 0));
        let path = tree.places.memory.clone();
        // What a dead worker left is removed by whoever comes; what a living one has is not.
        let abandoned = path.with_file_name(format!("{name}-abandoned"));
        fs::create_dir_all(abandoned.join("1")).unwrap();
        let beside = GroupTree::open(&mounts, GroupVersion::V1, &format!("{name}-beside")).unwrap();
        assert!(!abandoned.exists() && path.exists());
        drop((group, tree, beside));
        assert!(!path.exists());
    }
}
