//! Writing the Arrow IPC files of parts and layers, hashed as they are written.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, Schema};
use corral_types::BlobHash;

/// Small pieces (headers, padding) are gathered up to this; larger ones pass through.
const BUFFER_BYTES: usize = 64 * 1024;

/// An Arrow IPC file in a scratch folder. Deleted with the value unless it is finished.
pub(crate) struct IpcFileWriter {
    path: tempfile::TempPath,
    writer: FileWriter<BufWriter<HashingFile>>,
}

/// A file that is written and not yet in the store. Deleted with the value.
pub(crate) struct FinishedFile {
    pub path: tempfile::TempPath,
    pub hash: BlobHash,
    pub bytes: u64,
}

/// Why a file of a data set could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("create a scratch file in {}", folder.display())]
    Create { folder: PathBuf, source: io::Error },
    #[error("write a file of the data set in {}", folder.display())]
    Write { folder: PathBuf, source: ArrowError },
    #[error("put a file of the data set into the store")]
    Put { source: io::Error },
    #[error("spill a sort to {}", folder.display())]
    Spill { folder: PathBuf, source: io::Error },
}

impl IpcFileWriter {
    pub(crate) fn create(folder: &Path, schema: &Arc<Schema>) -> Result<Self, WriteError> {
        let (file, path) = tempfile::NamedTempFile::with_prefix_in("part-", folder)
            .map_err(|source| WriteError::Create { folder: folder.into(), source })?
            .into_parts();
        let file = HashingFile { file, hasher: blake3::Hasher::new(), bytes: 0 };
        let writer = FileWriter::try_new(BufWriter::with_capacity(BUFFER_BYTES, file), schema)
            .map_err(|source| WriteError::Write { folder: folder.into(), source })?;
        Ok(Self { path, writer })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.writer.write(batch).map_err(|source| write_error(&self.path, source))
    }

    pub(crate) fn finish(self) -> Result<FinishedFile, WriteError> {
        let Self { path, writer } = self;
        let written = writer.into_inner().and_then(|buffered| Ok(buffered.into_inner()?));
        let file = written.map_err(|source| write_error(&path, source))?;
        Ok(FinishedFile { path, hash: file.hasher.finalize().into(), bytes: file.bytes })
    }
}

fn write_error(path: &Path, source: ArrowError) -> WriteError {
    WriteError::Write { folder: path.parent().unwrap_or(path).into(), source }
}

struct HashingFile {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
