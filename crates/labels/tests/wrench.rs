//! Label models on the public sets of WRENCH, with the votes that come with them. Skipped, and
//! said so, where the sets are not there.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::sync::Arc;

use corral_labels::{
    BlockGold, BlockVotes, Evidence, FitOptions, Gold, LabelArity, Method, Vote, VoteLayer,
    VoteTable, Voter, choose, fit,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    label: u32,
    weak_labels: Vec<i64>,
}

fn read(set: &str, splits: &[&str]) -> Option<Vec<Row>> {
    let folder = std::env::var_os("CORRAL_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let mut rows = Vec::new();
    for split in splits {
        let text = std::fs::read_to_string(folder.join(set).join(format!("{split}.jsonl"))).ok()?;
        rows.extend(text.lines().map(|line| serde_json::from_str::<Row>(line).unwrap()));
    }
    Some(rows)
}

fn table(rows: &[Row], classes: usize) -> (VoteTable, Gold) {
    let functions = rows[0].weak_labels.len();
    let voters = (0..functions).map(|_| Voter::new((0..classes as u32).map(Vote::one).collect()));
    let mut table = VoteTable::new(voters.collect(), classes, LabelArity::Single);
    let layer = |function: usize| {
        let votes = rows.iter().map(|row| usize::try_from(row.weak_labels[function]).ok());
        Arc::new(VoteLayer { blocks: vec![BlockVotes::of_rows(classes, votes)] })
    };
    table.push_part((0..functions).map(layer).collect());
    let mut gold = BlockGold::default();
    rows.iter().enumerate().for_each(|(row, of)| gold.push(row, &[of.label]));
    (table, Gold { parts: vec![vec![gold]] })
}

#[test]
fn the_choice_holds_against_most_votes() {
    for (set, classes) in [("wrench_youtube", 2), ("wrench_trec", 6)] {
        let (Some(train), Some(test)) = (read(set, &["train"]), read(set, &["valid", "test"]))
        else {
            println!("skipped: {set} is not there");
            return;
        };
        let (votes, truth) = table(&train, classes);
        let evidence = Evidence::of(&votes).unwrap();
        let (of_test, gold) = table(&test, classes);
        let score = |model: &corral_labels::LabelModel| {
            let (right, rows) = model.score(&of_test, &gold);
            let (of_train, train_rows) = model.score(&votes, &truth);
            (100.0 * right / rows as f64, 100.0 * of_train / train_rows as f64)
        };
        for method in Method::ALL {
            let model = fit(&evidence, method, &FitOptions::default()).unwrap();
            println!("{set} {method}: {:?}", score(&model));
        }
        let floor = fit(&evidence, Method::Majority, &FitOptions::default()).unwrap();
        let choice = choose(&evidence, &Gold::default(), &FitOptions::default()).unwrap();
        let (floor, chosen) = (score(&floor).0, score(&choice.model).0);
        println!("{set} scores {:?}", choice.scores);
        println!("{set}: {chosen:.1} against {floor:.1}: {}", choice.reason());
        assert!(chosen > floor - 1.0, "{set}: {chosen:.2} against {floor:.2}");
    }
}
