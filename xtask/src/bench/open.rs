//! Opening a large model.

use std::time::Instant;

use corral_classifier::{Calibration, PredictOptions, TextEmbedding, model::Scratch};
use corral_classifier::{
    ClassEntry, Featurizer, LexicalConfig, Lexicon, LinearHead, Link, MemberSpec, Model, ModelSpec,
    Precision, Tempering, Thresholds,
};

use super::report::Figure;
use super::{REPETITIONS, data, root};

const WANTED_BYTES: usize = 80_000_000;

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let file = std::fs::read_to_string(data()?.join("banking77/train.jsonl"))?;
    let texts: Vec<String> = file
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line)?;
            Ok(row["text"].as_str().unwrap_or_default().to_owned())
        })
        .collect::<anyhow::Result<_>>()?;
    let lexicon = Lexicon::fit(&texts, &LexicalConfig::words_and_characters())?;
    let (columns, outputs) = (lexicon.columns(), WANTED_BYTES / 4 / lexicon.columns());
    // Any weights will do: what is measured does not depend on them.
    let weights: Vec<f32> =
        (0..columns * outputs).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 1000.0).collect();
    let head = LinearHead::from_column_major(&weights, vec![0.0; outputs], Precision::F32)?;
    let classes = (0..outputs).map(|class| ClassEntry {
        id: format!("class-{class}"),
        name: format!("Class {class}"),
        parent: None,
    });
    let spec = ModelSpec {
        name: "large".to_owned(),
        metadata: Default::default(),
        classes: classes.collect(),
        outputs: (0..outputs as u32).collect(),
        link: Link::Softmax,
        encoder: None,
        lexicons: vec![lexicon],
        members: vec![MemberSpec {
            name: "linear".to_owned(),
            featurizer: Featurizer::lexical(0),
            head: head.into(),
            calibration: Calibration::Temperature(1.0),
            weight: 1.0,
        }],
        tempering: Tempering::NONE,
        thresholds: Thresholds::default(),
    };
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let path = scratch.path().join("large.corral");
    spec.write(&path)?;
    let bytes = std::fs::metadata(&path)?.len();
    // Reads the file once, so that it is in the page cache.
    Model::verify(&path)?;
    let values = (0..REPETITIONS)
        .map(|repetition| {
            let begun = Instant::now();
            let model = Model::open(&path)?;
            let (text, options) = (&texts[repetition], PredictOptions::default());
            let answer =
                model.predict(text, TextEmbedding::NONE, &mut Scratch::default(), &options)?;
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            anyhow::ensure!(answer.ranked.len() == 1, "the model did not answer");
            Ok(took)
        })
        .collect::<anyhow::Result<Vec<f64>>>()?;
    Ok(vec![Figure {
        what: format!("{:.0} MB model opened and first answer", bytes as f64 / 1e6),
        asked: "≤ 5 ms".to_owned(),
        unit: "ms".to_owned(),
        values,
        note: format!("{outputs} classes × {columns} features in f32, page cache hot"),
    }])
}
