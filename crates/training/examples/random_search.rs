//! What a search over listed costs takes on Banking77's lexical features, for comparison with
//! `bench/peers/sklearn_random_search.py`, which prints the costs and the same figures.
//!
//! `cargo run --release -p corral-training --example random_search -- COST,COST,… [THREADS]`
//! with the data where `CORRAL_TEST_DATA` says (default `../shared/data`). It is a whole run:
//! features, three folds of every cost, ensemble, refit, model file, report.

use corral_training::{
    Candidate, FeaturizerSettings, LearnerSettings, LexiconSettings, Split, TrainOptions,
    Unobserved, train,
};
use serde_json::json;

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let costs = arguments.next().ok_or("list costs, as in 0.1,0.5")?;
    let costs: Vec<f32> = costs
        .split(',')
        .map(|cost| cost.parse().map_err(|error| format!("the cost {cost}: {error}")))
        .collect::<Result<_, String>>()?;
    let threads = arguments.next().map_or(Ok(1), |count| count.parse());
    let threads = threads.map_err(|error| format!("threads: {error}"))?;
    let Some(whole) = common::load("banking77") else { return Ok(()) };
    let mut set = common::DataSet::default();
    for ((text, label), split) in whole.texts.into_iter().zip(whole.labels).zip(whole.splits) {
        if split != Split::Test {
            set.push(text, label, split);
        }
    }
    let lexicon = LexiconSettings::WORDS_AND_CHARACTERS.for_texts(set.texts.len());
    let featurizer = FeaturizerSettings::lexical(lexicon);
    let candidate = |cost| Candidate { featurizer, learner: LearnerSettings::LinearSvm { cost } };
    let options = TrainOptions {
        candidates: costs.into_iter().map(candidate).collect(),
        folds: Some(3),
        threads: Some(threads),
        ..TrainOptions::default()
    };
    let out = tempfile::tempdir().map_err(|error| error.to_string())?;
    let outcome = train(&set.rows(), None, &options, None, &Unobserved, None, out.path());
    let report = outcome.map_err(|error| error.to_string())?.report;
    let best = report.trials.iter().map(|trial| trial.score).fold(0.0, f64::max);
    println!(
        "{}",
        json!({
            "system": "corral",
            "threads": threads,
            "score": best,
            "cpu_seconds": report.actual.cpu_seconds,
            "fit_cpu_seconds": report.actual.fit_cpu_seconds,
            "wall_seconds": report.actual.wall_seconds,
        })
    );
    Ok(())
}
