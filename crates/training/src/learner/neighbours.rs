//! Nearest neighbours over embeddings: fitting is keeping the rows.

use corral_classifier::{HeadError, NeighboursHead};

use super::{Fitted, HeadBudget, Problem};
use crate::clock::ThreadCpuClock;
use crate::random::Random;

/// How neighbours vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeighboursSettings {
    /// Neighbours that vote.
    pub neighbours: usize,
    /// Votes are weighted by `exp(sharpness · cosine)`.
    pub sharpness: f32,
}

/// Keeps the rows' embeddings and classes, as many as the budget has room for, drawn by the
/// seed; `Ok(None)` when stopped.
pub fn fit(
    problem: &Problem<'_>,
    settings: &NeighboursSettings,
    budget: HeadBudget,
) -> Result<Option<Fitted>, HeadError> {
    if (problem.stop)() {
        return Ok(None);
    }
    let clock = ThreadCpuClock::start();
    let width = problem.features.dense_columns();
    let mut head =
        NeighboursHead::new(problem.class_count, width, settings.neighbours, settings.sharpness)?;
    let most = budget.bytes / row_bytes(width);
    let rows = drawn(problem.rows, most, problem.seed);
    let mut shares = Vec::new();
    for &row in &rows {
        let row = row as usize;
        let (classes, row_shares) = problem.targets.row(row);
        shares.clear();
        shares.extend(classes.iter().zip(row_shares).map(|(&class, share)| {
            share * problem.row_weights[row] * problem.class_weights[class as usize]
        }));
        head.push(problem.features.dense_row(row), classes, &shares)?;
    }
    Ok(Some(Fitted { head: head.into(), cpu: clock.elapsed(), passes: 1 }))
}

/// The memory that a fit holds beside the features, in bytes: the head.
pub const fn memory_bytes(width: usize, rows: usize) -> usize {
    rows * row_bytes(width)
}

/// The bytes of a head for each row, with one class a row.
const fn row_bytes(width: usize) -> usize {
    width.next_multiple_of(32) + 14
}

/// At most so many of the rows, in their order.
pub(super) fn drawn(rows: &[u32], most: usize, seed: u64) -> Vec<u32> {
    let mut drawn = rows.to_vec();
    if drawn.len() > most {
        Random::new(seed, 0x6472_6177_6e20_726f).shuffle(&mut drawn);
        drawn.truncate(most);
        drawn.sort_unstable();
    }
    drawn
}
