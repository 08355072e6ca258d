//! Where one process writes what is not yet a blob.
//!
//! Every opened store has a folder of its own under `scratch/`, and holds a lock on that folder as
//! long as it lives. The kernel drops the lock with the process, so a folder that can be locked
//! belongs to nobody and is removed by the next open; a folder that cannot be locked is left alone.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::BlobError;

/// Held while a folder is created and locked, or looked for and removed, so that a folder
/// that is not locked *yet* is never taken for one that is not locked any more.
const GATE: &str = "gate.lock";

pub(crate) struct Scratch {
    folder: PathBuf,
    /// Open for its lock alone.
    _lock: File,
    next_file: AtomicU64,
}

impl Scratch {
    /// Removes the folders of processes that are gone and makes one for this store.
    pub(crate) fn open(root: &Path) -> Result<Self, BlobError> {
        let gate_path = root.join(GATE);
        let gate = File::create(&gate_path).map_err(BlobError::io("create", &gate_path))?;
        gate.lock().map_err(BlobError::io("lock", &gate_path))?;
        remove_abandoned(root)?;
        let folder = create_folder(root)?;
        let lock = File::open(&folder).map_err(BlobError::io("open", &folder))?;
        lock.lock().map_err(BlobError::io("lock", &folder))?;
        Ok(Self { folder, _lock: lock, next_file: AtomicU64::new(0) })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in the folder that was not given out before.
    pub(crate) fn fresh_path(&self) -> PathBuf {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        self.folder.join(number.to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next open.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn remove_abandoned(root: &Path) -> Result<(), BlobError> {
    let list = BlobError::io("list", root);
    let entries = fs::read_dir(root).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for entry in entries.map_err(list)? {
        let path = entry.path();
        if entry.file_name() == GATE {
            continue;
        }
        if !path.is_dir() {
            fs::remove_file(&path).map_err(BlobError::io("remove", &path))?;
            continue;
        }
        let folder = File::open(&path).map_err(BlobError::io("open", &path))?;
        match folder.try_lock() {
            Ok(()) => fs::remove_dir_all(&path).map_err(BlobError::io("remove", &path))?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(BlobError::io("lock", &path)(source)),
        }
    }
    Ok(())
}

fn create_folder(root: &Path) -> Result<PathBuf, BlobError> {
    let pid = std::process::id();
    // A process may open the store more than once; its folders are told apart by number.
    for number in 0u64.. {
        let folder = root.join(format!("{pid}-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(BlobError::io("create", &folder)(error)),
        }
    }
    unreachable!("a directory does not hold 2^64 entries")
}
