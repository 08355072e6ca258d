//! What a handler is given: its request, its files, its limits, and the line to the worker.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corral_types::{AttemptId, BlobHash, JobId, Timestamp, WorkspaceId};
use corral_worker_api::{Limits, Start, StopReason};
use serde_json::Value;

use super::message::{FromJob, JobDescription, ToJob, encode_frame};
use super::{JobFailure, process::EXIT_WORKER_GONE};

/// The handler's view of its attempt. May be shared between the handler's threads.
pub struct JobContext {
    description: JobDescription,
    directory: PathBuf,
    work_dir: PathBuf,
    channel: Mutex<UnixStream>,
    /// The number of the next checkpoint's file; held while one is being kept.
    checkpoint_number: Mutex<u64>,
    heard: Arc<Heard>,
}

impl JobContext {
    pub(super) fn new(
        description: JobDescription,
        directory: PathBuf,
        channel: UnixStream,
        heard: Arc<Heard>,
    ) -> Self {
        heard.lock().limits = Some(description.start.limits);
        let work_dir = directory.join(crate::directory::WORK_DIRECTORY);
        Self {
            description,
            directory,
            work_dir,
            channel: Mutex::new(channel),
            checkpoint_number: Mutex::new(1),
            heard,
        }
    }

    fn start(&self) -> &Start {
        &self.description.start
    }

    /// The name of the handler that runs this job.
    pub fn kind(&self) -> &str {
        &self.start().kind
    }

    /// The job's own request, as it was submitted.
    pub fn payload(&self) -> &Value {
        &self.start().payload
    }

    pub fn attempt(&self) -> AttemptId {
        self.start().attempt
    }

    pub fn job(&self) -> JobId {
        self.start().job
    }

    pub fn workspace(&self) -> WorkspaceId {
        self.start().workspace
    }

    /// When the job's time is over.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.start().deadline
    }

    /// The file with this input's bytes, to be read or mapped, not written.
    ///
    /// # Errors
    /// When the job was not submitted with this input.
    pub fn input_path(&self, hash: BlobHash) -> Result<&Path, JobFailure> {
        let found = self.description.inputs.iter().find(|(input, _)| *input == hash);
        found.map(|(_, path)| path.as_path()).ok_or_else(|| {
            JobFailure::permanent(format!("the blob {} is not an input of this job", hash.short()))
        })
    }

    /// Every input with its file, in the order of submission.
    pub fn inputs(&self) -> impl Iterator<Item = (BlobHash, &Path)> {
        self.description.inputs.iter().map(|(hash, path)| (*hash, path.as_path()))
    }

    /// An empty directory of this attempt, on disk; gone when the attempt is over. Also the
    /// process's current directory.
    pub fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// A directory on the worker's disk for what can be computed again: of the job's workspace
    /// alone, kept when the attempt is over. Whoever writes there makes it and keeps to a quota.
    pub fn cache_dir(&self) -> PathBuf {
        let workers = self.directory.ancestors().nth(2).unwrap_or(&self.directory);
        workers.join(crate::directory::CACHE_DIRECTORY).join(self.start().workspace.to_string())
    }

    /// What the attempt may take at this moment; the lease may grow and shrink.
    pub fn limits(&self) -> Limits {
        self.heard.lock().limits.unwrap_or(self.start().limits)
    }

    /// How many busy threads the attempt's share of the CPU is good for, at least one.
    pub fn thread_count(&self) -> usize {
        (self.limits().milli_cpu as usize).div_ceil(1000).max(1)
    }

    /// Tells how far the job is: `fraction` of 1, a sentence, and whatever else watchers of
    /// this kind of job understand. May be called often: the worker passes on the newest a
    /// few times a second.
    pub fn progress(&self, fraction: f32, message: impl Into<String>, detail: Value) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        // Progress too long for a frame is dropped: the next one tells as much.
        let _ = self.say(&FromJob::Progress { fraction, message: message.into(), detail });
    }

    /// Adds a line to the job's log, as printing it does.
    pub fn log(&self, line: impl AsRef<str>) {
        // A log that cannot be written is no reason to fail the job.
        let _ = writeln!(std::io::stdout().lock(), "{}", line.as_ref());
    }

    /// Keeps state from which a later attempt can go on; the newest replaces earlier ones.
    /// Returns once it is safe on this worker's disk; it reaches the server in the background.
    ///
    /// # Errors
    /// When it could not be kept, such as for lack of disk space.
    pub fn checkpoint(&self, state: &[u8]) -> Result<(), JobFailure> {
        self.keep_checkpoint(|file| std::fs::write(file, state))
    }

    /// The same of state in a file, which is copied: for state that is not to be held in memory.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_file(&self, state: &Path) -> Result<(), JobFailure> {
        self.keep_checkpoint(|file| std::fs::copy(state, file).map(drop))
    }

    fn keep_checkpoint(
        &self,
        write: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), JobFailure> {
        let mut number = lock(&self.checkpoint_number);
        let file = self.directory.join(format!("checkpoint-{number}"));
        *number += 1;
        let failed = |error: std::io::Error| {
            JobFailure::retryable(format!("write the checkpoint {}: {error}", file.display()))
        };
        write(&file).map_err(failed)?;
        self.heard.lock().checkpoint_answer = None;
        self.say(&FromJob::Checkpoint { file: file.clone() })?;
        let mut heard = self.heard.lock();
        loop {
            if let Some(answer) = heard.checkpoint_answer.take() {
                return answer.map_err(JobFailure::retryable);
            }
            heard = self.heard.changed.wait(heard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The state that an earlier attempt of this job kept last.
    ///
    /// # Errors
    /// When there is state but it cannot be read.
    pub fn checkpoint_bytes(&self) -> Result<Option<Vec<u8>>, JobFailure> {
        let Some(path) = &self.description.checkpoint else { return Ok(None) };
        std::fs::read(path).map(Some).map_err(|error| {
            JobFailure::retryable(format!("read the checkpoint {}: {error}", path.display()))
        })
    }

    /// The file with that state, to be read, not written.
    pub fn checkpoint_path(&self) -> Option<&Path> {
        self.description.checkpoint.as_deref()
    }

    /// Whether the attempt shall end at once: cancelled, over its time, or the worker ends.
    pub fn is_cancelled(&self) -> bool {
        self.heard.lock().cancelled
    }

    /// Whether the job shall end early and hand back what it has.
    pub fn finish_now_requested(&self) -> bool {
        self.heard.lock().finish_now
    }

    /// Waits for `duration`, or less when the attempt is to end or to finish now.
    pub fn wait(&self, duration: Duration) {
        let end = Instant::now() + duration;
        let mut heard = self.heard.lock();
        while !heard.cancelled && !heard.finish_now {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            let waited = self.heard.changed.wait_timeout(heard, left);
            heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn say(&self, message: &FromJob) -> Result<(), JobFailure> {
        let frame = encode_frame(message).map_err(|error| JobFailure::from_error(&error))?;
        if lock(&self.channel).write_all(&frame).is_err() {
            // Without its worker the attempt counts as lost and runs elsewhere: end here.
            std::process::exit(EXIT_WORKER_GONE);
        }
        Ok(())
    }
}

/// What the worker has said so far, filled in by the thread that listens.
#[derive(Default)]
pub(super) struct Heard {
    state: Mutex<HeardState>,
    changed: Condvar,
}

#[derive(Default)]
struct HeardState {
    cancelled: bool,
    finish_now: bool,
    limits: Option<Limits>,
    checkpoint_answer: Option<Result<(), String>>,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, HeardState> {
        lock(&self.state)
    }

    pub(super) fn take(&self, message: ToJob) {
        let mut state = self.lock();
        match message {
            ToJob::Stop { reason: StopReason::FinishNow } => state.finish_now = true,
            ToJob::Stop { .. } | ToJob::WorkerEnds => state.cancelled = true,
            ToJob::Limits { limits } => state.limits = Some(limits),
            ToJob::CheckpointKept { refused } => {
                state.checkpoint_answer = Some(refused.map_or(Ok(()), Err));
            }
        }
        self.changed.notify_all();
    }
}

/// A handler's panic on one thread leaves the values whole: they are replaced, never mended.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
