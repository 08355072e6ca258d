//! The bytes of a model file in memory.
#![expect(unsafe_code, reason = "mapping a file is unsafe, as others could cut it")]

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;

use memmap2::{Advice, Mmap, MmapMut};

/// Bytes that begin at a page, mapped from a file or copied.
#[derive(Debug)]
pub(super) struct FileBytes(Mmap);

impl FileBytes {
    /// Maps a file that nobody changes.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the blob store never changes or cuts a file once it is named by its hash,
        // and every other file goes through `read`. All bytes are plain numbers whose values
        // are checked where they are used, so that even a changed file gives no more than a
        // wrong answer.
        unsafe { Mmap::map(file) }.map(Self)
    }

    /// Asks for the pages that are not in memory yet.
    pub fn read_ahead(&self) -> io::Result<()> {
        self.0.advise(Advice::WillNeed)
    }

    /// Copies a file.
    pub fn read(file: &mut File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = MmapMut::map_anon(length.max(1))?;
        file.read_exact(&mut bytes[..length])?;
        Ok(Self(bytes.make_read_only()?))
    }

    /// Copies bytes.
    pub fn copy(bytes: &[u8]) -> io::Result<Self> {
        let mut copied = MmapMut::map_anon(bytes.len().max(1))?;
        copied[..bytes.len()].copy_from_slice(bytes);
        Ok(Self(copied.make_read_only()?))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
