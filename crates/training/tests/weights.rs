//! Weights of rows and probabilistic labels, from metrics to whole runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_training::metrics::{
    Answers, Decisions, RankedRows, evaluate, evaluate_multi_label, multi_label_log_loss,
};
use corral_training::{
    Metric, RowLabels, Split, Targets, TrainError, TrainOptions, TrainOutcome, TrainingRows,
    Unobserved, train,
};
use corral_types::Explain;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/weights.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn ranked(probabilities: &Value) -> RankedRows {
    let rows: Vec<Vec<f32>> = probabilities.as_array().unwrap().iter().map(floats).collect();
    let mut ranked = RankedRows::new(rows[0].len());
    rows.iter().for_each(|row| ranked.push(row));
    ranked
}

fn check(golden: &Value, found: &[(&str, f64)]) {
    for (name, value) in found {
        let wanted = golden[name].as_f64().unwrap();
        // Probabilities and weights are of single precision here.
        assert!((value - wanted).abs() < 2e-6, "{name}: {value} for {wanted}");
    }
}

#[test]
fn weighted_metrics_are_those_of_scikit_learn() {
    let golden = golden();
    let mut targets = Targets::new();
    for labels in golden["labels"].as_array().unwrap() {
        let labels = labels.as_array().unwrap().iter().map(floats);
        targets.push_likely(&mut labels.map(|of| (of[0] as u32, of[1])).collect::<Vec<_>>());
    }
    let weights = floats(&golden["weights"]);
    let rows: Vec<u32> = (0..weights.len() as u32).collect();
    let answers = Answers { targets: &targets, weights: Some(&weights) };
    let found = evaluate(&ranked(&golden["probabilities"]), &rows, answers, None);
    let summary = &found.summary;
    check(
        &golden,
        &[
            ("accuracy", summary.accuracy),
            ("macro_f1", summary.macro_f1),
            ("weighted_f1", summary.weighted_f1),
            ("top_5", summary.top_5),
            ("log_loss", summary.log_loss.unwrap()),
            ("ece", summary.ece),
        ],
    );
    let counted: u64 = found.classes.iter().map(|class| class.support).sum();
    assert_eq!(counted, rows.len() as u64, "each row is counted once, by its likeliest class");

    let golden = &golden["multi_label"];
    let mut targets = Targets::new();
    for classes in golden["right"].as_array().unwrap() {
        let classes = floats(classes);
        targets.push(&mut classes.iter().map(|&c| (c as u32, 1.0)).collect::<Vec<_>>());
    }
    let answers = Answers { targets: &targets, weights: Some(&weights) };
    let raised = ranked(&golden["raised"]);
    let summary = evaluate_multi_label(&raised, &rows, answers, Decisions::Even).summary;
    check(
        golden,
        &[
            ("accuracy", summary.accuracy),
            ("macro_f1", summary.macro_f1),
            ("micro_f1", summary.micro_f1),
            ("weighted_f1", summary.weighted_f1),
        ],
    );
}

#[test]
fn thresholds_decide_what_a_multi_label_task_predicts() {
    let mut predicted = RankedRows::new(3);
    predicted.push(&[0.4, 0.6, 0.1]);
    predicted.push(&[0.4, 0.6, 0.1]);
    let mut targets = Targets::new();
    targets.push(&mut [(0, 1.0)]);
    targets.push(&mut [(0, 1.0), (1, 1.0)]);
    let answers = Answers::unweighted(&targets);
    let accuracy =
        |decisions| evaluate_multi_label(&predicted, &[0, 1], answers, decisions).summary.accuracy;
    assert_eq!(accuracy(Decisions::Even), 0.0);
    assert_eq!(accuracy(Decisions::PerOutput(&[0.3, 0.5, 0.5])), 0.5);
    let lists = [vec![0.3, 0.7, 0.5], vec![0.3, 0.5, 0.5]];
    assert_eq!(accuracy(Decisions::ByRow { thresholds: &lists, of_row: &[0, 1] }), 1.0);
    let wanted = [[0.4f64, 0.4, 0.9], [0.4, 0.6, 0.9]];
    let wanted = -wanted.iter().flatten().map(|p| p.ln()).sum::<f64>() / 2.0;
    let found = multi_label_log_loss(&predicted, &[0, 1], answers);
    assert!((found - wanted).abs() < 1e-6, "{found} for {wanted}");
}

#[test]
fn an_ambiguous_row_is_a_hit_for_any_class_and_a_likely_one_for_its_share() {
    let mut predicted = RankedRows::new(3);
    (0..4).for_each(|_| predicted.push(&[0.2, 0.7, 0.1]));
    let mut targets = Targets::new();
    targets.push(&mut [(0, 0.5), (1, 0.5)]);
    targets.push_likely(&mut [(0, 0.5), (1, 0.5)]);
    targets.push_likely(&mut [(0, 0.7), (1, 0.3)]);
    targets.push_likely(&mut [(1, 1.0)]);
    let accuracy = |rows: &[u32]| {
        let ranked = predicted.select(rows);
        evaluate(&ranked, rows, Answers::unweighted(&targets), None).summary.accuracy
    };
    for (row, wanted) in [1.0, 0.5, 0.3, 1.0].into_iter().enumerate() {
        assert!((accuracy(&[row as u32]) - wanted).abs() < 1e-6, "row {row}");
    }
    assert!((accuracy(&[0, 1, 2, 3]) - 0.7).abs() < 1e-6);
}

/// Texts of three classes, some words of which are told by nothing.
fn texts(rows: usize) -> Vec<String> {
    let words = [["loan", "rate", "bank"], ["parcel", "post", "van"], ["soup", "bread", "salt"]];
    let text = |row: usize| {
        let own = &words[row % 3];
        format!("{} {} about {} {}", own[row / 3 % 3], own[row / 9 % 3], row % 7, row / 27)
    };
    (0..rows).map(text).collect()
}

fn rows_of(texts: &[String], label: impl Fn(usize) -> u32) -> TrainingRows<'_> {
    let names = ["money", "mail", "food"].map(str::to_owned).to_vec();
    let labelled = texts.iter().enumerate().map(|(row, text)| (text.as_str(), label(row)));
    TrainingRows::single_choice(names, labelled)
}

fn run(rows: &TrainingRows<'_>) -> Result<(TrainOutcome, Vec<u8>), TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let options = TrainOptions { trials: Some(6), threads: Some(2), ..TrainOptions::default() };
    let outcome = train(rows, None, &options, None, &Unobserved, None, folder.path())?;
    let bytes = std::fs::read(&outcome.model_path).unwrap();
    Ok((outcome, bytes))
}

#[test]
fn rows_of_weight_zero_are_not_there() {
    let texts = texts(150);
    let (all, _) = run(&rows_of(&texts, |row| row as u32 % 3)).unwrap();
    assert_eq!(all.report.data.weightless_rows, 0);
    // A third is labelled wrongly, in every class, and weighs nothing.
    let mut rows =
        rows_of(&texts, |row| if row < 50 { (row as u32 + 1) % 3 } else { row as u32 % 3 });
    rows.weights = Some((0..150).map(|row| if row < 50 { 0.0 } else { 1.0 }).collect());
    let (weighted, model) = run(&rows).unwrap();
    let mut kept = rows_of(&texts[50..], |row| (row as u32 + 50) % 3);
    kept.weights = Some(vec![1.0; 100]);
    let (_, model_of_kept) = run(&kept).unwrap();
    assert_eq!(model, model_of_kept);
    assert_eq!(weighted.report.data.weightless_rows, 50);
    assert_eq!(weighted.report.data.labelled_rows, 100);
}

#[test]
fn rows_that_all_weigh_nothing_are_refused() {
    let texts = texts(30);
    let mut rows = rows_of(&texts, |row| row as u32 % 3);
    rows.weights = Some(vec![0.0; 30]);
    let error = run(&rows).unwrap_err();
    assert_eq!(error.to_string(), "all 30 labelled rows have the weight 0");
    assert!(error.hint().unwrap().contains("weight column"));
}

/// The likeliest class by the finished model and the report's accuracy on the test rows.
fn accuracy(rows: &TrainingRows<'_>) -> f64 {
    run(rows).unwrap().0.report.test.unwrap().accuracy
}

#[test]
fn weights_and_shares_decide_what_contradicting_rows_teach() {
    // Every text stands twice with different labels; a last part is the test.
    let once = texts(120);
    let doubled: Vec<String> =
        once[..90].iter().chain(&once[..90]).chain(&once[90..]).cloned().collect();
    let right = |row: usize| if row < 90 { row as u32 % 3 } else { (row as u32 - 90) % 3 };
    let label = |row: usize| if row < 90 { (right(row) + 1) % 3 } else { right(row) };
    let mut rows = rows_of(&doubled, label);
    rows.splits = (0..210).map(|row| if row < 180 { Split::Train } else { Split::Test }).collect();
    let weigh = |rows: &mut TrainingRows<'_>, wrong: f32, right: f32| {
        rows.weights = Some((0..210).map(|row| if row < 90 { wrong } else { right }).collect());
    };
    weigh(&mut rows, 0.1, 1.0);
    assert!(accuracy(&rows) > 0.9);
    weigh(&mut rows, 1.0, 0.1);
    assert!(accuracy(&rows) < 0.1);

    // The same as shares of one row, which soft learners and hard ones both can use.
    let texts = texts(120);
    let with_shares = |first: f32| {
        let mut rows = rows_of(&texts, |row| row as u32 % 3);
        rows.splits =
            (0..120).map(|row| if row < 90 { Split::Train } else { Split::Test }).collect();
        rows.labels = RowLabels::new();
        for row in 0..120u32 {
            match row {
                0..90 => rows.labels.push_shares(&[(row % 3, first), ((row + 1) % 3, 1.0 - first)]),
                _ => rows.labels.push_one(row % 3),
            }
        }
        let outcome = run(&rows).unwrap().0;
        (Metric::Accuracy.value(&outcome.report.cv), outcome.report.test.unwrap().accuracy)
    };
    let (expected, test) = with_shares(0.7);
    assert!(test > 0.9, "{test}");
    assert!(
        (0.6..=0.7 + 1e-6).contains(&expected),
        "at best the share of the likelier: {expected}"
    );
    assert!(with_shares(0.2).1 < 0.1);
}
