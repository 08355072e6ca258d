//! What a run finds out about its rows: planted errors and duplicates come out again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use corral_training::{Report, Split, TrainOptions, TrainingRows, Unobserved, train};

mod common;

/// A seeded number below `bound`.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn report(rows: &TrainingRows<'_>) -> Report {
    let out = tempfile::tempdir().unwrap();
    let options = TrainOptions { trials: Some(2), ..TrainOptions::default() };
    let outcome = train(rows, None, &options, None, &Unobserved, None, out.path()).unwrap();
    let written = std::fs::read(&outcome.report_path).unwrap();
    let read: Report = serde_json::from_slice(&written).unwrap();
    assert_eq!(read.findings, outcome.report.findings, "what is written is what was found");
    read
}

#[test]
fn planted_label_errors_and_duplicates_are_found_in_news() {
    const ROWS: usize = 6000;
    const WRONG: usize = 200;
    const COPIES: usize = 60;
    let Some(mut set) = common::load("ag_news") else { return };
    let keep: Vec<usize> =
        (0..set.texts.len()).filter(|&row| set.splits[row] == Split::Train).take(ROWS).collect();
    set.texts = keep.iter().map(|&row| set.texts[row].clone()).collect();
    set.labels = keep.iter().map(|&row| set.labels[row].clone()).collect();
    set.splits = vec![Split::Train; ROWS];

    let seed = 7;
    let mut numbers = Numbers(seed);
    let names: BTreeSet<String> = set.labels.iter().flatten().cloned().collect();
    let names: Vec<String> = names.into_iter().collect();
    let mut wrong: BTreeMap<u64, String> = BTreeMap::new();
    while wrong.len() < WRONG {
        let row = numbers.below(ROWS);
        let own = names.iter().position(|name| *name == set.labels[row][0]).unwrap();
        if let Entry::Vacant(unchanged) = wrong.entry(row as u64) {
            unchanged.insert(names[own].clone());
            set.labels[row][0] = names[(own + 1 + numbers.below(3)) % 4].clone();
        }
    }
    // Copies with a word more, in the test split.
    let mut copied = BTreeSet::new();
    while copied.len() < COPIES {
        let row = numbers.below(ROWS);
        if set.texts[row].chars().count() > 120 && copied.insert(row) {
            let text = format!("{} Update", set.texts[row].to_uppercase());
            let labels = set.labels[row].clone();
            set.push(text, labels, Split::Test);
        }
    }

    let report = report(&set.rows());
    let errors = &report.findings.label_errors;
    let hits = |rows: usize| {
        let listed = errors.examples.iter().take(rows);
        listed.filter(|error| wrong.contains_key(&error.row_id)).count()
    };
    let listed = errors.examples.len();
    let right =
        errors.examples.iter().filter(|error| wrong.get(&error.row_id) == Some(&error.suggested));
    println!(
        "{WRONG} labels changed of {ROWS}, seed {seed}: {} found; of the first 100 listed {} were \
         planted, of {listed} {}, {} of them with their former class; the set has errors of its own",
        errors.rows,
        hits(100),
        hits(listed),
        right.count(),
    );
    for error in errors.examples.iter().filter(|error| !wrong.contains_key(&error.row_id)).take(8) {
        println!("  not planted: {error:?}");
    }
    // Three rows of a hundred were changed, so that chance would find three in a hundred.
    assert!(hits(100) >= 55, "precision of the first hundred");
    assert!(hits(listed) >= 95, "planted errors among all listed");

    let duplicates = &report.findings.duplicates;
    println!(
        "{COPIES} near-copies in the test split: {} found; {} near-duplicates in all, {} conflicting",
        duplicates.near_rows_across_splits, duplicates.near_rows, duplicates.conflicting_rows
    );
    assert!((COPIES as u64 - 1..).contains(&duplicates.near_rows_across_splits));
    assert!(duplicates.compared_rows <= (ROWS + COPIES) as u64);

    let curve = report.findings.learning_curve.as_ref().unwrap();
    println!("learning curve: {curve:?}");
    assert_eq!(curve.points.len(), 4);
    assert!(curve.points[3].score > curve.points[0].score);
    assert!(curve.points[0].rows.abs_diff(curve.points[3].rows / 8) <= 4);
    let latency = report.findings.latency.unwrap();
    assert!(latency.p50_ms > 0.0 && latency.p50_ms <= latency.p99_ms);
    assert_eq!(report.findings.reliability.len(), 15);
    let rows: u64 = report.findings.reliability.iter().map(|bin| bin.rows).sum();
    assert_eq!(rows, report.data.labelled_rows);
    println!(
        "{}",
        report.advice.iter().map(|advice| format!("- {}\n", advice.message)).collect::<String>()
    );
    println!("{:?}", report.actual);
}

#[test]
fn planted_label_errors_are_found_among_many_classes() {
    const SHARE: usize = 3;
    let Some(mut set) = common::load("banking77") else { return };
    let keep: Vec<usize> =
        (0..set.texts.len()).filter(|&row| set.splits[row] == Split::Train).collect();
    set.texts = keep.iter().map(|&row| set.texts[row].clone()).collect();
    set.labels = keep.iter().map(|&row| set.labels[row].clone()).collect();
    set.splits = vec![Split::Train; keep.len()];
    let names: BTreeSet<String> = set.labels.iter().flatten().cloned().collect();
    let names: Vec<String> = names.into_iter().collect();
    let seed = 17;
    let mut numbers = Numbers(seed);
    let planted = keep.len() * SHARE / 100;
    let mut wrong = BTreeSet::new();
    while wrong.len() < planted {
        let row = numbers.below(keep.len());
        if wrong.insert(row as u64) {
            let own = names.iter().position(|name| *name == set.labels[row][0]).unwrap();
            let other = own + 1 + numbers.below(names.len() - 1);
            set.labels[row][0] = names[other % names.len()].clone();
        }
    }
    let report = report(&set.rows());
    let errors = &report.findings.label_errors;
    let listed = errors.examples.len();
    let hits = errors.examples.iter().filter(|error| wrong.contains(&error.row_id)).count();
    println!(
        "{planted} labels changed of {}, seed {seed}: {} rows found; of the first {listed} listed \
         {hits} were planted; held-out accuracy {:.3}",
        keep.len(),
        errors.rows,
        report.cv.accuracy
    );
    // The set has errors of its own among those found, some 70 by the same rule.
    assert!(errors.rows as usize >= planted / 2, "half of the planted errors or more are found");
    assert!(errors.rows as usize <= planted + planted / 2, "not many others are");
    assert!(hits * 100 >= listed * 75, "three in four of those listed were planted");
}
