//! Products of single-precision matrices, each sum in the order of the inner index.

#![expect(unsafe_code, reason = "vector instructions and the pointers they read through")]

use super::level::{Instructions, Level};
use crate::shape::LANES;

/// Rows of a tile: six rows of four registers, with the operands, fill the thirty-two of
/// AVX-512; six rows of two fill the sixteen of AVX2.
const TILE_ROWS: usize = 6;

/// A row-major matrix of which `columns` places of every `stride` are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FloatMatrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub stride: usize,
}

impl FloatMatrix<'_> {
    fn is_inside(&self) -> bool {
        covers(self.values.len(), self.rows, self.columns, self.stride)
    }
}

/// Where a product goes.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub values: &'a mut [f32],
    pub stride: usize,
}

fn covers(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    columns <= stride && (rows == 0 || (rows - 1) * stride + columns <= length)
}

/// `out ← left · right + bias`, the bias one value per column.
///
/// # Panics
/// Where shapes do not agree, or `right` has a number of columns that is not a multiple of
/// [`LANES`].
pub(crate) fn multiply_floats(
    level: Level,
    left: FloatMatrix<'_>,
    right: FloatMatrix<'_>,
    bias: Option<&[f32]>,
    out: Product<'_>,
) {
    assert!(left.is_inside() && right.is_inside(), "matrices hold what their shapes say");
    assert!(
        covers(out.values.len(), left.rows, right.columns, out.stride),
        "the product has room for {} rows of {}",
        left.rows,
        right.columns
    );
    assert_eq!(left.columns, right.rows, "inner dimensions agree");
    assert!(right.columns.is_multiple_of(LANES), "columns come in whole vectors");
    assert!(bias.is_none_or(|bias| bias.len() >= right.columns), "a bias for each column");
    let tiles = Tiles {
        left: left.values.as_ptr(),
        left_stride: left.stride,
        right: right.values.as_ptr(),
        right_stride: right.stride,
        inner: left.columns,
        bias: bias.map(<[f32]>::as_ptr),
        out: out.values.as_mut_ptr(),
        out_stride: out.stride,
    };
    // SAFETY: the assertions above are what `Tiles` asks for, and the level proves that the
    // processor has the instructions.
    unsafe {
        match level.instructions() {
            Instructions::Portable => tiles.portable(left.rows, right.columns),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => tiles.avx2(left.rows, right.columns),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => tiles.avx512(left.rows, right.columns),
        }
    }
}

/// A checked product. Every method computes rows and columns that the caller says lie
/// inside all three matrices, columns being whole vectors.
#[derive(Clone, Copy)]
struct Tiles {
    left: *const f32,
    left_stride: usize,
    right: *const f32,
    right_stride: usize,
    inner: usize,
    bias: Option<*const f32>,
    out: *mut f32,
    out_stride: usize,
}

impl Tiles {
    /// The same product from another row and column on.
    unsafe fn at(self, row: usize, column: usize) -> Self {
        // SAFETY: the caller's row and column lie inside the matrices.
        unsafe {
            Self {
                left: self.left.add(row * self.left_stride),
                right: self.right.add(column),
                bias: self.bias.map(|bias| bias.add(column)),
                out: self.out.add(row * self.out_stride + column),
                ..self
            }
        }
    }

    unsafe fn portable(self, rows: usize, columns: usize) {
        for row in 0..rows {
            for column in (0..columns).step_by(LANES) {
                // SAFETY: all offsets lie inside the matrices, as the caller promised.
                unsafe {
                    let tile = self.at(row, column);
                    let mut sums = [0.0f32; LANES];
                    for index in 0..self.inner {
                        let factor = *tile.left.add(index);
                        let line = tile.right.add(index * self.right_stride);
                        for (lane, sum) in sums.iter_mut().enumerate() {
                            *sum = factor.mul_add(*line.add(lane), *sum);
                        }
                    }
                    for (lane, sum) in sums.into_iter().enumerate() {
                        let bias = tile.bias.map_or(0.0, |bias| *bias.add(lane));
                        *tile.out.add(lane) = sum + bias;
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::row_blocks;
    use super::{LANES, TILE_ROWS, Tiles};

    impl Tiles {
        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn avx512(self, rows: usize, columns: usize) {
            let mut column = 0;
            while column < columns {
                let vectors = match (columns - column) / LANES {
                    4.. => 4,
                    2 | 3 => 2,
                    _ => 1,
                };
                for (row, count) in row_blocks(rows, TILE_ROWS) {
                    // SAFETY: the block lies inside the matrices, as the caller promised.
                    unsafe {
                        let tile = self.at(row, column);
                        match vectors {
                            4 => tile.avx512_rows::<4>(count),
                            2 => tile.avx512_rows::<2>(count),
                            _ => tile.avx512_rows::<1>(count),
                        }
                    }
                }
                column += vectors * LANES;
            }
        }

        #[target_feature(enable = "avx512f")]
        unsafe fn avx512_rows<const VECTORS: usize>(self, rows: usize) {
            // SAFETY: passed on.
            unsafe {
                match rows {
                    1 => self.avx512_tile::<1, VECTORS>(),
                    2 => self.avx512_tile::<2, VECTORS>(),
                    3 => self.avx512_tile::<3, VECTORS>(),
                    4 => self.avx512_tile::<4, VECTORS>(),
                    5 => self.avx512_tile::<5, VECTORS>(),
                    _ => self.avx512_tile::<TILE_ROWS, VECTORS>(),
                }
            }
        }

        #[target_feature(enable = "avx512f")]
        unsafe fn avx512_tile<const ROWS: usize, const VECTORS: usize>(self) {
            // SAFETY: `ROWS` rows and `VECTORS` vectors of columns lie inside the matrices,
            // as the caller promised.
            unsafe {
                let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
                for index in 0..self.inner {
                    let line = self.right.add(index * self.right_stride);
                    let mut right = [_mm512_setzero_ps(); VECTORS];
                    for (vector, right) in right.iter_mut().enumerate() {
                        *right = _mm512_loadu_ps(line.add(vector * LANES));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let left = *self.left.add(row * self.left_stride + index);
                        let left = _mm512_set1_ps(left);
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = _mm512_fmadd_ps(left, right, *sum);
                        }
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    for (vector, sum) in sums.into_iter().enumerate() {
                        let bias = match self.bias {
                            Some(bias) => _mm512_loadu_ps(bias.add(vector * LANES)),
                            None => _mm512_setzero_ps(),
                        };
                        let place = self.out.add(row * self.out_stride + vector * LANES);
                        _mm512_storeu_ps(place, _mm512_add_ps(sum, bias));
                    }
                }
            }
        }

        #[target_feature(enable = "avx2,fma")]
        pub(super) unsafe fn avx2(self, rows: usize, columns: usize) {
            for column in (0..columns).step_by(LANES) {
                for (row, count) in row_blocks(rows, TILE_ROWS) {
                    // SAFETY: the block lies inside the matrices, as the caller promised.
                    unsafe {
                        let tile = self.at(row, column);
                        match count {
                            1 => tile.avx2_tile::<1>(),
                            2 => tile.avx2_tile::<2>(),
                            3 => tile.avx2_tile::<3>(),
                            4 => tile.avx2_tile::<4>(),
                            5 => tile.avx2_tile::<5>(),
                            _ => tile.avx2_tile::<TILE_ROWS>(),
                        }
                    }
                }
            }
        }

        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2_tile<const ROWS: usize>(self) {
            const HALF: usize = LANES / 2;
            // SAFETY: `ROWS` rows and `LANES` columns lie inside the matrices, as the caller
            // promised.
            unsafe {
                let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
                for index in 0..self.inner {
                    let line = self.right.add(index * self.right_stride);
                    let right = [_mm256_loadu_ps(line), _mm256_loadu_ps(line.add(HALF))];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let left = *self.left.add(row * self.left_stride + index);
                        let left = _mm256_set1_ps(left);
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = _mm256_fmadd_ps(left, right, *sum);
                        }
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    for (half, sum) in sums.into_iter().enumerate() {
                        let bias = match self.bias {
                            Some(bias) => _mm256_loadu_ps(bias.add(half * HALF)),
                            None => _mm256_setzero_ps(),
                        };
                        let place = self.out.add(row * self.out_stride + half * HALF);
                        _mm256_storeu_ps(place, _mm256_add_ps(sum, bias));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_gives_the_sums_in_order() {
        let value = |n: usize| ((n * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        for (rows, inner, columns) in
            [(1, 1, 16), (6, 32, 64), (7, 5, 48), (13, 33, 112), (2, 40, 80)]
        {
            let (left_stride, right_stride) = (inner + 3, columns + 5);
            let left: Vec<f32> = (0..rows * left_stride).map(value).collect();
            let right: Vec<f32> = (0..inner * right_stride).map(|n| value(n + 77)).collect();
            let bias: Vec<f32> = (0..columns).map(|n| value(n + 991)).collect();
            for level in Level::available() {
                for bias in [None, Some(bias.as_slice())] {
                    let mut out = vec![9.0; rows * columns];
                    multiply_floats(
                        level,
                        FloatMatrix { values: &left, rows, columns: inner, stride: left_stride },
                        FloatMatrix { values: &right, rows: inner, columns, stride: right_stride },
                        bias,
                        Product { values: &mut out, stride: columns },
                    );
                    for row in 0..rows {
                        for column in 0..columns {
                            let sum = (0..inner).fold(0.0f32, |sum, k| {
                                let right = right[k * right_stride + column];
                                left[row * left_stride + k].mul_add(right, sum)
                            });
                            let expected = sum + bias.map_or(0.0, |bias| bias[column]);
                            let actual = out[row * columns + column];
                            assert_eq!(actual.to_bits(), expected.to_bits(), "{level:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "room")]
    fn a_product_without_room_is_refused() {
        let values = [0.0; 64];
        let matrix = FloatMatrix { values: &values, rows: 4, columns: 16, stride: 16 };
        let left = FloatMatrix { values: &values, rows: 2, columns: 4, stride: 4 };
        let mut out = [0.0; 31];
        multiply_floats(
            Level::detect(),
            left,
            matrix,
            None,
            Product { values: &mut out, stride: 16 },
        );
    }
}
