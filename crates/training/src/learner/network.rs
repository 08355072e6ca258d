//! Networks of two layers by stochastic gradients.
//!
//! Rows are visited in random order in batches. Weights of layers that every row touches move
//! by Adam (Kingma, Ba, ICLR 2015) with decoupled decay (Loshchilov, Hutter, ICLR 2019). Those
//! of a sparse column move only when a row has it, by a step divided by the root of the column's summed squared
//! gradients (AdaGrad: Duchi, Hazan, Singer, JMLR 2011, with one sum a column): rare n-grams
//! learn as much from a visit as frequent ones from many, and a column needs no memory of its
//! own moments. The rate falls linearly to zero.
//!
//! One thread, and every sum in a fixed order: the same bytes wherever it runs.

mod step;

use corral_classifier::head::Activation;
use corral_classifier::{HeadError, NetworkHead};

use self::step::Batch;
use super::lanes::{LANES, Lanes, dispatch};
use super::linear_head::build_head;
use super::rows::{FeatureRows, blocks_for};
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;
use crate::random::Random;

/// How a network is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkSettings {
    /// Hidden units; rounded up to a multiple of sixteen.
    pub width: usize,
    pub activation: Activation,
    /// Visits of every row.
    pub passes: usize,
    /// How far a weight moves at first.
    pub rate: f32,
    /// The part by which weights shrink, for each unit of rate.
    pub decay: f32,
    /// The part of hidden units that a visit leaves out.
    pub dropout: f32,
}

/// Hidden units at most: beyond, linear learners are as good.
pub const MAX_WIDTH: usize = 512;
/// Rows between two steps.
const BATCH_ROWS: usize = 32;
/// Adam's means forget by these parts.
const FIRST_MOMENT: f32 = 0.9;
const SECOND_MOMENT: f32 = 0.999;
/// Keeps a step finite where there is no gradient.
const LEAST_ROOT: f32 = 1e-8;
/// The usual size of a dense column's first weights: hidden units of rows of norm 1 begin near
/// it.
const DENSE_SPREAD: f32 = 0.5;
/// The same of a sparse column: so small that columns which training never saw, most of a
/// new text's, leave the hidden units alone.
const SPARSE_SPREAD: f32 = 0.02;

/// Fits a network; `Ok(None)` when it was stopped.
pub fn fit(
    problem: &Problem<'_>,
    settings: &NetworkSettings,
    budget: HeadBudget,
) -> Result<Option<Fitted>, HeadError> {
    let clock = ThreadCpuClock::start();
    let mut state = State::new(&problem.features, settings, problem.class_count, problem.seed);
    let mut random = Random::new(problem.seed, 0x6e65_7477_6f72_6b20);
    let mut order = problem.rows.to_vec();
    let batches = order.len().div_ceil(BATCH_ROWS).max(1);
    let steps = (settings.passes * batches) as f32;
    for pass in 0..settings.passes {
        if (problem.stop)() {
            return Ok(None);
        }
        random.shuffle(&mut order);
        for (index, rows) in order.chunks(BATCH_ROWS).enumerate() {
            let done = (pass * batches + index) as f32;
            let rate = settings.rate * (1.0 - done / steps);
            dispatch(Batch {
                state: &mut state,
                problem,
                settings,
                rows,
                rate,
                random: &mut random,
            });
        }
    }
    let head = state.into_head(settings.activation, problem.class_count, budget)?;
    Ok(Some(Fitted { head: head.into(), cpu: clock.elapsed(), passes: settings.passes }))
}

/// The memory that a fit holds beside the features, in bytes.
pub fn memory_bytes(columns: usize, classes: usize, width: usize) -> usize {
    let hidden = blocks_for(width.min(MAX_WIDTH));
    let line = size_of::<Lanes>();
    // Weights and a sum a column. Those that every row touches have gradients and two moments:
    // all of the second layer, and columns of an embedding.
    columns * (hidden * line + size_of::<f32>())
        + 3 * columns.min(DENSE_COLUMNS) * hidden * line
        + 4 * hidden * LANES * blocks_for(classes) * line
}

/// Columns of an embedding at most, to estimate by.
const DENSE_COLUMNS: usize = 8192;

/// Weights of a layer that every row touches.
struct Dense {
    weights: Vec<Lanes>,
    gradients: Vec<Lanes>,
    first: Vec<Lanes>,
    second: Vec<Lanes>,
}

struct State {
    hidden_blocks: usize,
    class_blocks: usize,
    sparse_columns: usize,
    dense_columns: usize,
    /// `sparse[column * hidden_blocks + block]`, and each column's summed squared gradients.
    sparse: Vec<Lanes>,
    squares: Vec<f32>,
    /// Of the dense columns, then the bias: `[column * hidden_blocks + block]`.
    input: Dense,
    /// Of the hidden units, then the bias: `[unit * class_blocks + block]`.
    output: Dense,
    steps: i32,
    /// Of the rows of a batch: dense features with a one for the bias, hidden units with a
    /// one for the bias, scores, and the loss's slopes by scores and by hidden units.
    features: Vec<f32>,
    hidden: Vec<Lanes>,
    units: Vec<f32>,
    scores: Vec<Lanes>,
    slopes: Vec<Lanes>,
    /// How far a row moves each of its columns.
    column_steps: Vec<f32>,
}

impl Dense {
    fn new(weights: Vec<Lanes>) -> Self {
        let zeros = || vec![Lanes::ZERO; weights.len()];
        Self { gradients: zeros(), first: zeros(), second: zeros(), weights }
    }

    /// Moves the weights against their gradients, which become zeros.
    #[inline(always)]
    fn step(&mut self, steps: i32, rate: f32, decay: f32) {
        let first_part = 1.0 / (1.0 - FIRST_MOMENT.powi(steps));
        let second_part = 1.0 / (1.0 - SECOND_MOMENT.powi(steps));
        let kept = 1.0 - rate * decay;
        let Self { weights, gradients, first, second } = self;
        for (((weight, gradient), first), second) in
            weights.iter_mut().zip(gradients).zip(first).zip(second)
        {
            for lane in 0..LANES {
                let slope = gradient.0[lane];
                let mean = FIRST_MOMENT * first.0[lane] + (1.0 - FIRST_MOMENT) * slope;
                let square = SECOND_MOMENT * second.0[lane] + (1.0 - SECOND_MOMENT) * slope * slope;
                first.0[lane] = mean;
                second.0[lane] = square;
                let root = (square * second_part).sqrt() + LEAST_ROOT;
                weight.0[lane] = kept * weight.0[lane] - rate * (mean * first_part) / root;
            }
            *gradient = Lanes::ZERO;
        }
    }
}

impl State {
    fn new(
        features: &FeatureRows<'_>,
        settings: &NetworkSettings,
        classes: usize,
        seed: u64,
    ) -> Self {
        let hidden_blocks = blocks_for(settings.width.clamp(1, MAX_WIDTH));
        let class_blocks = blocks_for(classes);
        let width = hidden_blocks * LANES;
        let (sparse_columns, dense_columns) = (features.sparse_columns(), features.dense_columns());
        let mut random = Random::new(seed, 0x6265_6769_6e20_6e65);
        // Even between the bounds that give the wanted spread.
        let mut numbers = |count: usize, spread: f32| -> Vec<Lanes> {
            let mut number = || {
                ((random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * spread * 3f32.sqrt()
            };
            (0..count).map(|_| Lanes(std::array::from_fn(|_| number()))).collect()
        };
        let sparse = numbers(sparse_columns * hidden_blocks, SPARSE_SPREAD);
        let mut input = numbers(dense_columns * hidden_blocks, DENSE_SPREAD);
        input.resize((dense_columns + 1) * hidden_blocks, Lanes::ZERO);
        let mut output = numbers(width * class_blocks, (width as f32).sqrt().recip());
        output.resize((width + 1) * class_blocks, Lanes::ZERO);
        Self {
            hidden_blocks,
            class_blocks,
            sparse_columns,
            dense_columns,
            sparse,
            squares: vec![0.0; sparse_columns],
            input: Dense::new(input),
            output: Dense::new(output),
            steps: 0,
            features: Vec::new(),
            hidden: Vec::new(),
            units: Vec::new(),
            scores: Vec::new(),
            slopes: Vec::new(),
            column_steps: Vec::new(),
        }
    }

    fn into_head(
        self,
        activation: Activation,
        classes: usize,
        budget: HeadBudget,
    ) -> Result<NetworkHead<'static>, HeadError> {
        let width = self.hidden_blocks * LANES;
        let column = |weights: &[Lanes], blocks: usize, column: usize, out: &mut Vec<f32>| {
            out.clear();
            out.extend(weights[column * blocks..][..blocks].iter().flat_map(|lanes| lanes.0));
        };
        let bias = |weights: &[Lanes], blocks: usize, count: usize| -> Vec<f32> {
            let last = &weights[weights.len() - blocks..];
            last.iter().flat_map(|lanes| lanes.0).take(count).collect()
        };
        let (inputs, outputs) = (&self.input.weights, &self.output.weights);
        let output = build_head(
            width,
            bias(outputs, self.class_blocks, classes),
            HeadBudget { bytes: budget.bytes / 2 },
            |unit, out| {
                column(outputs, self.class_blocks, unit, out);
                out.truncate(classes);
            },
        )?;
        let room = budget.bytes.saturating_sub(output.memory_bytes());
        let hidden = build_head(
            self.sparse_columns + self.dense_columns,
            bias(inputs, self.hidden_blocks, width),
            HeadBudget { bytes: room },
            |index, out| match index.checked_sub(self.sparse_columns) {
                None => column(&self.sparse, self.hidden_blocks, index, out),
                Some(dense) => column(inputs, self.hidden_blocks, dense, out),
            },
        )?;
        NetworkHead::new(hidden, activation, output)
    }
}
