//! The system calls that have no safe wrapper: starting a process with its limits in place,
//! reaping with the resources used, signals as a file descriptor, and descriptors that the
//! runtime watches.
#![expect(
    unsafe_code,
    reason = "pre_exec, wait4, signalfd and inherited or watched descriptors have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a process sets on itself between fork and exec.
#[derive(Clone, Debug)]
pub struct ProcessSetup {
    /// The `cgroup.procs` files of the groups that it joins.
    pub cgroup_files: Vec<PathBuf>,
    /// `RLIMIT_DATA`.
    pub data_limit_bytes: Option<u64>,
    /// What is added to its badness when the kernel looks for memory; 0 to 1,000.
    pub oom_score_adjustment: u16,
    /// 0 to 19.
    pub nice: i32,
}

/// Starts `command` in a session of its own, with `setup` in place, to be killed when this
/// process ends. Only for a process with a single thread.
///
/// # Errors
/// When it cannot be forked, set up or executed.
pub fn spawn(command: &mut Command, setup: ProcessSetup) -> io::Result<Pid> {
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The parent was gone before its death could be asked for.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        for file in &setup.cgroup_files {
            write_existing(file, b"0")?;
        }
        let score = format!("{}", setup.oom_score_adjustment);
        write_existing(std::path::Path::new("/proc/self/oom_score_adj"), score.as_bytes())?;
        rustix::process::setpriority_process(None, setup.nice)?;
        let no_core = Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(Resource::Core, no_core)?;
        if let Some(bytes) = setup.data_limit_bytes {
            let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
            rustix::process::setrlimit(Resource::Data, limit)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are sound in general, since
    // another thread may have held a lock at the fork. The launcher has a single thread, so
    // no lock is held and `prepare` may allocate. Needed because a limit that is set after
    // exec would leave the new program running without it for a moment.
    let child = unsafe { command.pre_exec(prepare) }.spawn()?;
    Ok(Pid::from_child(&child))
}

fn write_existing(file: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let opened = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(opened, bytes)?;
    Ok(())
}

/// Keeps whatever this process was started with, beyond the three standard streams, from the
/// programs that it starts. Only for a process with a single thread.
///
/// # Errors
/// When the open descriptors cannot be listed.
pub fn keep_descriptors_to_oneself() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(descriptor) = number.filter(|descriptor| *descriptor > 2) {
            // SAFETY: sets a flag on a descriptor that this process has, or fails on one that it
            // has not; no memory is involved. Needed because a descriptor that was inherited
            // has no owner here to borrow it from.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Lets the runtime wait until there is something to read from a descriptor.
///
/// # Errors
/// When the runtime cannot watch it.
pub fn watch_readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays the same and open until the registration is dropped, which
    // owns it. Needed because the safe way of doing this is deprecated.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// A child that has ended, with what it and the descendants it waited for have used.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    pub process: Pid,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub cpu: Duration,
}

/// A child that has ended since the last call, if there is one; does not wait.
pub fn reap() -> Option<Reaped> {
    loop {
        let mut status = 0;
        // SAFETY: all zeroes is a value of this plain C struct.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live, writable values of the types that wait4 fills.
        // Needed because no safe wrapper hands out the resource usage of a reaped child.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if pid < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        // None has ended, or there is none at all.
        let process = if pid > 0 { Pid::from_raw(pid)? } else { return None };
        let time = |value: libc::timeval| {
            Duration::from_micros(value.tv_sec as u64 * 1_000_000 + value.tv_usec as u64)
        };
        return Some(Reaped {
            process,
            exit_code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
        });
    }
}

/// Signals that arrive at a file descriptor instead of interrupting the process.
pub struct SignalDescriptor(OwnedFd);

impl SignalDescriptor {
    /// Takes over `signals` for this process. Only for a process with a single thread.
    ///
    /// # Errors
    /// When the kernel refuses, which it does for lack of descriptors.
    pub fn take_over(signals: &[Signal]) -> io::Result<Self> {
        // SAFETY: sigemptyset fills the set before it is read; the pointers are to live
        // values. Needed because the standard library and rustix leave the mask alone.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, signal.as_raw());
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let raw = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if raw < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(raw)))
        }
    }

    /// The next signal that has arrived, if there is one; does not wait.
    pub fn next(&self) -> Option<i32> {
        // The kernel writes whole records of this size and begins each with the number.
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.0, &mut record).ok()?;
        let number = record[..read].first_chunk::<4>()?;
        Some(i32::from_ne_bytes(*number))
    }
}

impl AsFd for SignalDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
