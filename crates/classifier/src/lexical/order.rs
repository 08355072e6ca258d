//! Sorting the features of a text.

/// Below so many a comparison sort is faster.
const FEW: usize = 48;
const DIGIT_BITS: u32 = 8;
const DIGITS: usize = 1 << DIGIT_BITS;

/// Sorts features that all lie from `first` to before `end`, by radix: a text has some hundred
/// features of some ten thousand, which two passes sort in a third of the time of comparisons.
pub(super) fn sort(features: &mut Vec<u32>, spare: &mut Vec<u32>, first: u32, end: u32) {
    if features.len() < FEW {
        features.sort_unstable();
        return;
    }
    spare.clear();
    spare.resize(features.len(), 0);
    let mut shift = 0;
    let span = end.saturating_sub(first);
    while shift < u32::BITS && span >> shift != 0 {
        let digit = |feature: u32| (feature.wrapping_sub(first) >> shift) as u8 as usize;
        let mut places = [0u32; DIGITS];
        for &feature in features.iter() {
            places[digit(feature)] += 1;
        }
        let mut place = 0;
        for count in &mut places {
            (*count, place) = (place, place + *count);
        }
        for &feature in features.iter() {
            let place = &mut places[digit(feature)];
            spare[*place as usize] = feature;
            *place += 1;
        }
        std::mem::swap(features, spare);
        shift += DIGIT_BITS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_sorted() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        for (first, end) in
            [(0, 1), (0, 200), (7, 263), (1000, 60_000), (5, 1 << 28), (0, u32::MAX)]
        {
            for length in [0, 1, 47, 48, 500] {
                let mut features: Vec<u32> =
                    (0..length).map(|_| first + next() % (end - first)).collect();
                let mut wanted = features.clone();
                wanted.sort_unstable();
                sort(&mut features, &mut Vec::new(), first, end);
                assert_eq!(features, wanted);
            }
        }
    }
}
