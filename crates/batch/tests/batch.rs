//! Batches over data sets of several parts, cut off and gone on with anywhere.
#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use corral_batch::{
    AnswerColumns, AnswerFile, AnswerReader, Asking, BatchError, BatchOptions, Watch, answer_rows,
};
use corral_classifier::{
    Calibration, ClassEntry, EmbeddingView, Encoder, EncoderNeed, Featurizer, LexicalConfig,
    Lexicon, LinearHead, Link, MemberSpec, Model, ModelSpec, Precision, PredictOptions, Refusal,
    RefusalScore, Tempering, Thresholds, ViewRows,
};
use corral_data::{
    Dataset, ExportFormat, ExportOptions, FolderStore, ImportOptions, Limits, Manifest, NoProgress,
    Source, TextName, export_with, import,
};
use corral_types::BlobHash;
use serde_json::{Value, json};

const ROWS: usize = 1_000;

fn texts() -> Vec<String> {
    let words = ["invoice", "parcel", "screen", "refund", "lost", "black", "late", "twice"];
    let word = |at: usize| words[at * at % words.len()];
    (0..ROWS).map(|row| format!("{} {} {row}", word(row), word(row / 3 + 1))).collect()
}

/// A data set of many small batches in several parts.
fn dataset(store: &FolderStore) -> Arc<Manifest> {
    let mut lines = String::new();
    for (row, text) in texts().iter().enumerate() {
        lines += &json!({"text": text, "number": row}).to_string();
        lines.push('\n');
    }
    let limits = Limits { batch_rows: 70, part_bytes: 8_000, ..Limits::default() };
    let options = ImportOptions { limits, ..ImportOptions::default() };
    let source = Source {
        file_name: "rows.jsonl".to_owned(),
        reader: Box::new(Cursor::new(lines.into_bytes())),
        split: None,
    };
    let manifest = import(vec![source], &options, store, None, &NoProgress).unwrap().manifest;
    assert!(manifest.parts.len() > 2, "{} parts", manifest.parts.len());
    Arc::new(manifest)
}

/// An embedding by a text's hash.
struct HashEncoder;

impl Encoder for HashEncoder {
    fn id(&self) -> BlobHash {
        BlobHash::of(b"encoder")
    }

    fn name(&self) -> &str {
        "hash"
    }

    fn dimension(&self, _: EmbeddingView) -> Option<usize> {
        Some(8)
    }

    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]) {
        for rows in views {
            for (text, out) in texts.iter().zip(rows.values.chunks_exact_mut(8)) {
                let hash = BlobHash::of(text.as_bytes());
                for (value, byte) in out.iter_mut().zip(hash.as_bytes()) {
                    *value = f32::from(*byte) / 128.0 - 1.0;
                }
            }
        }
    }
}

/// A model of three classes with weights without pattern.
fn model(folder: &Path, link: Link, reads_encoder: bool, refuses: bool) -> Model {
    let lexicon = Lexicon::fit(&texts(), &LexicalConfig::words_and_characters()).unwrap();
    let columns = if reads_encoder { 8 } else { lexicon.columns() };
    let weights: Vec<f32> =
        (0..columns * 3).map(|at| ((at * 7919 % 1000) as f32 / 250.0) - 2.0).collect();
    let head = LinearHead::from_column_major(&weights, vec![0.0; 3], Precision::F32).unwrap();
    let class = |id: &str, name: &str| ClassEntry {
        id: id.to_owned(),
        name: name.to_owned(),
        parent: None,
    };
    let spec = ModelSpec {
        name: "m".to_owned(),
        metadata: BTreeMap::new(),
        classes: vec![class("a", "Alpha"), class("b", "Beta"), class("c", "Gamma")],
        outputs: vec![0, 1, 2],
        link,
        encoder: reads_encoder.then(|| EncoderNeed {
            hash: HashEncoder.id(),
            name: "hash".to_owned(),
            dimension: 8,
            layers_dimension: None,
        }),
        lexicons: if reads_encoder { Vec::new() } else { vec![lexicon] },
        members: vec![MemberSpec {
            name: "only".to_owned(),
            featurizer: match reads_encoder {
                true => Featurizer::embedding(EmbeddingView::Pooled),
                false => Featurizer::lexical(0),
            },
            head: head.into(),
            calibration: Calibration::NONE,
            weight: 1.0,
        }],
        tempering: Tempering::NONE,
        thresholds: Thresholds {
            least_probability: None,
            per_output: None,
            refusal: refuses.then_some(Refusal { score: RefusalScore::Doubt, threshold: 0.4 }),
        },
    };
    let path = folder.join("model");
    spec.write(&path).unwrap();
    Model::read(&path).unwrap()
}

/// Ends the work after so many chunks.
struct Cut {
    left: Cell<usize>,
}

impl Watch for Cut {
    fn advance(&self, answers: &mut AnswerFile, rows: u64) -> Result<(), BatchError> {
        assert!(answers.rows() <= rows);
        self.left.set(self.left.get() - 1);
        answers.flush()
    }

    fn is_cancelled(&self) -> bool {
        self.left.get() == 0
    }
}

/// The rows and answers as JSON lines, made in as many attempts as it takes at so many chunks each.
fn answered(
    folder: &Path,
    model: &Model,
    options: &BatchOptions,
    chunks_an_attempt: usize,
) -> Vec<Value> {
    let store = FolderStore::new().unwrap();
    let manifest = dataset(&store);
    let asking = Asking { model, encoder: Some(&HashEncoder), options, threads: 2 };
    let (kept, path) = (folder.join("kept"), folder.join("answers"));
    let mut answers = AnswerFile::create(&path).unwrap();
    let mut attempts = 1;
    loop {
        let cut = Cut { left: Cell::new(chunks_an_attempt) };
        match answer_rows(&asking, &manifest, &store, &mut answers, &cut) {
            Ok(()) => break,
            Err(BatchError::Cancelled) => {}
            Err(error) => panic!("{error}"),
        }
        std::fs::copy(&path, &kept).unwrap();
        answers = AnswerFile::resume(&kept, &path).unwrap();
        attempts += 1;
    }
    assert_eq!(answers.rows(), ROWS as u64);
    assert!(chunks_an_attempt > 100 || attempts > 2, "it was cut off: {attempts} attempts");
    AnswerColumns::check_names(model, options, &manifest).unwrap();
    let mut columns = AnswerColumns::new(model, options, AnswerReader::open(&path).unwrap());
    let dataset = Dataset::open(manifest, &store).unwrap();
    let mut written = Vec::new();
    let shape = ExportOptions { text_name: TextName::AsImported, ..ExportOptions::default() };
    export_with(&dataset, &mut columns, ExportFormat::Jsonl, &shape, &mut written).unwrap();
    let lines = String::from_utf8(written).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shortest(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap())
}

#[test]
fn answers_are_those_of_single_predictions_however_often_the_work_is_cut_off() {
    for reads_encoder in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path(), Link::Softmax, reads_encoder, false);
        let options = BatchOptions { top_k: 2, back_off: Some(0.6), ..BatchOptions::default() };
        let rows = answered(folder.path(), &model, &options, usize::MAX);
        for chunks in [1, 2, 5] {
            assert!(answered(folder.path(), &model, &options, chunks) == rows, "{chunks} chunks");
        }
        let asked = PredictOptions { top_k: 2, back_off: Some(0.6), ..PredictOptions::default() };
        let expect = model.predict_batch(&texts(), Some(&HashEncoder), &asked).unwrap();
        for (at, (row, expect)) in rows.iter().zip(&expect).enumerate() {
            assert_eq!((&row["text"], &row["number"]), (&json!(texts()[at]), &json!(at)));
            for (rank, suffix) in ["", "_2"].into_iter().enumerate() {
                let ranked = &expect.ranked[rank];
                let class = model.class(ranked.class).unwrap();
                assert_eq!(row[format!("predicted_label{suffix}")], class.id);
                assert_eq!(row[format!("predicted_name{suffix}")], class.name);
                assert_eq!(row[format!("confidence{suffix}")], shortest(ranked.probability));
            }
            let backed_off = expect.backed_off.map(|ranked| model.class(ranked.class).unwrap().id);
            assert_eq!(row["backed_off_label"], json!(backed_off));
        }
    }
}

#[test]
fn several_labels_and_refusals_have_columns_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let several = model(folder.path(), Link::Sigmoid, false, false);
    let options = BatchOptions { column_prefix: "x_".to_owned(), ..BatchOptions::default() };
    let rows = answered(folder.path(), &several, &options, usize::MAX);
    let chosen = |row: &Value| -> Vec<String> {
        serde_json::from_str(row["x_predicted_labels"].as_str().unwrap()).unwrap()
    };
    let expect = several.predict_batch(&texts(), None, &PredictOptions::default()).unwrap();
    for (row, expect) in rows.iter().zip(&expect) {
        let ids = expect.chosen().map(|ranked| several.class(ranked.class).unwrap().id.to_owned());
        assert_eq!(chosen(row), ids.collect::<Vec<_>>());
    }
    assert!(rows.iter().any(|row| chosen(row).is_empty()));
    assert!(rows.iter().any(|row| chosen(row).len() > 1));

    let unsure = model(folder.path(), Link::Softmax, false, true);
    let rows = answered(folder.path(), &unsure, &BatchOptions::default(), usize::MAX);
    let refused = rows.iter().filter(|row| row["refused"] == true).count();
    assert!(refused > 0 && refused < ROWS, "{refused} rows were refused");
    for row in &rows {
        let is_refused = row["refused"] == true;
        assert_eq!(row["predicted_label"].is_null(), is_refused);
        assert_eq!(row["refusal_score"].as_f64().unwrap() >= f64::from(0.4f32), is_refused);
    }
}

#[test]
fn what_is_out_of_range_is_refused() {
    let check = |options: BatchOptions, part: &str| {
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let usual = BatchOptions::default();
    check(BatchOptions { top_k: 0, ..usual.clone() }, "1 to 100");
    check(BatchOptions { top_k: 101, ..usual.clone() }, "1 to 100");
    check(BatchOptions { threshold: Some(1.5), ..usual.clone() }, "threshold");
    check(BatchOptions { back_off: Some(f32::NAN), ..usual.clone() }, "back_off");
    check(BatchOptions { column_prefix: "x".repeat(65), ..usual }, "column_prefix");
}
