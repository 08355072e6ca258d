//! Votes weighed by one number a function: how often it is right where it votes.
//!
//! Found by expectation maximisation on patterns, from what functions are taken for at the
//! start. With so few numbers it cannot fit what is not there, and so seldom does worse than
//! most votes.

use super::{Evidence, FitOptions, LEAST_PROBABILITY, LabelModel, Method, balance_of_votes};

/// Votes that a function is taken to have given already, at the start's precision: until it has
/// as many others to agree with, it counts about as a fresh one.
const PRIOR_VOTES: f64 = 10.0;

/// Rounds end when no precision moves by more.
const SETTLED: f64 = 1e-4;

pub fn fit(evidence: &Evidence<'_>, prior: &[f64], options: &FitOptions) -> LabelModel {
    let table = evidence.table;
    let owner = table.voters_of_items();
    let votes = evidence.votes();
    let mut precision = vec![options.start_precision; table.voters().len()];
    let wanted = if options.prior.is_some() { prior.to_vec() } else { balance_of_votes(evidence) };
    let mut model = model_of(evidence, prior, &precision);
    model.rebalance(evidence, &wanted);
    let mut probabilities = vec![0.0; prior.len()];
    for _ in 0..options.rounds {
        let mut right: Vec<f64> = vec![PRIOR_VOTES * options.start_precision; precision.len()];
        let mut voted = vec![PRIOR_VOTES; precision.len()];
        for (items, rows) in evidence.patterns.iter() {
            // A row with one vote says nothing of how right it is.
            if items.len() < 2 {
                continue;
            }
            for (at, &item) in items.iter().enumerate() {
                model.posterior_without(items, at, &mut probabilities);
                let vote = votes[item as usize];
                let allowed = vote.allowed(prior.len()) as f64;
                let by_others: f64 = probabilities
                    .iter()
                    .enumerate()
                    .filter(|(class, _)| vote.allows(*class as u32))
                    .map(|(_, probability)| f64::from(*probability))
                    .sum();
                // What the others say, then the function's own word for it.
                let own = precision[owner[item as usize] as usize];
                let odds = own / (1.0 - own) * (prior.len() as f64 - allowed) / allowed;
                let given = by_others * odds / (by_others * odds + 1.0 - by_others).max(1e-12);
                let voter = owner[item as usize] as usize;
                right[voter] += f64::from(rows) * given;
                voted[voter] += f64::from(rows);
            }
        }
        let mut moved = 0.0f64;
        for ((precision, right), voted) in precision.iter_mut().zip(right).zip(voted) {
            let found = (right / voted).clamp(0.01, 0.99);
            moved = moved.max((found - *precision).abs());
            *precision = found;
        }
        model = model_of(evidence, prior, &precision);
        model.rebalance(evidence, &wanted);
        if moved < SETTLED {
            break;
        }
    }
    model
}

/// The model in which each function is right so often.
pub(super) fn model_of(evidence: &Evidence<'_>, prior: &[f64], precision: &[f64]) -> LabelModel {
    let classes = prior.len();
    let base = prior.iter().map(|prior| prior.ln() as f32).collect();
    let mut model = LabelModel::new(Method::Weighted, base, evidence.table.items());
    let owner = evidence.table.voters_of_items();
    for (item, vote) in evidence.votes().into_iter().enumerate() {
        let allowed = vote.allowed(classes);
        if allowed == 0 || allowed == classes {
            continue;
        }
        let right =
            precision[owner[item] as usize].clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY);
        let (yes, no) = (right / allowed as f64, (1.0 - right) / (classes - allowed) as f64);
        let weight = (yes / no).ln() as f32;
        for class in 0..classes {
            if vote.allows(class as u32) {
                model.weights[item * classes + class] = weight;
            }
        }
    }
    model
}
