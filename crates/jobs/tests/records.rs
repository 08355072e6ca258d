//! The form of records on disk: what was written once is read for ever.

use std::path::Path;

use corral_jobs::{
    Ending, FailureReason, JobFailure, JobRequest, JobsCore, JobsPolicy, Next, OverMemory, Record,
    RecordError, StatePiece, StopCause, Told,
};
use corral_placement::StopNumbers;
use corral_types::{AttemptId, BlobHash, JobId, LeaseId, Timestamp, WorkerId, WorkspaceId};
use corral_worker_api::{
    Accounting, Capacity, Event, Limits, LogStream, Outcome, Output, StopReason,
};
use serde_json::json;

fn limits() -> Limits {
    Limits {
        lease: LeaseId::from_u128(5),
        memory_request_bytes: 1 << 29,
        memory_limit_bytes: 1 << 31,
        milli_cpu: 1_000,
        cpu_weight: 250,
    }
}

/// One of every record, with every kind of event, outcome and ending.
fn every_record() -> Vec<Record> {
    let at = Timestamp::from_millis;
    let attempt = |number| AttemptId::from_u128(100 + number);
    let worker = WorkerId::from_u128(3);
    let workspace = WorkspaceId::from_u128(2);
    let job = |number| JobId::from_u128(number);
    let accounting = Accounting { wall_ms: 9, cpu_ms: 8, peak_memory_bytes: 7 };
    let failure = JobFailure {
        reason: FailureReason::OverMemory,
        message: "took too much".to_owned(),
        causes: vec!["a cause".to_owned()],
        hint: Some("take less".to_owned()),
    };
    let numbers = StopNumbers {
        request_bytes: 1,
        measured_bytes: 2,
        limit_bytes: 3,
        free_bytes: 4,
        reserve_bytes: 5,
    };
    let mut request = JobRequest::new("train", "banking", json!({ "a": [1, 2.5, null, "é"] }));
    request.inputs = vec![BlobHash::of(b"input")];
    request.time_limit_ms = Some(86_400_000);
    request.memory_limit_bytes = Some(1 << 32);
    request.over_memory = OverMemory::Retry;
    request.preferred_worker = Some(worker);
    let plain = JobRequest::new("import", "", json!(null));
    let output = Output { name: "model".to_owned(), blob: BlobHash::of(b"out"), bytes: 3 };
    let outputs = vec![output];
    let told = |event| Told { at: at(11), event };
    let ended = |number: u128, outcome, next| Record::AttemptEnded {
        job: job(number),
        attempt: attempt(number),
        number: Some(6),
        at: at(20),
        outcome,
        accounting,
        next,
    };
    let mut records = vec![Record::WorkerSeen {
        worker,
        at: at(1),
        host_name: "here".to_owned(),
        capacity: Capacity { memory_bytes: 1 << 34, milli_cpu: 8_000, disk_bytes: 1 << 40 },
    }];
    for number in 1..=9 {
        let request = if number == 1 { request.clone() } else { plain.clone() };
        let (job, attempt) = (job(number), attempt(number));
        let request = Box::new(request);
        records.push(Record::Submitted { job, workspace, at: at(9), request });
        let (limits, waited_ms) = (limits(), 1);
        records.push(Record::Assigned { job, attempt, worker, limits, at: at(10), waited_ms });
        records.push(Record::Told {
            job,
            attempt,
            up_to: 4,
            at: at(12),
            events: vec![
                told(Event::Started { process_id: 77 }),
                told(Event::Log { stream: LogStream::System, line: "line".to_owned() }),
                told(Event::Progress {
                    fraction: 0.25,
                    message: "quarter".to_owned(),
                    detail: json!({ "best": 0.9 }),
                }),
                told(Event::Checkpoint { blob: BlobHash::of(b"checkpoint") }),
            ],
        });
    }
    let result = json!({ "accuracy": 0.9 });
    let success = || Outcome::Succeeded { result: result.clone(), outputs: outputs.clone() };
    let fail = |retryable| Outcome::Failed {
        message: "no".to_owned(),
        causes: Vec::new(),
        hint: None,
        retryable,
    };
    records.push(ended(1, success(), Next::Complete));
    records.push(Record::Completed { job: job(1), at: at(21), result: result.clone() });
    records.push(ended(2, success(), Next::Complete));
    let refused = failure.clone();
    records.push(Record::CompletionRefused { job: job(2), at: at(21), failure: refused });
    records.push(ended(3, fail(true), Next::Retry { at: at(30) }));
    records.push(Record::Requeued { job: job(3), at: at(31) });
    let cause = StopCause::MemoryPressure { numbers };
    records.push(Record::StopWanted { job: job(4), at: at(13), cause });
    let over = Outcome::OverMemory { requested_bytes: 1, limit_bytes: 2, measured_bytes: 3 };
    records.push(ended(4, over, Next::End(Ending::Failed { failure })));
    records.push(Record::StopWanted { job: job(5), at: at(13), cause: StopCause::Cancelled });
    let stopped = Outcome::Stopped { reason: StopReason::Cancelled };
    records.push(ended(5, stopped, Next::End(Ending::Cancelled)));
    records.push(Record::StopWanted { job: job(6), at: at(13), cause: StopCause::TimeLimit });
    let ending = Ending::TimedOut { limit_ms: 1_000 };
    records.push(Record::Ended { job: job(6), at: at(40), ending });
    records.push(Record::FinishNowWanted { job: job(7), at: at(14) });
    let died = Outcome::Died { exit_code: Some(1), signal: Some(9) };
    records.push(ended(8, died, Next::Retry { at: at(50) }));
    records.push(Record::AttemptEnded {
        job: job(9),
        attempt: attempt(9),
        number: None,
        at: at(20),
        outcome: Outcome::Lost,
        accounting: Accounting::default(),
        next: Next::End(Ending::Cancelled),
    });
    records.push(Record::Removed { job: job(9) });
    records.push(Record::WorkerForgotten { worker: WorkerId::from_u128(4) });
    records
}

/// Each record behind its length, as a file.
fn file_of(records: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend_from_slice(&u32::try_from(record.len()).expect("small").to_le_bytes());
        bytes.extend_from_slice(&record);
    }
    bytes
}

fn records_in(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        records.push(record.to_vec());
        bytes = rest;
    }
    records
}

fn fixture(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    records_in(&std::fs::read(path).expect("the fixture is in the repository"))
}

fn folded(records: &[Record]) -> JobsCore {
    let mut core = JobsCore::new(JobsPolicy::default());
    for record in records {
        core.apply(record);
    }
    core
}

#[test]
fn records_of_version_1_are_read_for_ever() {
    let read: Vec<Record> = fixture("records-1.bin")
        .iter()
        .map(|bytes| Record::decode(bytes).expect("a record of version 1"))
        .collect();
    assert_eq!(read, every_record());
}

#[test]
fn snapshots_of_version_1_are_read_for_ever() {
    let pieces: Vec<StatePiece> = fixture("state-1.bin")
        .iter()
        .map(|bytes| StatePiece::decode(bytes).expect("a piece of version 1"))
        .collect();
    let restored = JobsCore::restore(JobsPolicy::default(), pieces);
    let core = folded(&every_record());
    assert!(core.jobs().eq(restored.jobs()));
    assert_eq!(core.workers(), restored.workers());
    assert_eq!(core.counts(), restored.counts());
    assert_eq!(core.jobs().count(), 8);
}

/// Writes the fixtures when asked to, for a new version; those of old ones stay.
#[test]
fn what_is_written_reads_back() {
    let records = every_record();
    let encoded: Vec<_> = records.iter().map(Record::encode).collect();
    let read: Vec<_> =
        encoded.iter().map(|bytes| Record::decode(bytes).expect("just written")).collect();
    assert_eq!(read, records);
    if let Ok(dir) = std::env::var("CORRAL_WRITE_FIXTURES") {
        let write = |name: &str, bytes| {
            std::fs::write(Path::new(&dir).join(name), bytes).expect("the fixture is written");
        };
        write("records-1.bin", file_of(encoded.into_iter()));
        write("state-1.bin", file_of(folded(&records).state().encode()));
    }
}

#[test]
fn what_is_no_record_is_refused() {
    assert!(matches!(Record::decode(b""), Err(RecordError::Empty)));
    assert!(matches!(Record::decode(b"\x02{}"), Err(RecordError::Version { found: 2 })));
    assert!(matches!(Record::decode(b"\x01{}"), Err(RecordError::Body(_))));
    let whole = every_record()[1].encode();
    for end in 1..whole.len() {
        assert!(Record::decode(&whole[..end]).is_err(), "cut at {end}");
    }
}

/// A handler may report what JSON cannot hold, or more than is kept.
#[test]
fn what_an_attempt_says_is_kept_within_limits() {
    let mut core = folded(&every_record()[..4]);
    let (job, attempt) = (JobId::from_u128(1), AttemptId::from_u128(101));
    let say = |number, event| corral_worker_api::AttemptEvent {
        attempt,
        number,
        at: Timestamp::from_millis(1),
        event,
    };
    let odd = f32::NAN;
    let large = json!("x".repeat(100_000));
    let events = vec![
        say(5, Event::Progress { fraction: odd, message: "m".repeat(50_000), detail: large }),
        say(6, Event::Log { stream: LogStream::Stdout, line: "\u{1}é".repeat(30_000) }),
    ];
    let records = core.told(Timestamp::from_millis(2), attempt, events);
    for record in &records {
        let bytes = record.encode();
        assert!(bytes.len() < 1 << 20, "a record fits the journal");
        assert_eq!(Record::decode(&bytes).expect("it reads back"), *record);
        core.apply(record);
    }
    let progress = core.job(job).and_then(|job| job.progress.clone()).expect("it was reported");
    assert_eq!(progress.fraction, 0.0);
    assert!(progress.message.len() < 20_000 && progress.message.ends_with("[cut]"));
    assert_eq!(progress.detail["left_out_bytes"], 100_002);
    let result = json!("r".repeat(300_000));
    let outcome = Outcome::Succeeded { result, outputs: Vec::new() };
    let accounting = Accounting::default();
    let end = vec![say(7, Event::Ended { outcome, accounting })];
    for record in core.told(Timestamp::from_millis(3), attempt, end) {
        core.apply(&record);
    }
    let job = core.job(job).expect("it is kept");
    assert_eq!(job.state(), corral_jobs::JobState::Failed, "a result that cannot be kept is none");
}
