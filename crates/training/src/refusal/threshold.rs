//! From which score on a text is refused, and which score to take.
//!
//! The rule: refuse as many texts of no class as is possible while the accuracy on the others,
//! where a refused one is an error, falls by no more than the cost allowed. Refusing a text whose
//! class would have been wrong anyway costs nothing.

/// A row by which a threshold is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredRow {
    /// More where the text is likelier of no class.
    pub score: f32,
    pub truth: Truth,
}

/// What a row is, and what its answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Of no class.
    None,
    /// Of a class, which is the model's first one.
    Hit,
    /// Of another class than the model's first one.
    Miss,
}

/// What a threshold does to rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    pub in_scope: usize,
    pub hits: usize,
    pub refused_hits: usize,
    pub refused_in_scope: usize,
    pub none: usize,
    pub refused_none: usize,
}

impl Outcome {
    /// What becomes of rows of which those from the threshold on are refused.
    pub fn of(rows: &[ScoredRow], threshold: f32) -> Self {
        let mut outcome = Self::default();
        for row in rows {
            let refused = usize::from(row.score >= threshold);
            match row.truth {
                Truth::None => {
                    outcome.none += 1;
                    outcome.refused_none += refused;
                }
                Truth::Hit => {
                    outcome.in_scope += 1;
                    outcome.hits += 1;
                    outcome.refused_hits += refused;
                    outcome.refused_in_scope += refused;
                }
                Truth::Miss => {
                    outcome.in_scope += 1;
                    outcome.refused_in_scope += refused;
                }
            }
        }
        outcome
    }

    /// The share of the rows of no class that are refused.
    pub fn none_share(&self) -> f64 {
        self.refused_none as f64 / self.none.max(1) as f64
    }
}

/// The threshold that the rule gives, for a cost as a share of the rows that have a class.
///
/// Among thresholds that refuse the same rows of no class the one that refuses the fewest others
/// is taken, midway between the scores at both sides of it.
pub fn choose(rows: &[ScoredRow], cost: f64) -> f32 {
    let mut order: Vec<ScoredRow> = rows.to_vec();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let in_scope = order.iter().filter(|row| row.truth != Truth::None).count();
    let allowed = (cost * in_scope as f64 + ROUNDING).floor() as usize;
    // How many of the rows, from the highest score on, are refused: up to the last of no class
    // that is to be had for the cost; rows of one score go together.
    let (mut refused, mut lost) = (0, 0);
    let has_none = order.iter().any(|row| row.truth == Truth::None);
    let mut taken = 0;
    for same in order.chunk_by(|a, b| a.score == b.score) {
        lost += same.iter().filter(|row| row.truth == Truth::Hit).count();
        if lost > allowed {
            break;
        }
        taken += same.len();
        if !has_none || same.iter().any(|row| row.truth == Truth::None) {
            refused = taken;
        }
    }
    let at = |place: usize| order.get(place).map(|row| row.score);
    match (refused.checked_sub(1).and_then(at), at(refused)) {
        (Some(last), Some(next)) => {
            let middle = next + (last - next) / 2.0;
            // Neighbours among floating numbers have no middle.
            if middle > next { middle } else { last }
        }
        (Some(last), None) => last,
        // Beyond every row, as far as the next one lies from it: what is clearly less like a
        // class than all that were seen is refused still.
        (None, Some(first)) => first + (1.0 - first).max(f32::EPSILON) / 2.0,
        (None, None) => 1.0,
    }
}

/// Kept away from counts that a product misses by its rounding.
const ROUNDING: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(scores: &[(f32, Truth)]) -> Vec<ScoredRow> {
        scores.iter().map(|&(score, truth)| ScoredRow { score, truth }).collect()
    }

    #[test]
    fn as_many_are_refused_as_the_cost_allows() {
        use Truth::{Hit, Miss, None};
        let mut all = rows(&[
            (0.9, None),
            (0.8, Miss),
            (0.7, None),
            (0.6, Hit),
            (0.5, None),
            (0.4, Hit),
            (0.3, None),
        ]);
        all.extend((0..97).map(|row| ScoredRow { score: row as f32 / 1000.0, truth: Hit }));
        let refused = |cost: f64| {
            let outcome = Outcome::of(&all, choose(&all, cost));
            (outcome.refused_none, outcome.refused_hits, outcome.refused_in_scope)
        };
        assert_eq!(refused(0.0), (2, 0, 1));
        assert_eq!(refused(0.01), (3, 1, 2));
        assert_eq!(refused(0.02), (4, 2, 3));
        // Nothing more is to be had, so that nothing more is paid.
        assert_eq!(refused(0.5), (4, 2, 3));
    }

    #[test]
    fn the_threshold_lies_between_two_scores() {
        let all = rows(&[(0.8, Truth::None), (0.2, Truth::Hit)]);
        assert!((choose(&all, 0.0) - 0.5).abs() < 1e-6);
        let equal = rows(&[(0.8, Truth::None), (0.8, Truth::Hit), (0.2, Truth::Hit)]);
        let threshold = choose(&equal, 0.0);
        assert!(threshold > 0.8 && threshold < 1.0, "rows of one score go together");
        assert!((choose(&equal, 0.5) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn without_rows_of_no_class_the_cost_alone_decides() {
        let all: Vec<ScoredRow> = (0..1000)
            .map(|row| ScoredRow { score: row as f32 / 1000.0, truth: Truth::Hit })
            .collect();
        assert_eq!(Outcome::of(&all, choose(&all, 0.01)).refused_hits, 10);
        assert_eq!(choose(&[], 0.01), 1.0);
    }
}
