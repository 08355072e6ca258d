//! A copy of the journal for a backup.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::log::SyncedEnd;
use crate::segment::{
    SEGMENT_EXTENSION, SegmentReader, list_numbered, segment_path, sync_directory,
};
use crate::snapshot::{SNAPSHOT_EXTENSION, snapshot_path};
use crate::{JournalError, SequenceNumber};

/// Copies what was synced at `end`; the caller sees to it that nothing is removed meanwhile.
pub(crate) fn export(
    dir: &Path,
    end: SyncedEnd,
    to: &Path,
) -> Result<SequenceNumber, JournalError> {
    fs::create_dir(to).map_err(JournalError::io("create", to))?;
    for covers in list_numbered(dir, SNAPSHOT_EXTENSION)? {
        link_or_copy(&snapshot_path(dir, covers), &snapshot_path(to, covers))?;
    }
    for first in list_numbered(dir, SEGMENT_EXTENSION)? {
        if first < end.segment {
            link_or_copy(&segment_path(dir, first), &segment_path(to, first))?;
        }
    }
    copy_written_segment(dir, end, to)?;
    sync_directory(to)?;
    Ok(end.last)
}

/// Files that are never written again.
fn link_or_copy(from: &Path, to: &Path) -> Result<(), JournalError> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map_err(JournalError::io("copy to", to))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(JournalError::io("sync", to))
}

/// The segment that is written to, up to what was synced: beyond that a copy might catch a later
/// frame without the one before it, which no crash can leave behind.
fn copy_written_segment(dir: &Path, end: SyncedEnd, to: &Path) -> Result<(), JournalError> {
    let size_bytes = SegmentReader::open(dir, end.segment)?.header.size_bytes;
    let (from, to) = (segment_path(dir, end.segment), segment_path(to, end.segment));
    let source = File::open(&from).map_err(JournalError::io("open", &from))?;
    let mut target = File::create_new(&to).map_err(JournalError::io("create", &to))?;
    io::copy(&mut source.take(end.offset), &mut target)
        .and_then(|_| target.set_len(size_bytes))
        .and_then(|()| target.sync_all())
        .map_err(JournalError::io("copy to", &to))
}
