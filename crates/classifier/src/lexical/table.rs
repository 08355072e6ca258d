//! The table from n-gram hash to feature: open addressing in one array, probed in place.
//!
//! A slot is 0 when empty; else its upper half holds the lower half of the hash and its lower
//! half the feature plus one. The upper half of the hash says where the probe begins, so 32
//! further bits tell n-grams apart: an unknown one passes for a known one about once in a
//! billion look-ups.

/// Slots for each two features. At this load a probe reads one cache line nearly always.
const SLOTS_PER_TWO_FEATURES: usize = 3;
/// Slots looked at before a hash is taken for unknown. Honest tables end after some hundred
/// at most; in a damaged one the search must end, too.
const LONGEST_PROBE: usize = 1 << 12;

/// Fills a table with the features of these hashes, in their order.
pub(super) fn build(hashes: &[u64]) -> Vec<u64> {
    let capacity = (hashes.len() * SLOTS_PER_TWO_FEATURES).div_ceil(2).max(hashes.len() + 1);
    let mut slots = vec![0u64; capacity];
    for (feature, &hash) in hashes.iter().enumerate() {
        let mut place = home(hash, capacity);
        while slots[place] != 0 {
            place = if place + 1 == capacity { 0 } else { place + 1 };
        }
        slots[place] = (hash << 32) | (feature as u64 + 1);
    }
    slots
}

#[inline(always)]
pub(super) fn home(hash: u64, capacity: usize) -> usize {
    ((u128::from(hash) * capacity as u128) >> 64) as usize
}

/// The feature of a hash. Ends on any slots, also on a table without an empty one.
#[inline(always)]
pub(super) fn find(slots: &[u64], hash: u64) -> Option<u32> {
    let start = home(hash, slots.len());
    let (before, from) = slots.split_at_checked(start)?;
    for &slot in from.iter().chain(before).take(LONGEST_PROBE) {
        if slot == 0 {
            return None;
        }
        if (slot >> 32) as u32 == hash as u32 {
            return (slot as u32).checked_sub(1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_found_and_nothing_else() {
        let hash = |n: u64| {
            blake3::hash(&n.to_le_bytes()).as_bytes()[..8]
                .try_into()
                .map(u64::from_le_bytes)
                .unwrap()
        };
        for count in [0u64, 1, 2, 3, 1000] {
            let hashes: Vec<u64> = (0..count).map(hash).collect();
            let slots = build(&hashes);
            for (feature, &hash) in hashes.iter().enumerate() {
                assert_eq!(find(&slots, hash), Some(feature as u32));
            }
            assert!((count..count + 1000).all(|n| find(&slots, hash(n)).is_none()));
        }
    }

    #[test]
    fn hostile_tables_end_the_probe() {
        assert_eq!(find(&[], 7), None);
        assert_eq!(find(&[u64::MAX; 4], 7), None);
        assert_eq!(find(&[7 << 32; 4], 7), None);
    }
}
