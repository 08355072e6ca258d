//! Nearest centroid by cosine.
//!
//! Rocchio's formula as a classifier (Joachims, ICML 1997): a class points to the mean of its
//! rows, less a part of the mean of all other rows. The score is the product with the
//! direction of length one, which is the cosine times the row's own length. Scores lie close
//! together; a temperature calibrates them.

use corral_classifier::HeadError;

use super::class_sums::{ClassSums, Summed};
use super::linear_head::build_head;
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;

/// Fits all classes. `contrast` is the part of the mean of other classes' rows that is taken
/// away.
pub fn fit(problem: &Problem<'_>, contrast: f32, budget: HeadBudget) -> Result<Fitted, HeadError> {
    let clock = ThreadCpuClock::start();
    let sums = ClassSums::of(problem, Summed::All);
    let whole: f64 = sums.weights.iter().sum();
    let inverse = |weight: f64| if weight > 0.0 { (1.0 / weight) as f32 } else { 0.0 };
    let own: Vec<f32> = sums.weights.iter().map(|&weight| inverse(weight)).collect();
    let rest: Vec<f32> =
        sums.weights.iter().map(|&weight| contrast * inverse(whole - weight)).collect();
    let direction = |column: usize, out: &mut Vec<f32>| {
        let sums = sums.column(column);
        let total: f32 = sums.iter().sum();
        out.clear();
        out.extend(
            sums.iter()
                .zip(own.iter().zip(&rest))
                .map(|(sum, (own, rest))| sum * own - (total - sum) * rest),
        );
    };
    let mut lengths = vec![0f64; problem.class_count];
    let mut buffer = Vec::with_capacity(problem.class_count);
    for column in 0..sums.columns() {
        direction(column, &mut buffer);
        for (length, &value) in lengths.iter_mut().zip(&buffer) {
            *length += f64::from(value).powi(2);
        }
    }
    let factors: Vec<f32> = lengths.iter().map(|length| inverse(length.sqrt())).collect();
    let column = |column: usize, out: &mut Vec<f32>| {
        direction(column, out);
        out.iter_mut().zip(&factors).for_each(|(weight, factor)| *weight *= factor);
    };
    let bias = vec![0.0; problem.class_count];
    let head = build_head(sums.columns(), bias, budget, column)?;
    Ok(Fitted { head: head.into(), cpu: clock.elapsed(), passes: 1 })
}
