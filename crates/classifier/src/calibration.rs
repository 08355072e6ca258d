//! From scores to probabilities. Fitting stands with training; this is what both use.

use std::borrow::Cow;

use crate::rows::DenseRows;

/// How the outputs of a model exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// A text has one class: probabilities sum to 1.
    Softmax,
    /// A text may have any number of classes: each probability stands alone.
    Sigmoid,
}

/// The map from a head's scores to probabilities.
#[derive(Clone, Debug, PartialEq)]
pub enum Calibration<'a> {
    /// Scores are divided by the temperature before the link (Guo et al. 2017).
    Temperature(f32),
    /// `1 / (1 + exp(-(slope * score + offset)))` for each output (Platt 1999); with
    /// [`Link::Softmax`] the outputs are then divided by their sum, as for one-vs-rest heads.
    PerOutput { slopes: Cow<'a, [f32]>, offsets: Cow<'a, [f32]> },
}

impl Calibration<'_> {
    /// The plain link.
    pub const NONE: Self = Self::Temperature(1.0);

    /// Turns the scores of one row into probabilities, in place.
    pub fn apply(&self, link: Link, scores: &mut [f32]) {
        match self {
            Self::Temperature(temperature) => {
                let factor = temperature.recip();
                scores.iter_mut().for_each(|score| *score *= factor);
                match link {
                    Link::Softmax => softmax(scores),
                    Link::Sigmoid => {
                        scores.iter_mut().for_each(|score| *score = sigmoid(*score));
                    }
                }
            }
            Self::PerOutput { slopes, offsets } => {
                for ((score, slope), offset) in
                    scores.iter_mut().zip(slopes.iter()).zip(offsets.iter())
                {
                    *score = sigmoid(slope * *score + offset);
                }
                if link == Link::Softmax {
                    divide_by_sum(scores);
                }
            }
        }
    }

    /// Turns the scores of many rows into probabilities, in place.
    pub fn apply_rows(&self, link: Link, scores: &mut DenseRows) {
        let width = scores.width().max(1);
        scores.values_mut().chunks_exact_mut(width).for_each(|row| self.apply(link, row));
    }
}

/// Softmax in place; the largest score is taken off first.
pub fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    divide_by_sum(scores);
}

/// The logistic function.
pub fn sigmoid(score: f32) -> f32 {
    let small = exp(-score.abs());
    if score >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

/// Adds `weight` times one member's probabilities to the ensemble's.
pub fn add_weighted(ensemble: &mut [f32], member: &[f32], weight: f32) {
    for (total, probability) in ensemble.iter_mut().zip(member) {
        *total += weight * probability;
    }
}

/// The smallest probability whose logarithm is taken.
pub(crate) const SMALLEST_PROBABILITY: f32 = 1e-12;

/// The calibration of a whole ensemble: probabilities to a power, again brought to sum 1. The
/// order of a row's classes stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tempering {
    /// The power is one over it, for a row whose highest probability is 1.
    pub temperature: f32,
    /// The highest probability to this power multiplies a row's exponent, so that sure rows
    /// and unsure ones are sharpened differently; 0 treats all alike, as [`Link::Sigmoid`]
    /// always does.
    pub confidence_power: f32,
}

impl Tempering {
    /// Leaves probabilities alone.
    pub const NONE: Self = Self::by(1.0);

    /// The same for all rows.
    pub const fn by(temperature: f32) -> Self {
        Self { temperature, confidence_power: 0.0 }
    }

    /// The power for a row with this highest probability.
    pub fn exponent(&self, highest: f32) -> f32 {
        let common = self.temperature.recip();
        if self.confidence_power == 0.0 {
            return common;
        }
        let of_row = exp(self.confidence_power * highest.max(SMALLEST_PROBABILITY).ln());
        (common * of_row).clamp(EXPONENT_RANGE.0, EXPONENT_RANGE.1)
    }
}

/// Exponents that can be meant: beyond, all classes are the same or all but one nothing.
pub(crate) const EXPONENT_RANGE: (f32, f32) = (1e-3, 1e3);

/// Applies the calibration of a whole ensemble to one row; with [`Link::Sigmoid`] log-odds are
/// divided by the temperature.
pub fn temper(probabilities: &mut [f32], link: Link, tempering: Tempering) {
    if tempering == Tempering::NONE {
        return;
    }
    let highest = probabilities.iter().copied().fold(0f32, f32::max);
    let exponent = tempering.exponent(highest);
    for probability in probabilities.iter_mut() {
        let kept = probability.max(SMALLEST_PROBABILITY);
        *probability = match link {
            Link::Softmax => kept.ln() * exponent,
            Link::Sigmoid => {
                let other = (1.0 - *probability).max(SMALLEST_PROBABILITY);
                sigmoid((kept.ln() - other.ln()) * exponent)
            }
        };
    }
    if link == Link::Softmax {
        softmax(probabilities);
    }
}

/// The ensemble's probabilities from those of its members and their weights, which are taken
/// as they are: weights of a model sum to 1.
///
/// # Panics
/// When members differ in shape, or there is none.
pub fn combine(members: &[(&DenseRows, f32)], link: Link, tempering: Tempering) -> DenseRows {
    let (first, _) = members.first().expect("at least one member");
    let mut ensemble = DenseRows::zeros(first.rows(), first.width());
    for (index, row) in ensemble.values_mut().chunks_exact_mut(first.width().max(1)).enumerate() {
        members.iter().for_each(|(member, weight)| add_weighted(row, member.row(index), *weight));
        temper(row, link, tempering);
    }
    ensemble
}

fn divide_by_sum(values: &mut [f32]) {
    let sum: f32 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|value| *value /= sum);
    } else if !values.is_empty() {
        let share = (values.len() as f32).recip();
        values.fill(share);
    }
}

/// `e` to the power of `x`, off by at most two units in the last place for results that are
/// normal numbers; outside -87 to 88 as at those ends. Plain arithmetic: it runs in vector registers and gives the
/// same bits on every machine, which a libm does not.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    // Taylor coefficients up to the seventh: |rest| ≤ ln(2) / 2 leaves less than 2^-25.
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * rest + coefficient;
    }
    sum * f32::from_bits(((whole as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "exp({x}) is off by {error:e}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(-1000.0) >= 0.0);
        assert!(exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn softmax_sums_to_one_on_any_scores() {
        for mut scores in [vec![1000.0, 999.0, -1e30], vec![0.0; 3], vec![f32::MIN; 2], vec![5.0]] {
            Calibration::Temperature(0.5).apply(Link::Softmax, &mut scores);
            assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn sigmoid_is_symmetric_and_bounded() {
        for score in [0.0, 0.5, 3.0, 40.0, 1e30] {
            assert!((sigmoid(score) + sigmoid(-score) - 1.0).abs() < 1e-6);
        }
        assert_eq!(sigmoid(0.0), 0.5);
    }

    #[test]
    fn platt_outputs_are_divided_by_their_sum() {
        let calibration = Calibration::PerOutput {
            slopes: vec![1.0, 2.0].into(),
            offsets: vec![0.0, -1.0].into(),
        };
        let mut alone = vec![0.3, 0.2];
        calibration.apply(Link::Sigmoid, &mut alone);
        assert!((alone[0] - 0.574_442_5).abs() < 1e-6 && (alone[1] - 0.354_343_7).abs() < 1e-6);
        let mut together = vec![0.3, 0.2];
        calibration.apply(Link::Softmax, &mut together);
        assert!((together[0] - alone[0] / (alone[0] + alone[1])).abs() < 1e-6);
    }

    #[test]
    fn tempering_sharpens_and_keeps_the_order() {
        let mut probabilities = vec![0.5, 0.3, 0.2];
        temper(&mut probabilities, Link::Softmax, Tempering::by(0.5));
        for (got, exact) in probabilities.iter().zip([25.0, 9.0, 4.0]) {
            assert!((got - exact / 38.0).abs() < 1e-6);
        }
        let mut alone = vec![0.8];
        temper(&mut alone, Link::Sigmoid, Tempering::by(2.0));
        assert!((alone[0] - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn unsure_rows_can_be_tempered_more_than_sure_ones() {
        let tempering = Tempering { temperature: 0.5, confidence_power: -1.0 };
        assert_eq!(tempering.exponent(1.0), 2.0);
        assert!((tempering.exponent(0.5) - 4.0).abs() < 1e-5);
        let mut probabilities = vec![0.5, 0.3, 0.2];
        temper(&mut probabilities, Link::Softmax, tempering);
        for (got, exact) in probabilities.iter().zip([625.0, 81.0, 16.0]) {
            assert!((got - exact / 722.0).abs() < 1e-6);
        }
        // Whatever a damaged file says, probabilities stay numbers.
        for power in [f32::MAX, f32::MIN] {
            let mut probabilities = vec![0.5, 0.3, 0.2];
            let wild = Tempering { temperature: 1.0, confidence_power: power };
            temper(&mut probabilities, Link::Softmax, wild);
            assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}
