//! What holds for every learner on random problems: paths lead where single fits do, threads
//! change nothing, weights of rows and classes count as copies of rows do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_classifier::head::FeatureRow;
use corral_classifier::{HeadScratch, Link, SparseRow};
use corral_training::learner::{
    DenseView, FeatureRows, FitEffort, Fitted, HeadBudget, Problem, SparseView,
};
use corral_training::{LearnerSettings, Targets};

const ROOM: HeadBudget = HeadBudget { bytes: 64 << 20 };

/// A small random source (xorshift64*), so that tests have data of their own.
struct Numbers(u64);

impl Numbers {
    fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1u64 << 24) as f32
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.unit() * bound as f32) as usize).min(bound - 1)
    }
}

/// Rows with sparse and dense features around the prototypes of their classes.
#[derive(Clone)]
struct Task {
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    dense: Vec<f32>,
    labels: Vec<Vec<(u32, f32)>>,
    weights: Vec<f32>,
    class_weights: Vec<f32>,
}

const SPARSE_COLUMNS: usize = 60;
const DENSE_COLUMNS: usize = 9;
const CLASSES: usize = 19;

impl Task {
    fn random(seed: u64, rows: usize) -> Self {
        println!("seed {seed}");
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut task = Self {
            offsets: vec![0],
            columns: Vec::new(),
            values: Vec::new(),
            dense: Vec::new(),
            labels: Vec::new(),
            weights: vec![1.0; rows],
            class_weights: vec![1.0; CLASSES],
        };
        for row in 0..rows {
            let class = if row < CLASSES { row } else { numbers.below(CLASSES) };
            let mut columns: Vec<u32> = (0..8)
                .map(|place| match place {
                    0..3 => (class * 3 + place) as u32,
                    _ => numbers.below(SPARSE_COLUMNS) as u32,
                })
                .collect();
            columns.sort_unstable();
            columns.dedup();
            let mut values: Vec<f32> = columns.iter().map(|_| 0.2 + numbers.unit()).collect();
            let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
            values.iter_mut().for_each(|value| *value /= length);
            task.columns.extend(columns);
            task.values.extend(values);
            task.offsets.push(task.columns.len());
            task.dense.extend((0..DENSE_COLUMNS).map(|column| {
                let prototype = if column == class % DENSE_COLUMNS { 0.8 } else { 0.0 };
                prototype + 0.5 * (numbers.unit() - 0.5)
            }));
            task.labels.push(vec![(class as u32, 1.0)]);
        }
        task
    }

    fn rows(&self) -> usize {
        self.labels.len()
    }

    fn features(&self) -> FeatureRows<'_> {
        FeatureRows {
            sparse: Some(SparseView {
                row_offsets: &self.offsets,
                columns: &self.columns,
                values: &self.values,
                column_count: SPARSE_COLUMNS,
            }),
            sparse_scale: 1.0,
            dense: Some(DenseView { values: &self.dense, column_count: DENSE_COLUMNS }),
            dense_scale: 0.7,
        }
    }

    fn row(&self, row: usize) -> FeatureRow<'_> {
        let range = self.offsets[row]..self.offsets[row + 1];
        FeatureRow {
            lexical: SparseRow {
                indices: &self.columns[range.clone()],
                values: &self.values[range],
            },
            lexical_scale: 1.0,
            embedding: &self.dense[row * DENSE_COLUMNS..][..DENSE_COLUMNS],
            embedding_scale: 0.7,
        }
    }

    /// Fits on the given rows, a row as often as it is named.
    fn fit_rows(&self, rows: &[u32], path: &[LearnerSettings], effort: FitEffort) -> Vec<Fitted> {
        let mut targets = Targets::new();
        self.labels.iter().for_each(|labels| targets.push(&mut labels.clone()));
        let features = self.features();
        let problem = Problem {
            features,
            squared_norms: &features.squared_norms(),
            rows,
            class_count: CLASSES,
            targets: &targets,
            row_weights: &self.weights,
            class_weights: &self.class_weights,
            link: Link::Softmax,
            seed: 5,
            stop: &|| false,
        };
        let mut fitted = Vec::new();
        LearnerSettings::fit_path(path, &problem, effort, ROOM, &mut |next| fitted.push(next))
            .unwrap();
        fitted
    }

    fn fit(&self, path: &[LearnerSettings]) -> Vec<Fitted> {
        let rows: Vec<u32> = (0..self.rows() as u32).collect();
        self.fit_rows(&rows, path, FitEffort::Full)
    }

    fn scores(&self, fitted: &Fitted, row: usize) -> Vec<f32> {
        let mut scores = Vec::new();
        fitted.head.score(self.row(row), &mut HeadScratch::default(), &mut scores);
        scores
    }

    fn all_scores(&self, fitted: &Fitted) -> Vec<Vec<f32>> {
        (0..self.rows()).map(|row| self.scores(fitted, row)).collect()
    }

    /// The squared length of a head's weights, its intercepts included.
    fn squared_length(&self, fitted: &Fitted) -> f64 {
        let score = |row: FeatureRow<'_>| {
            let mut scores = Vec::new();
            fitted.head.score(row, &mut HeadScratch::default(), &mut scores);
            scores
        };
        let nothing = [0.0; DENSE_COLUMNS];
        let bias = score(plain_row(&[], &[], &nothing));
        let square = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let less_bias = |scores: Vec<f32>| -> Vec<f32> {
            scores.iter().zip(&bias).map(|(score, bias)| score - bias).collect()
        };
        let mut total = square(&bias);
        for column in 0..SPARSE_COLUMNS as u32 {
            total += square(&less_bias(score(plain_row(&[column], &[1.0], &nothing))));
        }
        for column in 0..DENSE_COLUMNS {
            let mut embedding = nothing;
            embedding[column] = 1.0;
            total += square(&less_bias(score(plain_row(&[], &[], &embedding))));
        }
        total
    }

    /// What the settings minimise.
    fn objective(&self, settings: &LearnerSettings, fitted: &Fitted) -> f64 {
        let mut loss = 0.0;
        for (row, scores) in self.all_scores(fitted).iter().enumerate() {
            let label = self.labels[row][0].0 as usize;
            let of_row: f64 = match settings {
                LearnerSettings::LinearSvm { .. } => (0..CLASSES)
                    .map(|class| {
                        let sign = if class == label { 1.0 } else { -1.0 };
                        (1.0 - sign * f64::from(scores[class])).max(0.0).powi(2)
                    })
                    .sum(),
                _ => {
                    let total: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
                    total.ln() - f64::from(scores[label])
                }
            };
            loss += f64::from(self.weights[row]) * of_row;
        }
        0.5 * self.squared_length(fitted) + f64::from(settings.cost().unwrap()) * loss
    }
}

const fn plain_row<'a>(
    indices: &'a [u32],
    values: &'a [f32],
    embedding: &'a [f32],
) -> FeatureRow<'a> {
    FeatureRow {
        lexical: SparseRow { indices, values },
        lexical_scale: 1.0,
        embedding,
        embedding_scale: 1.0,
    }
}

fn best(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap()
}

fn costs(settings: fn(f32) -> LearnerSettings) -> Vec<LearnerSettings> {
    [0.1, 0.2, 0.5, 1.0, 3.0, 10.0, 30.0].into_iter().map(settings).collect()
}

const PATHS: [fn(f32) -> LearnerSettings; 2] =
    [|cost| LearnerSettings::LinearSvm { cost }, |cost| LearnerSettings::Softmax { cost }];

#[test]
fn a_path_leads_where_single_fits_do() {
    for (seed, settings) in (1..).zip(PATHS) {
        let mut task = Task::random(seed, 400);
        let mut numbers = Numbers(seed + 77);
        task.weights.iter_mut().for_each(|weight| *weight = 0.5 + numbers.unit());
        let path = costs(settings);
        let (mut path_passes, mut single_passes) = (0, 0);
        for (settings, on_path) in path.iter().zip(task.fit(&path)) {
            let single = task.fit(&[*settings]).pop().unwrap();
            let objectives = [&on_path, &single].map(|fitted| task.objective(settings, fitted));
            let ratio = objectives[0] / objectives[1];
            assert!((0.97..1.03).contains(&ratio), "{settings}: objectives are {objectives:?}");
            let agree = (0..task.rows())
                .filter(|&row| {
                    best(&task.scores(&on_path, row)) == best(&task.scores(&single, row))
                })
                .count();
            assert!(agree * 100 >= task.rows() * 97, "{settings}: {agree} predictions agree");
            path_passes += on_path.passes;
            single_passes += single.passes;
        }
        assert!(path_passes * 3 < single_passes * 2, "{path_passes} against {single_passes}");
    }
}

#[test]
fn threads_do_not_change_a_path() {
    for settings in PATHS {
        let task = Task::random(11, 300);
        let path = costs(settings);
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| task.fit(&path))
        });
        for (one, three) in one.iter().zip(&three) {
            assert_eq!(task.all_scores(one), task.all_scores(three));
        }
    }
}
