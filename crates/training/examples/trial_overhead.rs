//! What a trial takes beside its fits: proposing it, evaluating and recording it.
//!
//! `cargo run --release -p corral-training --example trial_overhead` searches on two hundred
//! made-up texts, whose fits take next to nothing, with one thread and prints a JSON line.

use corral_training::{TrainOptions, TrainingRows, Unobserved, train};
use serde_json::json;

const ROWS: usize = 200;
const TRIALS: usize = 240;

fn main() -> Result<(), String> {
    let texts: Vec<String> = (0..ROWS)
        .map(|row| {
            let topic = if row % 2 == 0 { "red" } else { "blue" };
            format!("{topic}{} word{} in text {row}", row % 7, row * row % 31)
        })
        .collect();
    let names = vec!["red".to_owned(), "blue".to_owned()];
    let labelled = texts.iter().enumerate().map(|(row, text)| (text.as_str(), row as u32 % 2));
    let rows = TrainingRows::single_choice(names, labelled);
    let options =
        TrainOptions { trials: Some(TRIALS), threads: Some(1), ..TrainOptions::default() };
    let out = tempfile::tempdir().map_err(|error| error.to_string())?;
    let outcome = train(&rows, None, &options, None, &Unobserved, None, out.path());
    let report = outcome.map_err(|error| error.to_string())?.report;
    let fits: f64 = report.trials.iter().map(|trial| trial.fit_cpu_seconds).sum();
    let overhead = (report.actual.search_seconds - fits) / report.trials.len() as f64;
    println!(
        "{}",
        json!({
            "trials": report.trials.len(),
            "search_seconds": report.actual.search_seconds,
            "fit_cpu_seconds": fits,
            "overhead_ms": 1000.0 * overhead,
        })
    );
    Ok(())
}
