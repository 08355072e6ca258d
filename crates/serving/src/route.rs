//! An endpoint ready to be followed: every version it has, and which of them a request reaches.
//!
//! A route never changes; a change of the endpoint makes a new one, and a request keeps the one
//! that it began with. So no request sees half of a change.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use corral_catalog::Served;
use corral_observation::Sampler;
use corral_types::{BlobHash, EndpointId, Name};

use crate::canary::{Side, Verdict, Watch};
use crate::fixed::FixedAnswer;
use crate::keep_warm::KeepWarm;
use crate::routing::{Canary, Routing, Selector, Share, SplitBy, Traffic};
use crate::{Endpoint, RoutingError, ServingError};

/// What a version of an endpoint answers with.
#[derive(Debug)]
pub enum Serves {
    Model { name: Name, version: u32, file: BlobHash, bytes: u64, encoder: Option<BlobHash> },
    Fixed(FixedAnswer),
}

/// Where an endpoint sends its requests.
#[derive(Debug)]
pub struct Route {
    pub endpoint: EndpointId,
    pub name: Name,
    /// Of the record that it was made from.
    pub revision: u32,
    routing: Routing,
    /// Their numbers, oldest first.
    numbers: Vec<u32>,
    versions: BTreeMap<u32, Serves>,
    sides: Sides,
    mirror: Option<(u32, f64)>,
    /// Which of its requests are kept beside counts.
    pub sampler: Option<Arc<Sampler>>,
    canary: Option<(Canary, Mutex<Watch>)>,
    /// Requests that were dealt by weight, and those that a mirror was considered for.
    dealt: AtomicU64,
    considered: AtomicU64,
}

/// The versions that share the requests.
#[derive(Debug)]
enum Sides {
    One(u32),
    Several {
        by: SplitBy,
        /// The end of each one's part of the unit interval, rising to 1.
        ends: Vec<(f64, u32)>,
    },
}

impl Route {
    /// # Errors
    /// When a fixed answer cannot be read, or the routing or what is observed cannot be.
    pub fn of(endpoint: &Endpoint) -> Result<Self, ServingError> {
        let Endpoint { record, routing, observing } = endpoint;
        let mut versions = BTreeMap::new();
        for version in &record.versions {
            let serves = match &version.serves {
                Served::Model { name, version } => Serves::Model {
                    name: name.clone(),
                    version: version.number,
                    file: version.file,
                    bytes: version.bytes,
                    encoder: version.encoder,
                },
                Served::Fixed { answer_json } => {
                    let answer = serde_json::from_str(answer_json).map_err(|source| {
                        ServingError::unreadable(record, "a fixed answer", source)
                    })?;
                    Serves::Fixed(answer)
                }
            };
            versions.insert(version.number, serves);
        }
        let numbers: Vec<u32> = versions.keys().copied().collect();
        routing.check(&numbers)?;
        let number = |selector: &Selector| routing.number(selector, &numbers);
        let sides = match &routing.traffic {
            Traffic::Latest => Sides::One(number(&Selector::Latest)?),
            Traffic::To { version } => Sides::One(number(version)?),
            Traffic::Split { by, shares } => {
                let weigh = |share: &Share| Ok((number(&share.version)?, share.weight.into()));
                let shares: Result<Vec<(u32, f64)>, RoutingError> =
                    shares.iter().map(weigh).collect();
                Sides::Several { by: *by, ends: ends(&shares?) }
            }
            Traffic::Canary(canary) => {
                let percent = canary.steps[canary.step];
                // First in the interval: whoever reached it stays with it as its part grows.
                let shares = [(canary.to, percent), (canary.from, 100.0 - percent)];
                Sides::Several { by: canary.by, ends: ends(&shares) }
            }
        };
        let mirror = routing.mirror.as_ref();
        let mirror = mirror.map(|mirror| Ok((number(&mirror.version)?, mirror.share)));
        let mirror = mirror.transpose().map_err(ServingError::Routing)?;
        let canary = match &routing.traffic {
            Traffic::Canary(canary) => {
                let watch = Watch::new(canary.bounds, canary.requests_per_step);
                Some((canary.clone(), Mutex::new(watch)))
            }
            _ => None,
        };
        Ok(Self {
            endpoint: record.id,
            name: record.name.clone(),
            revision: record.revision,
            routing: routing.clone(),
            numbers,
            versions,
            sides,
            mirror,
            sampler: Sampler::of(record.id, observing)?.map(Arc::new),
            canary,
            // Number 0 falls to the first side, however small its part.
            dealt: AtomicU64::new(1),
            considered: AtomicU64::new(1),
        })
    }

    pub fn keep_warm(&self) -> Option<&KeepWarm> {
        self.routing.keep_warm.as_ref()
    }

    /// The version that a request reaches.
    ///
    /// # Errors
    /// When it names a version or alias that is not there.
    pub fn pick(
        &self,
        selector: Option<&Selector>,
        key: Option<&str>,
    ) -> Result<u32, RoutingError> {
        if let Some(selector) = selector {
            return self.routing.number(selector, &self.numbers);
        }
        Ok(match &self.sides {
            Sides::One(number) => *number,
            Sides::Several { by, ends } => {
                let place = match key.filter(|_| *by == SplitBy::Key) {
                    Some(key) => place_of(self.endpoint, key),
                    None => spread(self.dealt.fetch_add(1, Ordering::Relaxed)),
                };
                let end = ends.iter().find(|(end, _)| place < *end).or(ends.last());
                end.expect("a split has sides").1
            }
        })
    }

    /// The versions that requests which name none may be answered by.
    pub fn reached(&self) -> impl Iterator<Item = u32> {
        let (one, several) = match &self.sides {
            Sides::One(number) => (Some(*number), &[][..]),
            Sides::Several { ends, .. } => (None, &ends[..]),
        };
        one.into_iter().chain(several.iter().map(|(_, number)| *number))
    }

    /// What a version answers with, if it is there.
    pub fn find(&self, number: u32) -> Option<&Serves> {
        self.versions.get(&number)
    }

    pub fn version(&self, number: u32) -> &Serves {
        &self.versions[&number]
    }

    /// The version that a request which this one answers is to be mirrored to, if it is.
    pub fn mirror_of(&self, number: u32) -> Option<u32> {
        if let Some((canary, _)) = &self.canary
            && canary.to == number
            && canary.bounds.agreement.is_some()
        {
            return Some(canary.from);
        }
        let (to, share) = self.mirror.filter(|(to, _)| *to != number)?;
        let place = spread(self.considered.fetch_add(1, Ordering::Relaxed));
        (place < share).then_some(to)
    }

    /// Takes in what a request to a version came to; says what is to be done if it is a side of
    /// a canary.
    pub fn answered(&self, number: u32, is_ok: bool, micros: u64) -> Option<(&Canary, Verdict)> {
        let (canary, watch) = self.canary.as_ref()?;
        let side = match number {
            number if number == canary.to => Side::To,
            number if number == canary.from => Side::From,
            _ => return None,
        };
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        Some((canary, watch.answered(side, is_ok, micros)))
    }

    /// Takes in on how many texts the new version of a canary agreed with the old one.
    pub fn compared(&self, number: u32, texts: u32, agreed: u32) -> Option<(&Canary, Verdict)> {
        let (canary, watch) = self.canary.as_ref()?;
        if number != canary.to {
            return None;
        }
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        Some((canary, watch.compared(texts, agreed)))
    }
}

/// The ends of parts of the unit interval.
fn ends(shares: &[(u32, f64)]) -> Vec<(f64, u32)> {
    let total: f64 = shares.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    let end = |&(number, weight): &(u32, f64)| {
        sum += weight;
        (sum / total, number)
    };
    shares.iter().map(end).collect()
}

/// Where the request with this number falls in the unit interval: multiples of the golden ratio
/// (Weyl), of which any few in a row are spread as evenly as can be.
fn spread(number: u64) -> f64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    unit(number.wrapping_mul(GOLDEN))
}

/// Where a key falls in the unit interval, for an endpoint.
fn place_of(endpoint: EndpointId, key: &str) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&endpoint.as_u128().to_be_bytes()).update(key.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    unit(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use corral_catalog::{EndpointRecord, EndpointVersion};
    use corral_types::Timestamp;

    use super::*;

    fn record(versions: u32, routing: &Routing) -> EndpointRecord {
        let at = Timestamp::from_millis(1);
        let serves = Served::Fixed { answer_json: r#"{"labels":[]}"#.to_owned() };
        let version = |number| EndpointVersion { number, created: at, serves: serves.clone() };
        EndpointRecord {
            id: EndpointId::from_u128(7),
            name: "live".parse().unwrap(),
            created: at,
            updated: at,
            revision: 1,
            routing_json: serde_json::to_string(routing).unwrap(),
            observing_json: String::new(),
            versions: (1..=versions).map(version).collect(),
        }
    }

    fn read(record: &EndpointRecord) -> Result<Route, ServingError> {
        Endpoint::read(record.clone()).and_then(|endpoint| Route::of(&endpoint))
    }

    fn split(by: SplitBy, weights: &[u32]) -> Routing {
        let share = |(at, &weight): (usize, &u32)| Share {
            version: Selector::Version(at as u32 + 1),
            weight,
        };
        let shares = weights.iter().enumerate().map(share).collect();
        Routing { traffic: Traffic::Split { by, shares }, ..Routing::default() }
    }

    #[test]
    fn requests_are_dealt_by_weight_to_the_letter() {
        for weights in [vec![90, 10], vec![1, 1, 1], vec![0, 5, 95], vec![1]] {
            let route = read(&record(3, &split(SplitBy::Weight, &weights))).unwrap();
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            let total: u32 = weights.iter().sum();
            for _ in 0..1000 {
                *counts.entry(route.pick(None, Some("ignored")).unwrap()).or_default() += 1;
            }
            for (at, &weight) in weights.iter().enumerate() {
                let asked = 1000.0 * f64::from(weight) / f64::from(total);
                let got = f64::from(counts.get(&(at as u32 + 1)).copied().unwrap_or(0));
                assert!((got - asked).abs() <= 4.0, "{weights:?}: {got} instead of {asked}");
            }
        }
    }

    #[test]
    fn the_same_key_goes_to_the_same_side_and_stays_as_a_canary_grows() {
        let canary = |step| Canary {
            from: 1,
            to: 2,
            by: SplitBy::Key,
            steps: vec![5.0, 30.0, 80.0],
            step,
            requests_per_step: 10,
            bounds: Default::default(),
        };
        let routes = [0, 1, 2].map(|step| {
            let traffic = Traffic::Canary(canary(step));
            read(&record(2, &Routing { traffic, ..Routing::default() })).unwrap()
        });
        let mut reached = [0; 3];
        for number in 0..4000 {
            let key = format!("user {number}");
            let sides: Vec<u32> =
                routes.iter().map(|route| route.pick(None, Some(&key)).unwrap()).collect();
            assert!(sides.is_sorted(), "{key} went back: {sides:?}");
            assert_eq!(routes[1].pick(None, Some(&key)).unwrap(), sides[1], "the same again");
            for (count, side) in reached.iter_mut().zip(&sides) {
                *count += u32::from(*side == 2);
            }
        }
        for (count, percent) in reached.into_iter().zip([5.0, 30.0, 80.0]) {
            let asked: f64 = 40.0 * percent;
            assert!((f64::from(count) - asked).abs() < 4.0 * asked.sqrt(), "{count} for {asked}");
        }
    }

    #[test]
    fn versions_and_aliases_are_reached_whatever_the_traffic() {
        let mut routing = split(SplitBy::Weight, &[1, 0]);
        routing.aliases.insert("next".parse().unwrap(), 2);
        let route = read(&record(3, &routing)).unwrap();
        let pick = |text: &str| route.pick(Some(&text.parse().unwrap()), None);
        assert_eq!(pick("latest").unwrap(), 3);
        assert_eq!(pick("2").unwrap(), 2);
        assert_eq!(pick("next").unwrap(), 2);
        assert_eq!(route.pick(None, None).unwrap(), 1);
        assert_eq!(route.reached().collect::<Vec<_>>(), [1, 2]);
        let newest = read(&record(3, &Routing::default())).unwrap();
        assert_eq!(newest.reached().collect::<Vec<_>>(), [3]);
        assert!(matches!(pick("4"), Err(RoutingError::NoVersion(_))));
        assert!(matches!(pick("old"), Err(RoutingError::NoAlias { .. })));
    }

    #[test]
    fn a_mirror_gets_its_share_of_others_requests() {
        let mirror = crate::routing::Mirror { version: Selector::Version(2), share: 0.25 };
        let routing = Routing { mirror: Some(mirror), ..Routing::default() };
        let route = read(&record(3, &routing)).unwrap();
        let mirrored = (0..1000).filter(|_| route.mirror_of(3) == Some(2)).count();
        assert!((248..=252).contains(&mirrored), "{mirrored}");
        assert!((0..100).all(|_| route.mirror_of(2).is_none()), "not to itself");
    }

    #[test]
    fn a_routing_that_is_damaged_is_refused() {
        let mut damaged = record(1, &Routing::default());
        damaged.routing_json = "{".to_owned();
        assert!(matches!(read(&damaged), Err(ServingError::Unreadable { .. })));
        let missing = record(1, &split(SplitBy::Weight, &[1, 1]));
        assert!(matches!(read(&missing), Err(ServingError::Routing(_))));
    }
}
