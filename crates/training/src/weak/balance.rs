//! Bringing the shares of classes to what is expected of them.

use corral_classifier::DenseRows;
use rayon::prelude::*;

/// Rows summed together, in order; the sums of the chunks are then added in theirs, so that the
/// result does not depend on the number of threads.
const ROWS_PER_SUM: usize = 1024;
/// Rounds of scaling. The weights have settled to a hundredth long before.
const ROUNDS: usize = 50;
/// A class that gets less than this share of the rows counts as having it.
const LEAST_SHARE: f64 = 1e-9;

/// Turns scores (logarithms, up to a constant a row) into distributions whose mean over the
/// `present` rows is drawn towards `prior`: Sinkhorn scaling for entropic optimal transport with
/// a relaxed column constraint (Cuturi, NIPS 2013; Chizat et al., Math. Comp. 2018).
///
/// `strength` is the exponent of the column step: 0 leaves softmax of the scores, 1 meets the
/// prior exactly. A class that is near to everything (a hub) is scaled down and one that is
/// near to nothing up.
///
/// # Panics
/// When `prior` is not one value a column, or `present` not one a row.
pub fn balance(scores: &mut DenseRows, prior: &[f32], strength: f64, present: &[bool]) {
    let classes = scores.width();
    assert_eq!((prior.len(), present.len()), (classes, scores.rows()));
    scores.values_mut().par_chunks_exact_mut(classes).for_each(|row| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|score| *score = (*score - largest).exp());
    });
    let count = present.iter().filter(|present| **present).count().max(1) as f64;
    let mut scales = vec![1f64; classes];
    for _ in 0..ROUNDS {
        // What each class would get if its scale were one.
        let sums: Vec<Vec<f64>> = scores
            .values()
            .par_chunks(ROWS_PER_SUM * classes)
            .zip(present.par_chunks(ROWS_PER_SUM))
            .map(|(rows, present)| {
                let mut sums = vec![0f64; classes];
                let rows = rows.chunks_exact(classes).zip(present);
                for (row, _) in rows.filter(|(_, present)| **present) {
                    let total = scaled_total(row, &scales);
                    sums.iter_mut().zip(row).for_each(|(sum, p)| *sum += f64::from(*p) / total);
                }
                sums
            })
            .collect();
        for (class, scale) in scales.iter_mut().enumerate() {
            let raw = sums.iter().map(|sums| sums[class]).sum::<f64>() / count;
            *scale =
                (f64::from(prior[class]).max(LEAST_SHARE) / raw.max(LEAST_SHARE)).powf(strength);
        }
    }
    scores.values_mut().par_chunks_exact_mut(classes).for_each(|row| {
        let total = scaled_total(row, &scales);
        row.iter_mut()
            .zip(&scales)
            .for_each(|(p, scale)| *p = (f64::from(*p) * scale / total) as f32);
    });
}

fn scaled_total(row: &[f32], scales: &[f64]) -> f64 {
    row.iter().zip(scales).map(|(p, scale)| f64::from(*p) * scale).sum()
}

/// The logarithms of distributions, as [`balance`] takes them.
pub fn logarithms(distributions: &mut DenseRows) {
    /// Keeps a class that spreading left without any share from being ruled out for good.
    const LEAST: f32 = 1e-6;
    distributions.values_mut().par_iter_mut().for_each(|p| *p = (*p + LEAST).ln());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn random_scores(rows: usize, classes: usize, seed: u64) -> DenseRows {
        let mut random = Random::new(seed, 2);
        let values = (0..rows * classes)
            .map(|at| random.below(1000) as f32 / 200.0 + 2.0 * (at % classes) as f32);
        DenseRows::from_values(values.collect(), classes)
    }

    fn means(rows: &DenseRows) -> Vec<f64> {
        let mut means = vec![0f64; rows.width()];
        for row in rows.iter() {
            means.iter_mut().zip(row).for_each(|(mean, p)| *mean += f64::from(*p));
        }
        means.iter().map(|mean| mean / rows.rows() as f64).collect()
    }

    #[test]
    fn full_strength_meets_the_prior_and_none_is_softmax() {
        for seed in 0..5 {
            let prior = [0.5, 0.3, 0.2];
            let mut scores = random_scores(3000, 3, seed);
            let unscaled = scores.clone();
            balance(&mut scores, &prior, 1.0, &vec![true; 3000]);
            for (mean, prior) in means(&scores).iter().zip(prior) {
                assert!((mean - f64::from(prior)).abs() < 1e-3, "{mean} for {prior}, seed {seed}");
            }
            let mut scores = unscaled.clone();
            balance(&mut scores, &prior, 0.0, &vec![true; 3000]);
            for (row, scores) in scores.iter().zip(unscaled.iter()) {
                let total: f32 = scores.iter().map(|score| score.exp()).sum();
                for (p, score) in row.iter().zip(scores) {
                    assert!((p - score.exp() / total).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn more_strength_comes_closer_to_the_prior() {
        let prior = [0.25; 4];
        let distance = |strength| {
            let mut scores = random_scores(500, 4, 7);
            balance(&mut scores, &prior, strength, &[true; 500]);
            means(&scores).iter().map(|mean| (mean - 0.25).abs()).sum::<f64>()
        };
        let distances: Vec<f64> = [0.0, 0.3, 0.6, 0.9, 1.0].map(distance).to_vec();
        assert!(distances.is_sorted_by(|a, b| a > b), "{distances:?}");
    }

    #[test]
    fn absent_rows_have_no_say() {
        let mut with = random_scores(60, 3, 1);
        let mut without = with.select(&(0..40).collect::<Vec<_>>());
        let present: Vec<bool> = (0..60).map(|row| row < 40).collect();
        let prior = [0.2, 0.3, 0.5];
        balance(&mut with, &prior, 0.8, &present);
        balance(&mut without, &prior, 0.8, &[true; 40]);
        assert_eq!(with.values()[..120], *without.values());
    }
}
