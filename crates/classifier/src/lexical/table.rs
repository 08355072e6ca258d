//! The table from n-gram hash to feature, probed in place.
//!
//! A bucket is a cache line: the lower halves of up to eight hashes, then the features that
//! they stand for. The upper part of a hash says in which bucket it belongs; what finds no
//! room there stands in the next. The eight are compared at once, so that a look-up is one
//! read and one branch nearly always. An unknown n-gram passes for a known one about once in
//! a billion look-ups.

/// The hashes of a bucket.
const WAYS: usize = 8;
/// Features for each bucket on average. At this load one bucket in twenty is full.
const USUAL_FEATURES: usize = 4;
/// Buckets looked at before a hash is taken for unknown. Honest tables end after a few; in a
/// damaged one the search must end, too.
const LONGEST_PROBE: usize = 64;
/// Stands for no hash.
const EMPTY: u32 = 0;

/// [`WAYS`] fingerprints, filled from the first on, then as many features.
pub(crate) type Bucket = [u32; 2 * WAYS];

/// Fills a table with hashes and the features that they stand for.
pub(super) fn build(entries: &[(u64, u32)]) -> Vec<Bucket> {
    let mut buckets = vec![[EMPTY; 2 * WAYS]; entries.len().div_ceil(USUAL_FEATURES) + 1];
    for &(hash, feature) in entries {
        let mut at = home(hash, buckets.len());
        loop {
            let free = buckets[at][..WAYS].iter().position(|print| *print == EMPTY);
            if let Some(free) = free {
                buckets[at][free] = fingerprint(hash);
                buckets[at][WAYS + free] = feature;
                break;
            }
            at = if at + 1 == buckets.len() { 0 } else { at + 1 };
        }
    }
    buckets
}

#[inline(always)]
fn home(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

#[inline(always)]
const fn fingerprint(hash: u64) -> u32 {
    let print = hash as u32;
    if print == EMPTY { 1 } else { print }
}

/// The feature of a hash. Ends on any buckets, and may then answer any number.
#[inline(always)]
pub(super) fn find(buckets: &[Bucket], hash: u64) -> Option<u32> {
    let print = fingerprint(hash);
    let mut at = home(hash, buckets.len());
    for _ in 0..LONGEST_PROBE {
        let bucket = buckets.get(at)?;
        let (prints, _) = bucket.split_at(WAYS);
        let same =
            prints.iter().rev().fold(0u32, |same, other| same << 1 | u32::from(*other == print));
        if same != 0 {
            return Some(bucket[WAYS + (same.trailing_zeros() as usize % WAYS)]);
        }
        if prints[WAYS - 1] == EMPTY {
            return None;
        }
        at = if at + 1 == buckets.len() { 0 } else { at + 1 };
    }
    None
}

/// Whether every feature is below `columns`, and a probe from any bucket ends.
pub(crate) fn is_sound(buckets: &[Bucket], columns: usize) -> bool {
    let sound = |bucket: &Bucket| {
        let (prints, features) = bucket.split_at(WAYS);
        let filled = prints.iter().take_while(|print| **print != EMPTY).count();
        prints[filled..].iter().all(|print| *print == EMPTY)
            && features.iter().all(|&feature| (feature as usize) < columns.max(1))
    };
    buckets.iter().all(sound) && buckets.iter().any(|bucket| bucket[WAYS - 1] == EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u64 {
        u64::from_le_bytes(blake3::hash(&number.to_le_bytes()).as_bytes()[..8].try_into().unwrap())
    }

    fn numbered(hashes: &[u64]) -> Vec<(u64, u32)> {
        hashes.iter().copied().zip(0..).collect()
    }

    #[test]
    fn every_feature_is_found_and_nothing_else() {
        for count in [0u64, 1, 2, 3, 9, 1000, 50_000] {
            let hashes: Vec<u64> = (0..count).map(hash).collect();
            let buckets = build(&numbered(&hashes));
            assert!(is_sound(&buckets, hashes.len()));
            for (feature, &hash) in hashes.iter().enumerate() {
                assert_eq!(find(&buckets, hash), Some(feature as u32));
            }
            assert!((count..count + 1000).all(|n| find(&buckets, hash(n)).is_none()));
        }
    }

    #[test]
    fn crowded_hashes_overflow_into_the_next_buckets() {
        // All belong into the last bucket, and the empty fingerprint is one of them.
        let hashes: Vec<u64> = (0..40).map(|low| u64::MAX << 32 | low).collect();
        let buckets = build(&numbered(&hashes));
        // 0 and 1 share a fingerprint, so the later is taken for the earlier.
        let found: Vec<u32> = hashes.iter().map(|&hash| find(&buckets, hash).unwrap()).collect();
        assert_eq!(found[..3], [0, 0, 2]);
        assert_eq!(found[2..], (2..40).collect::<Vec<_>>());
    }

    #[test]
    fn hostile_tables_end_the_probe() {
        assert_eq!(find(&[], 7), None);
        assert_eq!(find(&[[9; 16]; 4], 7), None);
        assert!(!is_sound(&[[9; 16]; 4], 10), "no empty place");
        assert!(!is_sound(&[[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], 10), "a gap");
        let feature_9 = [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        assert!(is_sound(&[feature_9], 10) && !is_sound(&[feature_9], 9));
    }
}
