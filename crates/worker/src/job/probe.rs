//! The built-in kind of job that takes exactly what it is told to take, to prove on a
//! machine that limits hold, attempts are retried from checkpoints and jobs can be stopped.

use std::io::Write;
use std::time::Duration;

use corral_types::MIB;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{JobContext, JobFailure, JobHandler, JobOutput};

/// The kind's name.
pub const PROBE_KIND: &str = "probe";

/// What a probe does, in this order. Everything is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeRequest {
    /// Lines to print before anything else, numbered.
    pub log_lines: u64,
    /// Pads each of these lines to this length.
    pub log_line_bytes: usize,
    /// Starts a program that sleeps this long and does not wait for it.
    pub child_seconds: u64,
    /// Writes a file of this size and reads it back, which fills the file cache.
    pub file_cache_bytes: u64,
    /// Allocates and touches this much memory and holds it to the end.
    pub allocate_bytes: u64,
    /// Waits, holding the memory.
    pub hold_ms: u64,
    /// Counts to this number, with progress; goes on from the checkpoint of an earlier attempt.
    pub steps: u64,
    /// How long each step takes.
    pub step_ms: u64,
    /// Allocates and touches this much more in each step, and holds it to the end.
    pub allocate_bytes_per_step: u64,
    /// Keeps a checkpoint after every so many steps; 0 for none.
    pub checkpoint_every: u64,
    /// Kills its own process, without a word, before this step of the first attempt.
    pub crash_at_step: Option<u64>,
    /// Goes on when told to stop.
    pub ignore_stop: bool,
    /// Writes an output named `probe` of this size.
    pub output_bytes: u64,
    /// Panics with this message.
    pub panic: Option<String>,
    /// Exits with this code without a word.
    pub exit_code: Option<i32>,
    /// Fails with this message.
    pub fail: Option<String>,
    /// Whether that failure says that another attempt may do better.
    pub retryable: bool,
}

/// Memory is touched in blocks, as a program's would be, so that a watchdog sees it grow.
const ALLOCATION_BLOCK_BYTES: u64 = 4 * MIB;

pub(super) struct Probe;

impl JobHandler for Probe {
    fn run(&self, context: &JobContext) -> Result<JobOutput, JobFailure> {
        let request: ProbeRequest =
            serde_json::from_value(context.payload().clone()).map_err(|error| {
                JobFailure::permanent(format!("the probe's request is not understood: {error}"))
            })?;
        for number in 1..=request.log_lines {
            context.log(format!("line {number:<0$}", request.log_line_bytes.saturating_sub(5)));
        }
        if request.child_seconds > 0 {
            start_child(request.child_seconds)?;
        }
        if request.file_cache_bytes > 0 {
            fill_file_cache(context, request.file_cache_bytes)?;
        }
        let mut held = allocate(request.allocate_bytes);
        pause(context, &request, request.hold_ms);
        let resumed_from = checkpointed_step(context)?;
        let steps_done = count(context, &request, resumed_from, &mut held)?;
        if let Some(message) = request.panic {
            panic!("{message}");
        }
        if let Some(code) = request.exit_code {
            std::process::exit(code);
        }
        if let Some(message) = request.fail {
            return Err(JobFailure {
                retryable: request.retryable,
                ..JobFailure::permanent(message)
            });
        }
        let mut input_bytes = 0;
        for (_, path) in context.inputs() {
            input_bytes += std::fs::metadata(path).map_err(|e| failed("read an input", &e))?.len();
        }
        let mut output = JobOutput::of(json!({
            "steps": steps_done,
            "resumed_from": resumed_from,
            "allocated_bytes": held.iter().map(Vec::len).sum::<usize>(),
            "input_bytes": input_bytes,
            "threads": context.thread_count(),
        }));
        if request.output_bytes > 0 {
            let path = context.work_dir().join("probe");
            write_pattern(&path, request.output_bytes)
                .map_err(|e| failed("write the output", &e))?;
            output.outputs.push(("probe".into(), path));
        }
        Ok(output)
    }
}

fn failed(what: &str, error: &std::io::Error) -> JobFailure {
    JobFailure::retryable(format!("{what}: {error}"))
}

fn start_child(seconds: u64) -> Result<(), JobFailure> {
    let child = std::process::Command::new("sleep").arg(seconds.to_string()).spawn();
    child.map(drop).map_err(|error| failed("start a program", &error))
}

fn allocate(bytes: u64) -> Vec<Vec<u8>> {
    let mut held = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let block = left.min(ALLOCATION_BLOCK_BYTES);
        held.push(vec![1; block as usize]);
        left -= block;
    }
    held
}

fn fill_file_cache(context: &JobContext, bytes: u64) -> Result<(), JobFailure> {
    let path = context.work_dir().join("file-cache");
    write_pattern(&path, bytes).map_err(|error| failed("fill the file cache", &error))?;
    let mut file =
        std::fs::File::open(&path).map_err(|error| failed("read the file back", &error))?;
    std::io::copy(&mut file, &mut std::io::sink())
        .map(drop)
        .map_err(|error| failed("read the file back", &error))
}

fn write_pattern(path: &std::path::Path, bytes: u64) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    let block: Vec<u8> = (0..MIB).map(|index| (index % 251) as u8).collect();
    let mut left = bytes;
    while left > 0 {
        let part = left.min(MIB);
        file.write_all(&block[..part as usize])?;
        left -= part;
    }
    Ok(())
}

fn pause(context: &JobContext, request: &ProbeRequest, millis: u64) {
    let duration = Duration::from_millis(millis);
    if request.ignore_stop {
        std::thread::sleep(duration);
    } else {
        context.wait(duration);
    }
}

fn checkpointed_step(context: &JobContext) -> Result<u64, JobFailure> {
    let Some(bytes) = context.checkpoint_bytes()? else { return Ok(0) };
    let step = <[u8; 8]>::try_from(bytes.as_slice()).map(u64::from_le_bytes);
    step.map_err(|_| JobFailure::permanent("the checkpoint is not one of a probe"))
}

/// Counts from the checkpoint to the end and returns how far it came.
fn count(
    context: &JobContext,
    request: &ProbeRequest,
    resumed_from: u64,
    held: &mut Vec<Vec<u8>>,
) -> Result<u64, JobFailure> {
    for step in resumed_from..request.steps {
        if !request.ignore_stop && context.is_cancelled() {
            context.checkpoint(&step.to_le_bytes())?;
            return Err(JobFailure::retryable(format!("stopped before step {step}")));
        }
        if context.finish_now_requested() {
            return Ok(step);
        }
        if resumed_from == 0 && request.crash_at_step == Some(step) {
            std::process::abort();
        }
        held.extend(allocate(request.allocate_bytes_per_step));
        pause(context, request, request.step_ms);
        let done = step + 1;
        let fraction = done as f32 / request.steps as f32;
        context.progress(
            fraction,
            format!("step {done} of {}", request.steps),
            json!({"step": done}),
        );
        if request.checkpoint_every > 0 && done % request.checkpoint_every == 0 {
            context.checkpoint(&done.to_le_bytes())?;
        }
    }
    Ok(request.steps.max(resumed_from))
}
