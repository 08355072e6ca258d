//! The bytes of an open encoder file.

#![expect(unsafe_code, reason = "maps a file")]

use std::fs::File;
use std::io::{self, Read};

use memmap2::Mmap;

/// A whole file, aligned so that its sections can be read as numbers where they lie.
#[derive(Debug)]
pub(crate) enum FileBytes {
    Mapped(Mmap),
    /// `words` hold the file and up to seven zeros.
    Read {
        words: Vec<u64>,
        bytes: usize,
    },
}

impl FileBytes {
    /// Maps a file that nobody changes or cuts short while it is open.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the caller keeps the file as it is, as the contract of `MiniLm::open` says.
        Ok(Self::Mapped(unsafe { Mmap::map(file)? }))
    }

    /// Reads a file into memory.
    pub fn read(mut file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let bytes = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut words = Vec::new();
        words.try_reserve_exact(bytes.div_ceil(8)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        words.resize(bytes.div_ceil(8), 0u64);
        file.read_exact(&mut bytemuck::cast_slice_mut(&mut words)[..bytes])?;
        Ok(Self::Read { words, bytes })
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read { words, bytes } => &bytemuck::cast_slice(words)[..*bytes],
        }
    }
}
