//! Log-count ratios: how much more often a class's rows have an n-gram than the others.
//!
//! Wang, Manning, ACL 2012: a linear machine on features that are multiplied by their ratio
//! takes from naive Bayes which features matter, and from the machine how they interact.
//! `r = log((p / ‖p‖₁) / (q / ‖q‖₁))` with `p` and `q` the smoothed numbers of rows of the
//! class, and of other classes, that have the feature.

use super::Problem;
use super::lanes::{LANES, Lanes};
use super::svm::BlockScaling;

/// How ratios are made and used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioSettings {
    /// Added to each count.
    pub smoothing: f32,
    /// The part of the machine's own weights in the result; the rest is their mean size, the
    /// same for all features, which alone would be naive Bayes.
    pub interpolation: f32,
}

/// The weight of the rows that have each sparse column.
pub fn count_rows(problem: &Problem<'_>) -> Vec<f32> {
    let mut totals = vec![0f32; problem.features.sparse_columns()];
    for &row in problem.rows {
        let weight = problem.row_weights[row as usize];
        for &column in problem.features.sparse_row(row as usize).0 {
            totals[column as usize] += weight;
        }
    }
    totals
}

/// The ratios of a block's classes, one [`Lanes`] a sparse column. `positive` says of each of
/// the problem's rows which classes it is an example of; `totals` are from [`count_rows`].
pub fn log_ratios(
    problem: &Problem<'_>,
    positive: &[u16],
    totals: &[f32],
    smoothing: f32,
) -> Vec<Lanes> {
    let mut ratios = vec![Lanes::ZERO; totals.len()];
    for (&row, &classes) in problem.rows.iter().zip(positive) {
        if classes == 0 {
            continue;
        }
        let weight = problem.row_weights[row as usize];
        let own = std::array::from_fn(|lane| weight * f32::from(classes >> lane & 1));
        for &column in problem.features.sparse_row(row as usize).0 {
            ratios[column as usize] = ratios[column as usize].plus(Lanes(own));
        }
    }
    let (mut own_sums, mut other_sums) = ([0f64; LANES], [0f64; LANES]);
    for (counts, &total) in ratios.iter().zip(totals) {
        for lane in 0..LANES {
            own_sums[lane] += f64::from(smoothing + counts.0[lane]);
            other_sums[lane] += f64::from(smoothing + (total - counts.0[lane]).max(0.0));
        }
    }
    let shifts: [f32; LANES] =
        std::array::from_fn(|lane| (other_sums[lane] / own_sums[lane]).ln() as f32);
    let unseen_own = smoothing.ln();
    for (counts, &total) in ratios.iter_mut().zip(totals) {
        let unseen = unseen_own - (smoothing + total).ln();
        for (count, shift) in counts.0.iter_mut().zip(shifts) {
            let ratio = if *count == 0.0 {
                unseen
            } else {
                ((smoothing + *count) / (smoothing + (total - *count).max(0.0))).ln()
            };
            *count = ratio + shift;
        }
    }
    ratios
}

/// The multipliers that ratios are.
pub fn scaling(problem: &Problem<'_>, ratios: &[Lanes]) -> BlockScaling {
    let squares: Vec<Lanes> = ratios.iter().map(|lanes| lanes.map(|ratio| ratio * ratio)).collect();
    let norm = |&row: &u32| problem.features.scaled_squared_norm(row as usize, &squares);
    let squared_norms = problem.rows.iter().map(norm).collect();
    BlockScaling { squares, squared_norms }
}

/// The mean size of a machine's weights of multiplied features, for each class.
pub fn mean_size(weights: &[Lanes], ratios: &[Lanes]) -> Lanes {
    let mut sums = [0f64; LANES];
    for (weights, ratios) in weights.iter().zip(ratios) {
        let size = weights.map2(
            *ratios,
            |weight, ratio| {
                if ratio == 0.0 { 0.0 } else { (weight / ratio).abs() }
            },
        );
        sums.iter_mut().zip(size.0).for_each(|(sum, size)| *sum += f64::from(size));
    }
    Lanes(sums.map(|sum| (sum / ratios.len().max(1) as f64) as f32))
}

/// The memory that ratios and scaling of all classes take, in bytes.
pub fn memory_bytes(columns: usize, rows: usize, blocks: usize) -> usize {
    (2 * columns + rows) * blocks * size_of::<Lanes>()
}
