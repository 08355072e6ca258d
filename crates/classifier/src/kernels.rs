//! The inner loops of linear heads.
//!
//! Weights lie by feature, so that a feature of a row adds one contiguous stretch to the
//! scores. Each score is a sum in the order of the row's features, without fused
//! multiplication, so every width of vector gives the same bits as the plain loop.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of functions compiled for AVX2, after asking the CPU")
)]

/// Scores added at once where a row of weights is long enough.
const LANES: usize = 8;
/// Scores added at once in heads of up to four outputs.
const FEW_LANES: usize = 4;

/// The weights stored for a feature of a head with `outputs` outputs: enough for whole lanes.
pub(crate) const fn stride(outputs: usize) -> usize {
    outputs.next_multiple_of(if outputs <= FEW_LANES { FEW_LANES } else { LANES })
}

/// A number in which weights are stored.
pub(crate) trait Stored: Copy {
    fn widen(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Stored for i8 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }
}

/// Adds `factor` times the weights of a column to the scores, for each `(column, factor)`.
/// `scores` is as long as [`stride`] says; columns beyond the weights are passed over.
pub(crate) fn accumulate<W: Stored>(
    scores: &mut [f32],
    weights: &[W],
    columns: impl Iterator<Item = (usize, f32)>,
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, as asked just above.
        return unsafe { accumulate_avx2(scores, weights, columns) };
    }
    accumulate_plain(scores, weights, columns);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn accumulate_avx2<W: Stored>(
    scores: &mut [f32],
    weights: &[W],
    columns: impl Iterator<Item = (usize, f32)>,
) {
    accumulate_plain(scores, weights, columns);
}

#[inline(always)]
fn accumulate_plain<W: Stored>(
    scores: &mut [f32],
    weights: &[W],
    columns: impl Iterator<Item = (usize, f32)>,
) {
    let stride = scores.len();
    for (column, factor) in columns {
        let Some(row) = weights.get(column * stride..(column + 1) * stride) else { continue };
        for (score, weight) in scores.iter_mut().zip(row) {
            *score += factor * weight.widen();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_gives_the_same_bits() {
        let mut seed = 7u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 1e7 - 0.8
        };
        for outputs in [1, 2, 4, 5, 8, 77, 150] {
            let stride = stride(outputs);
            let weights: Vec<f32> = (0..stride * 9).map(|_| next()).collect();
            let row: Vec<(usize, f32)> = (0..12).map(|column| (column, next())).collect();
            let mut scores = vec![0.5; stride];
            accumulate(&mut scores, &weights, row.iter().copied());
            for output in 0..outputs {
                let plain = row.iter().take(9).fold(0.5, |sum: f32, (column, factor)| {
                    sum + factor * weights[column * stride + output]
                });
                assert_eq!(scores[output].to_bits(), plain.to_bits());
            }
        }
    }
}
