//! Local models: what the tree says is what they answer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_classifier::head::FeatureRow;
use corral_classifier::{Calibration, Head, HeadScratch, Link, SparseRow};
use corral_training::learner::{
    DenseView, FeatureRows, FitEffort, HeadBudget, Problem, SparseView,
};
use corral_training::{LearnerSettings, Parents, Targets};

const ROOM: HeadBudget = HeadBudget { bytes: 64 << 20 };
const SVM: LearnerSettings = LearnerSettings::LocalSvm { cost: 1.0 };
const SOFTMAX: LearnerSettings = LearnerSettings::LocalSoftmax { cost: 10.0 };
const DENSE_COLUMNS: usize = 3;

/// Rows with a column for their parent, one for their class, and noise.
struct Task {
    parents: Parents,
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    column_count: usize,
    dense: Vec<f32>,
    targets: Targets,
    labels: Vec<Vec<u32>>,
}

/// A small random source (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

impl Task {
    /// `labels` are the classes of each row.
    fn new(seed: u64, parent_of: &[u32], labels: Vec<Vec<u32>>) -> Self {
        println!("seed {seed}");
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let parents = Parents::new(parent_of.to_vec());
        let noise = parents.count() + parent_of.len();
        let column_count = noise + 40;
        let (mut offsets, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        let (mut dense, mut targets) = (Vec::new(), Targets::new());
        for classes in &labels {
            let mut of_row: Vec<u32> = classes
                .iter()
                .flat_map(|&class| [parents.of_class(class), parents.count() as u32 + class])
                .chain((0..3).map(|_| (noise + numbers.below(40)) as u32))
                .collect();
            of_row.sort_unstable();
            of_row.dedup();
            values.extend(of_row.iter().map(
                |&column| {
                    if (column as usize) < noise { 0.5 } else { 0.2 }
                },
            ));
            columns.extend(of_row);
            offsets.push(columns.len());
            dense.extend((0..DENSE_COLUMNS).map(|_| numbers.below(100) as f32 / 400.0));
            let share = 1.0 / classes.len() as f32;
            let mut of_row: Vec<(u32, f32)> = classes.iter().map(|&class| (class, share)).collect();
            targets.push(&mut of_row);
        }
        Self { parents, offsets, columns, values, column_count, dense, targets, labels }
    }

    fn fit(
        &self,
        learner: LearnerSettings,
        parents: Option<&Parents>,
        budget: HeadBudget,
    ) -> Option<Head<'static>> {
        self.fit_until(learner, parents, budget, &|| false)
    }

    fn fit_until(
        &self,
        learner: LearnerSettings,
        parents: Option<&Parents>,
        budget: HeadBudget,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Option<Head<'static>> {
        let features = FeatureRows {
            sparse: Some(SparseView {
                row_offsets: &self.offsets,
                columns: &self.columns,
                values: &self.values,
                column_count: self.column_count,
            }),
            sparse_scale: 1.0,
            dense: Some(DenseView { values: &self.dense, column_count: DENSE_COLUMNS }),
            dense_scale: 0.5,
        };
        let rows: Vec<u32> = (0..self.labels.len() as u32).collect();
        let problem = Problem {
            features,
            squared_norms: &features.squared_norms(),
            rows: &rows,
            class_count: self.parents.class_count(),
            targets: &self.targets,
            row_weights: &vec![1.0; rows.len()],
            class_weights: &vec![1.0; self.parents.class_count()],
            parents,
            link: Link::Softmax,
            seed: 4,
            stop,
        };
        let fitted = learner.fit(&problem, FitEffort::Full, budget).unwrap();
        fitted.map(|fitted| fitted.head)
    }

    /// The probabilities of a row's classes.
    fn probabilities(&self, head: &Head<'_>, row: usize) -> Vec<f32> {
        let range = self.offsets[row]..self.offsets[row + 1];
        let row = FeatureRow {
            lexical: SparseRow {
                indices: &self.columns[range.clone()],
                values: &self.values[range],
            },
            lexical_scale: 1.0,
            embedding: &self.dense[row * DENSE_COLUMNS..][..DENSE_COLUMNS],
            embedding_scale: 0.5,
        };
        let mut scores = Vec::new();
        head.score(row, &mut HeadScratch::default(), &mut scores);
        Calibration::NONE.apply(Link::Softmax, &mut scores);
        scores
    }
}

fn best(numbers: &[f32]) -> usize {
    (0..numbers.len()).max_by(|&a, &b| numbers[a].total_cmp(&numbers[b])).unwrap()
}

/// Forty classes under seven parents, one of them with a single child and one with eighteen.
fn parent_of() -> Vec<u32> {
    let sizes = [1, 18, 2, 5, 6, 4, 4];
    (0..7).flat_map(|parent| std::iter::repeat_n(parent, sizes[parent as usize])).collect()
}

#[test]
fn a_tree_that_can_be_told_apart_is_answered_as_without_it() {
    let labels = (0..400).map(|row| vec![row % 40]).collect();
    let task = Task::new(1, &parent_of(), labels);
    for (local, flat) in [
        (SVM, LearnerSettings::LinearSvm { cost: 1.0 }),
        (SOFTMAX, LearnerSettings::Softmax { cost: 10.0 }),
    ] {
        let [head, flat] =
            [local, flat].map(|learner| task.fit(learner, Some(&task.parents), ROOM).unwrap());
        assert!(matches!(head, Head::Local(_)));
        for row in 0..400 {
            let found = task.probabilities(&head, row);
            assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(found.iter().all(|probability| (0.0..=1.0).contains(probability)));
            assert_eq!(best(&found), task.labels[row][0] as usize, "{local}");
            assert_eq!(best(&found), best(&task.probabilities(&flat, row)), "{local}");
            // What machines say is put on a scale where they are as sure as they are right.
            assert!(found[best(&found)] > 0.5, "{local}: {}", found[best(&found)]);
        }
    }
}

#[test]
fn rows_of_several_classes_go_to_each_of_their_parents() {
    // Every fourth row belongs to two classes: of one parent or of two.
    let labels: Vec<Vec<u32>> = (0..800u32)
        .map(|row| match row % 8 {
            0 => vec![row / 8 % 40, (row / 8 + 1) % 40],
            4 => vec![row / 8 % 40, (row / 8 + 20) % 40],
            _ => vec![row % 40],
        })
        .collect();
    let task = Task::new(2, &parent_of(), labels);
    for learner in [SVM, SOFTMAX] {
        let head = task.fit(learner, Some(&task.parents), ROOM).unwrap();
        let mut hits = 0;
        for row in (0..800).step_by(4) {
            let found = task.probabilities(&head, row);
            // Both are likelier than any other.
            let least = task.labels[row].iter().map(|&class| found[class as usize]);
            let least = least.fold(1.0, f32::min);
            hits += usize::from(found.iter().filter(|&&other| other >= least).count() <= 2);
        }
        assert!(hits > 180, "{learner}: {hits} of 200");
    }
}

#[test]
fn classes_without_rows_and_trees_without_level_are_fitted() {
    // No rows of the second parent, nor of the last class.
    let labels = (0..300).map(|row| vec![if row % 2 == 0 { 0 } else { 19 + row % 5 }]).collect();
    let task = Task::new(3, &parent_of(), labels);
    for learner in [SVM, SOFTMAX] {
        let head = task.fit(learner, Some(&task.parents), ROOM).unwrap();
        for row in 0..300 {
            let found = task.probabilities(&head, row);
            assert!(found.iter().all(|probability| probability.is_finite()), "{learner}");
            assert_eq!(best(&found), task.labels[row][0] as usize, "{learner}");
        }
        let flat = task.fit(learner, None, ROOM).unwrap();
        assert!(matches!(flat, Head::Linear(_)));
        assert!(task.fit_until(learner, Some(&task.parents), ROOM, &|| true).is_none());
    }
}

#[test]
fn a_head_keeps_to_its_room() {
    let labels = (0..2000).map(|row| vec![row % 400]).collect();
    let parent_of: Vec<u32> = (0..400).map(|class| class / 20).collect();
    let task = Task::new(4, &parent_of, labels);
    let whole = task.fit(SVM, Some(&task.parents), ROOM).unwrap();
    let hits = |head: &Head<'_>| {
        let right = |row: &usize| best(&task.probabilities(head, *row)) == row % 400;
        (0..2000).filter(right).count()
    };
    assert!(whole.memory_bytes() > 150_000, "{}", whole.memory_bytes());
    assert!(hits(&whole) > 1950);
    for bytes in [120_000, 60_000] {
        let head = task.fit(SVM, Some(&task.parents), HeadBudget { bytes }).unwrap();
        assert!(head.memory_bytes() <= bytes + bytes / 20, "{} of {bytes}", head.memory_bytes());
        assert!(hits(&head) > 1500, "{} with {bytes} bytes", hits(&head));
    }
}
