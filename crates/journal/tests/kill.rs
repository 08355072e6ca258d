//! A process that appends is killed at random moments, hundreds of times, on one journal. What
//! it was told is on disk must be there afterwards, in order, once, and nothing invented.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use corral_journal::{Journal, JournalOptions, Recovery, SequenceNumber};

/// Set for the process that is killed: the journal's directory.
const DIRECTORY: &str = "CORRAL_JOURNAL_KILL_DIRECTORY";
const KILLS: u64 = 250;
const APPENDERS: usize = 4;
const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 16 << 10, reserve_bytes: 0 };

/// How many records each appender has in the journal: the state that snapshots hold. Each
/// record says its appender and how many came before it.
type Counts = [u64; APPENDERS];

fn apply(counts: &mut Counts, payload: &[u8]) {
    let (appender, count) =
        (payload[0] as usize, u64::from_le_bytes(payload[1..9].try_into().unwrap()));
    assert_eq!(count, counts[appender], "appender {appender} has a gap or a duplicate");
    counts[appender] += 1;
}

fn replay(recovery: Recovery) -> (Counts, SequenceNumber) {
    let (mut counts, mut last) = ([0; APPENDERS], SequenceNumber::ZERO);
    if let Some(mut snapshot) = recovery.snapshot {
        for count in &mut counts {
            let mut bytes = [0; 8];
            snapshot.read_exact(&mut bytes).unwrap();
            *count = u64::from_le_bytes(bytes);
        }
        last = snapshot.covers();
    }
    for record in recovery.records {
        let record = record.unwrap();
        assert_eq!(record.sequence, last.next());
        last = record.sequence;
        apply(&mut counts, &record.payload);
    }
    assert_eq!(counts.iter().sum::<u64>(), last.get());
    (counts, last)
}

/// Not a test of its own: the other one runs it in a process, and kills that.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let (journal, recovery) = Journal::open(&dir, OPTIONS).unwrap();
    let (counts, mut covered) = replay(recovery);
    std::thread::scope(|scope| {
        for (appender, &count) in counts.iter().enumerate() {
            let journal = &journal;
            scope.spawn(move || append_for_ever(journal, appender, count));
        }
        // Snapshots of what another process could read: an export is opened and counted.
        loop {
            if journal.last_synced().get() < covered.get() + 200 {
                std::thread::yield_now();
                continue;
            }
            let copy = Path::new(&dir).with_extension("export");
            let _ = std::fs::remove_dir_all(&copy);
            journal.export(&copy).unwrap();
            let (counts, last) = replay(Journal::open(&copy, OPTIONS).unwrap().1);
            let state: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
            journal.install_snapshot(last, &state).unwrap();
            covered = last;
        }
    });
}

fn append_for_ever(journal: &Journal, appender: usize, mut count: u64) {
    loop {
        let batch: Vec<_> = (0..=count % 3)
            .map(|index| {
                let mut payload = vec![appender as u8];
                payload.extend((count + index).to_le_bytes());
                payload.resize(9 + (count * 37 % 400) as usize, appender as u8);
                payload
            })
            .collect();
        journal.append_batch_blocking(&batch).unwrap();
        count += batch.len() as u64;
        writeln!(std::io::stdout().lock(), "acknowledged {appender} {count}").unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kills() {
    // In memory where that is possible: a kill loses nothing that was written, synced or not.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let journal = dir.path().join("journal");
    let mut acknowledged = BTreeMap::new();
    let mut cuts = 0;
    for kill in 0..KILLS {
        // From before the journal is open to after its first snapshots.
        let lines = (kill * 7919) % 97 * (kill % 5);
        run_and_kill(&journal, lines, &mut acknowledged);
        let (_, recovery) = Journal::open(&journal, OPTIONS).unwrap();
        cuts += u64::from(recovery.cut_tail.is_some());
        let (counts, _) = replay(recovery);
        for (&appender, &count) in &acknowledged {
            assert!(counts[appender] >= count, "kill {kill}: {counts:?}, told {acknowledged:?}");
        }
    }
    let total: u64 = acknowledged.values().sum();
    println!("{total} records acknowledged over {KILLS} kills, {cuts} unfinished frames cut");
    assert!(total > 10 * KILLS);
}

fn run_and_kill(journal: &Path, lines: u64, acknowledged: &mut BTreeMap<usize, u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, journal)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut seen) = (String::new(), 0);
    loop {
        if seen == lines {
            child.kill().unwrap();
        }
        // What was said before the kill is still in the pipe, its last line perhaps cut.
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["acknowledged", appender, count] = words[..] {
            acknowledged.insert(appender.parse().unwrap(), count.parse().unwrap());
            seen += 1;
        }
    }
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the process ended by itself: {status}");
}
