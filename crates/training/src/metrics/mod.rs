//! How good predictions are.
//!
//! Definitions follow scikit-learn where it has the metric: an average over classes takes in
//! the classes that occur among the right answers or the predictions; rows count by their
//! weight, as with `sample_weight` there. A row with several right answers is a hit when the
//! prediction is any of them; for measures by class its answer is then the predicted one, and
//! else the first of its answers. A row with a probabilistic label is worth the share of the
//! predicted class (the accuracy that is expected), and for measures by class it is a part of a
//! row of each of its classes.

mod levels;
mod multi_label;
mod ranked;

use serde::{Deserialize, Serialize};

pub use levels::{LevelScore, Levels};
pub use multi_label::{
    Decisions, MULTI_LABEL_THRESHOLD, evaluate_multi_label, multi_label_log_loss,
};
pub use ranked::{KEPT_CLASSES, RankedRows, likeliest};

use crate::rows::RowMeaning;
use crate::targets::Targets;

/// Bins of equal width in the calibration error.
pub const CALIBRATION_BINS: usize = 15;
/// The least probability whose logarithm is taken in the log-loss.
const LEAST_PROBABILITY: f64 = 1e-15;
/// Confused pairs that are reported.
pub const MAX_CONFUSED_PAIRS: usize = 100;

/// What predictions of a set of rows are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub rows: usize,
    /// Single choice: rows whose likeliest class is right; of a row with a probabilistic label,
    /// the share of that class. Multi-label: rows whose predicted set is exactly right.
    pub accuracy: f64,
    pub macro_f1: f64,
    /// Weighted by how often each class is right.
    pub weighted_f1: f64,
    /// Over all decisions together; equals the accuracy in a single-choice task.
    pub micro_f1: f64,
    /// Rows with a right answer among the five likeliest classes.
    pub top_5: f64,
    /// Mean over rows; `None` in a multi-label task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// Expected calibration error: [`CALIBRATION_BINS`] bins of equal width over the
    /// probability of the likeliest class (multi-label: of every kept class).
    pub ece: f64,
    /// By level of the tree, the top first; empty for a flat taxonomy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelScore>,
}

/// How one class fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    pub class: u32,
    /// Rows whose answer it is, or whose likeliest answer.
    pub support: u64,
    pub predicted: u64,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// Rows of one class that were taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusedPair {
    pub right: u32,
    pub predicted: u32,
    pub rows: u64,
}

/// Predictions of like confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    pub rows: u64,
    /// The mean of the probabilities said.
    pub confidence: f64,
    /// How many of them came true.
    pub accuracy: f64,
}

/// An evaluation with its tables.
#[derive(Clone, Debug)]
pub struct DetailedEvaluation {
    pub summary: Evaluation,
    /// Classes that are right or predicted somewhere, in order.
    pub classes: Vec<ClassScore>,
    /// The most frequent first.
    pub confused: Vec<ConfusedPair>,
    /// The bins of the calibration error, from the least confident on.
    pub reliability: Vec<ReliabilityBin>,
}

/// The right answers of rows and what each row counts.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    pub targets: &'a Targets,
    /// One for each row of `targets`; `None` when all count the same.
    pub weights: Option<&'a [f32]>,
}

impl<'a> Answers<'a> {
    /// Rows that all count the same.
    pub const fn unweighted(targets: &'a Targets) -> Self {
        Self { targets, weights: None }
    }

    /// What a row counts.
    pub fn weight(&self, row: usize) -> f64 {
        self.weights.map_or(1.0, |weights| f64::from(weights[row]))
    }
}

/// Evaluates a single-choice task: `ranked` row `i` is the prediction for row `rows[i]` of `answers`.
pub fn evaluate(
    ranked: &RankedRows,
    rows: &[u32],
    answers: Answers<'_>,
    levels: Option<&Levels>,
) -> DetailedEvaluation {
    let targets = answers.targets;
    let mut counts = ClassCounts::new(ranked.class_count());
    let mut bins = CalibrationBins::default();
    let mut confused: Vec<(u32, u32)> = Vec::new();
    let (mut hits, mut top_5, mut log_loss, mut total) = (0f64, 0f64, 0f64, 0f64);
    for (at, &row) in rows.iter().enumerate() {
        let row = row as usize;
        let weight = answers.weight(row);
        let best = ranked.best(at);
        let worth = targets.worth(row, |class| class == best);
        let (kept, probabilities) = ranked.row(at);
        total += weight;
        hits += weight * worth;
        top_5 += weight * targets.worth(row, |class| kept.iter().take(5).any(|&k| k == class));
        bins.add(probabilities[0], worth, weight);
        let (classes, shares) = targets.row(row);
        log_loss -= weight
            * classes
                .iter()
                .zip(shares)
                .map(|(&class, &share)| {
                    f64::from(share)
                        * f64::from(ranked.probability(at, class)).max(LEAST_PROBABILITY).ln()
                })
                .sum::<f64>();
        counts.predicted[best as usize].add(1, weight);
        counts.hits[best as usize] += weight * worth;
        // A class that is nearly as likely as the likeliest is not confused with it.
        let is_right = targets.right(row).any(|class| class == best);
        let answer = if is_right { Some(best) } else { targets.first(row) };
        match targets.meaning(row) {
            RowMeaning::AnyOf => {
                answer.into_iter().for_each(|one| counts.support[one as usize].add(1, weight));
            }
            RowMeaning::Likely => {
                for (&class, &share) in classes.iter().zip(shares) {
                    let is_answer = u64::from(Some(class) == answer);
                    counts.support[class as usize].add(is_answer, weight * f64::from(share));
                }
            }
        }
        confused.extend(answer.filter(|&answer| answer != best).map(|answer| (answer, best)));
    }
    let mean = |sum: f64| sum / total.max(f64::MIN_POSITIVE);
    let classes = counts.scores();
    let summary = Evaluation {
        rows: rows.len(),
        accuracy: mean(hits),
        macro_f1: macro_f1(&classes),
        weighted_f1: counts.weighted_f1(&classes),
        micro_f1: mean(hits),
        top_5: mean(top_5),
        log_loss: Some(mean(log_loss)),
        ece: bins.error(),
        levels: levels.map_or_else(Vec::new, |levels| levels.scores(ranked, rows, answers)),
    };
    let confused = count_pairs(confused);
    DetailedEvaluation { summary, classes, confused, reliability: bins.bins() }
}

/// Rows, and what they count together.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    rows: u64,
    weight: f64,
}

impl Count {
    fn add(&mut self, rows: u64, weight: f64) {
        self.rows += rows;
        self.weight += weight;
    }
}

struct ClassCounts {
    support: Vec<Count>,
    predicted: Vec<Count>,
    /// Weights of the rows whose class was predicted.
    hits: Vec<f64>,
}

impl ClassCounts {
    fn new(classes: usize) -> Self {
        Self {
            support: vec![Count::default(); classes],
            predicted: vec![Count::default(); classes],
            hits: vec![0.0; classes],
        }
    }

    fn scores(&self) -> Vec<ClassScore> {
        let ratio = |part: f64, whole: f64| if whole == 0.0 { 0.0 } else { part / whole };
        (0..self.support.len())
            .filter(|&class| self.support[class].weight + self.predicted[class].weight > 0.0)
            .map(|class| {
                let (support, predicted) = (self.support[class], self.predicted[class]);
                let hits = self.hits[class];
                ClassScore {
                    class: class as u32,
                    support: support.rows,
                    predicted: predicted.rows,
                    precision: ratio(hits, predicted.weight),
                    recall: ratio(hits, support.weight),
                    f1: ratio(2.0 * hits, support.weight + predicted.weight),
                }
            })
            .collect()
    }

    fn weighted_f1(&self, classes: &[ClassScore]) -> f64 {
        let support = |class: &ClassScore| self.support[class.class as usize].weight;
        let total: f64 = classes.iter().map(support).sum();
        let sum: f64 = classes.iter().map(|class| class.f1 * support(class)).sum();
        if total > 0.0 { sum / total } else { 0.0 }
    }
}

fn macro_f1(classes: &[ClassScore]) -> f64 {
    classes.iter().map(|class| class.f1).sum::<f64>() / classes.len().max(1) as f64
}

fn count_pairs(mut pairs: Vec<(u32, u32)>) -> Vec<ConfusedPair> {
    pairs.sort_unstable();
    let mut counted: Vec<ConfusedPair> = pairs
        .chunk_by(|a, b| a == b)
        .map(|same| ConfusedPair {
            right: same[0].0,
            predicted: same[0].1,
            rows: same.len() as u64,
        })
        .collect();
    counted.sort_by_key(|pair| (std::cmp::Reverse(pair.rows), pair.right, pair.predicted));
    counted.truncate(MAX_CONFUSED_PAIRS);
    counted
}

/// Confidence and correctness by bin of confidence.
#[derive(Default)]
struct CalibrationBins {
    bins: [CalibrationBin; CALIBRATION_BINS],
}

/// Sums over predictions, each times what its row counts.
#[derive(Default)]
struct CalibrationBin {
    confidence: f64,
    worth: f64,
    count: Count,
}

impl CalibrationBins {
    fn add(&mut self, confidence: f32, worth: f64, weight: f64) {
        // Bins are open below and closed above, as in Guo et al. 2017.
        let confidence = f64::from(confidence);
        let bin =
            ((confidence * CALIBRATION_BINS as f64).ceil() as usize).clamp(1, CALIBRATION_BINS) - 1;
        let bin = &mut self.bins[bin];
        bin.confidence += weight * confidence;
        bin.worth += weight * worth;
        bin.count.add(1, weight);
    }

    fn error(&self) -> f64 {
        let off = self.bins.iter().map(|bin| (bin.confidence - bin.worth).abs()).sum::<f64>();
        let weight = self.bins.iter().map(|bin| bin.count.weight).sum::<f64>();
        if weight > 0.0 { off / weight } else { 0.0 }
    }

    fn bins(&self) -> Vec<ReliabilityBin> {
        let mean = |bin: &CalibrationBin, sum: f64| {
            if bin.count.weight > 0.0 { sum / bin.count.weight } else { 0.0 }
        };
        let bin = |bin: &CalibrationBin| ReliabilityBin {
            rows: bin.count.rows,
            confidence: mean(bin, bin.confidence),
            accuracy: mean(bin, bin.worth),
        };
        self.bins.iter().map(bin).collect()
    }
}
