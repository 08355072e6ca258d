//! `corral up`: holds the port and the data directory, and keeps a server and a worker
//! running under it.
//!
//! The listening socket belongs to the supervisor and is handed to each server as its
//! standard input: while a server that died is being started again, connections wait in
//! the kernel's queue and none is refused.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use corral_types::{ErrorKind, Failure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::data_dir::DataDir;

/// The first pause before a child that died is started again; doubles up to
/// [`RESTART_PAUSE_MAX`] while children die as soon as they start, and is forgotten once one
/// lived for [`STABLE_AFTER`].
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(50);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest pause after a server that had answered: whatever ends it again and again, it
/// answers others in between.
const READY_PAUSE_MAX: Duration = Duration::from_millis(400);
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// How long the children may take to end cleanly: the server's drain and then some.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// What `corral up` was asked for.
#[derive(Debug)]
pub struct SupervisorOptions {
    pub data_dir: DataDir,
    pub listen: SocketAddr,
    /// Flags that the server takes beside the data directory.
    pub server_arguments: Vec<String>,
    /// Flags that the worker takes beside its directory and the server's socket.
    pub worker_arguments: Vec<String>,
    /// The secret of an admin token to register with the server, where it shall be shown.
    pub admin_token: Option<String>,
    pub scheme: &'static str,
}

/// Runs until a signal asks to stop. Blocking.
///
/// # Errors
/// When the address cannot be listened on or a process cannot be started at all.
pub fn run(options: SupervisorOptions) -> anyhow::Result<()> {
    let listener = bind(options.listen)?;
    let address = listener.local_addr().context("read the listening address")?;
    // One thread: a child's parent-death signal fires when the thread that started it ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(options, listener, address))
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        anyhow::Error::new(crate::failure::Reported(
            Failure::new(ErrorKind::Unavailable, format!("listen on {address}: {error}"))
                .with_hint("choose another address by --listen; port 0 takes any free one"),
        ))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server,
    Worker,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Worker => "worker",
        }
    }
}

struct Supervised {
    role: Role,
    child: Option<Child>,
    started: Instant,
    pause: Duration,
    was_ready: Arc<AtomicBool>,
}

struct Supervisor {
    options: SupervisorOptions,
    listener: TcpListener,
    executable: PathBuf,
    /// Turns true when the first server answers.
    ready: watch::Sender<bool>,
}

async fn supervise(
    options: SupervisorOptions,
    listener: TcpListener,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let executable = std::env::current_exe().context("find the path of this binary")?;
    let (ready, mut readiness) = watch::channel(false);
    let supervisor = Supervisor { options, listener, executable, ready };
    let mut server = supervisor.start(Role::Server)?;
    let mut worker = supervisor.start(Role::Worker)?;
    let mut announced = false;
    loop {
        tokio::select! {
            _ = readiness.wait_for(|ready| *ready), if !announced => {
                announced = true;
                supervisor.announce(address);
            }
            () = supervisor.keep_running(&mut server) => {}
            () = supervisor.keep_running(&mut worker) => {}
            () = asked_to_stop(&mut terminate, &mut interrupt) => break,
        }
    }
    eprintln!("corral: stopping");
    // The worker first: its last events still reach the server.
    stop(&mut worker).await;
    stop(&mut server).await;
    Ok(())
}

async fn asked_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Supervisor {
    fn start(&self, role: Role) -> anyhow::Result<Supervised> {
        let mut command = Command::new(&self.executable);
        let data_dir = &self.options.data_dir;
        let socket = data_dir.server().join("worker.sock");
        command
            .arg(role.name())
            .env("CORRAL_SUPERVISOR", std::process::id().to_string())
            .kill_on_drop(true)
            // A terminal's Ctrl-C must reach the supervisor alone, which then stops the
            // children in order.
            .process_group(0);
        match role {
            Role::Server => {
                let socket_for_child: OwnedFd =
                    self.listener.try_clone().context("share the listening socket")?.into();
                command
                    .arg("--data-dir")
                    .arg(data_dir.server())
                    .arg("--worker-socket")
                    .arg(&socket)
                    .args(&self.options.server_arguments)
                    .stdin(Stdio::from(socket_for_child))
                    .stdout(Stdio::piped());
                if let Some(token) = &self.options.admin_token {
                    command.env("CORRAL_ADMIN_TOKEN", token);
                }
            }
            Role::Worker => {
                command
                    .arg("--data-dir")
                    .arg(data_dir.worker())
                    .arg("--server-socket")
                    .arg(&socket)
                    .args(&self.options.worker_arguments)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null());
            }
        }
        let was_ready = Arc::new(AtomicBool::new(false));
        let mut child = command.spawn().with_context(|| format!("start the {}", role.name()))?;
        if let Some(stdout) = child.stdout.take() {
            let (ready, answered) = (self.ready.clone(), was_ready.clone());
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == corral_server::READY_LINE {
                        ready.send_replace(true);
                        answered.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        Ok(Supervised {
            role,
            child: Some(child),
            started: Instant::now(),
            pause: RESTART_PAUSE_MIN,
            was_ready,
        })
    }

    /// Waits for the child's end and starts it again.
    async fn keep_running(&self, supervised: &mut Supervised) {
        if let Some(child) = &mut supervised.child {
            let ended = child.wait().await;
            supervised.child = None;
            if supervised.started.elapsed() > STABLE_AFTER {
                supervised.pause = RESTART_PAUSE_MIN;
            } else if supervised.was_ready.load(Ordering::Relaxed) {
                supervised.pause = supervised.pause.min(READY_PAUSE_MAX);
            }
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            eprintln!(
                "corral: the {} ended ({how}); starting it again in {} ms",
                supervised.role.name(),
                supervised.pause.as_millis()
            );
        }
        tokio::time::sleep(supervised.pause).await;
        let next_pause = (supervised.pause * 2).min(RESTART_PAUSE_MAX);
        match self.start(supervised.role) {
            Ok(started) => *supervised = started,
            Err(error) => eprintln!("corral: {error:#}"),
        }
        supervised.pause = next_pause;
    }

    fn announce(&self, address: SocketAddr) {
        let url = format!("{}://{address}", self.options.scheme);
        let path = self.options.data_dir.path().display();
        let mut text = format!("Corral is up at {url}\ndata directory: {path}\n");
        if let Some(token) = &self.options.admin_token {
            text += "\nThis admin token is shown once; only its hash is kept:\n";
            text += &format!("  export CORRAL_URL={url} CORRAL_TOKEN={token}\n");
        }
        // Whoever reads this may have read enough; the server runs on.
        let _told = std::io::stdout().write_all(text.as_bytes());
    }
}

/// Asks a child to end, and ends it once its time is up.
async fn stop(supervised: &mut Supervised) {
    let Some(child) = &mut supervised.child else { return };
    let process_id = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if let Some(process_id) = process_id {
        // It may have ended by itself in between.
        let _signalled = rustix::process::kill_process(process_id, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
        eprintln!("corral: the {} did not end in time and was killed", supervised.role.name());
        let _killed = child.kill().await;
    }
}
