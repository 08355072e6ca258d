//! Labels from the texts of classes alone: nearest prototypes, corrected.
//!
//! How far to trust them, no label is there to tell. Two things are: how near rows lie to the
//! prototype they fell to, against the others, read as probabilities; and how often two
//! labellings agree that see half of the columns each. On 16 tasks with public labels (classes
//! of four sets, all or some) the lower of the two was within 6.2 points of the true share of
//! right labels, 2.5 on average, and on the one where names say least of all (TREC), it was the
//! second that told.

use crate::metrics::likeliest;
use corral_classifier::DenseRows;
use rayon::prelude::*;

use super::balance::{balance, logarithms};
use super::graph::{NeighbourGraph, Smoothing, products};

/// What cosines are divided by to be scores: by this much a class is e times as likely.
const TEMPERATURE: f32 = 0.05;
/// What cosines are divided by to be probabilities that are right as often as they say. The
/// scores that labels start from are sharper: spreading makes them flat again.
const CONFIDENCE_TEMPERATURE: f32 = 0.07;
/// How strongly classes are drawn to equal shares. All the way would be wrong wherever classes
/// are not of one size.
pub const BALANCE_STRENGTH: f64 = 0.8;
/// Rounds of moving prototypes into the midst of the rows they won. After that they drift away
/// from the meaning of the class.
pub const ROUNDS: usize = 4;
/// What a class's own texts count in its prototype against the rows it won.
const ANCHOR: f32 = 0.6;
/// Neighbours of a row: about as many as a small class has rows, so that most are of its class.
pub const NEIGHBOURS: usize = 20;
/// How labels spread over neighbours.
pub const SMOOTHING: Smoothing = Smoothing { share: 0.9, steps: 20 };
/// Rows summed into prototypes together, in order.
const ROWS_PER_SUM: usize = 1024;

/// Subtracts the mean of `reference` from rows and brings them to unit length: sentence
/// embeddings share a direction that says nothing of classes and makes hubs of some of them.
pub fn centred(mut rows: DenseRows, mean: &[f32]) -> DenseRows {
    rows.values_mut().par_chunks_exact_mut(mean.len().max(1)).for_each(|row| {
        row.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
    });
    rows.normalise();
    rows
}

/// The mean of some rows.
pub fn mean(rows: &DenseRows, which: impl Iterator<Item = usize>) -> Vec<f32> {
    let (mut sums, mut count) = (vec![0f64; rows.width()], 0usize);
    for row in which {
        sums.iter_mut().zip(rows.row(row)).for_each(|(sum, value)| *sum += f64::from(*value));
        count += 1;
    }
    sums.iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
}

/// A class's prototype: the mean of its texts' embeddings, brought to unit length. `classes` is
/// the class of each text.
pub fn prototypes(texts: &DenseRows, classes: &[u32], class_count: usize) -> DenseRows {
    let mut sums = DenseRows::zeros(class_count, texts.width());
    for (text, &class) in texts.iter().zip(classes) {
        let sum = sums.row_mut(class as usize);
        sum.iter_mut().zip(text).for_each(|(sum, value)| *sum += value);
    }
    sums.normalise();
    sums
}

/// What prototypes find.
pub struct PrototypeLabels {
    /// A distribution over classes for each row.
    pub labels: DenseRows,
    /// The class of each row's nearest prototype when prototypes were texts of classes alone.
    pub first: Vec<u32>,
    /// The mean probability of the likeliest class, by nearness to the last prototypes.
    pub confidence: f64,
}

/// Distributions over classes for rows, from prototypes made of class texts.
///
/// Starts with the nearest prototype. Each round balances the shares of classes (which also
/// corrects hubs), lets labels spread over neighbours, and moves each prototype towards the
/// rows that are surely its own, as k-means does, held by the class's own texts.
///
/// `rows` and `texts` are centred and of unit length. `None` when `stop` said so.
pub fn label_by_prototypes(
    rows: &DenseRows,
    graph: &NeighbourGraph,
    texts: &DenseRows,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<PrototypeLabels> {
    let classes = texts.rows();
    let prior = vec![1.0 / classes as f32; classes];
    let (present, fixed) = (vec![true; rows.rows()], vec![false; rows.rows()]);
    let balanced = |prototypes: &DenseRows, temperature: f32| {
        let mut scores = products(rows, prototypes);
        scores.values_mut().par_iter_mut().for_each(|score| *score /= temperature);
        balance(&mut scores, &prior, BALANCE_STRENGTH, &present);
        scores
    };
    let mut prototypes = texts.clone();
    let mut first = Vec::new();
    let mut round = 0;
    loop {
        if stop() {
            return None;
        }
        let scores = balanced(&prototypes, TEMPERATURE);
        if round == 0 {
            first = scores.iter().map(likeliest).collect();
        }
        let mut labels = graph.smooth(&scores, &present, &fixed, SMOOTHING);
        drop(scores);
        logarithms(&mut labels);
        balance(&mut labels, &prior, BALANCE_STRENGTH, &present);
        if round == ROUNDS {
            let confidence = mean_confidence(&balanced(&prototypes, CONFIDENCE_TEMPERATURE));
            return Some(PrototypeLabels { labels, first, confidence });
        }
        prototypes = moved(rows, &labels, texts);
        round += 1;
    }
}

/// How often two labellings agree of which one sees the even columns and one the odd ones.
/// `None` when `stop` said so.
pub fn agreement_of_halves(
    rows: &DenseRows,
    texts: &DenseRows,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<f64> {
    let labels_of_half = |first: usize| {
        let rows = half(rows, first);
        let graph = NeighbourGraph::build(&rows, NEIGHBOURS, stop)?;
        let found = label_by_prototypes(&rows, &graph, &half(texts, first), stop)?;
        Some(found.labels.iter().map(likeliest).collect::<Vec<u32>>())
    };
    Some(agreement(&labels_of_half(0)?, &labels_of_half(1)?))
}

/// Every other column, rows brought to unit length again.
fn half(rows: &DenseRows, first: usize) -> DenseRows {
    let columns = rows.width().saturating_sub(first).div_ceil(2);
    let values = rows.iter().flat_map(|row| row.iter().skip(first).step_by(2).copied());
    let mut half = DenseRows::from_values(values.collect(), columns);
    half.normalise();
    half
}

/// The share of rows that two labellings give the same class.
pub fn agreement(one: &[u32], other: &[u32]) -> f64 {
    let same = one.iter().zip(other).filter(|(one, other)| one == other).count();
    same as f64 / one.len().max(1) as f64
}

fn mean_confidence(distributions: &DenseRows) -> f64 {
    let largest = |row: &[f32]| f64::from(row.iter().copied().fold(0.0, f32::max));
    distributions.iter().map(largest).sum::<f64>() / distributions.rows().max(1) as f64
}

/// Prototypes moved to the mean of their rows, each row counting by its probability squared.
fn moved(rows: &DenseRows, labels: &DenseRows, texts: &DenseRows) -> DenseRows {
    let (width, classes) = (rows.width(), labels.width());
    let sums: Vec<Vec<f32>> = rows
        .values()
        .par_chunks(ROWS_PER_SUM * width)
        .zip(labels.values().par_chunks(ROWS_PER_SUM * classes))
        .map(|(rows, labels)| {
            let mut sums = vec![0f32; classes * width];
            for (row, labels) in rows.chunks_exact(width).zip(labels.chunks_exact(classes)) {
                let likely = labels.iter().enumerate().filter(|(_, p)| **p > LEAST_PROBABILITY);
                for (class, p) in likely {
                    let sum = &mut sums[class * width..(class + 1) * width];
                    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += p * p * value);
                }
            }
            sums
        })
        .collect();
    let mut moved = DenseRows::zeros(classes, width);
    for part in &sums {
        moved.values_mut().iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    moved.normalise();
    moved
        .values_mut()
        .iter_mut()
        .zip(texts.values())
        .for_each(|(value, own)| *value += ANCHOR * own);
    moved.normalise();
    moved
}

/// Classes less likely than this move no prototype: their squares are nothing, and most are.
const LEAST_PROBABILITY: f32 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const WIDTH: usize = 32;

    /// Rows around a direction a class, and a text of each class a way off it.
    fn clusters(noise: f32, seed: u64) -> (DenseRows, DenseRows, Vec<u32>) {
        let mut random = Random::new(seed, 5);
        let mut unit = || random.unit() as f32 - 0.5;
        let mut around = |centre: &[f32], noise: f32| -> Vec<f32> {
            centre.iter().map(|value| value + noise * unit()).collect()
        };
        let centres: Vec<Vec<f32>> = (0..4).map(|_| around(&[0.0; WIDTH], 1.0)).collect();
        let classes: Vec<u32> = (0..200).map(|row| row % 4).collect();
        let (mut rows, mut texts) = (DenseRows::new(WIDTH), DenseRows::new(WIDTH));
        classes.iter().for_each(|&class| rows.push(&around(&centres[class as usize], noise)));
        centres.iter().for_each(|centre| texts.push(&around(centre, 1.5)));
        rows.normalise();
        texts.normalise();
        (rows, texts, classes)
    }

    #[test]
    fn rows_find_the_class_whose_text_lies_on_their_side() {
        for seed in 0..5 {
            let (rows, texts, classes) = clusters(1.2, seed);
            let graph = NeighbourGraph::build(&rows, NEIGHBOURS, &|| false).unwrap();
            let found = label_by_prototypes(&rows, &graph, &texts, &|| false).unwrap();
            let last: Vec<u32> = found.labels.iter().map(likeliest).collect();
            let (first, last) = (agreement(&found.first, &classes), agreement(&last, &classes));
            assert!(last >= first && last > 0.9, "{first} and {last}, seed {seed}");
            assert!((0.25..=1.0).contains(&found.confidence), "seed {seed}");
        }
    }

    #[test]
    fn halves_agree_where_there_are_classes_and_not_where_there_is_noise() {
        for seed in 0..5 {
            let agreement = |noise: f32| {
                let (rows, texts, _) = clusters(noise, seed);
                agreement_of_halves(&rows, &texts, &|| false).unwrap()
            };
            let (clear, blurred) = (agreement(0.8), agreement(50.0));
            assert!(clear > 0.9 && blurred < 0.6, "{clear} and {blurred}, seed {seed}");
        }
        let (rows, texts, _) = clusters(1.0, 9);
        assert_eq!(agreement_of_halves(&rows, &texts, &|| true), None, "stopped");
    }
}
