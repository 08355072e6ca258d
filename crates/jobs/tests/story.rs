//! Stories on disk: torn ends, repetition after a crash, limits, and cutting back.

use std::fs;
use std::path::{Path, PathBuf};

use corral_jobs::{
    Chapter, JobEvent, JobEventKind, LogLine, StoryEntry, StoryLimits, StoryReader, StoryWriter,
};
use corral_types::{AttemptId, JobId, Timestamp};
use corral_worker_api::LogStream;

const LIMITS: StoryLimits = StoryLimits { event_bytes: 8_000, log_bytes: 8_000 };

fn job() -> JobId {
    JobId::from_u128(77)
}

fn line(id: u64) -> StoryEntry {
    let log = LogLine {
        id,
        at: Timestamp::from_millis(id),
        attempt: AttemptId::from_u128(1),
        stream: LogStream::Stderr,
        line: format!("line {id} \u{0}\n\"é"),
    };
    StoryEntry { job: job(), chapter: Chapter::Log(log) }
}

fn event(id: u64) -> StoryEntry {
    let event = JobEvent { id, at: Timestamp::from_millis(id), kind: JobEventKind::Requeued };
    StoryEntry { job: job(), chapter: Chapter::Event(event) }
}

fn open(dir: &Path) -> StoryWriter {
    StoryWriter::new(dir.to_owned(), LIMITS).expect("the directory can be written")
}

fn ids(dir: &Path, after: u64, most: usize) -> Vec<u64> {
    let page = StoryReader::new(dir.to_owned()).log(job(), after, most).expect("it can be read");
    page.entries.iter().map(|line| line.id).collect()
}

/// The files of the log, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.join(&job().to_string()[28..]).join(job().to_string());
    let names = fs::read_dir(dir).expect("the story has a directory");
    let mut paths: Vec<PathBuf> = names
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.to_string_lossy().contains("log-"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn entries_come_back_as_they_went_in_page_by_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = open(dir.path());
    writer.append(&(1..=10).map(line).collect::<Vec<_>>()).expect("written");
    assert_eq!(ids(dir.path(), 0, 100), (1..=10).collect::<Vec<_>>());
    assert_eq!(ids(dir.path(), 4, 3), [5, 6, 7]);
    assert!(ids(dir.path(), 10, 3).is_empty());
    let page = StoryReader::new(dir.path().to_owned()).log(job(), 2, 1).expect("read");
    assert_eq!(Chapter::Log(page.entries[0].clone()), line(3).chapter);
    assert_eq!(page.first_kept, 1);
    let nothing = StoryReader::new(dir.path().to_owned()).log(JobId::from_u128(5), 0, 9);
    assert!(nothing.expect("an unknown job has an empty story").entries.is_empty());
}

#[test]
fn what_is_there_is_not_written_again_and_a_torn_end_is() {
    let dir = tempfile::tempdir().expect("a directory");
    open(dir.path()).append(&(1..=5).map(line).collect::<Vec<_>>()).expect("written");
    let path = segments(dir.path()).pop().expect("a segment");
    let whole = fs::read(&path).expect("read");
    // Whatever a crash leaves of the last entry, the journal writes it again.
    for cut in whole.len() - 40..=whole.len() {
        for tail in [&b""[..], b"\0\0\0\0", b"{\"id\":", b"garbage\n"] {
            let torn = [&whole[..cut], tail].concat();
            fs::write(&path, torn).expect("torn");
            open(dir.path()).append(&(3..=7).map(line).collect::<Vec<_>>()).expect("written");
            assert_eq!(ids(dir.path(), 0, 100), (1..=7).collect::<Vec<_>>(), "cut at {cut}");
        }
    }
}

#[test]
fn the_oldest_part_goes_when_the_limit_is_reached_and_readers_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = open(dir.path());
    for id in 1..=500 {
        writer.append(&[line(id), event(id)]).expect("written");
        let bytes: u64 = segments(dir.path())
            .iter()
            .map(|path| fs::metadata(path).expect("it is there").len())
            .sum();
        assert!(bytes <= LIMITS.log_bytes, "{bytes} bytes after {id} entries");
    }
    let reader = StoryReader::new(dir.path().to_owned());
    let page = reader.log(job(), 0, 1_000).expect("read");
    assert!(page.first_kept > 300);
    assert_eq!(page.entries.first().map(|line| line.id), Some(page.first_kept));
    assert_eq!(page.entries.last().map(|line| line.id), Some(500));
    assert_eq!(reader.events(job(), 499, 9).expect("read").entries.len(), 1);
    // A reopened story goes on where it was.
    open(dir.path()).append(&[line(500), line(501)]).expect("written");
    assert_eq!(ids(dir.path(), 498, 9), [499, 500, 501]);
}

#[test]
fn a_story_that_is_ahead_of_its_journal_is_cut_back() {
    let dir = tempfile::tempdir().expect("a directory");
    for keep in [0, 1, 20, 40, 399, 400] {
        let mut writer = open(dir.path());
        writer.append(&[StoryEntry { job: job(), chapter: Chapter::Removed }]).expect("removed");
        writer.append(&(1..=400).map(line).collect::<Vec<_>>()).expect("written");
        let first_kept = ids(dir.path(), 0, 1)[0];
        writer.trim(job(), 0, keep).expect("trimmed");
        assert_eq!(ids(dir.path(), 0, 1_000), (first_kept..=keep).collect::<Vec<_>>());
        writer.append(&[line(keep + 1)]).expect("written");
        assert_eq!(ids(dir.path(), keep, 9), [keep + 1]);
    }
}
