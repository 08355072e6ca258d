//! The worker as real processes against a server in this process that speaks the protocol.
//!
//! This binary has no test harness: started with a subcommand it is the worker, the launcher
//! or a job process, as the product's binary is.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by where it panics")]

mod cluster;
mod harness;
mod processes;
mod scenarios;
mod server;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

use corral_worker::{
    JobContext, JobFailure, JobHandler, JobOutput, ServerAddress, WorkerOptions, job_process_main,
    launcher_main, run, shutdown_signal,
};
use corral_worker_api::Enforcement;
use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["launcher"] => launcher_main(),
        ["job-process"] => job_process_main(&[("hostile", &Hostile)]),
        ["worker", ref settings @ ..] => worker_main(settings),
        _ => harness::run(&words, &scenarios::all()),
    }
}

fn worker_main(settings: &[&str]) -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("nobody else did");
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let options = worker_options(settings);
    match run(options, shutdown_signal()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::from(3)
        }
    }
}

/// `data=DIR server=ADDRESS [token=…] [enforcement=watchdog] [memory=BYTES] [cache=BYTES]`
fn worker_options(settings: &[&str]) -> WorkerOptions {
    let setting = |name: &str| {
        settings.iter().find_map(|setting| setting.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name| setting(name).map(|text| text.parse().expect("a number"));
    let server = setting("server").expect("a server");
    let server = match server.strip_prefix("unix:") {
        Some(path) => ServerAddress::UnixSocket(path.into()),
        None => ServerAddress::Url(server.to_owned()),
    };
    let executable = std::env::current_exe().expect("this binary");
    let mut options = WorkerOptions::new(
        PathBuf::from(setting("data").expect("a directory")),
        server,
        executable,
    );
    options.token = setting("token").map(str::to_owned);
    options.ca_certificate = setting("ca").map(PathBuf::from);
    options.memory_bytes = number("memory");
    options.cache_bytes = number("cache");
    options.enforcement = setting("enforcement")
        .map(|kind| serde_json::from_value::<Enforcement>(kind.into()).expect("a kind"));
    options
}

/// A handler that does what its payload says and should not: hands over files that are not
/// its own, results that are too large, or closes its channel.
struct Hostile;

impl JobHandler for Hostile {
    fn run(&self, context: &JobContext) -> Result<JobOutput, JobFailure> {
        let payload = context.payload();
        let text = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut output = JobOutput::default();
        if let Some(path) = text("output") {
            output.outputs.push(("stolen".into(), path.into()));
        }
        if let Some(bytes) = payload.get("result_bytes").and_then(Value::as_u64) {
            output.result = Value::String("x".repeat(bytes as usize));
        }
        if let Some(count) = payload.get("progress").and_then(Value::as_u64) {
            for number in 0..count {
                context.progress(number as f32 / count as f32, format!("{number}"), Value::Null);
            }
        }
        if payload.get("escape").is_some() {
            // Leaves the session, and its parent ends before it.
            let mut escaping = std::process::Command::new("setsid");
            escaping.args(["-f", "sleep", "1000"]).status().expect("a system has setsid");
        }
        if let Some(bytes) = payload.get("reserve_bytes").and_then(Value::as_u64) {
            // More address space than the process may have: the allocator gives up at once.
            let reserved: Vec<u8> = Vec::with_capacity(bytes as usize);
            context.log(format!("{:?}", reserved.as_ptr()));
        }
        if payload.get("token").is_some() {
            let seen: Vec<(String, String)> = std::env::vars().collect();
            output.result = serde_json::to_value(seen).expect("strings are JSON");
        }
        Ok(output)
    }
}
