//! The events of one attempt on disk, from when they happen until the server has them.
//!
//! Segments of records, appended to at the end and removed at the front once all of a
//! segment is acknowledged. The last segment stays, since its name and records tell the
//! next number. A record is its length, its checksum, its number, and the event as JSON;
//! a record torn by a crash is cut off when the spool is opened.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_types::{AttemptId, Timestamp};
use corral_worker_api::{AttemptEvent, Event, LogStream};

/// How much disk a spool takes.
#[derive(Clone, Copy, Debug)]
pub struct SpoolLimits {
    /// A new segment is begun when the last has this size.
    pub segment_bytes: u64,
    /// How much may wait for the server before log lines and progress are dropped, and counted:
    /// a job that prints without end while the server is away must not fill the disk.
    pub waiting_bytes: u64,
}

/// Segments large enough that a busy log makes few files, small enough that acknowledged
/// events do not hold disk; and about half a million lines.
pub const SPOOL_LIMITS: SpoolLimits =
    SpoolLimits { segment_bytes: 1 << 20, waiting_bytes: 64 << 20 };

/// No record is longer: events come from frames of a quarter of this.
const MAX_RECORD_BYTES: usize = 16 << 20;

const HEADER_BYTES: usize = 16;
const SEGMENT_PREFIX: &str = "events-";

/// See the module.
pub struct Spool {
    attempt: AttemptId,
    directory: PathBuf,
    limits: SpoolLimits,
    segments: VecDeque<Segment>,
    last: Arc<File>,
    next_number: u64,
    acknowledged: u64,
    /// Where in the first segment the first event not acknowledged begins.
    cursor: u64,
    ended: bool,
    dropped: u64,
    unsynced: Vec<Arc<File>>,
}

struct Segment {
    first_number: u64,
    bytes: u64,
}

impl Spool {
    /// Opens the spool in `directory`, or begins one there.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(directory: &Path, attempt: AttemptId, limits: SpoolLimits) -> io::Result<Self> {
        let mut first_numbers: Vec<u64> = fs::read_dir(directory)?
            .filter_map(|entry| {
                entry.ok()?.file_name().to_str()?.strip_prefix(SEGMENT_PREFIX)?.parse().ok()
            })
            .collect();
        first_numbers.sort_unstable();
        if first_numbers.is_empty() {
            first_numbers.push(1);
        }
        let last = *first_numbers.last().expect("one was added");
        let mut spool = Self {
            attempt,
            directory: directory.to_owned(),
            limits,
            segments: VecDeque::new(),
            last: Arc::new(open_segment(directory, last)?),
            next_number: first_numbers[0],
            acknowledged: first_numbers[0] - 1,
            cursor: 0,
            ended: false,
            dropped: 0,
            unsynced: vec![Arc::new(File::open(directory)?)],
        };
        spool.recover(&first_numbers)?;
        spool.unsynced.push(spool.last.clone());
        Ok(spool)
    }

    /// Whether a file of this name belongs to a spool.
    pub fn owns(file_name: &OsStr) -> bool {
        file_name.as_encoded_bytes().starts_with(SEGMENT_PREFIX.as_bytes())
    }

    /// Reads all segments to their end, or to the first record that a crash damaged. What
    /// comes after that was never synced, so it was never sent: it is cut off.
    fn recover(&mut self, first_numbers: &[u64]) -> io::Result<()> {
        for (index, &first_number) in first_numbers.iter().enumerate() {
            let file = open_segment(&self.directory, first_number)?;
            let mut bytes = 0;
            while let Some((record, end)) = read_record(&file, bytes)? {
                self.next_number = record.number + 1;
                self.ended = matches!(record.event, Event::Ended { .. });
                bytes = end;
            }
            self.segments.push_back(Segment { first_number, bytes });
            if bytes < file.metadata()?.len() {
                file.set_len(bytes)?;
                for &later in &first_numbers[index + 1..] {
                    fs::remove_file(segment_path(&self.directory, later))?;
                }
                self.last = Arc::new(file);
                break;
            }
        }
        Ok(())
    }

    /// Adds these events; they are in the file, though not synced, when this returns. Log
    /// lines and progress are dropped, and counted, while too much waits.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is added then.
    pub fn append(
        &mut self,
        at: Timestamp,
        events: impl IntoIterator<Item = Event>,
    ) -> io::Result<()> {
        let room = self.waiting_bytes() < self.limits.waiting_bytes;
        let mut number = self.next_number;
        let mut dropped = self.dropped;
        let mut ended = self.ended;
        let mut bytes = Vec::new();
        let mut add = |event: Event| {
            ended |= matches!(event, Event::Ended { .. });
            let record = AttemptEvent { attempt: self.attempt, number, at, event };
            number += 1;
            encode_record(&mut bytes, &record)
        };
        if room && dropped > 0 {
            add(Event::Log {
                stream: LogStream::System,
                line: format!("{dropped} lines were dropped while the server was away"),
            })?;
            dropped = 0;
        }
        for event in events {
            match event {
                Event::Log { .. } | Event::Progress { .. } if !room => dropped += 1,
                event => add(event)?,
            }
        }
        if !bytes.is_empty() {
            self.write(&bytes)?;
        }
        (self.next_number, self.dropped, self.ended) = (number, dropped, ended);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.segments.back().is_some_and(|segment| segment.bytes >= self.limits.segment_bytes) {
            self.last = Arc::new(open_segment(&self.directory, self.next_number)?);
            self.segments.push_back(Segment { first_number: self.next_number, bytes: 0 });
            self.unsynced.push(Arc::new(File::open(&self.directory)?));
        }
        let segment = self.segments.back_mut().expect("there is always a segment");
        if let Err(error) = (&*self.last).write_all(bytes) {
            // Part of it may have been written; the next record must not follow that.
            self.last.set_len(segment.bytes)?;
            return Err(error);
        }
        segment.bytes += bytes.len() as u64;
        if !self.unsynced.iter().any(|file| Arc::ptr_eq(file, &self.last)) {
            self.unsynced.push(self.last.clone());
        }
        Ok(())
    }

    /// The files to sync before what was appended so far is told to anyone. Syncing blocks,
    /// so it is the caller's, outside of any lock.
    pub fn take_unsynced(&mut self) -> Vec<Arc<File>> {
        std::mem::take(&mut self.unsynced)
    }

    /// Takes files back whose sync failed.
    pub fn put_back_unsynced(&mut self, files: Vec<Arc<File>>) {
        self.unsynced.extend(files);
    }

    /// The first events that are not acknowledged: at most `limit`, and about `limit_bytes`.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn waiting(&self, limit: usize, limit_bytes: u64) -> io::Result<Vec<AttemptEvent>> {
        let mut events = Vec::new();
        let mut taken = 0;
        let mut at = self.cursor;
        for (index, segment) in self.segments.iter().enumerate() {
            if at < segment.bytes {
                let file = self.segment_file(index)?;
                while at < segment.bytes && events.len() < limit && taken < limit_bytes {
                    let (record, end) = expect_record(&file, at)?;
                    taken += end - at;
                    at = end;
                    events.push(record);
                }
            }
            if events.len() >= limit || taken >= limit_bytes {
                break;
            }
            at = 0;
        }
        Ok(events)
    }

    /// Takes note that the server has the events up to this number, and lets go of them.
    ///
    /// # Errors
    /// When a file cannot be read or removed.
    pub fn acknowledge(&mut self, up_to: u64) -> io::Result<()> {
        while self.acknowledged < up_to && self.acknowledged + 1 < self.next_number {
            let segment = self.segments.front().expect("there is always a segment");
            if self.cursor < segment.bytes {
                let (record, end) = expect_record(&*self.segment_file(0)?, self.cursor)?;
                if record.number > up_to {
                    break;
                }
                self.acknowledged = record.number;
                self.cursor = end;
            }
            self.drop_finished_segment()?;
        }
        Ok(())
    }

    fn drop_finished_segment(&mut self) -> io::Result<()> {
        let finished = self.segments.len() > 1
            && self.segments.front().is_some_and(|segment| self.cursor >= segment.bytes);
        if finished && let Some(segment) = self.segments.pop_front() {
            self.cursor = 0;
            fs::remove_file(segment_path(&self.directory, segment.first_number))?;
        }
        Ok(())
    }

    /// The number that the next event gets.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Whether the attempt's last event is in the spool.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether every event is acknowledged.
    pub fn is_delivered(&self) -> bool {
        self.acknowledged + 1 == self.next_number
    }

    fn waiting_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() - self.cursor
    }

    fn segment_file(&self, index: usize) -> io::Result<Arc<File>> {
        if index + 1 == self.segments.len() {
            return Ok(self.last.clone());
        }
        File::open(segment_path(&self.directory, self.segments[index].first_number)).map(Arc::new)
    }
}

fn segment_path(directory: &Path, first_number: u64) -> PathBuf {
    directory.join(format!("{SEGMENT_PREFIX}{first_number:020}"))
}

fn open_segment(directory: &Path, first_number: u64) -> io::Result<File> {
    let path = segment_path(directory, first_number);
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

fn encode_record(into: &mut Vec<u8>, record: &AttemptEvent) -> io::Result<()> {
    let begin = into.len();
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&record.number.to_le_bytes());
    serde_json::to_writer(&mut *into, record)?;
    let body_bytes = into.len() - begin - HEADER_BYTES;
    if body_bytes > MAX_RECORD_BYTES {
        into.truncate(begin);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the event is too long to keep"));
    }
    let checksum = crc32fast::hash(&into[begin + 8..]);
    into[begin..begin + 4].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    into[begin + 4..begin + 8].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// The record at `at` and where the next begins; none at the end or when it is torn.
fn read_record(file: &File, at: u64) -> io::Result<Option<(AttemptEvent, u64)>> {
    let mut header = [0; HEADER_BYTES];
    if !read_whole(file, &mut header, at)? {
        return Ok(None);
    }
    let (length, rest) = header.split_first_chunk::<4>().expect("the header is longer");
    let checksum = rest.first_chunk::<4>().expect("the header is longer");
    let body_bytes = u32::from_le_bytes(*length) as usize;
    if body_bytes > MAX_RECORD_BYTES {
        return Ok(None);
    }
    // The number is part of what the checksum covers.
    let mut covered = vec![0; 8 + body_bytes];
    if !read_whole(file, &mut covered, at + 8)?
        || crc32fast::hash(&covered) != u32::from_le_bytes(*checksum)
    {
        return Ok(None);
    }
    let event = serde_json::from_slice(&covered[8..])?;
    Ok(Some((event, at + (HEADER_BYTES + body_bytes) as u64)))
}

fn expect_record(file: &File, at: u64) -> io::Result<(AttemptEvent, u64)> {
    read_record(file, at)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a spooled event is damaged"))
}

fn read_whole(file: &File, into: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(into, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use corral_worker_api::{Accounting, Outcome};

    use super::*;

    fn log(text: &str) -> Event {
        Event::Log { stream: LogStream::Stdout, line: text.to_owned() }
    }

    fn ended() -> Event {
        Event::Ended { outcome: Outcome::Lost, accounting: Accounting::default() }
    }

    fn numbers(spool: &Spool) -> Vec<u64> {
        let waiting = spool.waiting(usize::MAX, u64::MAX).unwrap();
        waiting.iter().map(|event| event.number).collect()
    }

    const SMALL: SpoolLimits = SpoolLimits { segment_bytes: 1 << 10, waiting_bytes: 64 << 10 };

    fn open(directory: &Path) -> Spool {
        Spool::open(directory, AttemptId::from_u128(1), SMALL).unwrap()
    }

    fn begin() -> (tempfile::TempDir, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        (dir, spool)
    }

    fn add(spool: &mut Spool, events: impl IntoIterator<Item = Event>) {
        spool.append(Timestamp::from_millis(1), events).unwrap();
    }

    #[test]
    fn events_wait_until_acknowledged_over_reopening() {
        let (dir, mut spool) = begin();
        add(&mut spool, (0..5).map(|i| log(&i.to_string())));
        spool.acknowledge(2).unwrap();
        assert_eq!(numbers(&spool), [3, 4, 5]);
        assert_eq!(spool.waiting(2, u64::MAX).unwrap().len(), 2);
        assert_eq!(spool.waiting(9, 1).unwrap().len(), 1, "at least one, however long");
        drop(spool);
        // What was acknowledged is not kept: the server sorts repeated events out by number.
        let mut spool = open(dir.path());
        assert_eq!(numbers(&spool), [1, 2, 3, 4, 5]);
        assert!(!spool.has_ended());
        add(&mut spool, [ended()]);
        spool.acknowledge(99).unwrap();
        assert!(spool.is_delivered());
        drop(spool);
        let spool = open(dir.path());
        assert!(spool.has_ended());
        assert_eq!(numbers(&spool).last(), Some(&6));
    }

    #[test]
    fn acknowledged_segments_go_and_numbers_go_on() {
        let (dir, mut spool) = begin();
        let line = "x".repeat(100);
        for _ in 0..50 {
            add(&mut spool, [log(&line)]);
        }
        let files = || fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files(), 10);
        spool.acknowledge(49).unwrap();
        assert_eq!(files(), 1);
        assert_eq!(numbers(&spool), [50]);
        spool.acknowledge(50).unwrap();
        drop(spool);
        let mut spool = open(dir.path());
        add(&mut spool, [log("next")]);
        assert_eq!(numbers(&spool).last(), Some(&51));
    }

    #[test]
    fn torn_records_are_cut_off_at_every_byte() {
        let (dir, mut spool) = begin();
        add(&mut spool, [log("one"), log("two")]);
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        add(&mut spool, [log("three")]);
        drop(spool);
        let longer = fs::read(&path).unwrap();
        for cut in whole.len()..longer.len() {
            let mut torn = longer[..cut].to_vec();
            if cut > whole.len() {
                // The last byte that made it to disk may be wrong, too.
                *torn.last_mut().unwrap() ^= 1;
            }
            fs::write(&path, &torn).unwrap();
            let mut spool = open(dir.path());
            assert_eq!(numbers(&spool), [1, 2], "cut at {cut}");
            add(&mut spool, [log("again")]);
            assert_eq!(numbers(&spool), [1, 2, 3]);
        }
    }

    #[test]
    fn damage_in_an_early_segment_cuts_off_what_follows() {
        let (dir, mut spool) = begin();
        let line = "x".repeat(400);
        for _ in 0..9 {
            add(&mut spool, [log(&line)]);
        }
        drop(spool);
        let path = segment_path(dir.path(), 3);
        let mut bytes = fs::read(&path).unwrap();
        bytes[700] ^= 1;
        fs::write(&path, bytes).unwrap();
        let mut spool = open(dir.path());
        assert_eq!(numbers(&spool), [1, 2, 3]);
        add(&mut spool, [ended()]);
        drop(spool);
        let spool = open(dir.path());
        assert_eq!(numbers(&spool), [1, 2, 3, 4]);
        assert!(spool.has_ended());
    }

    #[test]
    fn an_endless_log_is_dropped_and_counted_but_the_end_is_kept() {
        let (_dir, mut spool) = begin();
        let line = "x".repeat(1 << 10);
        for _ in 0..80 {
            add(&mut spool, [log(&line)]);
        }
        assert!(spool.waiting_bytes() < SMALL.waiting_bytes + (2 << 10));
        add(&mut spool, [ended()]);
        let last = *numbers(&spool).last().unwrap();
        spool.acknowledge(last - 1).unwrap();
        assert_eq!(numbers(&spool), [last]);
        add(&mut spool, [log("back")]);
        let told = spool.waiting(2, u64::MAX).unwrap().pop().unwrap();
        assert!(matches!(told.event, Event::Log { line, .. } if line.contains("were dropped")));
    }

    /// Random operations against the plain list of events that were not acknowledged.
    #[test]
    fn behaves_as_a_list_under_random_operations() {
        for seed in 1..40u64 {
            let (dir, mut spool) = begin();
            let (mut model, mut next, mut state) = (Vec::new(), 1u64, seed);
            for _ in 0..60 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match state >> 62 {
                    0 => {
                        let up_to = (state >> 32) % (next + 1);
                        spool.acknowledge(up_to).unwrap();
                        model.retain(|&number| number > up_to);
                    }
                    1 if (state >> 40) % 4 == 0 => {
                        drop(spool);
                        spool = open(dir.path());
                        // Reopened, it may repeat what was acknowledged, never skip.
                        let kept = numbers(&spool);
                        assert!(kept.ends_with(&model), "seed {seed}");
                        spool.acknowledge(model.first().map_or(next - 1, |n| n - 1)).unwrap();
                    }
                    _ => {
                        let count = (state >> 33) % 4;
                        let size = ((state >> 36) % 400) as usize;
                        add(&mut spool, (0..count).map(|_| log(&"y".repeat(size))));
                        model.extend(next..next + count);
                        next += count;
                    }
                }
                assert_eq!(numbers(&spool), model, "seed {seed}");
            }
        }
    }
}
