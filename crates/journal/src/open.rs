//! Opening a journal: what the last process left behind.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::frame::{FrameKind, SequenceNumber};
use crate::journal::Journal;
use crate::lock::DirectoryLock;
use crate::log::{Log, OpenLogFile, SyncedEnd, create_first_segment};
use crate::replay::{SegmentEnd, find_end};
use crate::segment::{
    PARTIAL_EXTENSION, SEGMENT_EXTENSION, SegmentReader, inspect_remainder, list_numbered,
    sync_directory,
};
use crate::snapshot::{SNAPSHOT_EXTENSION, remove_replaced, snapshot_path};
use crate::{Damage, JournalError, JournalOptions, Records, Snapshot};

/// What a journal holds when it is opened.
pub struct Recovery {
    /// The state to begin with; none when no snapshot was ever installed.
    pub snapshot: Option<Snapshot>,
    /// The records to apply to it.
    pub records: Records,
    /// What was cut off the end of the log. Nothing in it was acknowledged.
    pub cut_tail: Option<CutTail>,
    /// Damaged snapshots; all that they covered was found in an older one and the log.
    pub damaged_snapshots: Vec<PathBuf>,
}

/// A frame that was being written when the last process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutTail {
    pub file: PathBuf,
    pub offset: u64,
    pub bytes: u64,
}

pub(crate) fn open(
    dir: &Path,
    options: JournalOptions,
    open_file: OpenLogFile,
) -> Result<(Journal, Recovery), JournalError> {
    create_directory(dir)?;
    let lock = DirectoryLock::acquire(dir)?;
    remove_partial_files(dir)?;
    let segments = list_numbered(dir, SEGMENT_EXTENSION)?;
    let (snapshot, damaged_snapshots) = choose_snapshot(dir, &segments)?;
    let covers = snapshot.as_ref().map_or(SequenceNumber::ZERO, Snapshot::covers);
    let segments = if segments.is_empty() {
        create_first_segment(dir, &options)?;
        vec![SequenceNumber::ZERO.next()]
    } else {
        segments
    };

    let last = *segments.last().expect("a journal has a segment");
    let mut reader = SegmentReader::open(dir, last)?;
    let end = find_end(&mut reader)?;
    if end.next <= covers {
        let damage = Damage::BehindSnapshot { covers };
        return Err(JournalError::damaged(&reader.path, end.offset, damage));
    }
    let file = File::options()
        .read(true)
        .write(true)
        .open(&reader.path)
        .map_err(JournalError::io("open", &reader.path))?;
    let cut_tail = find_cut(&reader, end.offset)?;
    let last_frame = last_frame_bytes(&file, &reader.path, &end)?;

    let until = end.next.previous();
    let synced = SyncedEnd { segment: last, offset: end.offset, last: until };
    let mut log = Log {
        dir: dir.to_owned(),
        options,
        header: reader.header,
        file: open_file(file),
        open_file,
        offset: end.offset,
        next: end.next,
        at_mark: !matches!(end.last_frame, Some((FrameKind::Records, _))),
        synced: Arc::new(Mutex::new(synced)),
    };
    // The last frame may be in the page cache alone: its process was killed before the sync, or
    // the sync failed and the kernel calls the pages clean. Whoever sees it now will rely on it,
    // so it is written and synced again.
    let zeros = vec![0; cut_tail.as_ref().map_or(0, |cut| cut.bytes as usize)];
    if !(last_frame.is_empty() && zeros.is_empty()) {
        log.file
            .write_all_at(&last_frame, end.offset - last_frame.len() as u64)
            .and_then(|()| log.file.write_all_at(&zeros, end.offset))
            .and_then(|()| log.file.sync_data())
            .map_err(JournalError::io("sync", &reader.path))?;
    }
    log.mark()?;

    if damaged_snapshots.is_empty() {
        // A crash may have come between a snapshot and this.
        remove_replaced(dir, covers)?;
    }
    let holding_next = segments.partition_point(|&first| first <= covers.next()) - 1;
    let segments = VecDeque::from(segments[holding_next..].to_vec());
    let records = Records::new(dir, segments, covers, until);
    let journal = Journal::start(log, lock, covers)?;
    Ok((journal, Recovery { snapshot, records, cut_tail, damaged_snapshots }))
}

fn create_directory(dir: &Path) -> Result<(), JournalError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(JournalError::io("create", dir))?;
    let absolute = fs::canonicalize(dir).map_err(JournalError::io("find", dir))?;
    absolute.parent().map_or(Ok(()), sync_directory)
}

fn remove_partial_files(dir: &Path) -> Result<(), JournalError> {
    for entry in fs::read_dir(dir).map_err(JournalError::io("list", dir))? {
        let path = entry.map_err(JournalError::io("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == PARTIAL_EXTENSION) {
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    // A file named just before a crash may not have its name durably yet.
    sync_directory(dir)
}

/// The newest snapshot that is whole and from which the log goes on, and the damaged ones that
/// were newer.
fn choose_snapshot(
    dir: &Path,
    segments: &[SequenceNumber],
) -> Result<(Option<Snapshot>, Vec<PathBuf>), JournalError> {
    let goes_on_after =
        |covers: SequenceNumber| segments.first().is_some_and(|&first| first <= covers.next());
    let mut damaged = Vec::new();
    let mut first_error = None;
    for covers in list_numbered(dir, SNAPSHOT_EXTENSION)?.into_iter().rev() {
        let path = snapshot_path(dir, covers);
        let error = match Snapshot::open(&path, covers) {
            Ok(snapshot) if goes_on_after(covers) => return Ok((Some(snapshot), damaged)),
            Ok(_) => {
                let missing = Damage::MissingSegment { first: covers.next() };
                JournalError::damaged(dir, 0, missing)
            }
            Err(error @ JournalError::Damaged { .. }) => {
                damaged.push(path);
                error
            }
            Err(error) => return Err(error),
        };
        first_error.get_or_insert(error);
    }
    let from_the_start =
        goes_on_after(SequenceNumber::ZERO) || segments.is_empty() && first_error.is_none();
    if from_the_start {
        return Ok((None, damaged));
    }
    let missing = Damage::MissingSegment { first: SequenceNumber::ZERO.next() };
    Err(first_error.unwrap_or_else(|| JournalError::damaged(dir, 0, missing)))
}

/// What was left unfinished behind the last frame. It is overwritten with zeros, so that the next
/// process finds nothing but its own frames there.
fn find_cut(segment: &SegmentReader, offset: u64) -> Result<Option<CutTail>, JournalError> {
    let remainder = inspect_remainder(&segment.path, &segment.header, offset)?;
    if remainder.has_frame {
        return Err(JournalError::damaged(&segment.path, offset, Damage::Frame));
    }
    let bytes = remainder.written_until - offset;
    Ok((bytes > 0).then(|| CutTail { file: segment.path.clone(), offset, bytes }))
}

/// The last frame as it was read; nothing when there is none.
fn last_frame_bytes(file: &File, path: &Path, end: &SegmentEnd) -> Result<Vec<u8>, JournalError> {
    let start = end.last_frame.map_or(end.offset, |(_, start)| start);
    let mut frame = vec![0; (end.offset - start) as usize];
    file.read_exact_at(&mut frame, start).map_err(JournalError::io("read", path))?;
    Ok(frame)
}
