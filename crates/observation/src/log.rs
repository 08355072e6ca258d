//! The request log of an endpoint: a folder of Arrow IPC files, each whole from the moment it is
//! there.
//!
//! Rows are written together every few seconds as a file that is synced and then given its name:
//! the times, in milliseconds, of its first and last rows. Sixteen files of a size become one, so
//! that a day has some dozens at most. Until the files that went into another are removed, their
//! times lie within its own, which is how they are known. Days are never joined, so that old rows
//! can go with their files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, RecordBatch,
};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use corral_types::Timestamp;

/// Files of a size that become one.
const JOINED_FILES: usize = 16;

/// Files from this size on are not joined; those below fall into sizes that are 16 times apart.
const LARGE_BYTES: u64 = 16 << 20;
const SMALL_BYTES: u64 = 16 << 10;
const SIZE_FACTOR: u64 = 16;

const DAY_MS: u64 = 86_400_000;
const SUFFIX: &str = ".arrow";
/// A file that is being written: what is left of one when the server was killed is removed.
const UNFINISHED: &str = ".unfinished";

/// A text of a request with its answer, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    pub at: Timestamp,
    pub version: u32,
    pub model: Option<String>,
    pub key: Option<String>,
    pub text: Option<String>,
    /// The most probable class.
    pub answer: Option<String>,
    pub probability: Option<f64>,
    /// All classes that were named, as a JSON list.
    pub top_k: Option<String>,
    pub is_refused: bool,
    pub mirror_version: Option<u32>,
    pub mirror_answer: Option<String>,
}

impl LogRow {
    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        let texts = [&self.model, &self.key, &self.text, &self.answer, &self.top_k];
        size_of::<Self>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

/// Why a log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{doing} {path}")]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{doing} {path} as an Arrow file")]
    Arrow { doing: &'static str, path: PathBuf, source: ArrowError },
}

fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::File { doing, path, source }
}

fn arrow_error(doing: &'static str, path: &Path) -> impl FnOnce(ArrowError) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Arrow { doing, path, source }
}

/// The log of one endpoint.
#[derive(Debug)]
pub struct LogFolder {
    path: PathBuf,
}

/// A file of a log: the times of its first and last rows, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    first: u64,
    last: u64,
    bytes: u64,
}

impl Segment {
    fn file_name(&self) -> String {
        format!("{:015}-{:015}{SUFFIX}", self.first, self.last)
    }

    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()?, bytes })
    }

    fn day(&self) -> u64 {
        self.first / DAY_MS
    }

    /// Files of one size are joined; `None` for those that are large enough.
    fn size(&self) -> Option<u32> {
        if self.bytes >= LARGE_BYTES {
            return None;
        }
        Some((self.bytes / SMALL_BYTES).checked_ilog(SIZE_FACTOR).map_or(0, |size| size + 1))
    }
}

impl LogFolder {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Keeps rows: they are on disk when this returns. Rows of several days become a file each.
    ///
    /// # Errors
    /// When the disk fails; the rows are not kept then.
    pub fn append(&self, rows: &[LogRow]) -> Result<(), LogError> {
        std::fs::create_dir_all(&self.path).map_err(file_error("make", &self.path))?;
        let mut begin = 0;
        while begin < rows.len() {
            let day = rows[begin].at.as_millis() / DAY_MS;
            let of_day = |row: &LogRow| row.at.as_millis() / DAY_MS == day;
            let count = rows[begin..].iter().take_while(|row| of_day(row)).count();
            self.append_day(&rows[begin..begin + count])?;
            begin += count;
        }
        Ok(())
    }

    fn append_day(&self, rows: &[LogRow]) -> Result<(), LogError> {
        let times = rows.iter().map(|row| row.at.as_millis());
        let (Some(first), Some(last)) = (times.clone().min(), times.max()) else { return Ok(()) };
        // Requests that ended later may have begun before those of the file before; names must
        // not lie within one another all the same.
        let before = self.segments()?.last().map_or(0, |segment| segment.last);
        let first = first.max(before + 1);
        let segment = Segment { first, last: last.max(first), bytes: 0 };
        let batch = batch(rows).map_err(arrow_error("write", &self.path))?;
        self.write(&segment, std::iter::once(Ok(batch)))
    }

    /// Writes a file whole before it gets its name.
    fn write(
        &self,
        segment: &Segment,
        batches: impl IntoIterator<Item = Result<RecordBatch, LogError>>,
    ) -> Result<(), LogError> {
        let path = self.path.join(segment.file_name());
        let unfinished = path.with_extension(UNFINISHED.trim_start_matches('.'));
        let file = File::create(&unfinished).map_err(file_error("make", &unfinished))?;
        let mut writer = FileWriter::try_new_buffered(file, &schema())
            .map_err(arrow_error("write", &unfinished))?;
        for batch in batches {
            writer.write(&batch?).map_err(arrow_error("write", &unfinished))?;
        }
        let buffered = writer.into_inner().map_err(arrow_error("write", &unfinished))?;
        let file = buffered
            .into_inner()
            .map_err(|error| file_error("write", &unfinished)(error.into_error()))?;
        file.sync_all().map_err(file_error("sync", &unfinished))?;
        std::fs::rename(&unfinished, &path).map_err(file_error("name", &path))?;
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(file_error("sync", &self.path))
    }

    /// Its files, oldest first, without those that went into another.
    fn segments(&self) -> Result<Vec<Segment>, LogError> {
        let (segments, _) = self.segments_and_joined()?;
        Ok(segments)
    }

    fn segments_and_joined(&self) -> Result<(Vec<Segment>, Vec<Segment>), LogError> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries.map_err(file_error("list", &self.path))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(file_error("list", &self.path))?;
            let bytes = match entry.metadata() {
                Ok(metadata) => metadata.len(),
                // It has just gone.
                Err(_) => continue,
            };
            let name = entry.file_name();
            found.extend(name.to_str().and_then(|name| Segment::parse(name, bytes)));
        }
        // Of two that begin together the longer comes first.
        found.sort_unstable_by_key(|segment| (segment.first, std::cmp::Reverse(segment.last)));
        let (mut segments, mut joined) = (Vec::<Segment>::new(), Vec::new());
        for segment in found {
            match segments.last() {
                Some(last) if segment.last <= last.last => joined.push(segment),
                _ => segments.push(segment),
            }
        }
        Ok((segments, joined))
    }

    /// Joins small files, removes what is too old or too much, and what a kill left behind.
    ///
    /// # Errors
    /// When the disk fails; what was done until then stays done.
    pub fn tidy(&self, now: Timestamp, keep_days: u32, max_bytes: u64) -> Result<(), LogError> {
        let (mut segments, joined) = self.segments_and_joined()?;
        for segment in &joined {
            self.remove(&segment.file_name())?;
        }
        let oldest = now.as_millis().saturating_sub(u64::from(keep_days) * DAY_MS);
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        while let Some(segment) = segments.first().copied() {
            if segment.first >= oldest && bytes <= max_bytes {
                break;
            }
            self.remove(&segment.file_name())?;
            bytes -= segment.bytes;
            segments.remove(0);
        }
        let mut begin = 0;
        while begin < segments.len() {
            let alike = |segment: &Segment| {
                (segment.day(), segment.size()) == (segments[begin].day(), segments[begin].size())
            };
            let count = segments[begin..].iter().take_while(|segment| alike(segment)).count();
            if count >= JOINED_FILES && segments[begin].size().is_some() {
                self.join(&segments[begin..begin + count])?;
            }
            begin += count;
        }
        Ok(())
    }

    /// Removes files that a kill left unfinished. Nothing may be writing.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not removed.
    pub fn clear_unfinished(&self) -> Result<(), LogError> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(file_error("list", &self.path))?;
            if let Some(name) = entry.file_name().to_str()
                && name.ends_with(UNFINISHED)
            {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    fn join(&self, segments: &[Segment]) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
        let whole = Segment { first: first.first, last: last.last, bytes: 0 };
        // File after file, so that what is held is a batch.
        let batches = segments.iter().flat_map(|segment| {
            let path = self.path.join(segment.file_name());
            let opened = File::open(&path).map_err(file_error("open", &path)).and_then(|file| {
                FileReader::try_new_buffered(file, None).map_err(arrow_error("read", &path))
            });
            let (reader, failed) = match opened {
                Ok(reader) => (Some(reader), None),
                Err(error) => (None, Some(Err(error))),
            };
            let batches = reader.into_iter().flatten();
            failed.into_iter().chain(
                batches.map(move |batch| batch.map_err(|error| arrow_error("read", &path)(error))),
            )
        });
        self.write(&whole, batches)?;
        for segment in segments {
            self.remove(&segment.file_name())?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), LogError> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the log.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_all(&self) -> Result<(), LogError> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Opens its files, oldest first, by their names. Nothing may be tidying.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open_files(&self) -> Result<Vec<(String, File)>, LogError> {
        let open = |segment: &Segment| {
            let name = segment.file_name();
            let path = self.path.join(&name);
            Ok((name, File::open(&path).map_err(file_error("open", &path))?))
        };
        self.segments()?.iter().map(open).collect()
    }
}

/// The columns: names that an import takes for what they are, and no others.
fn schema() -> Schema {
    let field = |name: &str, kind| Field::new(name, kind, true);
    Schema::new(vec![
        field("text", DataType::LargeUtf8),
        field("answer", DataType::LargeUtf8),
        field("probability", DataType::Float64),
        field("top_k", DataType::LargeUtf8),
        field("refused", DataType::Boolean),
        field("time", DataType::LargeUtf8),
        field("endpoint_version", DataType::Int64),
        field("model", DataType::LargeUtf8),
        field("key_hash", DataType::LargeUtf8),
        field("mirror_version", DataType::Int64),
        field("mirror_answer", DataType::LargeUtf8),
    ])
}

fn batch(rows: &[LogRow]) -> Result<RecordBatch, ArrowError> {
    let texts = |of: fn(&LogRow) -> Option<&str>| -> ArrayRef {
        Arc::new(LargeStringArray::from_iter(rows.iter().map(of)))
    };
    let numbers = |of: fn(&LogRow) -> Option<u32>| -> ArrayRef {
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| of(row).map(i64::from))))
    };
    let times = rows.iter().map(|row| Some(row.at.to_string()));
    let columns: Vec<ArrayRef> = vec![
        texts(|row| row.text.as_deref()),
        texts(|row| row.answer.as_deref()),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.probability))),
        texts(|row| row.top_k.as_deref()),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_refused)))),
        Arc::new(LargeStringArray::from_iter(times)),
        numbers(|row| Some(row.version)),
        texts(|row| row.model.as_deref()),
        texts(|row| row.key.as_deref()),
        numbers(|row| row.mirror_version),
        texts(|row| row.mirror_answer.as_deref()),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: u64) -> LogRow {
        LogRow {
            at: Timestamp::from_millis(at),
            version: 3,
            model: Some("support@1".to_owned()),
            key: None,
            text: Some(format!("text {at}")),
            answer: Some("billing".to_owned()),
            probability: Some(0.5),
            top_k: Some(r#"[{"id":"billing","probability":0.5}]"#.to_owned()),
            is_refused: false,
            mirror_version: None,
            mirror_answer: None,
        }
    }

    fn texts(folder: &LogFolder) -> Vec<String> {
        let mut texts = Vec::new();
        for (_, file) in folder.open_files().unwrap() {
            for batch in FileReader::try_new(file, None).unwrap() {
                let batch = batch.unwrap();
                let column = batch.column_by_name("text").unwrap();
                let column = column.as_any().downcast_ref::<LargeStringArray>().unwrap();
                texts.extend(column.iter().flatten().map(str::to_owned));
            }
        }
        texts
    }

    fn names(folder: &LogFolder) -> Vec<String> {
        folder.open_files().unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn small_files_become_one_and_no_row_is_lost_or_twice() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = LogFolder::new(scratch.path().join("log"));
        let now = Timestamp::from_millis(DAY_MS + 1000);
        for number in 0..20 {
            folder.append(&[row(DAY_MS + 10 * number), row(DAY_MS + 10 * number + 5)]).unwrap();
        }
        let before = texts(&folder);
        assert_eq!((before.len(), names(&folder).len()), (40, 20));
        // A server that was killed between naming the joined file and removing the others.
        let copies: Vec<_> = names(&folder)
            .into_iter()
            .map(|name| {
                let bytes = std::fs::read(folder.path.join(&name)).unwrap();
                (name, bytes)
            })
            .collect();
        folder.tidy(now, 30, 1 << 30).unwrap();
        assert_eq!(names(&folder).len(), 1);
        for (name, bytes) in copies {
            std::fs::write(folder.path.join(name), bytes).unwrap();
        }
        std::fs::write(folder.path.join("5-6.unfinished"), b"half").unwrap();
        assert_eq!(texts(&folder), before);
        folder.tidy(now, 30, 1 << 30).unwrap();
        folder.clear_unfinished().unwrap();
        assert_eq!(texts(&folder), before);
        assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 1);
        // It goes on, also with rows that began before others that were written already.
        folder.append(&[row(DAY_MS + 3)]).unwrap();
        assert_eq!(texts(&folder).len(), 41);
    }

    #[test]
    fn old_rows_and_those_beyond_the_bytes_go() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = LogFolder::new(scratch.path().join("log"));
        let rows: Vec<LogRow> = (10..20).map(|day| row(day * DAY_MS + 7)).collect();
        folder.append(&rows).unwrap();
        assert_eq!(names(&folder).len(), 10, "a file for each day");
        let now = Timestamp::from_millis(20 * DAY_MS);
        folder.tidy(now, 5, 1 << 30).unwrap();
        assert_eq!(texts(&folder).len(), 5);
        let bytes = folder.segments().unwrap()[0].bytes;
        folder.tidy(now, 5, 2 * bytes).unwrap();
        assert_eq!(
            texts(&folder),
            [format!("text {}", 18 * DAY_MS + 7), format!("text {}", 19 * DAY_MS + 7)]
        );
        folder.remove_all().unwrap();
        assert!(folder.open_files().unwrap().is_empty());
    }
}
