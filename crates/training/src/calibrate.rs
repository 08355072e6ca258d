//! Fitting the map from scores to probabilities on out-of-fold scores.

use rayon::prelude::*;

use crate::rows::RowMeaning;
use crate::targets::Targets;

/// Rows by which a temperature is fitted, at most: it is one number.
const MAX_TEMPERATURE_ROWS: usize = 10_000;

/// The rows, evenly spread, by which a temperature is fitted.
pub fn temperature_rows(count: usize) -> Vec<u32> {
    let stride = count.div_ceil(MAX_TEMPERATURE_ROWS).max(1);
    (0..count as u32).step_by(stride).collect()
}

/// Rows summed by one task: sums of blocks are added in the order of the blocks, so that the
/// result does not depend on the number of threads.
const ROWS_PER_TASK: usize = 1024;
/// Newton steps of the temperature; each about doubles the digits, so that few are taken.
const MAX_TEMPERATURE_STEPS: usize = 60;
/// Halvings of the range, as a logarithm: to a millionth of the temperature.
const BISECTIONS: usize = 24;
/// Temperatures that can be meant: beyond, scores say nothing, or there are too few rows to tell.
const TEMPERATURE_RANGE: (f64, f64) = (1e-3, 1e3);

/// The temperature that scores are divided by so that their softmax has the least log-loss
/// (Guo, Pleiss, Sun, Weinberger, ICML 2017). Of an ambiguous row, the probability of all its
/// right classes together counts: any of them is a hit.
///
/// `scores[i]` are the scores of row `rows[i]` of `targets`, one a class; `weights[row]` counts
/// the row. The loss is convex in the temperature's inverse (nearly
/// so with ambiguous rows), which is found by Newton's method held within a bracket.
pub fn fit_temperature(scores: &[&[f32]], rows: &[u32], targets: &Targets, weights: &[f32]) -> f32 {
    let (mut low, mut high) = (TEMPERATURE_RANGE.1.recip(), TEMPERATURE_RANGE.0.recip());
    let mut inverse = 1.0f64;
    for _ in 0..MAX_TEMPERATURE_STEPS {
        let (slope, curvature) = derivatives(scores, rows, targets, weights, inverse);
        if slope == 0.0 {
            break;
        }
        // The root lies below where the loss rises.
        if slope > 0.0 {
            high = inverse
        } else {
            low = inverse
        }
        let newton = inverse - slope / curvature;
        let next = if curvature > 0.0 && newton > low && newton < high {
            newton
        } else {
            (low * high).sqrt()
        };
        let change = (next / inverse).ln().abs();
        inverse = next;
        if change < 1e-5 {
            break;
        }
    }
    inverse.recip() as f32
}

/// The temperature at which the mean probability of the likeliest class is `confidence`, found by
/// bisection: it falls as the temperature rises.
pub fn temperature_for_confidence(scores: &[&[f32]], confidence: f64) -> f32 {
    let (mut low, mut high) = TEMPERATURE_RANGE;
    for _ in 0..BISECTIONS {
        let middle = (low * high).sqrt();
        if mean_confidence(scores, middle) > confidence { low = middle } else { high = middle }
    }
    (low * high).sqrt() as f32
}

fn mean_confidence(scores: &[&[f32]], temperature: f64) -> f64 {
    let sums: Vec<f64> = scores
        .par_chunks(ROWS_PER_TASK)
        .map(|scores| {
            let largest = |scores: &&[f32]| {
                let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let raised = |score: &f32| (f64::from(score - highest) / temperature).exp();
                scores.iter().map(raised).sum::<f64>().recip()
            };
            scores.iter().map(largest).sum()
        })
        .collect();
    sums.into_iter().sum::<f64>() / scores.len().max(1) as f64
}

/// The first and second derivative of the summed log-loss by the inverse temperature.
fn derivatives(
    scores: &[&[f32]],
    rows: &[u32],
    targets: &Targets,
    weights: &[f32],
    inverse: f64,
) -> (f64, f64) {
    let parts: Vec<(f64, f64)> = scores
        .par_chunks(ROWS_PER_TASK)
        .zip(rows.par_chunks(ROWS_PER_TASK))
        .map(|(scores, rows)| {
            let mut sums = (0f64, 0f64);
            for (scores, &row) in scores.iter().zip(rows) {
                let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let (mut total, mut first, mut second) = (0f64, 0f64, 0f64);
                for &score in *scores {
                    let below = f64::from(score - highest);
                    let raised = (inverse * below).exp();
                    total += raised;
                    first += raised * below;
                    second += raised * below * below;
                }
                let mean = first / total;
                let (classes, shares) = targets.row(row as usize);
                let shares = match targets.meaning(row as usize) {
                    RowMeaning::AnyOf => None,
                    RowMeaning::Likely => Some(shares),
                };
                let (right, spread) = right_moments(scores, classes, shares, highest, inverse);
                let weight = f64::from(weights[row as usize]);
                sums.0 += weight * (mean - right);
                sums.1 += weight * (second / total - mean * mean - spread);
            }
            sums
        })
        .collect();
    parts.into_iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

/// The mean of the right classes' scores, below `highest`, and the spread to take off the
/// curvature: for an ambiguous row, under the model's own probabilities among them; for a
/// probabilistic label, under its shares.
fn right_moments(
    scores: &[f32],
    classes: &[u32],
    shares: Option<&[f32]>,
    highest: f32,
    inverse: f64,
) -> (f64, f64) {
    let below = |class: u32| f64::from(scores[class as usize] - highest);
    if let Some(shares) = shares {
        let mean = classes
            .iter()
            .zip(shares)
            .map(|(&class, &share)| f64::from(share) * below(class))
            .sum();
        return (mean, 0.0);
    }
    // From the best of them, so that the sum does not vanish where all lie far below.
    let best = classes.iter().map(|&class| below(class)).fold(f64::NEG_INFINITY, f64::max);
    let (mut total, mut first, mut second) = (0f64, 0f64, 0f64);
    for score in classes.iter().map(|&class| below(class)) {
        let raised = (inverse * (score - best)).exp();
        total += raised;
        first += raised * score;
        second += raised * score * score;
    }
    if total == 0.0 {
        return (0.0, 0.0);
    }
    let mean = first / total;
    (mean, second / total - mean * mean)
}

/// Slope and offset of a class's probability `1 / (1 + exp(−(slope · score + offset)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sigmoid {
    pub slope: f64,
    pub offset: f64,
}

/// Newton steps; the published algorithm allows as many.
const MAX_SIGMOID_STEPS: usize = 100;
/// A step along the Newton direction is halved down to this.
const LEAST_SIGMOID_STEP: f64 = 1e-10;
/// Added to the curvature so that it can be inverted.
const RIDGE: f64 = 1e-12;

/// Platt's probabilities for one class (Platt 1999, with the Newton method of Lin, Lin, Weng,
/// Machine Learning 2007): the least log-loss against targets drawn a little inward so that
/// separable scores get a finite slope.
///
/// Each item is a score, whether the row is an example of the class, and its weight.
pub fn fit_sigmoid(rows: &[(f32, bool, f32)]) -> Sigmoid {
    let weight_of = |wanted: bool| -> f64 {
        rows.iter().filter(|row| row.1 == wanted).map(|row| f64::from(row.2)).sum()
    };
    let (positive, negative) = (weight_of(true), weight_of(false));
    let (high, low) = ((positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0));
    let target = |is_positive: bool| if is_positive { high } else { low };
    let loss = |slope: f64, offset: f64| -> f64 {
        rows.iter()
            .map(|&(score, is_positive, weight)| {
                let logit = slope * f64::from(score) + offset;
                let cross =
                    logit.max(0.0) - target(is_positive) * logit + (-logit.abs()).exp().ln_1p();
                f64::from(weight) * cross
            })
            .sum()
    };
    let (mut slope, mut offset) = (0.0, ((positive + 1.0) / (negative + 1.0)).ln());
    let mut value = loss(slope, offset);
    for _ in 0..MAX_SIGMOID_STEPS {
        let (mut g1, mut g2) = (0f64, 0f64);
        let (mut h11, mut h12, mut h22) = (RIDGE, 0f64, RIDGE);
        for &(score, is_positive, weight) in rows {
            let (score, weight) = (f64::from(score), f64::from(weight));
            let probability = (1.0 + (-(slope * score + offset)).exp()).recip();
            let residual = weight * (probability - target(is_positive));
            let curvature = weight * probability * (1.0 - probability);
            g1 += residual * score;
            g2 += residual;
            h11 += curvature * score * score;
            h12 += curvature * score;
            h22 += curvature;
        }
        if g1.abs() < 1e-5 && g2.abs() < 1e-5 {
            break;
        }
        let determinant = h11 * h22 - h12 * h12;
        let (d1, d2) = (-(h22 * g1 - h12 * g2) / determinant, -(h11 * g2 - h12 * g1) / determinant);
        let descent = g1 * d1 + g2 * d2;
        let mut step = 1.0;
        while step >= LEAST_SIGMOID_STEP {
            let next = loss(slope + step * d1, offset + step * d2);
            if next < value + 1e-4 * step * descent {
                (slope, offset, value) = (slope + step * d1, offset + step * d2, next);
                break;
            }
            step /= 2.0;
        }
        if step < LEAST_SIGMOID_STEP {
            break;
        }
    }
    Sigmoid { slope, offset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_temperature_brings_confidence_to_what_is_asked() {
        for seed in 0..6 {
            let mut random = Random::new(seed, 4);
            let values: Vec<f32> = (0..3000).map(|_| 6.0 * random.unit() as f32).collect();
            let scores: Vec<&[f32]> = values.chunks_exact(5).collect();
            for asked in [0.3, 0.6, 0.95] {
                let temperature = temperature_for_confidence(&scores, asked);
                let found = mean_confidence(&scores, f64::from(temperature));
                assert!((found - asked).abs() < 1e-4, "{found} for {asked}, seed {seed}");
            }
        }
        // Scores that tell nothing apart have one confidence at any temperature.
        let temperature = temperature_for_confidence(&[&[1.0, 1.0]], 0.9);
        assert!(temperature.is_finite() && temperature > 0.0);
    }
}
