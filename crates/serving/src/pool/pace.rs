//! How long texts take, learnt while they are answered.

use std::sync::atomic::{AtomicU64, Ordering};

/// What every text counts beside its bytes or tokens: the classes are scored whatever its length.
const TEXT_BYTES: u64 = 64;
const TEXT_TOKENS: u64 = 2;

/// Bytes of text that make about one word piece; texts of other scripts have more pieces, and
/// their pace shows it.
const BYTES_PER_TOKEN: u64 = 4;

/// Networks read no more word pieces than this.
const MAX_TOKENS: u64 = 256;

/// Before anything was measured: a byte of lexical features, a token of a small network.
const BYTE_NANOS: u64 = 60;
const TOKEN_NANOS: u64 = 60_000;

/// One part in so many of a new measurement enters what is known.
const MEMORY: u64 = 8;

/// A measurement beside which the machine was held up moves the pace by so much at most.
const MOST_TIMES: u64 = 4;

/// How the work of a text is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Tokens,
}

/// What a model takes for a unit of work.
#[derive(Debug)]
pub struct Pace {
    unit: Unit,
    picos: AtomicU64,
}

/// Whole nanoseconds would be too coarse for a byte.
const PICOS_PER_NANO: u64 = 1000;

impl Pace {
    pub fn new(unit: Unit) -> Self {
        let nanos = match unit {
            Unit::Bytes => BYTE_NANOS,
            Unit::Tokens => TOKEN_NANOS,
        };
        Self { unit, picos: (nanos * PICOS_PER_NANO).into() }
    }

    /// The units of work in a text.
    pub fn units(&self, text: &str) -> u64 {
        let bytes = text.len() as u64;
        match self.unit {
            Unit::Bytes => TEXT_BYTES + bytes,
            Unit::Tokens => (TEXT_TOKENS + bytes / BYTES_PER_TOKEN).min(MAX_TOKENS),
        }
    }

    /// The time that so many units are expected to take.
    pub fn nanos(&self, units: u64) -> u64 {
        units.saturating_mul(self.picos.load(Ordering::Relaxed)) / PICOS_PER_NANO
    }

    /// Learns from what units took.
    pub fn learn(&self, units: u64, nanos: u64) {
        let known = self.picos.load(Ordering::Relaxed);
        let found = nanos.saturating_mul(PICOS_PER_NANO) / units.max(1);
        let found = found.clamp(known / MOST_TIMES, known.saturating_mul(MOST_TIMES));
        let next = (known * (MEMORY - 1) + found).div_ceil(MEMORY);
        // Two threads that learn at once: one of both measurements is as good as the other.
        self.picos.store(next.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_what_is_measured_and_outliers_little() {
        let pace = Pace::new(Unit::Bytes);
        for _ in 0..100 {
            pace.learn(1000, 5_000_000);
        }
        assert!((4_900..=5_000).contains(&pace.nanos(1)), "{}", pace.nanos(1));
        pace.learn(1, u64::MAX / 2);
        assert!(pace.nanos(1) < 7_000, "{}", pace.nanos(1));
        for _ in 0..200 {
            pace.learn(1_000_000, 0);
        }
        assert_eq!((pace.nanos(1), pace.nanos(1_000_000) > 0), (0, true));
    }

    #[test]
    fn long_texts_are_cut_for_networks_alone() {
        let long = "x".repeat(10_000);
        assert_eq!(Pace::new(Unit::Tokens).units(&long), MAX_TOKENS);
        assert_eq!(Pace::new(Unit::Bytes).units(&long), 10_064);
        assert_eq!(Pace::new(Unit::Tokens).units(""), 2);
    }
}
