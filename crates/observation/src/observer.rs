//! The table of series, and the watch over one request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use corral_types::{EndpointId, ErrorKind};

use crate::series::{Effort, Reading, Series, Subject};
use crate::usage::{Gathered, UsageGatherer};

/// Series kept: some 10 MB of memory. Past that, those that were asked longest ago go once their
/// usage is noted; a counter that comes back begins at zero, which Prometheus understands.
pub const MAX_SERIES: usize = 20_000;

/// Series by endpoint and version.
type Table = HashMap<(EndpointId, u32), Arc<Series>>;

/// Counts what endpoints are asked. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    table: Arc<RwLock<Table>>,
    gatherer: Arc<Mutex<UsageGatherer>>,
}

/// The watch over one request: what becomes of it is said once. Dropped before that, its client
/// has gone.
#[derive(Debug)]
pub struct Observation {
    series: Arc<Series>,
    texts: u64,
    begun: Instant,
    is_over: bool,
}

impl Observer {
    /// A request that has reached a version of an endpoint. `subject` is asked for where the
    /// version was never asked before.
    pub fn begin(
        &self,
        endpoint: EndpointId,
        version: u32,
        texts: u64,
        subject: impl FnOnce() -> Subject,
    ) -> Observation {
        let series = self.series(endpoint, version, subject);
        series.began();
        Observation { series, texts, begun: Instant::now(), is_over: false }
    }

    fn series(
        &self,
        endpoint: EndpointId,
        version: u32,
        subject: impl FnOnce() -> Subject,
    ) -> Arc<Series> {
        let key = (endpoint, version);
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = table.get(&key) {
            return series.clone();
        }
        drop(table);
        let made = Arc::new(Series::new(subject()));
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.entry(key).or_insert(made).clone()
    }

    /// Every series there is.
    pub fn all(&self) -> Vec<Arc<Series>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What a version of an endpoint was asked since the server's start; `None` if nothing.
    pub fn reading(&self, endpoint: EndpointId, version: u32) -> Option<Reading> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&(endpoint, version)).map(|series| series.read())
    }

    /// What endpoints used since this was asked last, to be noted once. Lets go of series beyond
    /// [`MAX_SERIES`].
    pub fn gather_usage(&self) -> Vec<Gathered> {
        let mut gatherer = self.gatherer.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = self.take_idle(&gatherer);
        let mut all = self.all();
        all.extend(gone.iter().cloned());
        let gathered = gatherer.gather(&all, Instant::now());
        for series in gone {
            gatherer.forget((series.subject.endpoint, series.subject.version));
        }
        gathered
    }

    /// Takes series beyond the limit out of the table, those that no request holds.
    fn take_idle(&self, gatherer: &UsageGatherer) -> Vec<Arc<Series>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let beyond = table.len().saturating_sub(MAX_SERIES);
        if beyond == 0 {
            return Vec::new();
        }
        let mut gone = Vec::with_capacity(beyond);
        for key in gatherer.longest_idle(beyond) {
            // Requests get theirs from the table, which is locked: nobody takes it up again.
            if table.get(&key).is_some_and(|series| Arc::strong_count(series) == 1) {
                gone.extend(table.remove(&key));
            }
        }
        gone
    }
}

impl Observation {
    /// The request was answered.
    pub fn answered(mut self, effort: Effort) {
        self.is_over = true;
        self.series.answered(self.texts, self.begun.elapsed(), effort);
    }

    /// The request failed.
    pub fn failed(mut self, kind: ErrorKind) {
        self.is_over = true;
        self.series.failed(kind);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.is_over {
            self.series.cancelled();
        }
    }
}
