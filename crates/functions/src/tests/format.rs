//! What is on disk can be read for ever: a journal and a snapshot as this format was first
//! written, and a record of each kind.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use corral_containers::StartKind;
use corral_types::{BlobHash, ContainerId, FunctionId, InputId};

use super::describe::describe;
use super::{at, settings};
use crate::call::{CallKind, ChunkDirection, Invocation, Outcome, OutcomeStatus, Payload};
use crate::core::Core;
use crate::packed::{CallKey, Ending, pack_payload};
use crate::record::{Counted, PackedChunk, PackedInput, Record};
use crate::settings::Scaling;
use crate::snapshot::SnapshotWalk;
use crate::usage::FunctionUsage;

fn input(index: u32) -> PackedInput {
    let payload = if index == 2 {
        Payload::Blob(BlobHash::of(b"large"))
    } else {
        Payload::Inline(Bytes::copy_from_slice(&[index as u8; 3]))
    };
    PackedInput { index, format: 1, method: "run".to_owned(), body: pack_payload(&payload) }
}

fn ending(status: OutcomeStatus) -> std::sync::Arc<[u8]> {
    let outcome = Outcome {
        payload: Some(Payload::Inline(Bytes::from_static(b"out"))),
        data_format: 4,
        ..Outcome::without_payload(status, "ValueError")
    };
    let container = Some(ContainerId::from_u128(1));
    Ending { outcome, container, started_at: Some(at(5)) }.pack()
}

/// A record of each kind, in an order in which they could have come.
fn records() -> Vec<Record> {
    let function = FunctionId::from_u128(1);
    let (one, map) = (CallKey::new(at(10), [1; 6]), CallKey::new(at(11), [2; 6]));
    let over = CallKey::new(at(12), [3; 6]);
    let (container, second) = (ContainerId::from_u128(1), ContainerId::from_u128(2));
    let created = |call, kind, inputs: Vec<PackedInput>| Record::CallCreated {
        call,
        function,
        kind,
        invocation: Invocation::Sync,
        key: 77,
        parent: Some(InputId::from_u128(9)),
        at: at(20),
        inputs,
    };
    vec![
        Record::Defined { settings: Box::new(settings(1)) },
        Record::Defined { settings: Box::new(settings(2)) },
        Record::ScalingChanged {
            function,
            scaling: Scaling { min_containers: 1, ..Scaling::default() },
        },
        created(one, CallKind::Unary, vec![input(0)]),
        created(map, CallKind::Map, Vec::new()),
        created(over, CallKind::Unary, vec![input(0)]),
        Record::InputsPut { call: map, at: at(21), inputs: (0..6).map(input).collect() },
        Record::InputsFinished { call: map },
        Record::ContainerRequested { container, function, at: at(30) },
        Record::ContainerRequested { container: second, function, at: at(30) },
        Record::ContainerStarted { container, at: at(31), kind: StartKind::Snapshot },
        Record::ContainerReady { container, at: at(32) },
        Record::Assigned {
            container,
            poll: 5,
            at: at(33),
            timeout_ms: 1_000,
            inputs: vec![(one, 0), (map, 0), (map, 1), (map, 2), (map, 5), (over, 0)],
        },
        Record::Done {
            input: (one, 0),
            entry: 1,
            at: at(40),
            body: ending(OutcomeStatus::Success),
        },
        Record::Done {
            input: (map, 0),
            entry: 1,
            at: at(41),
            body: ending(OutcomeStatus::Success),
        },
        Record::Requeued { until: Some(at(99)), counted: Counted::Failure, inputs: vec![(map, 1)] },
        Record::Requeued { until: None, counted: Counted::Internal, inputs: vec![(map, 2)] },
        Record::Resumed { inputs: vec![(map, 1)] },
        Record::Requeued { until: Some(at(199)), counted: Counted::Not, inputs: vec![(map, 3)] },
        Record::DoneAlike {
            at: at(42),
            body: ending(OutcomeStatus::Terminated),
            inputs: vec![((map, 4), 2), ((over, 0), 1)],
        },
        Record::CallCancelled { call: over },
        Record::Cleared { call: map, indices: vec![0] },
        Record::InputsRetried { call: one, at: at(50), inputs: vec![input(0)] },
        Record::Chunks {
            call: map,
            direction: ChunkDirection::Out,
            chunks: vec![PackedChunk {
                index: 1,
                format: 2,
                body: pack_payload(&Payload::Inline(Bytes::new())),
            }],
        },
        Record::Interrupted { container, at: at(60), inputs: vec![map.input(4), map.input(0)] },
        Record::Released { container, inputs: vec![map.input(0)] },
        Record::Removed { calls: vec![over] },
        Record::ContainerDraining { container: second, at: at(61) },
        Record::ContainerEnded {
            container: second,
            usage: Box::new(FunctionUsage {
                cpu_ms: 7,
                cold_starts: 1,
                ..FunctionUsage::default()
            }),
        },
        Record::Retired { function: FunctionId::from_u128(2), at: at(70) },
        Record::Forgotten { function: FunctionId::from_u128(2) },
    ]
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn hex(parts: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for part in parts {
        for byte in part {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// The fixture, or what would be written now where `WRITE_FIXTURES` asks for it to be kept.
fn kept(name: &str, now: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if std::env::var_os("WRITE_FIXTURES").is_some() {
        std::fs::write(fixture(name), hex(now)).unwrap();
    }
    unhex(&std::fs::read_to_string(fixture(name)).unwrap())
}

fn fold(records: impl IntoIterator<Item = Record>) -> Core {
    let mut core = Core::default();
    for record in records {
        core.apply(record);
    }
    core
}

#[test]
fn records_of_the_first_version_are_read() {
    let now: Vec<Vec<u8>> = records().iter().map(Record::encode).collect();
    let kept = kept("records-1.hex", &now);
    let read: Vec<Record> = kept.iter().map(|record| Record::decode(record).unwrap()).collect();
    assert_eq!(read, records());
    super::describe::check(&fold(read));
}

#[test]
fn a_snapshot_of_the_first_version_is_read() {
    let core = fold(records());
    let (mut now, mut walk) = SnapshotWalk::begin(&core);
    now.extend(std::iter::from_fn(|| walk.next_piece(&core)));
    let mut read = Core::default();
    for piece in kept("snapshot-1.hex", &now) {
        read.restore(&piece).unwrap();
    }
    read.link_restored();
    super::describe::check(&read);
    assert_eq!(describe(&read), describe(&core));
}

#[test]
fn damaged_records_are_errors() {
    for record in records() {
        let bytes = record.encode();
        for length in 0..bytes.len() {
            // Some end where a shorter one could; most do not. None panics.
            let _ = Record::decode(&bytes[..length]);
        }
    }
    assert!(Record::decode(&[2, 1]).unwrap_err().to_string().contains("version 2"));
    assert!(Record::decode(&[1, 200]).unwrap_err().to_string().contains("kind 200"));
}
