//! Products of quantised activations with quantised weights.
//!
//! Activations are unsigned bytes with a scale and a zero point per row, weights signed
//! bytes with a scale per column. With `b` the bytes and `w` the weights of a column,
//! `Σ scale (b − zero) · w = scale (Σ b · w − zero · Σ w)`: the sums are of integers, exact
//! on every processor, and `Σ w` was computed when the file was made.
//!
//! Weights lie in panels of 64 columns. In a panel, four consecutive inputs of a column
//! stand together, column after column, as the eight-bit dot product instruction reads them.

#![expect(unsafe_code, reason = "vector instructions and the pointers they read through")]

use super::elementwise::QuantizedRow;
use super::level::{Instructions, Level};
use super::row_blocks;
use crate::layout::PANEL;

/// Inputs that stand together in a panel.
pub(crate) const GROUP: usize = 4;

/// Rows of bytes of one length, each with its scale and zero point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantizedRows<'a> {
    pub bytes: &'a [u8],
    pub rows: &'a [QuantizedRow],
}

/// A packed matrix of eight-bit weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerMatrix<'a> {
    pub weights: &'a [i8],
    /// The scale of each column.
    pub scales: &'a [f32],
    /// The sum of each column's weights.
    pub sums: &'a [i32],
    pub bias: &'a [f32],
}

/// `out ← rows · matrix + bias`. A row of `out` is as long as the matrix has packed columns.
///
/// # Panics
/// Where shapes do not agree.
pub(crate) fn multiply_integers(
    level: Level,
    left: QuantizedRows<'_>,
    right: IntegerMatrix<'_>,
    out: &mut [f32],
) {
    let rows = left.rows.len();
    if rows == 0 {
        return;
    }
    let inner = left.bytes.len() / rows;
    let columns = right.bias.len();
    assert!(
        left.bytes.len() == rows * inner && inner.is_multiple_of(GROUP),
        "rows of one length, in whole groups"
    );
    assert!(
        columns.is_multiple_of(PANEL) && right.weights.len() == inner * columns,
        "whole panels of as many inputs as a row has"
    );
    assert!(
        right.scales.len() == columns && right.sums.len() == columns,
        "a scale and a sum for each column"
    );
    assert!(out.len() >= rows * columns, "room for the product");
    for first_column in (0..columns).step_by(PANEL) {
        let panel = Panel {
            weights: &right.weights[first_column * inner..(first_column + PANEL) * inner],
            scales: first_chunk(&right.scales[first_column..]),
            sums: first_chunk(&right.sums[first_column..]),
            bias: first_chunk(&right.bias[first_column..]),
        };
        let mut product = PanelProduct { left, inner, panel, first_column, columns, out };
        match level.instructions() {
            Instructions::Portable => product.portable(),
            // SAFETY: the level proves that the processor has the instructions; the
            // assertions above are what the methods rely on.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { product.avx2() },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { product.avx512() },
        }
    }
}

fn first_chunk<T>(values: &[T]) -> &[T; PANEL] {
    values.first_chunk().expect("columns come in whole panels")
}

/// 64 columns of a matrix.
#[derive(Clone, Copy)]
struct Panel<'a> {
    weights: &'a [i8],
    scales: &'a [f32; PANEL],
    sums: &'a [i32; PANEL],
    bias: &'a [f32; PANEL],
}

/// The product of all rows with one panel. The shapes agree, as [`multiply_integers`] checks:
/// `left` has `inner` bytes a row, `panel` has `inner` inputs, and `out` has `columns` places
/// a row, of which `first_column` and the 63 after it are the panel's.
struct PanelProduct<'a> {
    left: QuantizedRows<'a>,
    inner: usize,
    panel: Panel<'a>,
    first_column: usize,
    columns: usize,
    out: &'a mut [f32],
}

impl PanelProduct<'_> {
    fn portable(&mut self) {
        for (row, bytes) in self.left.bytes.chunks_exact(self.inner).enumerate() {
            let mut sums = [0i32; PANEL];
            for (bytes, weights) in bytes
                .as_chunks::<GROUP>()
                .0
                .iter()
                .zip(self.panel.weights.as_chunks::<{ GROUP * PANEL }>().0)
            {
                let bytes = bytes.map(i32::from);
                for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<GROUP>().0) {
                    for (byte, &weight) in bytes.iter().zip(weights) {
                        *sum += byte * i32::from(weight);
                    }
                }
            }
            self.write(row, 0, &sums);
        }
    }

    /// Turns the sums of some columns of a row into values.
    #[inline(always)]
    fn write(&mut self, row: usize, column: usize, sums: &[i32]) {
        let QuantizedRow { scale, zero } = self.left.rows[row];
        let start = row * self.columns + self.first_column + column;
        let out = &mut self.out[start..start + sums.len()];
        for (index, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            let column = column + index;
            // Wrapping, as the vector instructions do: the sums of a damaged file are anything.
            let exact = sum.wrapping_sub(zero.wrapping_mul(self.panel.sums[column]));
            let factor = scale * self.panel.scales[column];
            *out = (exact as f32).mul_add(factor, self.panel.bias[column]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GROUP, PANEL, PanelProduct, QuantizedRow, row_blocks};

    /// Columns of a register of sixteen sums.
    const WIDE: usize = 16;
    /// Columns of a register of eight sums.
    const NARROW: usize = 8;
    /// Six rows of four registers of sums, with four of weights and one of activations,
    /// fill AVX-512's thirty-two.
    const WIDE_ROWS: usize = 6;
    /// Four rows of two registers of sums, with four of weights and two of activations,
    /// fill AVX2's sixteen.
    const NARROW_ROWS: usize = 4;

    impl PanelProduct<'_> {
        /// # Safety
        /// The shapes agree, and the processor has the instructions.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
        pub(super) unsafe fn avx512(&mut self) {
            for (row, count) in row_blocks(self.left.rows.len(), WIDE_ROWS) {
                // SAFETY: the rows of the block are there.
                unsafe {
                    match count {
                        1 => self.avx512_tile::<1>(row),
                        2 => self.avx512_tile::<2>(row),
                        3 => self.avx512_tile::<3>(row),
                        4 => self.avx512_tile::<4>(row),
                        5 => self.avx512_tile::<5>(row),
                        _ => self.avx512_tile::<WIDE_ROWS>(row),
                    }
                }
            }
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
        unsafe fn avx512_tile<const ROWS: usize>(&mut self, first_row: usize) {
            const VECTORS: usize = PANEL / WIDE;
            // SAFETY: the rows, the panel and the places of the product lie inside their
            // slices, since the shapes agree.
            unsafe {
                let left = self.left.bytes.as_ptr().add(first_row * self.inner);
                let weights = self.panel.weights.as_ptr();
                let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
                for index in (0..self.inner).step_by(GROUP) {
                    let line = weights.add(index * PANEL);
                    let mut right = [_mm512_setzero_si512(); VECTORS];
                    for (vector, right) in right.iter_mut().enumerate() {
                        *right = _mm512_loadu_si512(line.add(vector * 64).cast());
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let bytes = left.add(row * self.inner + index).cast::<i32>();
                        let bytes = _mm512_set1_epi32(bytes.read_unaligned());
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = _mm512_dpbusd_epi32(*sum, bytes, right);
                        }
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    let row = first_row + row;
                    let QuantizedRow { scale, zero } = *self.left.rows.get_unchecked(row);
                    let (scale, zero) = (_mm512_set1_ps(scale), _mm512_set1_epi32(zero));
                    let start = row * self.columns + self.first_column;
                    let out = self.out.as_mut_ptr().add(start);
                    for (vector, sum) in sums.into_iter().enumerate() {
                        let at = vector * WIDE;
                        let column_sums = self.panel.sums.as_ptr().add(at);
                        let column_sums = _mm512_loadu_si512(column_sums.cast());
                        let exact = _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, column_sums));
                        let scales = _mm512_loadu_ps(self.panel.scales.as_ptr().add(at));
                        let factor = _mm512_mul_ps(scale, scales);
                        let bias = _mm512_loadu_ps(self.panel.bias.as_ptr().add(at));
                        let value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), factor, bias);
                        _mm512_storeu_ps(out.add(at), value);
                    }
                }
            }
        }

        /// # Safety
        /// The shapes agree, and the processor has the instructions.
        #[target_feature(enable = "avx2,fma")]
        pub(super) unsafe fn avx2(&mut self) {
            for column in (0..PANEL).step_by(2 * NARROW) {
                for (row, count) in row_blocks(self.left.rows.len(), NARROW_ROWS) {
                    // SAFETY: the rows of the block are there.
                    unsafe {
                        match count {
                            1 => self.avx2_tile::<1>(row, column),
                            2 => self.avx2_tile::<2>(row, column),
                            3 => self.avx2_tile::<3>(row, column),
                            _ => self.avx2_tile::<NARROW_ROWS>(row, column),
                        }
                    }
                }
            }
        }

        /// The one instruction that multiplies bytes (`vpmaddubsw`) cuts sums of two at 16
        /// bits. So bytes are widened: even and odd places apart, which needs no shuffle.
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2_tile<const ROWS: usize>(&mut self, first_row: usize, column: usize) {
            // SAFETY: the rows and the columns of the panel lie inside their slices, since
            // the shapes agree.
            unsafe {
                let left = self.left.bytes.as_ptr().add(first_row * self.inner);
                let weights = self.panel.weights.as_ptr().add(column * GROUP);
                let low_bytes = _mm256_set1_epi16(0xff);
                let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
                for index in (0..self.inner).step_by(GROUP) {
                    let line = weights.add(index * PANEL);
                    let mut even = [_mm256_setzero_si256(); 2];
                    let mut odd = [_mm256_setzero_si256(); 2];
                    for vector in 0..2 {
                        let packed = _mm256_loadu_si256(line.add(vector * 32).cast());
                        even[vector] = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(packed));
                        odd[vector] = _mm256_srai_epi16::<8>(packed);
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let bytes = left.add(row * self.inner + index).cast::<i32>();
                        let bytes = _mm256_set1_epi32(bytes.read_unaligned());
                        let even_bytes = _mm256_and_si256(bytes, low_bytes);
                        let odd_bytes = _mm256_srli_epi16::<8>(bytes);
                        for (vector, sum) in sums.iter_mut().enumerate() {
                            let even = _mm256_madd_epi16(even_bytes, even[vector]);
                            let odd = _mm256_madd_epi16(odd_bytes, odd[vector]);
                            *sum = _mm256_add_epi32(*sum, _mm256_add_epi32(even, odd));
                        }
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    let mut columns = [0i32; 2 * NARROW];
                    for (vector, sum) in sums.into_iter().enumerate() {
                        let place = columns.as_mut_ptr().add(vector * NARROW);
                        _mm256_storeu_si256(place.cast(), sum);
                    }
                    self.write(first_row + row, column, &columns);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(state: &mut u64) -> u32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 33) as u32
    }

    #[test]
    fn every_level_gives_the_exact_sums() {
        let mut state = 11;
        for (rows, inner, columns) in [(1, 4, 64), (5, 32, 128), (6, 64, 64), (15, 388, 192)] {
            for extreme in [false, true] {
                let bytes: Vec<u8> = (0..rows * inner)
                    .map(|_| if extreme { 255 } else { random(&mut state) as u8 })
                    .collect();
                let weights: Vec<i8> = (0..inner * columns)
                    .map(|_| if extreme { -127 } else { random(&mut state) as i8 })
                    .collect();
                let weight = |input: usize, column: usize| {
                    let panel = &weights[column / PANEL * PANEL * inner..];
                    i32::from(
                        panel[input / GROUP * GROUP * PANEL
                            + column % PANEL * GROUP
                            + input % GROUP],
                    )
                };
                let sums: Vec<i32> = (0..columns)
                    .map(|column| (0..inner).map(|input| weight(input, column)).sum())
                    .collect();
                let scales: Vec<f32> = (0..columns).map(|n| 0.01 + n as f32 / 1e4).collect();
                let bias: Vec<f32> = (0..columns).map(|n| n as f32 / 7.0).collect();
                let quantized: Vec<QuantizedRow> = (0..rows)
                    .map(|n| QuantizedRow { scale: 0.1 + n as f32, zero: (n * 50 % 256) as i32 })
                    .collect();
                for level in Level::available() {
                    let mut out = vec![0.0; rows * columns];
                    multiply_integers(
                        level,
                        QuantizedRows { bytes: &bytes, rows: &quantized },
                        IntegerMatrix {
                            weights: &weights,
                            scales: &scales,
                            sums: &sums,
                            bias: &bias,
                        },
                        &mut out,
                    );
                    for row in 0..rows {
                        let QuantizedRow { scale, zero } = quantized[row];
                        for column in 0..columns {
                            let exact: i32 = (0..inner)
                                .map(|input| {
                                    let byte = i32::from(bytes[row * inner + input]);
                                    (byte - zero) * weight(input, column)
                                })
                                .sum();
                            let expected =
                                (exact as f32).mul_add(scale * scales[column], bias[column]);
                            assert_eq!(
                                out[row * columns + column].to_bits(),
                                expected.to_bits(),
                                "{level:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
