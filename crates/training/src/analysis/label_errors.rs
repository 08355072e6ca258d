//! Rows that are likely labelled wrongly, by confident learning (Northcutt, Jiang, Chuang,
//! "Confident learning: estimating uncertainty in dataset labels", JAIR 2021).
//!
//! A class's threshold is the mean probability that held-out predictions give it on the rows
//! that carry it. A row counts towards the likeliest class among those whose probability
//! reaches their threshold; where that is not the row's own, its label is likely wrong.
//! Thresholds by class keep classes that are always unsure from being accused as a whole.

use super::{MAX_EXAMPLE_CHARS, label_of, shorten};
use crate::metrics::RankedRows;
use crate::prepare::Prepared;
use crate::report::{LabelError, LabelErrors};

/// Rows listed in a report; the count tells of the others.
pub const LISTED_ROWS: usize = 200;
/// Rows a class needs for its threshold to mean something; none is suggested with fewer.
const LEAST_CLASS_ROWS: u64 = 5;
const _: () = assert!(MAX_EXAMPLE_CHARS * LISTED_ROWS * 4 < 1 << 20, "a report stays small");

/// The likely label errors among the rows that folds held out.
pub fn find(prepared: &Prepared<'_>, held_out: &RankedRows) -> LabelErrors {
    let classes = held_out.class_count();
    let thresholds = thresholds(prepared, held_out);
    let mut found: Vec<(f32, u32, u32)> = Vec::new();
    for row in 0..held_out.len() {
        let right: Vec<u32> = prepared.targets.right(row).collect();
        if right.is_empty() || right.len() == classes {
            continue;
        }
        let (kept, probabilities) = held_out.row(row);
        // Classes stand by falling probability: the first that reaches its threshold counts.
        let confident = kept
            .iter()
            .zip(probabilities)
            .find(|(class, probability)| **probability >= thresholds[**class as usize]);
        let Some((&suggested, &probability)) = confident else { continue };
        if right.contains(&suggested) {
            continue;
        }
        let given =
            right.iter().map(|&class| held_out.probability(row, class)).fold(0f32, f32::max);
        // The margin orders rows: cleanlab calls it normalised and ranks by it as well.
        if probability > given {
            found.push((probability - given, row as u32, suggested));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let examples = found.iter().take(LISTED_ROWS).map(|&(margin, row, suggested)| {
        let row = row as usize;
        let probability = held_out.probability(row, suggested);
        LabelError {
            row_id: prepared.row_ids[row],
            text: shorten(prepared.texts[row]),
            given: label_of(prepared, &prepared.targets, row),
            given_probability: f64::from(probability - margin),
            suggested: prepared.class_name(suggested).to_owned(),
            suggested_probability: f64::from(probability),
        }
    });
    LabelErrors { rows: found.len() as u64, examples: examples.collect() }
}

/// For each class the mean probability it has on the rows that carry it; beyond any
/// probability where those are too few.
fn thresholds(prepared: &Prepared<'_>, held_out: &RankedRows) -> Vec<f32> {
    let mut sums = vec![(0f64, 0u64); held_out.class_count()];
    for row in 0..held_out.len() {
        for class in prepared.targets.right(row) {
            let (sum, rows) = &mut sums[class as usize];
            *sum += f64::from(held_out.probability(row, class));
            *rows += 1;
        }
    }
    let threshold = |(sum, rows): (f64, u64)| {
        if rows < LEAST_CLASS_ROWS { f32::INFINITY } else { (sum / rows as f64) as f32 }
    };
    sums.into_iter().map(threshold).collect()
}
