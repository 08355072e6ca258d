//! What the containers of apps wrote: bounded files for each app, read by place or by time.
//!
//! ```text
//! DIR/APP/000…042.log   JSON lines; the file is named by the number of its first entry
//! ```
//!
//! Entries are numbered from 1 in the order in which they came. What is appended survives the
//! process, not a power loss: logs are not worth a sync. Reading never blocks writing for longer
//! than it takes to look at what is in memory.

mod app_log;
mod entry;

pub use entry::{LogEntry, LogFilter, NewLogLine, TimeRange};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corral_types::{AppId, Timestamp};
use tokio::sync::watch;

use crate::AppsError;
use app_log::AppLog;

/// How long lines are kept.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Lines in one answer at most.
pub const MAX_LINES_READ: usize = 5_000;

/// A log that nobody wrote or read for so long is closed.
const CLOSED_AFTER: Duration = Duration::from_secs(600);

/// Logs of all apps. Clones share them.
#[derive(Clone)]
pub struct AppLogs {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    open: Mutex<HashMap<AppId, (Arc<AppLog>, Timestamp)>>,
}

impl AppLogs {
    /// Logs below this folder, which is made when the first line comes.
    pub fn new(folder: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { folder, open: Mutex::default() }) }
    }

    /// Where the files lie.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Appends lines in their order. They are small and go to the page cache: this takes
    /// microseconds.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&self, app: AppId, lines: Vec<NewLogLine>) -> Result<(), AppsError> {
        let now = Timestamp::now();
        self.log(app, now)?.append(lines).map_err(|source| failed(app, source))
    }

    /// The number of an app's newest entry, which changes when one comes.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn newest(&self, app: AppId) -> Result<watch::Receiver<u64>, AppsError> {
        Ok(self.log(app, Timestamp::now())?.newest())
    }

    /// Entries after number `after` that pass the filter, oldest first, and how far was looked.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn after(
        &self,
        app: AppId,
        after: u64,
        filter: LogFilter,
    ) -> Result<(Vec<LogEntry>, u64), AppsError> {
        let log = self.log(app, Timestamp::now())?;
        if let Some(found) = log.recent_after(after, &filter, MAX_LINES_READ) {
            return Ok(found);
        }
        let read = move || log.stored_after(after, &filter, MAX_LINES_READ);
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| AppsError::CutOff)?;
        read.map_err(|source| failed(app, source))
    }

    /// The newest `limit` entries of a time that pass the filter, oldest first.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn range(
        &self,
        app: AppId,
        range: TimeRange,
        filter: LogFilter,
        limit: usize,
    ) -> Result<Vec<LogEntry>, AppsError> {
        let log = self.log(app, Timestamp::now())?;
        let limit = limit.min(MAX_LINES_READ);
        let read = move || log.newest_in(range, &filter, limit);
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| AppsError::CutOff)?;
        read.map_err(|source| failed(app, source))
    }

    /// How many entries of each descriptor (1, 2, 3) there are in each span of `bucket` of a
    /// time, by the span's beginning; spans without any are left out.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn count(
        &self,
        app: AppId,
        range: TimeRange,
        filter: LogFilter,
        bucket: Duration,
    ) -> Result<Vec<(Timestamp, [u64; 3])>, AppsError> {
        let log = self.log(app, Timestamp::now())?;
        let read = move || log.count(range, &filter, bucket);
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| AppsError::CutOff)?;
        read.map_err(|source| failed(app, source))
    }

    /// Removes files whose lines are all older than [`KEPT`], and closes logs that nobody uses.
    /// Blocking.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn forget_old(&self, now: Timestamp) -> std::io::Result<()> {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (log, used)| log.is_followed() || now.since(*used) < CLOSED_AFTER);
        let folders = match std::fs::read_dir(&self.inner.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            folders => folders?,
        };
        for folder in folders {
            let folder = folder?;
            let app = folder.file_name().to_str().and_then(|name| name.parse::<AppId>().ok());
            let Some(app) = app else { continue };
            if let Some((log, _)) = open.get(&app) {
                log.forget_before(now, KEPT)?;
            } else {
                app_log::forget_closed(&folder.path(), now, KEPT)?;
            }
        }
        Ok(())
    }

    fn log(&self, app: AppId, now: Timestamp) -> Result<Arc<AppLog>, AppsError> {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((log, used)) = open.get_mut(&app) {
            *used = now;
            return Ok(log.clone());
        }
        let folder = self.inner.folder.join(app.to_string());
        let log = Arc::new(AppLog::open(folder).map_err(|source| failed(app, source))?);
        open.insert(app, (log.clone(), now));
        Ok(log)
    }
}

fn failed(app: AppId, source: std::io::Error) -> AppsError {
    AppsError::Log { app: app.to_string(), source }
}

#[cfg(test)]
mod tests;
