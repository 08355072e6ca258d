//! Labels from the texts of classes alone: nearest prototypes, corrected.

use corral_classifier::DenseRows;
use rayon::prelude::*;

use super::balance::{balance, logarithms};
use super::graph::{NeighbourGraph, Smoothing, products};

/// What cosines are divided by to be scores: by this much a class is e times as likely.
const TEMPERATURE: f32 = 0.05;
/// How strongly classes are drawn to equal shares. All the way would be wrong wherever classes
/// are not of one size.
pub const BALANCE_STRENGTH: f64 = 0.8;
/// Rounds of moving prototypes into the midst of the rows they won. After that they drift away
/// from the meaning of the class.
const ROUNDS: usize = 4;
/// What a class's own texts count in its prototype against the rows it won.
const ANCHOR: f32 = 0.3;
/// How labels spread over neighbours.
pub const SMOOTHING: Smoothing = Smoothing { share: 0.8, steps: 10 };
/// Rows summed into prototypes together, in order.
const ROWS_PER_SUM: usize = 1024;

/// Subtracts the mean of `reference` from rows and brings them to unit length: sentence
/// embeddings share a direction that says nothing of classes and makes hubs of some of them.
pub fn centred(rows: &DenseRows, mean: &[f32]) -> DenseRows {
    let mut centred = rows.clone();
    centred.values_mut().par_chunks_exact_mut(mean.len().max(1)).for_each(|row| {
        row.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
    });
    centred.normalise();
    centred
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
) -> Option<DenseRows> {
    let classes = texts.rows();
    let prior = vec![1.0 / classes as f32; classes];
    let (present, fixed) = (vec![true; rows.rows()], vec![false; rows.rows()]);
    let mut prototypes = texts.clone();
    let mut round = 0;
    loop {
        if stop() {
            return None;
        }
        let mut scores = products(rows, &prototypes);
        scores.values_mut().par_iter_mut().for_each(|score| *score /= TEMPERATURE);
        balance(&mut scores, &prior, BALANCE_STRENGTH, &present);
        let mut labels = graph.smooth(&scores, &present, &fixed, SMOOTHING);
        drop(scores);
        logarithms(&mut labels);
        balance(&mut labels, &prior, BALANCE_STRENGTH, &present);
        if round == ROUNDS {
            return Some(labels);
        }
        prototypes = moved(rows, &labels, texts);
        round += 1;
    }
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
