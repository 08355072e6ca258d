//! `corral call`.

use std::time::{Duration, Instant};

use clap::Subcommand;
use corral_server::api::{CallDetail, CancelCallRequest};
use corral_types::{ErrorKind, Failure};
use serde_json::Value;

use super::Context;
use super::train::parse_seconds;
use crate::client::Client;
use crate::failure::refusal;
use crate::output::{Output, fields};

/// How long one request waits; the server lets none wait longer than 600 seconds.
const WAIT_SECONDS: u64 = 60;

#[derive(Debug, Subcommand)]
pub enum CallCommand {
    /// Print what a call returned, or how far it is
    Get {
        call: String,
        /// Wait for its end, at most so long
        #[arg(long, value_name = "TIME")]
        wait: Option<String>,
    },
    /// End what of a call is unfinished
    Cancel {
        call: String,
        /// End the containers that work on it too
        #[arg(long)]
        terminate_containers: bool,
    },
}

pub async fn run(command: CallCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        CallCommand::Get { call, wait } => {
            let patience = wait.as_deref().map(parse_seconds).transpose()?;
            let detail = finished(&client, &call, patience.unwrap_or(0)).await?;
            show_result(context, &detail)
        }
        CallCommand::Cancel { call, terminate_containers } => {
            let request = client
                .post(&["v1", "calls", &call, "cancel"])
                .json(&CancelCallRequest { terminate_containers });
            let detail: CallDetail = client.json(request).await?;
            context.output.show(&detail, describe);
            Ok(())
        }
    }
}

/// The call when it is done, or as it is after so many seconds.
///
/// # Errors
/// The server's refusal, or why it could not be asked.
pub async fn finished(
    client: &Client,
    call: &str,
    patience_seconds: u64,
) -> anyhow::Result<CallDetail> {
    let begun = Instant::now();
    let patience = Duration::from_secs(patience_seconds);
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        let wait = left.as_secs_f64().min(WAIT_SECONDS as f64);
        let request = client.get(&["v1", "calls", call]).query(&[("wait_seconds", wait)]);
        let detail: CallDetail = client.json(request).await?;
        let is_unfinished = matches!(detail.state.as_str(), "pending" | "running");
        if !is_unfinished || left.is_zero() {
            return Ok(detail);
        }
    }
}

/// Prints the result alone, so that it can be piped on; a call that failed is an error.
///
/// # Errors
/// When there is no result to print.
pub fn show_result(context: &Context, call: &CallDetail) -> anyhow::Result<()> {
    if let Some(error) = &call.error {
        if context.output == Output::Json {
            context.output.show(call, describe);
        } else if !error.traceback.is_empty() {
            eprintln!("{}", error.traceback.trim_end());
        }
        let kind = match error.status.as_str() {
            "timeout" => ErrorKind::Timeout,
            "terminated" => ErrorKind::Conflict,
            "internal_failure" => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        };
        let message = format!("the call {} ended with {}", call.id, error.status);
        let mut failure = Failure::new(kind, message);
        if !error.exception.is_empty() {
            failure.causes.push(error.exception.clone());
        }
        return Err(refusal(failure));
    }
    if context.output == Output::Json || call.kind == "map" || call.state != "succeeded" {
        context.output.show(call, describe);
        return Ok(());
    }
    if let Some(reason) = &call.result_not_shown {
        let message = format!("the result of {} cannot be shown as JSON", call.id);
        let mut failure = Failure::new(ErrorKind::Unsupported, message);
        failure.causes.push(reason.clone());
        return Err(refusal(failure));
    }
    let result = call.result.as_ref().unwrap_or(&Value::Null);
    Output::Json.show(result, Value::to_string);
    Ok(())
}

fn describe(call: &CallDetail) -> String {
    let inputs = &call.inputs;
    let mut pairs = vec![
        ("call", call.id.clone()),
        ("function", call.function.clone()),
        ("state", call.state.clone()),
        ("created", call.created.clone()),
    ];
    pairs.extend(call.started.clone().map(|time| ("started", time)));
    pairs.extend(call.ended.clone().map(|time| ("ended", time)));
    if call.kind == "map" {
        let counts = [
            ("waiting", inputs.pending),
            ("running", inputs.running),
            ("succeeded", inputs.succeeded),
            ("failed", inputs.failed),
            ("timed out", inputs.timed_out),
            ("cancelled", inputs.cancelled),
        ];
        let told: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        pairs.push(("inputs", format!("{}: {}", inputs.total, told.join(", "))));
    }
    fields(pairs)
}
