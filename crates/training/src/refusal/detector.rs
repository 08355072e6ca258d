//! Fitting a detector: a logistic regression over signals.

use crate::random::Random;

/// The weight of the squared weights against the summed loss of as many rows as there are
/// none-rows on each side: `C = 10` in other words. On CLINC150, 100 rows of no class fitted and
/// 100 others judged, it refuses 2 points more of these than 1 does.
const RIDGE: f64 = 0.1;
/// Newton steps; some eight are taken.
const MAX_STEPS: usize = 50;
/// Steps that move no weight further than this are the last.
const LEAST_MOVE: f64 = 1e-8;

/// A fitted detector, on signals as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    pub weights: Vec<f32>,
    pub bias: f32,
}

/// Fits a detector to rows of signals, those of no class against the others. Both sides count
/// the same, so that scores do not hang on how many rows of no class somebody gathered.
///
/// Signals are brought to a common scale first; ones that are the same on all rows get no
/// weight. `None` where a side has no rows.
pub fn fit(rows: &[(&[f32], bool)]) -> Option<Fitted> {
    let (first, _) = rows.first()?;
    let width = first.len();
    let none_rows = rows.iter().filter(|row| row.1).count();
    let others = rows.len() - none_rows;
    if none_rows == 0 || others == 0 {
        return None;
    }
    // As many on each side as there are rows of no class.
    let weight = |is_none: bool| if is_none { 1.0 } else { none_rows as f64 / others as f64 };
    let total = 2.0 * none_rows as f64;
    let mean_of = |of: &dyn Fn(&[f32]) -> f64| {
        rows.iter().map(|(signals, is_none)| weight(*is_none) * of(signals)).sum::<f64>() / total
    };
    let scales: Vec<(f64, f64)> = (0..width)
        .map(|signal| {
            let mean = mean_of(&|signals| f64::from(signals[signal]));
            let variance = mean_of(&|signals| (f64::from(signals[signal]) - mean).powi(2));
            (mean, if variance > 1e-12 { variance.sqrt().recip() } else { 0.0 })
        })
        .collect();
    let scaled: Vec<f64> = rows
        .iter()
        .flat_map(|(signals, _)| {
            let scaled = signals.iter().zip(&scales);
            scaled.map(|(&signal, (mean, factor))| (f64::from(signal) - mean) * factor)
        })
        .collect();
    let wanted: Vec<(f64, f64)> =
        rows.iter().map(|&(_, is_none)| (f64::from(u8::from(is_none)), weight(is_none))).collect();
    let at = newton(&scaled, &wanted, width);
    let weights: Vec<f64> =
        at.iter().zip(&scales).map(|(weight, (_, factor))| weight * factor).collect();
    let shift: f64 = weights.iter().zip(&scales).map(|(weight, (mean, _))| weight * mean).sum();
    Some(Fitted {
        weights: weights.iter().map(|&weight| weight as f32).collect(),
        bias: (at[width] - shift) as f32,
    })
}

/// The weights, and behind them the bias, with the least ridge loss.
fn newton(scaled: &[f64], wanted: &[(f64, f64)], width: usize) -> Vec<f64> {
    let size = width + 1;
    let mut at = vec![0f64; size];
    for _ in 0..MAX_STEPS {
        let mut slope: Vec<f64> = at[..width].iter().map(|weight| RIDGE * weight).collect();
        slope.push(0.0);
        let mut curvature = vec![0f64; size * size];
        for signal in 0..width {
            curvature[signal * size + signal] = RIDGE;
        }
        for (row, &(target, weight)) in scaled.chunks_exact(width).zip(wanted) {
            let with_one = || row.iter().copied().chain([1.0]);
            let sum: f64 = with_one().zip(&at).map(|(signal, weight)| signal * weight).sum();
            let chance = (1.0 + (-sum).exp()).recip();
            let (missed, spread) = (weight * (chance - target), weight * chance * (1.0 - chance));
            for (i, a) in with_one().enumerate() {
                slope[i] += missed * a;
                let line = &mut curvature[i * size..(i + 1) * size];
                line.iter_mut().zip(with_one()).for_each(|(sum, b)| *sum += spread * a * b);
            }
        }
        let Some(step) = solve(curvature, slope) else { break };
        let largest = step.iter().fold(0f64, |largest, part| largest.max(part.abs()));
        // Newton's step may be long where chances are all but certain; the ridge keeps the way
        // back, a bound keeps it short.
        let factor = if largest > MOST_MOVE { MOST_MOVE / largest } else { 1.0 };
        at.iter_mut().zip(&step).for_each(|(weight, part)| *weight -= factor * part);
        if largest < LEAST_MOVE {
            break;
        }
    }
    at
}

/// The longest step along one weight, in standard deviations of its signal.
const MOST_MOVE: f64 = 2.0;

/// Solves a symmetric positive definite system by elimination; `None` where it is not.
fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for pivot in 0..size {
        let own = matrix[pivot * size + pivot];
        if !(own.is_finite() && own > 1e-300) {
            return None;
        }
        for line in pivot + 1..size {
            let factor = matrix[line * size + pivot] / own;
            for column in pivot..size {
                matrix[line * size + column] -= factor * matrix[pivot * size + column];
            }
            right[line] -= factor * right[pivot];
        }
    }
    for line in (0..size).rev() {
        let known: f64 = (line + 1..size).map(|at| matrix[line * size + at] * right[at]).sum();
        right[line] = (right[line] - known) / matrix[line * size + line];
    }
    Some(right)
}

/// Deals rows to parts at random, each side by itself.
pub fn deal(sides: &[bool], parts: usize, seed: u64) -> Vec<usize> {
    let mut part_of = vec![0; sides.len()];
    for side in [false, true] {
        let mut rows: Vec<usize> = (0..sides.len()).filter(|&row| sides[row] == side).collect();
        Random::new(seed, DEAL_STREAM + u64::from(side)).shuffle(&mut rows);
        for (at, row) in rows.into_iter().enumerate() {
            part_of[row] = at % parts;
        }
    }
    part_of
}

/// Names the deal among the streams of a seed.
const DEAL_STREAM: u64 = 0x7265_6675_7365_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_scikit_learn() {
        // LogisticRegression(C=10, class_weight=…) on the standardised columns, both sides
        // weighted to the number of rows of no class: see tests/golden/detector.py.
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/detector.json")).unwrap();
        let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
        let list = |value: &serde_json::Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(number).collect()
        };
        let signals: Vec<Vec<f32>> =
            golden["signals"].as_array().unwrap().iter().map(list).collect();
        let is_none = golden["is_none"].as_array().unwrap();
        let rows: Vec<(&[f32], bool)> = signals
            .iter()
            .zip(is_none)
            .map(|(signals, is_none)| (signals.as_slice(), is_none.as_bool().unwrap()))
            .collect();
        let found = fit(&rows).unwrap();
        for (found, wanted) in found.weights.iter().zip(list(&golden["weights"])) {
            assert!((found - wanted).abs() < 2e-4 * wanted.abs().max(1.0), "{found} {wanted}");
        }
        assert!((found.bias - number(&golden["bias"])).abs() < 2e-4);
        assert_eq!(found.weights[3], 0.0, "a signal that never changes");
    }

    #[test]
    fn a_side_without_rows_cannot_be_told() {
        assert_eq!(fit(&[]), None);
        assert_eq!(fit(&[(&[1.0], true)]), None);
        assert_eq!(fit(&[(&[1.0], false), (&[2.0], false)]), None);
    }

    #[test]
    fn sides_that_are_wholly_apart_stay_finite() {
        let rows: Vec<([f32; 1], bool)> = (0..40)
            .map(|row| ([row as f32 + if row < 20 { 0.0 } else { 1e4 }], row >= 20))
            .collect();
        let rows: Vec<(&[f32], bool)> = rows.iter().map(|row| (row.0.as_slice(), row.1)).collect();
        let found = fit(&rows).unwrap();
        assert!(found.weights[0] > 0.0 && found.bias.is_finite());
    }

    #[test]
    fn parts_hold_their_share_of_both_sides() {
        let sides: Vec<bool> = (0..103).map(|row| row % 7 == 0).collect();
        let parts = deal(&sides, 5, 3);
        for side in [false, true] {
            let mut counts = [0; 5];
            (0..103).filter(|&row| sides[row] == side).for_each(|row| counts[parts[row]] += 1);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }
    }
}
