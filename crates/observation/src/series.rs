//! What one version of an endpoint was asked, as counters that only go up.
//!
//! A request adds to some ten of them, without a lock. A series takes some 500 bytes and about
//! 3 kB of the metrics page, and is made when its version is asked for the first time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use corral_types::{EndpointId, ErrorKind, Name, WorkspaceId};

/// Upper bounds of the latency buckets in nanoseconds: 50 µs, where a lexical prediction lies,
/// to 10 s.
pub const LATENCY_BOUNDS_NANOS: [u64; 12] = [
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    200_000_000,
    1_000_000_000,
    10_000_000_000,
];

/// Upper bounds of the buckets of texts a request, up to the most that one may have.
pub const TEXTS_BOUNDS: [u64; 7] = [1, 4, 16, 64, 256, 1024, 4096];

/// A distribution of whole numbers over fixed buckets.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Upper bounds with the values up to each and above the one before.
    pub buckets: Vec<(u64, u64)>,
    pub beyond: u64,
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [u64; N]) -> Self {
        let counts = [const { AtomicU64::new(0) }; N];
        Self { bounds, counts, beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    fn record(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(at).unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub fn read(&self) -> Distribution {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Distribution {
            buckets: self.bounds.iter().copied().zip(counts).collect(),
            beyond: self.beyond.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl Distribution {
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.beyond
    }

    /// The value that a part of the values do not pass, taken as spread evenly within its
    /// bucket; the largest bound where it lies beyond. `None` without values.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let wanted = part * total as f64;
        let (mut below, mut from) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            let (count, to) = (count as f64, bound as f64);
            if count > 0.0 && below + count >= wanted {
                return Some(from + (to - from) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            from = to;
        }
        Some(from)
    }

    /// Takes in the values of another with the same bounds.
    pub fn add(&mut self, other: &Self) {
        for ((_, ours), (_, theirs)) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours += theirs;
        }
        self.beyond += other.beyond;
        self.sum += other.sum;
    }
}

/// What stays the same of a series.
#[derive(Clone, Debug)]
pub struct Subject {
    pub workspace: WorkspaceId,
    pub endpoint: EndpointId,
    pub name: Name,
    /// The endpoint's version.
    pub version: u32,
    /// The size of the model's file; 0 where the answer is fixed.
    pub model_bytes: u64,
}

/// The counters of one version of an endpoint.
#[derive(Debug)]
pub struct Series {
    pub subject: Subject,
    answered: AtomicU64,
    failed: [AtomicU64; ErrorKind::ALL.len()],
    cancelled: AtomicU64,
    in_flight: AtomicI64,
    latency_nanos: Histogram<{ LATENCY_BOUNDS_NANOS.len() }>,
    texts: Histogram<{ TEXTS_BOUNDS.len() }>,
    core_nanos: AtomicU64,
    wait_nanos: AtomicU64,
    cold_opens: AtomicU64,
}

/// What it took to answer a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Time on a core.
    pub core: Duration,
    /// Whether the model or its encoder had to be opened.
    pub opening: Opening,
}

/// Whether what was needed was open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    #[default]
    Warm,
    Cold,
}

impl Opening {
    /// Cold if one of both is.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::Cold { self } else { other }
    }
}

impl Series {
    pub(crate) fn new(subject: Subject) -> Self {
        Self {
            subject,
            answered: AtomicU64::new(0),
            failed: [const { AtomicU64::new(0) }; ErrorKind::ALL.len()],
            cancelled: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
            latency_nanos: Histogram::new(&LATENCY_BOUNDS_NANOS),
            texts: Histogram::new(&TEXTS_BOUNDS),
            core_nanos: AtomicU64::new(0),
            wait_nanos: AtomicU64::new(0),
            cold_opens: AtomicU64::new(0),
        }
    }

    pub(crate) fn began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, texts: u64, latency: Duration, effort: Effort) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.latency_nanos.record(nanos(latency));
        self.texts.record(texts);
        self.core_nanos.fetch_add(nanos(effort.core), Ordering::Relaxed);
        if effort.opening == Opening::Cold {
            self.cold_opens.fetch_add(1, Ordering::Relaxed);
        }
        let waited = nanos(latency.saturating_sub(effort.core));
        self.wait_nanos.fetch_add(waited, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: ErrorKind) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.failed[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn cancelled(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters at this moment. Requests go on meanwhile, so that sums may be a few apart.
    pub fn read(&self) -> Reading {
        let failed = ErrorKind::ALL.map(|kind| {
            let count = &self.failed[kind as usize];
            (kind, count.load(Ordering::Relaxed))
        });
        Reading {
            answered: self.answered.load(Ordering::Relaxed),
            failed: failed.into_iter().filter(|(_, count)| *count > 0).collect(),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed).max(0) as u64,
            latency_nanos: self.latency_nanos.read(),
            texts: self.texts.read(),
            core_nanos: self.core_nanos.load(Ordering::Relaxed),
            wait_nanos: self.wait_nanos.load(Ordering::Relaxed),
            cold_opens: self.cold_opens.load(Ordering::Relaxed),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The counters of a series at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    pub answered: u64,
    /// Kinds of errors that there were, with their number.
    pub failed: Vec<(ErrorKind, u64)>,
    /// Requests whose client went before the answer.
    pub cancelled: u64,
    pub in_flight: u64,
    pub latency_nanos: Distribution,
    pub texts: Distribution,
    pub core_nanos: u64,
    /// From the request's arrival to its answer, less the time on a core.
    pub wait_nanos: u64,
    pub cold_opens: u64,
}

impl Reading {
    pub fn errors(&self) -> u64 {
        self.failed.iter().map(|(_, count)| count).sum()
    }

    /// Requests that ended, however.
    pub fn requests(&self) -> u64 {
        self.answered + self.errors() + self.cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_value() {
        let histogram = Histogram::new(&LATENCY_BOUNDS_NANOS);
        assert_eq!(histogram.read().quantile(0.5), None);
        for value in [60_000, 70_000, 80_000, 90_000, 3_000_000] {
            histogram.record(value);
        }
        let read = histogram.read();
        assert_eq!((read.count(), read.sum), (5, 3_300_000));
        let half = read.quantile(0.5).unwrap();
        assert!((50_000.0..=100_000.0).contains(&half), "{half}");
        let most = read.quantile(0.99).unwrap();
        assert!((2_000_000.0..=5_000_000.0).contains(&most), "{most}");
        histogram.record(u64::from(u32::MAX) * 10);
        assert_eq!(histogram.read().beyond, 1);
        assert_eq!(histogram.read().quantile(1.0), Some(1e10));
        // A bound belongs to its own bucket.
        let texts = Histogram::new(&TEXTS_BOUNDS);
        texts.record(4);
        assert_eq!(texts.read().buckets[1], (4, 1));
    }
}
