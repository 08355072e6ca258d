//! Which classes are taken for which, with rows that show it.

use std::collections::HashMap;

use super::{label_of, shorten};
use crate::metrics::{ConfusedPair, DetailedEvaluation, MULTI_LABEL_THRESHOLD, RankedRows};
use crate::prepare::Prepared;
use crate::report::{ConfusionReport, RowExample};
use crate::rows::LabelKind;

/// Pairs that are shown with rows.
const PAIRS_WITH_EXAMPLES: usize = 25;
/// Rows shown of a pair.
const EXAMPLES_OF_PAIR: usize = 4;

/// The pairs of an evaluation by name, the most frequent with the rows that were most
/// confidently mistaken.
pub fn confused_pairs(
    prepared: &Prepared<'_>,
    held_out: &RankedRows,
    cv: &DetailedEvaluation,
) -> Vec<ConfusionReport> {
    let mut examples = examples(prepared, held_out, &cv.confused);
    let report = |pair: &ConfusedPair| ConfusionReport {
        right: prepared.class_name(pair.right).to_owned(),
        predicted: prepared.class_name(pair.predicted).to_owned(),
        rows: pair.rows,
        examples: examples.remove(&(pair.right, pair.predicted)).unwrap_or_default(),
    };
    cv.confused.iter().map(report).collect()
}

fn examples(
    prepared: &Prepared<'_>,
    held_out: &RankedRows,
    pairs: &[ConfusedPair],
) -> HashMap<(u32, u32), Vec<RowExample>> {
    let mut rows: HashMap<(u32, u32), Vec<(f32, u32)>> = pairs
        .iter()
        .take(PAIRS_WITH_EXAMPLES)
        .map(|pair| ((pair.right, pair.predicted), Vec::new()))
        .collect();
    for row in 0..held_out.len() {
        let Some((right, predicted, probability)) = mistake(prepared, held_out, row) else {
            continue;
        };
        for right in right {
            if let Some(rows) = rows.get_mut(&(right, predicted)) {
                rows.push((probability, row as u32));
            }
        }
    }
    let show = |(pair, mut rows): ((u32, u32), Vec<(f32, u32)>)| {
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let shown = rows.iter().take(EXAMPLES_OF_PAIR).map(|&(probability, row)| RowExample {
            row_id: prepared.row_ids[row as usize],
            text: shorten(prepared.texts[row as usize]),
            right: label_of(prepared, &prepared.targets, row as usize),
            predicted: prepared.class_name(pair.1).to_owned(),
            probability: f64::from(probability),
        });
        (pair, shown.collect())
    };
    rows.into_iter().map(show).collect()
}

/// The right classes that a row's prediction missed, the wrong one that was predicted and its
/// probability; counted as evaluation counts confusions.
fn mistake(
    prepared: &Prepared<'_>,
    held_out: &RankedRows,
    row: usize,
) -> Option<(Vec<u32>, u32, f32)> {
    let (classes, probabilities) = held_out.row(row);
    let right: Vec<u32> = prepared.targets.right(row).collect();
    match prepared.kind {
        LabelKind::SingleChoice => {
            let is_mistake = !right.contains(&classes[0]);
            let first = prepared.targets.first(row)?;
            is_mistake.then(|| (vec![first], classes[0], probabilities[0]))
        }
        LabelKind::MultiLabel => {
            let mut predicted = classes
                .iter()
                .zip(probabilities)
                .filter(|(_, probability)| **probability >= MULTI_LABEL_THRESHOLD);
            let missed: Vec<u32> = right
                .iter()
                .copied()
                .filter(|class| !predicted.clone().any(|(found, _)| found == class))
                .collect();
            let (&wrong, &probability) = predicted.find(|(class, _)| !right.contains(class))?;
            Some((missed, wrong, probability))
        }
    }
}
