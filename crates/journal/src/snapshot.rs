//! Snapshots: the owner's state, in place of the records that led to it.
//!
//! ```text
//! offset  bytes
//!      0      8  "corrsnap"
//!      8      4  format version
//!     12      4  zero
//!     16      8  the last record it covers
//!     24      …  the owner's bytes
//!  end-24     8  zero
//!  end-16     8  how many bytes the owner wrote
//!   end-8     4  CRC-32 of everything before
//!   end-4     4  zero
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use crate::frame::{SequenceNumber, u32_at, u64_at};
use crate::journal::{Journal, Turn};
use crate::segment::{
    FORMAT_VERSION, PARTIAL_EXTENSION, SEGMENT_EXTENSION, list_numbered, segment_path,
    sync_directory,
};
use crate::{Damage, JournalError};

pub(crate) const SNAPSHOT_EXTENSION: &str = "snapshot";

const MAGIC: [u8; 8] = *b"corrsnap";
const HEADER_BYTES: usize = 24;
const TRAILER_BYTES: usize = 24;
const BUFFER_BYTES: usize = 256 << 10;

/// A snapshot being written; it counts once it is [installed](Self::install). Dropped before
/// that, it leaves nothing behind.
pub struct SnapshotWriter {
    journal: Journal,
    covers: SequenceNumber,
    partial: PathBuf,
    file: BufWriter<File>,
    crc: crc32fast::Hasher,
    bytes: u64,
    _turn: Turn,
}

impl SnapshotWriter {
    pub(crate) fn create(
        journal: Journal,
        covers: SequenceNumber,
        turn: Turn,
    ) -> Result<Self, JournalError> {
        let partial = journal.dir().join(format!("snapshot.{PARTIAL_EXTENSION}"));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&partial)
            .map_err(JournalError::io("create", &partial))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        let crc = crc32fast::Hasher::new();
        let mut writer = Self { journal, covers, partial, file, crc, bytes: 0, _turn: turn };
        writer.put(&header(covers)).map_err(JournalError::io("write", &writer.partial))?;
        Ok(writer)
    }

    /// Puts the snapshot in place of the records it covers, once these are on disk themselves:
    /// syncs it, reads it back from the disk, names it, and removes what it replaces. Blocks.
    ///
    /// # Errors
    /// When the disk fails or did not keep what was written; the snapshot before it then still
    /// stands, with all records after that one.
    pub fn install(mut self) -> Result<(), JournalError> {
        let mut trailer = [0; TRAILER_BYTES];
        trailer[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        let covered = trailer.len() - 8;
        self.crc.update(&trailer[..covered]);
        let crc = self.crc.clone().finalize();
        trailer[covered..covered + 4].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all(&trailer)
            .and_then(|()| self.file.flush())
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(JournalError::io("write", &self.partial))?;
        // Out of the page cache, so that what is verified is what the disk gives back. A file
        // system that cannot do this is read from memory; there is nothing better to do.
        let _ = fadvise(self.file.get_ref(), 0, None, Advice::DontNeed);
        Snapshot::open(&self.partial, self.covers)?;

        self.journal.sync_blocking()?;
        let dir = self.journal.dir();
        let path = snapshot_path(dir, self.covers);
        fs::rename(&self.partial, &path).map_err(JournalError::io("name", &path))?;
        sync_directory(dir)?;
        self.journal.set_newest_snapshot(self.covers);
        remove_replaced(dir, self.covers)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.file.write_all(bytes)
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Does nothing: only an installed snapshot is worth a system call.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // An installed snapshot has another name by now; what stays is removed by the next open.
        let _ = fs::remove_file(&self.partial);
    }
}

/// A verified snapshot; reading it gives the bytes that were written to it.
pub struct Snapshot {
    covers: SequenceNumber,
    bytes: u64,
    body: io::Take<BufReader<File>>,
}

impl Snapshot {
    /// Opens and verifies the file, in bounded memory.
    pub(crate) fn open(path: &Path, covers: SequenceNumber) -> Result<Self, JournalError> {
        let read = || JournalError::io("read", path);
        let file = File::open(path).map_err(JournalError::io("open", path))?;
        let size = file.metadata().map_err(read())?.len();
        let damaged = || JournalError::damaged(path, 0, Damage::Snapshot);
        let bytes = size.checked_sub((HEADER_BYTES + TRAILER_BYTES) as u64).ok_or_else(damaged)?;
        let mut found = [0; HEADER_BYTES];
        file.read_exact_at(&mut found, 0).map_err(read())?;
        if found[..8] != MAGIC {
            return Err(damaged());
        }
        let version = u32_at(&found, 8);
        if version > FORMAT_VERSION {
            let file = path.to_owned();
            return Err(JournalError::NewerFormat { file, found: version, known: FORMAT_VERSION });
        }
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, size - TRAILER_BYTES as u64).map_err(read())?;
        let crc = checksum(&file, size - 8).map_err(read())?;
        let intact = crc == u32_at(&trailer, TRAILER_BYTES - 8)
            && u32_at(&trailer, TRAILER_BYTES - 4) == 0
            && u64_at(&trailer, 8) == bytes
            && found == header(covers);
        if !intact {
            return Err(damaged());
        }
        let mut body = BufReader::with_capacity(BUFFER_BYTES, file);
        body.seek_relative(HEADER_BYTES as i64).map_err(read())?;
        Ok(Self { covers, bytes, body: body.take(bytes) })
    }

    /// The last record whose effect is in the snapshot.
    pub fn covers(&self) -> SequenceNumber {
        self.covers
    }

    /// How many bytes the owner wrote.
    pub fn size_bytes(&self) -> u64 {
        self.bytes
    }
}

impl Read for Snapshot {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

pub(crate) fn snapshot_path(dir: &Path, covers: SequenceNumber) -> PathBuf {
    dir.join(format!("{:020}.{SNAPSHOT_EXTENSION}", covers.get()))
}

/// Removes the snapshots before this one and the segments of which it covers every record.
pub(crate) fn remove_replaced(dir: &Path, covers: SequenceNumber) -> Result<(), JournalError> {
    let remove = |path: PathBuf| fs::remove_file(&path).map_err(JournalError::io("remove", &path));
    let segments = list_numbered(dir, SEGMENT_EXTENSION)?;
    for pair in segments.windows(2) {
        // A segment ends where the next begins.
        if pair[1] <= covers.next() {
            remove(segment_path(dir, pair[0]))?;
        }
    }
    for older in list_numbered(dir, SNAPSHOT_EXTENSION)? {
        if older < covers {
            remove(snapshot_path(dir, older))?;
        }
    }
    Ok(())
}

fn header(covers: SequenceNumber) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&covers.get().to_le_bytes());
    bytes
}

/// The CRC-32 of the file's first `length` bytes.
fn checksum(file: &File, length: u64) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < length {
        let piece = (length - offset).min(BUFFER_BYTES as u64) as usize;
        file.read_exact_at(&mut buffer[..piece], offset)?;
        crc.update(&buffer[..piece]);
        offset += piece as u64;
    }
    Ok(crc.finalize())
}
