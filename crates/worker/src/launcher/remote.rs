//! The worker's side of the launcher.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::LAUNCHER_SUBCOMMAND;
use super::message::{FromLauncher, PacketError, StartProcess, ToLauncher, receive, send};

/// How long the worker waits for the launcher to end after it let go of the socket: killing
/// processes takes milliseconds, unless the kernel holds one in a long system call.
const LAUNCHER_END_WAIT: Duration = Duration::from_secs(5);

/// The launcher's process, started before the worker has threads.
pub struct LauncherProcess {
    child: Child,
    socket: OwnedFd,
}

impl LauncherProcess {
    /// Starts `executable` as the launcher. Call it before any thread is started.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(executable: &Path) -> io::Result<Self> {
        // Should the launcher die, this process inherits what it leaves, and can reap it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let child = Command::new(executable)
            .arg(LAUNCHER_SUBCOMMAND)
            .stdin(Stdio::from(theirs))
            // A worker's token is no business of anything that the launcher starts.
            .env_remove("CORRAL_TOKEN")
            .spawn()?;
        Ok(Self { child, socket: ours })
    }

    /// The launcher's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Starts the thread that hears what the launcher says.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn attach(self) -> io::Result<(Launcher, LauncherEnd)> {
        let launcher = Launcher {
            socket: Arc::new(self.socket),
            routes: Arc::default(),
            next: Arc::new(AtomicU64::new(1)),
            gone: CancellationToken::new(),
        };
        let hearing = launcher.clone();
        std::thread::Builder::new().name("launcher".into()).spawn(move || hearing.hear())?;
        let end = LauncherEnd { child: self.child, socket: launcher.socket.clone() };
        Ok((launcher, end))
    }
}

/// The right to end the launcher; dropping it does.
pub struct LauncherEnd {
    child: Child,
    socket: Arc<OwnedFd>,
}

impl Drop for LauncherEnd {
    /// Lets go of the socket, upon which the launcher kills everything and ends; waits for it.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
        let end = Instant::now() + LAUNCHER_END_WAIT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What becomes of a process that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    Started { process_id: u32 },
    NotStarted { error: String },
    Exited { exit_code: Option<i32>, signal: Option<i32>, cpu_ms: u64 },
}

/// The line to the launcher.
#[derive(Clone)]
pub struct Launcher {
    socket: Arc<OwnedFd>,
    routes: Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<ProcessEvent>>>>,
    next: Arc<AtomicU64>,
    gone: CancellationToken,
}

/// A process that was asked for: hears of it, and can kill it. The events end without
/// [`ProcessEvent::Exited`] only when the launcher itself is gone.
pub struct ProcessHandle {
    launcher: Launcher,
    process: u64,
    /// At most two events come per process, so the channel needs no bound.
    events: mpsc::UnboundedReceiver<ProcessEvent>,
}

impl Launcher {
    /// Asks for a process with these descriptors as its standard input (the control
    /// channel), output and error.
    ///
    /// # Errors
    /// When the launcher is gone or the message is too long.
    pub fn start_process(
        &self,
        start: StartProcess,
        descriptors: [OwnedFd; 3],
    ) -> Result<ProcessHandle, PacketError> {
        let process = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::unbounded_channel();
        self.routes().insert(process, sender);
        let handle = ProcessHandle { launcher: self.clone(), process, events };
        let [control, output, error] = &descriptors;
        send(
            &*self.socket,
            &ToLauncher::Start { process, start },
            &[control.as_fd(), output.as_fd(), error.as_fd()],
        )?;
        Ok(handle)
    }

    /// Asks for the first process of a container, which will talk over `socket`.
    ///
    /// # Errors
    /// When the launcher is gone.
    pub fn start_seat(&self, socket: OwnedFd) -> Result<ProcessHandle, PacketError> {
        let process = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::unbounded_channel();
        self.routes().insert(process, sender);
        let handle = ProcessHandle { launcher: self.clone(), process, events };
        send(&*self.socket, &ToLauncher::StartSeat { process }, &[socket.as_fd()])?;
        Ok(handle)
    }

    /// Cancelled when the launcher is gone: the worker must end.
    pub fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    fn routes(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::UnboundedSender<ProcessEvent>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self) {
        loop {
            let message = match receive::<FromLauncher>(&*self.socket) {
                Ok((message, _)) => message,
                Err(PacketError::Json(error)) => {
                    tracing::error!(%error, "the launcher said something that is not understood");
                    continue;
                }
                Err(_) => break,
            };
            let (process, event, is_last) = match message {
                FromLauncher::Started { process, process_id } => {
                    (process, ProcessEvent::Started { process_id }, false)
                }
                FromLauncher::NotStarted { process, error } => {
                    (process, ProcessEvent::NotStarted { error }, true)
                }
                FromLauncher::Exited { process, exit_code, signal, cpu_ms } => {
                    (process, ProcessEvent::Exited { exit_code, signal, cpu_ms }, true)
                }
            };
            let mut routes = self.routes();
            if let Some(sender) = routes.get(&process) {
                // Nobody may be listening any more.
                let _ = sender.send(event);
            }
            if is_last {
                routes.remove(&process);
            }
        }
        self.routes().clear();
        self.gone.cancel();
    }
}

impl ProcessHandle {
    /// The next event; none when the launcher is gone.
    pub async fn next(&mut self) -> Option<ProcessEvent> {
        self.events.recv().await
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<ProcessEvent> {
        self.events.try_recv().ok()
    }

    /// Kills the process and everything that came from it. The end is reported as any other.
    pub fn kill(&self) {
        self.control().kill();
    }

    /// A line to the process for others.
    pub fn control(&self) -> ProcessControl {
        ProcessControl { launcher: self.launcher.clone(), process: self.process }
    }
}

/// A line to a process that was asked for.
#[derive(Clone)]
pub struct ProcessControl {
    launcher: Launcher,
    process: u64,
}

impl ProcessControl {
    /// As [`ProcessHandle::kill`].
    pub fn kill(&self) {
        // Without the launcher the process is being killed by the kernel.
        let _ = send(&*self.launcher.socket, &ToLauncher::Kill { process: self.process }, &[]);
    }

    /// Sends a signal to the process, if it is still there.
    pub fn signal(&self, number: i32) {
        let message = ToLauncher::Signal { process: self.process, number };
        // As above.
        let _ = send(&*self.launcher.socket, &message, &[]);
    }
}

impl Drop for ProcessHandle {
    fn drop(&mut self) {
        self.launcher.routes().remove(&self.process);
    }
}
