//! The process of one attempt, as the worker holds it: its control channel, its output, and
//! the line to the launcher that started it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corral_worker_api::{Event, Limits, LogStream};
use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Worker;
use crate::attempt::Attempt;
use crate::directory::WORK_DIRECTORY;
use crate::enforcement::Hold;
use crate::job::{DIRECTORY_VARIABLE, FromJob, ToJob, decode_frames, encode_frame};
use crate::launcher::{JOB_PROCESS_SUBCOMMAND, ProcessHandle, StartProcess};
use crate::logs::LineSplitter;
use crate::outcome::failed_allocation_bytes;

/// How long the ends of the pipes of a dead process are waited for. They close with its last
/// descendant, and those have been killed.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// How much is read from a process at a time.
const READ_BYTES: usize = 32 << 10;

/// Messages between the task that reads a job's channel and the one that acts on them; the
/// job waits when there are more.
const MESSAGES_AHEAD: usize = 64;

/// The variables that a job process inherits from the worker. Everything else, such as
/// tokens and passwords of proxies, is the worker's own.
const INHERITED_VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "CORRAL_LOG",
];

/// See the module.
pub struct JobProcess {
    pub handle: ProcessHandle,
    /// What the job says; closed when its end of the channel is, or after it broke the protocol.
    pub messages: mpsc::Receiver<FromJob>,
    control: OwnedWriteHalf,
    unread: Option<Unread>,
    readers: Vec<JoinHandle<()>>,
    failed_allocation_bytes: Arc<AtomicU64>,
}

/// The ends of a process's channels that are not read yet.
struct Unread {
    channel: OwnedReadHalf,
    messages: mpsc::Sender<FromJob>,
    output: pipe::Receiver,
    error: pipe::Receiver,
}

impl JobProcess {
    /// Asks the launcher for the process; whether it starts is told by the handle.
    ///
    /// # Errors
    /// When pipes cannot be made or the launcher is gone.
    pub fn start(
        worker: &Worker,
        attempt: &Arc<Attempt>,
        limits: &Limits,
        hold: &Hold,
    ) -> std::io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        let (output, output_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (error, error_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let start = describe(worker, attempt, limits, hold);
        let handle = worker
            .launcher
            .start_process(start, [OwnedFd::from(theirs), output_end, error_end])
            .map_err(std::io::Error::other)?;
        let (read, control) = control.into_split();
        let (sender, messages) = mpsc::channel(MESSAGES_AHEAD);
        let unread = Some(Unread {
            channel: read,
            messages: sender,
            output: pipe::Receiver::from_owned_fd(output)?,
            error: pipe::Receiver::from_owned_fd(error)?,
        });
        let failed_allocation_bytes = Arc::default();
        Ok(Self { handle, messages, control, unread, readers: Vec::new(), failed_allocation_bytes })
    }

    /// Begins to take in what the process says and prints; to be called once its start has
    /// been told, so that nothing is told before that.
    pub fn begin_reading(&mut self, attempt: &Arc<Attempt>) {
        let Some(Unread { channel, messages, output, error }) = self.unread.take() else { return };
        let read_log = |pipe, stream| {
            tokio::spawn(read_lines(
                pipe,
                stream,
                attempt.clone(),
                self.failed_allocation_bytes.clone(),
            ))
        };
        self.readers = vec![
            read_log(output, LogStream::Stdout),
            read_log(error, LogStream::Stderr),
            tokio::spawn(read_messages(channel, messages, attempt.clone())),
        ];
    }

    /// Tells the job something. Lost when the job does not listen: it is then killed in time.
    pub fn tell(&self, message: &ToJob) {
        let frame = encode_frame(message).expect("messages to jobs are short");
        if let Err(error) = self.control.try_write(&frame) {
            tracing::debug!(%error, "a job does not listen");
        }
    }

    /// After the process has ended: takes in what is left in its pipes and gives what the
    /// job said last.
    pub async fn drain(&mut self) -> Vec<FromJob> {
        let mut last = Vec::new();
        let drained = tokio::time::timeout(DRAIN_WAIT, async {
            while let Some(message) = self.messages.recv().await {
                last.push(message);
            }
            for reader in &mut self.readers {
                // A reader that panicked has nothing more to give.
                let _ = reader.await;
            }
        });
        if drained.await.is_err() {
            self.readers.iter().for_each(JoinHandle::abort);
        }
        last
    }

    /// The size of an allocation for which the program said that there was no memory.
    pub fn failed_allocation_bytes(&self) -> Option<u64> {
        Some(self.failed_allocation_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }
}

fn describe(worker: &Worker, attempt: &Attempt, limits: &Limits, hold: &Hold) -> StartProcess {
    let work_dir = attempt.directory.join(WORK_DIRECTORY);
    let inherited = INHERITED_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let mut environment: Vec<(String, String)> = inherited.collect();
    environment.extend(worker.job_environment.iter().cloned());
    let threads = (limits.milli_cpu as usize).div_ceil(1000).max(1);
    environment.extend([
        (DIRECTORY_VARIABLE.to_owned(), attempt.directory.to_string_lossy().into_owned()),
        ("TMPDIR".to_owned(), work_dir.to_string_lossy().into_owned()),
        ("RAYON_NUM_THREADS".to_owned(), threads.to_string()),
    ]);
    StartProcess {
        program: None,
        arguments: vec![JOB_PROCESS_SUBCOMMAND.to_owned()],
        environment,
        current_directory: work_dir,
        cgroup_files: hold.membership_files(),
        data_limit_bytes: hold.data_limit_bytes(limits),
        oom_score_adjustment: hold.oom_score_adjustment(),
        nice: hold.nice(limits),
        attempt_directory: attempt.directory.clone(),
    }
}

/// Reads the job's messages until its end closes. A message that is not understood ends the
/// reading, and with it what the job can say.
async fn read_messages(
    mut channel: OwnedReadHalf,
    messages: mpsc::Sender<FromJob>,
    attempt: Arc<Attempt>,
) {
    let mut buffer = Vec::new();
    loop {
        buffer.reserve(READ_BYTES);
        match channel.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match decode_frames(&mut buffer) {
            Ok(decoded) => {
                for message in decoded {
                    if messages.send(message).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                attempt.record_system_line(format!("the job's channel is broken: {error}"));
                return;
            }
        }
    }
}

async fn read_lines(
    mut pipe: pipe::Receiver,
    stream: LogStream,
    attempt: Arc<Attempt>,
    failed_allocation: Arc<AtomicU64>,
) {
    let mut splitter = LineSplitter::default();
    let mut bytes = vec![0; READ_BYTES];
    let record = |lines: Vec<String>| {
        if stream == LogStream::Stderr
            && let Some(bytes) = lines.iter().find_map(|line| failed_allocation_bytes(line))
        {
            failed_allocation.store(bytes, Ordering::Relaxed);
        }
        if !lines.is_empty() {
            attempt.record(lines.into_iter().map(|line| Event::Log { stream, line }));
        }
    };
    while let Ok(read) = pipe.read(&mut bytes).await
        && read > 0
    {
        record(splitter.push(&bytes[..read]));
    }
    record(splitter.finish().into_iter().collect());
}
