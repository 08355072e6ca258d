//! Files of every format version load for ever, and answer as on the day they were written.
//!
//! The files named `later`, `heads`, `parents` and `refusing` have what version 1 learnt after its
//! first day.
//!
//! To add the fixture of a new version, run this test with `CORRAL_WRITE_FIXTURE=1` once. A
//! fixture that is there is never written again.

use std::fs;
use std::path::PathBuf;

use corral_classifier::{Link, Model, ModelSpec, PredictOptions, Scratch, TextEmbedding};
use serde::{Deserialize, Serialize};

use crate::sample::{
    TEXTS, embeddings, later_sample, refusing_sample, sample, sample_of_every_head,
    sample_with_parents,
};

#[derive(Serialize, Deserialize)]
struct Expected {
    text: String,
    embedding: Vec<f32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<f32>,
    probabilities: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<f32>,
}

/// Sums are the same everywhere; logarithms are the system's and may differ in the last place.
const TOLERANCE: f32 = 1e-6;

fn fixture(version: u32, link: &str, ending: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    folder.join(format!("format_{version}_{link}.{ending}"))
}

fn answers(model: &Model) -> Vec<Expected> {
    let embeddings = embeddings(&TEXTS);
    let mut scratch = Scratch::default();
    let answer = |(index, text): (usize, &&str)| {
        let embedding = embeddings.text(index);
        Expected {
            text: (*text).to_owned(),
            embedding: embedding.pooled.to_vec(),
            layers: embedding.layers.to_vec(),
            probabilities: model.probabilities(text, embedding, &mut scratch).unwrap().to_vec(),
            refusal: refusal(model, text, embedding),
        }
    };
    TEXTS.iter().enumerate().map(answer).collect()
}

fn refusal(model: &Model, text: &str, embedding: TextEmbedding<'_>) -> Option<f32> {
    let options = PredictOptions::default();
    let answer = model.predict(text, embedding, &mut Scratch::default(), &options).unwrap();
    answer.refusal.map(|verdict| verdict.score)
}

#[test]
fn every_format_version_answers_as_it_did() {
    let samples: [(&str, ModelSpec); 6] = [
        ("softmax", sample(Link::Softmax)),
        ("sigmoid", sample(Link::Sigmoid)),
        ("later", later_sample(Link::Softmax)),
        ("heads", sample_of_every_head(Link::Softmax)),
        ("parents", sample_with_parents(Link::Softmax)),
        ("refusing", refusing_sample()),
    ];
    for (word, spec) in samples {
        let newest = fixture(corral_classifier::model::FORMAT_VERSION, word, "model");
        if std::env::var_os("CORRAL_WRITE_FIXTURE").is_some() && !newest.exists() {
            spec.write(&newest).unwrap();
            let expected = answers(&Model::read(&newest).unwrap());
            let json = serde_json::to_vec(&expected).unwrap();
            fs::write(newest.with_extension("json"), json).unwrap();
        }
        for version in 1..=corral_classifier::model::FORMAT_VERSION {
            let path = fixture(version, word, "model");
            Model::verify(&path).unwrap();
            let model = Model::open(&path).unwrap();
            assert_eq!((model.link(), model.class_count()), (spec.link, 9));
            assert_eq!(model.class(4).unwrap().name, "wetter ☂");
            let expected = fs::read(path.with_extension("json")).unwrap();
            let expected: Vec<Expected> = serde_json::from_slice(&expected).unwrap();
            let mut scratch = Scratch::default();
            for case in &expected {
                let embedding = TextEmbedding { pooled: &case.embedding, layers: &case.layers };
                let found = model.probabilities(&case.text, embedding, &mut scratch).unwrap();
                assert_eq!(found.len(), case.probabilities.len());
                for (found, wanted) in found.iter().zip(&case.probabilities) {
                    assert!((found - wanted).abs() <= TOLERANCE, "{}: {found}", case.text);
                }
                let found = refusal(&model, &case.text, embedding);
                assert_eq!(found.is_some(), case.refusal.is_some());
                for (found, wanted) in found.into_iter().zip(case.refusal) {
                    assert!((found - wanted).abs() <= 1e-5, "{}: {found}", case.text);
                }
            }
        }
    }
}
