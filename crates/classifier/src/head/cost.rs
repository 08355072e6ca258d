//! How long a head takes for one text, estimated from its shape.

use super::{Head, LinearHead, Weights};
use crate::kernels::stride;

/// The features that a usual text has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowShape {
    pub lexical_entries: usize,
    /// The length of the embedding; zero for heads that read none.
    pub embedding_width: usize,
}

/// Nanoseconds on one core of a server of 2023, weights in the cache: to add a weight to a
/// score, an entry of pruned weights likewise, to compare a number of two embeddings, to weigh
/// a stored row as a neighbour, to take its kernel, and to take
/// an output's part among others.
const WEIGHT_NANOS: f64 = 0.08;
const SPARSE_WEIGHT_NANOS: f64 = 0.75;
const COMPARISON_NANOS: f64 = 0.033;
const NEIGHBOUR_NANOS: f64 = 1.0;
const KERNEL_NANOS: f64 = 1.0;
const PART_NANOS: f64 = 2.0;

impl Head<'_> {
    /// The nanoseconds that scoring takes for a row of such a shape, within a factor of two;
    /// for choosing among heads, where a measured time would differ from run to run.
    pub fn score_nanos(&self, row: RowShape) -> f64 {
        let RowShape { lexical_entries, embedding_width } = row;
        match self {
            Self::Linear(head) => linear_nanos(head, lexical_entries, embedding_width),
            Self::Network(head) => {
                linear_nanos(&head.hidden, lexical_entries, embedding_width)
                    + linear_nanos(&head.output, 0, head.width())
            }
            Self::Neighbours(head) => {
                let each = head.columns() as f64 * COMPARISON_NANOS + NEIGHBOUR_NANOS;
                head.rows() as f64 * each
            }
            Self::Kernel(head) => {
                let each = head.rows.width() as f64 * COMPARISON_NANOS + KERNEL_NANOS;
                head.rows() as f64 * each
                    + linear_nanos(&head.weights, lexical_entries, head.rows())
            }
            Self::Local(head) => {
                let linear = |head| linear_nanos(head, lexical_entries, embedding_width);
                let parts = (head.outputs() + head.parents()) as f64 * PART_NANOS;
                linear(&head.parents) + linear(&head.children) + parts
            }
        }
    }
}

/// Of a row with some of the lexical columns and all `dense` ones.
fn linear_nanos(head: &LinearHead<'_>, lexical_entries: usize, dense: usize) -> f64 {
    let lexical = head.columns().saturating_sub(dense).min(lexical_entries);
    let columns = (lexical + dense) as f64;
    match &head.weights {
        Weights::F32(_) | Weights::Int8 { .. } => {
            columns * stride(head.outputs()) as f64 * WEIGHT_NANOS
        }
        Weights::SparseInt8 { starts, weights, .. } => {
            // Columns of an embedding stand last and keep more of their weights than others.
            let first_dense = head.columns().saturating_sub(dense);
            let of_dense = starts
                .get(first_dense)
                .map_or(weights.len(), |&start| weights.len().saturating_sub(start as usize))
                as f64;
            let rest = weights.len() as f64 - of_dense;
            let each = rest / (first_dense.max(1) as f64);
            (of_dense + lexical as f64 * each) * SPARSE_WEIGHT_NANOS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{NeighboursHead, Precision};

    #[test]
    fn larger_heads_take_longer() {
        let row = RowShape { lexical_entries: 100, embedding_width: 0 };
        let linear = |columns: usize, outputs: usize, precision| {
            let weights: Vec<f32> = (0..columns * outputs).map(|n| (n % 5) as f32).collect();
            let head = LinearHead::from_column_major(&weights, vec![0.0; outputs], precision);
            Head::from(head.unwrap()).score_nanos(row)
        };
        assert!(linear(1000, 8, Precision::Int8) < linear(1000, 80, Precision::Int8));
        // More columns than a text has features cost nothing.
        assert_eq!(linear(200, 8, Precision::F32), linear(300, 8, Precision::F32));
        assert!(linear(200, 80, Precision::SparseInt8 { smallest: 0.5 }) > 0.0);
        let neighbours = |rows: usize| {
            let mut head = NeighboursHead::new(3, 16, 5, 1.0).unwrap();
            (0..rows).for_each(|_| head.push(&[1.0; 16], &[0], &[1.0]).unwrap());
            Head::from(head).score_nanos(row)
        };
        assert_eq!(2.0 * neighbours(10), neighbours(20));
    }
}
