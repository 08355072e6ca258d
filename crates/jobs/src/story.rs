//! The stories of jobs on disk: their events and log lines, one JSON object a line.
//!
//! ```text
//! DIR/7k/job-…7k/events-00000000000000000001.jsonl   the events from number 1 on
//! DIR/7k/job-…7k/log-00000000000000004711.jsonl      the log from line 4711 on
//! ```
//!
//! The journal is what counts: an entry is in it before it comes here, and after a crash
//! what is missing here is written again from there. So entries carry their numbers, a
//! number that is there already is skipped, and a torn end is cut off; a sync is needed
//! only before a snapshot lets the journal's records go. When a story passes its limit,
//! its oldest segment goes, and whoever reads is told where what is left begins.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use corral_types::{ErrorKind, Explain, JobId};
use serde::{Deserialize, Serialize};

use crate::event::{Chapter, JobEvent, LogLine, StoryEntry};

/// How much of a job's log is kept: some hundred thousand lines.
pub const MAX_LOG_BYTES_PER_JOB: u64 = 16 << 20;
/// How much of a job's events is kept: progress once a second for some hours.
pub const MAX_EVENT_BYTES_PER_JOB: u64 = 4 << 20;
/// A story is dropped by this part of its limit.
const SEGMENTS_PER_STORY: u64 = 4;
/// The most files kept open for appending: jobs that run at the same time, and some.
const MAX_OPEN_STORIES: usize = 64;
/// The most bytes of one page that is read; a page has at least one entry.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// Why a story could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}", path = path.display())]
pub struct StoryError {
    /// What was tried, as an imperative.
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl StoryError {
    fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

impl Explain for StoryError {
    fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
            _ => ErrorKind::Internal,
        }
    }
}

/// How much of each kind of story is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoryLimits {
    pub event_bytes: u64,
    pub log_bytes: u64,
}

impl Default for StoryLimits {
    fn default() -> Self {
        Self { event_bytes: MAX_EVENT_BYTES_PER_JOB, log_bytes: MAX_LOG_BYTES_PER_JOB }
    }
}

/// The two kinds of story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Events,
    Log,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Events => "events-",
            Self::Log => "log-",
        }
    }
}

/// Some entries of a story.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub entries: Vec<T>,
    /// The number of the first entry that is still kept: those before it were dropped for
    /// the limit of the story.
    pub first_kept: u64,
}

/// What stands in every entry.
#[derive(Deserialize)]
struct Numbered {
    id: u64,
}

/// An entry's number, and the line it is written as.
type Line = (u64, Vec<u8>);

/// The one writer of stories.
#[derive(Debug)]
pub struct StoryWriter {
    dir: PathBuf,
    limits: StoryLimits,
    open: BTreeMap<(JobId, Kind), OpenStory>,
    /// When each was last written to, for closing the one that rested longest.
    uses: u64,
}

#[derive(Debug)]
struct OpenStory {
    dir: PathBuf,
    kind: Kind,
    /// First numbers and sizes, oldest first; the last is written to.
    segments: VecDeque<(u64, u64)>,
    file: File,
    last: u64,
    used: u64,
}

impl StoryWriter {
    pub fn new(dir: PathBuf, limits: StoryLimits) -> Result<Self, StoryError> {
        fs::create_dir_all(&dir).map_err(StoryError::of("create", &dir))?;
        Ok(Self { dir, limits, open: BTreeMap::new(), uses: 0 })
    }

    /// Adds entries, in the order of their numbers; those that are there are skipped.
    pub fn append(&mut self, entries: &[StoryEntry]) -> Result<(), StoryError> {
        let mut lines: BTreeMap<(JobId, Kind), Vec<Line>> = BTreeMap::new();
        for entry in entries {
            match &entry.chapter {
                Chapter::Event(event) => {
                    let line = (event.id, line(event));
                    lines.entry((entry.job, Kind::Events)).or_default().push(line);
                }
                Chapter::Log(log) => {
                    lines.entry((entry.job, Kind::Log)).or_default().push((log.id, line(log)));
                }
                Chapter::Removed => {
                    for kind in [Kind::Events, Kind::Log] {
                        lines.remove(&(entry.job, kind));
                        self.open.remove(&(entry.job, kind));
                    }
                    remove(&story_dir(&self.dir, entry.job))?;
                }
            }
        }
        for ((job, kind), lines) in lines {
            let limit = match kind {
                Kind::Events => self.limits.event_bytes,
                Kind::Log => self.limits.log_bytes,
            };
            self.story(job, kind)?.append(&lines, limit)?;
        }
        Ok(())
    }

    /// Cuts off what lies beyond these numbers. A story is never ahead of its journal,
    /// except where the two were copied one after the other, as by a backup.
    pub fn trim(&mut self, job: JobId, events: u64, log_lines: u64) -> Result<(), StoryError> {
        for (kind, last) in [(Kind::Events, events), (Kind::Log, log_lines)] {
            let dir = story_dir(&self.dir, job);
            let segments = list_segments(&dir, kind)?;
            if segments.is_empty() {
                continue;
            }
            self.open.remove(&(job, kind));
            for &first in segments.iter().filter(|&&first| first > last) {
                let path = segment_path(&dir, kind, first);
                fs::remove_file(&path).map_err(StoryError::of("remove", &path))?;
            }
            if let Some(&first) = segments.iter().rfind(|&&first| first <= last) {
                let path = segment_path(&dir, kind, first);
                let (_, end) = whole_lines(&path, last)?;
                File::options()
                    .write(true)
                    .open(&path)
                    .and_then(|file| file.set_len(end))
                    .map_err(StoryError::of("cut", &path))?;
            }
        }
        Ok(())
    }

    fn story(&mut self, job: JobId, kind: Kind) -> Result<&mut OpenStory, StoryError> {
        self.uses += 1;
        let key = (job, kind);
        if !self.open.contains_key(&key) {
            if self.open.len() >= MAX_OPEN_STORIES {
                let rested = self.open.iter().min_by_key(|(_, story)| story.used);
                if let Some((&key, _)) = rested {
                    self.open.remove(&key);
                }
            }
            self.open.insert(key, OpenStory::open(story_dir(&self.dir, job), kind)?);
        }
        let story = self.open.get_mut(&key).expect("the story was opened above");
        story.used = self.uses;
        Ok(story)
    }
}

impl OpenStory {
    fn open(dir: PathBuf, kind: Kind) -> Result<Self, StoryError> {
        fs::create_dir_all(&dir).map_err(StoryError::of("create", &dir))?;
        let mut segments = VecDeque::new();
        for first in list_segments(&dir, kind)? {
            let path = segment_path(&dir, kind, first);
            let bytes = fs::metadata(&path).map_err(StoryError::of("read", &path))?.len();
            segments.push_back((first, bytes));
        }
        if segments.is_empty() {
            segments.push_back((1, 0));
        }
        let (first, bytes) = segments.back_mut().expect("a story has a segment");
        let path = segment_path(&dir, kind, *first);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(StoryError::of("open", &path))?;
        let (last, whole_bytes) = whole_lines(&path, u64::MAX)?;
        if whole_bytes < *bytes {
            file.set_len(whole_bytes).map_err(StoryError::of("cut", &path))?;
            *bytes = whole_bytes;
        }
        let last = last.unwrap_or(*first - 1);
        Ok(Self { dir, kind, segments, file, last, used: 0 })
    }

    fn append(&mut self, lines: &[Line], limit: u64) -> Result<(), StoryError> {
        let mut text = Vec::new();
        let segment_bytes = limit / SEGMENTS_PER_STORY;
        for (id, line) in lines {
            if *id <= self.last {
                continue;
            }
            let (_, bytes) = self.segments.back().copied().expect("a story has a segment");
            if bytes > 0 && bytes + (text.len() + line.len()) as u64 > segment_bytes {
                self.write(&text)?;
                text.clear();
                self.begin_segment(*id, limit)?;
            }
            text.extend_from_slice(line);
            self.last = *id;
        }
        self.write(&text)
    }

    fn write(&mut self, text: &[u8]) -> Result<(), StoryError> {
        if text.is_empty() {
            return Ok(());
        }
        let (first, bytes) = self.segments.back_mut().expect("a story has a segment");
        let path = segment_path(&self.dir, self.kind, *first);
        self.file.write_all(text).map_err(StoryError::of("write", &path))?;
        *bytes += text.len() as u64;
        Ok(())
    }

    fn begin_segment(&mut self, first: u64, limit: u64) -> Result<(), StoryError> {
        let path = segment_path(&self.dir, self.kind, first);
        self.file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(StoryError::of("create", &path))?;
        self.segments.push_back((first, 0));
        let room = limit - limit / SEGMENTS_PER_STORY;
        while self.segments.iter().map(|(_, bytes)| bytes).sum::<u64>() > room
            && self.segments.len() > 1
        {
            let (oldest, _) = self.segments.pop_front().expect("there is more than one");
            let path = segment_path(&self.dir, self.kind, oldest);
            fs::remove_file(&path).map_err(StoryError::of("remove", &path))?;
        }
        Ok(())
    }
}

/// Reads stories while they are written.
#[derive(Clone, Debug)]
pub struct StoryReader {
    dir: PathBuf,
}

impl StoryReader {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Waits until everything written so far is on disk: one call for the whole file system
    /// instead of one for each of thousands of files.
    pub fn sync(&self) -> Result<(), StoryError> {
        let dir = File::open(&self.dir).map_err(StoryError::of("open", &self.dir))?;
        rustix::fs::syncfs(&dir).map_err(io::Error::from).map_err(StoryError::of("sync", &self.dir))
    }

    /// The events with numbers above `after`, at most `most`.
    pub fn events(
        &self,
        job: JobId,
        after: u64,
        most: usize,
    ) -> Result<Page<JobEvent>, StoryError> {
        self.read(job, Kind::Events, after, most)
    }

    /// The log lines with numbers above `after`, at most `most`.
    pub fn log(&self, job: JobId, after: u64, most: usize) -> Result<Page<LogLine>, StoryError> {
        self.read(job, Kind::Log, after, most)
    }

    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        job: JobId,
        kind: Kind,
        after: u64,
        most: usize,
    ) -> Result<Page<T>, StoryError> {
        let dir = story_dir(&self.dir, job);
        let segments = list_segments(&dir, kind)?;
        let mut page = Page { entries: Vec::new(), first_kept: *segments.first().unwrap_or(&1) };
        let from = segments.partition_point(|&first| first <= after + 1).saturating_sub(1);
        let mut page_bytes = 0;
        for &first in &segments[from..] {
            let path = segment_path(&dir, kind, first);
            let file = match File::open(&path) {
                Ok(file) => file,
                // Dropped since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    page.first_kept = page.first_kept.max(first + 1);
                    continue;
                }
                Err(error) => return Err(StoryError::of("open", &path)(error)),
            };
            let mut lines = BufReader::new(file);
            let mut text = Vec::new();
            loop {
                text.clear();
                let bytes =
                    lines.read_until(b'\n', &mut text).map_err(StoryError::of("read", &path))?;
                // The end, or an entry that is being written.
                if bytes == 0 || text.last() != Some(&b'\n') {
                    break;
                }
                match serde_json::from_slice::<Numbered>(&text) {
                    Ok(entry) if entry.id <= after => continue,
                    Ok(_) => {}
                    Err(_) => break,
                }
                if let Ok(entry) = serde_json::from_slice(&text) {
                    page_bytes += bytes;
                    page.entries.push(entry);
                }
                if page.entries.len() >= most || page_bytes >= MAX_PAGE_BYTES {
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }
}

fn line<T: Serialize>(entry: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(entry).expect("entries are plain values");
    line.push(b'\n');
    line
}

/// A job's directory; jobs are spread by the random end of their ids.
fn story_dir(dir: &Path, job: JobId) -> PathBuf {
    let name = job.to_string();
    dir.join(&name[name.len() - 2..]).join(name)
}

fn segment_path(dir: &Path, kind: Kind, first: u64) -> PathBuf {
    dir.join(format!("{}{first:020}.jsonl", kind.prefix()))
}

/// The first numbers of a story's segments, in order.
fn list_segments(dir: &Path, kind: Kind) -> Result<Vec<u64>, StoryError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoryError::of("list", dir)(error)),
    };
    let mut firsts = Vec::new();
    for entry in entries {
        let name = entry.map_err(StoryError::of("list", dir))?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(kind.prefix()))
            .and_then(|name| name.strip_suffix(".jsonl"));
        firsts.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The number of the last whole entry that is not above `most`, and where it ends.
fn whole_lines(path: &Path, most: u64) -> Result<(Option<u64>, u64), StoryError> {
    let file = File::open(path).map_err(StoryError::of("open", path))?;
    let mut lines = BufReader::new(file);
    let (mut last, mut end) = (None, 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let bytes = lines.read_until(b'\n', &mut text).map_err(StoryError::of("read", path))?;
        if bytes == 0 || text.last() != Some(&b'\n') {
            return Ok((last, end));
        }
        match serde_json::from_slice::<Numbered>(&text) {
            Ok(entry) if entry.id <= most => last = Some(entry.id),
            _ => return Ok((last, end)),
        }
        end += bytes as u64;
    }
}

fn remove(dir: &Path) -> Result<(), StoryError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoryError::of("remove", dir)(error))
        }
        _ => Ok(()),
    }
}
