//! Commands of image builds, each in a container.

use std::io::{self, BufRead, BufReader, PipeReader};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corral_images::{
    Access as StepAccess, BuildLine, BuildLog, LineSource, StepEnd, StepProcess, StepRunner,
};
use corral_isolation::{Access, Bind, ContainerPlan, ContainerProcessEvent, Exit, Stdio, Writable};
use corral_worker_api::{BUILD_MEMORY_LIMIT_BYTES, BUILD_MEMORY_REQUEST_BYTES};
use tokio::runtime::Handle;

use crate::{ContainerHandle, Containers};

/// How long a command of a build may take: compilers of large packages take an hour.
const STEP_LIMIT: Duration = Duration::from_secs(4 * 3600);

/// Processes of one command: compilers run many side by side.
const MAX_STEP_PROCESSES: u32 = 4_096;

/// What one command may write into one file.
const MAX_STEP_FILE_BYTES: u64 = 32 << 30;

/// See the module.
pub struct StepContainers {
    containers: Containers,
    /// Where the ends of processes are heard: builds run on threads that may wait.
    runtime: Handle,
    number: AtomicU64,
}

impl StepContainers {
    /// Runs commands by these containers; call it within the worker's runtime.
    pub fn new(containers: Containers) -> Self {
        Self { containers, runtime: Handle::current(), number: AtomicU64::new(1) }
    }

    fn plan(&self, process: &StepProcess) -> ContainerPlan {
        ContainerPlan {
            name: format!("build-{}", self.number.fetch_add(1, Ordering::Relaxed)),
            lowers: process.lowers.clone(),
            writable: Writable::Directory { path: process.writable.clone() },
            binds: process
                .binds
                .iter()
                .map(|bind| Bind {
                    source: bind.source.clone(),
                    target: bind.target.clone(),
                    access: match bind.access {
                        StepAccess::Read => Access::Read,
                        StepAccess::Write => Access::Write,
                    },
                })
                .collect(),
            files: Vec::new(),
            environment: process.environment.clone().into_iter().collect(),
            arguments: process.arguments.clone(),
            working_directory: process.working_directory.clone().into(),
            hostname: "build".to_owned(),
            limits: corral_containers::Limits {
                memory_request_bytes: BUILD_MEMORY_REQUEST_BYTES,
                memory_limit_bytes: BUILD_MEMORY_LIMIT_BYTES,
                milli_cpu: 1_000,
                milli_cpu_limit: None,
                processes: MAX_STEP_PROCESSES,
                disk_bytes: MAX_STEP_FILE_BYTES,
                gpus: 0,
            },
            network: process.network,
        }
    }
}

impl StepRunner for StepContainers {
    fn run(&self, process: &StepProcess, log: &dyn BuildLog) -> io::Result<StepEnd> {
        let (output, output_end) = io::pipe()?;
        let (error, error_end) = io::pipe()?;
        let input = std::fs::File::open("/dev/null")?.into();
        let stdio = Stdio { input, output: output_end.into(), error: error_end.into() };
        let starting = self.containers.start(self.plan(process), stdio);
        let mut handle = self.runtime.block_on(starting)?;
        std::thread::scope(|scope| {
            scope.spawn(|| tell_lines(output, LineSource::Output, log));
            scope.spawn(|| tell_lines(error, LineSource::Error, log));
            self.runtime.block_on(until_ended(&mut handle))
        })
    }
}

async fn until_ended(handle: &mut ContainerHandle) -> io::Result<StepEnd> {
    let limit = tokio::time::sleep(STEP_LIMIT);
    tokio::pin!(limit);
    let mut timed_out = false;
    loop {
        let event = tokio::select! {
            event = handle.next() => event,
            () = &mut limit, if !timed_out => {
                timed_out = true;
                handle.control().kill();
                continue;
            }
        };
        match event {
            Some(ContainerProcessEvent::Started { .. }) => {}
            Some(ContainerProcessEvent::NotStarted { error }) => {
                return Err(io::Error::other(error));
            }
            Some(ContainerProcessEvent::Exited(_)) if timed_out => {
                return Ok(StepEnd::TimedOut { limit_ms: STEP_LIMIT.as_millis() as u64 });
            }
            Some(ContainerProcessEvent::Exited(exit)) => return Ok(end_of(&exit)),
            None => return Err(io::Error::other("the worker is ending")),
        }
    }
}

fn end_of(exit: &Exit) -> StepEnd {
    match (exit.over_memory, exit.signal, exit.exit_code) {
        (Some(over), ..) => StepEnd::OverMemory { limit_bytes: over.limit_bytes },
        (None, Some(signal), _) => StepEnd::Signalled { signal },
        (None, None, code) => StepEnd::Exited { code: code.unwrap_or_default() },
    }
}

fn tell_lines(output: PipeReader, source: LineSource, log: &dyn BuildLog) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    // A pipe that cannot be read is at its end.
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        log.line(BuildLine { source, text: text.trim_end_matches(['\n', '\r']) });
        line.clear();
    }
}
