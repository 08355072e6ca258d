//! Linear learners against scikit-learn and numpy: `tests/golden/linear.py`.

use corral_classifier::head::{FeatureRow, HeadScratch};
use corral_classifier::{Link, SparseRow};
use serde_json::Value;

use super::complement_bayes::{self, BayesWeights};
use super::count_ratios::RatioSettings;
use super::svm::{Loss, SvmSettings};
use super::{
    DenseView, FeatureRows, Fitted, HeadBudget, Problem, SparseView, centroid, one_vs_rest,
};
use crate::targets::Targets;

const ROOM: HeadBudget = HeadBudget { bytes: 1 << 20 };

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f32>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

fn number(case: &Value, name: &str) -> f32 {
    case[name].as_f64().unwrap() as f32
}

/// Fits each case named `name` on the shared problem and compares the scores of its first rows.
fn check(name: &str, tolerance: f32, fit: impl Fn(&Problem<'_>, &Value) -> Fitted) {
    let given = parse(include_str!("../../tests/golden/golden.json"));
    let wanted = parse(include_str!("../../tests/golden/linear.json"));
    let (sparse, dense) = (matrix(&given["sparse"]), matrix(&given["dense"]));
    let (width, dense) = (dense[0].len(), dense.concat());
    let (mut offsets, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in &sparse {
        for (column, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            columns.push(column as u32);
            values.push(value);
        }
        offsets.push(columns.len());
    }
    let mut targets = Targets::new();
    floats(&given["labels"]).iter().for_each(|&label| targets.push(&mut [(label as u32, 1.0)]));
    let class_count = given["classes"].as_u64().unwrap() as usize;
    let dense_scale = number(&given, "dense_scale");
    let features = FeatureRows {
        sparse: Some(SparseView {
            row_offsets: &offsets,
            columns: &columns,
            values: &values,
            column_count: sparse[0].len(),
        }),
        sparse_scale: 1.0,
        dense: Some(DenseView { values: &dense, column_count: width }),
        dense_scale,
    };
    let rows: Vec<u32> = (0..sparse.len() as u32).collect();
    let problem = Problem {
        features,
        squared_norms: &features.squared_norms(),
        rows: &rows,
        class_count,
        targets: &targets,
        row_weights: &floats(&given["weights"]),
        class_weights: &vec![1.0; class_count],
        parents: None,
        link: Link::Softmax,
        seed: 3,
        stop: &|| false,
    };
    for case in wanted[name].as_array().unwrap() {
        let fitted = fit(&problem, case);
        let wanted = matrix(&case["scores"]);
        // Complement naive Bayes normalised is that of scikit-learn times one number.
        let mut factor = None;
        for (row, wanted) in wanted.iter().enumerate() {
            let range = offsets[row]..offsets[row + 1];
            let mut scores = Vec::new();
            fitted.head.score(
                FeatureRow {
                    lexical: SparseRow { indices: &columns[range.clone()], values: &values[range] },
                    lexical_scale: 1.0,
                    embedding: &dense[row * width..][..width],
                    embedding_scale: dense_scale,
                },
                &mut HeadScratch::default(),
                &mut scores,
            );
            if case["normalised"] == Value::Bool(true) {
                let factor = *factor.get_or_insert(scores[0] / wanted[0]);
                scores.iter_mut().for_each(|score| *score /= factor);
            }
            for (class, (found, wanted)) in scores.iter().zip(wanted).enumerate() {
                assert!(
                    (found - wanted).abs() < tolerance,
                    "{name}, row {row}, class {class}: {found} for {wanted}"
                );
            }
        }
    }
}

fn machines(
    problem: &Problem<'_>,
    case: &Value,
    loss: Loss,
    ratios: Option<RatioSettings>,
) -> Fitted {
    let cost = number(case, "cost");
    let settings = SvmSettings { cost, loss, tolerance: 1e-6, max_passes: 20_000 };
    let mut fitted = None;
    one_vs_rest::fit_path(problem, &[settings], ratios, ROOM, &mut |only| fitted = Some(only))
        .unwrap();
    fitted.unwrap()
}

#[test]
fn complement_bayes_is_that_of_scikit_learn() {
    check("complement_bayes", 1e-4, |problem, case| {
        let weights = if case["normalised"] == Value::Bool(true) {
            BayesWeights::Normalised
        } else {
            BayesWeights::Plain
        };
        complement_bayes::fit(problem, number(case, "smoothing"), weights, ROOM).unwrap()
    });
}

#[test]
fn ridge_is_that_of_scikit_learn() {
    check("ridge", 5e-3, |problem, case| machines(problem, case, Loss::Squared, None));
}

#[test]
fn machines_on_count_ratios_are_those_of_the_paper() {
    check("nb_svm", 2e-2, |problem, case| {
        let ratios = RatioSettings {
            smoothing: number(case, "smoothing"),
            interpolation: number(case, "interpolation"),
        };
        machines(problem, case, Loss::SquaredHinge, Some(ratios))
    });
}

#[test]
fn centroids_are_those_of_rocchio() {
    check("centroid", 1e-4, |problem, case| {
        centroid::fit(problem, number(case, "contrast"), ROOM).unwrap()
    });
}
