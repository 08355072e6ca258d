//! The file system of a container, from the inside: an overlay over its layers, what every
//! program expects below `/proc`, `/sys` and `/dev`, and what was bound in.
//!
//! Everything of this machine is opened before the root changes, and every path of the container
//! is looked up after it has: a link in an image leads nowhere else.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use corral_containers::Network;
use rustix::fs::{CWD, FileType};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::error::{Step, StepFailed};
use crate::trees::Trees;
use crate::{ContainerPlan, PlannedFile, Writable};

/// Where the layers are gathered before the root changes: a directory that every machine has
/// and nothing of the container is looked up below any more.
const STAGES: [&str; 3] = ["/tmp", "/mnt", "/run"];

/// What a container finds in its `/dev` of the machine's devices.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Of the kernel's own: read by nobody in a container.
const HIDDEN: [&str; 8] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sysrq-trigger",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/scsi",
    "/sys/firmware",
];

const READ_ONLY: [&str; 4] = ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq"];

/// Bounds on the small file systems that the kernel keeps in memory.
const DEV_BYTES: u64 = 64 << 10;
const STAGE_BYTES: u64 = 1 << 20;

/// Files of a writable layer in memory; each takes about a kilobyte that no size limit counts.
const MAX_FILES: u64 = 1 << 20;

/// What the container is told of the network: its names, or nothing.
#[derive(Debug)]
pub struct NameFiles {
    /// The text of `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// Makes the container's root and changes into it; this process is in a mount namespace of its
/// own. What `trees` holds is used up.
///
/// # Errors
/// The step that failed.
pub fn enter(plan: &ContainerPlan, trees: Trees, names: &NameFiles) -> Result<(), StepFailed> {
    let own = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", own).step(|| "take the mounts for its own".into())?;
    let devices: Vec<(&str, OwnedFd)> = DEVICES
        .into_iter()
        .filter_map(|name| Some((name, clone_of(&Path::new("/dev").join(name)).ok()?)))
        .collect();
    let mut trees = trees.0.into_iter();
    let layers: Vec<OwnedFd> = trees.by_ref().take(plan.lowers.len()).collect();
    let writable = match plan.writable {
        Writable::Directory { .. } => trees.next(),
        Writable::Memory { .. } => None,
    };
    stage()?;
    overlay(plan, &layers, writable.as_ref())?;
    let etc = etc_files(plan, names)?;
    drop((layers, writable));
    std::env::set_current_dir("root").step(|| "enter the root".into())?;
    rustix::process::pivot_root(".", ".").step(|| "change the root".into())?;
    kernel_file_systems(plan, devices)?;
    for (path, tree) in &etc {
        attach(tree, Path::new(path))?;
    }
    for (bind, tree) in plan.binds.iter().zip(trees) {
        attach(&tree, &bind.target)?;
    }
    rustix::mount::unmount(".", UnmountFlags::DETACH).step(|| "leave the old root".into())?;
    std::env::set_current_dir("/").step(|| "go to the root".into())?;
    for file in &plan.files {
        write_file(file).step(|| format!("write {}", file.path.display()))?;
    }
    make_directory(Path::new("/tmp"), 0o1777).step(|| "make /tmp".into())?;
    fs::create_dir_all(&plan.working_directory)
        .step(|| format!("make {}", plan.working_directory.display()))
}

/// A small file system in memory over a directory that is not needed any more.
fn stage() -> Result<(), StepFailed> {
    let place = STAGES.into_iter().find(|path| Path::new(path).is_dir()).unwrap_or("/");
    mount_memory(place, 0o700, STAGE_BYTES, 1024)?;
    std::env::set_current_dir(place).step(|| format!("enter {place}"))
}

fn overlay(
    plan: &ContainerPlan,
    layers: &[OwnedFd],
    writable: Option<&OwnedFd>,
) -> Result<(), StepFailed> {
    let mut names = Vec::with_capacity(layers.len().max(1));
    for (index, layer) in layers.iter().enumerate() {
        let name = format!("{index}");
        fs::create_dir(&name).step(|| format!("make a place for layer {index}"))?;
        attach(layer, Path::new(&name))?;
        names.push(name);
    }
    if names.is_empty() {
        fs::create_dir("empty").step(|| "make an empty layer".into())?;
        names.push("empty".into());
    }
    let make = |name: &str| fs::create_dir(name).step(|| format!("make {name}"));
    make("w")?;
    match (writable, &plan.writable) {
        (Some(tree), _) => {
            attach(tree, Path::new("w"))?;
            forget_last_use()?;
        }
        (None, Writable::Memory { bytes }) => {
            mount_memory("w", 0o755, *bytes, MAX_FILES)?;
            make("w/upper")?;
            make("w/work")?;
        }
        (None, Writable::Directory { path }) => {
            return Err(io::Error::other("it was not handed over"))
                .step(|| format!("use {}", path.display()));
        }
    }
    make("root")?;
    // Nothing has to outlive a power failure here: a build makes its layer durable itself.
    let options =
        format!("lowerdir={},upperdir=w/upper,workdir=w/work,userxattr,volatile", names.join(":"));
    let options = CString::new(options).expect("the names have no zero bytes");
    rustix::mount::mount("corral", "root", "overlay", MountFlags::empty(), options.as_c_str())
        .step(|| format!("lay {} layers over one another", names.len()))
}

/// The kernel marks a directory that was written without syncing, and refuses to lay it over layers
/// again, lest a power failure tore it. One that is handed over was whole when its last container
/// ended: whoever finds one after a power failure removes it.
fn forget_last_use() -> Result<(), StepFailed> {
    match fs::remove_dir_all("w/work/work/incompat") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).step(|| "forget that the writable directory was used before".into())
        }
        _ => Ok(()),
    }
}

/// The files by which programs find names, as mounts: an image keeps its own.
fn etc_files(
    plan: &ContainerPlan,
    names: &NameFiles,
) -> Result<Vec<(&'static str, OwnedFd)>, StepFailed> {
    let host = &plan.hostname;
    let mut files = vec![
        ("/etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {host}\n")),
        ("/etc/hostname", format!("{host}\n")),
    ];
    if plan.network == Network::Outbound {
        files.push(("/etc/resolv.conf", names.resolv_conf.clone()));
    }
    let place = |(path, text): (&'static str, String)| {
        let name = path.rsplit('/').next().unwrap_or(path);
        fs::write(name, text)
            .and_then(|()| fs::set_permissions(name, fs::Permissions::from_mode(0o644)))
            .and_then(|()| clone_of(Path::new(name)))
            .map(|tree| (path, tree))
            .step(|| format!("make {path}"))
    };
    files.into_iter().map(place).collect()
}

fn kernel_file_systems(
    plan: &ContainerPlan,
    devices: Vec<(&'static str, OwnedFd)>,
) -> Result<(), StepFailed> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let directory =
        |path: &str| make_directory(Path::new(path), 0o755).step(|| format!("make {path}"));
    directory("/proc")?;
    rustix::mount::mount("proc", "/proc", "proc", quiet, None).step(|| {
        "mount /proc (a container around this program that hides parts of its own /proc keeps \
         the kernel from giving out another)"
            .into()
    })?;
    directory("/sys")?;
    // Of use to programs that look at the processor; without it they guess.
    let _ = rustix::mount::mount("sysfs", "/sys", "sysfs", quiet | MountFlags::RDONLY, None);
    directory("/dev")?;
    mount_memory("/dev", 0o755, DEV_BYTES, 1024)?;
    for (name, tree) in devices {
        attach(&tree, &Path::new("/dev").join(name))?;
    }
    for (target, link) in DEVICE_LINKS {
        symlink(target, link).step(|| format!("make {link}"))?;
    }
    directory("/dev/pts")?;
    let terminals = |options: &'static std::ffi::CStr| {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        rustix::mount::mount("devpts", "/dev/pts", "devpts", flags, options)
    };
    // An ordinary user's container has no group of terminals.
    terminals(c"newinstance,ptmxmode=0666,mode=0620,gid=5")
        .or_else(|_| terminals(c"newinstance,ptmxmode=0666,mode=0620"))
        .step(|| "mount /dev/pts".into())?;
    directory("/dev/shm")?;
    mount_memory("/dev/shm", 0o1777, plan.limits.memory_limit_bytes, MAX_FILES)?;
    for path in HIDDEN {
        hide(Path::new(path)).step(|| format!("hide {path}"))?;
    }
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        let bound = rustix::mount::mount_bind(path, path).and_then(|()| {
            let flags = quiet | MountFlags::RDONLY | MountFlags::BIND;
            rustix::mount::mount_remount(path, flags, "")
        });
        bound.step(|| format!("make {path} read-only"))?;
    }
    Ok(())
}

fn hide(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            Ok(rustix::mount::mount("none", path, "tmpfs", flags, c"size=0,nr_inodes=2")?)
        }
        Ok(_) => Ok(rustix::mount::mount_bind("/dev/null", path)?),
    }
}

fn mount_memory(path: &str, mode: u32, bytes: u64, files: u64) -> Result<(), StepFailed> {
    // Sizes are rounded up to whole pages, and none at all would mean no limit.
    let options = format!("mode={mode:o},size={},nr_inodes={files}", bytes.max(1));
    let options = CString::new(options).expect("numbers have no zero bytes");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("corral", path, "tmpfs", flags, options.as_c_str())
        .step(|| format!("mount {bytes} bytes of memory at {path}"))
}

fn clone_of(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// Attaches a mount at a place, which is made if it is missing: a directory for one, an empty
/// file for anything else.
fn attach(tree: &OwnedFd, target: &Path) -> Result<(), StepFailed> {
    let what = || format!("place something at {}", target.display());
    let kind = rustix::fs::fstat(tree).map(|stat| FileType::from_raw_mode(stat.st_mode));
    make_place(target, kind.step(what)?).step(what)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    rustix::mount::move_mount(tree.as_fd(), "", CWD, target, flags).step(what)
}

fn make_place(target: &Path, kind: FileType) -> io::Result<()> {
    if kind == FileType::Directory {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a planned file, whatever was there.
///
/// # Errors
/// When the container's file system refuses it.
pub fn write_file(file: &PlannedFile) -> io::Result<()> {
    let path: PathBuf = file.path.clone();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut opened = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(file.mode)
        .open(&path)?;
    opened.write_all(&file.bytes)?;
    opened.set_permissions(fs::Permissions::from_mode(file.mode))
}
