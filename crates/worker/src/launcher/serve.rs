//! The launcher's own side: a loop over one socket and the death of children.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use corral_isolation::{IdMapping, fork_seat};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};

use super::message::{FromLauncher, PacketError, StartProcess, ToLauncher, receive, send};
use crate::process_tree::{attempt_directory_of, kill_until_gone, list_processes, members};
use crate::system::{ProcessSetup, SignalDescriptor, keep_descriptors_to_oneself, reap, spawn};

/// The entry of `corral launcher`. The worker starts it with its socket as standard input;
/// it returns when the worker is gone and every process has been killed.
pub fn launcher_main() -> ExitCode {
    match Serving::begin().and_then(|mut serving| serving.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LauncherError {
    #[error("set the launcher up: {0}")]
    Setup(std::io::Error),
    #[error("talk to the worker: {0}")]
    Packet(PacketError),
}

struct Serving {
    socket: OwnedFd,
    signals: SignalDescriptor,
    running: HashMap<i32, Running>,
}

struct Running {
    process: u64,
    kind: Kind,
}

enum Kind {
    Process {
        attempt_directory: PathBuf,
        /// Where the kernel lists the members of the process's groups.
        cgroup_files: Vec<PathBuf>,
    },
    /// The first process of a container: the kernel ends the others with it.
    Seat,
}

impl Serving {
    fn begin() -> Result<Self, LauncherError> {
        let setup = || {
            keep_descriptors_to_oneself()?;
            let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            // Orphans of job processes become this process's children, so none gets away.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
            // An interrupt from the terminal is the worker's to handle.
            let watched = [Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP];
            Ok(Self {
                socket,
                signals: SignalDescriptor::take_over(&watched)?,
                running: HashMap::new(),
            })
        };
        setup().map_err(LauncherError::Setup)
    }

    fn run(&mut self) -> Result<(), LauncherError> {
        let ended = self.serve();
        self.running.iter().for_each(|(root, running)| kill_tree(*root, running));
        // Whoever got out of its tree has become a child of this process.
        let own = rustix::process::getpid().as_raw_pid();
        kill_until_gone(|| {
            let mut below = members(&list_processes(), own, own, |_| true);
            below.retain(|id| *id != own);
            below
        });
        ended
    }

    /// Returns when the worker is gone or the launcher is asked to end.
    fn serve(&mut self) -> Result<(), LauncherError> {
        loop {
            let mut waiting = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut waiting, None))
                .map_err(|errno| LauncherError::Setup(errno.into()))?;
            let heard = !waiting[0].revents().is_empty();
            while let Some(signal) = self.signals.next() {
                if signal == Signal::TERM.as_raw() {
                    return Ok(());
                }
            }
            let outcome = self.report_ended().and_then(|()| match heard {
                true => self.take_message(),
                false => Ok(()),
            });
            match outcome {
                Err(PacketError::Closed) => return Ok(()),
                other => other.map_err(LauncherError::Packet)?,
            }
        }
    }

    fn take_message(&mut self) -> Result<(), PacketError> {
        let (message, descriptors) = receive(&self.socket)?;
        match message {
            ToLauncher::Start { process, start } => {
                let kind = Kind::Process {
                    attempt_directory: start.attempt_directory.clone(),
                    cgroup_files: start.cgroup_files.clone(),
                };
                let started = start_process(start, &descriptors);
                self.tell_started(Running { process, kind }, started)
            }
            ToLauncher::StartSeat { process } => {
                let socket = descriptors.into_iter().next();
                let started = socket
                    .ok_or_else(|| std::io::Error::other("a seat came without its socket"))
                    .and_then(|socket| fork_seat(socket, IdMapping::of_this_process()));
                self.tell_started(Running { process, kind: Kind::Seat }, started)
            }
            ToLauncher::Signal { process, number } => {
                let found = self.running.iter().find(|(_, running)| running.process == process);
                if let Some(root) = found.and_then(|(root, _)| Pid::from_raw(*root))
                    && let Some(signal) = Signal::from_named_raw(number)
                {
                    // It stays to be reaped, so the number is its own; it may have ended.
                    let _ = rustix::process::kill_process(root, signal);
                }
                Ok(())
            }
            ToLauncher::Kill { process } => {
                let found = self.running.iter().find(|(_, running)| running.process == process);
                if let Some((root, running)) = found {
                    kill_tree(*root, running);
                }
                Ok(())
            }
        }
    }

    fn tell_started(
        &mut self,
        running: Running,
        started: std::io::Result<Pid>,
    ) -> Result<(), PacketError> {
        let process = running.process;
        match started {
            Ok(pid) => {
                let root = pid.as_raw_pid();
                self.running.insert(root, running);
                self.say(&FromLauncher::Started { process, process_id: root as u32 })
            }
            Err(error) => self.say(&FromLauncher::NotStarted { process, error: error.to_string() }),
        }
    }

    /// Reaps what has ended; for the root of an attempt also ends what it left running.
    fn report_ended(&mut self) -> Result<(), PacketError> {
        while let Some(reaped) = reap() {
            let root = reaped.process.as_raw_pid();
            let Some(running) = self.running.remove(&root) else { continue };
            if let Kind::Process { .. } = running.kind {
                kill_tree(root, &running);
            }
            self.say(&FromLauncher::Exited {
                process: running.process,
                exit_code: reaped.exit_code,
                signal: reaped.signal,
                cpu_ms: reaped.cpu.as_millis() as u64,
            })?;
        }
        Ok(())
    }

    fn say(&self, message: &FromLauncher) -> Result<(), PacketError> {
        send(&self.socket, message, &[])
    }
}

fn start_process(start: StartProcess, descriptors: &[OwnedFd]) -> std::io::Result<Pid> {
    let stdio = |descriptor: BorrowedFd<'_>| descriptor.try_clone_to_owned().map(Stdio::from);
    let [control, output, error] = descriptors else {
        return Err(std::io::Error::other("the start came without its descriptors"));
    };
    let mut command = match start.program {
        // This very program, even when the file it was started from has been replaced since.
        None => {
            let mut own = Command::new("/proc/self/exe");
            own.arg0("corral");
            own
        }
        Some(program) => Command::new(program),
    };
    command
        .args(start.arguments)
        .env_clear()
        .envs(start.environment)
        .current_dir(start.current_directory)
        .stdin(stdio(control.as_fd())?)
        .stdout(stdio(output.as_fd())?)
        .stderr(stdio(error.as_fd())?);
    let setup = ProcessSetup {
        cgroup_files: start.cgroup_files,
        data_limit_bytes: start.data_limit_bytes,
        oom_score_adjustment: start.oom_score_adjustment,
        nice: start.nice,
    };
    spawn(&mut command, setup)
}

/// Kills the root and all that came from it. The root stays to be reaped, so its number
/// cannot have become another process's.
fn kill_tree(root: i32, running: &Running) {
    let own = rustix::process::getpid().as_raw_pid();
    let Some(pid) = Pid::from_raw(root) else { return };
    let Kind::Process { attempt_directory, cgroup_files } = &running.kind else {
        // It may have ended already, which is what is wanted.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        return;
    };
    // The group may be empty already.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let gone = kill_until_gone(|| {
        let mut found = members(&list_processes(), root, own, |id| {
            attempt_directory_of(id).is_some_and(|dir| dir == *attempt_directory)
        });
        for file in cgroup_files {
            let listed = std::fs::read_to_string(file).unwrap_or_default();
            found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        found
    });
    if !gone {
        eprintln!("launcher: processes of {} do not end", attempt_directory.display());
    }
}
