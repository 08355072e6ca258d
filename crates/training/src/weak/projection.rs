//! Lexical rows in few columns, where there is no encoder to judge likeness by.

use corral_classifier::{DenseRows, SparseRows};
use rayon::prelude::*;

use crate::random::Random;

/// Columns of a projection: cosines are kept to about 1/√512, a twentieth.
pub const WIDTH: usize = 512;
/// Places that a column is spread over.
const PLACES: usize = 4;
/// Names projections among random streams.
const STREAM: u64 = 0x7072_6f6a_6563_7400;

/// Projects rows at random, each column to a few signed places, which keeps cosines about as
/// they are (Kane, Nelson, "Sparser Johnson–Lindenstrauss transforms", JACM 2014).
pub fn project(rows: &SparseRows) -> DenseRows {
    let places: Vec<[(u16, f32); PLACES]> = (0..rows.columns())
        .map(|column| {
            let mut random = Random::new(STREAM, column as u64);
            std::array::from_fn(|_| {
                let drawn = random.below(2 * WIDTH);
                ((drawn / 2) as u16, if drawn.is_multiple_of(2) { 1.0 } else { -1.0 })
            })
        })
        .collect();
    let mut projected = DenseRows::zeros(rows.rows(), WIDTH);
    projected.values_mut().par_chunks_exact_mut(WIDTH).enumerate().for_each(|(row, out)| {
        let row = rows.row(row);
        for (&column, &value) in row.indices.iter().zip(row.values) {
            for (place, sign) in places[column as usize] {
                out[usize::from(place)] += sign * value;
            }
        }
    });
    projected.normalise();
    projected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::lexical_block;
    use crate::lexicons::LexiconSettings;

    #[test]
    fn likeness_survives_projection() {
        let texts: Vec<String> = (0..40)
            .map(|row| {
                let topic = if row % 2 == 0 { "card payment declined" } else { "weather in town" };
                format!("{topic} {topic} w{} x{}", row % 7, row % 5)
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let block = lexical_block(&texts, &LexiconSettings::WORDS_AND_CHARACTERS).unwrap();
        let rows = project(&block.rows);
        let cosine = |a: usize, b: usize| -> f32 {
            rows.row(a).iter().zip(rows.row(b)).map(|(a, b)| a * b).sum()
        };
        for row in 2..40 {
            let (same, other) = (cosine(row, row % 2), cosine(row, 1 - row % 2));
            assert!(same > other + 0.2, "row {row}: {same} and {other}");
        }
    }
}
