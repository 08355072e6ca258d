//! Rows that are likely labelled wrongly, by confident learning (Northcutt, Jiang, Chuang,
//! "Confident learning: estimating uncertainty in dataset labels", JAIR 2021).
//!
//! A class's threshold is the mean probability that held-out predictions give it where they
//! name it rightly. A row is likely labelled wrongly where another class than its label's
//! reaches its threshold and the label is next to impossible beside it.
//!
//! The published thresholds are means over all rows that carry a class, found or not. Where
//! held-out accuracy is low those are low, too, and a fourth of all rows is accused (O*NET, a
//! thousand classes, 58 % right): a prediction that is right two times in three is no evidence
//! against a person. Hence the mean over rows found, the floor under it, and the odds. Rows of
//! one text may carry different labels; all of them are taken for possible.

use super::{MAX_EXAMPLE_CHARS, label_of, shorten};
use crate::metrics::RankedRows;
use crate::prepare::Prepared;
use crate::report::{LabelError, LabelErrors};

/// Rows listed in a report; the count tells of the others.
pub const LISTED_ROWS: usize = 200;
/// The probability that a suggested class has at least: of such predictions at most a fifth is
/// wrong, whatever the class.
const LEAST_CONFIDENCE: f32 = 0.8;
/// How many times as probable as the label the suggested class is at least.
const LEAST_ODDS: f32 = 20.0;
/// The rows at which a class's own mean counts as much in its threshold as that of all classes.
const SHRINKAGE_ROWS: f64 = 5.0;
const _: () = assert!(MAX_EXAMPLE_CHARS * LISTED_ROWS * 4 < 1 << 20, "a report stays small");

/// The likely label errors among the rows that folds held out.
pub fn find(prepared: &Prepared<'_>, held_out: &RankedRows) -> LabelErrors {
    let classes = held_out.class_count();
    let thresholds = thresholds(prepared, held_out);
    let labels = labels_of_texts(prepared, held_out.len());
    let mut found: Vec<(f32, u32, u32)> = Vec::new();
    for row in 0..held_out.len() {
        let possible = &labels[prepared.groups[row] as usize];
        if possible.is_empty() || possible.len() == classes {
            continue;
        }
        let suggested = held_out.best(row);
        let probability = held_out.probability(row, suggested);
        let given: f32 = possible.iter().map(|&class| held_out.probability(row, class)).sum();
        let is_sure = probability >= thresholds[suggested as usize];
        if is_sure && probability >= LEAST_ODDS * given && !possible.contains(&suggested) {
            // The margin orders rows: cleanlab calls it normalised and ranks by it as well.
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

/// The classes that rows of each text carry.
fn labels_of_texts(prepared: &Prepared<'_>, rows: usize) -> Vec<Vec<u32>> {
    let groups = prepared.groups[..rows].iter().max().map_or(0, |&last| last as usize + 1);
    let mut labels = vec![Vec::new(); groups];
    for row in 0..rows {
        let of_text: &mut Vec<u32> = &mut labels[prepared.groups[row] as usize];
        for class in prepared.targets.right(row) {
            if !of_text.contains(&class) {
                of_text.push(class);
            }
        }
    }
    labels
}

/// For each class the mean probability that it has where it is rightly the likeliest, drawn
/// towards that of all classes where there are few such rows.
fn thresholds(prepared: &Prepared<'_>, held_out: &RankedRows) -> Vec<f32> {
    let mut sums = vec![(0f64, 0f64); held_out.class_count()];
    for row in 0..held_out.len() {
        let best = held_out.best(row);
        if prepared.targets.right(row).any(|class| class == best) {
            let (sum, rows) = &mut sums[best as usize];
            *sum += f64::from(held_out.probability(row, best));
            *rows += 1.0;
        }
    }
    let add = |all: (f64, f64), one: &(f64, f64)| (all.0 + one.0, all.1 + one.1);
    let (sum, rows) = sums.iter().fold((0.0, 0.0), add);
    let common = if rows > 0.0 { sum / rows } else { 1.0 };
    let threshold = |(sum, rows): (f64, f64)| {
        let mean = (sum + SHRINKAGE_ROWS * common) / (rows + SHRINKAGE_ROWS);
        (mean as f32).max(LEAST_CONFIDENCE)
    };
    sums.into_iter().map(threshold).collect()
}
