//! Prints how fast texts become rows and rows become answers.
//!
//! `cargo run --release -p corral-classifier --example lexical_speed -- train.jsonl test.jsonl`
//!
//! Lines are `{"text": …, "label": …}`. Set `RAYON_NUM_THREADS=1` for CPU time. The head is a
//! centroid classifier: as large and as slow as a trained one.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::time::Instant;

use corral_classifier::lexical::LexicalScratch;
use corral_classifier::{
    Calibration, ClassEntry, Featurizer, LexicalConfig, Lexicon, LinearHead, Link, MemberSpec,
    Model, ModelSpec, Precision, PredictOptions, Scratch, Tempering, TextEmbedding, Thresholds,
};

const REPETITIONS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [train, test] = paths.as_slice() else {
        return Err("give two files: train.jsonl test.jsonl".into());
    };
    let (train, test) = (read(train)?, read(test)?);
    let texts: Vec<&str> = train.iter().map(|(text, _)| text.as_str()).collect();
    let test_texts: Vec<&str> = test.iter().map(|(text, _)| text.as_str()).collect();
    let config = LexicalConfig::words_and_characters();

    let (fit_s, lexicon) = fastest(|| Lexicon::fit(&texts, &config));
    let lexicon = lexicon?;
    let (transform_s, rows) = fastest(|| lexicon.transform_all(&texts));
    let (test_s, _) = fastest(|| lexicon.transform_all(&test_texts));
    println!("features                {:>12}", lexicon.columns());
    println!("entries                 {:>12}", rows.entries());
    println!("fit                     {:>12.1} ms", fit_s * 1e3);
    println!("transform train         {:>12.1} ms", transform_s * 1e3);
    println!("transform test          {:>12.1} ms", test_s * 1e3);
    let mut scratch = LexicalScratch::default();
    let (one_s, ()) = fastest(|| {
        for text in &test_texts {
            black_box(lexicon.transform(text, &mut scratch));
        }
    });
    println!("transform one           {:>12.2} µs", one_s * 1e6 / test_texts.len() as f64);

    let labels: BTreeMap<&str, u32> =
        train.iter().map(|(_, label)| (label.as_str(), 0)).collect::<BTreeMap<_, _>>();
    let labels: BTreeMap<&str, u32> = labels.into_keys().zip(0..).collect();
    let mut centroids = vec![0f32; labels.len() * lexicon.columns()];
    for (row, (_, label)) in rows.iter().zip(&train) {
        for (column, value) in row.iter() {
            centroids[column as usize * labels.len() + labels[label.as_str()] as usize] += value;
        }
    }
    for precision in [Precision::F32, Precision::Int8, Precision::SparseInt8 { smallest: 0.5 }] {
        let head = LinearHead::from_column_major(&centroids, vec![0.0; labels.len()], precision)?;
        let spec = ModelSpec {
            name: "speed".to_owned(),
            metadata: BTreeMap::new(),
            classes: labels
                .keys()
                .map(|label| ClassEntry {
                    id: (*label).to_owned(),
                    name: (*label).to_owned(),
                    parent: None,
                })
                .collect(),
            outputs: (0..labels.len() as u32).collect(),
            link: Link::Softmax,
            encoder: None,
            lexicons: vec![lexicon.clone()],
            members: vec![MemberSpec {
                name: "centroids".to_owned(),
                featurizer: Featurizer::lexical(0),
                head: head.into(),
                calibration: Calibration::NONE,
                weight: 1.0,
            }],
            tempering: Tempering::NONE,
            thresholds: Thresholds::default(),
        };
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("speed.model");
        spec.write(&path)?;
        let options = PredictOptions { top_k: 5, ..PredictOptions::default() };
        let (open_s, ()) = fastest(|| {
            let model = Model::open(&path).expect("a model just written opens");
            let mut scratch = Scratch::default();
            black_box(
                model.predict(test_texts[0], TextEmbedding::NONE, &mut scratch, &options).is_ok(),
            );
        });
        let model = Model::open(&path)?;
        let mut scratch = Scratch::default();
        let (predict_s, hits) = fastest(|| {
            test.iter()
                .filter(|(text, label)| {
                    let answer = model.predict(text, TextEmbedding::NONE, &mut scratch, &options);
                    let answer = answer.expect("a lexical model needs no encoder");
                    answer.ranked[0].class == labels[label.as_str()]
                })
                .count()
        });
        let (batch_s, _) = fastest(|| model.predict_batch(&test_texts, None, &options));
        println!("\n{precision:?}, {:.1} MB", fs::metadata(&path)?.len() as f64 / 1e6);
        println!("open and first answer   {:>12.3} ms", open_s * 1e3);
        println!("predict one             {:>12.2} µs", predict_s * 1e6 / test.len() as f64);
        println!("predict batch           {:>12.0} texts/s", test.len() as f64 / batch_s);
        println!("accuracy                {:>12.4}", hits as f64 / test.len() as f64);
    }
    Ok(())
}

/// The shortest time of some repetitions in seconds, and the last answer.
fn fastest<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut run = || {
        let start = Instant::now();
        let answer = black_box(work());
        (start.elapsed().as_secs_f64(), answer)
    };
    let mut best = run();
    for _ in 1..REPETITIONS {
        let (seconds, answer) = run();
        best = (best.0.min(seconds), answer);
    }
    best
}

fn read(path: &str) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    fs::read_to_string(path)?
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let field = |name: &str| row[name].as_str().map(str::to_owned);
            let row = field("text").zip(field("label").or_else(|| field("intent")));
            row.ok_or_else(|| format!("{path}: a line without text or label").into())
        })
        .collect()
}
