//! How far to trust a model that has read nothing but the texts of its classes.

use corral_classifier::DenseRows;

use super::prototypes::{centred, mean};
use crate::prepare::Prepared;
use crate::report::{WeakMethod, WeakSummary};

/// The part of the classes that must have several texts for an estimate to speak for all.
const LEAST_PART: f64 = 0.5;

/// Estimates accuracy by leaving out one text after the other of the classes that have several
/// of their own (a name, a description, examples) and taking the class whose others are nearest;
/// where too few classes have several, says that it cannot be known.
pub fn of_class_texts(prepared: &Prepared<'_>, rows: DenseRows) -> WeakSummary {
    let own = prepared.summary.class_texts as usize;
    let classes: Vec<u32> = (0..own).filter_map(|row| prepared.targets.first(row)).collect();
    let mean = mean(&rows, 0..own);
    let rows = centred(rows, &mean);
    let class_count = prepared.outputs.len();
    let mut sums = DenseRows::zeros(class_count, rows.width());
    let mut counts = vec![0usize; class_count];
    for (row, &class) in classes.iter().enumerate() {
        add(sums.row_mut(class as usize), rows.row(row), 1.0);
        counts[class as usize] += 1;
    }
    let with_several = counts.iter().filter(|count| **count > 1).count();
    let (mut tried, mut hits) = (0usize, 0usize);
    for (row, &class) in classes.iter().enumerate() {
        if counts[class as usize] < 2 {
            continue;
        }
        let text = rows.row(row);
        let mut rest = sums.row(class as usize).to_vec();
        add(&mut rest, text, -1.0);
        let own_cosine = cosine(text, &rest);
        let is_nearest = (0..class_count)
            .filter(|&other| other != class as usize)
            .all(|other| own_cosine > cosine(text, sums.row(other)));
        tried += 1;
        hits += usize::from(is_nearest);
    }
    let speaks = with_several as f64 >= LEAST_PART * class_count as f64;
    WeakSummary {
        held_out_rows: if speaks { tried as u64 } else { 0 },
        estimated_accuracy: speaks.then(|| hits as f64 / tried.max(1) as f64),
        ..WeakSummary::new(WeakMethod::ClassTexts, prepared.scored)
    }
}

fn add(sum: &mut [f32], row: &[f32], sign: f32) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += sign * value);
}

/// The cosine with a row of unit length, up to a factor that is the same for all others.
fn cosine(unit: &[f32], other: &[f32]) -> f32 {
    let product: f32 = unit.iter().zip(other).map(|(a, b)| a * b).sum();
    let norm = other.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 { product / norm } else { f32::NEG_INFINITY }
}
