//! The CPU time and accuracy of TF-IDF and one fit on Banking77, single-threaded, for
//! comparison with `bench/peers/sklearn_linear.py`, which prints the same line.
//!
//! `cargo run --release -p corral-training --example svm_speed -- svm|softmax [C] [repetitions]`
//! with the data where `CORRAL_TEST_DATA` says (default `../shared/data`).

use corral_classifier::{LexicalConfig, Lexicon};
use corral_training::learner::{FeatureRows, FitEffort, HeadBudget, Problem, SparseView};
use corral_training::{LearnerSettings, Split, Targets};

#[path = "../tests/common/mod.rs"]
mod common;

/// The CPU seconds of this process, all threads.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let learner = arguments.next().unwrap_or_else(|| "svm".to_owned());
    let cost = arguments.next().map_or(1.0, |cost| cost.parse().expect("C is a number"));
    let repetitions: usize =
        arguments.next().map_or(5, |count| count.parse().expect("repetitions are a number"));
    let settings = match learner.as_str() {
        "svm" => LearnerSettings::LinearSvm { cost },
        "softmax" => LearnerSettings::Softmax { cost },
        other => panic!("`{other}` is not a learner; say svm or softmax"),
    };
    let Some(set) = common::load("banking77") else { return };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread starts");
    for _ in 0..repetitions {
        pool.install(|| run(&set, &settings, &learner, cost));
    }
}

fn run(set: &common::DataSet, settings: &LearnerSettings, learner: &str, cost: f32) {
    let rows = set.rows();
    let of = |split: Split| -> Vec<usize> {
        (0..rows.texts.len()).filter(|&row| rows.splits[row] == split).collect()
    };
    let (train, test) = (of(Split::Train), of(Split::Test));
    let label = |row: usize| rows.labels.row(row).expect("every row is labelled").0[0];
    let texts: Vec<&str> = train.iter().map(|&row| rows.texts[row]).collect();

    let begin = cpu_seconds();
    let lexicon =
        Lexicon::fit(&texts, &LexicalConfig::words_and_characters()).expect("a vocabulary");
    let features = lexicon.transform_all(&texts);
    let featurized = cpu_seconds();
    let mut targets = Targets::new();
    train.iter().for_each(|&row| targets.push(&mut [(label(row), 1.0)]));
    let view = FeatureRows::sparse(SparseView {
        row_offsets: features.starts(),
        columns: features.indices(),
        values: features.values(),
        column_count: features.columns(),
    });
    let everything: Vec<u32> = (0..train.len() as u32).collect();
    let problem = Problem {
        features: view,
        squared_norms: &view.squared_norms(),
        rows: &everything,
        class_count: rows.label_names.len(),
        targets: &targets,
        row_weights: &vec![1.0; train.len()],
        class_weights: &vec![1.0; rows.label_names.len()],
        parents: None,
        link: corral_classifier::Link::Softmax,
        seed: 0,
        stop: &|| false,
    };
    let fitted = settings
        .fit(&problem, FitEffort::Full, HeadBudget { bytes: 64 << 20 })
        .expect("a head")
        .expect("not stopped");
    let done = cpu_seconds();

    let texts: Vec<&str> = test.iter().map(|&row| rows.texts[row]).collect();
    let scores = fitted.head.score_sparse_rows(&lexicon.transform_all(&texts));
    let hits = test.iter().enumerate().filter(|&(at, &row)| {
        let scores = scores.row(at);
        let best =
            (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("some class");
        best as u32 == label(row)
    });
    println!(
        "{}",
        serde_json::json!({
            "system": "corral", "learner": learner, "cost": cost, "threads": 1,
            "featurize_cpu_seconds": featurized - begin,
            "fit_cpu_seconds": done - featurized,
            "cpu_seconds": done - begin,
            "accuracy": hits.count() as f64 / test.len() as f64,
        })
    );
}
