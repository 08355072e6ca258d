//! One step of a network: forward over the rows of a batch, back again, and the weights moved.

use corral_classifier::Link;
use corral_classifier::head::Activation;

use super::super::Problem;
use super::super::blocks::{Left, Place, add_product, add_transposed_product};
use super::super::lanes::{Kernel, LANES, Lanes, add_scaled, exp};
use super::super::rows::FeatureRows;
use super::{LEAST_ROOT, NetworkSettings, State};
use crate::random::Random;

/// Blocks of hidden units that one walk over a row's features serves.
const WALK: usize = 4;

/// A step by the rows of a batch.
pub(super) struct Batch<'b> {
    pub state: &'b mut State,
    pub problem: &'b Problem<'b>,
    pub settings: &'b NetworkSettings,
    pub rows: &'b [u32],
    pub rate: f32,
    pub random: &'b mut Random,
}

impl Kernel for Batch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { state, problem, settings, rows, rate, random } = self;
        let features = &problem.features;
        let (hidden_blocks, class_blocks) = (state.hidden_blocks, state.class_blocks);
        let width = hidden_blocks * LANES;
        let inputs = state.dense_columns + 1;
        state.steps += 1;

        // Forward: hidden units of all rows, then scores.
        state.features.clear();
        state.hidden.clear();
        state.hidden.resize(rows.len() * hidden_blocks, Lanes::ZERO);
        for (at, &row) in rows.iter().enumerate() {
            let dense = features.dense_row(row as usize);
            state.features.extend(dense.iter().map(|value| value * features.dense_scale));
            state.features.push(1.0);
            let hidden = &mut state.hidden[at * hidden_blocks..][..hidden_blocks];
            for (walk, hidden) in hidden.chunks_mut(WALK).enumerate() {
                let (weights, first) = (&state.sparse, walk * WALK);
                match hidden.len() {
                    1 => {
                        add_sparse::<FUSED, 1>(features, row, weights, hidden_blocks, first, hidden)
                    }
                    2 => {
                        add_sparse::<FUSED, 2>(features, row, weights, hidden_blocks, first, hidden)
                    }
                    3 => {
                        add_sparse::<FUSED, 3>(features, row, weights, hidden_blocks, first, hidden)
                    }
                    _ => {
                        add_sparse::<FUSED, WALK>(
                            features,
                            row,
                            weights,
                            hidden_blocks,
                            first,
                            hidden,
                        );
                    }
                }
            }
        }
        let left = Left { values: &state.features, stride: inputs };
        let hidden_place = Place { stride: hidden_blocks, blocks: hidden_blocks };
        let weights = &state.input.weights;
        add_product::<FUSED>(
            left,
            rows.len(),
            inputs,
            weights,
            1.0,
            &mut state.hidden,
            hidden_place,
        );
        state.units.clear();
        let kept = (1.0 - settings.dropout).recip();
        for hidden in state.hidden.chunks_exact(hidden_blocks) {
            for sum in hidden.iter().flat_map(|lanes| lanes.0) {
                let unit = match settings.activation {
                    Activation::Identity => sum,
                    Activation::Rectified => sum.max(0.0),
                };
                let left_out = settings.dropout > 0.0 && (random.unit() as f32) < settings.dropout;
                state.units.push(if left_out { 0.0 } else { unit * kept });
            }
            state.units.push(1.0);
        }
        let left = Left { values: &state.units, stride: width + 1 };
        let class_place = Place { stride: class_blocks, blocks: class_blocks };
        state.scores.clear();
        state.scores.resize(rows.len() * class_blocks, Lanes::ZERO);
        let weights = &state.output.weights;
        add_product::<FUSED>(
            left,
            rows.len(),
            width + 1,
            weights,
            1.0,
            &mut state.scores,
            class_place,
        );

        // The loss's slopes by the scores, in their place.
        for (scores, &row) in state.scores.chunks_exact_mut(class_blocks).zip(rows) {
            score_slopes::<FUSED>(problem, row as usize, scores);
        }

        // Backward. Slopes by hidden units first, by the weights that gave the scores.
        state.slopes.clear();
        for (at, scores) in state.scores.chunks_exact(class_blocks).enumerate() {
            let units = &state.units[at * (width + 1)..][..width];
            for (block, units) in units.as_chunks::<LANES>().0.iter().enumerate() {
                let mut slopes = Lanes::ZERO;
                for (lane, unit) in units.iter().enumerate() {
                    let is_off = match settings.activation {
                        // Left out, since nothing else makes a sum exactly zero.
                        Activation::Identity => settings.dropout > 0.0 && *unit == 0.0,
                        Activation::Rectified => *unit == 0.0,
                    };
                    if is_off {
                        continue;
                    }
                    let index = block * LANES + lane;
                    let weights = &state.output.weights[index * class_blocks..][..class_blocks];
                    let mut sum = Lanes::ZERO;
                    for (slope, weights) in scores.iter().zip(weights) {
                        sum = sum.map2(slope.map2(*weights, |a, b| a * b), |a, b| a + b);
                    }
                    slopes.0[lane] = sum.sum() * kept;
                }
                state.slopes.push(slopes);
            }
        }
        add_transposed_product::<FUSED>(
            left,
            rows.len(),
            width + 1,
            &state.scores,
            1.0,
            &mut state.output.gradients,
            class_place,
        );
        let left = Left { values: &state.features, stride: inputs };
        add_transposed_product::<FUSED>(
            left,
            rows.len(),
            inputs,
            &state.slopes,
            1.0,
            &mut state.input.gradients,
            hidden_place,
        );
        state.output.step(state.steps, rate, settings.decay);
        state.input.step(state.steps, rate, settings.decay);

        // The columns that the rows have.
        for (slopes, &row) in state.slopes.chunks_exact(hidden_blocks).zip(rows) {
            let mut square = 0.0;
            for slopes in slopes {
                square += slopes.map2(*slopes, |a, b| a * b).sum();
            }
            let square = square / width as f32;
            let (columns, values) = features.sparse_row(row as usize);
            state.column_steps.clear();
            for (&column, &value) in columns.iter().zip(values) {
                let value = value * features.sparse_scale;
                let squares = &mut state.squares[column as usize];
                *squares += square * value * value;
                state.column_steps.push(-rate * value / (squares.sqrt() + LEAST_ROOT));
            }
            let steps = columns.iter().copied().zip(state.column_steps.iter().copied());
            for (walk, slopes) in slopes.chunks(WALK).enumerate() {
                let (weights, first) = (&mut state.sparse[..], walk * WALK);
                match slopes.len() {
                    1 => move_columns::<FUSED, 1>(
                        steps.clone(),
                        slopes,
                        weights,
                        hidden_blocks,
                        first,
                    ),
                    2 => move_columns::<FUSED, 2>(
                        steps.clone(),
                        slopes,
                        weights,
                        hidden_blocks,
                        first,
                    ),
                    3 => move_columns::<FUSED, 3>(
                        steps.clone(),
                        slopes,
                        weights,
                        hidden_blocks,
                        first,
                    ),
                    _ => {
                        move_columns::<FUSED, WALK>(
                            steps.clone(),
                            slopes,
                            weights,
                            hidden_blocks,
                            first,
                        );
                    }
                }
            }
        }
    }
}

/// Adds the products of a row's sparse part with `BLOCKS` neighbouring blocks to hidden units.
#[inline(always)]
fn add_sparse<const FUSED: bool, const BLOCKS: usize>(
    features: &FeatureRows<'_>,
    row: u32,
    weights: &[Lanes],
    stride: usize,
    first: usize,
    hidden: &mut [Lanes],
) {
    let sums = features.sparse_dot::<FUSED, BLOCKS>(row as usize, weights, stride, first);
    for (hidden, sum) in hidden.iter_mut().zip(sums) {
        *hidden = hidden.plus(sum);
    }
}

/// Adds each column's step times the slopes to `BLOCKS` neighbouring blocks of its weights. A
/// number of blocks known to the compiler keeps it from vectorising across blocks, with
/// gathers, where a block already is a vector: five times as fast a fit.
#[inline(always)]
fn move_columns<const FUSED: bool, const BLOCKS: usize>(
    steps: impl Iterator<Item = (u32, f32)>,
    slopes: &[Lanes],
    weights: &mut [Lanes],
    stride: usize,
    first: usize,
) {
    let slopes: [Lanes; BLOCKS] = std::array::from_fn(|block| slopes[block]);
    for (column, step) in steps {
        let weights = &mut weights[column as usize * stride + first..][..BLOCKS];
        for block in 0..BLOCKS {
            add_scaled::<FUSED>(&mut weights[block], step, &slopes[block]);
        }
    }
}

/// Replaces the scores of a row by the slopes of its loss: log-loss of the softmax against the
/// row's shares, or of every class's own sigmoid.
#[inline(always)]
fn score_slopes<const FUSED: bool>(problem: &Problem<'_>, row: usize, scores: &mut [Lanes]) {
    let classes = problem.class_count;
    let row_weight = problem.row_weights[row];
    // Lanes beyond the classes have no part in anything.
    let padding = |block: usize| LANES.min(classes - block * LANES);
    match problem.link {
        Link::Softmax => {
            let (right, shares) = problem.targets.row(row);
            let weight: f32 = (right.iter().zip(shares))
                .map(|(&class, share)| share * problem.class_weights[class as usize])
                .sum();
            let weight = weight * row_weight;
            let mut largest = f32::NEG_INFINITY;
            for (block, scores) in scores.iter().enumerate() {
                largest = scores.0[..padding(block)].iter().copied().fold(largest, f32::max);
            }
            let mut total = 0.0;
            for (block, scores) in scores.iter_mut().enumerate() {
                *scores = scores.map(|score| exp::<FUSED>(score - largest));
                scores.0[padding(block)..].fill(0.0);
                total += scores.sum();
            }
            let part = weight / total;
            scores.iter_mut().for_each(|scores| *scores = scores.scaled(part));
            for (&class, share) in right.iter().zip(shares) {
                scores[class as usize / LANES].0[class as usize % LANES] -= weight * share;
            }
        }
        Link::Sigmoid => {
            for (block, scores) in scores.iter_mut().enumerate() {
                *scores = scores.map(|score| {
                    let small = exp::<FUSED>(-score.abs());
                    let of_one = if score >= 0.0 { 1.0 } else { small };
                    row_weight * of_one / (1.0 + small)
                });
                scores.0[padding(block)..].fill(0.0);
            }
            for class in problem.targets.right(row) {
                let slope = &mut scores[class as usize / LANES].0[class as usize % LANES];
                *slope = (*slope - row_weight) * problem.class_weights[class as usize];
            }
        }
    }
}
