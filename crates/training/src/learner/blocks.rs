//! Products of dense matrices with sixteen columns at a time.
//!
//! The left side lies row after row, the right and the product in blocks of sixteen columns:
//! `right[inner * blocks + block]`, `out[row * blocks + block]`. Sums run over the inner
//! dimension in its order, whatever the shape.

use super::lanes::{Lanes, add_scaled};

/// Rows computed together: their sums stay in registers while a line of the right side is
/// read once for all of them.
const ROWS: usize = 8;

/// A matrix whose rows lie `stride` numbers apart.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    pub values: &'a [f32],
    pub stride: usize,
}

/// Where a product's blocks are found: `lanes[row * stride + block]`.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub stride: usize,
    pub blocks: usize,
}

/// `out[r] += sign · Σ_t left[r][t] · right[t]` for all `rows`, over the first `inner` columns
/// of the left side.
#[inline(always)]
pub fn add_product<const FUSED: bool>(
    left: Left<'_>,
    rows: usize,
    inner: usize,
    right: &[Lanes],
    sign: f32,
    out: &mut [Lanes],
    place: Place,
) {
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        // Rows that a short group lacks are its last one again, whose sums nobody takes.
        let lines: [&[f32]; ROWS] = std::array::from_fn(|at| {
            &left.values[(first + at.min(count - 1)) * left.stride..][..inner]
        });
        for block in 0..place.blocks {
            let mut sums = [Lanes::ZERO; ROWS];
            for index in 0..inner {
                let line = &right[index * place.blocks + block];
                for at in 0..ROWS {
                    add_scaled::<FUSED>(&mut sums[at], lines[at][index], line);
                }
            }
            for (at, sum) in sums.iter().enumerate().take(count) {
                let out = &mut out[(first + at) * place.stride + block];
                add_scaled::<FUSED>(out, sign, sum);
            }
        }
    }
}

/// `out[i] += sign · Σ_r left[r][i] · right[r]` for the first `inner` columns of the left side,
/// over all `rows`.
#[inline(always)]
pub fn add_transposed_product<const FUSED: bool>(
    left: Left<'_>,
    rows: usize,
    inner: usize,
    right: &[Lanes],
    sign: f32,
    out: &mut [Lanes],
    place: Place,
) {
    for first in (0..inner).step_by(ROWS) {
        let count = ROWS.min(inner - first);
        for block in 0..place.blocks {
            let mut sums = [Lanes::ZERO; ROWS];
            for row in 0..rows {
                let line = &right[row * place.blocks + block];
                let values = &left.values[row * left.stride + first..][..count];
                if let Some(values) = values.first_chunk::<ROWS>() {
                    for at in 0..ROWS {
                        add_scaled::<FUSED>(&mut sums[at], values[at], line);
                    }
                } else {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        add_scaled::<FUSED>(sum, *value, line);
                    }
                }
            }
            for (at, sum) in sums.iter().enumerate().take(count) {
                let out = &mut out[(first + at) * place.stride + block];
                add_scaled::<FUSED>(out, sign, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::LANES;
    use super::*;
    use crate::random::Random;

    #[test]
    fn products_are_those_of_plain_loops() {
        let mut random = Random::new(3, 1);
        let mut number = || random.below(2001) as f32 / 1000.0 - 1.0;
        for (rows, inner, blocks) in [(1, 1, 1), (8, 5, 2), (13, 20, 3), (17, 8, 1)] {
            let stride = inner + 3;
            let left: Vec<f32> = (0..rows * stride).map(|_| number()).collect();
            let mut lanes = |count: usize| -> Vec<Lanes> {
                (0..count).map(|_| Lanes(std::array::from_fn(|_| number()))).collect()
            };
            let (right, tall) = (lanes(inner * blocks), lanes(rows * blocks));
            let place = Place { stride: blocks + 1, blocks };
            let mut out = vec![Lanes::splat(0.5); rows * (blocks + 1)];
            let of = Left { values: &left, stride };
            add_product::<false>(of, rows, inner, &right, -1.0, &mut out, place);
            let mut turned = vec![Lanes::splat(0.5); inner * (blocks + 1)];
            add_transposed_product::<false>(of, rows, inner, &tall, 2.0, &mut turned, place);
            for block in 0..blocks {
                for lane in 0..LANES {
                    for row in 0..rows {
                        let sum: f32 = (0..inner)
                            .map(|t| left[row * stride + t] * right[t * blocks + block].0[lane])
                            .sum();
                        let found = out[row * (blocks + 1) + block].0[lane];
                        assert!((found - (0.5 - sum)).abs() < 1e-4);
                    }
                    for t in 0..inner {
                        let sum: f32 = (0..rows)
                            .map(|row| left[row * stride + t] * tall[row * blocks + block].0[lane])
                            .sum();
                        let found = turned[t * (blocks + 1) + block].0[lane];
                        assert!((found - (0.5 + 2.0 * sum)).abs() < 1e-4);
                    }
                }
            }
            // What lies between the places stays.
            assert!((0..rows).all(|row| out[row * (blocks + 1) + blocks] == Lanes::splat(0.5)));
        }
    }
}
