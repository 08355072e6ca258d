//! `corral job`.

use std::time::Duration;

use clap::Subcommand;
use corral_server::api::{JobDetail, LogPage, Page, ProbeRequest};
use corral_types::{ErrorKind, Failure, display_bytes, parse_bytes};
use serde_json::json;

use super::Context;
use super::events::{follow, wait_with_progress};
use super::train::parse_seconds;
use crate::client::Client;
use crate::failure::refusal;
use crate::output::{Output, fields, print_line, table};

/// The pause between looks at a log that is followed.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List the jobs, newest first
    Ls {
        /// Only jobs in this state
        #[arg(long)]
        state: Option<String>,
    },
    /// Show one job
    Show { job: String },
    /// Print what a job wrote
    Logs {
        job: String,
        /// Go on until the job has ended
        #[arg(short, long)]
        follow: bool,
    },
    /// Print a job's events as they come, one JSON object a line
    Events { job: String },
    /// Wait for a job's end, with a progress bar
    Wait { job: String },
    /// End a job and drop what it has
    Cancel {
        job: String,
        /// Keep what it has instead, as `finish` does: of a search, the best ensemble so far
        #[arg(long)]
        finish_now: bool,
    },
    /// End a job early and keep what it has
    Finish { job: String },
    /// Run a job that takes memory and time and nothing else
    Probe {
        /// Memory to fill, such as 500MiB
        #[arg(long, value_name = "SIZE", default_value = "0")]
        allocate: String,
        /// How many steps to take, with a checkpoint after each
        #[arg(long, default_value_t = 1)]
        steps: u32,
        /// How long a step takes
        #[arg(long, value_name = "MS", default_value_t = 100)]
        step_ms: u64,
        /// The memory that the job asks for
        #[arg(long, value_name = "SIZE")]
        memory: Option<String>,
        /// The memory at which it is stopped
        #[arg(long, value_name = "SIZE")]
        memory_limit: Option<String>,
        /// The time at which it is stopped
        #[arg(long, value_name = "TIME")]
        time_limit: Option<String>,
        /// How often it may be tried
        #[arg(long)]
        max_attempts: Option<u32>,
        /// Wait for its end
        #[arg(long)]
        wait: bool,
    },
}

pub async fn run(command: JobCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        JobCommand::Ls { state } => {
            let query: Vec<_> = state.iter().map(|state| ("state", state.as_str())).collect();
            let items: Vec<JobDetail> = client.list_where(&["v1", "jobs"], &query).await?;
            context.output.show(&Page { items, next: None }, |page: &Page<JobDetail>| {
                let rows = page.items.iter().map(|job| {
                    [
                        job.id.clone(),
                        job.kind.clone(),
                        job.name.clone(),
                        job.state.clone(),
                        format!("{:.0}%", job.progress * 100.0),
                        job.created.clone(),
                    ]
                });
                table(["id", "kind", "name", "state", "#done", "created"], rows)
            });
        }
        JobCommand::Show { job } => {
            let detail: JobDetail = client.json(client.get(&["v1", "jobs", &job])).await?;
            context.output.show(&detail, describe);
        }
        JobCommand::Logs { job, follow } => print_logs(&client, context, &job, follow).await?,
        JobCommand::Events { job } => {
            follow(&client, &job, |event| {
                let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
                print_line(&json!({"id": event.id, "event": event.name, "data": data}).to_string());
            })
            .await?;
        }
        JobCommand::Wait { job } => {
            let detail = wait_with_progress(&client, &job).await?;
            context.output.show(&detail, describe);
        }
        JobCommand::Cancel { job, finish_now: false } => {
            let detail: JobDetail =
                client.json(client.post(&["v1", "jobs", &job, "cancel"])).await?;
            context.output.show(&detail, |job| format!("{} is {}", job.id, job.state));
        }
        JobCommand::Finish { job } | JobCommand::Cancel { job, finish_now: true } => {
            let detail: JobDetail =
                client.json(client.post(&["v1", "jobs", &job, "finish"])).await?;
            context.output.show(&detail, |job| format!("{} is {}", job.id, job.state));
        }
        JobCommand::Probe {
            allocate,
            steps,
            step_ms,
            memory,
            memory_limit,
            time_limit,
            max_attempts,
            wait,
        } => {
            let size = |text: &str| {
                parse_bytes(text)
                    .map_err(|error| refusal(Failure::new(ErrorKind::Invalid, error.to_string())))
            };
            let request = ProbeRequest {
                payload: json!({
                    "allocate_bytes": size(&allocate)?,
                    "steps": steps,
                    "step_ms": step_ms,
                    "checkpoint_every": 1,
                }),
                memory_bytes: memory.as_deref().map(size).transpose()?,
                memory_limit_bytes: memory_limit.as_deref().map(size).transpose()?,
                time_limit_seconds: time_limit.as_deref().map(parse_seconds).transpose()?,
                max_attempts,
            };
            let request = client.post(&["v1", "jobs", "probe"]).json(&request);
            let mut detail: JobDetail = client.json(request).await?;
            if wait {
                detail = wait_with_progress(&client, &detail.id).await?;
            }
            context.output.show(&detail, describe);
        }
    }
    Ok(())
}

/// Prints the log from its beginning, and with `follow` until the job has ended.
async fn print_logs(
    client: &Client,
    context: &Context,
    job: &str,
    follow: bool,
) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        // Asked before the lines: what is written up to the end is then printed.
        let ended = client.json::<JobDetail>(client.get(&["v1", "jobs", job])).await?.ended;
        let request = client.get(&["v1", "jobs", job, "logs"]).query(&[("after", after)]);
        let page: LogPage = client.json(request).await?;
        if after == 0 && page.dropped > 0 {
            eprintln!("corral: {} earlier lines were dropped", page.dropped);
        }
        for line in &page.lines {
            match context.output {
                Output::Json => print_line(&serde_json::to_string(line)?),
                Output::Text => print_line(&line.line),
            }
        }
        match page.lines.last() {
            Some(last) => after = last.number,
            None if !follow || ended.is_some() => return Ok(()),
            None => tokio::time::sleep(FOLLOW_PAUSE).await,
        }
    }
}

fn describe(job: &JobDetail) -> String {
    let mut pairs = vec![
        ("job", job.id.clone()),
        ("kind", job.kind.clone()),
        ("name", job.name.clone()),
        ("state", job.state.clone()),
        ("progress", format!("{:.0}% {}", job.progress * 100.0, job.message)),
        ("attempts", job.attempts.to_string()),
        ("memory asked", display_bytes(job.memory_request_bytes)),
        ("CPU", format!("{:.1} s", job.cpu_ms as f64 / 1000.0)),
        ("created", job.created.clone()),
    ];
    if let Some(peak) = job.peak_memory_bytes {
        pairs.push(("memory peak", display_bytes(peak)));
    }
    pairs.extend(job.started.clone().map(|time| ("started", time)));
    pairs.extend(job.ended.clone().map(|time| ("ended", time)));
    if let Some(error) = &job.error {
        pairs.push(("error", error.message.clone()));
        pairs.extend(error.hint.clone().map(|hint| ("hint", hint)));
    }
    fields(pairs)
}
