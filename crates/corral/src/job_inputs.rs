//! What a job was submitted with, as the code that does its work wants it.

use std::io;
use std::path::{Path, PathBuf};

use corral_data::PartStore;
use corral_types::BlobHash;
use corral_worker::{JobContext, JobFailure};

/// The bytes of an input.
///
/// # Errors
/// When the file cannot be read; another attempt may.
pub fn read(path: &Path) -> Result<Vec<u8>, JobFailure> {
    std::fs::read(path)
        .map_err(|error| JobFailure::retryable(format!("read {}: {error}", path.display())))
}

/// The job's inputs as the store that a data set is read from.
pub struct Inputs<'a> {
    pub context: &'a JobContext,
}

impl PartStore for Inputs<'_> {
    fn put_file(&self, path: &Path, _: &BlobHash) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{}: a job writes no parts", path.display()),
        ))
    }

    fn local_path(&self, hash: &BlobHash) -> io::Result<PathBuf> {
        let path = self.context.input_path(*hash);
        path.map(Path::to_owned)
            .map_err(|failure| io::Error::new(io::ErrorKind::NotFound, failure.message))
    }

    fn scratch_dir(&self) -> &Path {
        self.context.work_dir()
    }
}
