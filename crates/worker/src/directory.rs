//! The worker's own directory.
//!
//! ```text
//! DIR/lock                    held while a worker runs
//! DIR/worker.json             format and the worker's id, for ever the same
//! DIR/blobs/                  cache of inputs and outputs by content hash
//! DIR/cache/WORKSPACE/        what job handlers keep to be quicker the next time
//! DIR/images/                 layers, bases, trees of files, the store of packages
//! DIR/containers/TASK/        the socket of a container and what it writes
//! DIR/attempts/ATTEMPT/       job.json, events-…, checkpoint-…, work/
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use corral_types::{AttemptId, WorkerId};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::WorkerError;

/// The directory of an attempt in which its job process runs.
pub const WORK_DIRECTORY: &str = "work";

/// Where handlers keep what they can compute again, by workspace.
pub const CACHE_DIRECTORY: &str = "cache";

/// The version of the layout above.
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Identity {
    format_version: u32,
    worker: WorkerId,
}

/// An opened directory; the lock is held as long as this lives.
pub struct WorkerDirectory {
    pub worker: WorkerId,
    path: PathBuf,
    _lock: File,
}

impl WorkerDirectory {
    /// Opens or begins the worker's directory and locks it.
    ///
    /// # Errors
    /// When another worker holds it, a newer program wrote it, or it cannot be used.
    pub fn open(path: &Path) -> Result<Self, WorkerError> {
        create_private(path).map_err(WorkerError::directory("create", path))?;
        let path = fs::canonicalize(path).map_err(WorkerError::directory("find", path))?;
        let lock_path = path.join("lock");
        let lock =
            File::create(&lock_path).map_err(WorkerError::directory("create", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(WorkerError::DirectoryInUse { path });
            }
            locked => {
                locked.map_err(|e| WorkerError::directory("lock", &lock_path)(e.into()))?;
            }
        }
        let worker = read_or_begin_identity(&path)?;
        for name in ["blobs", CACHE_DIRECTORY, "attempts", "containers", "images"] {
            let below = path.join(name);
            create_private(&below).map_err(WorkerError::directory("create", &below))?;
        }
        Ok(Self { worker, path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    pub fn attempts(&self) -> PathBuf {
        self.path.join("attempts")
    }

    pub fn containers(&self) -> PathBuf {
        self.path.join("containers")
    }

    /// Removes what containers of an earlier worker left: none of them lives on.
    ///
    /// # Errors
    /// When the folder cannot be listed, or something in it not removed.
    pub fn empty_containers(&self) -> Result<(), WorkerError> {
        let folder = self.containers();
        let entries = fs::read_dir(&folder).map_err(WorkerError::directory("list", &folder))?;
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(WorkerError::directory("remove", &path))?;
        }
        Ok(())
    }

    pub fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// The attempts that have a directory here.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn list_attempts(&self) -> Result<Vec<(AttemptId, PathBuf)>, WorkerError> {
        let attempts = self.attempts();
        let entries = fs::read_dir(&attempts).map_err(WorkerError::directory("list", &attempts))?;
        Ok(entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
            })
            .collect())
    }

    /// The directory of an attempt, made where it is missing, with an empty work directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin_attempt(&self, attempt: AttemptId) -> std::io::Result<PathBuf> {
        let directory = self.attempts().join(attempt.to_string());
        create_private(&directory)?;
        create_private(&directory.join(WORK_DIRECTORY))?;
        Ok(directory)
    }
}

fn create_private(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn read_or_begin_identity(path: &Path) -> Result<WorkerId, WorkerError> {
    let file = path.join("worker.json");
    let damaged = |error: serde_json::Error| WorkerError::directory("read", &file)(error.into());
    match fs::read(&file) {
        Ok(bytes) => {
            let identity: Identity = serde_json::from_slice(&bytes).map_err(damaged)?;
            if identity.format_version > FORMAT_VERSION {
                return Err(WorkerError::NewerFormat {
                    path: path.to_owned(),
                    found: identity.format_version,
                    known: FORMAT_VERSION,
                });
            }
            Ok(identity.worker)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let identity =
                Identity { format_version: FORMAT_VERSION, worker: WorkerId::generate() };
            write_durably(&file, &serde_json::to_vec_pretty(&identity).map_err(damaged)?)
                .map_err(WorkerError::directory("write", &file))?;
            Ok(identity.worker)
        }
        Err(error) => Err(WorkerError::directory("read", &file)(error)),
    }
}

/// Writes a file so that after a crash it is there whole or not at all.
pub fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_stays_and_the_directory_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = WorkerDirectory::open(dir.path()).unwrap();
        assert!(matches!(
            WorkerDirectory::open(dir.path()),
            Err(WorkerError::DirectoryInUse { .. })
        ));
        let worker = first.worker;
        drop(first);
        assert_eq!(WorkerDirectory::open(dir.path()).unwrap().worker, worker);
    }

    #[test]
    fn a_newer_or_damaged_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let newer = Identity { format_version: 9, worker: WorkerId::from_u128(1) };
        let file = dir.path().join("worker.json");
        fs::write(&file, serde_json::to_vec(&newer).unwrap()).unwrap();
        assert!(matches!(
            WorkerDirectory::open(dir.path()),
            Err(WorkerError::NewerFormat { found: 9, .. })
        ));
        fs::write(&file, b"{").unwrap();
        assert!(matches!(
            WorkerDirectory::open(dir.path()),
            Err(WorkerError::Directory { action: "read", .. })
        ));
    }
}
