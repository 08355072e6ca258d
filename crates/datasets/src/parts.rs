//! The blob store as the place where data sets keep their files.

use std::io;
use std::path::{Path, PathBuf};

use corral_blobs::BlobStore;
use corral_data::PartStore;
use corral_types::BlobHash;

/// Adapts the blob store to the port of the `data` crate.
pub struct BlobParts(pub BlobStore);

impl PartStore for BlobParts {
    fn put_file(&self, path: &Path, hash: &BlobHash) -> io::Result<()> {
        let put = self.0.adopt_file(path).map_err(io::Error::other)?;
        debug_assert_eq!(put.hash, *hash, "the writer hashed what it wrote");
        Ok(())
    }

    fn local_path(&self, hash: &BlobHash) -> io::Result<PathBuf> {
        self.0.local_path(hash).map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))
    }

    fn scratch_dir(&self) -> &Path {
        self.0.scratch_folder()
    }
}
