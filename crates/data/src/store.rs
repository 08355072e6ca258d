//! The port to wherever the files of data sets are kept.

use std::io;
use std::path::{Path, PathBuf};

use corral_types::BlobHash;

/// A content-addressed store of files, as importing and reading need it.
///
/// The blob store implements it for the server; a worker implements it over the blobs it
/// has fetched.
pub trait PartStore: Send + Sync {
    /// Takes a finished file out of [`scratch_dir`](Self::scratch_dir) into the store and
    /// returns when it is synced to disk. `hash` is the BLAKE3 hash of the file's bytes,
    /// computed by the caller as it wrote them. Taking a file that is already stored
    /// succeeds. Afterwards nothing lies at `path`.
    ///
    /// # Errors
    /// When the file cannot be moved or synced.
    fn put_file(&self, path: &Path, hash: &BlobHash) -> io::Result<()>;

    /// Where a stored file lies, to be mapped. It does not change while it is stored.
    ///
    /// # Errors
    /// `NotFound` when the store has no such file.
    fn local_path(&self, hash: &BlobHash) -> io::Result<PathBuf>;

    /// A folder on the store's file system for files that are being written. Whatever an
    /// import leaves there when the process dies may be deleted at the next start.
    fn scratch_dir(&self) -> &Path;
}

/// A store that is a plain folder with one file a hash. For tests and tools.
#[cfg(any(test, feature = "test-support"))]
#[derive(Debug)]
pub struct FolderStore {
    root: tempfile::TempDir,
    scratch: PathBuf,
}

#[cfg(any(test, feature = "test-support"))]
impl FolderStore {
    /// An empty store in a new temporary folder, deleted with the value.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// The same below a given folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn within(folder: &Path) -> io::Result<Self> {
        let root = tempfile::TempDir::with_prefix_in("corral-data-", folder)?;
        let scratch = root.path().join("scratch");
        std::fs::create_dir(&scratch)?;
        std::fs::create_dir(root.path().join("blobs"))?;
        Ok(Self { root, scratch })
    }

    /// The path a hash has or would have, present or not.
    pub fn path_of(&self, hash: &BlobHash) -> PathBuf {
        self.root.path().join("blobs").join(hash.to_string())
    }

    /// The hashes of all stored files, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn hashes(&self) -> io::Result<Vec<BlobHash>> {
        let mut hashes = Vec::new();
        for entry in std::fs::read_dir(self.root.path().join("blobs"))? {
            let name = entry?.file_name();
            hashes.extend(name.to_str().and_then(|name| name.parse::<BlobHash>().ok()));
        }
        hashes.sort_unstable();
        Ok(hashes)
    }
}

#[cfg(any(test, feature = "test-support"))]
impl PartStore for FolderStore {
    fn put_file(&self, path: &Path, hash: &BlobHash) -> io::Result<()> {
        std::fs::rename(path, self.path_of(hash))
    }

    fn local_path(&self, hash: &BlobHash) -> io::Result<PathBuf> {
        let path = self.path_of(hash);
        path.try_exists()?.then_some(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn scratch_dir(&self) -> &Path {
        &self.scratch
    }
}
