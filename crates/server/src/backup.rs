//! Backup and restore: catalog, the key of its secrets, journals of jobs and calls, every blob
//! they refer to and the logs of endpoints, in one tar archive. It opens every secret: keep it
//! as safe as the server's folder.
//!
//! The journals are copied first, the catalog second, the blobs last. A job that ends in
//! between is then still running in the copy; after a restore it is tried again, and
//! registering its model twice makes one version. Blobs are never changed and spared for a
//! day before collection, so what the copies refer to is still there.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use corral_apps::KEY_FILE;
use corral_blobs::{BlobError, BlobStore};
use corral_types::{BlobHash, ErrorKind, Explain, Failure};

use crate::rest::Answer;
use crate::state::App;

/// The first entry of an archive, and what it says.
const MARKER: &str = "corral-backup";
const MARKER_TEXT: &[u8] = b"1\n";

/// Where things lie below the server's folder, and so within an archive.
pub const CATALOG_FILE: &str = "catalog.sqlite";
pub const JOBS_FOLDER: &str = "jobs";
const JOURNAL_FOLDER: &str = "journal";
const STORIES_FOLDER: &str = "stories";
pub const FUNCTIONS_FOLDER: &str = "functions";
/// Logs of apps, a folder for each.
pub const APP_LOGS_FOLDER: &str = "app_logs";
/// Logs of requests, a folder for each endpoint.
pub const LOGS_FOLDER: &str = "requests";
pub const BLOBS_FOLDER: &str = "blobs";
const OBJECTS: &str = "objects";

/// A consistent copy of the records, ready to be written with the blobs they refer to.
pub struct PreparedBackup {
    folder: tempfile::TempDir,
    referenced: HashSet<BlobHash>,
    blobs: BlobStore,
}

/// Copies journal and catalog.
///
/// # Errors
/// When one of them cannot be copied.
pub async fn prepare(app: &App) -> Answer<PreparedBackup> {
    let folder = tempfile::tempdir_in(app.blobs.scratch_folder()).map_err(|error| {
        Failure::new(ErrorKind::Unavailable, format!("make a folder for the backup: {error}"))
    })?;
    // Before and after: a record that comes or goes in between may be in the copies.
    let mut referenced = app.referenced_blobs().await?;
    let (journal, jobs) = (app.jobs.journal().clone(), folder.path().join(JOBS_FOLDER));
    let stories = app.jobs.stories_dir();
    let (calls, functions) =
        (app.functions.journal().clone(), folder.path().join(FUNCTIONS_FOLDER));
    let secrets_key = app.apps.key_file().to_owned();
    let copied_key = folder.path().join(KEY_FILE);
    let logs = app.serving.log_folder().to_owned();
    let copied_logs = folder.path().join(LOGS_FOLDER);
    let exported = tokio::task::spawn_blocking(move || -> Answer<()> {
        let failed = |error: io::Error| {
            Failure::new(ErrorKind::Unavailable, format!("copy the jobs: {error}"))
        };
        std::fs::create_dir_all(&jobs).map_err(failed)?;
        journal.export(jobs.join(JOURNAL_FOLDER))?;
        // After the journal: what the stories have beyond it, a restore cuts off.
        copy_folder(&stories, &jobs.join(STORIES_FOLDER)).map_err(failed)?;
        let failed = |error: io::Error| {
            Failure::new(ErrorKind::Unavailable, format!("copy the calls: {error}"))
        };
        std::fs::create_dir_all(&functions).map_err(failed)?;
        calls.export(functions.join(JOURNAL_FOLDER))?;
        std::fs::copy(secrets_key, copied_key).map_err(failed)?;
        let failed = |error: io::Error| {
            Failure::new(ErrorKind::Unavailable, format!("copy the logs of endpoints: {error}"))
        };
        if logs.exists() {
            link_folder(&logs, &copied_logs).map_err(failed)?;
        }
        Ok(())
    });
    exported.await.map_err(|_| crate::rest::cut_off())??;
    app.catalog.backup_to(folder.path().join(CATALOG_FILE)).await?;
    referenced.extend(app.referenced_blobs().await?);
    Ok(PreparedBackup { folder, referenced, blobs: app.blobs.clone() })
}

impl PreparedBackup {
    /// Writes the archive.
    ///
    /// # Errors
    /// When a file cannot be read or the archive not written.
    pub fn write_to(&self, writer: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(writer);
        // Plain entries only: the archive must be readable everywhere.
        archive.sparse(false);
        let mut header = tar::Header::new_gnu();
        header.set_size(MARKER_TEXT.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, MARKER, MARKER_TEXT)?;
        archive.append_dir_all(".", self.folder.path())?;
        for hash in &self.referenced {
            let mut file = match self.blobs.open_file(hash) {
                Ok(file) => file,
                // An input of a job that was removed while the copies were made.
                Err(BlobError::NotFound { .. }) => continue,
                Err(error) => return Err(io::Error::other(error)),
            };
            archive.append_file(format!("{BLOBS_FOLDER}/{OBJECTS}/{hash}"), &mut file)?;
        }
        archive.finish()
    }
}

/// What a restore brought back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restored {
    pub blobs: u64,
    pub bytes: u64,
}

/// Why an archive could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a backup of Corral")]
    Foreign { path: PathBuf },
    #[error("the backup holds `{entry}`, which is none of its files")]
    Entry { entry: String },
    #[error("write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("store a blob")]
    Blob(#[from] BlobError),
    #[error("the backup ends before its catalog")]
    Incomplete,
}

impl Explain for RestoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Foreign { .. } | Self::Entry { .. } => ErrorKind::Invalid,
            Self::Write { .. } => ErrorKind::Unavailable,
            Self::Blob(error) => error.kind(),
            Self::Incomplete => ErrorKind::DataLoss,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } | Self::Entry { .. } => {
                Some("give a file that `corral backup` wrote".to_owned())
            }
            Self::Incomplete | Self::Blob(_) => {
                Some("the file is damaged or cut off; take another copy of it".to_owned())
            }
            _ => None,
        }
    }
}

/// Restores an archive into an empty server folder. Every blob is checked against its hash.
///
/// # Errors
/// When the archive is damaged, cut off or none, or the disk fails.
pub fn restore(archive: &Path, server_dir: &Path) -> Result<Restored, RestoreError> {
    let read_error = |source| RestoreError::Read { path: archive.to_owned(), source };
    let file = File::open(archive).map_err(read_error)?;
    let mut entries = tar::Archive::new(io::BufReader::with_capacity(1 << 20, file));
    let mut entries = entries.entries().map_err(read_error)?;
    let is_backup = entries.next().is_some_and(|entry| entry.is_ok_and(is_marker));
    if !is_backup {
        return Err(RestoreError::Foreign { path: archive.to_owned() });
    }
    let blobs = BlobStore::open(server_dir.join(BLOBS_FOLDER))?;
    let mut restored = Restored::default();
    let mut has_catalog = false;
    for entry in entries {
        let mut entry = entry.map_err(read_error)?;
        let path = entry.path().map_err(read_error)?.into_owned();
        let name = path.display().to_string();
        let parts: Vec<_> = path
            .components()
            .filter(|part| *part != Component::CurDir)
            .map(|part| match part {
                Component::Normal(part) => part.to_str().map(str::to_owned),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| RestoreError::Entry { entry: name.clone() })?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(RestoreError::Entry { entry: name });
        }
        match parts.as_slice() {
            [BLOBS_FOLDER, OBJECTS, hash] => {
                let hash: BlobHash =
                    hash.parse().map_err(|_| RestoreError::Entry { entry: name.clone() })?;
                let mut writer = blobs.writer()?.expect_hash(hash);
                restored.bytes += writer.append_all_from(&mut entry)?;
                writer.finish()?;
                restored.blobs += 1;
            }
            [CATALOG_FILE]
            | [KEY_FILE]
            | [JOBS_FOLDER, ..]
            | [FUNCTIONS_FOLDER, ..]
            | [LOGS_FOLDER, _, _] => {
                has_catalog |= parts == [CATALOG_FILE];
                let target = server_dir.join(parts.iter().collect::<PathBuf>());
                write_file(&target, &mut entry)
                    .map_err(|source| RestoreError::Write { path: target.clone(), source })?;
            }
            _ => return Err(RestoreError::Entry { entry: name }),
        }
    }
    if has_catalog { Ok(restored) } else { Err(RestoreError::Incomplete) }
}

/// Whether an archive's first entry says that it is a backup of this format.
fn is_marker(mut entry: tar::Entry<'_, impl Read>) -> bool {
    let mut text = Vec::new();
    entry.path().is_ok_and(|path| path.as_ref() == Path::new(MARKER))
        && entry.by_ref().take(64).read_to_end(&mut text).is_ok()
        && text == MARKER_TEXT
}

/// Copies the files of a folder that is being written to; what goes away meanwhile is left out.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let copied = match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => std::fs::copy(entry.path(), target).map(drop),
        };
        match copied {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Gives the files of a folder, which never change, a second name; what goes away meanwhile is
/// left out.
fn link_folder(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let linked = match entry.file_type()?.is_dir() {
            true => link_folder(&entry.path(), &target),
            // One that is being written has no name yet.
            false if !entry.file_name().as_encoded_bytes().ends_with(b".arrow") => Ok(()),
            false => std::fs::hard_link(entry.path(), &target),
        };
        match linked {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn write_file(target: &Path, from: &mut impl Read) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = File::create_new(target)?;
    io::copy(from, &mut file)?;
    file.sync_all()
}
