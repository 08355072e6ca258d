//! Choosing by what and from where on texts are refused.

use corral_classifier::Detector;

use super::detector::{self, Fitted};
use super::threshold::{Outcome, ScoredRow, Truth, choose};
use crate::report::{RefusalKind, RefusalRows, RefusalTry};

/// Rows of no class that a detector is fitted on at least: two for each of some ten signals.
const LEAST_FITTED: usize = 20;
/// Rows of no class, and rows of a class, of the split valid by which alone a threshold can be
/// chosen.
const LEAST_VALID_NONE: usize = 10;
const LEAST_VALID_IN_SCOPE: usize = 100;
/// Parts by which a detector is fitted for rows that it did not see.
const PARTS: usize = 5;
/// What a score must refuse more than a simpler one, as a share of the rows of no class.
const LEAST_GAIN: f64 = 0.005;
/// The costs at which scores are compared, as factors of the one allowed.
const COSTS_COMPARED: [f64; 3] = [0.5, 1.0, 2.0];

/// A row as an ensemble sees it that was not fitted on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub signals: Vec<f32>,
    /// One less the highest probability.
    pub doubt: f32,
    pub entropy: f32,
    pub truth: Truth,
    pub is_valid: bool,
}

/// How to refuse.
#[derive(Clone, Debug)]
pub struct Decision {
    pub kind: RefusalKind,
    /// Where the kind is a detector.
    pub detector: Option<FittedOn>,
    pub threshold: f32,
    pub judged_by: RefusalRows,
    pub fitted_on: Option<RefusalRows>,
    pub tried: Vec<RefusalTry>,
    /// On the rows judged by.
    pub outcome: Outcome,
}

/// A detector, and how many rows of no class it is fitted on.
#[derive(Clone, Debug)]
pub struct FittedOn {
    pub weights: Vec<f32>,
    pub bias: f32,
    pub none_rows: usize,
}

/// Chooses a score and its threshold.
pub fn decide(rows: &[Judged], cost: f64, seed: u64) -> Decision {
    let (train, valid): (Vec<&Judged>, Vec<&Judged>) = rows.iter().partition(|row| !row.is_valid);
    let by_valid = none_rows(&valid) >= LEAST_VALID_NONE
        && valid.len() - none_rows(&valid) >= LEAST_VALID_IN_SCOPE;
    let (judged, judged_by) = if by_valid {
        (valid, RefusalRows::ValidRows)
    } else {
        (rows.iter().collect(), RefusalRows::AllRows)
    };
    let (detector, fitted_on) = if by_valid && none_rows(&train) >= LEAST_FITTED {
        (fitted_apart(&train, &judged), RefusalRows::TrainRows)
    } else if none_rows(&judged) >= LEAST_FITTED {
        (fitted_across(&judged, seed), judged_by)
    } else {
        (None, judged_by)
    };
    let scored = |score: &dyn Fn(usize) -> f32| -> Vec<ScoredRow> {
        let row = |(at, row): (usize, &&Judged)| ScoredRow { score: score(at), truth: row.truth };
        judged.iter().enumerate().map(row).collect()
    };
    let mut candidates = vec![
        (RefusalKind::Doubt, scored(&|at| judged[at].doubt)),
        (RefusalKind::Entropy, scored(&|at| judged[at].entropy)),
    ];
    if let Some((_, scores)) = &detector {
        candidates.push((RefusalKind::Detector, scored(&|at| scores[at])));
    }
    let tried: Vec<RefusalTry> = candidates
        .iter()
        .map(|(score, rows)| RefusalTry { score: *score, refused_none: refused_none(rows, cost) })
        .collect();
    // Without rows of no class nothing tells them apart, and the entropy is known to be better.
    let mut chosen = usize::from(none_rows(&judged) == 0);
    for later in 1..tried.len() {
        if tried[later].refused_none > tried[chosen].refused_none + LEAST_GAIN {
            chosen = later;
        }
    }
    let (kind, rows) = &candidates[chosen];
    let threshold = choose(rows, cost);
    let detector = detector.map(|(fitted, _)| fitted).filter(|_| *kind == RefusalKind::Detector);
    Decision {
        kind: *kind,
        threshold,
        judged_by,
        fitted_on: detector.as_ref().map(|_| fitted_on),
        detector,
        tried,
        outcome: Outcome::of(rows, threshold),
    }
}

fn none_rows(rows: &[&Judged]) -> usize {
    rows.iter().filter(|row| row.truth == Truth::None).count()
}

/// The share of rows of no class that a score refuses, over several costs: one alone hangs on
/// few rows.
fn refused_none(rows: &[ScoredRow], cost: f64) -> f64 {
    let share = |factor: f64| Outcome::of(rows, choose(rows, factor * cost)).none_share();
    COSTS_COMPARED.into_iter().map(share).sum::<f64>() / COSTS_COMPARED.len() as f64
}

fn fit(rows: &[&Judged]) -> Option<FittedOn> {
    let signals: Vec<(&[f32], bool)> =
        rows.iter().map(|row| (row.signals.as_slice(), row.truth == Truth::None)).collect();
    let Fitted { weights, bias } = detector::fit(&signals)?;
    Some(FittedOn { weights, bias, none_rows: none_rows(rows) })
}

impl FittedOn {
    /// As a model computes it.
    fn score(&self, row: &Judged) -> f32 {
        let weights = self.weights.as_slice().into();
        Detector { weights, bias: self.bias }.score(&row.signals)
    }
}

/// A detector fitted on some rows, and what it says of others.
fn fitted_apart(fitted: &[&Judged], judged: &[&Judged]) -> Option<(FittedOn, Vec<f32>)> {
    let detector = fit(fitted)?;
    let scores = judged.iter().map(|row| detector.score(row)).collect();
    Some((detector, scores))
}

/// A detector fitted on all rows, and what ones fitted on the other parts say of each.
fn fitted_across(rows: &[&Judged], seed: u64) -> Option<(FittedOn, Vec<f32>)> {
    let sides: Vec<bool> = rows.iter().map(|row| row.truth == Truth::None).collect();
    let part_of = detector::deal(&sides, PARTS, seed);
    let mut scores = vec![0f32; rows.len()];
    for part in 0..PARTS {
        let others: Vec<&Judged> =
            rows.iter().zip(&part_of).filter(|(_, of)| **of != part).map(|(row, _)| *row).collect();
        let detector = fit(&others)?;
        for (at, row) in rows.iter().enumerate().filter(|(at, _)| part_of[*at] == part) {
            scores[at] = detector.score(row);
        }
    }
    Some((fit(rows)?, scores))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Rows of which every twentieth is of no class. The entropy tells those a little, the two
    /// signals together much.
    fn rows(count: u32, valid_from: u32) -> Vec<Judged> {
        let row = |row: u32| {
            let mut random = Random::new(9, u64::from(row));
            let mut normal = || (0..12).map(|_| random.unit() as f32).sum::<f32>() - 6.0;
            let is_none = row.is_multiple_of(20);
            let shift = if is_none { 1.0 } else { 0.0 };
            let common = 3.0 * normal();
            let signals = vec![common + 2.5 * shift + normal() * 0.3, common, normal(), 1.0];
            let entropy = (0.3 + 0.1 * normal() + 0.15 * shift).clamp(0.0, 1.0);
            let doubt = (0.3 + 0.1 * normal()).clamp(0.0, 1.0);
            let truth = match (is_none, row % 20 == 7) {
                (true, _) => Truth::None,
                (false, true) => Truth::Miss,
                (false, false) => Truth::Hit,
            };
            Judged { signals, doubt, entropy, truth, is_valid: row >= valid_from }
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn a_detector_is_fitted_on_train_and_judged_on_valid() {
        let all = rows(4000, 2000);
        let decision = decide(&all, 0.01, 1);
        assert_eq!(decision.kind, RefusalKind::Detector);
        assert_eq!(decision.judged_by, RefusalRows::ValidRows);
        assert_eq!(decision.fitted_on, Some(RefusalRows::TrainRows));
        let outcome = decision.outcome;
        assert_eq!((outcome.in_scope, outcome.none), (1900, 100));
        assert!(outcome.refused_hits as f64 <= 0.01 * 1900.0);
        assert!(outcome.none_share() > 0.95, "{decision:?}");
        assert_eq!(decision.tried.len(), 3);
        // Nothing of the train rows but the detector reaches the decision.
        let mut others = all.clone();
        others.iter_mut().filter(|row| !row.is_valid).for_each(|row| row.entropy = 0.9);
        assert_eq!(decide(&others, 0.01, 1).threshold, decision.threshold);
    }

    #[test]
    fn all_rows_judge_where_the_split_valid_has_few() {
        let decision = decide(&rows(4000, 4000), 0.01, 1);
        assert_eq!(
            (decision.kind, decision.judged_by),
            (RefusalKind::Detector, RefusalRows::AllRows)
        );
        assert_eq!(decision.detector.unwrap().none_rows, 200);
        assert!(decision.outcome.none_share() > 0.95);
    }

    #[test]
    fn few_rows_of_no_class_choose_between_the_simple_scores() {
        let mut few = rows(4000, 4000);
        let mut kept = 0;
        few.retain(|row| {
            kept += usize::from(row.truth == Truth::None);
            row.truth != Truth::None || kept <= 15
        });
        let decision = decide(&few, 0.05, 1);
        assert_eq!((decision.kind, decision.tried.len()), (RefusalKind::Entropy, 2));
        few.retain(|row| row.truth != Truth::None);
        let decision = decide(&few, 0.05, 1);
        assert_eq!(decision.kind, RefusalKind::Entropy);
        assert_eq!(decision.outcome.refused_hits, (0.05 * 3800.0) as usize);
    }
}
