//! The kernel's calls that have no safe wrapper, each as one small function.
//!
//! All of it belongs to starting and holding processes: making one in new namespaces, moving
//! into namespaces, shifting the ids of a mount, filtering system calls, giving up ids.
#![expect(
    unsafe_code,
    reason = "clone3, setns, mount_setattr, seccomp, setresuid and execve have no safe wrapper"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// One instruction of a system call filter, as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterInstruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

#[repr(C)]
struct FilterProgram {
    length: u16,
    instructions: *const FilterInstruction,
}

/// Which side of a fork a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    Child,
    /// With the child's number in the parent's own namespace.
    Parent(Pid),
}

/// Forks with new namespaces for the child, as `CLONE_NEW*` in `flags` say; with none it is a
/// plain fork. Only for a process with a single thread.
///
/// # Errors
/// What the kernel says, which for namespaces is often `EPERM` or `ENOSPC` from a setting.
pub fn fork_into(flags: i32) -> io::Result<Forked> {
    fork_as(flags, None)
}

/// As [`fork_into`], as the process of a number in this process's own namespace, of which it must
/// be root.
///
/// # Errors
/// Also `EEXIST` when there is one of this number.
pub fn fork_as(flags: i32, number: Option<Pid>) -> io::Result<Forked> {
    debug_assert!(flags & !NAMESPACES == 0, "only namespaces are asked for");
    // SAFETY: all zeroes is a value of this plain C struct.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    let numbers = [number.map_or(0, Pid::as_raw_pid)];
    if number.is_some() {
        arguments.set_tid = numbers.as_ptr() as u64;
        arguments.set_tid_size = 1;
    }
    // SAFETY: without CLONE_VM and without a stack this is a fork: the child has a copy of
    // everything and returns here. The callers are single-threaded, so no lock of the allocator
    // or of the standard library is held by a thread that the child lacks. Needed because no safe
    // wrapper makes a process in new namespaces.
    let made = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
    };
    match made {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        number => Pid::from_raw(number as i32)
            .map(Forked::Parent)
            .ok_or_else(|| io::Error::other("the kernel named a child 0")),
    }
}

/// The namespaces that can be asked for.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Ends this process at once, without running what is left of its program.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return. Needed because a forked child must not
    // run the destructors and exit handlers of the process that it is a copy of.
    unsafe { libc::_exit(code) }
}

/// A new group namespace for this process, rooted at the groups that it is in now.
///
/// # Errors
/// What the kernel says.
pub fn unshare_cgroups() -> io::Result<()> {
    // SAFETY: takes flags only and touches no memory; rustix has it marked unsafe for flags that
    // unshare descriptors, which this one does not.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })
}

/// Becomes the user and group 0 of its namespace, with no further groups.
///
/// # Errors
/// What the kernel says.
pub fn become_root(groups: Groups) -> io::Result<()> {
    if groups == Groups::Clear {
        // SAFETY: a length of zero, so the pointer is not read.
        check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    }
    // SAFETY: numbers only. The wrapper of the C library sets the ids of all threads, and there
    // is one.
    check(unsafe { libc::setresgid(0, 0, 0) })?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(0, 0, 0) })
}

/// What becomes of a process's further groups when it becomes root of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    Clear,
    /// An ordinary user may not change them in a namespace of its own.
    Keep,
}

/// Shows files below the mount as if owned by other users: their ids on disk are taken as ids in
/// `namespace`. The mount must not be attached anywhere yet.
///
/// # Errors
/// `EINVAL` where the file system cannot do it, `EPERM` for an ordinary user.
pub fn shift_mount(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    set_mount_attributes(mount, 0, &attributes)
}

/// Makes a mount and those below it read-only.
///
/// # Errors
/// What the kernel says.
pub fn make_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set_mount_attributes(mount, libc::AT_RECURSIVE, &attributes)
}

fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    flags: i32,
    attributes: &libc::mount_attr,
) -> io::Result<()> {
    // SAFETY: the path is empty and the structure live, with its size beside it. Needed because
    // rustix does not have this call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    check(done as i32)
}

/// Puts a filter over the system calls of this process and of all that come from it. It must
/// have given up new privileges before.
///
/// # Errors
/// When the kernel does not take the program.
pub fn install_filter(instructions: &[FilterInstruction]) -> io::Result<()> {
    let program = FilterProgram {
        length: u16::try_from(instructions.len())
            .map_err(|_| io::Error::other("a filter has more instructions than fit"))?,
        instructions: instructions.as_ptr(),
    };
    // SAFETY: the program points to `length` live instructions of the kernel's layout, which it
    // copies and verifies. Needed because no safe wrapper installs filters.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    check(done as i32)
}

/// Closes every descriptor from 3 on but those in `kept`, which must be sorted.
///
/// # Errors
/// What the kernel says.
pub fn close_descriptors_but(kept: &[RawFd]) -> io::Result<()> {
    debug_assert!(kept.is_sorted());
    let mut from = 3u32;
    let close = |first: u32, last: u32| {
        if first > last {
            return Ok(());
        }
        // SAFETY: closes numbers. The caller is a fresh fork that owns nothing else under them:
        // what the copies of the parent's values would close later is closed already, which an
        // exit without destructors never gets to. Needed because descriptors that were inherited
        // have no owner here.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } as i32)
    };
    for descriptor in kept.iter().filter(|descriptor| **descriptor >= 3) {
        let number = *descriptor as u32;
        if number > from {
            close(from, number - 1)?;
        }
        from = number + 1;
    }
    close(from, u32::MAX)
}

/// Gives every signal its default action back and blocks none, as a program expects it.
pub fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: sets an action by number; for those that cannot be set it fails, which is as
        // good. Needed because an ignored signal stays ignored over execve.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: both calls get a live set, which the first fills.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// A descriptor at which the deaths of children can be waited for; their signal is blocked.
///
/// # Errors
/// For want of descriptors.
pub fn child_deaths() -> io::Result<OwnedFd> {
    // SAFETY: the set is filled before it is read and live in both calls; the returned number
    // is a descriptor that nobody else owns. Needed because rustix leaves signals alone.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let raw = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(raw)?;
        Ok(OwnedFd::from_raw_fd(raw))
    }
}

/// A child that has ended: its number, its raw status, and the processor time that it and the
/// children it waited for have taken, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub process: i32,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub cpu_ms: u64,
}

/// A child that has ended since the last call, if there is one; does not wait.
pub fn reap() -> Option<Ended> {
    loop {
        let mut status = 0;
        // SAFETY: all zeroes is a value of this plain C struct.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live, writable values of the types that wait4 fills.
        // Needed because no safe wrapper hands out the resource usage of a reaped child.
        let process = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if process < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        if process <= 0 {
            return None;
        }
        let ms = |time: libc::timeval| time.tv_sec as u64 * 1000 + time.tv_usec as u64 / 1000;
        return Some(Ended {
            process,
            exit_code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime),
        });
    }
}

/// Sends a signal by number.
///
/// # Errors
/// `ESRCH` when the process is gone, `EINVAL` for a number that is no signal.
pub fn send_signal(process: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: numbers only. Needed because the numbers come from outside, realtime ones too.
    check(unsafe { libc::kill(process.as_raw_pid(), signal) })
}

/// Replaces this process by a program. Returns only the reason why it could not.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: all three are live and end with a zero as execve expects. Needed because the
    // standard library's way forks or consults its own copy of the environment.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Lets the other side of a socket learn nothing: duplicates `from` onto the number `onto`.
///
/// # Errors
/// What the kernel says.
pub fn place_descriptor(from: impl AsFd, onto: RawFd) -> io::Result<()> {
    let from = from.as_fd().as_raw_fd();
    if from == onto {
        // Kept over execve from now on.
        // SAFETY: sets a flag on a descriptor that is open.
        return check(unsafe { libc::fcntl(onto, libc::F_SETFD, 0) });
    }
    // SAFETY: numbers only; the caller is about to become another program and gives no other
    // meaning to `onto`.
    check(unsafe { libc::dup2(from, onto) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
