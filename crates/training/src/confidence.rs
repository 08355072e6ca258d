//! Calibrating the confidence of a whole ensemble: how probable its first class is against how
//! often that is right.
//!
//! One temperature is fitted for the log-loss of all classes. Where texts are ambiguous (any of
//! several classes is a hit, but probability is spread over them) or there are a thousand
//! classes, no single temperature fits: unsure rows are right more often than they say, sure ones
//! less often. A second number then lets the exponent go with the row's highest probability, as
//! in temperatures that depend on the row (Balanya, Maroñas, Ramos, "Adaptive temperature
//! scaling", 2022), and both are fitted to the hits and misses of the first class. It is kept
//! only where it helps on held-out folds.

use rayon::prelude::*;

use corral_classifier::Tempering;

use crate::metrics::RankedRows;
use crate::targets::Targets;

/// Newton steps of the two numbers; some ten are taken.
const MAX_STEPS: usize = 50;
/// Steps are halved down to this before the fit ends.
const LEAST_STEP: f64 = 1e-6;
/// Rows summed by one task, in the order of the tasks.
const ROWS_PER_TASK: usize = 1024;
/// The second number must take off so many standard errors of its gain on held-out rows.
const STANDARD_ERRORS: f64 = 2.0;
/// What the mean log-loss of the right class may rise for better confidence, as a share of it.
const MOST_LOSS_RISE: f64 = 0.005;
/// Probabilities are held this far from 0 and 1 before their logarithm is taken.
const LEAST_CHANCE: f64 = 1e-7;
/// The bounds of the power: beyond them a row's exponent is an accident of few rows.
const POWER_RANGE: (f64, f64) = (-2.0, 2.0);

/// Predictions to calibrate, with what is right.
pub struct Predictions<'a> {
    pub ranked: &'a RankedRows,
    /// Row `i` of `ranked` is row `i` of these.
    pub targets: &'a Targets,
    /// What each row counts.
    pub weights: &'a [f32],
    /// The fold of each row, by which it is found out what helps on rows not fitted on.
    pub folds: &'a [u8],
}

/// The tempering to take: `plain`, or one by confidence where that describes rows of folds
/// better that it was not fitted on.
pub fn choose_tempering(predictions: &Predictions<'_>, plain: Tempering) -> Tempering {
    let rows = Row::of(predictions);
    let whole: Vec<&Row<'_>> = rows.iter().filter(|row| row.weight > 0.0).collect();
    let mut folds: Vec<u8> = whole.iter().map(|row| row.fold).collect();
    folds.sort_unstable();
    folds.dedup();
    if folds.len() < 2 {
        return plain;
    }
    // By row: what the plain one loses more than the other, and both losses of the right class.
    let (mut gains, mut before, mut after) = (Vec::new(), 0f64, 0f64);
    for &fold in &folds {
        let fitted: Vec<&Row<'_>> = whole.iter().copied().filter(|row| row.fold != fold).collect();
        let tempering = fit(&fitted, plain);
        for row in whole.iter().filter(|row| row.fold == fold) {
            let (old, new) = (row.temper(plain), row.temper(tempering));
            gains.push(row.weight * (row.hit_loss(&old) - row.hit_loss(&new)));
            before += row.weight * row.right_loss(&old);
            after += row.weight * row.right_loss(&new);
        }
    }
    let count = gains.len() as f64;
    let mean = gains.iter().sum::<f64>() / count;
    let spread = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / count;
    let is_sure = mean > STANDARD_ERRORS * (spread / count).sqrt();
    if is_sure && after <= before * (1.0 + MOST_LOSS_RISE) { fit(&whole, plain) } else { plain }
}

/// Fits both numbers to the hits and misses of the first class, by Fisher scoring with halved
/// steps, from `start` on.
fn fit(rows: &[&Row<'_>], start: Tempering) -> Tempering {
    let mut at = [-f64::from(start.temperature).ln(), f64::from(start.confidence_power)];
    let mut value = sums(rows, at);
    for _ in 0..MAX_STEPS {
        let Some(direction) = value.direction() else { break };
        let mut step = 1.0;
        loop {
            let next = [
                at[0] + step * direction[0],
                (at[1] + step * direction[1]).clamp(POWER_RANGE.0, POWER_RANGE.1),
            ];
            let sums = sums(rows, next);
            if sums.loss < value.loss {
                (at, value) = (next, sums);
                break;
            }
            step /= 2.0;
            if step < LEAST_STEP {
                return tempering(at);
            }
        }
        if step * direction[0].abs().max(direction[1].abs()) < LEAST_STEP {
            break;
        }
    }
    tempering(at)
}

fn tempering(at: [f64; 2]) -> Tempering {
    Tempering { temperature: (-at[0]).exp() as f32, confidence_power: at[1] as f32 }
}

/// One row of predictions.
struct Row<'a> {
    classes: &'a [u32],
    /// The logarithms of the kept probabilities.
    logs: Vec<f32>,
    /// How many classes were not kept, and the logarithm of what each has.
    unkept: f64,
    unkept_log: f64,
    targets: &'a Targets,
    row: usize,
    /// What the first class is worth: 1 for a hit, its share where labels are probabilistic.
    worth: f64,
    weight: f64,
    fold: u8,
}

/// A row under a tempering.
struct Tempered {
    /// The probability of the first class.
    first: f64,
    /// The logarithm of its probability before, less the mean of all classes' after.
    ahead: f64,
    exponent: f64,
    /// What a logarithm of zero stands for, from which others are raised.
    total: f64,
}

impl<'a> Row<'a> {
    fn of(predictions: &Predictions<'a>) -> Vec<Self> {
        let ranked = predictions.ranked;
        let ln = |probability: f32| probability.max(LEAST_PROBABILITY).ln();
        let row = |at: usize| {
            let (classes, probabilities) = ranked.row(at);
            Self {
                classes,
                logs: probabilities.iter().map(|&probability| ln(probability)).collect(),
                unkept: (ranked.class_count() - classes.len()) as f64,
                unkept_log: f64::from(ln(ranked.unkept_share(at))),
                targets: predictions.targets,
                row: at,
                worth: predictions.targets.worth(at, |class| class == classes[0]),
                weight: f64::from(predictions.weights[at]),
                fold: predictions.folds[at],
            }
        };
        (0..ranked.len()).into_par_iter().map(row).collect()
    }

    fn temper(&self, tempering: Tempering) -> Tempered {
        let power = f64::from(tempering.confidence_power);
        let common = -f64::from(tempering.temperature).ln();
        self.raise((common + power * f64::from(self.logs[0])).exp())
    }

    fn raise(&self, exponent: f64) -> Tempered {
        let highest = f64::from(self.logs[0]);
        let (mut total, mut mean) = (0f64, 0f64);
        for &log in &self.logs {
            let below = f64::from(log) - highest;
            let raised = (exponent * below).exp();
            total += raised;
            mean += raised * below;
        }
        if self.unkept > 0.0 {
            let below = self.unkept_log - highest;
            let raised = self.unkept * (exponent * below).exp();
            total += raised;
            mean += raised * below;
        }
        Tempered { first: total.recip(), ahead: -mean / total, exponent, total }
    }

    /// The loss of saying how likely the first class is right.
    fn hit_loss(&self, tempered: &Tempered) -> f64 {
        let chance = tempered.first.clamp(LEAST_CHANCE, 1.0 - LEAST_CHANCE);
        -(self.worth * chance.ln() + (1.0 - self.worth) * (1.0 - chance).ln())
    }

    /// The loss of the probability of all right classes together.
    fn right_loss(&self, tempered: &Tempered) -> f64 {
        let highest = f64::from(self.logs[0]);
        let raised = |class: u32| {
            let kept = self.classes.iter().position(|&kept| kept == class);
            let log = kept.map_or(self.unkept_log, |place| f64::from(self.logs[place]));
            (tempered.exponent * (log - highest)).exp()
        };
        let right: f64 = self.targets.right(self.row).map(raised).sum();
        -(right / tempered.total).max(LEAST_CHANCE).ln()
    }
}

/// The loss over rows, its slope and its expected curvature in the logarithm of the exponent
/// and the power.
#[derive(Clone, Copy, Default)]
struct Sums {
    loss: f64,
    slope: [f64; 2],
    /// By first and first, first and second, second and second number.
    curvature: [f64; 3],
}

impl Sums {
    /// Where to step; `None` where nothing is left to gain.
    fn direction(&self) -> Option<[f64; 2]> {
        let [a, b, c] = self.curvature;
        // A ridge, for rows that all have the same confidence.
        let (a, c) = (a + 1e-9 * (1.0 + a), c + 1e-9 * (1.0 + c));
        let determinant = a * c - b * b;
        let [first, second] = self.slope;
        let direction =
            [-(c * first - b * second) / determinant, -(a * second - b * first) / determinant];
        (determinant > 0.0 && direction.iter().all(|part| part.is_finite())).then_some(direction)
    }
}

fn sums(rows: &[&Row<'_>], at: [f64; 2]) -> Sums {
    let of_rows = |rows: &[&Row<'_>]| {
        let mut sums = Sums::default();
        for row in rows {
            let log = f64::from(row.logs[0]);
            let tempered = row.raise((at[0] + at[1] * log).exp());
            let chance = tempered.first.clamp(LEAST_CHANCE, 1.0 - LEAST_CHANCE);
            // How the chance's log-odds go with the exponent's logarithm.
            let pull = tempered.exponent * tempered.ahead / (1.0 - chance);
            let missed = chance - row.worth;
            let (slope, curvature) =
                (row.weight * missed * pull, row.weight * chance * (1.0 - chance) * pull * pull);
            sums.loss += row.weight * row.hit_loss(&tempered);
            for (sum, factor) in sums.slope.iter_mut().zip([1.0, log]) {
                *sum += slope * factor;
            }
            for (sum, factor) in sums.curvature.iter_mut().zip([1.0, log, log * log]) {
                *sum += curvature * factor;
            }
        }
        sums
    };
    let parts: Vec<Sums> = rows.par_chunks(ROWS_PER_TASK).map(of_rows).collect();
    let add = |mut all: Sums, part: Sums| {
        all.loss += part.loss;
        all.slope.iter_mut().zip(part.slope).for_each(|(sum, part)| *sum += part);
        all.curvature.iter_mut().zip(part.curvature).for_each(|(sum, part)| *sum += part);
        all
    };
    parts.into_iter().fold(Sums::default(), add)
}

/// The smallest probability whose logarithm is taken; as prediction does.
const LEAST_PROBABILITY: f32 = 1e-12;

/// The memory that calibrating so many rows takes beside their predictions, in bytes.
pub const fn memory_bytes(rows: usize, classes: usize) -> usize {
    rows * (RankedRows::width_for(classes) * 4 + size_of::<Row<'_>>() + 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Rows over 40 classes whose first class is right as often as `chance` of its probability.
    fn made_up(count: u32, chance: impl Fn(f32) -> f32) -> (RankedRows, Targets, Vec<u8>) {
        let (mut ranked, mut targets) = (RankedRows::new(40), Targets::new());
        for row in 0..count {
            let mut random = Random::new(11, u64::from(row));
            let first = 0.1 + 0.88 * random.unit() as f32;
            let mut probabilities = vec![0f32; 40];
            // Half of the rest on the second class, or what keeps it second.
            let second = ((1.0 - first) / 2.0).min(first * 0.9);
            probabilities.fill((1.0 - first - second) / 38.0);
            (probabilities[3], probabilities[7]) = (first, second);
            ranked.push(&probabilities);
            let is_hit = (random.unit() as f32) < chance(first);
            targets.push(&mut [(if is_hit { 3 } else { 7 }, 1.0)]);
        }
        (ranked, targets, (0..count).map(|row| (row % 5) as u8).collect())
    }

    fn chosen(rows: &(RankedRows, Targets, Vec<u8>)) -> Tempering {
        let weights = vec![1.0; rows.0.len()];
        let (ranked, targets, folds) = (&rows.0, &rows.1, rows.2.as_slice());
        choose_tempering(
            &Predictions { ranked, targets, weights: &weights, folds },
            Tempering::NONE,
        )
    }

    fn calibration_error(rows: &(RankedRows, Targets, Vec<u8>), tempering: Tempering) -> f64 {
        let weights = vec![1.0; rows.0.len()];
        let predictions =
            Predictions { ranked: &rows.0, targets: &rows.1, weights: &weights, folds: &rows.2 };
        let mut bins = [(0f64, 0f64); 15];
        let rows = Row::of(&predictions);
        for row in &rows {
            let first = row.temper(tempering).first;
            let bin = &mut bins[((first * 15.0) as usize).min(14)];
            bin.0 += first;
            bin.1 += row.worth;
        }
        bins.iter().map(|(said, hits)| (said - hits).abs()).sum::<f64>() / rows.len() as f64
    }

    #[test]
    fn probabilities_that_are_right_stay() {
        let rows = made_up(6000, |first| first);
        assert_eq!(chosen(&rows), Tempering::NONE);
        assert_eq!(chosen(&made_up(0, |first| first)), Tempering::NONE);
    }

    #[test]
    fn unsure_and_sure_rows_are_mended_apart() {
        // Unsure rows are right more often than they say, sure ones less often.
        let rows = made_up(6000, |first| 0.2 + 0.6 * first);
        let tempering = chosen(&rows);
        assert!(tempering.confidence_power < -0.1, "{tempering:?}");
        let (before, after) =
            (calibration_error(&rows, Tempering::NONE), calibration_error(&rows, tempering));
        println!("{tempering:?}: calibration error {before:.4} before, {after:.4} after");
        assert!(before > 0.08 && after < 0.04);
    }

    #[test]
    fn the_slopes_are_those_of_the_loss() {
        let rows = made_up(300, |first| 0.3 + 0.5 * first);
        let weights: Vec<f32> = (0..300).map(|row| 0.5 + (row % 3) as f32).collect();
        let predictions =
            Predictions { ranked: &rows.0, targets: &rows.1, weights: &weights, folds: &rows.2 };
        let rows = Row::of(&predictions);
        let rows: Vec<&Row<'_>> = rows.iter().collect();
        let at = [0.2, -0.3];
        let found = sums(&rows, at);
        for number in 0..2 {
            let loss = |change: f64| {
                let mut at = at;
                at[number] += change;
                sums(&rows, at).loss
            };
            let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!((slope - found.slope[number]).abs() < 1e-3 * slope.abs().max(1.0), "{slope}");
        }
    }
}
