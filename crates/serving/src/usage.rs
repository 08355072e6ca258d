//! Noting what endpoints use, so that it outlives the server, and reading it.

use std::time::Duration;

use corral_catalog::{CatalogError, UsageRecord};
use corral_observation::Gathered;
use corral_types::{Caller, Name, Timestamp};

use crate::{Serving, ServingError};

/// How often usage is noted: as much of it is lost when the server is killed.
pub const USAGE_NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// How long usage is kept: a year, and a month to compare it.
pub const USAGE_KEPT_DAYS: u64 = 400;

/// Old records removed at once; with ten thousand endpoints an hour has as many.
const FORGOTTEN_PER_NOTE: usize = 10_000;

const HOUR_MS: u64 = 3_600_000;

/// What is to be noted, and under which name.
#[derive(Debug, Default)]
pub(crate) struct UsageNotes {
    /// Those that this start of the server gave.
    number: u64,
    /// The hour in which everything that was too old was removed.
    forgotten_in: u64,
    /// A note of which it is not known whether it was taken. It is given again, as it was.
    pending: Option<(String, Vec<UsageRecord>)>,
}

impl UsageNotes {
    /// A name that no note had, of this start of the server or another.
    fn next_name(&mut self, now: Timestamp) -> String {
        self.number += 1;
        format!("{}-{}-{}", now.as_millis(), std::process::id(), self.number)
    }
}

/// Spans over which usage is summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageSpan {
    Hour,
    Day,
    /// All of the time asked for.
    #[default]
    Total,
}

impl UsageSpan {
    fn hours(self) -> u64 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Total => u64::MAX,
        }
    }
}

impl Serving {
    /// Notes what endpoints used since this was done last. Usage counts for the hour in which it
    /// is noted.
    ///
    /// # Errors
    /// When the catalog cannot be written; nothing is lost then, nor counted twice.
    pub async fn note_usage(&self) -> Result<(), CatalogError> {
        let mut notes = self.shared.usage_notes.lock().await;
        let catalog = &self.shared.catalog;
        if let Some((name, records)) = notes.pending.clone() {
            catalog.add_usage(name, records).await?;
            notes.pending = None;
        }
        let now = Timestamp::now();
        let hour = now.as_millis() / HOUR_MS;
        let gathered = self.shared.observer.gather_usage();
        if gathered.is_empty() {
            return Ok(());
        }
        let records: Vec<UsageRecord> =
            gathered.into_iter().map(|used| record(used, hour)).collect();
        let name = notes.next_name(now);
        notes.pending = Some((name.clone(), records.clone()));
        catalog.add_usage(name, records).await?;
        notes.pending = None;
        if notes.forgotten_in != hour {
            let kept_from = hour.saturating_sub(24 * USAGE_KEPT_DAYS);
            let forgotten = catalog.forget_usage(kept_from, FORGOTTEN_PER_NOTE).await?;
            if forgotten < FORGOTTEN_PER_NOTE {
                notes.forgotten_in = hour;
            }
        }
        Ok(())
    }

    /// What the endpoints of the caller's workspace, or one of them, used since a time, up to
    /// now; the hour of that time counts whole.
    ///
    /// # Errors
    /// When the catalog cannot be read, or the answer passes its limit.
    pub async fn usage(
        &self,
        caller: &Caller,
        endpoint: Option<Name>,
        since: Timestamp,
        span: UsageSpan,
    ) -> Result<Vec<UsageRecord>, ServingError> {
        self.note_usage().await?;
        let hours = since.as_millis() / HOUR_MS..u64::MAX;
        let catalog = &self.shared.catalog;
        Ok(catalog.usage(caller.workspace, endpoint, hours, span.hours()).await?)
    }
}

fn record(used: Gathered, hour: u64) -> UsageRecord {
    UsageRecord {
        workspace: used.workspace,
        endpoint: used.endpoint,
        hour,
        requests: used.requests,
        errors: used.errors,
        texts: used.texts,
        core_micros: used.core_micros,
        memory_byte_seconds: used.memory_byte_seconds,
    }
}
