//! The data directory: its layout, its format version, and the lock that keeps a second
//! `corral up` out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use corral_types::{ErrorKind, Explain};

/// The layout that this binary writes. A directory with a greater one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// A data directory that this process alone uses, for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    newly_made: bool,
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("use {path} as the data directory")]
    Io { path: PathBuf, source: io::Error },
    #[error("the data directory {path} is in use by process {process_id}")]
    InUse { path: PathBuf, process_id: String },
    #[error(
        "{path} is not empty and has no format_version file, so it is no data directory of Corral"
    )]
    Foreign { path: PathBuf },
    #[error(
        "the data directory {path} has format version {found}; this binary knows up to {FORMAT_VERSION}"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("{path} is not empty")]
    NotEmpty { path: PathBuf },
    #[error("{path} does not hold a format version but `{found}`")]
    Damaged { path: PathBuf, found: String },
}

impl Explain for DataDirError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::Foreign { .. } | Self::Newer { .. } | Self::NotEmpty { .. } => ErrorKind::Invalid,
            Self::Damaged { .. } => ErrorKind::DataLoss,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some("choose a directory that you may write, by --data-dir".into()),
            Self::InUse { .. } => Some(
                "one `corral up` serves a data directory; stop the other one, or choose another \
                 directory by --data-dir"
                    .into(),
            ),
            Self::Foreign { .. } | Self::NotEmpty { .. } => {
                Some("choose an empty or a new directory by --data-dir".into())
            }
            Self::Newer { .. } => Some("run the binary that wrote it, or a later one".into()),
            Self::Damaged { .. } => Some("restore the directory with `corral restore`".into()),
        }
    }
}

impl DataDir {
    /// Opens `root`, makes it if it is missing or empty, and locks it.
    ///
    /// # Errors
    /// When another process holds it, it is of a later version, or something else's.
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        let io_error = |source| DataDirError::Io { path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(io_error)?;
        let root = root.canonicalize().map_err(io_error)?;
        let newly_made = Self::check_version(&root)?;
        let lock = Self::lock(&root)?;
        for sub in ["server", "worker"] {
            std::fs::create_dir_all(root.join(sub)).map_err(io_error)?;
        }
        let data_dir = Self { root, newly_made, _lock: lock };
        if newly_made {
            data_dir.complete()?;
        }
        Ok(data_dir)
    }

    /// Makes and locks a directory that something else will fill, such as a backup; it is
    /// none until [`DataDir::complete`].
    ///
    /// # Errors
    /// When the directory holds anything, or cannot be made.
    pub fn open_empty(root: &Path) -> Result<Self, DataDirError> {
        let io_error = |source| DataDirError::Io { path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(io_error)?;
        let root = root.canonicalize().map_err(io_error)?;
        if std::fs::read_dir(&root).map_err(io_error)?.next().is_some() {
            return Err(DataDirError::NotEmpty { path: root });
        }
        let lock = Self::lock(&root)?;
        for sub in ["server", "worker"] {
            std::fs::create_dir_all(root.join(sub)).map_err(io_error)?;
        }
        Ok(Self { root, newly_made: true, _lock: lock })
    }

    /// Writes the format version, last, so that a directory with one is complete.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn complete(&self) -> Result<(), DataDirError> {
        let path = self.root.join("format_version");
        write_durably(&path, format!("{FORMAT_VERSION}\n").as_bytes())
            .map_err(|source| DataDirError::Io { path, source })
    }

    /// Whether the directory is to be filled anew.
    fn check_version(root: &Path) -> Result<bool, DataDirError> {
        let path = root.join("format_version");
        let found = match std::fs::read_to_string(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries = std::fs::read_dir(root)
                    .map_err(|source| DataDirError::Io { path: root.to_owned(), source })?;
                // A start that was killed leaves the lock and empty folders behind.
                let foreign = entries.any(|entry| {
                    entry.is_ok_and(|entry| {
                        !["lock", "server", "worker"].iter().any(|own| entry.file_name() == *own)
                    })
                });
                return if foreign {
                    Err(DataDirError::Foreign { path: root.to_owned() })
                } else {
                    Ok(true)
                };
            }
            Err(source) => return Err(DataDirError::Io { path, source }),
        };
        match found.trim().parse::<u32>() {
            Ok(FORMAT_VERSION) => Ok(false),
            Ok(found) if found > FORMAT_VERSION => {
                Err(DataDirError::Newer { path: root.to_owned(), found })
            }
            _ => Err(DataDirError::Damaged { path, found: found.chars().take(40).collect() }),
        }
    }

    fn lock(root: &Path) -> Result<File, DataDirError> {
        let path = root.join("lock");
        let io_error = |source| DataDirError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process_id = String::new();
                file.read_to_string(&mut process_id).map_err(io_error)?;
                let process_id = process_id.trim().to_owned();
                return Err(DataDirError::InUse { path: root.to_owned(), process_id });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        file.set_len(0).map_err(io_error)?;
        file.rewind().map_err(io_error)?;
        writeln!(file, "{}", std::process::id()).map_err(io_error)?;
        Ok(file)
    }

    /// Whether this start made the directory.
    pub fn is_newly_made(&self) -> bool {
        self.newly_made
    }

    pub fn server(&self) -> PathBuf {
        self.root.join("server")
    }

    pub fn worker(&self) -> PathBuf {
        self.root.join("worker")
    }

    pub fn path(&self) -> &Path {
        &self.root
    }
}

/// Writes a small file so that after power loss it is there whole or not at all.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_kept_and_held_by_one() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("data");
        let first = DataDir::open(&root).unwrap();
        assert!(first.is_newly_made());
        let second = DataDir::open(&root).unwrap_err();
        let own = std::process::id().to_string();
        assert!(matches!(&second, DataDirError::InUse { process_id, .. } if *process_id == own));
        drop(first);
        assert!(!DataDir::open(&root).unwrap().is_newly_made());
    }

    #[test]
    fn foreign_newer_and_damaged_directories_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        std::fs::write(root.join("thesis.tex"), "").unwrap();
        assert!(matches!(DataDir::open(root), Err(DataDirError::Foreign { .. })));
        std::fs::write(root.join("format_version"), "2\n").unwrap();
        assert!(matches!(DataDir::open(root), Err(DataDirError::Newer { found: 2, .. })));
        std::fs::write(root.join("format_version"), "one").unwrap();
        assert!(matches!(DataDir::open(root), Err(DataDirError::Damaged { .. })));
    }
}
