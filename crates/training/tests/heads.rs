//! Neighbours, kernel ridge and networks: against scikit-learn's answers (`golden/heads.py`),
//! on problems with known answers, and the same for any number of threads.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_classifier::head::FeatureRow;
use corral_classifier::{
    Activation, Calibration, DenseRows, Head, LinearHead, Link, NetworkHead, Precision, SparseRows,
};
use corral_training::learner::{
    DenseView, FeatureRows, FitEffort, HeadBudget, Problem, SparseView,
};
use corral_training::{LearnerSettings, Targets};
use serde_json::Value;

const BUDGET: HeadBudget = HeadBudget { bytes: 1 << 20 };

/// Rows with their answers.
struct Task {
    sparse: Option<SparseRows>,
    dense: Option<DenseRows>,
    dense_scale: f32,
    targets: Targets,
    row_weights: Vec<f32>,
    classes: usize,
    link: Link,
}

impl Task {
    /// Rows of dense features that each have one class.
    fn dense(rows: Vec<Vec<f32>>, labels: &[u32], classes: usize) -> Self {
        let mut targets = Targets::new();
        labels.iter().for_each(|&label| targets.push(&mut [(label, 1.0)]));
        Self {
            row_weights: vec![1.0; labels.len()],
            sparse: None,
            dense: Some(DenseRows::from_values(rows.concat(), rows[0].len())),
            dense_scale: 1.0,
            targets,
            classes,
            link: Link::Softmax,
        }
    }

    fn fit(&self, learner: LearnerSettings, rows: usize, seed: u64) -> Head<'static> {
        let features = FeatureRows {
            sparse: self.sparse.as_ref().map(|rows| SparseView {
                row_offsets: rows.starts(),
                columns: rows.indices(),
                values: rows.values(),
                column_count: rows.columns(),
            }),
            sparse_scale: 1.0,
            dense: self
                .dense
                .as_ref()
                .map(|rows| DenseView { values: rows.values(), column_count: rows.width() }),
            dense_scale: self.dense_scale,
        };
        let rows: Vec<u32> = (0..rows as u32).collect();
        let problem = Problem {
            features,
            squared_norms: &features.squared_norms(),
            rows: &rows,
            class_count: self.classes,
            targets: &self.targets,
            row_weights: &self.row_weights,
            class_weights: &vec![1.0; self.classes],
            parents: None,
            link: self.link,
            seed,
            stop: &|| false,
        };
        learner.fit(&problem, FitEffort::Full, BUDGET).unwrap().unwrap().head
    }

    /// The scores of the rows from `first` on.
    fn scores(&self, head: &Head<'_>, first: usize) -> DenseRows {
        let rows =
            [self.sparse.as_ref().map(SparseRows::rows), self.dense.as_ref().map(DenseRows::rows)];
        let rows = rows.into_iter().flatten().next().unwrap();
        head.score_rows(rows - first, |index| FeatureRow {
            embedding_scale: self.dense_scale,
            embedding: self.dense.as_ref().map_or(&[], |rows| rows.row(first + index)),
            ..self
                .sparse
                .as_ref()
                .map_or(FeatureRow::dense(&[]), |rows| FeatureRow::sparse(rows.row(first + index)))
        })
    }

    fn probabilities(&self, head: &Head<'_>, first: usize) -> DenseRows {
        let mut scores = self.scores(head, first);
        Calibration::NONE.apply_rows(self.link, &mut scores);
        scores
    }
}

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/heads.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f32>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

fn sparse_rows(rows: &[Vec<f32>]) -> SparseRows {
    let (mut starts, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in rows {
        for (column, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            indices.push(column as u32);
            values.push(value);
        }
        starts.push(indices.len());
    }
    SparseRows::from_parts(starts, indices, values, rows[0].len()).unwrap()
}

/// The golden rows, and how many of them are fitted.
fn golden_task(golden: &Value) -> (Task, usize) {
    let labels: Vec<u32> =
        floats(&golden["labels"]).into_iter().map(|label| label as u32).collect();
    let classes = golden["classes"].as_u64().unwrap() as usize;
    let mut task = Task::dense(matrix(&golden["dense"]), &labels, classes);
    task.sparse = Some(sparse_rows(&matrix(&golden["sparse"])));
    task.row_weights = floats(&golden["weights"]);
    (task, labels.len())
}

fn check(found: &DenseRows, wanted: &Value, tolerance: f32, what: &str) {
    let wanted = matrix(wanted);
    assert_eq!(found.rows(), wanted.len());
    for (row, wanted) in wanted.iter().enumerate() {
        for (class, wanted) in wanted.iter().enumerate() {
            let found = found.row(row)[class];
            let off = (found - wanted).abs();
            assert!(off < tolerance, "{what}, row {row}, class {class}: {found} for {wanted}");
        }
    }
}

#[test]
fn neighbours_vote_as_those_of_scikit_learn() {
    let golden = golden();
    let (mut task, rows) = golden_task(&golden);
    task.sparse = None;
    task.row_weights.fill(1.0);
    for case in golden["neighbours"].as_array().unwrap() {
        let neighbours = case["neighbours"].as_u64().unwrap() as u32;
        let sharpness = case["sharpness"].as_f64().unwrap() as f32;
        let head = task.fit(LearnerSettings::Neighbours { neighbours, sharpness }, rows, 0);
        // Embeddings are kept in seven bits, and classes without a vote get a little.
        check(&task.probabilities(&head, rows), &case["probabilities"], 0.03, "neighbours");
    }
}

#[test]
fn kernel_ridge_scores_as_that_of_scikit_learn() {
    let golden = golden();
    let (mut task, rows) = golden_task(&golden);
    for case in golden["kernel_ridge"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap() as f32;
        task.dense_scale = number("scale");
        let learner =
            LearnerSettings::KernelRidge { ridge: number("ridge"), decay: number("decay") };
        let head = task.fit(learner, rows, 0);
        // Embeddings are kept in seven bits.
        check(&task.scores(&head, rows), &case["scores"], 0.01, "kernel ridge");
    }
}

#[test]
fn networks_answer_as_those_of_scikit_learn() {
    let golden = golden();
    let (task, rows) = golden_task(&golden);
    for case in golden["network"].as_array().unwrap() {
        let (weights, biases) = (matrix(&case["weights"]), matrix(&case["biases"]));
        let layer = |index: usize| {
            let bias: Vec<f32> = biases[index].clone();
            LinearHead::from_column_major(&weights[index], bias, Precision::F32).unwrap()
        };
        let activation = match case["activation"].as_str().unwrap() {
            "identity" => Activation::Identity,
            _ => Activation::Rectified,
        };
        let head = Head::from(NetworkHead::new(layer(0), activation, layer(1)).unwrap());
        check(&task.probabilities(&head, rows), &case["probabilities"], 1e-5, "network");
    }
}

const MLP: LearnerSettings =
    LearnerSettings::Mlp { width: 32, passes: 60, rate: 0.02, decay: 0.0, dropout: 0.0 };
const BAG: LearnerSettings = LearnerSettings::EmbeddingBag { width: 16, passes: 40, rate: 0.05 };

/// Numbers without pattern, from 0 to 1.
fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[test]
fn hidden_units_learn_what_no_line_parts() {
    // Points of a square, by whether both coordinates have one sign.
    let mut number = numbers(17);
    let rows: Vec<Vec<f32>> =
        (0..600).map(|_| vec![2.0 * number() - 1.0, 2.0 * number() - 1.0]).collect();
    let labels: Vec<u32> = rows.iter().map(|row| u32::from(row[0] * row[1] > 0.0)).collect();
    let accuracy = |task: &Task, learner| {
        let scores = task.scores(&task.fit(learner, 500, 3), 500);
        let hits = scores
            .iter()
            .zip(&labels[500..])
            .filter(|(scores, label)| u32::from(scores[1] > scores[0]) == **label);
        hits.count()
    };
    let mut task = Task::dense(rows.clone(), &labels, 2);
    assert!(accuracy(&task, MLP) >= 95, "{} of 100", accuracy(&task, MLP));
    assert!(accuracy(&task, BAG) <= 75, "a network without bends is a line");
    assert!(accuracy(&task, LearnerSettings::KernelRidge { ridge: 0.1, decay: 2.0 }) >= 95);
    // The same through sparse columns.
    task.sparse = Some(sparse_rows(&rows));
    task.dense = None;
    assert!(accuracy(&task, MLP) >= 95, "{} of 100", accuracy(&task, MLP));
}

#[test]
fn shares_and_weights_of_rows_become_probabilities() {
    // Two kinds of rows; those of the second have both classes, by shares or by weights.
    let columns: Vec<Vec<f32>> =
        (0..400).map(|row| if row % 2 == 0 { vec![1.0, 0.0] } else { vec![0.0, 1.0] }).collect();
    for by_shares in [true, false] {
        for learner in [MLP, BAG] {
            let mut task = Task::dense(columns.clone(), &[], 3);
            task.sparse = task.dense.take().map(|_| sparse_rows(&columns));
            task.row_weights = vec![1.0; 400];
            for row in 0..400 {
                match (row % 4, by_shares) {
                    (0 | 2, _) => task.targets.push(&mut [(0, 1.0)]),
                    (_, true) => task.targets.push(&mut [(1, 0.75), (2, 0.25)]),
                    (1, false) => task.targets.push(&mut [(1, 1.0)]),
                    (_, false) => {
                        task.targets.push(&mut [(2, 1.0)]);
                        task.row_weights[row] = 1.0 / 3.0;
                    }
                }
            }
            let head = task.fit(learner, 400, 5);
            let found = task.probabilities(&head, 398);
            for (row, wanted) in [[1.0, 0.0, 0.0], [0.0, 0.75, 0.25]].iter().enumerate() {
                for (found, wanted) in found.row(row).iter().zip(wanted) {
                    assert!((found - wanted).abs() < 0.06, "{learner}: {found} for {wanted}");
                }
            }
        }
    }
}

#[test]
fn several_labels_are_learnt_one_by_one() {
    // Each column is a label of its own; rows may have several of them, or none.
    let mut number = numbers(23);
    let rows: Vec<Vec<f32>> = (0..500)
        .map(|_| (0..6).map(|_| f32::from(u8::from(number() < 0.3))).chain([0.2]).collect())
        .collect();
    let mut task = Task::dense(rows.clone(), &[], 6);
    task.row_weights = vec![1.0; rows.len()];
    task.link = Link::Sigmoid;
    for row in &rows {
        let mut labels: Vec<(u32, f32)> =
            (0..6).filter(|&label| row[label as usize] > 0.5).map(|label| (label, 1.0)).collect();
        task.targets.push(&mut labels);
    }
    for learner in [MLP, BAG, LearnerSettings::KernelRidge { ridge: 0.1, decay: 1.0 }] {
        let scores = task.scores(&task.fit(learner, 400, 1), 400);
        let (mut least_right, mut most_wrong) = (f32::INFINITY, f32::NEG_INFINITY);
        for (scores, row) in scores.iter().zip(&rows[400..]) {
            for (score, value) in scores.iter().zip(row) {
                if *value > 0.5 {
                    least_right = least_right.min(*score);
                } else {
                    most_wrong = most_wrong.max(*score);
                }
            }
        }
        assert!(least_right > most_wrong, "{learner}: {least_right} and {most_wrong}");
    }
}

#[test]
fn threads_do_not_change_a_head() {
    let golden = golden();
    let (task, rows) = golden_task(&golden);
    let kernel = LearnerSettings::KernelRidge { ridge: 0.3, decay: 2.0 };
    let dropping =
        LearnerSettings::Mlp { width: 48, passes: 5, rate: 0.01, decay: 0.1, dropout: 0.3 };
    for learner in [kernel, BAG, dropping] {
        let heads = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| task.fit(learner, rows, 9))
        });
        assert_eq!(heads[0], heads[1], "{learner}");
        if learner != kernel {
            assert_ne!(heads[0], task.fit(learner, rows, 10), "{learner}: the seed is used");
        }
    }
}

#[test]
fn heads_fit_their_budget() {
    let rows: Vec<Vec<f32>> = (0..300).map(|row| vec![1.0, (row % 7) as f32]).collect();
    let labels: Vec<u32> = (0..300).map(|row| row % 7).collect();
    let task = Task::dense(rows, &labels, 7);
    let neighbours = LearnerSettings::Neighbours { neighbours: 3, sharpness: 10.0 };
    let head = task.fit(neighbours, 300, 2);
    assert!(head.memory_bytes() > 300 * 32);
    let features = FeatureRows::dense(DenseView {
        values: task.dense.as_ref().unwrap().values(),
        column_count: 2,
    });
    let all: Vec<u32> = (0..300).collect();
    let problem = Problem {
        features,
        squared_norms: &features.squared_norms(),
        rows: &all,
        class_count: 7,
        targets: &task.targets,
        row_weights: &task.row_weights,
        class_weights: &[1.0; 7],
        parents: None,
        link: Link::Softmax,
        seed: 2,
        stop: &|| false,
    };
    let small = HeadBudget { bytes: 5000 };
    let head = neighbours.fit(&problem, FitEffort::Full, small).unwrap().unwrap().head;
    assert!(head.memory_bytes() <= 5000 && head.memory_bytes() > 4000);
    let stopped = Problem { stop: &|| true, ..problem };
    for learner in [neighbours, MLP, BAG, LearnerSettings::KernelRidge { ridge: 1.0, decay: 1.0 }] {
        assert!(learner.fit(&stopped, FitEffort::Full, BUDGET).unwrap().is_none(), "{learner}");
    }
}
