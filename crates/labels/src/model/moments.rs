//! The moment-based generative model (MeTaL's): how likely each vote is on rows of each class,
//! such that what functions would vote together is what they do vote together.
//!
//! With `O` the co-occurrences as shares of rows, `μ` the likelihoods and `P` the prior, it
//! lessens `|O − μ P μᵀ|²` over items of different functions and `|Σ μ P − diag O|²`, by steps
//! down the gradient. Pairs that never occur together are not visited: what they add is
//! worked out for all items at once from `μᵀ μ`.

use rayon::prelude::*;

use super::{Evidence, FitOptions, LabelModel, Method};

/// Steps end when no likelihood moves by more.
const SETTLED: f32 = 1e-7;

/// Items that one thread works on at once.
const ITEMS_A_LOT: usize = 64;

pub fn fit(evidence: &Evidence<'_>, prior: &[f64], options: &FitOptions) -> LabelModel {
    let problem = Problem::of(evidence, prior);
    let likelihoods = problem.solve(options);
    let classes = prior.len();
    let base = prior.iter().map(|prior| prior.ln() as f32).collect();
    let mut model = LabelModel::new(Method::Moments, base, evidence.table.items());
    for (weight, likelihood) in model.weights.iter_mut().zip(&likelihoods) {
        *weight = likelihood.ln();
    }
    // A vote that never occurred says nothing.
    for item in (0..evidence.table.items()).filter(|&item| evidence.counts.item_rows[item] == 0) {
        model.weights[item * classes..][..classes].fill(0.0);
    }
    model
}

struct Problem {
    classes: usize,
    prior: Vec<f32>,
    /// By item: its share of the rows.
    rates: Vec<f32>,
    /// By item: the items of its voter.
    siblings: Vec<(u32, u32)>,
    /// By item, end to end: items of other voters that it occurs with, and the share of rows.
    ends: Vec<u32>,
    partners: Vec<(u32, f32)>,
    start: Vec<f32>,
    least: f32,
}

impl Problem {
    fn of(evidence: &Evidence<'_>, prior: &[f64]) -> Self {
        let (table, counts) = (evidence.table, &evidence.counts);
        let (items, classes) = (table.items(), prior.len());
        let rows = counts.rows.max(1) as f64;
        let pairs = counts.pairs.pairs();
        let mut ends = vec![0u32; items];
        for &(low, high, _) in &pairs {
            ends[low as usize] += 1;
            ends[high as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            let count = *end;
            *end = sum;
            sum += count;
        }
        let mut partners = vec![(0, 0.0); sum as usize];
        for (low, high, both) in pairs {
            let share = (both as f64 / rows) as f32;
            for (item, partner) in [(low, high), (high, low)] {
                partners[ends[item as usize] as usize] = (partner, share);
                ends[item as usize] += 1;
            }
        }
        let siblings = table.voters().iter().enumerate().flat_map(|(voter, shape)| {
            let range = (table.item(voter, 0) as u32, table.item(voter, shape.votes.len()) as u32);
            vec![range; shape.votes.len()]
        });
        let mut start = vec![0.0; items * classes];
        for (item, vote) in evidence.votes().into_iter().enumerate() {
            let rate = counts.item_rows[item] as f64 / rows;
            let allowed: f64 =
                (0..classes).filter(|&c| vote.allows(c as u32)).map(|c| prior[c]).sum();
            for class in (0..classes).filter(|&class| vote.allows(class as u32)) {
                start[item * classes + class] = (rate / allowed.max(1e-9)) as f32;
            }
        }
        Self {
            classes,
            prior: prior.iter().map(|prior| *prior as f32).collect(),
            rates: counts.item_rows.iter().map(|count| (*count as f64 / rows) as f32).collect(),
            siblings: siblings.collect(),
            ends,
            partners,
            start,
            least: 0.01f64.min(10f64.powf(-rows.log10().ceil())) as f32,
        }
    }

    fn solve(&self, options: &FitOptions) -> Vec<f32> {
        let classes = self.classes;
        let scale = options.start_scale as f32;
        let precision = options.start_precision as f32;
        let mut likelihoods: Vec<f32> =
            self.start.iter().map(|start| (start * precision).clamp(0.0, 1.0) * scale).collect();
        let mut speed = vec![0.0f32; likelihoods.len()];
        let mut gradient = vec![0.0f32; likelihoods.len()];
        for _ in 0..options.epochs {
            let products = self.products(&likelihoods);
            gradient.par_chunks_mut(classes * ITEMS_A_LOT).enumerate().for_each(
                |(lot, gradient)| {
                    for (at, gradient) in gradient.chunks_mut(classes).enumerate() {
                        self.gradient(lot * ITEMS_A_LOT + at, &likelihoods, &products, gradient);
                    }
                },
            );
            let (rate, momentum) = (options.learning_rate as f32, options.momentum as f32);
            let mut moved = 0.0f32;
            for ((value, speed), gradient) in likelihoods.iter_mut().zip(&mut speed).zip(&gradient)
            {
                *speed = momentum * *speed + gradient;
                *value -= rate * *speed;
                moved = moved.max((rate * *speed).abs());
            }
            if moved < SETTLED {
                break;
            }
        }
        likelihoods.iter_mut().for_each(|value| *value = value.clamp(self.least, 1.0 - self.least));
        likelihoods
    }

    /// `μᵀ μ`: by class and class, sums over all items.
    fn products(&self, likelihoods: &[f32]) -> Vec<f32> {
        let classes = self.classes;
        let of_lot = |lot: &[f32]| {
            let mut sums = vec![0.0f32; classes * classes];
            for values in lot.chunks(classes) {
                for (one, sums) in values.iter().zip(sums.chunks_mut(classes)) {
                    if *one != 0.0 {
                        sums.iter_mut().zip(values).for_each(|(sum, other)| *sum += one * other);
                    }
                }
            }
            sums
        };
        // Summed in the order of the lots, so that threads do not change the answer.
        let lots: Vec<Vec<f32>> =
            likelihoods.par_chunks(classes * ITEMS_A_LOT * 16).map(of_lot).collect();
        let mut total = vec![0.0; classes * classes];
        for lot in lots {
            total.iter_mut().zip(lot).for_each(|(total, sum)| *total += sum);
        }
        total
    }

    fn gradient(&self, item: usize, likelihoods: &[f32], products: &[f32], gradient: &mut [f32]) {
        let classes = self.classes;
        let of = |item: usize| &likelihoods[item * classes..(item + 1) * classes];
        let own = of(item);
        let weighed: Vec<f32> = own.iter().zip(&self.prior).map(|(m, p)| m * p).collect();
        // What all items would vote with this one, as if none were of the same voter …
        gradient.fill(0.0);
        for (weighed, products) in weighed.iter().zip(products.chunks(classes)) {
            gradient.iter_mut().zip(products).for_each(|(sum, product)| *sum += weighed * product);
        }
        // … less those that are …
        let (first, end) = self.siblings[item];
        for sibling in first as usize..end as usize {
            let theirs = of(sibling);
            let together: f32 = weighed.iter().zip(theirs).map(|(w, m)| w * m).sum();
            gradient.iter_mut().zip(theirs).for_each(|(sum, m)| *sum -= together * m);
        }
        // … and less what they did vote.
        let start = if item == 0 { 0 } else { self.ends[item - 1] as usize };
        for &(partner, share) in &self.partners[start..self.ends[item] as usize] {
            let theirs = of(partner as usize);
            gradient.iter_mut().zip(theirs).for_each(|(sum, m)| *sum -= share * m);
        }
        let excess = weighed.iter().sum::<f32>() - self.rates[item];
        for (gradient, prior) in gradient.iter_mut().zip(&self.prior) {
            *gradient = prior * (4.0 * *gradient + 2.0 * excess);
        }
    }
}
