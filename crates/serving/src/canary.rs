//! Whether a version that takes over does as well as the one before it.
//!
//! A state machine without a clock: what requests came to goes in, what to do comes out.

use serde::{Deserialize, Serialize};

use crate::RoutingError;

/// How much worse the new version may do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// What its rate of errors may be above the other's.
    pub error_rate_above: f64,
    /// What its 95th percentile of latency may be as a multiple of the other's.
    pub latency_ratio: f64,
    /// The least part of the texts to which both give the same first class; not asked for where
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { error_rate_above: 0.01, latency_ratio: 3.0, agreement: None }
    }
}

impl Bounds {
    /// # Errors
    /// When one is out of its range.
    pub fn check(&self) -> Result<(), RoutingError> {
        let out_of = |field, found| Err(RoutingError::Bound { field, found });
        if !(0.0..=1.0).contains(&self.error_rate_above) {
            return out_of("error_rate_above", self.error_rate_above);
        }
        if !(1.0..=1e6).contains(&self.latency_ratio) {
            return out_of("latency_ratio", self.latency_ratio);
        }
        match self.agreement {
            Some(agreement) if !(0.0..=1.0).contains(&agreement) => out_of("agreement", agreement),
            _ => Ok(()),
        }
    }
}

/// Why a canary went back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum GoneBack {
    /// Rates of errors, from 0 to 1.
    Errors { rate: f64, before: f64 },
    /// 95th percentiles, in milliseconds.
    Latency { p95_ms: f64, before_ms: f64 },
    /// The part of the texts on which both agree.
    Agreement { rate: f64 },
}

/// What is to be done with a canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Wait,
    /// It has done well on this step.
    Advance,
    GoBack(GoneBack),
}

/// One of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    From,
    To,
}

/// Requests of the new version before its errors are judged at all.
const LEAST_REQUESTS: u32 = 20;
/// Requests of the old version before latencies are compared.
const LEAST_COMPARED: u32 = 20;
/// How sure it must be that there are too many errors to go back before a step is over: in
/// standard deviations, one in four thousand false alarms a look.
const EARLY_DEVIATIONS: f64 = 3.5;

/// What a step of a canary has come to.
#[derive(Clone, Debug)]
pub struct Watch {
    bounds: Bounds,
    requests_per_step: u32,
    from: Seen,
    to: Seen,
    texts_compared: u32,
    texts_agreed: u32,
}

impl Watch {
    pub fn new(bounds: Bounds, requests_per_step: u32) -> Self {
        let (from, to) = (Seen::default(), Seen::default());
        Self { bounds, requests_per_step, from, to, texts_compared: 0, texts_agreed: 0 }
    }

    /// Takes in a request that one of the versions answered, or failed to, in so many
    /// microseconds.
    pub fn answered(&mut self, side: Side, is_ok: bool, micros: u64) -> Verdict {
        match side {
            Side::From => self.from.add(is_ok, micros),
            Side::To => self.to.add(is_ok, micros),
        }
        self.verdict()
    }

    /// Takes in how many of a request's texts both versions gave the same first class.
    pub fn compared(&mut self, texts: u32, agreed: u32) -> Verdict {
        self.texts_compared = self.texts_compared.saturating_add(texts);
        self.texts_agreed = self.texts_agreed.saturating_add(agreed);
        self.verdict()
    }

    fn verdict(&self) -> Verdict {
        let (rate, before) = (self.to.error_rate(), self.from.error_rate());
        let allowed = (before + self.bounds.error_rate_above).min(1.0);
        let errors = Verdict::GoBack(GoneBack::Errors { rate, before });
        if self.to.requests >= LEAST_REQUESTS && self.to.is_surely_above(allowed) {
            return errors;
        }
        let wants_texts = match self.bounds.agreement {
            Some(_) => self.requests_per_step,
            None => 0,
        };
        if self.to.requests < self.requests_per_step || self.texts_compared < wants_texts {
            return Verdict::Wait;
        }
        if rate > allowed {
            return errors;
        }
        if self.from.requests >= LEAST_COMPARED {
            let (p95_ms, before_ms) = (self.to.p95_ms(), self.from.p95_ms());
            if p95_ms > self.bounds.latency_ratio * before_ms.max(LEAST_MS) {
                return Verdict::GoBack(GoneBack::Latency { p95_ms, before_ms });
            }
        }
        if let Some(least) = self.bounds.agreement {
            let rate = f64::from(self.texts_agreed) / f64::from(self.texts_compared.max(1));
            if rate < least {
                return Verdict::GoBack(GoneBack::Agreement { rate });
            }
        }
        Verdict::Advance
    }
}

/// Latencies below are of the machine and not of the model: they are taken to be alike.
const LEAST_MS: f64 = 0.25;

/// Buckets of latency, four to a doubling: from a microsecond to an hour.
const BUCKETS: usize = 128;

/// What a version's requests came to.
#[derive(Clone, Debug)]
struct Seen {
    requests: u32,
    errors: u32,
    /// Answered requests by their latency.
    latencies: [u32; BUCKETS],
}

impl Default for Seen {
    fn default() -> Self {
        Self { requests: 0, errors: 0, latencies: [0; BUCKETS] }
    }
}

impl Seen {
    fn add(&mut self, is_ok: bool, micros: u64) {
        self.requests = self.requests.saturating_add(1);
        if is_ok {
            let bucket = (4.0 * (micros.max(1) as f64).log2()) as usize;
            let count = &mut self.latencies[bucket.min(BUCKETS - 1)];
            *count = count.saturating_add(1);
        } else {
            self.errors = self.errors.saturating_add(1);
        }
    }

    fn error_rate(&self) -> f64 {
        f64::from(self.errors) / f64::from(self.requests.max(1))
    }

    /// Whether so many errors would be next to impossible at this rate.
    fn is_surely_above(&self, rate: f64) -> bool {
        let requests = f64::from(self.requests);
        let deviation = (requests * rate * (1.0 - rate)).sqrt().max(1.0);
        f64::from(self.errors) > requests * rate + EARLY_DEVIATIONS * deviation
    }

    /// The upper end of the bucket in which the 95th percentile lies.
    fn p95_ms(&self) -> f64 {
        let answered: u64 = self.latencies.iter().map(|&count| u64::from(count)).sum();
        let mut left = answered * 95 / 100;
        let bucket = self.latencies.iter().position(|&count| {
            let is_here = u64::from(count) > left;
            left = left.saturating_sub(count.into());
            is_here
        });
        bucket.map_or(0.0, |bucket| ((bucket + 1) as f64 / 4.0).exp2() / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    struct Random(u64);

    impl Random {
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
        }
    }

    struct Behaviour {
        error_rate: f64,
        micros: f64,
    }

    /// Requests to both sides until there is a verdict.
    fn simulate(seed: u64, bounds: Bounds, share: f64, [from, to]: [&Behaviour; 2]) -> Verdict {
        let mut random = Random(seed);
        let mut watch = Watch::new(bounds, 200);
        for _ in 0..1_000_000 {
            let (side, behaviour) =
                if random.unit() < share { (Side::To, to) } else { (Side::From, from) };
            let is_ok = random.unit() >= behaviour.error_rate;
            // Latencies with a tail, as real ones.
            let micros = behaviour.micros * (1.0 - random.unit()).max(1e-9).ln().abs();
            match watch.answered(side, is_ok, micros as u64) {
                Verdict::Wait => {}
                verdict => return verdict,
            }
        }
        panic!("no verdict after a million requests, seed {seed}");
    }

    #[test]
    fn one_that_does_as_well_advances() {
        let same = Behaviour { error_rate: 0.002, micros: 300.0 };
        let bounds = Bounds::default();
        let verdicts = (0..2000).map(|seed| simulate(seed, bounds, 0.05, [&same, &same]));
        let gone_back = verdicts.filter(|verdict| *verdict != Verdict::Advance).count();
        // Of 200 requests, three or more failing by chance at that rate: one in 130.
        assert!(gone_back <= 40, "{gone_back} of 2000 went back");
    }

    #[test]
    fn one_that_fails_goes_back_early() {
        let good = Behaviour { error_rate: 0.0, micros: 300.0 };
        let bad = Behaviour { error_rate: 0.3, micros: 300.0 };
        for seed in 0..2000 {
            let verdict = simulate(seed, Bounds::default(), 0.5, [&good, &bad]);
            let GoneBackBy::Errors(rate) = gone_back_by(verdict) else {
                panic!("{verdict:?}, seed {seed}")
            };
            assert!(rate > 0.05, "seed {seed}");
        }
        let mut watch = Watch::new(Bounds::default(), 10_000);
        let verdicts = (0..LEAST_REQUESTS).map(|_| watch.answered(Side::To, false, 100));
        let verdicts: Vec<Verdict> = verdicts.collect();
        let first = verdicts.iter().position(|verdict| *verdict != Verdict::Wait);
        assert_eq!(first, Some(LEAST_REQUESTS as usize - 1), "long before the step is over");
    }

    enum GoneBackBy {
        Errors(f64),
        Latency,
        Other,
    }

    fn gone_back_by(verdict: Verdict) -> GoneBackBy {
        match verdict {
            Verdict::GoBack(GoneBack::Errors { rate, .. }) => GoneBackBy::Errors(rate),
            Verdict::GoBack(GoneBack::Latency { .. }) => GoneBackBy::Latency,
            _ => GoneBackBy::Other,
        }
    }

    #[test]
    fn one_that_is_slow_goes_back() {
        let fast = Behaviour { error_rate: 0.0, micros: 300.0 };
        let slow = Behaviour { error_rate: 0.0, micros: 3000.0 };
        for seed in 0..2000 {
            let verdict = simulate(seed, Bounds::default(), 0.2, [&fast, &slow]);
            assert!(matches!(gone_back_by(verdict), GoneBackBy::Latency), "seed {seed}");
            let verdict = simulate(seed, Bounds::default(), 0.2, [&slow, &fast]);
            assert_eq!(verdict, Verdict::Advance, "seed {seed}");
        }
    }

    #[test]
    fn one_that_disagrees_goes_back_once_enough_is_compared() {
        let bounds = Bounds { agreement: Some(0.9), ..Bounds::default() };
        for (agreed, verdict) in
            [(9, Verdict::Advance), (8, Verdict::GoBack(GoneBack::Agreement { rate: 0.8 }))]
        {
            let mut watch = Watch::new(bounds, 50);
            for _ in 0..100 {
                assert_eq!(watch.answered(Side::To, true, 100), Verdict::Wait);
            }
            for _ in 0..4 {
                assert_eq!(watch.compared(10, agreed), Verdict::Wait);
            }
            assert_eq!(watch.compared(10, agreed), verdict);
        }
    }

    #[test]
    fn percentiles_lie_in_their_bucket() {
        let mut seen = Seen::default();
        (1..=1000).for_each(|micros| seen.add(true, micros));
        assert!((0.95..=0.95 * 1.19).contains(&seen.p95_ms()), "{}", seen.p95_ms());
        let mut extreme = Seen::default();
        extreme.add(true, 0);
        extreme.add(true, u64::MAX);
        assert!(extreme.p95_ms() > 1e6);
        assert_eq!(Seen::default().p95_ms(), 0.0);
    }
}
