//! A server and a worker with a directory of its own, for one test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, ExitStatus};

use corral_types::{AttemptId, BlobHash, JobId, LeaseId, MIB, Timestamp, WorkspaceId};
use corral_worker_api::{Command, Limits, Start, StopReason};
use rustix::process::Signal;
use serde_json::Value;

use crate::processes::{is_alive, kill, started_for, wait_until};
use crate::server::{Listen, Server};

/// Enough for a probe that allocates nothing.
pub const AMPLE: u64 = 256 * MIB;

pub struct Cluster {
    pub server: Server,
    worker: Option<Child>,
    settings: Vec<String>,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// A server on a unix socket and a running worker.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(settings: &[&str]) -> Self {
        let mut cluster = Self::prepare(|dir| Listen::Unix(dir.join("socket")), settings);
        cluster.start_worker();
        cluster
    }

    /// A server that listens where `listen` says, and no worker yet.
    pub fn prepare(listen: impl Fn(&Path) -> Listen, settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = listen(dir.path());
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self { server: Server::start(listen), worker: None, settings, dir }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("worker")
    }

    pub fn start_worker(&mut self) {
        self.worker = Some(self.program().spawn().unwrap());
    }

    /// The worker's command line.
    pub fn program(&self) -> Program {
        let mut program = Program::new(std::env::current_exe().unwrap());
        program
            .arg("worker")
            .arg(format!("data={}", self.data_dir().display()))
            .arg(format!("server={}", self.server.address()))
            .args(&self.settings)
            .env("CORRAL_TOKEN", "a secret of the worker");
        program
    }

    pub fn worker(&mut self) -> &mut Child {
        self.worker.as_mut().expect("the worker was started")
    }

    pub fn worker_id(&self) -> u32 {
        self.worker.as_ref().expect("the worker was started").id()
    }

    /// Kills the worker, as the kernel or a person in anger does.
    pub fn kill_worker(&mut self) {
        self.worker().kill().unwrap();
        self.wait_for_worker();
    }

    pub fn wait_for_worker(&mut self) -> ExitStatus {
        self.worker.take().expect("the worker was started").wait().unwrap()
    }

    pub fn wait_until_no_job_runs(&self) {
        let dir = self.data_dir();
        wait_until("no job process is left", || started_for(&dir).is_empty());
    }

    pub fn probe(&self, request: Value) -> AttemptId {
        self.submit(start("probe", request, AMPLE))
    }

    pub fn probe_within(&self, memory_limit_bytes: u64, request: Value) -> AttemptId {
        self.submit(start("probe", request, memory_limit_bytes))
    }

    pub fn submit(&self, start: Start) -> AttemptId {
        let attempt = start.attempt;
        self.server.command(Command::Start(Box::new(start)));
        attempt
    }

    pub fn stop(&self, attempt: AttemptId, reason: StopReason) {
        self.server.command(Command::Stop { attempt, reason });
    }

    pub fn attempt_dir(&self, attempt: AttemptId) -> PathBuf {
        self.data_dir().join("attempts").join(attempt.to_string())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            // An orderly end, so that no groups stay on the machine.
            if !is_alive(worker.id()) || std::thread::panicking() {
                let _ = worker.kill();
                let _ = worker.wait();
            } else {
                kill(worker.id(), Signal::TERM);
                let ended = worker.wait().unwrap();
                assert!(ended.success(), "the worker told to end: {ended}");
            }
        }
        let dir = self.data_dir();
        if !std::thread::panicking() {
            wait_until("no job process is left", || started_for(&dir).is_empty());
            assert_eq!(cgroup_of(&dir), None, "the worker's groups are removed");
        }
    }
}

/// The worker's tree in the version 1 memory hierarchy.
pub fn cgroup_of(data_dir: &Path) -> Option<PathBuf> {
    let identity = std::fs::read_to_string(data_dir.join("worker.json")).ok()?;
    let identity: Value = serde_json::from_str(&identity).ok()?;
    let group = Path::new("/sys/fs/cgroup/memory/corral").join(identity.get("worker")?.as_str()?);
    group.exists().then_some(group)
}

pub fn limits(memory_limit_bytes: u64) -> Limits {
    Limits {
        lease: LeaseId::generate(),
        memory_request_bytes: memory_limit_bytes / 2,
        memory_limit_bytes,
        milli_cpu: 1500,
        cpu_weight: 100,
    }
}

pub fn start(kind: &str, payload: Value, memory_limit_bytes: u64) -> Start {
    Start {
        attempt: AttemptId::generate(),
        job: JobId::generate(),
        workspace: WorkspaceId::generate(),
        kind: kind.into(),
        payload,
        inputs: Vec::new(),
        checkpoint: None,
        limits: limits(memory_limit_bytes),
        deadline: None,
    }
}

pub fn with_inputs(start: Start, inputs: &[BlobHash]) -> Start {
    Start { inputs: inputs.to_vec(), ..start }
}

pub fn with_deadline(start: Start, deadline: Timestamp) -> Start {
    Start { deadline: Some(deadline), ..start }
}
