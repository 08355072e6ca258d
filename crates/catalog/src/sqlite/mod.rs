//! The catalog in one SQLite file.
//!
//! Write-ahead log, synced at every commit. One thread owns the writing connection and commits
//! what waits for it together; a few threads own reading connections, each answer from
//! one snapshot.

mod apps;
mod blobs;
mod check;
mod column;
mod datasets;
mod encoders;
mod endpoints;
mod environments;
mod executor;
mod functions;
mod labelings;
mod migrations;
mod models;
mod notes;
mod parts;
mod requests;
mod runs;
mod settings;
mod taxonomies;
mod tokens;
mod usage;
mod workspaces;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;

use crate::{Answer, Catalog, CatalogError, RecordKind};
use executor::Executor;
pub use migrations::FORMAT_VERSION;

/// Prepared statements kept by each connection: somewhat more than there are.
const CACHED_STATEMENTS: usize = 256;

/// The write-ahead log's file is cut back to this after a checkpoint, so that one large
/// change does not keep its space for ever.
const MAX_KEPT_LOG_BYTES: u64 = 16 << 20;

/// How long a connection waits for a lock. Only another process (a backup, a person with
/// a shell) can hold one.
const BUSY_TIMEOUT_MS: u64 = 10_000;

/// [`Catalog`] in one SQLite file.
///
/// Dropping it finishes the changes that were begun and closes the file. The caller sees to it
/// that no other process has the catalog open.
pub struct SqliteCatalog {
    path: PathBuf,
    executor: Executor,
}

/// What ends a piece of work early: an answer of the port, or SQLite's.
enum Stop {
    Answer(CatalogError),
    Sql(rusqlite::Error),
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        Self::Answer(error)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Stop> for CatalogError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Answer(error) => error,
            Stop::Sql(error) => storage_error(error),
        }
    }
}

/// What work on a connection gives.
type Outcome<T> = Result<T, Stop>;

fn storage_error(error: rusqlite::Error) -> CatalogError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            CatalogError::Damaged(error.to_string())
        }
        _ => CatalogError::Storage(Arc::new(error)),
    }
}

impl SqliteCatalog {
    /// Opens the catalog in this file, makes it where there is none, and brings it to
    /// [`FORMAT_VERSION`].
    ///
    /// # Errors
    /// [`CatalogError::NewerFormat`] for a catalog of a later version, [`CatalogError::Foreign`]
    /// for a file that is none, [`CatalogError::Damaged`] for one that cannot be read.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let open_error = |source: rusqlite::Error| match storage_error(source) {
            CatalogError::Storage(source) => CatalogError::Open { path: path.to_owned(), source },
            other => other,
        };
        let mut writer = connect(path, Access::Write).map_err(open_error)?;
        migrations::migrate(&mut writer, path, &migrations::ALL)?;
        let readers = (0..executor::READERS)
            .map(|_| connect(path, Access::Read))
            .collect::<Result<_, _>>()
            .map_err(open_error)?;
        let executor = Executor::start(writer, readers).map_err(|source| CatalogError::Open {
            path: path.to_owned(),
            source: Arc::new(source),
        })?;
        Ok(Self { path: path.to_owned(), executor })
    }

    /// A change: whole or not at all, answered once it is on disk.
    fn write<T, W>(&self, work: W) -> Answer<'_, T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        Box::pin(self.executor.write(work))
    }

    /// A question, answered from one snapshot.
    fn read<T, W>(&self, work: W) -> Answer<'_, T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        Box::pin(self.executor.read(work))
    }

    /// Work that may take long, on a thread and a connection of its own.
    fn aside<T, W>(&self, work: W) -> Answer<'_, T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, CatalogError> + Send + 'static,
    {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let path = self.path.clone();
            let run = move || {
                let result = connect(&path, Access::Read)
                    .map_err(storage_error)
                    .and_then(|connection| work(&connection));
                // Whoever asked may have gone.
                let _ = reply.send(result);
            };
            std::thread::Builder::new()
                .name("catalog-aside".to_owned())
                .spawn(run)
                .map_err(|source| CatalogError::Storage(Arc::new(source)))?;
            answer.await.map_err(|_| CatalogError::Closed)?
        })
    }
}

impl Catalog for SqliteCatalog {
    fn backup_to(&self, file: PathBuf) -> Answer<'_, ()> {
        self.aside(move |connection| {
            let failed = |source| CatalogError::Backup { path: file.clone(), source };
            if file.symlink_metadata().is_ok() {
                let name = file.display().to_string();
                return Err(CatalogError::AlreadyExists { what: RecordKind::BackupFile, name });
            }
            let copied = file
                .to_str()
                .ok_or_else(|| failed(Arc::new(io::Error::from(io::ErrorKind::InvalidFilename))))
                .and_then(|name| {
                    connection
                        .execute("VACUUM INTO ?1", [name])
                        .map_err(|source| failed(Arc::new(source)))
                })
                .and_then(|_| sync_with_folder(&file).map_err(|source| failed(Arc::new(source))));
            if copied.is_err() {
                // A part of a backup must not be taken for one.
                let _ = std::fs::remove_file(&file);
            }
            copied
        })
    }

    fn check(&self) -> Answer<'_, Vec<String>> {
        self.aside(|connection| check::check(connection).map_err(CatalogError::from))
    }
}

fn sync_with_folder(file: &Path) -> io::Result<()> {
    std::fs::File::open(file)?.sync_all()?;
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => std::fs::File::open(".")?.sync_all(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    if access == Access::Write {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "journal_size_limit", MAX_KEPT_LOG_BYTES as i64)?;
    }
    Ok(connection)
}
