//! The end of the log: where frames are written.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{io, thread};

use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, SequenceNumber, padded};
use crate::queue::{Group, Queue};
use crate::segment::{LogFile, SEGMENT_HEADER_BYTES, SegmentHeader, name_segment, prepare_segment};
use crate::{JournalError, JournalOptions};

/// Where the synced part of the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncedEnd {
    /// The first record of the segment that is written to.
    pub segment: SequenceNumber,
    /// The end of its last synced frame.
    pub offset: u64,
    /// The last record that was synced.
    pub last: SequenceNumber,
}

/// Turns the file of a segment into what is written through.
pub(crate) type OpenLogFile = Box<dyn Fn(File) -> Box<dyn LogFile> + Send>;

/// Why a frame was not written.
enum WriteError {
    /// Nothing was touched; the same may succeed later.
    Refused(JournalError),
    /// It is not known what is on disk.
    Failed(JournalError),
}

pub(crate) struct Log {
    pub dir: PathBuf,
    pub options: JournalOptions,
    pub header: SegmentHeader,
    pub file: Box<dyn LogFile>,
    pub open_file: OpenLogFile,
    /// Where the next frame begins.
    pub offset: u64,
    pub next: SequenceNumber,
    /// Whether a mark would say nothing new.
    pub at_mark: bool,
    pub synced: Arc<Mutex<SyncedEnd>>,
}

impl Log {
    /// Writes what the queue gathers until it is closed.
    pub(crate) fn run(mut self, queue: &Queue) {
        let _unwinding = PoisonOnPanic { queue, dir: &self.dir.clone() };
        let mut spare = Group::default();
        while let Some(mut group) = queue.take(spare) {
            match self.write(&mut group) {
                Ok(()) => queue.acknowledge(&mut group),
                Err(WriteError::Refused(error)) => queue.refuse(&mut group, &error),
                Err(WriteError::Failed(error)) => {
                    return queue.poison(&mut group, &error);
                }
            }
            spare = group;
        }
        // A mark that does not get to the disk is only missed when that disk rots.
        let _ = self.mark();
    }

    /// Says that everything before this is on disk, where that is not said already and there
    /// is room beside the frame that will close the segment.
    pub(crate) fn mark(&mut self) -> Result<(), JournalError> {
        let room_bytes = self.header.size_bytes - self.offset;
        if self.at_mark || room_bytes < 2 * FRAME_HEADER_BYTES as u64 {
            return Ok(());
        }
        self.write_without_records(FrameKind::Mark)?;
        self.publish_end();
        self.at_mark = true;
        Ok(())
    }

    fn write_without_records(&mut self, kind: FrameKind) -> Result<(), JournalError> {
        let frame = FrameHeader::without_records(kind, self.header.salt, self.next);
        self.write_frame(&frame.encode())
    }

    fn write(&mut self, group: &mut Group) -> Result<(), WriteError> {
        if group.records == 0 {
            return Ok(());
        }
        debug_assert_eq!(group.first, self.next, "records are numbered without gaps");
        let frame_bytes = padded(group.frame.len());
        if self.offset + (frame_bytes + FRAME_HEADER_BYTES) as u64 > self.header.size_bytes {
            self.continue_in_new_segment(frame_bytes)?;
        }
        let body = &group.frame[FRAME_HEADER_BYTES..];
        let frame = FrameHeader::for_body(self.header.salt, self.next, group.records, body);
        group.frame[..FRAME_HEADER_BYTES].copy_from_slice(&frame.encode());
        group.frame.resize(frame_bytes, 0);
        self.next = frame.next();
        self.at_mark = false;
        self.write_frame(&group.frame).map_err(WriteError::Failed)?;
        self.publish_end();
        Ok(())
    }

    fn write_frame(&mut self, frame: &[u8]) -> Result<(), JournalError> {
        self.file
            .write_all_at(frame, self.offset)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| poisoned(&self.dir, source))?;
        self.offset += frame.len() as u64;
        Ok(())
    }

    fn publish_end(&self) {
        let end = SyncedEnd {
            segment: self.header.first,
            offset: self.offset,
            last: self.next.previous(),
        };
        *self.synced.lock().expect("nothing panics while this is locked") = end;
    }

    /// Makes the next segment, with room for a frame of `frame_bytes`, and closes this one.
    fn continue_in_new_segment(&mut self, frame_bytes: usize) -> Result<(), WriteError> {
        let needed = SEGMENT_HEADER_BYTES + frame_bytes + 2 * FRAME_HEADER_BYTES;
        let size_bytes = self.options.segment_bytes.max(needed as u64);
        check_room(&self.dir, size_bytes, self.options.reserve_bytes)
            .map_err(WriteError::Refused)?;
        let header = SegmentHeader::draw(self.next, size_bytes);
        let (file, partial) = prepare_segment(&self.dir, &header).map_err(WriteError::Refused)?;
        // From here on the new segment may be found after a crash, so there is no way back. An
        // empty segment has the same first record, and so is replaced instead of continued. The
        // end is published with the new segment: an export up to the frame that closes the old
        // one would lack the segment which that frame announces.
        let is_empty = self.offset == SEGMENT_HEADER_BYTES as u64;
        name_segment(&self.dir, &partial, header.first)
            .and_then(|()| match is_empty {
                true => Ok(()),
                false => self.write_without_records(FrameKind::Continued),
            })
            .map_err(|error| match error {
                JournalError::Io { source, .. } => {
                    WriteError::Failed(JournalError::Poisoned { dir: self.dir.clone(), source })
                }
                other => WriteError::Failed(other),
            })?;
        self.file = (self.open_file)(file);
        self.header = header;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.publish_end();
        Ok(())
    }
}

/// Makes the first segment of a journal.
pub(crate) fn create_first_segment(
    dir: &Path,
    options: &JournalOptions,
) -> Result<(), JournalError> {
    let first = SequenceNumber::ZERO.next();
    let size_bytes = options.segment_bytes.max((SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES) as u64);
    check_room(dir, size_bytes, options.reserve_bytes)?;
    let header = SegmentHeader::draw(first, size_bytes);
    let (_, partial) = prepare_segment(dir, &header)?;
    name_segment(dir, &partial, first)
}

fn check_room(dir: &Path, needed_bytes: u64, reserve_bytes: u64) -> Result<(), JournalError> {
    let free = rustix::fs::statvfs(dir)
        .map_err(|errno| JournalError::io("measure the disk of", dir)(errno.into()))?;
    let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
    if needed_bytes.saturating_add(reserve_bytes) <= free_bytes {
        return Ok(());
    }
    Err(JournalError::DiskFull { dir: dir.to_owned(), needed_bytes, free_bytes, reserve_bytes })
}

fn poisoned(dir: &Path, source: io::Error) -> JournalError {
    JournalError::Poisoned { dir: dir.to_owned(), source: Arc::new(source) }
}

/// Leaves nobody waiting should the writer thread panic.
struct PoisonOnPanic<'a> {
    queue: &'a Queue,
    dir: &'a Path,
}

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = poisoned(self.dir, io::Error::other("the writer thread panicked"));
            self.queue.poison(&mut Group::default(), &error);
        }
    }
}
