//! The log of one app.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_types::Timestamp;
use tokio::sync::watch;

use super::entry::{LogEntry, LogFilter, MAX_TEXT_BYTES, NewLogLine, TimeRange};

/// A file is closed and the next one begun past this.
const FILE_BYTES: u64 = 4 << 20;

/// Files of one app at most; the oldest goes when one more is begun: 64 MiB of logs.
const MAX_FILES: usize = 16;

/// What is kept in memory for those who follow.
const RECENT_BYTES: usize = 512 << 10;

/// What an entry in memory costs beside its text.
const ENTRY_BYTES: usize = 128;

pub(super) struct AppLog {
    folder: PathBuf,
    state: Mutex<State>,
    newest: watch::Sender<u64>,
}

struct State {
    /// The numbers of the files' first entries, ascending.
    files: VecDeque<u64>,
    writing: Option<(File, u64)>,
    next: u64,
    recent: VecDeque<LogEntry>,
    recent_bytes: usize,
}

impl AppLog {
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        let files = list(&folder)?;
        let mut next = 1;
        if let Some(first) = files.last() {
            next = *first;
            read_file(&path_of(&folder, *first), |entry| {
                next = entry.number + 1;
                true
            })?;
        }
        let state = State {
            files: files.into(),
            writing: None,
            next,
            recent: VecDeque::new(),
            recent_bytes: 0,
        };
        let (newest, _) = watch::channel(next - 1);
        Ok(Self { folder, state: Mutex::new(state), newest })
    }

    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Whether anyone waits for its next entry.
    pub fn is_followed(&self) -> bool {
        self.newest.receiver_count() > 0
    }

    pub fn append(&self, lines: Vec<NewLogLine>) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        let mut bytes = Vec::new();
        let first = state.next;
        for mut line in lines {
            let mut end = line.text.len().min(MAX_TEXT_BYTES);
            while !line.text.is_char_boundary(end) {
                end -= 1;
            }
            line.text.truncate(end);
            let entry = LogEntry { number: state.next, line };
            serde_json::to_writer(&mut bytes, &entry)?;
            bytes.push(b'\n');
            state.next += 1;
            state.remember(entry);
        }
        self.write(&mut state, first, &bytes)?;
        let newest = state.next - 1;
        drop(state);
        self.newest.send_replace(newest);
        Ok(())
    }

    fn write(&self, state: &mut State, first: u64, bytes: &[u8]) -> io::Result<()> {
        if state.writing.as_ref().is_some_and(|(_, written)| *written >= FILE_BYTES) {
            state.writing = None;
        }
        let (file, written) = match &mut state.writing {
            Some(writing) => writing,
            none => {
                std::fs::create_dir_all(&self.folder)?;
                while state.files.len() >= MAX_FILES {
                    if let Some(oldest) = state.files.pop_front() {
                        remove(&path_of(&self.folder, oldest))?;
                    }
                }
                let path = path_of(&self.folder, first);
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                state.files.push_back(first);
                none.insert((file, 0))
            }
        };
        file.write_all(bytes)?;
        *written += bytes.len() as u64;
        Ok(())
    }

    /// Entries after a number from memory alone; `None` where memory does not reach back so far.
    pub fn recent_after(
        &self,
        after: u64,
        filter: &LogFilter,
        limit: usize,
    ) -> Option<(Vec<LogEntry>, u64)> {
        let state = self.lock();
        if after + 1 >= state.next {
            return Some((Vec::new(), after.min(state.next - 1)));
        }
        let first = state.recent.front()?.number;
        if after + 1 < first {
            return None;
        }
        let skipped = (after + 1 - first) as usize;
        let mut found = Vec::new();
        let mut looked = after;
        for entry in state.recent.iter().skip(skipped) {
            if found.len() == limit {
                break;
            }
            looked = entry.number;
            if filter.passes(&entry.line) {
                found.push(entry.clone());
            }
        }
        Some((found, looked))
    }

    /// The same from the files.
    pub fn stored_after(
        &self,
        after: u64,
        filter: &LogFilter,
        limit: usize,
    ) -> io::Result<(Vec<LogEntry>, u64)> {
        let files = self.files();
        // The last file that begins at or before the next entry, and those behind it.
        let begin = files.iter().rposition(|first| *first <= after + 1).unwrap_or(0);
        let mut found = Vec::new();
        let mut looked = after;
        for first in &files[begin..] {
            read_file(&path_of(&self.folder, *first), |entry| {
                if entry.number > after {
                    looked = entry.number;
                    if filter.passes(&entry.line) {
                        found.push(entry);
                    }
                }
                found.len() < limit
            })?;
            if found.len() >= limit {
                break;
            }
        }
        Ok((found, looked))
    }

    /// The newest entries of a time, oldest first.
    pub fn newest_in(
        &self,
        range: TimeRange,
        filter: &LogFilter,
        limit: usize,
    ) -> io::Result<Vec<LogEntry>> {
        let mut found: VecDeque<LogEntry> = VecDeque::new();
        for first in self.files().iter().rev() {
            let mut in_file = VecDeque::new();
            read_file(&path_of(&self.folder, *first), |entry| {
                if range.contains(entry.line.at) && filter.passes(&entry.line) {
                    in_file.push_back(entry);
                    if in_file.len() > limit {
                        in_file.pop_front();
                    }
                }
                true
            })?;
            while found.len() < limit {
                let Some(entry) = in_file.pop_back() else { break };
                found.push_front(entry);
            }
            if found.len() == limit {
                break;
            }
        }
        Ok(found.into())
    }

    pub fn count(
        &self,
        range: TimeRange,
        filter: &LogFilter,
        bucket: Duration,
    ) -> io::Result<Vec<(Timestamp, [u64; 3])>> {
        let bucket_ms = (bucket.as_millis() as u64).max(1);
        let mut buckets: BTreeMap<u64, [u64; 3]> = BTreeMap::new();
        for first in self.files() {
            read_file(&path_of(&self.folder, first), |entry| {
                let line = &entry.line;
                if range.contains(line.at) && filter.passes(line) {
                    let begin = line.at.as_millis() / bucket_ms * bucket_ms;
                    let kind = usize::from(line.descriptor.clamp(1, 3)) - 1;
                    buckets.entry(begin).or_default()[kind] += 1;
                }
                true
            })?;
        }
        let buckets = buckets.into_iter();
        Ok(buckets.map(|(begin, counts)| (Timestamp::from_millis(begin), counts)).collect())
    }

    pub fn forget_before(&self, now: Timestamp, kept: Duration) -> io::Result<()> {
        let mut state = self.lock();
        // The file that is being written stays.
        while state.files.len() > 1 {
            let oldest = state.files[0];
            let path = path_of(&self.folder, oldest);
            if !is_old(&path, now, kept)? {
                break;
            }
            remove(&path)?;
            state.files.pop_front();
        }
        Ok(())
    }

    fn files(&self) -> Vec<u64> {
        self.lock().files.iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, entry: LogEntry) {
        self.recent_bytes += entry.line.text.len() + ENTRY_BYTES;
        self.recent.push_back(entry);
        while self.recent_bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.line.text.len() + ENTRY_BYTES;
        }
    }
}

/// Removes the old files of a log that is not open, and its folder with the last of them.
pub(super) fn forget_closed(folder: &Path, now: Timestamp, kept: Duration) -> io::Result<()> {
    let files = list(folder)?;
    let mut left = files.len();
    for first in files {
        let path = path_of(folder, first);
        if is_old(&path, now, kept)? {
            remove(&path)?;
            left -= 1;
        }
    }
    if left == 0 { std::fs::remove_dir(folder) } else { Ok(()) }
}

fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        files.extend(number);
    }
    files.sort_unstable();
    Ok(files)
}

/// Whether the last line of a file is so old.
fn is_old(path: &Path, now: Timestamp, kept: Duration) -> io::Result<bool> {
    let written = std::fs::metadata(path)?.modified()?;
    let since = written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(now.since(Timestamp::from_millis(since.as_millis() as u64)) > kept)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives every entry of a file to `take` until that has enough. A line that was cut off by a
/// crash is skipped, a file that was removed meanwhile is empty.
fn read_file(path: &Path, mut take: impl FnMut(LogEntry) -> bool) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let entry = serde_json::from_slice(&line);
        line.clear();
        if let Ok(entry) = entry
            && !take(entry)
        {
            return Ok(());
        }
    }
    Ok(())
}
