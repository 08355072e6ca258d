//! What a journal does for its owner, through its public interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corral_journal::{
    Damage, Journal, JournalError, JournalOptions, MAX_BATCH_BYTES, MAX_RECORD_BYTES, Recovery,
    SequenceNumber,
};
use corral_types::{ErrorKind, Explain};

/// Small segments, so that few records make many.
const SMALL: JournalOptions = JournalOptions { segment_bytes: 4096, reserve_bytes: 0 };

/// A directory in memory where there is one: what a disk adds here is only time.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(dir: &Path) -> (Journal, Recovery) {
    Journal::open(dir, SMALL).unwrap()
}

fn payloads(recovery: Recovery) -> Vec<Vec<u8>> {
    recovery.records.map(|record| record.unwrap().payload).collect()
}

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<Vec<u8>> {
    range.map(|number| format!("record {number}").into_bytes()).collect()
}

fn files(dir: &Path, extension: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(extension))
        .collect();
    names.sort();
    names
}

#[test]
fn records_come_back_in_order_with_their_numbers() {
    let dir = directory();
    {
        let (journal, recovery) = open(dir.path());
        assert!(recovery.snapshot.is_none());
        assert_eq!(recovery.records.count(), 0);
        for (index, payload) in numbered(1..=500).iter().enumerate() {
            let sequence = journal.append_blocking(payload).unwrap();
            assert_eq!(sequence.get(), index as u64 + 1);
        }
        assert_eq!(journal.last_synced(), SequenceNumber::new(500));
    }
    assert!(files(dir.path(), ".segment").len() > 3);
    let (journal, recovery) = open(dir.path());
    assert_eq!(recovery.records.remaining(), 500);
    assert!(recovery.cut_tail.is_none());
    let records: Vec<_> = recovery.records.map(Result::unwrap).collect();
    for (index, (record, payload)) in records.iter().zip(numbered(1..=500)).enumerate() {
        assert_eq!((record.sequence.get(), &record.payload), (index as u64 + 1, &payload));
    }
    assert_eq!(records.len(), 500);
    assert_eq!(journal.append_blocking(b"more").unwrap().get(), 501);
}

#[test]
fn records_of_every_size_come_back() {
    let dir = directory();
    let sizes = [0, 1, 3, 4, 5, 4000, 4040, 4096, 70_000, MAX_RECORD_BYTES, 0, 7];
    let all: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![size as u8 ^ 0x5a; size]).collect();
    {
        let (journal, _) = open(dir.path());
        for payload in &all {
            journal.append_blocking(payload).unwrap();
        }
        journal.append_batch_blocking(&all).unwrap();
    }
    let (_, recovery) = open(dir.path());
    assert_eq!(payloads(recovery), [all.clone(), all].concat());
}

#[test]
fn what_is_over_a_limit_is_refused_with_the_limit() {
    let dir = directory();
    let (journal, _) = open(dir.path());
    let record = journal.append_blocking(vec![0; MAX_RECORD_BYTES + 1]).unwrap_err();
    assert_eq!(record.to_string(), "a record of 1.00 MiB is larger than the 1.00 MiB it may have");
    assert_eq!(record.kind(), ErrorKind::TooLarge);
    let batch = vec![vec![0; MAX_RECORD_BYTES]; MAX_BATCH_BYTES / MAX_RECORD_BYTES];
    let batch = journal.append_batch_blocking(&batch).unwrap_err();
    assert!(matches!(batch, JournalError::BatchTooLarge { .. }));
    assert_eq!(journal.append_blocking(b"fits").unwrap().get(), 1);
}

#[test]
fn a_second_opener_is_refused_and_told_the_pid() {
    let dir = directory();
    let (journal, _) = open(dir.path());
    let refused = Journal::open(dir.path(), SMALL).map(|_| ()).unwrap_err();
    assert!(
        matches!(&refused, JournalError::Locked { pid: Some(pid), .. } if *pid == std::process::id())
    );
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    drop(journal);
    open(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appenders_share_syncs_and_each_keeps_its_order() {
    let dir = directory();
    let (journal, _) = Journal::open(dir.path(), JournalOptions::default()).unwrap();
    let tasks: Vec<_> = (0..64u64)
        .map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for index in 0..50u64 {
                    let payload = [task.to_le_bytes(), index.to_le_bytes()].concat();
                    numbers.push(journal.append(payload).await.unwrap());
                }
                numbers
            })
        })
        .collect();
    let mut acknowledged = std::collections::BTreeMap::new();
    for (task, handle) in tasks.into_iter().enumerate() {
        let numbers = handle.await.unwrap();
        assert!(numbers.is_sorted());
        for (index, number) in numbers.into_iter().enumerate() {
            assert!(acknowledged.insert(number, (task as u64, index as u64)).is_none());
        }
    }
    drop(journal);
    let (_, recovery) = open(dir.path());
    for (record, (number, (task, index))) in recovery.records.zip(acknowledged) {
        let record = record.unwrap();
        assert_eq!(record.sequence, number);
        assert_eq!(record.payload, [task.to_le_bytes(), index.to_le_bytes()].concat());
    }
}

#[test]
fn queued_records_have_their_numbers_before_they_are_on_disk() {
    let dir = directory();
    let (journal, _) = open(dir.path());
    let pending: Vec<_> =
        numbered(1..=100).iter().map(|payload| journal.try_enqueue(&[payload]).unwrap()).collect();
    for (index, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.last().get(), index as u64 + 1);
        assert_eq!(pending.wait().unwrap().get(), index as u64 + 1);
    }
}

#[test]
fn dropping_the_journal_writes_what_nobody_waited_for() {
    let dir = directory();
    {
        let (journal, _) = open(dir.path());
        for payload in numbered(1..=100) {
            drop(journal.try_enqueue(&[payload]).unwrap());
        }
    }
    let (_, recovery) = open(dir.path());
    assert_eq!(payloads(recovery), numbered(1..=100));
}

#[test]
fn a_closed_journal_takes_nothing() {
    let dir = directory();
    let (journal, _) = open(dir.path());
    journal.append_blocking(b"one").unwrap();
    journal.close();
    assert!(matches!(journal.append_blocking(b"two"), Err(JournalError::Closed)));
    assert!(matches!(journal.try_enqueue(&[b"two"]), Err(JournalError::Closed)));
    drop(journal);
    assert_eq!(payloads(open(dir.path()).1), [b"one"]);
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let dir = directory();
    {
        open(dir.path());
    }
    let greedy = JournalOptions { segment_bytes: 4096, reserve_bytes: u64::MAX };
    {
        let (journal, _) = Journal::open(dir.path(), greedy).unwrap();
        let mut taken = 0;
        let refused = loop {
            match journal.append_blocking(vec![taken; 500]) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(taken > 3);
        assert!(matches!(refused, JournalError::DiskFull { .. }), "{refused}");
        assert_eq!(refused.kind(), ErrorKind::Exhausted);
        // What fits in the segment still goes, and numbers have no gap.
        assert_eq!(journal.append_blocking(b"small").unwrap().get(), u64::from(taken) + 1);
    }
    let (journal, recovery) = open(dir.path());
    let count = payloads(recovery).len() as u64;
    assert_eq!(journal.append_blocking(vec![0; 500]).unwrap().get(), count + 1);
}

#[test]
fn a_snapshot_replaces_the_records_it_covers() {
    let dir = directory();
    {
        let (journal, _) = open(dir.path());
        journal.append_batch_blocking(&numbered(1..=300)).unwrap();
        for payload in numbered(301..=600) {
            journal.append_blocking(payload).unwrap();
        }
        let before = files(dir.path(), ".segment").len();
        journal.install_snapshot(SequenceNumber::new(550), b"the state after 550").unwrap();
        assert!(files(dir.path(), ".segment").len() < before);
        assert_eq!(journal.newest_snapshot(), SequenceNumber::new(550));
        journal.append_blocking(b"record 601").unwrap();
    }
    for _ in 0..2 {
        let (_, recovery) = open(dir.path());
        let mut snapshot = recovery.snapshot.unwrap();
        assert_eq!((snapshot.covers().get(), snapshot.size_bytes()), (550, 19));
        let mut state = String::new();
        snapshot.read_to_string(&mut state).unwrap();
        assert_eq!(state, "the state after 550");
        assert_eq!(recovery.records.remaining(), 51);
        let records: Vec<_> = recovery.records.map(|record| record.unwrap().payload).collect();
        assert_eq!(records, numbered(551..=601));
    }
    let (journal, _) = open(dir.path());
    journal.install_snapshot(SequenceNumber::new(601), b"").unwrap();
    assert_eq!(files(dir.path(), ".snapshot"), ["00000000000000000601.snapshot"]);
    drop(journal);
    let (journal, recovery) = open(dir.path());
    assert_eq!(recovery.records.count(), 0);
    assert_eq!(journal.append_blocking(b"next").unwrap().get(), 602);
}

#[test]
fn snapshots_that_make_no_sense_are_refused() {
    let dir = directory();
    let (journal, _) = open(dir.path());
    let at = SequenceNumber::new;
    journal.append_batch_blocking(&numbered(1..=3)).unwrap();
    let ahead = journal.install_snapshot(at(4), b"").unwrap_err();
    assert!(
        matches!(ahead, JournalError::SnapshotAhead { covers, last } if (covers, last) == (at(4), at(3)))
    );
    journal.install_snapshot(at(2), b"").unwrap();
    let stale = journal.install_snapshot(at(2), b"").unwrap_err();
    assert!(matches!(stale, JournalError::SnapshotStale { .. }));
    let unfinished = journal.begin_snapshot(at(3)).unwrap();
    assert!(matches!(journal.begin_snapshot(at(3)).map(|_| ()), Err(JournalError::Busy)));
    drop(unfinished);
    assert!(files(dir.path(), ".partial").is_empty());
    journal.install_snapshot(at(3), b"").unwrap();
}

#[test]
fn a_damaged_snapshot_is_passed_over_only_when_nothing_is_lost_by_it() {
    let dir = directory();
    let (journal, _) = open(dir.path());
    journal.append_batch_blocking(&numbered(1..=3)).unwrap();
    journal.install_snapshot(SequenceNumber::new(2), b"state").unwrap();
    drop(journal);
    let path = dir.path().join("00000000000000000002.snapshot");
    let mut bytes = fs::read(&path).unwrap();
    bytes[26] ^= 1;
    fs::write(&path, bytes).unwrap();
    // The first segment is still there, so the log alone will do.
    let (journal, recovery) = open(dir.path());
    assert_eq!(recovery.damaged_snapshots, std::slice::from_ref(&path));
    assert_eq!(payloads(recovery), numbered(1..=3));
    // Once it is gone, only the snapshot knows.
    for payload in numbered(4..=400) {
        journal.append_blocking(payload).unwrap();
    }
    drop(journal);
    fs::remove_file(dir.path().join("00000000000000000001.segment")).unwrap();
    let error = Journal::open(dir.path(), SMALL).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, JournalError::Damaged { file, damage: Damage::Snapshot, .. } if *file == path),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::DataLoss);
}

#[test]
fn snapshots_are_taken_while_appends_go_on() {
    let dir = directory();
    let (journal, _) = open(dir.path());
    // The state is the sum of all numbers appended; each snapshot is checked at the end.
    let appended = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        let appender = scope.spawn(|| {
            for number in 1..=2000u64 {
                journal.append_blocking(number.to_le_bytes()).unwrap();
                appended.store(number, Ordering::Release);
            }
        });
        while !appender.is_finished() {
            let covers = appended.load(Ordering::Acquire);
            if SequenceNumber::new(covers) > journal.newest_snapshot() {
                let mut writer = journal.begin_snapshot(SequenceNumber::new(covers)).unwrap();
                writer.write_all(&(covers * (covers + 1) / 2).to_le_bytes()).unwrap();
                writer.install().unwrap();
            }
        }
    });
    drop(journal);
    let (_, recovery) = open(dir.path());
    let mut sum = [0; 8];
    recovery.snapshot.unwrap().read_exact(&mut sum).unwrap();
    let after: u64 = recovery
        .records
        .map(|record| u64::from_le_bytes(record.unwrap().payload.try_into().unwrap()))
        .sum();
    assert_eq!(u64::from_le_bytes(sum) + after, 2000 * 2001 / 2);
}

#[test]
fn an_export_taken_under_load_opens_with_all_that_was_synced() {
    let dir = directory();
    let (journal, _) = open(&dir.path().join("journal"));
    journal.append_batch_blocking(&numbered(1..=200)).unwrap();
    journal.install_snapshot(SequenceNumber::new(100), b"state").unwrap();
    let exports = std::thread::scope(|scope| {
        let appender = scope.spawn(|| {
            for payload in numbered(201..=1500) {
                journal.append_blocking(payload).unwrap();
            }
        });
        let mut exports = Vec::new();
        while !appender.is_finished() {
            let to = dir.path().join(format!("export {}", exports.len()));
            let before = journal.last_synced();
            let last = journal.export(&to).unwrap();
            assert!(last >= before);
            exports.push((to, last.get()));
        }
        exports
    });
    for (path, last) in exports {
        let (_, recovery) = open(&path);
        assert_eq!(recovery.snapshot.as_ref().unwrap().covers().get(), 100);
        assert!(recovery.cut_tail.is_none());
        assert_eq!(payloads(recovery), numbered(101..=last));
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let dir = directory();
    drop(open(dir.path()));
    let path = dir.path().join("00000000000000000001.segment");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    fs::write(&path, bytes).unwrap();
    let error = Journal::open(dir.path(), SMALL).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::NewerFormat { found: 9, .. }), "{error}");
}

/// The files of `fixtures/format-1` were written by the first version of this crate.
#[test]
fn the_first_format_is_read_for_ever() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1");
    let dir = directory();
    for name in [
        "00000000000000000001.segment",
        "00000000000000000004.segment",
        "00000000000000000002.snapshot",
    ] {
        fs::copy(fixture.join(name), dir.path().join(name)).unwrap();
    }
    let (journal, recovery) = open(dir.path());
    let mut state = String::new();
    recovery.snapshot.unwrap().read_to_string(&mut state).unwrap();
    assert_eq!(state, "state after two");
    let records: Vec<_> = recovery.records.map(Result::unwrap).collect();
    let expected: [(u64, &[u8]); 3] = [(3, &[3; 100]), (4, &[4; 400]), (5, b"")];
    assert_eq!(records.len(), expected.len());
    for (record, (sequence, payload)) in records.iter().zip(expected) {
        assert_eq!((record.sequence.get(), record.payload.as_slice()), (sequence, payload));
    }
    assert_eq!(journal.append_blocking(b"next").unwrap().get(), 6);
}
