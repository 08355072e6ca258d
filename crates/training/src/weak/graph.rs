//! Which rows are alike: the nearest neighbours of every row, and smoothing over them.

use corral_classifier::DenseRows;
use rayon::prelude::*;

use crate::learner::lanes::{Kernel, LANES, Lanes, add_scaled, dispatch};

/// How fast a neighbour's weight falls with its distance, in units of cosine.
const SIMILARITY_SCALE: f32 = 0.1;
/// Rows compared at once with sixteen others: as many sums as stay in registers.
const ROWS_AT_ONCE: usize = 4;
/// Rows whose neighbours one task finds.
const ROWS_PER_TASK: usize = 256;

/// Which rows are alike: each row with its nearest ones by cosine and with those that it is
/// nearest to, with weights that fall with distance.
///
/// Nearness goes both ways, or rows at the rim of a class, whose nearest lie inside it while
/// they are nobody's, would hear of their class and never be heard.
#[derive(Clone, Debug)]
pub struct NeighbourGraph {
    /// The neighbours of row `r` are `neighbours[offsets[r]..offsets[r + 1]]`, those that the
    /// row is nearest to behind its own; one that is both stands twice.
    offsets: Vec<u32>,
    neighbours: Vec<u32>,
    weights: Vec<f32>,
}

/// How far labels move over a graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// What the neighbours count against the row's own label.
    pub share: f32,
    pub steps: usize,
}

impl NeighbourGraph {
    /// Finds that many neighbours of each row by comparing all rows with each other:
    /// `rows² · width` products. Rows have unit length. `None` when `stop` said so.
    pub fn build(
        rows: &DenseRows,
        neighbours: usize,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Option<Self> {
        let nearest = NearestRows::find(rows, neighbours, stop)?;
        Some(nearest.both_ways(rows.rows()))
    }

    /// Label spreading (Zhou et al., NIPS 2003): each step a row's distribution becomes a mean of
    /// its own first one and of its neighbours' present ones. Rows that are not `present` neither
    /// give nor get anything; `fixed` rows keep their first distribution.
    pub fn smooth(
        &self,
        initial: &DenseRows,
        present: &[bool],
        fixed: &[bool],
        smoothing: Smoothing,
    ) -> DenseRows {
        let classes = initial.width();
        let mut now = initial.clone();
        let mut next = DenseRows::zeros(initial.rows(), classes);
        for _ in 0..smoothing.steps {
            next.values_mut().par_chunks_exact_mut(classes).enumerate().for_each(|(row, out)| {
                if !present[row] || fixed[row] {
                    out.copy_from_slice(initial.row(row));
                    return;
                }
                out.fill(0.0);
                let mut total = 0.0;
                for (other, weight) in self.of_row(row).filter(|&(other, _)| present[other]) {
                    total += weight;
                    let theirs = now.row(other);
                    out.iter_mut().zip(theirs).for_each(|(sum, value)| *sum += weight * value);
                }
                // A row without present neighbours keeps its own.
                let (own, scale) = if total > 0.0 {
                    (1.0 - smoothing.share, smoothing.share / total)
                } else {
                    (1.0, 0.0)
                };
                let first = initial.row(row);
                out.iter_mut()
                    .zip(first)
                    .for_each(|(sum, value)| *sum = own * value + scale * *sum);
            });
            std::mem::swap(&mut now, &mut next);
        }
        now
    }

    fn of_row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        let neighbours = self.neighbours[range.clone()].iter().map(|&other| other as usize);
        neighbours.zip(self.weights[range].iter().copied())
    }

    /// What a graph of so many rows takes while it is built, in bytes.
    pub const fn memory_bytes(rows: usize, width: usize, neighbours: usize) -> usize {
        // The nearest, the same both ways, and the rows packed.
        rows * (3 * neighbours * 8 + 8 + width * 4)
    }
}

/// The nearest rows of each row.
struct NearestRows {
    /// `width` a row, nearest first.
    neighbours: Vec<u32>,
    /// Of sum one a row.
    weights: Vec<f32>,
    width: usize,
}

impl NearestRows {
    fn find(rows: &DenseRows, neighbours: usize, stop: &(dyn Fn() -> bool + Sync)) -> Option<Self> {
        let count = rows.rows();
        let width = neighbours.min(count.saturating_sub(1));
        let packed = packed(rows);
        let mut neighbours = vec![0u32; count * width];
        let mut weights = vec![0f32; count * width];
        if width > 0 {
            neighbours
                .par_chunks_mut(ROWS_PER_TASK * width)
                .zip(weights.par_chunks_mut(ROWS_PER_TASK * width))
                .enumerate()
                .for_each(|(task, (neighbours, weights))| {
                    if !stop() {
                        let first = task * ROWS_PER_TASK;
                        dispatch(Nearest {
                            rows,
                            packed: &packed,
                            first,
                            width,
                            neighbours,
                            weights,
                        });
                    }
                });
            for weights in weights.chunks_exact_mut(width) {
                // From the nearest, so that the sum does not vanish where all are far away.
                let nearest = weights[0];
                let weigh =
                    |weight: &mut f32| *weight = ((*weight - nearest) / SIMILARITY_SCALE).exp();
                weights.iter_mut().for_each(weigh);
                let total: f32 = weights.iter().sum();
                weights.iter_mut().for_each(|weight| *weight /= total);
            }
        }
        (!stop()).then_some(Self { neighbours, weights, width })
    }

    /// Each row's nearest, and behind them the rows that it is among the nearest of.
    fn both_ways(&self, rows: usize) -> NeighbourGraph {
        let edges = self.neighbours.len();
        let mut offsets = vec![0u32; rows + 1];
        for &other in &self.neighbours {
            offsets[other as usize + 1] += 1;
        }
        for row in 0..rows {
            offsets[row + 1] += offsets[row] + self.width as u32;
        }
        let mut neighbours = vec![0u32; 2 * edges];
        let mut weights = vec![0f32; 2 * edges];
        let mut next: Vec<u32> = offsets[..rows].to_vec();
        let mut put = |row: usize, other: u32, weight: f32| {
            let place = next[row] as usize;
            (neighbours[place], weights[place]) = (other, weight);
            next[row] += 1;
        };
        for (edge, (&other, &weight)) in self.neighbours.iter().zip(&self.weights).enumerate() {
            put(edge / self.width, other, weight);
        }
        for (edge, (&other, &weight)) in self.neighbours.iter().zip(&self.weights).enumerate() {
            put(other as usize, (edge / self.width) as u32, weight);
        }
        NeighbourGraph { offsets, neighbours, weights }
    }
}

/// The products of every row with every key: a matrix of `rows × keys`.
pub fn products(rows: &DenseRows, keys: &DenseRows) -> DenseRows {
    let packed = packed(keys);
    let count = keys.rows();
    let mut out = DenseRows::zeros(rows.rows(), count);
    out.values_mut().par_chunks_mut(ROWS_AT_ONCE * count).enumerate().for_each(|(task, out)| {
        dispatch(Products { rows, packed: &packed, first: task * ROWS_AT_ONCE, count, out });
    });
    out
}

/// Rows in blocks of sixteen, each block column by column.
fn packed(rows: &DenseRows) -> Vec<Lanes> {
    let width = rows.width();
    let mut packed = vec![Lanes::ZERO; rows.rows().div_ceil(LANES) * width];
    for (row, values) in rows.iter().enumerate() {
        let block = &mut packed[row / LANES * width..][..width];
        for (lanes, value) in block.iter_mut().zip(values) {
            lanes.0[row % LANES] = *value;
        }
    }
    packed
}

/// The products of up to [`ROWS_AT_ONCE`] rows from `first` with a block of sixteen.
#[inline(always)]
fn block_products<const FUSED: bool>(
    rows: &DenseRows,
    first: usize,
    block: &[Lanes],
) -> [Lanes; ROWS_AT_ONCE] {
    let last = rows.rows() - 1;
    let own: [&[f32]; ROWS_AT_ONCE] = std::array::from_fn(|at| rows.row((first + at).min(last)));
    let mut sums = [Lanes::ZERO; ROWS_AT_ONCE];
    for (column, lanes) in block.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(own) {
            add_scaled::<FUSED>(sum, row[column], lanes);
        }
    }
    sums
}

struct Products<'a> {
    rows: &'a DenseRows,
    packed: &'a [Lanes],
    first: usize,
    /// Keys.
    count: usize,
    out: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let width = self.rows.width();
        for (at, block) in self.packed.chunks_exact(width.max(1)).enumerate() {
            let sums = block_products::<FUSED>(self.rows, self.first, block);
            for (row, sum) in self.out.chunks_exact_mut(self.count).zip(&sums) {
                let out = &mut row[at * LANES..];
                let lanes = out.len().min(LANES);
                out[..lanes].copy_from_slice(&sum.0[..lanes]);
            }
        }
    }
}

/// Finds the nearest rows of a task's rows; leaves their products as weights.
struct Nearest<'a> {
    rows: &'a DenseRows,
    packed: &'a [Lanes],
    first: usize,
    width: usize,
    neighbours: &'a mut [u32],
    weights: &'a mut [f32],
}

impl Kernel for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (count, columns) = (self.rows.rows(), self.rows.width());
        self.weights.fill(f32::NEG_INFINITY);
        let chunk = ROWS_AT_ONCE * self.width;
        let chunks = self.neighbours.chunks_mut(chunk).zip(self.weights.chunks_mut(chunk));
        for (step, (neighbours, weights)) in chunks.enumerate() {
            let first = self.first + step * ROWS_AT_ONCE;
            for (at, block) in self.packed.chunks_exact(columns.max(1)).enumerate() {
                let sums = block_products::<FUSED>(self.rows, first, block);
                let of_rows = neighbours
                    .chunks_exact_mut(self.width)
                    .zip(weights.chunks_exact_mut(self.width));
                for (place, (neighbours, weights)) in of_rows.enumerate() {
                    let lanes = (count - at * LANES).min(LANES);
                    for (lane, &product) in sums[place].0[..lanes].iter().enumerate() {
                        let other = at * LANES + lane;
                        if product > weights[self.width - 1] && other != first + place {
                            insert(neighbours, weights, other as u32, product);
                        }
                    }
                }
            }
        }
    }
}

/// Puts a neighbour in its place of a list from near to far, behind its equals.
fn insert(neighbours: &mut [u32], weights: &mut [f32], other: u32, product: f32) {
    let mut place = weights.len() - 1;
    while place > 0 && weights[place - 1] < product {
        weights[place] = weights[place - 1];
        neighbours[place] = neighbours[place - 1];
        place -= 1;
    }
    weights[place] = product;
    neighbours[place] = other;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn random_rows(count: usize, width: usize, seed: u64) -> DenseRows {
        let mut random = Random::new(seed, 1);
        let values = (0..count * width).map(|_| random.below(2001) as f32 / 1000.0 - 1.0);
        let mut rows = DenseRows::from_values(values.collect(), width);
        rows.normalise();
        rows
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn neighbours_are_the_nearest_rows() {
        for (seed, count) in [(1, 2), (2, 19), (3, 70), (4, 601)] {
            let rows = random_rows(count, 13, seed);
            let nearest = NearestRows::find(&rows, 20, &|| false).unwrap();
            assert_eq!(nearest.width, 20.min(count - 1));
            for row in 0..count {
                let mut others: Vec<(f64, usize)> = (0..count)
                    .filter(|&other| other != row)
                    .map(|other| (dot(rows.row(row), rows.row(other)), other))
                    .collect();
                others.sort_by(|a, b| b.0.total_cmp(&a.0));
                let range = row * nearest.width..(row + 1) * nearest.width;
                for (place, &found) in nearest.neighbours[range.clone()].iter().enumerate() {
                    let product = dot(rows.row(row), rows.row(found as usize));
                    assert!((product - others[place].0).abs() < 1e-5, "seed {seed}, row {row}");
                }
                let weights = &nearest.weights[range];
                assert!(weights.is_sorted_by(|a, b| a >= b), "seed {seed}");
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "seed {seed}");
            }
        }
    }

    #[test]
    fn nearness_goes_both_ways() {
        for (seed, count) in [(5, 1), (6, 2), (7, 90)] {
            let rows = random_rows(count, 9, seed);
            let graph = NeighbourGraph::build(&rows, 20, &|| false).unwrap();
            let edge = |from: usize, to: usize| -> f32 {
                graph.of_row(from).filter(|(other, _)| *other == to).map(|(_, weight)| weight).sum()
            };
            let mut edges = 0;
            for row in 0..count {
                edges += graph.of_row(row).count();
                for other in 0..count {
                    let (there, back) = (edge(row, other), edge(other, row));
                    assert!((there - back).abs() < 1e-6, "{row} to {other}, seed {seed}");
                }
            }
            assert_eq!(edges, 2 * count * 20.min(count - 1), "seed {seed}");
        }
    }

    #[test]
    fn products_are_those_of_all_rows_with_all_keys() {
        for (seed, count, keys) in [(1, 1, 1), (2, 7, 16), (3, 9, 35)] {
            let (rows, keys) = (random_rows(count, 10, seed), random_rows(keys, 10, seed + 9));
            let found = products(&rows, &keys);
            for row in 0..count {
                for key in 0..keys.rows() {
                    let product = dot(rows.row(row), keys.row(key));
                    assert!((f64::from(found.row(row)[key]) - product).abs() < 1e-5, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn labels_spread_from_fixed_rows_and_not_through_absent_ones() {
        // Two tight clusters; one row of each is known.
        let mut rows = DenseRows::new(2);
        for at in 0..10 {
            rows.push(&[1.0, at as f32 * 0.001]);
            rows.push(&[at as f32 * 0.001, 1.0]);
        }
        rows.normalise();
        let graph = NeighbourGraph::build(&rows, 20, &|| false).unwrap();
        let mut initial = DenseRows::from_values(vec![0.5; 40], 2);
        initial.row_mut(0).copy_from_slice(&[1.0, 0.0]);
        initial.row_mut(1).copy_from_slice(&[0.0, 1.0]);
        initial.row_mut(19).copy_from_slice(&[1.0, 0.0]);
        let fixed: Vec<bool> = (0..20).map(|row| row < 2).collect();
        let present: Vec<bool> = (0..20).map(|row| row != 19).collect();
        let smoothing = Smoothing { share: 0.9, steps: 10 };
        let smoothed = graph.smooth(&initial, &present, &fixed, smoothing);
        for row in 0..19 {
            let [first, second] = [smoothed.row(row)[0], smoothed.row(row)[1]];
            assert!((first + second - 1.0).abs() < 1e-5);
            assert_eq!(first > second, row % 2 == 0, "row {row} has {first} and {second}");
        }
        assert_eq!(smoothed.row(19), [1.0, 0.0], "an absent row is left as it was");
    }
}
