//! Cholesky factors of large symmetric matrices, and solving with them.
//!
//! Column blocks are finished from left to right: what the columns before it contribute is
//! one product, its diagonal block is factorised by plain loops and inverted, and the rows
//! below are multiplied by the inverse.

use super::blocks::{Left, Place, add_product, add_transposed_product};
use super::lanes::{Kernel, LANES, Lanes, dispatch};

/// Columns finished together.
const STEP: usize = 64;
const STEP_BLOCKS: usize = STEP / LANES;
/// Columns before the present ones that one product takes in: their sums are rounded to
/// memory between products, which also keeps long sums exact.
const INNER: usize = 512;
/// Rows worked on together: what they share stays in the cache.
const ROWS_AT_ONCE: usize = 64;
/// A pivot below this part of the ridge has lost all its digits to rounding.
const LEAST_PIVOT: f32 = 1e-2;

/// A symmetric matrix of which the blocks up to the diagonal are kept; then its factor.
#[derive(Debug)]
pub struct Matrix {
    pub rows: usize,
    /// Blocks of a row; a row's columns beyond its own place are anything.
    pub blocks: usize,
    /// `lanes[row * blocks + column / LANES]`.
    pub lanes: Vec<Lanes>,
}

impl Matrix {
    pub fn zeros(rows: usize) -> Self {
        let blocks = rows.div_ceil(STEP) * STEP_BLOCKS;
        Self { rows, blocks, lanes: vec![Lanes::ZERO; rows * blocks] }
    }
}

/// Replaces a positive definite matrix, whose smallest eigenvalue is at least `ridge`, by its
/// lower Cholesky factor; `false` when it was stopped. The factor's diagonal squares are kept
/// as their inverses, as which [`solve`] needs them.
pub fn factorise(matrix: &mut Matrix, ridge: f32, stop: &(dyn Fn() -> bool + Sync)) -> bool {
    let (rows, blocks) = (matrix.rows, matrix.blocks);
    let mut turned = vec![Lanes::ZERO; rows.next_multiple_of(STEP) * STEP_BLOCKS];
    for first in (0..rows).step_by(STEP) {
        if stop() {
            return false;
        }
        let count = STEP.min(rows - first);
        let below = &mut matrix.lanes[first * blocks..];
        // The rows of the diagonal square, turned so that their columns are read in lines.
        for (at, row) in below.chunks_exact(blocks).take(count).enumerate() {
            for (column, value) in flat(row)[..first].iter().enumerate() {
                turned[column * STEP_BLOCKS + at / LANES].0[at % LANES] = *value;
            }
        }
        let turned = &turned[..first * STEP_BLOCKS];
        below.chunks_mut(ROWS_AT_ONCE * blocks).for_each(|lanes| {
            dispatch(Reduce { lanes, blocks, first, turned });
        });
        let (square, rest) = below.split_at_mut(count * blocks);
        let inverse = factorise_square(square, blocks, first, ridge);
        let mut right = vec![Lanes::ZERO; STEP * STEP_BLOCKS];
        for (column, row) in inverse.chunks_exact(STEP).enumerate() {
            for (inner, value) in row.iter().enumerate() {
                right[inner * STEP_BLOCKS + column / LANES].0[column % LANES] = *value;
            }
        }
        rest.chunks_mut(ROWS_AT_ONCE * blocks).for_each(|lanes| {
            dispatch(Finish { lanes, blocks, first, right: &right });
        });
        for (row, inverse) in square.chunks_exact_mut(blocks).zip(inverse.chunks_exact(STEP)) {
            let row: &mut [f32] = bytemuck::cast_slice_mut(row);
            row[first..first + STEP].copy_from_slice(inverse);
        }
    }
    true
}

/// Solves for all right sides at once, which are replaced by the answers:
/// `sides[row * blocks + block]`.
pub fn solve(factor: &Matrix, sides: &mut [Lanes], blocks: usize) {
    for first in (0..factor.rows).step_by(STEP) {
        dispatch(Forward(Square::of(factor, first, sides, blocks)));
    }
    for first in (0..factor.rows).step_by(STEP).rev() {
        dispatch(Backward(Square::of(factor, first, sides, blocks)));
    }
}

fn flat(lanes: &[Lanes]) -> &[f32] {
    bytemuck::cast_slice(lanes)
}

/// The inverse of the Cholesky factor of a diagonal square, [`STEP`] numbers a row. Rows that
/// the last square lacks are those of the identity.
fn factorise_square(square: &[Lanes], blocks: usize, first: usize, ridge: f32) -> Vec<f32> {
    let mut factor = vec![[0f64; STEP]; STEP];
    for (at, row) in factor.iter_mut().enumerate() {
        match square.chunks_exact(blocks).nth(at) {
            Some(lanes) => {
                for (value, given) in row[..=at].iter_mut().zip(&flat(lanes)[first..]) {
                    *value = f64::from(*given);
                }
            }
            None => row[at] = 1.0,
        }
    }
    let least = f64::from(ridge * LEAST_PIVOT).max(f64::from(f32::MIN_POSITIVE));
    for column in 0..STEP {
        for row in column..STEP {
            let (above, from) = factor.split_at_mut(row);
            let of_column = above.get(column).unwrap_or(&from[0]);
            let sum: f64 = (0..column).map(|inner| from[0][inner] * of_column[inner]).sum();
            let rest = from[0][column] - sum;
            let pivot = of_column[column];
            from[0][column] = if row == column { rest.max(least).sqrt() } else { rest / pivot };
        }
    }
    let mut inverse = vec![0f64; STEP * STEP];
    for column in 0..STEP {
        inverse[column * STEP + column] = factor[column][column].recip();
        for row in column + 1..STEP {
            let sum: f64 = (column..row)
                .map(|inner| factor[row][inner] * inverse[inner * STEP + column])
                .sum();
            inverse[row * STEP + column] = -sum / factor[row][row];
        }
    }
    inverse.into_iter().map(|value| value as f32).collect()
}

/// Takes from rows' present columns what the columns before contribute.
struct Reduce<'m> {
    lanes: &'m mut [Lanes],
    blocks: usize,
    first: usize,
    /// `turned[column * STEP_BLOCKS + block]`.
    turned: &'m [Lanes],
}

impl Kernel for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { lanes, blocks, first, turned } = self;
        let rows = lanes.len() / blocks;
        let mut sums = [Lanes::ZERO; ROWS_AT_ONCE * STEP_BLOCKS];
        let place = Place { stride: STEP_BLOCKS, blocks: STEP_BLOCKS };
        for start in (0..first).step_by(INNER) {
            let inner = INNER.min(first - start);
            let left = Left { values: &flat(lanes)[start..], stride: blocks * LANES };
            let right = &turned[start * STEP_BLOCKS..];
            add_product::<FUSED>(left, rows, inner, right, -1.0, &mut sums, place);
        }
        for (row, sums) in lanes.chunks_exact_mut(blocks).zip(sums.chunks_exact(STEP_BLOCKS)) {
            let present = &mut row[first / LANES..][..STEP_BLOCKS];
            for (value, sum) in present.iter_mut().zip(sums) {
                *value = value.plus(*sum);
            }
        }
    }
}

/// Multiplies rows' present columns by the inverse of the diagonal square.
struct Finish<'m> {
    lanes: &'m mut [Lanes],
    blocks: usize,
    first: usize,
    /// The inverse, turned: `right[inner * STEP_BLOCKS + block]`.
    right: &'m [Lanes],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { lanes, blocks, first, right } = self;
        let rows = lanes.len() / blocks;
        let mut sums = [Lanes::ZERO; ROWS_AT_ONCE * STEP_BLOCKS];
        let place = Place { stride: STEP_BLOCKS, blocks: STEP_BLOCKS };
        let left = Left { values: &flat(lanes)[first..], stride: blocks * LANES };
        add_product::<FUSED>(left, rows, STEP, right, 1.0, &mut sums, place);
        for (row, sums) in lanes.chunks_exact_mut(blocks).zip(sums.chunks_exact(STEP_BLOCKS)) {
            row[first / LANES..][..STEP_BLOCKS].copy_from_slice(sums);
        }
    }
}

/// The rows of one diagonal square of a factor, and the right sides of these rows and of all
/// before them.
struct Square<'m> {
    first: usize,
    count: usize,
    /// The factor's rows, [`Square::stride`] numbers each.
    lines: &'m [f32],
    stride: usize,
    before: &'m mut [Lanes],
    present: &'m mut [Lanes],
    place: Place,
}

impl<'m> Square<'m> {
    fn of(factor: &'m Matrix, first: usize, sides: &'m mut [Lanes], blocks: usize) -> Self {
        let count = STEP.min(factor.rows - first);
        let (before, present) = sides.split_at_mut(first * blocks);
        Self {
            first,
            count,
            lines: flat(&factor.lanes[first * factor.blocks..]),
            stride: factor.blocks * LANES,
            before,
            present: &mut present[..count * blocks],
            place: Place { stride: blocks, blocks },
        }
    }

    /// The factor's rows from a column on.
    fn left(&self, column: usize) -> Left<'m> {
        Left { values: &self.lines[column..], stride: self.stride }
    }

    /// The right sides of the square's rows, which become zeros.
    fn take_present(&mut self) -> Vec<Lanes> {
        let taken = self.present.to_vec();
        self.present.fill(Lanes::ZERO);
        taken
    }
}

/// Solves the rows of one square with the factor, those before being solved.
struct Forward<'m>(Square<'m>);

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self(mut square) = self;
        let (first, count, place) = (square.first, square.count, square.place);
        for start in (0..first).step_by(INNER) {
            let inner = INNER.min(first - start);
            let left = square.left(start);
            let right = &square.before[start * place.blocks..];
            add_product::<FUSED>(left, count, inner, right, -1.0, square.present, place);
        }
        let right = square.take_present();
        let left = square.left(first);
        add_product::<FUSED>(left, count, count, &right, 1.0, square.present, place);
    }
}

/// Solves the rows of one square with the turned factor, those after being solved, and takes
/// their part from the rows before.
struct Backward<'m>(Square<'m>);

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self(mut square) = self;
        let (first, count, place) = (square.first, square.count, square.place);
        let right = square.take_present();
        let left = square.left(first);
        add_transposed_product::<FUSED>(left, count, count, &right, 1.0, square.present, place);
        let left = square.left(0);
        let present = &*square.present;
        add_transposed_product::<FUSED>(left, count, first, present, -1.0, square.before, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn answers_solve_the_system() {
        for rows in [1, 5, 63, 64, 65, 130, 700] {
            let mut random = Random::new(rows as u64, 9);
            let mut number = || random.unit() - 0.5;
            let width = 40;
            let vectors: Vec<f64> = (0..rows * width).map(|_| number()).collect();
            let product = |a: usize, b: usize| -> f64 {
                let (a, b) = (&vectors[a * width..][..width], &vectors[b * width..][..width]);
                a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>()
            };
            let ridge = 0.3;
            let exact = |a: usize, b: usize| product(a, b) + if a == b { ridge } else { 0.0 };
            let mut matrix = Matrix::zeros(rows);
            let blocks = matrix.blocks;
            for row in 0..rows {
                for column in 0..=row {
                    matrix.lanes[row * blocks + column / LANES].0[column % LANES] =
                        exact(row, column) as f32;
                }
            }
            let given: Vec<Lanes> =
                (0..rows * 2).map(|_| Lanes(std::array::from_fn(|_| number() as f32))).collect();
            let mut sides = given.clone();
            assert!(!factorise(&mut Matrix::zeros(rows), 0.3, &|| true));
            assert!(factorise(&mut matrix, 0.3, &|| false));
            solve(&matrix, &mut sides, 2);
            for row in (0..rows).step_by(7) {
                for block in 0..2 {
                    for lane in [0, 15] {
                        let found: f64 = (0..rows)
                            .map(|other| {
                                exact(row, other) * f64::from(sides[other * 2 + block].0[lane])
                            })
                            .sum();
                        let wanted = f64::from(given[row * 2 + block].0[lane]);
                        assert!((found - wanted).abs() < 2e-3, "{rows}: {found} for {wanted}");
                    }
                }
            }
        }
    }
}
