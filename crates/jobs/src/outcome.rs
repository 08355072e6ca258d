//! From the end of an attempt to what follows for its job.

use corral_placement::StopNumbers;
use corral_types::{AttemptId, Timestamp, display_bytes};
use corral_worker_api::{Accounting, AttemptEvent, Event, Outcome, StopReason};
use serde_json::json;

use crate::core::{JobsCore, timed_out};
use crate::job::{Ending, FailureReason, Job, JobFailure, StopCause};
use crate::record::{Next, Record, Told};
use crate::request::{OverMemory, json_bytes};

/// The largest result as JSON: results are kept in memory with their job; what is larger
/// is an output.
pub const MAX_RESULT_BYTES: usize = 256 * 1024;
/// The largest detail of one report of progress; a larger one is left out and said so.
pub const MAX_PROGRESS_DETAIL_BYTES: usize = 64 * 1024;
/// The most outputs of one job: with their names they fit a record of the journal.
pub const MAX_OUTPUTS: usize = 1_024;
/// The longest name of an output, as for a file.
pub const MAX_OUTPUT_NAME_BYTES: usize = 255;
/// The most causes that are kept of a failure; a longer chain says no more.
const MAX_CAUSES: usize = 16;
/// How large a record of what an attempt told may become before the next begins, well
/// below what a journal takes as one.
const TOLD_RECORD_BYTES: usize = 256 * 1024;

impl JobsCore {
    /// Takes in what an attempt told: the events that follow the last one taken, in order.
    /// Those before it have been taken, those after a gap come again, and those of an
    /// attempt that no job waits for are dropped.
    pub fn told(
        &self,
        now: Timestamp,
        attempt: AttemptId,
        events: impl IntoIterator<Item = AttemptEvent>,
    ) -> Vec<Record> {
        let Some(job) = self.job_of(attempt) else { return Vec::new() };
        let Some(current) = &job.attempt else { return Vec::new() };
        let mut events: Vec<AttemptEvent> =
            events.into_iter().filter(|event| event.number > current.last_event).collect();
        events.sort_by_key(|event| event.number);
        events.dedup_by_key(|event| event.number);
        let mut records = Vec::new();
        let mut last = current.last_event;
        let mut told = Vec::new();
        let mut told_bytes = 0;
        for event in events {
            if event.number != last + 1 {
                break;
            }
            last = event.number;
            match event.event {
                Event::Ended { outcome, accounting } => {
                    let number = Some(last);
                    if !told.is_empty() {
                        let up_to = last - 1;
                        records.push(Record::Told {
                            job: job.id,
                            attempt,
                            up_to,
                            at: now,
                            events: std::mem::take(&mut told),
                        });
                    }
                    records.push(self.attempt_ended(now, job, number, outcome, accounting));
                    return records;
                }
                kept => {
                    let kept = within_limits(kept);
                    told_bytes += json_bytes(&kept);
                    told.push(Told { at: event.at, event: kept });
                }
            }
            if told_bytes >= TOLD_RECORD_BYTES {
                told_bytes = 0;
                let events = std::mem::take(&mut told);
                records.push(Record::Told { job: job.id, attempt, up_to: last, at: now, events });
            }
        }
        if !told.is_empty() {
            records.push(Record::Told { job: job.id, attempt, up_to: last, at: now, events: told });
        }
        records
    }

    /// The attempt's worker is lost, or does not know the attempt any more.
    pub fn attempt_lost(&self, now: Timestamp, attempt: AttemptId) -> Vec<Record> {
        let Some(job) = self.job_of(attempt) else { return Vec::new() };
        let accounting = Accounting::default();
        vec![self.attempt_ended(now, job, None, Outcome::Lost, accounting)]
    }

    fn attempt_ended(
        &self,
        now: Timestamp,
        job: &Job,
        number: Option<u64>,
        outcome: Outcome,
        accounting: Accounting,
    ) -> Record {
        let attempt = job.attempt.as_ref().expect("the caller found the job by its attempt").id;
        let outcome = outcome_within_limits(outcome);
        let next = self.after(now, job, &outcome, &accounting);
        Record::AttemptEnded { job: job.id, attempt, number, at: now, outcome, accounting, next }
    }

    /// What follows an outcome. A cancel wins over everything; work that was done wins
    /// over a limit that passed meanwhile.
    fn after(&self, now: Timestamp, job: &Job, outcome: &Outcome, accounting: &Accounting) -> Next {
        match (job.stop.as_ref().map(|stop| stop.cause), outcome) {
            (Some(StopCause::Cancelled), _) => Next::End(Ending::Cancelled),
            (_, Outcome::Succeeded { .. }) => Next::Complete,
            (Some(StopCause::TimeLimit), _) => Next::End(timed_out(job)),
            (Some(StopCause::MemoryPressure { numbers }), _) => {
                self.over_memory(now, job, chosen_under_pressure(&numbers))
            }
            (None, Outcome::Failed { retryable, .. }) => {
                let failure = handler_failure(outcome);
                if *retryable {
                    self.retry_or(now, job, failure)
                } else {
                    Next::End(Ending::Failed { failure })
                }
            }
            (None, Outcome::OverMemory { requested_bytes, limit_bytes, measured_bytes }) => {
                let failure = over_limit(*requested_bytes, *limit_bytes, *measured_bytes);
                self.over_memory(now, job, failure)
            }
            (None, Outcome::Stopped { reason }) => match reason {
                StopReason::Cancelled | StopReason::FinishNow => Next::End(Ending::Cancelled),
                StopReason::TimeLimit => Next::End(timed_out(job)),
                StopReason::MemoryPressure => {
                    let limits = job.attempt.as_ref().map(|attempt| attempt.limits);
                    let (request, limit) = limits.map_or((0, 0), |limits| {
                        (limits.memory_request_bytes, limits.memory_limit_bytes)
                    });
                    let failure = over_limit(request, limit, accounting.peak_memory_bytes);
                    self.over_memory(now, job, failure)
                }
            },
            (None, Outcome::Died { .. } | Outcome::Lost) => {
                self.retry_or(now, job, handler_failure(outcome))
            }
        }
    }

    fn over_memory(&self, now: Timestamp, job: &Job, failure: JobFailure) -> Next {
        match job.request.over_memory {
            OverMemory::Fail => Next::End(Ending::Failed { failure }),
            OverMemory::Retry => self.retry_or(now, job, failure),
        }
    }
}

/// An outcome in a sentence.
pub(crate) fn in_a_sentence(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded".to_owned(),
        Outcome::Stopped { reason } => match reason {
            StopReason::Cancelled => "stopped: the job was cancelled".to_owned(),
            StopReason::FinishNow => "stopped early, with nothing to keep".to_owned(),
            StopReason::TimeLimit => "stopped: its time was over".to_owned(),
            StopReason::MemoryPressure => "stopped: the machine was short of memory".to_owned(),
        },
        Outcome::OverMemory { requested_bytes, limit_bytes, measured_bytes } => {
            over_limit(*requested_bytes, *limit_bytes, *measured_bytes).message
        }
        Outcome::Failed { .. } | Outcome::Died { .. } | Outcome::Lost => {
            handler_failure(outcome).message
        }
    }
}

fn handler_failure(outcome: &Outcome) -> JobFailure {
    let failure =
        |reason, message: String| JobFailure { reason, message, causes: Vec::new(), hint: None };
    match outcome {
        Outcome::Failed { message, causes, hint, .. } => JobFailure {
            reason: FailureReason::Handler,
            message: message.clone(),
            causes: causes.clone(),
            hint: hint.clone(),
        },
        Outcome::Died { signal: Some(signal), .. } => {
            failure(FailureReason::Died, format!("its process was ended by signal {signal}"))
        }
        Outcome::Died { exit_code: Some(code), .. } => {
            failure(FailureReason::Died, format!("its process exited with code {code}"))
        }
        Outcome::Died { .. } => {
            failure(FailureReason::Died, "its process died without a word".to_owned())
        }
        _ => failure(FailureReason::WorkerLost, "its worker was lost".to_owned()),
    }
}

fn over_limit(request_bytes: u64, limit_bytes: u64, measured_bytes: u64) -> JobFailure {
    JobFailure {
        reason: FailureReason::OverMemory,
        message: format!(
            "took {} of memory; it requested {} and its limit is {}",
            display_bytes(measured_bytes),
            display_bytes(request_bytes),
            display_bytes(limit_bytes)
        ),
        causes: Vec::new(),
        hint: Some("raise its memory limit, or give it less to do at once".to_owned()),
    }
}

pub(crate) fn chosen_under_pressure(numbers: &StopNumbers) -> JobFailure {
    JobFailure {
        reason: FailureReason::OverMemory,
        message: format!(
            "was stopped because its machine was short of memory ({} free, {} in reserve): it \
             took {}, having requested {} with a limit of {}",
            display_bytes(numbers.free_bytes),
            display_bytes(numbers.reserve_bytes),
            display_bytes(numbers.measured_bytes),
            display_bytes(numbers.request_bytes),
            display_bytes(numbers.limit_bytes)
        ),
        causes: Vec::new(),
        hint: Some(
            "request as much memory as it needs: a task within its request is never \
                    stopped for others"
                .to_owned(),
        ),
    }
}

/// The event as it is kept: every number one that JSON has, every value of a size that may
/// be kept.
fn within_limits(event: Event) -> Event {
    match event {
        Event::Progress { fraction, message, detail } => {
            let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
            let bytes = json_bytes(&detail);
            let detail = if bytes > MAX_PROGRESS_DETAIL_BYTES {
                json!({ "left_out_bytes": bytes, "limit_bytes": MAX_PROGRESS_DETAIL_BYTES })
            } else {
                detail
            };
            Event::Progress { fraction, message: cut(message), detail }
        }
        Event::Log { stream, line } => Event::Log { stream, line: cut(line) },
        other => other,
    }
}

/// The text within the longest log line, its end marked where something was cut off.
fn cut(mut text: String) -> String {
    const MARK: &str = " [cut]";
    if text.len() > corral_worker_api::MAX_LOG_LINE_BYTES + MARK.len() {
        let end = text.floor_char_boundary(corral_worker_api::MAX_LOG_LINE_BYTES);
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

/// The outcome as it is kept; a success that is too large to keep is a failure.
fn outcome_within_limits(outcome: Outcome) -> Outcome {
    let (result, outputs) = match outcome {
        Outcome::Succeeded { result, outputs } => (result, outputs),
        Outcome::Failed { message, causes, hint, retryable } => {
            let causes = causes.into_iter().take(MAX_CAUSES).map(cut).collect();
            return Outcome::Failed {
                message: cut(message),
                causes,
                hint: hint.map(cut),
                retryable,
            };
        }
        other => return other,
    };
    let bytes = json_bytes(&result);
    let refuse = |message, hint: &str| Outcome::Failed {
        message,
        causes: Vec::new(),
        hint: Some(hint.to_owned()),
        retryable: false,
    };
    if bytes > MAX_RESULT_BYTES {
        let (found, most) = (display_bytes(bytes as u64), display_bytes(MAX_RESULT_BYTES as u64));
        refuse(
            format!("its result has {found}; a result has at most {most}"),
            "write large results as outputs",
        )
    } else if outputs.len() > MAX_OUTPUTS {
        refuse(
            format!("it made {} outputs; a job has at most {MAX_OUTPUTS}", outputs.len()),
            "pack them into fewer files",
        )
    } else if let Some(long) =
        outputs.iter().find(|output| output.name.len() > MAX_OUTPUT_NAME_BYTES)
    {
        let bytes = long.name.len();
        refuse(
            format!("an output's name has {bytes} bytes; it may have {MAX_OUTPUT_NAME_BYTES}"),
            "give its outputs shorter names",
        )
    } else {
        Outcome::Succeeded { result, outputs }
    }
}
