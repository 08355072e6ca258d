//! Dawid and Skene's model with abstentions: how often a function gives each of its votes, or
//! none, on rows of each class.
//!
//! Each function's table is pulled towards one that abstains alike on every class and errs alike
//! on every wrong one, and the classes are held to the balance that most votes give. Without that, functions that seldom vote make the model call nearly all
//! rows one class.

use super::{
    Evidence, FitOptions, LEAST_PROBABILITY, LabelModel, Method, balance_of_votes, weighted,
};

/// How many rows of each class the pull counts as.
const PRIOR_ROWS: f64 = 20.0;

/// Rounds end when the likelihood of a row grows by less.
const SETTLED: f64 = 1e-6;

pub fn fit(evidence: &Evidence<'_>, prior: &[f64], options: &FitOptions) -> LabelModel {
    let (table, classes) = (evidence.table, prior.len());
    let items = table.items();
    let anchor = anchor(evidence, options);
    let covered = evidence.patterns.rows() as f64;
    // Rows without a vote are evidence too, weighed as the patterns are.
    let scale = covered / evidence.counts.covered.max(1) as f64;
    let uncovered = (evidence.counts.rows - evidence.counts.covered) as f64 * scale;

    let wanted = if options.prior.is_some() { prior.to_vec() } else { balance_of_votes(evidence) };
    let start = weighted::fit(evidence, prior, options);
    let mut probabilities = vec![0.0f32; classes];
    let mut model = LabelModel::new(Method::DawidSkene, start.base.clone(), items);
    let mut last = f64::NEG_INFINITY;
    for round in 0..options.rounds {
        let by = if round == 0 { &start } else { &model };
        let mut sums = vec![0.0f64; items * classes];
        let mut totals = vec![0.0f64; classes];
        let mut likelihood = 0.0;
        for (pattern, rows) in evidence.patterns.iter() {
            likelihood += f64::from(rows) * by.evidence_of(pattern, &mut probabilities);
            for (class, probability) in probabilities.iter().enumerate() {
                let share = f64::from(rows) * f64::from(*probability);
                totals[class] += share;
            }
            for &item in pattern {
                let sums = &mut sums[item as usize * classes..][..classes];
                for (sum, probability) in sums.iter_mut().zip(&probabilities) {
                    *sum += f64::from(rows) * f64::from(*probability);
                }
            }
        }
        if uncovered > 0.0 {
            // At first nothing is known of when functions abstain.
            likelihood += uncovered * by.evidence_of(&[], &mut probabilities);
            for (total, probability) in totals.iter_mut().zip(&probabilities) {
                *total += uncovered * f64::from(*probability);
            }
        }
        let given = options.prior.is_some().then_some(prior);
        model = maximised(evidence, &sums, &totals, &anchor, given);
        model.rebalance(evidence, &wanted);
        let mean = likelihood / (covered + uncovered).max(1.0);
        if round > 1 && mean - last < SETTLED {
            break;
        }
        last = mean;
    }
    model
}

/// By item and class, how often the vote is given on a row of the class by a function that
/// abstains alike on every class.
fn anchor(evidence: &Evidence<'_>, options: &FitOptions) -> Vec<f64> {
    let (table, classes) = (evidence.table, evidence.table.classes());
    let rows = evidence.counts.rows.max(1) as f64;
    let right = options.start_precision;
    let mut anchor = Vec::with_capacity(table.items() * classes);
    for (item, vote) in evidence.votes().into_iter().enumerate() {
        let rate = evidence.counts.item_rows[item] as f64 / rows;
        let allowed = vote.allowed(classes).clamp(1, classes) as f64;
        let others = (classes as f64 - allowed).max(1.0);
        for class in 0..classes {
            let share = match vote.allows(class as u32) {
                true => right * classes as f64 / allowed,
                false => (1.0 - right) * classes as f64 / others,
            };
            anchor.push((rate * share).min(0.9));
        }
    }
    anchor
}

/// The model under which what was summed up is most likely.
fn maximised(
    evidence: &Evidence<'_>,
    sums: &[f64],
    totals: &[f64],
    anchor: &[f64],
    given: Option<&[f64]>,
) -> LabelModel {
    let (table, classes) = (evidence.table, totals.len());
    let all: f64 = totals.iter().sum();
    let prior = |class: usize| match given {
        Some(prior) => prior[class],
        // A row more of each class: none is ruled out.
        None => (totals[class] + 1.0) / (all + classes as f64),
    };
    let base: Vec<f64> = (0..classes).map(|class| prior(class).ln()).collect();
    let mut model = LabelModel::new(Method::DawidSkene, vec![0.0; classes], table.items());
    let mut base_sum = base;
    for (voter, shape) in table.voters().iter().enumerate() {
        let items = table.item(voter, 0)..table.item(voter, shape.votes.len());
        for class in 0..classes {
            let rows = totals[class] + PRIOR_ROWS;
            let rate = |item: usize| {
                let at = item * classes + class;
                ((sums[at] + PRIOR_ROWS * anchor[at]) / rows).max(LEAST_PROBABILITY / rows.max(1.0))
            };
            let voted: f64 = items.clone().map(rate).sum();
            let abstained = (1.0 - voted).max(LEAST_PROBABILITY).ln();
            base_sum[class] += abstained;
            for item in items.clone() {
                model.weights[item * classes + class] = (rate(item).ln() - abstained) as f32;
            }
        }
    }
    // Only differences count, and sums over a thousand functions are large.
    let most = base_sum.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    model.base = base_sum.iter().map(|sum| (sum - most) as f32).collect();
    model
}

impl LabelModel {
    /// Writes the posterior and gives the logarithm of what it was divided by.
    fn evidence_of(&self, items: &[u32], probabilities: &mut [f32]) -> f64 {
        probabilities.copy_from_slice(&self.base);
        for &item in items {
            for (sum, weight) in probabilities.iter_mut().zip(self.weights(item as usize)) {
                *sum += weight;
            }
        }
        let most = probabilities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for score in probabilities.iter_mut() {
            *score = (*score - most).exp();
            sum += *score;
        }
        probabilities.iter_mut().for_each(|score| *score /= sum);
        f64::from(most) + f64::from(sum).ln()
    }
}
