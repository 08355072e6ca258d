//! How good predictions are.
//!
//! Definitions follow scikit-learn where it has the metric: an average over classes takes in
//! the classes that occur among the right answers or the predictions. A row with several right
//! answers is a hit when the prediction is any of them; for measures by class its answer is
//! then the predicted one, and else the first of its answers.

mod levels;
mod ranked;

use serde::{Deserialize, Serialize};

pub use levels::{LevelScore, Levels};
pub use ranked::{KEPT_CLASSES, RankedRows};

use crate::targets::Targets;

/// Bins of equal width in the calibration error.
pub const CALIBRATION_BINS: usize = 15;
/// The least probability whose logarithm is taken in the log-loss.
const LEAST_PROBABILITY: f64 = 1e-15;
/// The probability from which a class of a multi-label task is predicted.
pub const MULTI_LABEL_THRESHOLD: f32 = 0.5;
/// Confused pairs that are reported.
pub const MAX_CONFUSED_PAIRS: usize = 100;

/// What predictions of a set of rows are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub rows: usize,
    /// Single choice: rows whose likeliest class is right. Multi-label: rows whose predicted
    /// set is exactly right.
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
    /// Rows whose answer it is.
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

/// Evaluates a single-choice task: `ranked` row `i` is the prediction for row `rows[i]` of `targets`.
pub fn evaluate(
    ranked: &RankedRows,
    rows: &[u32],
    targets: &Targets,
    levels: Option<&Levels>,
) -> DetailedEvaluation {
    let mut counts = ClassCounts::new(ranked.class_count());
    let mut bins = CalibrationBins::default();
    let mut confused: Vec<(u32, u32)> = Vec::new();
    let (mut hits, mut top_5, mut log_loss) = (0u64, 0u64, 0f64);
    for (at, &row) in rows.iter().enumerate() {
        let row = row as usize;
        let best = ranked.best(at);
        let right = targets.right(row);
        let is_hit = right.clone().any(|class| class == best);
        let answer = if is_hit { Some(best) } else { targets.first(row) };
        hits += u64::from(is_hit);
        let (classes, probabilities) = ranked.row(at);
        top_5 +=
            u64::from(classes.iter().take(5).any(|kept| right.clone().any(|class| class == *kept)));
        bins.add(probabilities[0], is_hit);
        let (classes, shares) = targets.row(row);
        log_loss -= classes
            .iter()
            .zip(shares)
            .map(|(&class, &share)| {
                f64::from(share)
                    * f64::from(ranked.probability(at, class)).max(LEAST_PROBABILITY).ln()
            })
            .sum::<f64>();
        counts.predicted[best as usize] += 1;
        if let Some(answer) = answer {
            counts.support[answer as usize] += 1;
            counts.hits[answer as usize] += u64::from(is_hit);
            if !is_hit {
                confused.push((answer, best));
            }
        }
    }
    let count = rows.len().max(1) as f64;
    let classes = counts.scores();
    let summary = Evaluation {
        rows: rows.len(),
        accuracy: hits as f64 / count,
        macro_f1: macro_f1(&classes),
        weighted_f1: weighted_f1(&classes),
        micro_f1: hits as f64 / count,
        top_5: top_5 as f64 / count,
        log_loss: Some(log_loss / count),
        ece: bins.error(),
        levels: levels.map_or_else(Vec::new, |levels| levels.scores(ranked, rows, targets)),
    };
    let confused = count_pairs(confused);
    DetailedEvaluation { summary, classes, confused, reliability: bins.bins() }
}

/// Evaluates a multi-label task, in which classes from [`MULTI_LABEL_THRESHOLD`] on are predicted.
pub fn evaluate_multi_label(
    ranked: &RankedRows,
    rows: &[u32],
    targets: &Targets,
) -> DetailedEvaluation {
    let mut counts = ClassCounts::new(ranked.class_count());
    let mut bins = CalibrationBins::default();
    let mut confused: Vec<(u32, u32)> = Vec::new();
    let (mut exact, mut top_5) = (0u64, 0u64);
    for (at, &row) in rows.iter().enumerate() {
        let right: Vec<u32> = targets.right(row as usize).collect();
        let (classes, probabilities) = ranked.row(at);
        let mut found = 0;
        let mut wrong = None;
        for (&class, &probability) in classes.iter().zip(probabilities) {
            let is_right = right.contains(&class);
            bins.add(probability, is_right);
            if probability >= MULTI_LABEL_THRESHOLD {
                counts.predicted[class as usize] += 1;
                counts.hits[class as usize] += u64::from(is_right);
                found += usize::from(is_right);
                if !is_right {
                    wrong = wrong.or(Some(class));
                }
            }
        }
        for &class in &right {
            counts.support[class as usize] += 1;
            let is_found = classes
                .iter()
                .zip(probabilities)
                .any(|(&kept, &probability)| kept == class && probability >= MULTI_LABEL_THRESHOLD);
            if let (false, Some(wrong)) = (is_found, wrong) {
                confused.push((class, wrong));
            }
        }
        exact += u64::from(found == right.len() && wrong.is_none());
        top_5 += u64::from(classes.iter().take(5).any(|class| right.contains(class)));
    }
    let count = rows.len().max(1) as f64;
    let classes = counts.scores();
    let total = |values: &[u64]| values.iter().sum::<u64>() as f64;
    let decided = total(&counts.support) + total(&counts.predicted);
    let summary = Evaluation {
        rows: rows.len(),
        accuracy: exact as f64 / count,
        macro_f1: macro_f1(&classes),
        weighted_f1: weighted_f1(&classes),
        micro_f1: if decided > 0.0 { 2.0 * total(&counts.hits) / decided } else { 0.0 },
        top_5: top_5 as f64 / count,
        log_loss: None,
        ece: bins.error(),
        levels: Vec::new(),
    };
    let confused = count_pairs(confused);
    DetailedEvaluation { summary, classes, confused, reliability: bins.bins() }
}

struct ClassCounts {
    support: Vec<u64>,
    predicted: Vec<u64>,
    hits: Vec<u64>,
}

impl ClassCounts {
    fn new(classes: usize) -> Self {
        Self { support: vec![0; classes], predicted: vec![0; classes], hits: vec![0; classes] }
    }

    fn scores(&self) -> Vec<ClassScore> {
        let ratio =
            |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        (0..self.support.len())
            .filter(|&class| self.support[class] + self.predicted[class] > 0)
            .map(|class| {
                let (support, predicted, hits) =
                    (self.support[class], self.predicted[class], self.hits[class]);
                ClassScore {
                    class: class as u32,
                    support,
                    predicted,
                    precision: ratio(hits, predicted),
                    recall: ratio(hits, support),
                    f1: ratio(2 * hits, support + predicted),
                }
            })
            .collect()
    }
}

fn macro_f1(classes: &[ClassScore]) -> f64 {
    classes.iter().map(|class| class.f1).sum::<f64>() / classes.len().max(1) as f64
}

fn weighted_f1(classes: &[ClassScore]) -> f64 {
    let support: u64 = classes.iter().map(|class| class.support).sum();
    classes.iter().map(|class| class.f1 * class.support as f64).sum::<f64>() / support.max(1) as f64
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
    /// Summed confidence, hits and predictions.
    sums: [(f64, u64, u64); CALIBRATION_BINS],
}

impl CalibrationBins {
    fn add(&mut self, confidence: f32, is_hit: bool) {
        // Bins are open below and closed above, as in Guo et al. 2017.
        let confidence = f64::from(confidence);
        let bin =
            ((confidence * CALIBRATION_BINS as f64).ceil() as usize).clamp(1, CALIBRATION_BINS) - 1;
        let (sum, hits, count) = &mut self.sums[bin];
        *sum += confidence;
        *hits += u64::from(is_hit);
        *count += 1;
    }

    fn error(&self) -> f64 {
        let off = |(confidence, hits, _): &(f64, u64, u64)| (confidence - *hits as f64).abs();
        let count: u64 = self.sums.iter().map(|(_, _, count)| count).sum();
        self.sums.iter().map(off).sum::<f64>() / count.max(1) as f64
    }

    fn bins(&self) -> Vec<ReliabilityBin> {
        let bin = |&(confidence, hits, rows): &(f64, u64, u64)| ReliabilityBin {
            rows,
            confidence: confidence / rows.max(1) as f64,
            accuracy: hits as f64 / rows.max(1) as f64,
        };
        self.sums.iter().map(bin).collect()
    }
}
