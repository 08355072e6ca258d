//! Bytes on their way into the store.

use std::fs::File;
use std::io::{self, Read, Write};

use corral_types::BlobHash;

use crate::store::Staged;
use crate::{BlobError, BlobStore, PutBlob};

/// How much is hashed and written at a time: enough for BLAKE3 to use its widest vectors and for
/// system calls not to matter, little enough for many uploads at once.
pub const BUFFER_BYTES: usize = 256 << 10;

/// How much may be written between two looks at the free disk.
const ROOM_CHECK_BYTES: u64 = 8 << 20;

/// A blob being written: hashed on the way, stored by [`finish`](Self::finish). Dropped before
/// that, or after any error, it leaves nothing behind.
///
/// It implements [`Write`]; an [`io::Error`] from there holds the [`BlobError`].
pub struct BlobWriter {
    store: BlobStore,
    /// `None` after an error: the rest of the bytes must not make a blob of their own.
    open: Option<Open>,
    expected: Option<BlobHash>,
    limit_bytes: u64,
}

struct Open {
    staged: Staged,
    file: File,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    /// Written and hashed, the buffer not counted.
    flushed_bytes: u64,
    /// The room was checked for everything before this byte.
    checked_bytes: u64,
}

impl BlobWriter {
    pub(crate) fn create(store: BlobStore) -> Result<Self, BlobError> {
        store.check_room(0)?;
        let staged = store.stage();
        let path = staged.path();
        let file = File::create_new(path).map_err(BlobError::io("create", path))?;
        let open = Open {
            staged,
            file,
            hasher: blake3::Hasher::new(),
            buffer: Vec::new(),
            flushed_bytes: 0,
            checked_bytes: 0,
        };
        Ok(Self { store, open: Some(open), expected: None, limit_bytes: u64::MAX })
    }

    /// Refuses at the end any bytes that do not have this hash.
    #[must_use]
    pub fn expect_hash(mut self, hash: BlobHash) -> Self {
        self.expected = Some(hash);
        self
    }

    /// Refuses the byte after this many.
    #[must_use]
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Says how many bytes are coming, so that they are refused before the first is sent.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] over the limit, [`BlobError::DiskFull`] without room.
    pub fn announce_bytes(self, bytes: u64) -> Result<Self, BlobError> {
        if bytes > self.limit_bytes {
            return Err(BlobError::TooLarge { limit_bytes: self.limit_bytes });
        }
        self.store.check_room(bytes)?;
        Ok(self)
    }

    /// How many bytes came so far.
    pub fn bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.flushed_bytes + open.buffer.len() as u64)
    }

    /// Adds these bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::DiskFull`], or the disk's own; the blob is then
    /// given up, and every later call says so.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.unless_failed(|open, store, limit| {
            open.check_limit(bytes.len() as u64, limit)?;
            if open.buffer.len() + bytes.len() < BUFFER_BYTES {
                open.buffer.extend_from_slice(bytes);
                return Ok(());
            }
            open.flush(store)?;
            if bytes.len() < BUFFER_BYTES {
                open.buffer.extend_from_slice(bytes);
                return Ok(());
            }
            bytes.chunks(BUFFER_BYTES).try_for_each(|chunk| open.store_piece(store, chunk))
        })
    }

    /// Adds everything `reader` gives; returns how much that was.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`BlobError::Source`] when `reader` fails.
    pub fn append_all_from(&mut self, reader: &mut impl Read) -> Result<u64, BlobError> {
        let before = self.bytes();
        self.unless_failed(|open, store, limit| {
            loop {
                let filled = open.buffer.len();
                let wanted = (BUFFER_BYTES - filled) as u64;
                let count = reader
                    .by_ref()
                    .take(wanted)
                    .read_to_end(&mut open.buffer)
                    .map_err(|source| BlobError::Source { source })?;
                open.check_limit(0, limit)?;
                if (count as u64) < wanted {
                    return Ok(());
                }
                open.flush(store)?;
            }
        })?;
        Ok(self.bytes() - before)
    }

    /// Checks the hash, syncs, and gives the blob its name. Bytes that are stored already are
    /// not stored again.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`] against an expected hash, [`BlobError::GivenUp`] after an earlier
    /// error, [`BlobError::DiskFull`], or the disk's own.
    pub fn finish(mut self) -> Result<PutBlob, BlobError> {
        let mut open = self.open.take().ok_or(BlobError::GivenUp)?;
        open.flush(&self.store)?;
        let (found, bytes) = (BlobHash::from(open.hasher.finalize()), open.flushed_bytes);
        if let Some(expected) = self.expected.filter(|expected| *expected != found) {
            return Err(BlobError::Mismatch { expected, found });
        }
        if self.store.revive_sized(&found, bytes)? {
            return Ok(PutBlob { hash: found, bytes, was_new: false });
        }
        self.store.publish(open.staged.path(), &open.file, found, bytes)
    }

    fn unless_failed(
        &mut self,
        work: impl FnOnce(&mut Open, &BlobStore, u64) -> Result<(), BlobError>,
    ) -> Result<(), BlobError> {
        let open = self.open.as_mut().ok_or(BlobError::GivenUp)?;
        work(open, &self.store, self.limit_bytes).inspect_err(|_| self.open = None)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    /// Does nothing: only a finished blob is worth a system call.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Open {
    fn check_limit(&self, coming: u64, limit_bytes: u64) -> Result<(), BlobError> {
        let bytes = self.flushed_bytes + self.buffer.len() as u64 + coming;
        if bytes > limit_bytes { Err(BlobError::TooLarge { limit_bytes }) } else { Ok(()) }
    }

    fn flush(&mut self, store: &BlobStore) -> Result<(), BlobError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.store_piece(store, &buffer)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn store_piece(&mut self, store: &BlobStore, piece: &[u8]) -> Result<(), BlobError> {
        let end = self.flushed_bytes + piece.len() as u64;
        if end > self.checked_bytes {
            store.check_room(piece.len() as u64)?;
            self.checked_bytes = end + ROOM_CHECK_BYTES;
        }
        self.hasher.update(piece);
        self.file.write_all(piece).map_err(BlobError::io("write", self.staged.path()))?;
        self.flushed_bytes = end;
        Ok(())
    }
}
