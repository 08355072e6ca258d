//! Whole runs where some rows have a label, where none has, and where there are no rows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use corral_classifier::model::Scratch;
use corral_classifier::{EmbeddingView, Encoder, Model, ViewRows};
use corral_taxonomy::{ParseOptions, Taxonomy, parse};
use corral_training::{
    LabelKind, Regime, Report, RowLabels, Split, TrainError, TrainOptions, TrainOutcome,
    TrainingRows, Unobserved, WarningKind, WeakMethod, train,
};
use corral_types::{BlobHash, Explain};

const WIDTH: usize = 48;
const TOPICS: [(&str, [&str; 6]); 4] = [
    ("card_arrival", ["card", "arrival", "post", "deliver", "envelope", "waiting"]),
    ("Weather/Forecast", ["weather", "forecast", "rain", "sunny", "wind", "degrees"]),
    ("musicPlayer", ["music", "player", "song", "album", "guitar", "volume"]),
    ("travel booking", ["travel", "booking", "flight", "hotel", "ticket", "passport"]),
];
const FILLERS: [&str; 8] = ["please", "the", "my", "a", "today", "now", "is", "for"];

/// Words of a topic lie near each other, as in the space of a sentence encoder.
struct TopicEncoder;

impl Encoder for TopicEncoder {
    fn id(&self) -> BlobHash {
        BlobHash::of(b"topics")
    }

    fn name(&self) -> &str {
        "topics"
    }

    fn dimension(&self, view: EmbeddingView) -> Option<usize> {
        Some(WIDTH).filter(|_| view == EmbeddingView::Pooled)
    }

    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]) {
        let [ViewRows { view: EmbeddingView::Pooled, values }] = views else {
            panic!("there is the pooled view only")
        };
        for (text, out) in texts.iter().zip(values.chunks_exact_mut(WIDTH)) {
            out.fill(0.0);
            for word in text.to_lowercase().split_whitespace() {
                let of = TOPICS.iter().position(|(_, words)| words.contains(&word));
                if let Some(topic) = of {
                    out[topic] += 0.6;
                }
                let hash = blake3::hash(word.as_bytes());
                out[4 + usize::from(hash.as_bytes()[0]) % (WIDTH - 4)] += 1.0;
            }
            let norm = out.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
            out.iter_mut().for_each(|value| *value /= norm);
        }
    }
}

/// Sentences with their topics.
fn sentences(count: usize, seed: u64) -> Vec<(String, u32)> {
    let mut state = seed;
    let mut below = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    (0..count)
        .map(|row| {
            let (_, words) = TOPICS[row % TOPICS.len()];
            let mut text: Vec<&str> = (0..2).map(|_| words[below(6)]).collect();
            text.extend((0..3).map(|_| FILLERS[below(8)]));
            (format!("{} r{row}", text.join(" ")), (row % TOPICS.len()) as u32)
        })
        .collect()
}

/// The first `labelled` rows of a set with labels, the others without; and labelled test rows.
fn rows<'a>(
    train: &'a [(String, u32)],
    labelled: usize,
    tested: &'a [(String, u32)],
) -> TrainingRows<'a> {
    let mut rows = TrainingRows::none(LabelKind::SingleChoice);
    rows.label_names = TOPICS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (row, (text, label)) in train.iter().enumerate() {
        rows.texts.push(text);
        rows.splits.push(Split::Train);
        if row < labelled {
            rows.labels.push_one(*label);
        } else {
            rows.labels.push_unlabelled();
        }
    }
    for (text, label) in tested {
        rows.texts.push(text);
        rows.splits.push(Split::Test);
        rows.labels.push_one(*label);
    }
    rows.row_ids = (0..rows.texts.len() as u64).collect();
    rows
}

fn names_only() -> Taxonomy {
    Taxonomy::from_labels(TOPICS.iter().map(|(name, _)| *name)).unwrap()
}

fn with_descriptions() -> Taxonomy {
    let mut file = "name,description\n".to_owned();
    for (name, words) in TOPICS {
        file.push_str(&format!("{name},{}\n", words.join(" ")));
    }
    parse("topics.csv", file.as_bytes(), &ParseOptions::default()).unwrap()
}

/// The report for a terminal, its lines joined.
fn said(report: &Report) -> String {
    report.render_text().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn options() -> TrainOptions {
    TrainOptions { trials: Some(4), ..TrainOptions::default() }
}

fn run(
    rows: &TrainingRows<'_>,
    taxonomy: Option<&Taxonomy>,
    encoder: Option<&dyn Encoder>,
    options: &TrainOptions,
    out: &Path,
) -> Result<TrainOutcome, TrainError> {
    train(rows, taxonomy, options, encoder, &Unobserved, None, out)
}

/// The mean probability of the likeliest class over texts.
fn mean_confidence(model: &Path, texts: &[(String, u32)]) -> f64 {
    let model = Model::open(model).unwrap();
    let mut scratch = Scratch::default();
    let confidence = |(text, _): &(String, u32)| {
        let embeddings = model.encode(&[text], Some(&TopicEncoder)).unwrap();
        let probabilities = model.probabilities(text, embeddings.text(0), &mut scratch).unwrap();
        f64::from(probabilities.iter().copied().fold(0.0, f32::max))
    };
    texts.iter().map(confidence).sum::<f64>() / texts.len() as f64
}

#[test]
fn rows_without_any_label_are_labelled_by_what_the_taxonomy_says() {
    let (texts, tested) = (sentences(400, 1), sentences(200, 2));
    let rows = rows(&texts, 0, &tested);
    let taxonomy = with_descriptions();
    let out = tempfile::tempdir().unwrap();
    let outcome = run(&rows, Some(&taxonomy), Some(&TopicEncoder), &options(), out.path()).unwrap();
    let report = outcome.report;
    assert_eq!(report.regime, Regime::Unlabelled);
    assert_eq!((report.data.labelled_rows, report.data.unlabelled_rows), (0, 400));
    let weak = report.weak.as_ref().unwrap();
    assert_eq!((weak.method, weak.used, weak.rows), (WeakMethod::Prototypes, true, 400));
    let estimate = weak.estimated_accuracy.unwrap();
    assert!((0.3..=1.0).contains(&estimate));
    assert!(weak.rounds.is_some_and(|rounds| rounds > 0));
    let agreements = [weak.kept_labels.unwrap(), weak.view_agreement.unwrap()];
    assert!(agreements.iter().all(|share| (0.5..=1.0).contains(share)), "{agreements:?}");
    assert!(said(&report).contains("agreement with these labels, not accuracy"));
    assert!(said(&report).contains("guess of ±7 points"));
    let accuracy = report.test.unwrap().accuracy;
    assert!(accuracy > 0.9, "{accuracy}");
    let confidence = mean_confidence(&outcome.model_path, &tested);
    assert!((confidence - estimate).abs() < 0.1, "{confidence}, and {estimate} was estimated");

    // The number of threads changes nothing.
    for threads in [1, 3] {
        let options = TrainOptions { threads: Some(threads), ..options() };
        let out = tempfile::tempdir().unwrap();
        let again = run(&rows, Some(&taxonomy), Some(&TopicEncoder), &options, out.path()).unwrap();
        assert_eq!(again.model_hash, outcome.model_hash, "{threads} threads");
    }
}

#[test]
fn without_an_encoder_words_say_what_is_alike() {
    let (texts, tested) = (sentences(400, 3), sentences(200, 4));
    let rows = rows(&texts, 0, &tested);
    let out = tempfile::tempdir().unwrap();
    let outcome = run(&rows, Some(&with_descriptions()), None, &options(), out.path()).unwrap();
    assert_eq!(outcome.report.regime, Regime::Unlabelled);
    let accuracy = outcome.report.test.unwrap().accuracy;
    assert!(accuracy > 0.9, "{accuracy}");
}

#[test]
fn rows_without_label_help_where_few_have_one() {
    let (texts, tested) = (sentences(500, 5), sentences(200, 6));
    let rows = rows(&texts, 16, &tested);
    let out = tempfile::tempdir().unwrap();
    let outcome = run(&rows, None, Some(&TopicEncoder), &options(), out.path()).unwrap();
    let report = outcome.report;
    assert_eq!(report.regime, Regime::PartlyLabelled);
    assert_eq!((report.data.labelled_rows, report.data.unlabelled_rows), (16, 484));
    let weak = report.weak.as_ref().unwrap();
    assert_eq!((weak.method, weak.held_out_rows, weak.rows), (WeakMethod::SelfTraining, 16, 484));
    let (with, without) = (weak.accuracy_with.unwrap(), weak.accuracy_without.unwrap());
    assert_eq!(weak.used, with > without, "{with} and {without}");
    assert!(weak.used, "{with} and {without}");
    assert_eq!(report.cv.rows, 16, "only labelled rows are scored");
    let accuracy = report.test.unwrap().accuracy;
    assert!(accuracy > 0.9, "{accuracy}");

    let options = TrainOptions { threads: Some(1), ..options() };
    let out = tempfile::tempdir().unwrap();
    let again = run(&rows, None, Some(&TopicEncoder), &options, out.path()).unwrap();
    assert_eq!(again.model_hash, outcome.model_hash);
}

#[test]
fn rows_without_label_are_left_alone_where_they_do_not_help() {
    let texts = sentences(400, 7);
    let rows = rows(&texts, 360, &[]);
    let out = tempfile::tempdir().unwrap();
    let outcome = run(&rows, None, Some(&TopicEncoder), &options(), out.path()).unwrap();
    let weak = outcome.report.weak.as_ref().unwrap();
    assert!(!weak.used, "every labelled row was right already: {weak:?}");
    assert!(said(&outcome.report).contains("left alone"));

    // The model is that of the labelled rows, but for words that only the others have.
    assert_eq!(outcome.report.cv.rows, 360);
}

#[test]
fn a_taxonomy_alone_makes_a_model() {
    let nothing = TrainingRows::none(LabelKind::SingleChoice);
    for (taxonomy, is_known) in [(names_only(), false), (with_descriptions(), true)] {
        let out = tempfile::tempdir().unwrap();
        let outcome =
            run(&nothing, Some(&taxonomy), Some(&TopicEncoder), &options(), out.path()).unwrap();
        let report = &outcome.report;
        assert_eq!(report.regime, Regime::TaxonomyOnly);
        let weak = report.weak.as_ref().unwrap();
        assert_eq!(weak.method, WeakMethod::ClassTexts);
        assert_eq!(weak.estimated_accuracy.is_some(), is_known);
        let says_unknown = said(report).contains("cannot be known");
        assert_eq!(says_unknown, !is_known);
        let model = Model::open(&outcome.model_path).unwrap();
        let text = "deliver my card in an envelope";
        let embeddings = model.encode(&[text], Some(&TopicEncoder)).unwrap();
        let mut scratch = Scratch::default();
        let probabilities = model.probabilities(text, embeddings.text(0), &mut scratch).unwrap();
        let best = (0..4).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap();
        assert_eq!(model.output_class(best).unwrap().name, "card_arrival");
    }
    // Nothing to learn from at all.
    let out = tempfile::tempdir().unwrap();
    let error = run(&nothing, None, Some(&TopicEncoder), &options(), out.path()).unwrap_err();
    assert!(matches!(error, TrainError::NothingLabelled { .. }));
    assert!(error.hint().unwrap().contains("taxonomy"));
}

#[test]
fn a_multi_label_task_leaves_rows_without_label_out_and_says_so() {
    let texts = sentences(120, 9);
    let mut rows = rows(&texts, 80, &[]);
    rows.kind = LabelKind::MultiLabel;
    let out = tempfile::tempdir().unwrap();
    let outcome = run(&rows, None, Some(&TopicEncoder), &options(), out.path()).unwrap();
    let is_said = |warning: &&corral_training::Warning| {
        warning.kind == WarningKind::UnlabelledLeftOut && warning.count == 40
    };
    assert!(outcome.report.warnings.iter().any(|warning| is_said(&warning)));
    rows.labels = RowLabels::new();
    (0..120).for_each(|_| rows.labels.push_unlabelled());
    let taxonomy = names_only();
    let error = run(&rows, Some(&taxonomy), None, &options(), out.path()).unwrap_err();
    assert!(matches!(error, TrainError::NothingLabelled { rows: 120 }), "{error}");
}
