//! When a text is taken for none of the classes.
//!
//! The highest probability alone tells such texts badly: it says how far the first class is
//! ahead, not whether any fits. Better is how much probability lies scattered over all
//! classes, the [entropy](RefusalScore::Entropy), and best a small
//! [detector](RefusalScore::Detector): a logistic regression over *signals*, which are what
//! the ensemble's members say before and after they are joined. The highest score of a head
//! tells most: it is low where nothing of a text speaks for any class, while probabilities only
//! say which class is ahead.
//!
//! Training finds thresholds and detectors by asking models for the same signals.

use std::borrow::Cow;

use crate::calibration::{SMALLEST_PROBABILITY, sigmoid};

/// How a model refuses: a text is none of the classes where its score reaches the threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal<'a> {
    pub score: RefusalScore<'a>,
    pub threshold: f32,
}

/// What says that a text is none of the classes: from 0 to 1, more where that is likelier.
#[derive(Clone, Debug, PartialEq)]
pub enum RefusalScore<'a> {
    /// One less the highest probability.
    Doubt,
    /// The entropy of the probabilities, divided by its largest value.
    Entropy,
    Detector(Detector<'a>),
}

/// A logistic regression over a text's signals.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector<'a> {
    /// One for each signal: [`SHARED_SIGNALS`], then one for each member of the model.
    pub weights: Cow<'a, [f32]>,
    pub bias: f32,
}

/// What a model makes of the question whether a text is none of its classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefusalVerdict {
    pub score: f32,
    pub is_refused: bool,
}

/// Signals that every model has, before one for each member: the highest score of its head. They
/// are the entropy of the probabilities and the members' disagreement, which is what the entropy
/// of their mean has over the mean of their entropies.
///
/// On CLINC150 the nearness of the text's embedding to the mean of a class, the share of members
/// with another first class and the lead of the first class added nothing to these.
pub const SHARED_SIGNALS: usize = 2;

/// Signals of a text while it is predicted, and their buffers.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    values: Vec<f32>,
    /// The weighted sum of the members' entropies.
    entropy_apart: f32,
}

impl Signals {
    /// Forgets the last text.
    pub fn begin(&mut self) {
        self.values.clear();
        self.values.resize(SHARED_SIGNALS, 0.0);
        self.entropy_apart = 0.0;
    }

    /// Notes the scores of a member's head.
    pub fn note_scores(&mut self, scores: &[f32]) {
        self.values.push(largest(scores).clamp(-LARGEST_SIGNAL, LARGEST_SIGNAL));
    }

    /// Notes the calibrated probabilities of a member.
    pub fn note_probabilities(&mut self, probabilities: &[f32], weight: f32) {
        self.entropy_apart += weight * entropy(probabilities);
    }

    /// Notes the weighted sum of all members' probabilities.
    pub fn note_sum(&mut self, probabilities: &[f32]) {
        self.values[1] = (entropy(probabilities) - self.entropy_apart).max(0.0);
    }

    /// All signals, given the model's probabilities.
    pub fn finish(&mut self, probabilities: &[f32]) -> &[f32] {
        self.values[0] = normalised_entropy(probabilities);
        &self.values
    }
}

impl RefusalScore<'_> {
    /// The score of a text by its probabilities and, for a detector, its signals.
    pub(crate) fn of(&self, probabilities: &[f32], signals: &[f32]) -> f32 {
        match self {
            Self::Doubt => 1.0 - largest(probabilities),
            Self::Entropy => normalised_entropy(probabilities),
            Self::Detector(detector) => detector.score(signals),
        }
    }
}

impl Detector<'_> {
    /// The probability that a text with these signals is none of the classes, as far as
    /// training could tell.
    pub fn score(&self, signals: &[f32]) -> f32 {
        let weighted = self.weights.iter().zip(signals).map(|(weight, signal)| weight * signal);
        sigmoid(self.bias + weighted.sum::<f32>())
    }
}

/// The entropy of probabilities divided by that of an even spread.
pub fn normalised_entropy(probabilities: &[f32]) -> f32 {
    let even = (probabilities.len().max(2) as f32).ln();
    (entropy(probabilities) / even).clamp(0.0, 1.0)
}

fn entropy(probabilities: &[f32]) -> f32 {
    let term = |&probability: &f32| -> f32 {
        if probability > SMALLEST_PROBABILITY { probability * probability.ln() } else { 0.0 }
    };
    -probabilities.iter().map(term).sum::<f32>()
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Scores beyond it are as good as it: a head may say of every class that it cannot be, and
/// signals stay numbers.
const LARGEST_SIGNAL: f32 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_runs_from_sure_to_even() {
        assert_eq!(normalised_entropy(&[0.0, 1.0, 0.0]), 0.0);
        assert!((normalised_entropy(&[0.25; 4]) - 1.0).abs() < 1e-6);
        // scipy.stats.entropy([.7, .2, .1]) / ln 3
        assert!((normalised_entropy(&[0.7, 0.2, 0.1]) - 0.729_847_3).abs() < 1e-6);
        assert_eq!(normalised_entropy(&[1.0]), 0.0);
    }

    #[test]
    fn members_that_disagree_are_noticed() {
        let mut signals = Signals::default();
        let mut of = |members: [&[f32]; 2]| {
            signals.begin();
            let mut sum = vec![0.0; 3];
            for member in members {
                signals.note_scores(member);
                signals.note_probabilities(member, 0.5);
                sum.iter_mut().zip(member).for_each(|(sum, p)| *sum += 0.5 * p);
            }
            signals.note_sum(&sum);
            signals.finish(&sum).to_vec()
        };
        let agree = of([&[0.8, 0.1, 0.1], &[0.8, 0.1, 0.1]]);
        let disagree = of([&[0.8, 0.1, 0.1], &[0.1, 0.7, 0.2]]);
        assert_eq!(agree.len(), SHARED_SIGNALS + 2);
        assert!(agree[1] < 1e-6 && disagree[1] > 0.2);
        assert_eq!(disagree[2..], [0.8, 0.7]);
        assert_eq!(of([&[f32::NEG_INFINITY; 3], &[0.0; 3]])[2], -LARGEST_SIGNAL);
    }
}
