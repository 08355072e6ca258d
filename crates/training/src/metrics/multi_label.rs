//! Metrics of tasks in which a row may have any number of classes.

use super::{
    Answers, CalibrationBins, ClassCounts, Count, DetailedEvaluation, Evaluation,
    LEAST_PROBABILITY, RankedRows, count_pairs, macro_f1,
};

/// The probability from which a class is predicted where nothing else was found better.
pub const MULTI_LABEL_THRESHOLD: f32 = 0.5;

/// From which probability on a class is predicted.
#[derive(Clone, Copy, Debug)]
pub enum Decisions<'a> {
    /// From [`MULTI_LABEL_THRESHOLD`] on.
    Even,
    /// From a threshold of its own on.
    PerOutput(&'a [f32]),
    /// As per output, by one of several lists: that of the row's number in `of_row`.
    ByRow { thresholds: &'a [Vec<f32>], of_row: &'a [u8] },
}

impl Decisions<'_> {
    fn threshold(&self, row: u32, class: u32) -> f32 {
        match self {
            Self::Even => MULTI_LABEL_THRESHOLD,
            Self::PerOutput(thresholds) => thresholds[class as usize],
            Self::ByRow { thresholds, of_row } => {
                thresholds[usize::from(of_row[row as usize])][class as usize]
            }
        }
    }
}

/// Evaluates a multi-label task.
pub fn evaluate_multi_label(
    ranked: &RankedRows,
    rows: &[u32],
    answers: Answers<'_>,
    decisions: Decisions<'_>,
) -> DetailedEvaluation {
    let mut counts = ClassCounts::new(ranked.class_count());
    let mut bins = CalibrationBins::default();
    let mut confused: Vec<(u32, u32)> = Vec::new();
    let (mut exact, mut top_5, mut total) = (0f64, 0f64, 0f64);
    for (at, &row) in rows.iter().enumerate() {
        let right: Vec<u32> = answers.targets.right(row as usize).collect();
        let weight = answers.weight(row as usize);
        let (classes, probabilities) = ranked.row(at);
        let mut found = 0;
        let mut wrong = None;
        for (&class, &probability) in classes.iter().zip(probabilities) {
            let is_right = right.contains(&class);
            let worth = f64::from(u8::from(is_right));
            bins.add(probability, worth, weight);
            if probability >= decisions.threshold(row, class) {
                counts.predicted[class as usize].add(1, weight);
                counts.hits[class as usize] += weight * worth;
                found += usize::from(is_right);
                if !is_right {
                    wrong = wrong.or(Some(class));
                }
            }
        }
        for &class in &right {
            counts.support[class as usize].add(1, weight);
            let threshold = decisions.threshold(row, class);
            let is_found = classes
                .iter()
                .zip(probabilities)
                .any(|(&kept, &probability)| kept == class && probability >= threshold);
            if let (false, Some(wrong)) = (is_found, wrong) {
                confused.push((class, wrong));
            }
        }
        total += weight;
        if found == right.len() && wrong.is_none() {
            exact += weight;
        }
        if classes.iter().take(5).any(|class| right.contains(class)) {
            top_5 += weight;
        }
    }
    let mean = |sum: f64| sum / total.max(f64::MIN_POSITIVE);
    let classes = counts.scores();
    let weight_of = |counts: &[Count]| counts.iter().map(|count| count.weight).sum::<f64>();
    let decided = weight_of(&counts.support) + weight_of(&counts.predicted);
    let hits: f64 = counts.hits.iter().sum();
    let summary = Evaluation {
        rows: rows.len(),
        accuracy: mean(exact),
        macro_f1: macro_f1(&classes),
        weighted_f1: counts.weighted_f1(&classes),
        micro_f1: if decided > 0.0 { 2.0 * hits / decided } else { 0.0 },
        top_5: mean(top_5),
        log_loss: None,
        ece: bins.error(),
        levels: Vec::new(),
    };
    let confused = count_pairs(confused);
    DetailedEvaluation { summary, classes, confused, reliability: bins.bins() }
}

/// The mean over rows of the log-loss of all their classes together. Classes that were not kept
/// are taken to share what is left.
pub fn multi_label_log_loss(ranked: &RankedRows, rows: &[u32], answers: Answers<'_>) -> f64 {
    let loss = |probability: f32, is_right: bool| {
        let of_answer = if is_right { probability } else { 1.0 - probability };
        -f64::from(of_answer).max(LEAST_PROBABILITY).ln()
    };
    let (mut sum, mut total) = (0f64, 0f64);
    for (at, &row) in rows.iter().enumerate() {
        let right = || answers.targets.right(row as usize);
        let (classes, probabilities) = ranked.row(at);
        let unkept = ranked.unkept_share(at);
        let kept = classes.iter().zip(probabilities);
        let mut of_row: f64 = kept
            .map(|(&class, &probability)| loss(probability, right().any(|one| one == class)))
            .sum();
        let missed = right().filter(|class| !classes.contains(class)).count();
        let others = ranked.class_count() - classes.len() - missed;
        of_row += missed as f64 * loss(unkept, true) + others as f64 * loss(unkept, false);
        let weight = answers.weight(row as usize);
        sum += weight * of_row;
        total += weight;
    }
    sum / total.max(f64::MIN_POSITIVE)
}
