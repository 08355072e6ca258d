//! What holds for every learner on random problems: paths lead where single fits do, threads
//! change nothing, weights of rows and classes count as copies of rows do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use corral_classifier::head::FeatureRow;
use corral_classifier::{HeadScratch, Link, SparseRow};
use corral_training::learner::{
    BayesWeights, DenseView, FeatureRows, FitEffort, Fitted, HeadBudget, Problem, SparseView,
};
use corral_training::{LearnerSettings, Parents, Targets};

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

/// Four parents, of one to six classes.
fn parents() -> Parents {
    Parents::new((0..CLASSES as u32).map(|class| class / 6).collect())
}

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
            parents: Some(&parents()),
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
                LearnerSettings::LinearSvm { .. } | LearnerSettings::Ridge { .. } => (0..CLASSES)
                    .map(|class| {
                        let sign = if class == label { 1.0 } else { -1.0 };
                        let slack = 1.0 - sign * f64::from(scores[class]);
                        let is_free = slack < 0.0 && settings.name() == "linear_svm";
                        if is_free { 0.0 } else { slack * slack }
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
    [0.03, 0.1, 0.2, 0.5, 1.0, 2.0].into_iter().map(settings).collect()
}

const PATHS: [fn(f32) -> LearnerSettings; 3] = [
    |cost| LearnerSettings::LinearSvm { cost },
    |cost| LearnerSettings::Softmax { cost: 10.0 * cost },
    |cost| LearnerSettings::Ridge { cost },
];

const EVERY_KIND: [LearnerSettings; 9] = [
    LearnerSettings::LinearSvm { cost: 0.5 },
    LearnerSettings::Softmax { cost: 5.0 },
    LearnerSettings::NbSvm { cost: 0.3, smoothing: 1.0, interpolation: 0.5 },
    LearnerSettings::Ridge { cost: 0.5 },
    LearnerSettings::ComplementBayes { smoothing: 0.3, weights: BayesWeights::Plain },
    LearnerSettings::ComplementBayes { smoothing: 0.3, weights: BayesWeights::Normalised },
    LearnerSettings::Centroid { contrast: 0.3 },
    LearnerSettings::LocalSvm { cost: 0.5 },
    LearnerSettings::LocalSoftmax { cost: 5.0 },
];

/// How many rows two fits predict the same of.
fn agreement(task: &Task, one: &Fitted, other: &Fitted) -> f64 {
    let same = |row: &usize| best(&task.scores(one, *row)) == best(&task.scores(other, *row));
    (0..task.rows()).filter(same).count() as f64 / task.rows() as f64
}

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
            assert!((0.96..1.04).contains(&ratio), "{settings}: objectives are {objectives:?}");
            let agree = agreement(&task, &on_path, &single);
            assert!(agree > 0.97, "{settings}: {agree} of the predictions agree");
            path_passes += on_path.passes;
            single_passes += single.passes;
        }
        assert!(path_passes * 3 < single_passes * 2, "{path_passes} against {single_passes}");
    }
}

#[test]
fn threads_do_not_change_a_path() {
    for path in PATHS.map(costs).into_iter().chain([EVERY_KIND.to_vec()]) {
        let task = Task::random(11, 300);
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| task.fit(&path))
        });
        for (one, three) in one.iter().zip(&three) {
            assert_eq!(task.all_scores(one), task.all_scores(three));
        }
    }
}

#[test]
fn every_kind_learns_and_a_weight_of_two_is_a_row_twice() {
    let mut task = Task::random(21, 300);
    let everything: Vec<u32> = (0..300).collect();
    let twice: Vec<u32> = everything.iter().copied().chain((0..300).step_by(3)).collect();
    for settings in EVERY_KIND {
        task.weights.fill(1.0);
        let fitted = task.fit_rows(&twice, &[settings], FitEffort::Full).pop().unwrap();
        let hits = (0..300)
            .filter(|&row| best(&task.scores(&fitted, row)) as u32 == task.labels[row][0].0)
            .count();
        assert!(hits > 255, "{settings}: {hits} of 300");
        task.weights.iter_mut().step_by(3).for_each(|weight| *weight = 2.0);
        let weighted = task.fit_rows(&everything, &[settings], FitEffort::Full).pop().unwrap();
        let agree = agreement(&task, &fitted, &weighted);
        assert!(agree > 0.98, "{settings}: {agree} of the predictions agree");
    }
}

#[test]
fn a_class_that_counts_more_is_predicted_more() {
    let favoured = 4;
    for settings in EVERY_KIND.iter().filter(|settings| settings.abilities().class_weights) {
        let predicted = |weight: f32| {
            let mut task = Task::random(31, 300);
            // Half of the class's rows are called by the next one's name, so that there is
            // something to be won by predicting it more.
            for labels in task.labels.iter_mut().skip(1).step_by(2) {
                if labels[0].0 == favoured {
                    labels[0].0 += 1;
                }
            }
            task.class_weights[favoured as usize] = weight;
            let fitted = task.fit(&[*settings]).pop().unwrap();
            (0..300).filter(|&row| best(&task.scores(&fitted, row)) as u32 == favoured).count()
        };
        let counts = [0.1, 1.0, 10.0].map(predicted);
        assert!(counts.is_sorted() && counts[0] < counts[2], "{settings}: {counts:?}");
    }
}

#[test]
fn shares_pull_where_they_count() {
    let mut task = Task::random(41, 300);
    let whole = task.clone();
    for labels in &mut task.labels {
        let class = labels[0].0;
        *labels = vec![(class, 0.55), ((class + 1) % CLASSES as u32, 0.45)];
    }
    for settings in EVERY_KIND.iter().filter(|settings| settings.abilities().shares) {
        let [soft, hard] = [&task, &whole].map(|task| task.fit(&[*settings]).pop().unwrap());
        // The second class of a row is nearer to its first, and nearer than all others.
        let gap = |fitted: &Fitted| -> f32 {
            let of_row = |row: usize| {
                let scores = task.scores(fitted, row);
                let class = task.labels[row][0].0 as usize;
                let range = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
                    - scores.iter().copied().fold(f32::INFINITY, f32::min);
                (scores[class] - scores[(class + 1) % CLASSES]) / range
            };
            (0..300).map(of_row).sum::<f32>() / 300.0
        };
        let gaps = [gap(&soft), gap(&hard)];
        assert!(gaps[0] < 0.6 * gaps[1], "{settings}: {gaps:?}");
    }
}

#[test]
fn one_kind_of_features_is_enough() {
    let task = Task::random(51, 200);
    let mut targets = Targets::new();
    task.labels.iter().for_each(|labels| targets.push(&mut labels.clone()));
    let rows: Vec<u32> = (0..200).collect();
    let both = task.features();
    for features in [FeatureRows { sparse: None, ..both }, FeatureRows { dense: None, ..both }] {
        let problem = Problem {
            features,
            squared_norms: &features.squared_norms(),
            rows: &rows,
            class_count: CLASSES,
            targets: &targets,
            row_weights: &task.weights,
            class_weights: &task.class_weights,
            parents: Some(&parents()),
            link: Link::Softmax,
            seed: 5,
            stop: &|| false,
        };
        for settings in EVERY_KIND {
            let fitted = settings.fit(&problem, FitEffort::Rough, ROOM).unwrap().unwrap();
            let hits = (0..200)
                .filter(|&row| {
                    let mut of_row = task.row(row);
                    if features.sparse.is_none() {
                        of_row.lexical = SparseRow::EMPTY;
                    } else {
                        of_row.embedding = &[];
                    }
                    let mut scores = Vec::new();
                    fitted.head.score(of_row, &mut HeadScratch::default(), &mut scores);
                    best(&scores) as u32 == task.labels[row][0].0
                })
                .count();
            // Nine dense columns do not tell nineteen classes apart.
            let least = match (features.sparse.is_some(), settings.abilities().dense) {
                (true, _) => 150,
                (false, true) => 50,
                (false, false) => 0,
            };
            assert!(hits >= least, "{settings}: {hits} of 200");
        }
    }
}

#[test]
fn settings_are_written_and_named() {
    let names: Vec<String> = EVERY_KIND.iter().map(ToString::to_string).collect();
    assert_eq!(names[2], "nb_svm C=0.3 α=1 β=0.5");
    assert_eq!(names[5], "complement_bayes α=0.3 normalised");
    for settings in EVERY_KIND {
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<LearnerSettings>(&text).unwrap(), settings);
        assert!(settings.memory_bytes(1000, 100, 20, 2) > 0);
        let other = settings.with_cost(7.0);
        assert_eq!(other.is_some_and(|other| settings.shares_path(&other)), other.is_some());
    }
    assert!(!EVERY_KIND[0].shares_path(&EVERY_KIND[3]));
}
