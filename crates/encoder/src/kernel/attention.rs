//! Attention of one text's tokens to one another (Vaswani et al. 2017), head by head.

#![expect(unsafe_code, reason = "calls functions compiled for instructions found at run time")]

use super::elementwise::fold;
use super::float_product::{FloatMatrix, Product, multiply_floats};
use super::level::{Level, for_each_level};
use crate::shape::LANES;

/// Rows of scores held at a time: with the longest text of 512 tokens, 64 KiB.
const QUERY_BLOCK: usize = 32;

/// How the rows that [`attend`] reads are divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub heads: usize,
    pub head_width: usize,
    /// Places of a row of queries, keys and values, padding included.
    pub stride: usize,
}

/// Memory that [`attend`] uses and leaves to the next call.
#[derive(Debug, Default)]
pub(crate) struct AttentionScratch {
    keys: Vec<f32>,
    scores: Vec<f32>,
}

/// Attention over the rows of one text. Each row of `projected` holds queries, keys and
/// values of all heads, in this order; each row of `out`, as long as one of the three,
/// receives the heads' weighted sums of values.
pub(crate) fn attend(
    level: Level,
    shape: AttentionShape,
    projected: &[f32],
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    let AttentionShape { heads, head_width, stride } = shape;
    let hidden = heads * head_width;
    let tokens = out.len() / hidden;
    let columns = tokens.next_multiple_of(LANES);
    scratch.keys.clear();
    scratch.keys.resize(head_width * columns, 0.0);
    scratch.scores.resize(QUERY_BLOCK * columns, 0.0);
    let scale = 1.0 / (head_width as f32).sqrt();
    for head in 0..heads {
        let queries = head * head_width;
        transpose(&projected[hidden + queries..], stride, tokens, head_width, &mut scratch.keys);
        let keys =
            FloatMatrix { values: &scratch.keys, rows: head_width, columns, stride: columns };
        let values = FloatMatrix {
            values: &projected[2 * hidden + queries..],
            rows: tokens,
            columns: head_width,
            stride,
        };
        for first in (0..tokens).step_by(QUERY_BLOCK) {
            let rows = QUERY_BLOCK.min(tokens - first);
            let block = FloatMatrix {
                values: &projected[first * stride + queries..],
                rows,
                columns: head_width,
                stride,
            };
            let scores = &mut scratch.scores[..rows * columns];
            multiply_floats(level, block, keys, None, Product { values: scores, stride: columns });
            for row in scores.chunks_exact_mut(columns) {
                softmax(level, row, tokens, scale);
            }
            let weights = FloatMatrix { values: scores, rows, columns: tokens, stride: columns };
            let place = &mut out[first * hidden + queries..];
            multiply_floats(
                level,
                weights,
                values,
                None,
                Product { values: place, stride: hidden },
            );
        }
    }
}

/// `out[place][row] ← rows[row][place]`.
fn transpose(rows: &[f32], stride: usize, count: usize, width: usize, out: &mut [f32]) {
    let columns = out.len() / width;
    for (row, values) in rows.chunks(stride).take(count).enumerate() {
        for (place, &value) in values[..width].iter().enumerate() {
            out[place * columns + row] = value;
        }
    }
}

for_each_level! {
    /// `row ← exp(scale · (row − max)) / Σ` over the first `count` places. What follows them
    /// is padding to whole vectors, less than one of them, and is left without meaning.
    fn softmax(row: &mut [f32], count: usize, scale: f32) = softmax_body;
}

#[inline(always)]
fn softmax_body(row: &mut [f32], count: usize, scale: f32) {
    let chunks = row.as_chunks_mut::<LANES>().0;
    let Some((last, full)) = chunks.split_last_mut() else { return };
    let places_in_last = count - full.len() * LANES;
    // Chosen in registers: a short store before the wide load would hold the load up.
    let mut highest = [f32::NEG_INFINITY; LANES];
    for lane in 0..LANES {
        highest[lane] = if lane < places_in_last { last[lane] } else { f32::NEG_INFINITY };
    }
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    for chunk in full.iter() {
        for lane in 0..LANES {
            highest[lane] = larger(highest[lane], chunk[lane]);
        }
    }
    let highest = fold(highest, larger);
    for value in last.iter_mut() {
        *value = exponential(scale * (*value - highest));
    }
    let mut total = [0.0; LANES];
    for lane in 0..LANES {
        total[lane] = if lane < places_in_last { last[lane] } else { 0.0 };
    }
    for chunk in full.iter_mut() {
        for value in chunk.iter_mut() {
            *value = exponential(scale * (*value - highest));
        }
        for lane in 0..LANES {
            total[lane] += chunk[lane];
        }
    }
    let factor = 1.0 / fold(total, |a, b| a + b);
    for chunk in chunks {
        for value in chunk {
            *value *= factor;
        }
    }
}

/// Below this the exponential is taken for its value here, about 10⁻³⁸.
const LOWEST_EXPONENT: f32 = -87.0;
/// ln 2 in two parts, the first with few bits, so that its multiples are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding this to a number below 2²² leaves its rounding to a whole number in the low bits.
const ROUNDING: f32 = 12_582_912.0;

/// The exponential of a number that is not positive, to seven digits: `2ⁿ · e^r` with
/// |r| ≤ ½ ln 2, and Taylor's series to the seventh power for the latter.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    let x = if x > LOWEST_EXPONENT { x } else { LOWEST_EXPONENT };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDING);
    let whole = shifted - ROUNDING;
    let rest = whole.mul_add(-LN_2_LOW, whole.mul_add(-LN_2_HIGH, x));
    let mut series = 1.0f32 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series.mul_add(rest, coefficient);
    }
    let power = shifted.to_bits().wrapping_add(127) << 23;
    series * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_seven_digits() {
        for step in 0..80_000 {
            let x = -(step as f32) / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exponential(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "{x} {error}");
        }
        assert!(exponential(f32::NEG_INFINITY) < 1.7e-38);
    }

    #[test]
    fn attention_is_the_weighted_mean_of_values() {
        let (heads, head_width) = (2, 16);
        let hidden = heads * head_width;
        let stride = 3 * hidden + 8;
        for tokens in [1, 3, 16, 17, 70] {
            let projected: Vec<f32> = (0..tokens * stride)
                .map(|n| ((n * 2_654_435_761) % 1000) as f32 / 250.0 - 2.0)
                .collect();
            let mut reference: Option<Vec<f32>> = None;
            for level in Level::available() {
                let shape = AttentionShape { heads, head_width, stride };
                let mut out = vec![0.0; tokens * hidden];
                attend(level, shape, &projected, &mut out, &mut AttentionScratch::default());
                if let Some(reference) = &reference {
                    assert_eq!(reference, &out, "{level:?}");
                    continue;
                }
                for token in 0..tokens {
                    for place in 0..hidden {
                        let expected =
                            naive(&projected, stride, hidden, head_width, tokens, token, place);
                        let actual = f64::from(out[token * hidden + place]);
                        assert!((actual - expected).abs() < 2e-6, "{actual} {expected}");
                    }
                }
                reference = Some(out);
            }
        }
    }

    fn naive(
        projected: &[f32],
        stride: usize,
        hidden: usize,
        head_width: usize,
        tokens: usize,
        token: usize,
        place: usize,
    ) -> f64 {
        let head = place / head_width * head_width;
        let at = |row: usize, column: usize| f64::from(projected[row * stride + column]);
        let score = |other: usize| -> f64 {
            let dot: f64 = (head..head + head_width)
                .map(|column| at(token, column) * at(other, hidden + column))
                .sum();
            (dot / (head_width as f64).sqrt()).exp()
        };
        let total: f64 = (0..tokens).map(score).sum();
        (0..tokens).map(|other| score(other) * at(other, 2 * hidden + place)).sum::<f64>() / total
    }
}
