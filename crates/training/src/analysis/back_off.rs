//! What answers are worth that go back to a parent where no class is sure enough.

use crate::metrics::{Levels, RankedRows};
use crate::report::{BackOffLevel, BackOffPoint};
use crate::targets::Targets;

/// The probabilities that answers are held to at the points shown.
const CONFIDENCES: [f32; 6] = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/// For rising probabilities, how many rows are answered at each depth, and how many of those
/// answers are right.
pub fn points(held_out: &RankedRows, targets: &Targets, levels: &Levels) -> Vec<BackOffPoint> {
    if held_out.is_empty() {
        return Vec::new();
    }
    let point = |confidence: f32| {
        let counts = levels.back_off(held_out, targets, confidence);
        let level = |(depth, (answered, hits)): (usize, (usize, usize))| BackOffLevel {
            depth,
            answered: answered as f64 / held_out.len() as f64,
            accuracy: (answered > 0).then(|| hits as f64 / answered as f64),
        };
        BackOffPoint {
            confidence: f64::from(confidence),
            levels: counts.into_iter().enumerate().map(level).collect(),
        }
    };
    CONFIDENCES.into_iter().map(point).collect()
}
