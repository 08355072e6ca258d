//! What is counted about a data set: integers only, mergeable and independent of the
//! order and grouping in which rows are seen, so that every route gives the same numbers.

use serde::{Deserialize, Serialize};

/// The counts of a version, kept in its manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    pub rows: u64,
    /// Bytes of all texts in UTF-8.
    pub text_bytes: u64,
    /// Rows whose text has nothing but white space.
    pub empty_texts: u64,
    /// Rows whose text already stands in an earlier row: the rows with a non-empty text less
    /// the distinct ones. Two texts are the same when they agree after lower-casing, trimming
    /// and shrinking every run of white space to one space; they are compared by a 64-bit hash
    /// of that form, so among a hundred million rows a chance meeting is expected 0.0003 times.
    pub duplicate_rows: u64,
    pub unlabelled_rows: u64,
    /// Rows with a weight of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weighted_rows: u64,
    /// Rows whose weight is zero: nothing is learnt from them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weightless_rows: u64,
    /// Rows with shares of their labels.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub probabilistic_rows: u64,
    /// One entry for each split that has rows, in the order of the manifest's split names,
    /// then one for the rows without a split if there are any.
    pub splits: Vec<SplitStatistics>,
    /// Lengths of texts in Unicode scalar values.
    pub chars: LengthHistogram,
    /// Lengths of texts in words: runs of anything but white space. An approximation for
    /// scripts that write without spaces.
    pub words: LengthHistogram,
}

const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The rows of one split, by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitStatistics {
    /// Index into the manifest's split names; `None` for rows without a split.
    pub split: Option<u16>,
    pub rows: u64,
    pub unlabelled_rows: u64,
    /// Rows of each class, by label code. A row with several labels counts in each.
    pub class_rows: Vec<u64>,
}

/// Values below this are counted exactly.
const EXACT_BELOW: u64 = 256;
/// Buckets for each power of two above: a value is known to within 1/128.
const BUCKETS_PER_OCTAVE: u64 = 128;

/// How often each length occurs: exact below 256, to within 1/128 above, in the manner of
/// an HDR histogram. Two of them add up to the histogram of both sets of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthHistogram {
    pub min: u64,
    pub max: u64,
    pub sum: u64,
    /// `(smallest length of the bucket, rows)`, ascending, without empty buckets.
    pub buckets: Vec<(u64, u64)>,
}

impl LengthHistogram {
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, rows)| rows).sum()
    }

    /// The length that `per_mille` thousandths of the rows do not exceed, by the nearest-rank
    /// method: the smallest bucket that with all before it holds at least
    /// `ceil(rows * per_mille / 1000)` rows (at least one), named by its smallest length;
    /// the ends are the exact minimum and maximum. Zero without rows.
    pub fn quantile(&self, per_mille: u16) -> u64 {
        let rank = (u128::from(self.count()) * u128::from(per_mille)).div_ceil(1000).max(1);
        if rank >= u128::from(self.count()) {
            return self.max;
        }
        let mut seen = 0;
        for &(length, rows) in &self.buckets {
            seen += u128::from(rows);
            if seen >= rank {
                return length.max(self.min);
            }
        }
        self.max
    }

    /// The quantiles that are shown: minimum, 5 %, 25 %, 50 %, 75 %, 95 %, 99 %, maximum.
    pub fn summary(&self) -> LengthSummary {
        LengthSummary {
            min: self.min,
            p5: self.quantile(50),
            p25: self.quantile(250),
            p50: self.quantile(500),
            p75: self.quantile(750),
            p95: self.quantile(950),
            p99: self.quantile(990),
            max: self.max,
        }
    }

    /// Adds the rows of another histogram.
    pub fn merge(&mut self, other: &Self) {
        if other.buckets.is_empty() {
            return;
        }
        if self.buckets.is_empty() {
            self.clone_from(other);
            return;
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        let mut merged: Vec<(u64, u64)> =
            self.buckets.iter().chain(&other.buckets).copied().collect();
        merged.sort_unstable();
        merged.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        self.buckets = merged;
    }
}

/// The shown quantiles of a [`LengthHistogram`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthSummary {
    pub min: u64,
    pub p5: u64,
    pub p25: u64,
    pub p50: u64,
    pub p75: u64,
    pub p95: u64,
    pub p99: u64,
    pub max: u64,
}

/// A [`LengthHistogram`] that is being counted.
#[derive(Debug, Default)]
pub(crate) struct LengthCounter {
    counts: Vec<u64>,
    min: u64,
    max: u64,
    sum: u64,
    rows: u64,
}

impl LengthCounter {
    pub(crate) fn add(&mut self, length: u64) {
        let bucket = bucket_of(length);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.min = if self.rows == 0 { length } else { self.min.min(length) };
        self.max = self.max.max(length);
        self.sum += length;
        self.rows += 1;
    }

    pub(crate) fn finish(&self) -> LengthHistogram {
        let occupied = self.counts.iter().enumerate().filter(|(_, rows)| **rows > 0);
        LengthHistogram {
            min: self.min,
            max: self.max,
            sum: self.sum,
            buckets: occupied.map(|(bucket, &rows)| (bucket_start(bucket), rows)).collect(),
        }
    }
}

fn bucket_of(length: u64) -> usize {
    if length < EXACT_BELOW {
        return length as usize;
    }
    let octave = u64::from(length.ilog2());
    let within = (length >> (octave - 7)) & (BUCKETS_PER_OCTAVE - 1);
    (EXACT_BELOW + (octave - 8) * BUCKETS_PER_OCTAVE + within) as usize
}

fn bucket_start(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT_BELOW {
        return bucket;
    }
    let above = bucket - EXACT_BELOW;
    (BUCKETS_PER_OCTAVE + above % BUCKETS_PER_OCTAVE) << (above / BUCKETS_PER_OCTAVE + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_start_and_are_narrow() {
        for length in (0..5000).chain([1 << 20, (1 << 33) - 1, u64::MAX]) {
            let start = bucket_start(bucket_of(length));
            assert!(start <= length && length - start <= length / 128, "{length} in {start}");
            assert_eq!(bucket_of(start), bucket_of(length));
        }
    }

    #[test]
    fn quantiles_follow_nearest_rank() {
        let mut counter = LengthCounter::default();
        (1..=100).for_each(|length| counter.add(length));
        let histogram = counter.finish();
        let summary = histogram.summary();
        assert_eq!(
            (summary.min, summary.p5, summary.p50, summary.p99, summary.max),
            (1, 5, 50, 99, 100)
        );
        assert_eq!(histogram.sum, 5050);
        assert_eq!(LengthHistogram::default().summary(), LengthSummary::default());
    }

    #[test]
    fn merging_equals_counting_together() {
        let lengths: Vec<u64> = (0..2000).map(|i| i * i % 3001).collect();
        let count = |lengths: &[u64]| {
            let mut counter = LengthCounter::default();
            lengths.iter().for_each(|&length| counter.add(length));
            counter.finish()
        };
        let mut left = count(&lengths[..700]);
        left.merge(&count(&lengths[700..]));
        left.merge(&LengthHistogram::default());
        assert_eq!(left, count(&lengths));
    }
}
