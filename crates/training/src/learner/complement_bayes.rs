//! Complement naive Bayes.
//!
//! Rennie, Shih, Teevan, Karger, ICML 2003: a class is described by the features of all other
//! classes, of which there are many rows also where the class has few. A feature's weight is
//! `−log θ`, `θ` its smoothed part in what the other classes' rows hold together; a text goes
//! to the class whose complement it fits least. scikit-learn's `ComplementNB`.
//!
//! Dense features may be negative and are no counts: they get no weight. Scores are
//! log-likelihoods whose size depends on how long rows are; a temperature calibrates them.

use corral_classifier::HeadError;
use serde::{Deserialize, Serialize};

use super::class_sums::{ClassSums, Summed};
use super::linear_head::build_head;
use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;

/// What is made of the weights of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BayesWeights {
    Plain,
    /// Divided by their sum, against the lean towards classes with features that depend on
    /// each other (section 3.2 of the paper), then all multiplied by one number so that their
    /// mean size stays.
    Normalised,
}

/// Fits all classes; `smoothing` is added to each count, and is above zero.
pub fn fit(
    problem: &Problem<'_>,
    smoothing: f32,
    weights: BayesWeights,
    budget: HeadBudget,
) -> Result<Fitted, HeadError> {
    let clock = ThreadCpuClock::start();
    let classes = problem.class_count;
    let sums = ClassSums::of(problem, Summed::Counts);
    let columns = sums.columns();
    let totals: Vec<f32> = (0..columns).map(|column| sums.column(column).iter().sum()).collect();
    // What the others of a class hold of a column; never below zero by rounding.
    let rest = |column: usize, class: usize| {
        (totals[column] - sums.column(column)[class]).max(0.0) + smoothing
    };
    let mut wholes = vec![0f64; classes];
    for column in 0..columns {
        for (class, whole) in wholes.iter_mut().enumerate() {
            *whole += f64::from(rest(column, class));
        }
    }
    let logs: Vec<f32> = wholes.iter().map(|whole| whole.ln() as f32).collect();
    let write = |column: usize, out: &mut Vec<f32>| {
        out.clear();
        if column >= columns {
            out.resize(classes, 0.0);
            return;
        }
        // Most classes have nothing of a column, and share its logarithm.
        let unseen = (totals[column] + smoothing).ln();
        out.extend(sums.column(column).iter().enumerate().map(|(class, &own)| {
            let log = if own == 0.0 { unseen } else { rest(column, class).ln() };
            logs[class] - log
        }));
    };
    let mut factors = vec![1.0f32; classes];
    if weights == BayesWeights::Normalised {
        let (mut sizes, mut buffer) = (vec![0f64; classes], Vec::with_capacity(classes));
        for column in 0..columns {
            write(column, &mut buffer);
            sizes.iter_mut().zip(&buffer).for_each(|(size, weight)| *size += f64::from(*weight));
        }
        let mean = sizes.iter().sum::<f64>() / classes as f64;
        for (factor, size) in factors.iter_mut().zip(sizes) {
            *factor = if size > 0.0 { (mean / size) as f32 } else { 1.0 };
        }
    }
    let column = |column: usize, out: &mut Vec<f32>| {
        write(column, out);
        out.iter_mut().zip(&factors).for_each(|(weight, factor)| *weight *= factor);
    };
    let bias = vec![0.0; classes];
    let head = build_head(problem.features.column_count(), bias, budget, column)?;
    Ok(Fitted { head: head.into(), cpu: clock.elapsed(), passes: 1 })
}
