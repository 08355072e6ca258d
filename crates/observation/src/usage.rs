//! What endpoints used since it was last noted: differences of their counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use corral_types::{EndpointId, Name, WorkspaceId};

use crate::series::Series;

/// What an endpoint used in some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    pub workspace: WorkspaceId,
    pub endpoint: Name,
    /// Those that failed included.
    pub requests: u64,
    pub errors: u64,
    pub texts: u64,
    pub core_micros: u64,
    /// The size of each model's file times the time, for models that were asked in it.
    pub memory_byte_seconds: u64,
}

/// The counters up to which usage is noted.
#[derive(Clone, Copy, Debug)]
struct Noted {
    requests: u64,
    errors: u64,
    texts: u64,
    core_micros: u64,
    changed: Instant,
}

/// Knows how far the usage of each series is noted.
#[derive(Debug, Default)]
pub(crate) struct UsageGatherer {
    noted: HashMap<(EndpointId, u32), Noted>,
    last: Option<Instant>,
}

impl UsageGatherer {
    /// The differences since the call before, summed by endpoint.
    pub fn gather(&mut self, series: &[Arc<Series>], now: Instant) -> Vec<Gathered> {
        let passed = self.last.replace(now).map_or(0.0, |last| (now - last).as_secs_f64());
        let mut gathered: BTreeMap<(WorkspaceId, Name), Gathered> = BTreeMap::new();
        for series in series {
            let (subject, reading) = (&series.subject, series.read());
            let current = Noted {
                requests: reading.requests(),
                errors: reading.errors(),
                texts: reading.texts.sum,
                core_micros: reading.core_nanos / 1_000,
                changed: now,
            };
            let before = self.noted.get(&(subject.endpoint, subject.version));
            let count = |of: fn(&Noted) -> u64| of(&current) - before.map_or(0, of);
            let requests = count(|noted| noted.requests);
            // Counters are read one after the other: what else has moved comes with the next
            // request.
            if requests == 0 {
                continue;
            }
            let key = (subject.workspace, subject.name.clone());
            let sum = gathered.entry(key).or_insert_with(|| Gathered {
                workspace: subject.workspace,
                endpoint: subject.name.clone(),
                requests: 0,
                errors: 0,
                texts: 0,
                core_micros: 0,
                memory_byte_seconds: 0,
            });
            sum.requests += requests;
            sum.errors += count(|noted| noted.errors);
            sum.texts += count(|noted| noted.texts);
            sum.core_micros += count(|noted| noted.core_micros);
            sum.memory_byte_seconds += (subject.model_bytes as f64 * passed) as u64;
            self.noted.insert((subject.endpoint, subject.version), current);
        }
        gathered.into_values().collect()
    }

    /// The series that were asked longest ago.
    pub fn longest_idle(&self, count: usize) -> Vec<(EndpointId, u32)> {
        let mut by_age: Vec<_> =
            self.noted.iter().map(|(key, noted)| (noted.changed, *key)).collect();
        by_age.sort_unstable();
        by_age.into_iter().take(count).map(|(_, key)| key).collect()
    }

    /// Begins anew with a series that is gone.
    pub fn forget(&mut self, key: (EndpointId, u32)) {
        self.noted.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corral_types::ErrorKind;

    use super::*;
    use crate::{Effort, Observer, Subject};

    fn ask(observer: &Observer, endpoint: u128, version: u32) -> crate::Observation {
        let id = EndpointId::from_u128(endpoint);
        observer.begin(id, version, 3, || Subject {
            workspace: WorkspaceId::from_u128(1),
            endpoint: id,
            name: format!("endpoint-{endpoint}").parse().unwrap(),
            version,
            model_bytes: 1 << 20,
        })
    }

    #[test]
    fn what_is_gathered_adds_up_to_what_was_asked() {
        let observer = Observer::default();
        let effort = Effort { core: Duration::from_micros(70), ..Effort::default() };
        ask(&observer, 1, 1).answered(effort);
        ask(&observer, 1, 2).answered(effort);
        ask(&observer, 1, 2).failed(ErrorKind::Internal);
        drop(ask(&observer, 2, 1));
        let first = observer.gather_usage();
        let [one, two] = first.as_slice() else { panic!("{first:?}") };
        assert_eq!((one.requests, one.errors, one.texts, one.core_micros), (3, 1, 6, 140));
        assert_eq!(one.endpoint.as_str(), "endpoint-1");
        assert_eq!((two.requests, two.errors, two.texts), (1, 0, 0));
        assert_eq!(observer.gather_usage(), [], "nothing is gathered twice");
        ask(&observer, 2, 1).answered(effort);
        assert_eq!(observer.gather_usage()[0].texts, 3);
    }

    #[test]
    fn series_beyond_the_limit_go_without_losing_a_count() {
        let observer = Observer::default();
        let beyond = 50;
        let mut held = vec![ask(&observer, 0, 1)];
        for endpoint in 1..(crate::MAX_SERIES + beyond) as u128 {
            ask(&observer, endpoint, 1).answered(Effort::default());
        }
        let mut requests: u64 = observer.gather_usage().iter().map(|sum| sum.requests).sum();
        requests += observer.gather_usage().iter().map(|sum| sum.requests).sum::<u64>();
        assert_eq!(requests, (crate::MAX_SERIES + beyond - 1) as u64);
        assert_eq!(observer.all().len(), crate::MAX_SERIES);
        // The request that is under way is counted when it ends.
        held.pop().unwrap().answered(Effort::default());
        assert_eq!(observer.gather_usage()[0].endpoint.as_str(), "endpoint-0");
    }
}
