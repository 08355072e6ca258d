//! Accuracies in closed form (FlyingSquid's): of three functions that err independently, how
//! often each two agree says how accurate each is.
//!
//! Class by class against all others: with `m(i, j)` the mean product of the signs of two
//! functions where both vote, the accuracy of `i` is `√|m(i, j) m(i, k) / m(j, k)|`. A function
//! has that from many pairs of partners, and the median is taken.

use std::collections::HashMap;

use super::{Evidence, LabelModel, Method};
use crate::vote::Vote;

/// Partners of a function that triplets are made with: those that it votes with most.
const MAX_PARTNERS: usize = 12;
/// Two functions vote together on so many rows, or their agreement is chance.
const MIN_COMMON_ROWS: u64 = 10;
/// Accuracies (correlations with the class) are kept within this range; functions are taken for
/// better than chance.
const LEAST_ACCURACY: f64 = 0.02;
const MOST_ACCURACY: f64 = 0.98;
/// The accuracy of a function that is in no triplet.
const UNKNOWN_ACCURACY: f64 = 0.4;

/// By voter, others with the rows that both vote on and the mean product of their signs.
type Partners = HashMap<u32, Vec<(u32, u64, f64)>>;

pub fn fit(evidence: &Evidence<'_>, prior: &[f64]) -> LabelModel {
    let classes = prior.len();
    let base = prior.iter().map(|prior| prior.ln() as f32).collect();
    let mut model = LabelModel::new(Method::Triplets, base, evidence.table.items());
    let votes = evidence.votes();
    let owner = evidence.table.voters_of_items();
    // Agreements by pair of voters and class: rows together, and the sum of the signs' products.
    let mut agreements: HashMap<(u32, u32, u32), (u64, i64)> = HashMap::new();
    for (low, high, rows) in evidence.counts.pairs.pairs() {
        let voters = (owner[low as usize], owner[high as usize]);
        let (mine, theirs) = (votes[low as usize], votes[high as usize]);
        for class in classes_about(mine, theirs, classes) {
            let product = sign(mine, class) * sign(theirs, class);
            if product != 0 {
                let entry = agreements.entry((class, voters.0, voters.1)).or_default();
                entry.0 += rows;
                entry.1 += i64::from(product) * rows as i64;
            }
        }
    }
    let mut by_class: Vec<Partners> = vec![Partners::new(); classes];
    for ((class, one, other), (rows, sum)) in &agreements {
        if *rows >= MIN_COMMON_ROWS {
            let mean = *sum as f64 / *rows as f64;
            let partners = &mut by_class[*class as usize];
            partners.entry(*one).or_default().push((*other, *rows, mean));
            partners.entry(*other).or_default().push((*one, *rows, mean));
        }
    }
    for partners in by_class.iter_mut().flat_map(HashMap::values_mut) {
        partners.sort_unstable_by_key(|(voter, rows, _)| (std::cmp::Reverse(*rows), *voter));
        partners.truncate(MAX_PARTNERS);
    }
    for (item, vote) in votes.iter().enumerate() {
        for class in 0..classes as u32 {
            let sign = sign(vote, class);
            if sign != 0 {
                let accuracy = accuracy(&by_class[class as usize], &agreements, class, owner[item]);
                let weight = ((1.0 + accuracy) / (1.0 - accuracy)).ln() / 2.0;
                model.weights[item * classes + class as usize] = (f64::from(sign) * weight) as f32;
            }
        }
    }
    model
}

/// What a vote says of a class: that it is, that it is not, or neither.
fn sign(vote: &Vote, class: u32) -> i32 {
    match vote {
        Vote::For(named) if named.len() == 1 => {
            if named[0] == class {
                1
            } else {
                -1
            }
        }
        Vote::For(named) => {
            if named.contains(&class) {
                0
            } else {
                -1
            }
        }
        Vote::Against(named) => {
            if named.contains(&class) {
                -1
            } else {
                0
            }
        }
    }
}

/// The classes that both votes say something of and that tell the two apart from others: where
/// neither names a class, both deny it, which is no news.
fn classes_about(one: &Vote, other: &Vote, classes: usize) -> Vec<u32> {
    if classes == 2 {
        return vec![0, 1];
    }
    let mut named: Vec<u32> = one.named().iter().chain(other.named()).copied().collect();
    named.sort_unstable();
    named.dedup();
    named
}

fn accuracy(
    partners: &Partners,
    agreements: &HashMap<(u32, u32, u32), (u64, i64)>,
    class: u32,
    voter: u32,
) -> f64 {
    let Some(mine) = partners.get(&voter) else { return UNKNOWN_ACCURACY };
    let mut found = Vec::new();
    for (at, &(one, _, with_one)) in mine.iter().enumerate() {
        for &(other, _, with_other) in &mine[at + 1..] {
            let key = (class, one.min(other), one.max(other));
            let Some((rows, sum)) = agreements.get(&key) else { continue };
            let between = *sum as f64 / *rows as f64;
            if *rows >= MIN_COMMON_ROWS && between.abs() > 1e-3 {
                found.push((with_one * with_other / between).abs().sqrt());
            }
        }
    }
    if found.is_empty() {
        return UNKNOWN_ACCURACY;
    }
    found.sort_unstable_by(f64::total_cmp);
    found[found.len() / 2].clamp(LEAST_ACCURACY, MOST_ACCURACY)
}
