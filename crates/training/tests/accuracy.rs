//! Accuracy on public data that must not be lost again. Seeds are fixed; the floors lie a
//! point below what was measured when they were set.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_training::{Report, Split, TrainOptions, Unobserved, train};

mod common;

/// Trains lexically on every `step`-th training row.
fn report(name: &str, step: usize, trials: usize) -> Option<Report> {
    let set = thinned(common::load(name)?, step);
    let options = TrainOptions { trials: Some(trials), ..TrainOptions::default() };
    let out = tempfile::tempdir().unwrap();
    let outcome = train(&set.rows(), None, &options, None, &Unobserved, None, out.path()).unwrap();
    println!("{}", outcome.report.render_text());
    Some(outcome.report)
}

/// Each `step`-th row of the training split, and all of the others.
fn thinned(set: common::DataSet, step: usize) -> common::DataSet {
    let mut kept = common::DataSet::default();
    let mut seen = 0;
    for ((text, labels), split) in set.texts.into_iter().zip(set.labels).zip(set.splits) {
        seen += usize::from(split == Split::Train);
        if split != Split::Train || seen % step == 0 {
            kept.push(text, labels, split);
        }
    }
    kept
}

fn check(report: Option<Report>, accuracy: f64, ece: f64) {
    let Some(report) = report else { return };
    let test = report.test.unwrap();
    assert!(test.accuracy >= accuracy, "accuracy {} is below {accuracy}", test.accuracy);
    assert!(test.ece <= ece, "calibration error {} is above {ece}", test.ece);
    // Cross-validation tells what the test split will: within its spread and what more rows give.
    assert!((test.accuracy - report.cv.accuracy).abs() < 0.06);
}

#[test]
fn trec_by_words() {
    check(report("trec", 1, 4), 0.875, 0.06);
}

#[test]
fn a_quarter_of_banking77_by_words() {
    check(report("banking77", 4, 3), 0.84, 0.05);
}

#[test]
fn a_quarter_of_clinc150_by_words() {
    check(report("clinc150", 4, 2), 0.895, 0.06);
}
