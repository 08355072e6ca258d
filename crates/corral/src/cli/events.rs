//! Following a job: a reader of server-sent events that resumes where it broke off.

use std::time::Duration;

use anyhow::Context as _;
use corral_server::api::JobDetail;
use corral_types::{ErrorKind, Failure, display_bytes};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::client::Client;
use crate::failure::refusal;
use crate::output::draws_progress;

/// How often a broken stream is opened anew before the command gives up: two minutes of
/// a server that is away.
const MAX_RECONNECTS: u32 = 120;
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The longest event that is read: a server that sends more is not ours.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    pub id: String,
    pub name: String,
    pub data: String,
}

/// Takes events out of the bytes of a stream (HTML Living Standard, "Server-sent events").
#[derive(Debug, Default)]
struct EventParser {
    buffer: Vec<u8>,
    event: ServerEvent,
}

impl EventParser {
    fn push(&mut self, bytes: &[u8], mut take: impl FnMut(ServerEvent)) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(length) = self.buffer[start..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.buffer[start..start + length]).into_owned();
            start += length + 1;
            self.line(line.trim_end_matches('\r'), &mut take);
        }
        self.buffer.drain(..start);
        if self.buffer.len() + self.event.data.len() > MAX_EVENT_BYTES {
            return Err(refusal(Failure::new(
                ErrorKind::TooLarge,
                format!("the server sent an event of more than {MAX_EVENT_BYTES} bytes"),
            )));
        }
        Ok(())
    }

    fn line(&mut self, line: &str, take: &mut impl FnMut(ServerEvent)) {
        if line.is_empty() {
            let id = self.event.id.clone();
            let event = std::mem::take(&mut self.event);
            // The id stays in force until another is given.
            self.event.id = id;
            if !event.data.is_empty() {
                take(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.event.id),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {}
        }
    }
}

/// Hands every event of a job to `take`, from the first, until the job has ended; a broken
/// connection is resumed after the last event seen. Returns the job as it ended.
///
/// # Errors
/// When the job is not there, or the server stays away.
pub async fn follow(
    client: &Client,
    job: &str,
    mut take: impl FnMut(&ServerEvent),
) -> anyhow::Result<JobDetail> {
    let mut last_id = String::new();
    let mut failures = 0;
    loop {
        let mut request = client.get(&["v1", "jobs", job, "events"]);
        if !last_id.is_empty() {
            request = request.header("last-event-id", &last_id);
        }
        let mut parser = EventParser::default();
        match client.send(request).await {
            Ok(mut response) => {
                while let Ok(Some(block)) = response.chunk().await {
                    parser.push(&block, |event| {
                        failures = 0;
                        last_id.clone_from(&event.id);
                        take(&event);
                    })?;
                }
            }
            Err(error) if failures == 0 && last_id.is_empty() => return Err(error),
            Err(_) => {}
        }
        let detail: anyhow::Result<JobDetail> = client.json(client.get(&["v1", "jobs", job])).await;
        match detail {
            Ok(detail) if detail.ended.is_some() => return Ok(detail),
            Ok(_) => {}
            Err(error) if failures >= MAX_RECONNECTS => return Err(error),
            Err(_) => {}
        }
        failures += 1;
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Hands every event of an answer that ends by itself to `take`.
///
/// # Errors
/// When the connection breaks, or the server sends what is too long.
pub async fn each_event(
    mut response: reqwest::Response,
    mut take: impl FnMut(&ServerEvent),
) -> anyhow::Result<()> {
    let mut parser = EventParser::default();
    while let Some(block) = response.chunk().await.context("receive events")? {
        parser.push(&block, |event| take(&event))?;
    }
    Ok(())
}

/// Follows a job with a progress bar where a person watches.
///
/// # Errors
/// As [`follow`]; and the job's own failure.
pub async fn wait_with_progress(client: &Client, job: &str) -> anyhow::Result<JobDetail> {
    let bar = ProgressBar::hidden();
    if draws_progress() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_length(1000);
        bar.set_style(
            ProgressStyle::with_template("{elapsed:>4} {bar:30} {percent:>3}% {wide_msg}")
                .expect("the template is well formed"),
        );
        bar.enable_steady_tick(Duration::from_millis(500));
    }
    let followed = follow(client, job, |event| {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match event.name.as_str() {
            "progress" => {
                let fraction = data.get("fraction").and_then(Value::as_f64).unwrap_or(0.0);
                bar.set_position((fraction.clamp(0.0, 1.0) * 1000.0) as u64);
                let detail = data.get("detail").unwrap_or(&Value::Null);
                bar.set_message(progress_line(&text("message"), detail));
            }
            "submitted" => bar.set_message("waiting for memory and a worker"),
            "started" => bar.set_message("started"),
            "attempt_ended" => bar.set_message(text("outcome")),
            "completing" => bar.set_message("registering the outputs"),
            _ => {}
        }
    })
    .await;
    bar.finish_and_clear();
    let detail = followed.context("follow the job")?;
    match (detail.state.as_str(), &detail.error) {
        ("succeeded", _) => Ok(detail),
        (_, Some(error)) => Err(refusal(Failure {
            kind: ErrorKind::from_word(&error.kind).unwrap_or(ErrorKind::Internal),
            message: format!("the job {} has {}: {}", detail.id, detail.state, error.message),
            causes: error.causes.clone(),
            hint: error
                .hint
                .clone()
                .or_else(|| Some(format!("`corral job logs {}` shows what it wrote", detail.id))),
            retry_after: None,
        })),
        (state, None) => Err(refusal(Failure::new(
            ErrorKind::Conflict,
            format!("the job {} was {state}", detail.id),
        ))),
    }
}

/// What a job says of itself in one line: the sentence it gave and, where its detail has them,
/// the best so far, what runs, the time left, and the memory it takes of what it may take.
fn progress_line(message: &str, detail: &Value) -> String {
    let number = |key: &str| detail.get(key).and_then(Value::as_f64);
    let mut parts = vec![message.to_owned()];
    let running = number("trials_running").filter(|running| *running > 0.0);
    parts.extend(running.map(|running| format!("{running} running")));
    if let (Some(metric), Some(best)) = (detail["metric"].as_str(), number("best")) {
        parts.push(format!("best {metric} {best:.4}"));
    }
    parts.extend(number("seconds_left").map(|seconds| format!("{} left", rough_time(seconds))));
    let of_lease = number("memory_lease_bytes")
        .map_or_else(String::new, |lease| format!(" of {}", display_bytes(lease as u64)));
    let memory = number("memory_bytes").map(|bytes| display_bytes(bytes as u64) + &of_lease);
    parts.extend(memory);
    parts.join(" · ")
}

/// Seconds, or minutes where there are several: nobody waits by the second for those.
fn rough_time(seconds: f64) -> String {
    const LONGEST_IN_SECONDS: f64 = 100.0;
    if seconds < LONGEST_IN_SECONDS {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_bar_tells_what_the_detail_has() {
        let detail = json!({
            "trials_running": 3, "metric": "accuracy", "best": 0.93456, "seconds_left": 130.0,
            "memory_bytes": 512u64 << 20, "memory_lease_bytes": 2u64 << 30, "seconds": 1.0,
        });
        assert_eq!(
            progress_line("trial 5 of 97", &detail),
            "trial 5 of 97 · 3 running · best accuracy 0.9346 · 2 min left · 512 MiB of 2.00 GiB"
        );
        let detail =
            json!({"best": null, "metric": "accuracy", "trials_running": 0, "seconds_left": 9.4});
        assert_eq!(progress_line("searching", &detail), "searching · 9 s left");
        assert_eq!(progress_line("started", &Value::Null), "started");
    }

    #[test]
    fn events_come_out_whole_wherever_the_bytes_are_cut() {
        let stream = "id: 1\nevent: log\ndata: {\"a\":\ndata: 1}\n\n: comment\n\ndata: é\r\n\r\n";
        let expect = [
            ServerEvent { id: "1".into(), name: "log".into(), data: "{\"a\":\n1}".into() },
            ServerEvent { id: "1".into(), name: String::new(), data: "é".into() },
        ];
        for size in 1..stream.len() {
            let mut parser = EventParser::default();
            let mut events = Vec::new();
            for block in stream.as_bytes().chunks(size) {
                parser.push(block, |event| events.push(event)).unwrap();
            }
            assert_eq!(events, expect, "in blocks of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = EventParser::default();
        let block = vec![b'x'; MAX_EVENT_BYTES];
        assert!(parser.push(&block, |_| {}).is_ok());
        assert!(parser.push(b"x", |_| {}).is_err());
    }
}
