//! Whole runs with rows of no class.

use std::path::Path;

use corral_classifier::{Model, PredictOptions, Refusals};
use corral_taxonomy::Taxonomy;
use corral_training::{
    LabelKind, RefusalKind, RefusalRows, Split, TrainError, TrainOptions, TrainOutcome,
    TrainingRows, Unobserved, train,
};
use corral_types::Explain;

const CLASSES: usize = 8;
const NONE: u32 = CLASSES as u32;

/// Sentences of eight topics, and of none: words that all use, and strange ones.
fn sentences() -> Vec<(String, u32, Split)> {
    let mut state = 3u64;
    let mut below = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    (0..900)
        .map(|row| {
            let label = if row % 9 == 0 { NONE } else { (row % CLASSES) as u32 };
            let split = match row % 5 {
                0 | 1 => Split::Train,
                2 | 3 => Split::Valid,
                _ => Split::Test,
            };
            let mut words: Vec<String> = (0..3).map(|_| format!("common{}", below(20))).collect();
            for _ in 0..4 {
                words.push(match (label, below(12)) {
                    (_, 0) => format!("topic{}word{}", below(CLASSES), below(5)),
                    (NONE, _) => format!("strange{}", below(60)),
                    (topic, _) => format!("topic{topic}word{}", below(5)),
                });
            }
            words.push(format!("row{row}"));
            (words.join(" "), label, split)
        })
        .collect()
}

fn names() -> Vec<String> {
    let topics = (0..CLASSES).map(|topic| format!("topic {topic}"));
    topics.chain(["something else".to_owned()]).collect()
}

fn rows(sentences: &[(String, u32, Split)]) -> TrainingRows<'_> {
    let labelled = sentences.iter().map(|(text, label, _)| (text.as_str(), *label));
    let mut rows = TrainingRows::single_choice(names(), labelled);
    rows.splits = sentences.iter().map(|row| row.2).collect();
    rows
}

fn options() -> TrainOptions {
    TrainOptions {
        trials: Some(6),
        none_label: Some("something else".to_owned()),
        ..TrainOptions::default()
    }
}

fn run(
    rows: &TrainingRows<'_>,
    taxonomy: Option<&Taxonomy>,
    options: &TrainOptions,
    folder: &Path,
) -> Result<TrainOutcome, TrainError> {
    train(rows, taxonomy, options, None, &Unobserved, None, folder)
}

#[test]
fn rows_of_no_class_teach_a_model_what_to_refuse() {
    let sentences = sentences();
    let folder = tempfile::tempdir().unwrap();
    // The taxonomy need not know the label.
    let taxonomy = Taxonomy::from_labels(names().iter().take(CLASSES).map(String::as_str)).unwrap();
    let outcome = run(&rows(&sentences), Some(&taxonomy), &options(), folder.path()).unwrap();
    let report = &outcome.report;
    println!("{}", report.render_text());
    let counts = |of_none: bool, split| {
        let wanted = |row: &&(String, u32, Split)| (row.1 == NONE) == of_none && row.2 == split;
        sentences.iter().filter(wanted).count() as u64
    };
    assert_eq!(report.data.classes, CLASSES as u64);
    assert_eq!(
        report.data.labelled_rows,
        counts(false, Split::Train) + counts(false, Split::Valid)
    );
    assert_eq!(report.data.none_rows, counts(true, Split::Train) + counts(true, Split::Valid));
    assert_eq!(report.data.unlabelled_rows, 0);
    let refusals = report.refusals.as_ref().unwrap();
    assert_eq!(refusals.none_label, "something else");
    assert_eq!(refusals.judged_by, RefusalRows::ValidRows);
    assert_eq!(refusals.held_out.in_scope_rows, counts(false, Split::Valid));
    assert_eq!(refusals.held_out.none_rows, counts(true, Split::Valid));
    let lost = refusals.held_out.accuracy_without - refusals.held_out.accuracy;
    assert!((0.0..=0.01).contains(&lost), "{lost}");
    assert!(refusals.held_out.refused_none > 0.6, "{refusals:?}");
    if refusals.score == RefusalKind::Detector {
        assert_eq!(refusals.fitted_none_rows, counts(true, Split::Train));
        assert_eq!(refusals.fitted_on, Some(RefusalRows::TrainRows));
    }

    // The file refuses as the report says.
    let model = Model::open(&outcome.model_path).unwrap();
    assert_eq!(model.output_count(), CLASSES);
    Model::verify(&outcome.model_path).unwrap();
    let test = refusals.test.unwrap();
    let tested: Vec<&(String, u32, Split)> =
        sentences.iter().filter(|row| row.2 == Split::Test).collect();
    let texts: Vec<&str> = tested.iter().map(|row| row.0.as_str()).collect();
    let answers = model.predict_batch(&texts, None, &PredictOptions::default()).unwrap();
    let (mut right, mut refused) = (0, 0);
    for (answer, row) in answers.iter().zip(&tested) {
        let is_refused = answer.refusal.unwrap().is_refused;
        assert_eq!(answer.chosen().count(), usize::from(!is_refused));
        match row.1 {
            NONE => refused += usize::from(is_refused),
            topic => {
                let name = format!("topic {topic}");
                let mut chosen = answer.chosen();
                right += usize::from(
                    chosen.any(|ranked| model.class(ranked.class).unwrap().name == name),
                );
            }
        }
    }
    assert_eq!(test.in_scope_rows, counts(false, Split::Test));
    assert_eq!(test.accuracy, right as f64 / test.in_scope_rows as f64);
    assert_eq!(test.refused_none, refused as f64 / test.none_rows as f64);
    assert!(test.refused_none > 0.5 && test.accuracy > 0.9, "{test:?}");
    let ignoring = PredictOptions { refusals: Refusals::Ignore, ..PredictOptions::default() };
    let answers = model.predict_batch(&texts, None, &ignoring).unwrap();
    assert!(answers.iter().all(|answer| answer.chosen().count() == 1));

    let page = report.render_html();
    assert!(page.contains("None of the classes") && page.contains("“something else”"));
    assert!(report.render_text().contains("with refusals"));
}

#[test]
fn refusals_have_the_same_bytes_on_any_number_of_threads() {
    let sentences = sentences();
    let rows = rows(&sentences);
    let of_threads = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let options = TrainOptions { threads: Some(threads), trials: Some(3), ..options() };
        run(&rows, None, &options, folder.path()).unwrap().model_hash
    };
    assert_eq!(of_threads(1), of_threads(3));
}

#[test]
fn a_dearer_refusal_refuses_more() {
    let sentences = sentences();
    let mut rows = rows(&sentences);
    // All rows judge where the split valid has none.
    rows.splits.iter_mut().filter(|split| **split == Split::Valid).for_each(|split| {
        *split = Split::Train;
    });
    let of_cost = |refusal_cost| {
        let folder = tempfile::tempdir().unwrap();
        let options = TrainOptions { refusal_cost, trials: Some(2), ..options() };
        let report = run(&rows, None, &options, folder.path()).unwrap().report;
        let refusals = report.refusals.unwrap();
        assert_eq!(refusals.judged_by, RefusalRows::AllRows);
        let lost = refusals.held_out.accuracy_without - refusals.held_out.accuracy;
        assert!(lost <= refusal_cost + 1e-9, "{refusals:?}");
        refusals.held_out.refused_none
    };
    assert!(of_cost(0.0) < of_cost(0.1));
}

#[test]
fn labels_of_no_class_are_checked() {
    let sentences = sentences();
    let folder = tempfile::tempdir().unwrap();
    let refused = |rows: &TrainingRows<'_>, options: TrainOptions| {
        let error = run(rows, None, &options, folder.path()).unwrap_err();
        format!("{error} {}", error.hint().unwrap_or_default())
    };
    let unknown = TrainOptions { none_label: Some("nothing".to_owned()), ..options() };
    let told = refused(&rows(&sentences), unknown);
    assert!(told.contains("no row carries the label `nothing`"), "{told}");
    let mut several = rows(&sentences);
    several.kind = LabelKind::MultiLabel;
    let told = refused(&several, options());
    assert!(told.contains("several classes") && told.contains("without any label"), "{told}");
    let dear = TrainOptions { refusal_cost: 1.5, ..options() };
    assert!(refused(&rows(&sentences), dear).contains("from 0 to 1"));
}
