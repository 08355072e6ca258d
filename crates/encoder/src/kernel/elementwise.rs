//! What is done to one row at a time: layer norm, GELU, quantisation, pooling.

#![expect(unsafe_code, reason = "calls functions compiled for instructions found at run time")]

use super::level::for_each_level;
use crate::shape::LANES;

type Lanes = [f32; LANES];

/// The scale and zero point of a row of eight-bit values: `value = scale · (byte − zero)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct QuantizedRow {
    pub scale: f32,
    pub zero: i32,
}

for_each_level! {
    /// `row ← gain · (row − mean) / √(variance + ε) + bias` (Ba et al. 2016). `norm` holds the
    /// gain, then the bias.
    pub(crate) fn normalize(row: &mut [f32], norm: &[f32], epsilon: f32) = normalize_body;

    /// Adds `update` to `row`, then normalises as [`normalize`] does.
    pub(crate) fn add_and_normalize(row: &mut [f32], update: &[f32], norm: &[f32], epsilon: f32)
        = add_and_normalize_body;

    /// `x ← x · Φ(x)`, the exact form of GELU (Hendrycks and Gimpel 2016), to 10⁻⁶.
    pub(crate) fn gelu(row: &mut [f32]) = gelu_body;

    /// Rounds a row to bytes with a scale and a zero point of its own, so chosen that the
    /// row's range and zero are inside.
    pub(crate) fn quantize(row: &[f32], bytes: &mut [u8]) -> QuantizedRow = quantize_body;

    /// `row ← scale · word + position`.
    pub(crate) fn quantized_word(row: &mut [f32], word: &[i16], scale: f32, position: &[f32])
        = quantized_word_body;

    /// The mean of `rows`, each as long as `out`, divided by its L2 norm.
    pub(crate) fn pool(rows: &[f32], out: &mut [f32]) = pool_body;
}

// Loops over lanes are plain ones, and loops over rows are of single places where there is
// no reduction: these shapes the compiler turns into vectors; `map` on arrays it does not.

#[inline(always)]
fn normalize_body(row: &mut [f32], norm: &[f32], epsilon: f32) {
    let length = row.len() as f32;
    let mean = sum(row) / length;
    for value in row.iter_mut() {
        *value -= mean;
    }
    let variance = sum_of_squares(row) / length;
    let factor = 1.0 / (variance + epsilon).sqrt();
    let (gain, bias) = norm.split_at(row.len());
    for ((value, gain), bias) in row.iter_mut().zip(gain).zip(bias) {
        *value = (*value * factor).mul_add(*gain, *bias);
    }
}

#[inline(always)]
fn add_and_normalize_body(row: &mut [f32], update: &[f32], norm: &[f32], epsilon: f32) {
    for (value, more) in row.iter_mut().zip(update) {
        *value += more;
    }
    normalize_body(row, norm, epsilon);
}

/// Sums a row: each lane by itself, then the lanes by halves.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    let mut total = [0.0; LANES];
    for chunk in row.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            total[lane] += chunk[lane];
        }
    }
    fold(total, |a, b| a + b)
}

/// As [`sum`], of the squares.
#[inline(always)]
fn sum_of_squares(row: &[f32]) -> f32 {
    let mut total: Lanes = [0.0; LANES];
    for chunk in row.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            total[lane] = chunk[lane].mul_add(chunk[lane], total[lane]);
        }
    }
    fold(total, |a, b| a + b)
}

/// Joins sixteen lanes by halves.
#[inline(always)]
pub(super) fn fold(mut lanes: Lanes, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Beyond this, Φ is 0 or 1 to eight digits.
const GELU_RANGE: f32 = 5.25;

/// `erf(x/√2)/x` for |x| ≤ [`GELU_RANGE`] as a polynomial of `2(x/GELU_RANGE)² − 1`: the
/// Chebyshev interpolation of degree 14, highest power first, by `tests/golden/gelu.py`.
const GELU_POLYNOMIAL: [f32; 15] = [
    0.000_576_899_45,
    -0.001_361_759_8,
    0.001_014_270_6,
    -0.001_933_296_8,
    0.006_184_697_6,
    -0.011_064_065,
    0.016_585_816,
    -0.025_459_4,
    0.037_156_794,
    -0.050_107_777,
    0.064_050_96,
    -0.079_524_174,
    0.099_292_23,
    -0.134_253_71,
    0.269_318_7,
];

#[inline(always)]
fn gelu_body(row: &mut [f32]) {
    for value in row {
        let inside = value.clamp(-GELU_RANGE, GELU_RANGE);
        let square = (inside * inside).mul_add(2.0 / (GELU_RANGE * GELU_RANGE), -1.0);
        let mut quotient = GELU_POLYNOMIAL[0];
        for &coefficient in &GELU_POLYNOMIAL[1..] {
            quotient = quotient.mul_add(square, coefficient);
        }
        let error_function = (inside * quotient).clamp(-1.0, 1.0);
        let half = 0.5 * *value;
        *value = half.mul_add(error_function, half);
    }
}

/// Adding this to a number below 2²² leaves its rounding to a whole number in the low bits.
const ROUNDING: f32 = 12_582_912.0;

#[inline(always)]
fn quantize_body(row: &[f32], bytes: &mut [u8]) -> QuantizedRow {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    // The lowest is found as the highest of the negated, which is one instruction a vector.
    let (mut low, mut high) = ([0.0f32; LANES], [0.0f32; LANES]);
    for chunk in row.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            low[lane] = larger(low[lane], -chunk[lane]);
            high[lane] = larger(high[lane], chunk[lane]);
        }
    }
    let (low, high) = (-fold(low, larger), fold(high, larger));
    let scale = (high - low) / 255.0;
    if !(scale.is_normal() && scale.recip().is_finite()) {
        bytes.fill(0);
        return QuantizedRow { scale: 0.0, zero: 0 };
    }
    let inverse = scale.recip();
    let zero = (-low * inverse).round_ties_even().clamp(0.0, 255.0);
    for (byte, value) in bytes.iter_mut().zip(row) {
        // Clamped, since the ends of the range may round past it.
        let shifted = value.mul_add(inverse, zero);
        let inside = if shifted > 255.0 { 255.0 } else { shifted };
        let inside = if inside > 0.0 { inside } else { 0.0 };
        *byte = (inside + ROUNDING).to_bits() as u8;
    }
    QuantizedRow { scale, zero: zero as i32 }
}

#[inline(always)]
fn quantized_word_body(row: &mut [f32], word: &[i16], scale: f32, position: &[f32]) {
    for ((value, &cell), &position) in row.iter_mut().zip(word).zip(position) {
        *value = f32::from(cell).mul_add(scale, position);
    }
}

/// Keeps the division defined for a mean of zero, as the reference does.
const SMALLEST_NORM: f32 = 1e-12;

#[inline(always)]
fn pool_body(rows: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let count = rows.len() / out.len();
    for row in rows.chunks_exact(out.len()) {
        for (total, value) in out.iter_mut().zip(row) {
            *total += value;
        }
    }
    let share = 1.0 / count as f32;
    for value in out.iter_mut() {
        *value *= share;
    }
    let norm = sum_of_squares(out).sqrt();
    let factor = 1.0 / if norm > SMALLEST_NORM { norm } else { SMALLEST_NORM };
    for value in out.iter_mut() {
        *value *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Level;

    /// Φ by its Taylor series in double precision, good to twelve digits on the range used.
    fn phi(x: f64) -> f64 {
        let (mut term, mut total, mut n) = (x, x, 1.0);
        while term.abs() > 1e-18 * total.abs() && n < 400.0 {
            term *= x * x / (2.0 * n + 1.0);
            total += term;
            n += 1.0;
        }
        0.5 + total * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn gelu_is_exact_to_a_millionth() {
        let inputs: Vec<f32> = (-12_800..12_800).map(|n| n as f32 / 1600.0).collect();
        for level in Level::available() {
            let mut outputs = inputs.clone();
            gelu(level, &mut outputs);
            for (&x, &y) in inputs.iter().zip(&outputs) {
                let exact = f64::from(x) * phi(f64::from(x));
                assert!((f64::from(y) - exact).abs() < 1.2e-6, "{level:?} {x} {y} {exact}");
            }
        }
    }

    #[test]
    fn quantised_rows_are_within_half_a_step() {
        let mut state = 7u32;
        for spread in [1e-30f32, 0.01, 3.0, 1e8] {
            let row: Vec<f32> = (0..96)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state as f32 / 4e9 - 0.3) * spread
                })
                .collect();
            for level in Level::available() {
                let mut bytes = [0; 96];
                let QuantizedRow { scale, zero } = quantize(level, &row, &mut bytes);
                for (&x, &byte) in row.iter().zip(&bytes) {
                    let back = scale * (i32::from(byte) - zero) as f32;
                    assert!((back - x).abs() <= 0.502 * scale, "{level:?} {x} {back} {scale}");
                }
            }
        }
    }

    #[test]
    fn rows_without_a_range_quantise_to_nothing() {
        for row in [[0.0; 16], [f32::NAN; 16], [f32::INFINITY; 16], [1e-44; 16]] {
            let mut bytes = [9; 16];
            let quantized = quantize(Level::detect(), &row, &mut bytes);
            assert_eq!(quantized, QuantizedRow { scale: 0.0, zero: 0 });
            assert_eq!(bytes, [0; 16]);
        }
    }
}
