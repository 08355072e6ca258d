//! Statistics and label models against Snorkel 0.10, whose values `golden/golden.py` writes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use corral_labels::{
    BlockGold, BlockVotes, Evidence, FitOptions, Gold, LabelArity, Method, Vote, VoteCounts,
    VoteLayer, VoteTable, Voter, fit, set_statistics,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    classes: usize,
    votes: Vec<Vec<i64>>,
    truth: Vec<u32>,
    coverage: Vec<f64>,
    overlaps: Vec<f64>,
    conflicts: Vec<f64>,
    accuracies: Vec<f64>,
    label_coverage: f64,
    label_conflict: f64,
    majority: Vec<Vec<f32>>,
    start_scale: f64,
    mu: Vec<Vec<f64>>,
    probabilities: Vec<Vec<f32>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("golden/golden.json")).unwrap()
}

/// The case as a table of two parts, the second of two blocks.
fn table(case: &Case) -> (VoteTable, Gold) {
    let functions = case.votes[0].len();
    let voter = || Voter::new((0..case.classes as u32).map(Vote::one).collect());
    let voters = (0..functions).map(|_| voter()).collect();
    let mut table = VoteTable::new(voters, case.classes, LabelArity::Single);
    let mut gold = Gold::default();
    let rows = case.votes.len();
    let cuts = [vec![(0, 100)], vec![(100, 101), (101, rows)]];
    let cuts = cuts.map(|part| part.into_iter().map(|(start, end)| start..end).collect::<Vec<_>>());
    for blocks in &cuts {
        let layer = |function: usize| {
            let block = |rows: &std::ops::Range<usize>| {
                let votes = case.votes[rows.clone()].iter();
                BlockVotes::of_rows(
                    case.classes,
                    votes.map(|row| usize::try_from(row[function]).ok()),
                )
            };
            Arc::new(VoteLayer { blocks: blocks.iter().map(block).collect() })
        };
        table.push_part((0..functions).map(layer).collect());
        let of_block = |rows: &std::ops::Range<usize>| {
            let mut gold = BlockGold::default();
            for (at, row) in rows.clone().enumerate() {
                gold.push(at, &[case.truth[row]]);
            }
            gold
        };
        gold.parts.push(blocks.iter().map(of_block).collect());
    }
    (table, gold)
}

fn near(found: f64, expect: f64, tolerance: f64) {
    assert!((found - expect).abs() <= tolerance, "{found} is not {expect}");
}

#[test]
fn statistics_are_those_of_lf_analysis() {
    for case in cases() {
        let (table, gold) = table(&case);
        let found = set_statistics(&table, &VoteCounts::of(&table, &gold));
        near(found.coverage, case.label_coverage, 1e-12);
        near(found.conflict, case.label_conflict, 1e-12);
        for (at, function) in found.functions.iter().enumerate() {
            near(function.coverage, case.coverage[at], 1e-12);
            near(function.overlap, case.overlaps[at], 1e-12);
            near(function.conflict, case.conflicts[at], 1e-12);
            near(function.accuracy.unwrap().share, case.accuracies[at], 1e-12);
        }
    }
}

#[test]
fn majority_votes_are_those_of_the_majority_label_voter() {
    for case in cases() {
        let (table, _) = table(&case);
        let model = fit(&Evidence::of(&table).unwrap(), Method::Majority, &FitOptions::default());
        compare(&case, &table, &model.unwrap(), &case.majority, 1e-6);
    }
}

#[test]
fn moments_are_those_of_the_label_model() {
    for case in cases() {
        let (table, _) = table(&case);
        let options = FitOptions { start_scale: case.start_scale, ..FitOptions::default() };
        let model = fit(&Evidence::of(&table).unwrap(), Method::Moments, &options).unwrap();
        for (item, expect) in case.mu.iter().enumerate() {
            for (weight, expect) in model.weights(item).iter().zip(expect) {
                // 500 steps in 32 bits, summed in another order.
                near(f64::from(weight.exp()), *expect, 2e-3);
            }
        }
        compare(&case, &table, &model, &case.probabilities, 2e-2);
    }
}

/// Compares the posteriors of covered rows.
fn compare(
    case: &Case,
    table: &VoteTable,
    model: &corral_labels::LabelModel,
    expect: &[Vec<f32>],
    tolerance: f64,
) {
    let mut row_number = 0;
    let mut probabilities = vec![0.0; case.classes];
    for (part, block) in table.blocks() {
        for items in table.rows_of_block(part, block).iter() {
            if !items.is_empty() {
                model.posterior(items, &mut probabilities);
                for (found, expect) in probabilities.iter().zip(&expect[row_number]) {
                    near(f64::from(*found), f64::from(*expect), tolerance);
                }
            }
            row_number += 1;
        }
    }
}
