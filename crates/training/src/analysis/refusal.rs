//! What refusing unsure predictions does to the accuracy of the others.

use crate::metrics::RankedRows;
use crate::report::RefusalPoint;
use crate::targets::Targets;

/// The shares of rows that are answered at the points shown.
const ANSWERED_SHARES: [f64; 12] =
    [1.0, 0.99, 0.98, 0.97, 0.95, 0.925, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5];

/// For falling shares of answered rows, the probability below which the others are refused
/// and the accuracy that is left.
pub fn points(held_out: &RankedRows, targets: &Targets) -> Vec<RefusalPoint> {
    let mut rows: Vec<(f32, bool)> = (0..held_out.len())
        .map(|row| {
            let (classes, probabilities) = held_out.row(row);
            (probabilities[0], targets.right(row).any(|class| class == classes[0]))
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut points: Vec<RefusalPoint> = Vec::new();
    let (mut taken, mut hits) = (0, 0);
    let mut counted = ANSWERED_SHARES;
    counted.reverse();
    for share in counted {
        let wanted = (share * rows.len() as f64).ceil() as usize;
        // All rows of one probability are answered together.
        while taken < rows.len() && (taken < wanted || rows[taken].0 == rows[taken - 1].0) {
            hits += usize::from(rows[taken].1);
            taken += 1;
        }
        if taken == 0 {
            continue;
        }
        let point = RefusalPoint {
            threshold: f64::from(rows[taken - 1].0),
            answered: taken as f64 / rows.len() as f64,
            accuracy: hits as f64 / taken as f64,
        };
        if points.last() != Some(&point) {
            points.push(point);
        }
    }
    points.reverse();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_sure_rows_are_refused_first() {
        let (mut ranked, mut targets) = (RankedRows::new(2), Targets::new());
        for row in 0..100u32 {
            let sure = 0.5 + row as f32 / 250.0;
            ranked.push(&[sure, 1.0 - sure]);
            // The ten least sure are wrong.
            targets.push(&mut [(u32::from(row < 10), 1.0)]);
        }
        let points = points(&ranked, &targets);
        assert_eq!(points.len(), ANSWERED_SHARES.len());
        assert_eq!((points[0].answered, points[0].accuracy), (1.0, 0.9));
        let ninety = points.iter().find(|point| point.answered == 0.9).unwrap();
        assert_eq!(ninety.accuracy, 1.0);
        assert!((ninety.threshold - 0.54).abs() < 1e-6);
        assert!(super::points(&RankedRows::new(3), &Targets::new()).is_empty());
    }

    #[test]
    fn rows_of_one_probability_are_not_told_apart() {
        let (mut ranked, mut targets) = (RankedRows::new(2), Targets::new());
        for _ in 0..10 {
            ranked.push(&[0.8, 0.2]);
            targets.push(&mut [(0, 1.0)]);
        }
        let points = points(&ranked, &targets);
        assert_eq!(points.len(), 1);
        assert_eq!(points[0].answered, 1.0);
    }
}
