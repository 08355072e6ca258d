//! The hidden subcommand in which one attempt runs: reads what to do from the attempt's
//! directory, calls the handler, and tells the worker how it ended.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::context::{Heard, JobContext};
use super::message::{
    DESCRIPTION_FILE, DIRECTORY_VARIABLE, FromJob, JobDescription, decode_frames,
};
use super::probe::{PROBE_KIND, Probe};
use super::{JobFailure, JobHandler, JobOutput};

/// The exit code of a job process whose worker is gone.
pub const EXIT_WORKER_GONE: i32 = 70;

/// The exit code when the process was not started as a worker starts it.
const EXIT_NOT_A_JOB: u8 = 64;

/// The entry of `corral job-process`: runs the attempt that the worker described with the
/// handler of its kind. [`PROBE_KIND`] is always there.
///
/// Call it before any thread is started.
pub fn job_process_main(handlers: &[(&str, &dyn JobHandler)]) -> ExitCode {
    let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from) else {
        eprintln!("this command is started by a worker, not by hand");
        return ExitCode::from(EXIT_NOT_A_JOB);
    };
    let opened = take_control_channel().and_then(|channel| {
        let listening = channel.try_clone()?;
        Ok((channel, listening, read_description(&directory)?))
    });
    let (channel, listening, description) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("read what to do from {}: {error}", directory.display());
            return ExitCode::from(EXIT_NOT_A_JOB);
        }
    };
    let heard = Arc::new(Heard::default());
    let context = JobContext::new(description, directory, channel, heard.clone());
    let listener = std::thread::Builder::new().name("control".into());
    if let Err(error) = listener.spawn(move || listen(listening, &heard)) {
        eprintln!("start the thread that listens to the worker: {error}");
        return ExitCode::FAILURE;
    }
    let answer = match run(handlers, &context) {
        Ok(output) => FromJob::Succeeded(output),
        Err(failure) => FromJob::Failed(failure),
    };
    let failed = matches!(answer, FromJob::Failed(_));
    if let Err(too_long) = context.say(&answer) {
        let told = FromJob::Failed(too_long.with_hint("hand large results back as outputs"));
        // A sentence fits a frame.
        let _ = context.say(&told);
    }
    ExitCode::from(u8::from(failed))
}

fn run(
    handlers: &[(&str, &dyn JobHandler)],
    context: &JobContext,
) -> Result<JobOutput, JobFailure> {
    let kind = context.kind();
    let handler = handlers.iter().find(|(name, _)| *name == kind).map(|(_, handler)| *handler);
    let handler = handler.or((kind == PROBE_KIND).then_some(&Probe as &dyn JobHandler));
    let handler = handler.ok_or_else(|| {
        let mut known: Vec<&str> = handlers.iter().map(|(name, _)| *name).collect();
        known.push(PROBE_KIND);
        JobFailure::permanent(format!("this worker has no handler for jobs of kind `{kind}`"))
            .with_hint(format!("its kinds are {}", known.join(", ")))
    })?;
    // The context's state is replaced as a whole under its locks, so what a panic leaves of
    // it can still be used for the last message.
    catch_unwind(AssertUnwindSafe(|| handler.run(context))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(JobFailure::permanent(format!("the job's handler panicked: {text}"))
            .with_hint("this is a defect; the job's log shows where"))
    })
}

/// Takes the control channel from standard input, where the launcher put it, and leaves
/// an empty one for the handler and its children.
fn take_control_channel() -> std::io::Result<UnixStream> {
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(UnixStream::from(channel))
}

fn read_description(directory: &Path) -> std::io::Result<JobDescription> {
    let bytes = std::fs::read(directory.join(DESCRIPTION_FILE))?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Takes in what the worker says until it is gone; then ends the process.
fn listen(mut channel: UnixStream, heard: &Heard) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = match channel.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => std::process::exit(EXIT_WORKER_GONE),
            Ok(read) => read,
        };
        buffer.extend_from_slice(&chunk[..read]);
        match decode_frames(&mut buffer) {
            Ok(messages) => messages.into_iter().for_each(|message| heard.take(message)),
            Err(_) => std::process::exit(EXIT_WORKER_GONE),
        }
    }
}
