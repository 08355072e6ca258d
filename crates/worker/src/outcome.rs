//! How an attempt ended, decided from everything that is known about its end.

use corral_worker_api::{Limits, Outcome, StopReason};

use crate::job::{JobFailure, JobOutput};

/// What is known when the process of an attempt is gone.
#[derive(Clone, Debug)]
pub struct Ending {
    pub limits: Limits,
    /// The handler's last word.
    pub answer: Option<Result<JobOutput, JobFailure>>,
    /// Why it was stopped, when it was stopped before its last word came.
    pub stopped: Option<StopReason>,
    /// Whether it passed its memory limit before its last word came.
    pub exceeded_memory: bool,
    /// The size of an allocation for which it said that there was no memory.
    pub failed_allocation_bytes: Option<u64>,
    /// The most memory that was measured.
    pub peak_bytes: u64,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

/// What is to be reported: success still needs its outputs stored.
#[derive(Debug, PartialEq)]
pub enum Decision {
    Succeeded(JobOutput),
    Other(Outcome),
}

/// What a Rust program exits with when it cannot allocate.
const ABORTED: i32 = 6;

/// How the attempt ended. A handler's success stands even when the process was told to stop
/// or came to grief after it.
pub fn decide(ending: Ending) -> Decision {
    let over_memory = |measured_bytes| {
        Decision::Other(Outcome::OverMemory {
            requested_bytes: ending.limits.memory_request_bytes,
            limit_bytes: ending.limits.memory_limit_bytes,
            measured_bytes,
        })
    };
    if ending.exceeded_memory || ending.stopped == Some(StopReason::MemoryPressure) {
        return over_memory(ending.peak_bytes);
    }
    if let Some(reason @ (StopReason::Cancelled | StopReason::TimeLimit)) = ending.stopped {
        return Decision::Other(Outcome::Stopped { reason });
    }
    match (ending.answer, ending.failed_allocation_bytes) {
        (Some(Ok(output)), _) => Decision::Succeeded(output),
        (Some(Err(failure)), _) => Decision::Other(failed(failure)),
        (None, Some(bytes)) if ending.signal == Some(ABORTED) => {
            over_memory(ending.peak_bytes.saturating_add(bytes))
        }
        (None, _) => {
            Decision::Other(Outcome::Died { exit_code: ending.exit_code, signal: ending.signal })
        }
    }
}

/// The failure as the protocol has it.
pub fn failed(failure: JobFailure) -> Outcome {
    let JobFailure { message, causes, hint, retryable } = failure;
    Outcome::Failed { message, causes, hint, retryable }
}

/// The size in the message that Rust's standard library prints before it aborts.
pub fn failed_allocation_bytes(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("memory allocation of ")?;
    rest.split_once(" bytes failed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use corral_types::LeaseId;
    use serde_json::json;

    use super::*;

    fn ending() -> Ending {
        Ending {
            limits: Limits {
                lease: LeaseId::from_u128(1),
                memory_request_bytes: 10,
                memory_limit_bytes: 20,
                milli_cpu: 1000,
                cpu_weight: 100,
            },
            answer: None,
            stopped: None,
            exceeded_memory: false,
            failed_allocation_bytes: None,
            peak_bytes: 21,
            exit_code: None,
            signal: None,
        }
    }

    fn over(measured_bytes: u64) -> Decision {
        Decision::Other(Outcome::OverMemory {
            requested_bytes: 10,
            limit_bytes: 20,
            measured_bytes,
        })
    }

    #[test]
    fn every_end_has_its_outcome() {
        let output = JobOutput::of(json!(1));
        let failure = JobFailure::permanent("no");
        let stopped = |reason| Decision::Other(Outcome::Stopped { reason });
        let died = |exit_code, signal| Decision::Other(Outcome::Died { exit_code, signal });
        let check = |ending, expect: Decision| assert_eq!(decide(ending), expect);
        check(
            Ending { answer: Some(Ok(output.clone())), signal: Some(11), ..ending() },
            Decision::Succeeded(output.clone()),
        );
        check(
            Ending { answer: Some(Err(failure.clone())), ..ending() },
            Decision::Other(failed(failure.clone())),
        );
        check(Ending { exceeded_memory: true, signal: Some(9), ..ending() }, over(21));
        check(Ending { stopped: Some(StopReason::MemoryPressure), ..ending() }, over(21));
        check(
            Ending { failed_allocation_bytes: Some(100), signal: Some(ABORTED), ..ending() },
            over(121),
        );
        check(
            Ending { failed_allocation_bytes: Some(100), exit_code: Some(3), ..ending() },
            died(Some(3), None),
        );
        for reason in [StopReason::Cancelled, StopReason::TimeLimit] {
            let answer = Some(Err(failure.clone()));
            check(Ending { stopped: Some(reason), answer, ..ending() }, stopped(reason));
        }
        check(
            Ending {
                stopped: Some(StopReason::FinishNow),
                answer: Some(Ok(output.clone())),
                ..ending()
            },
            Decision::Succeeded(output),
        );
        check(
            Ending { stopped: Some(StopReason::FinishNow), signal: Some(9), ..ending() },
            died(None, Some(9)),
        );
        check(Ending { exit_code: Some(0), ..ending() }, died(Some(0), None));
    }

    #[test]
    fn the_allocation_message_is_recognised() {
        assert_eq!(failed_allocation_bytes("memory allocation of 4096 bytes failed"), Some(4096));
        assert_eq!(failed_allocation_bytes("memory allocation of x bytes failed"), None);
        assert_eq!(failed_allocation_bytes("all is well"), None);
    }
}
