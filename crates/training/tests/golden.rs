//! Learners, metrics and calibration against scikit-learn's answers: `golden/generate.py`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_training::learner::{
    BlockTargets, DenseView, FeatureRows, LANES, Lanes, Loss, SoftmaxSettings, SoftmaxTargets,
    SparseView, SvmSettings, fit_softmax, fit_svm_block,
};
use corral_training::metrics::{Answers, RankedRows, evaluate};
use corral_training::{Targets, fit_sigmoid, fit_temperature};
use serde_json::Value;

/// How far above the optimum an objective may lie: single precision and a stopping rule.
const OBJECTIVE_SLACK: f64 = 2e-4;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/golden.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f32>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

/// The problem that all learners are given: sparse and dense columns side by side.
struct Task {
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    sparse_columns: usize,
    dense: Vec<f32>,
    dense_columns: usize,
    dense_scale: f32,
    classes: usize,
    labels: Vec<u32>,
    weights: Vec<f32>,
}

impl Task {
    fn of(golden: &Value) -> Self {
        let sparse = matrix(&golden["sparse"]);
        let dense = matrix(&golden["dense"]);
        let mut task = Self {
            offsets: vec![0],
            columns: Vec::new(),
            values: Vec::new(),
            sparse_columns: sparse[0].len(),
            dense_columns: dense[0].len(),
            dense: dense.concat(),
            dense_scale: golden["dense_scale"].as_f64().unwrap() as f32,
            classes: golden["classes"].as_u64().unwrap() as usize,
            labels: numbers(&golden["labels"]).into_iter().map(|label| label as u32).collect(),
            weights: floats(&golden["weights"]),
        };
        for row in &sparse {
            for (column, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                task.columns.push(column as u32);
                task.values.push(value);
            }
            task.offsets.push(task.columns.len());
        }
        task
    }

    fn features(&self) -> FeatureRows<'_> {
        FeatureRows {
            sparse: Some(SparseView {
                row_offsets: &self.offsets,
                columns: &self.columns,
                values: &self.values,
                column_count: self.sparse_columns,
            }),
            sparse_scale: 1.0,
            dense: Some(DenseView { values: &self.dense, column_count: self.dense_columns }),
            dense_scale: self.dense_scale,
        }
    }

    fn rows(&self) -> Vec<u32> {
        (0..self.labels.len() as u32).collect()
    }

    /// The score of a class, whose weights are given by column.
    fn score(&self, row: usize, weight: impl Fn(usize) -> f32, intercept: f32) -> f64 {
        let mut score = f64::from(intercept);
        for entry in self.offsets[row]..self.offsets[row + 1] {
            score +=
                f64::from(self.values[entry]) * f64::from(weight(self.columns[entry] as usize));
        }
        for column in 0..self.dense_columns {
            let value = self.dense[row * self.dense_columns + column] * self.dense_scale;
            score += f64::from(value) * f64::from(weight(self.sparse_columns + column));
        }
        score
    }
}

fn check_objective(found: f64, best: f64, what: &str) {
    assert!(found >= best * (1.0 - 1e-6), "{what}: {found} is below the optimum {best}");
    assert!(found <= best * (1.0 + OBJECTIVE_SLACK), "{what}: {found} where {best} can be reached");
}

fn check_scores(found: &[Vec<f64>], wanted: &Value, tolerance: f64, what: &str) {
    for (row, wanted) in wanted.as_array().unwrap().iter().enumerate() {
        for (class, wanted) in numbers(wanted).into_iter().enumerate() {
            let found = found[row][class];
            assert!(
                (found - wanted).abs() < tolerance,
                "{what}, row {row}, class {class}: {found} for {wanted}"
            );
        }
    }
}

#[test]
fn machines_reach_the_objective_and_scores_of_liblinear() {
    let golden = golden();
    let task = Task::of(&golden);
    let weighted = [(2, 4.0), (5, 0.25)];
    let cases = golden["svm"].as_array().unwrap().iter().map(|case| (case, &[][..]));
    for (case, class_weights) in cases.chain([(&golden["svm_weighted"], &weighted[..])]) {
        let cost = case["cost"].as_f64().unwrap();
        let settings = SvmSettings {
            cost: cost as f32,
            loss: Loss::SquaredHinge,
            tolerance: 1e-4,
            max_passes: 20_000,
        };
        let weight_of = |class: usize| -> f32 {
            class_weights
                .iter()
                .find(|(weighted, _)| *weighted == class)
                .map_or(1.0, |(_, weight)| *weight)
        };
        let (mut objective, mut scores) = (0.0, vec![vec![0.0; task.classes]; 5]);
        for block in 0..task.classes.div_ceil(LANES) {
            let positive: Vec<u16> = task
                .labels
                .iter()
                .map(|&label| {
                    if label as usize / LANES == block { 1 << (label as usize % LANES) } else { 0 }
                })
                .collect();
            let mut positive_weights = Lanes::splat(1.0);
            for lane in 0..LANES {
                positive_weights.0[lane] = weight_of(block * LANES + lane);
            }
            let rows = task.rows();
            let targets = BlockTargets {
                rows: &rows,
                positive: &positive,
                row_weights: &task.weights,
                positive_weights,
                scaling: None,
            };
            let features = task.features();
            let fitted = fit_svm_block(
                &features,
                &features.squared_norms(),
                &targets,
                &settings,
                None,
                3,
                &|| false,
            )
            .unwrap();
            for lane in 0..LANES.min(task.classes - block * LANES) {
                let class = block * LANES + lane;
                let score = |row| {
                    task.score(
                        row,
                        |column| fitted.weights[column].0[lane],
                        fitted.intercepts.0[lane],
                    )
                };
                let square = |weight: f32| f64::from(weight).powi(2);
                objective += 0.5
                    * (fitted.weights.iter().map(|lanes| square(lanes.0[lane])).sum::<f64>()
                        + square(fitted.intercepts.0[lane]));
                for row in 0..task.labels.len() {
                    let is_positive = task.labels[row] as usize == class;
                    let sign = if is_positive { 1.0 } else { -1.0 };
                    let weight = f64::from(task.weights[row])
                        * f64::from(if is_positive { weight_of(class) } else { 1.0 });
                    objective += cost * weight * (1.0 - sign * score(row)).max(0.0).powi(2);
                }
                for (row, scores) in scores.iter_mut().enumerate() {
                    scores[class] = score(row);
                }
            }
        }
        check_objective(objective, case["objective"].as_f64().unwrap(), &format!("cost {cost}"));
        check_scores(&scores, &case["scores"], 2e-2, &format!("cost {cost}"));
    }
}

#[test]
fn regressions_reach_the_objective_and_scores_of_lbfgs() {
    let golden = golden();
    let task = Task::of(&golden);
    let hard = golden["softmax"].as_array().unwrap().iter().map(|case| (case, 0.0));
    let reference = [(&golden["softmax_soft"], 0.3), (&golden["softmax_reference"], 0.0)];
    for (case, moved) in hard.chain(reference) {
        let cost = case["cost"].as_f64().unwrap();
        let mut targets = Targets::new();
        let (mut offsets, mut classes, mut shares) = (vec![0], Vec::new(), Vec::new());
        for &label in &task.labels {
            let other = (label + 3) % task.classes as u32;
            let mut labels = vec![(label, 1.0 - moved)];
            if moved > 0.0 {
                labels.push((other, moved));
            }
            targets.push(&mut labels);
            classes.extend(labels.iter().map(|label| label.0));
            shares.extend(labels.iter().map(|label| label.1));
            offsets.push(classes.len() as u32);
        }
        let rows = task.rows();
        let problem = SoftmaxTargets {
            class_count: task.classes,
            rows: &rows,
            offsets: &offsets,
            classes: &classes,
            shares: &shares,
            row_weights: &task.weights,
        };
        let settings = SoftmaxSettings { cost: cost as f32, tolerance: 1e-4, max_passes: 20_000 };
        let features = task.features();
        let fitted = fit_softmax(
            &features,
            &features.squared_norms(),
            &problem,
            &settings,
            None,
            3,
            &|| false,
        )
        .unwrap();
        let weight = |column: usize, class: usize| {
            let (block, lane) = (class / LANES, class % LANES);
            match column.checked_sub(task.sparse_columns) {
                None => fitted.sparse[column * fitted.blocks + block].0[lane],
                Some(dense) => fitted.dense[block * task.dense_columns + dense].0[lane],
            }
        };
        let intercept = |class: usize| fitted.intercepts[class / LANES].0[class % LANES];
        let score = |row: usize, class: usize| {
            task.score(row, |column| weight(column, class), intercept(class))
        };
        let square = |value: f32| f64::from(value).powi(2);
        let mut objective = 0.0;
        for class in 0..task.classes {
            let columns = task.sparse_columns + task.dense_columns;
            objective += 0.5
                * ((0..columns).map(|column| square(weight(column, class))).sum::<f64>()
                    + square(intercept(class)));
        }
        for row in 0..task.labels.len() {
            let scores: Vec<f64> = (0..task.classes).map(|class| score(row, class)).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total =
                scores.iter().map(|score| (score - highest).exp()).sum::<f64>().ln() + highest;
            let (classes, shares) = targets.row(row);
            let right: f64 = classes
                .iter()
                .zip(shares)
                .map(|(&class, &share)| f64::from(share) * scores[class as usize])
                .sum();
            objective += cost * f64::from(task.weights[row]) * (total - right);
        }
        check_objective(objective, case["objective"].as_f64().unwrap(), &format!("cost {cost}"));
        if case.get("scores").is_some() {
            let scores: Vec<Vec<f64>> = (0..5)
                .map(|row| (0..task.classes).map(|class| score(row, class)).collect())
                .collect();
            check_scores(
                &scores,
                &case["scores"],
                3e-2 * (1.0 + cost).sqrt(),
                &format!("cost {cost}"),
            );
        }
    }
}

fn targets_of(labels: &Value) -> (Targets, Vec<u32>) {
    let mut targets = Targets::new();
    let labels = numbers(labels);
    labels.iter().for_each(|&label| targets.push(&mut [(label as u32, 1.0)]));
    (targets, (0..labels.len() as u32).collect())
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let golden = &golden()["metrics"];
    let (targets, rows) = targets_of(&golden["right"]);
    let probabilities = matrix(&golden["probabilities"]);
    let mut ranked = RankedRows::new(probabilities[0].len());
    probabilities.iter().for_each(|row| ranked.push(row));
    let found = evaluate(&ranked, &rows, Answers::unweighted(&targets), None);
    let wanted = |name: &str| golden[name].as_f64().unwrap();
    let summary = &found.summary;
    for (name, value, tolerance) in [
        ("accuracy", summary.accuracy, 1e-12),
        ("macro_f1", summary.macro_f1, 1e-12),
        ("weighted_f1", summary.weighted_f1, 1e-12),
        ("top_5", summary.top_5, 1e-12),
        // Probabilities were rounded to four digits and do not sum to one exactly.
        ("log_loss", summary.log_loss.unwrap(), 1e-3),
        ("ece", summary.ece, 1e-6),
    ] {
        assert!((value - wanted(name)).abs() < tolerance, "{name}: {value} for {}", wanted(name));
    }
    let classes = golden["classes"].as_array().unwrap();
    assert_eq!(found.classes.len(), classes.len());
    for (found, wanted) in found.classes.iter().zip(classes) {
        assert_eq!(u64::from(found.class), wanted["class"].as_u64().unwrap());
        assert_eq!(found.support, wanted["support"].as_u64().unwrap());
        for (value, name) in
            [(found.precision, "precision"), (found.recall, "recall"), (found.f1, "f1")]
        {
            assert!(
                (value - wanted[name].as_f64().unwrap()).abs() < 1e-12,
                "{name} of {}",
                found.class
            );
        }
    }
}

#[test]
fn calibrations_are_those_of_scikit_learn_and_of_a_search() {
    let golden = golden();
    let temperature = &golden["temperature"];
    let (targets, rows) = targets_of(&temperature["right"]);
    let logits = matrix(&temperature["logits"]);
    let logits: Vec<&[f32]> = logits.iter().map(Vec::as_slice).collect();
    let found = f64::from(fit_temperature(&logits, &rows, &targets, &vec![1.0; rows.len()]));
    let wanted = temperature["value"].as_f64().unwrap();
    assert!((found / wanted - 1.0).abs() < 1e-4, "{found} for {wanted}");

    let sigmoid = &golden["sigmoid"];
    let rows: Vec<(f32, bool, f32)> = floats(&sigmoid["scores"])
        .into_iter()
        .zip(numbers(&sigmoid["is_positive"]))
        .map(|(score, is_positive)| (score, is_positive == 1.0, 1.0))
        .collect();
    let found = fit_sigmoid(&rows);
    for (value, name) in [(found.slope, "slope"), (found.offset, "offset")] {
        let wanted = sigmoid[name].as_f64().unwrap();
        assert!((value - wanted).abs() < 1e-3, "{name}: {value} for {wanted}");
    }
}
