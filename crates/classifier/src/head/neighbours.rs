//! k nearest neighbours: the classes of the texts whose embeddings are most alike.

use std::borrow::Cow;

use super::stored::{Query, StoredRows};
use super::{HeadError, HeadScratch, MAX_OUTPUTS};
use crate::calibration::exp;

/// Neighbours that vote, at most.
pub const MAX_NEIGHBOURS: usize = 1024;
/// What classes without a vote share, in parts of all votes, so that every class has a
/// logarithm.
const UNSEEN_SHARE: f32 = 0.03;

/// Embeddings of labelled texts. The `neighbours` nearest ones vote for their classes, each
/// with `exp(sharpness · similarity)` times its share in the class; scores are the logarithms
/// of the classes' parts of the votes, so that a temperature calibrates them.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighboursHead<'a> {
    pub(crate) outputs: usize,
    pub(crate) neighbours: usize,
    pub(crate) sharpness: f32,
    pub(crate) rows: StoredRows<'a>,
    /// The classes of a row lie from `starts[row]` to `starts[row + 1]`.
    pub(crate) starts: Cow<'a, [u32]>,
    pub(crate) classes: Cow<'a, [u16]>,
    pub(crate) shares: Cow<'a, [f32]>,
}

impl NeighboursHead<'static> {
    /// A head without rows yet. Numbers of neighbours are cut at [`MAX_NEIGHBOURS`].
    pub fn new(
        outputs: usize,
        width: usize,
        neighbours: usize,
        sharpness: f32,
    ) -> Result<Self, HeadError> {
        if outputs == 0 || outputs > MAX_OUTPUTS {
            return Err(HeadError::Outputs(outputs));
        }
        if !sharpness.is_finite() {
            return Err(HeadError::NotFinite { column: 0 });
        }
        Ok(Self {
            outputs,
            neighbours: neighbours.clamp(1, MAX_NEIGHBOURS),
            sharpness,
            rows: StoredRows::new(width)?,
            starts: Cow::Owned(vec![0]),
            classes: Cow::default(),
            shares: Cow::default(),
        })
    }

    /// Appends a row with its classes and its shares in them.
    pub fn push(&mut self, row: &[f32], classes: &[u32], shares: &[f32]) -> Result<(), HeadError> {
        if classes.len() != shares.len() {
            return Err(HeadError::Length { given: shares.len(), wanted: classes.len() });
        }
        let column = self.rows.rows();
        if let Some(&output) = classes.iter().find(|class| **class as usize >= self.outputs) {
            return Err(HeadError::OutputOrder { column, output, outputs: self.outputs });
        }
        if !shares.iter().all(|share| share.is_finite()) {
            return Err(HeadError::NotFinite { column });
        }
        let end = self.classes.len() + classes.len();
        let end = u32::try_from(end).map_err(|_| HeadError::TooManyEntries { column })?;
        self.rows.push(row)?;
        self.classes.to_mut().extend(classes.iter().map(|&class| class as u16));
        self.shares.to_mut().extend_from_slice(shares);
        self.starts.to_mut().push(end);
        Ok(())
    }
}

impl NeighboursHead<'_> {
    pub const fn columns(&self) -> usize {
        self.rows.width()
    }

    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// The labelled texts.
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes()
            + size_of_val(&*self.starts)
            + size_of_val(&*self.classes)
            + size_of_val(&*self.shares)
    }

    /// Writes the scores of an embedding to `scores`, one an output.
    pub(super) fn score(
        &self,
        embedding: &[f32],
        scratch: &mut HeadScratch,
        scores: &mut Vec<f32>,
    ) {
        let HeadScratch { queries, similarities, nearest, .. } = scratch;
        queries.resize_with(1, Query::default);
        queries[0].set(embedding);
        similarities.clear();
        similarities.resize(self.rows.rows(), 0.0);
        self.rows.similarities(queries, similarities);
        scores.clear();
        scores.resize(self.outputs, 0.0);
        self.vote(similarities, nearest, scores);
    }

    /// Writes the scores of many embeddings, row after row, each as [`Self::score`] has them.
    pub(super) fn score_several<'r>(
        &self,
        embeddings: impl Iterator<Item = &'r [f32]>,
        scratch: &mut HeadScratch,
        scores: &mut [f32],
    ) {
        let HeadScratch { queries, similarities, nearest, .. } = scratch;
        let count = scores.len() / self.outputs;
        queries.resize_with(count, Query::default);
        queries.iter_mut().zip(embeddings).for_each(|(query, row)| query.set(row));
        let rows = self.rows.rows();
        similarities.clear();
        similarities.resize(count * rows, 0.0);
        self.rows.similarities(queries, similarities);
        scores.fill(0.0);
        for (index, scores) in scores.chunks_exact_mut(self.outputs).enumerate() {
            self.vote(&similarities[index * rows..][..rows], nearest, scores);
        }
    }

    /// Turns the similarities with all rows into scores, which are zeros.
    fn vote(&self, similarities: &[f32], nearest: &mut Vec<(f32, u32)>, scores: &mut [f32]) {
        select_nearest(similarities, self.neighbours, nearest);
        let closest = nearest.first().map_or(0.0, |(similarity, _)| *similarity);
        let mut all = 0.0;
        for &(similarity, row) in nearest.iter() {
            let weight = exp(self.sharpness * (similarity - closest));
            all += weight;
            let row = row as usize;
            let Some(&[start, end]) =
                self.starts.get(row..row + 2).and_then(|pair| pair.as_array())
            else {
                continue;
            };
            let entries = start as usize..end as usize;
            let (Some(classes), Some(shares)) =
                (self.classes.get(entries.clone()), self.shares.get(entries))
            else {
                continue;
            };
            for (&class, share) in classes.iter().zip(shares) {
                if let Some(score) = scores.get_mut(usize::from(class)) {
                    *score += weight * share;
                }
            }
        }
        let part = if all > 0.0 { all.recip() } else { 0.0 };
        let unseen = UNSEEN_SHARE / self.outputs as f32;
        scores.iter_mut().for_each(|score| *score = (*score * part + unseen).ln());
    }
}

/// Writes the `count` largest similarities with their rows to `nearest`, falling, the first
/// rows among equals.
fn select_nearest(similarities: &[f32], count: usize, nearest: &mut Vec<(f32, u32)>) {
    nearest.clear();
    let mut least = f32::NEG_INFINITY;
    for (row, &similarity) in (0u32..).zip(similarities) {
        let is_full = nearest.len() == count;
        if is_full && similarity <= least || similarity.is_nan() {
            continue;
        }
        if is_full {
            nearest.pop();
        }
        let place = nearest.partition_point(|(other, _)| *other >= similarity);
        nearest.insert(place, (similarity, row));
        if let Some((last, _)) = nearest.last() {
            least = *last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_selected_in_order() {
        let mut nearest = vec![(9.0, 9)];
        let similarities = [0.5, f32::NAN, 0.7, 0.5, -0.2, 0.7, 0.1];
        select_nearest(&similarities, 4, &mut nearest);
        assert_eq!(nearest, [(0.7, 2), (0.7, 5), (0.5, 0), (0.5, 3)]);
        select_nearest(&similarities, 100, &mut nearest);
        assert_eq!(nearest.len(), 6);
        assert_eq!(nearest[5], (-0.2, 4));
        select_nearest(&[], 3, &mut nearest);
        assert!(nearest.is_empty());
    }

    #[test]
    fn votes_are_weighted_by_similarity_and_share() {
        let mut head = NeighboursHead::new(3, 2, 2, 4.0).unwrap();
        head.push(&[1.0, 0.0], &[0], &[1.0]).unwrap();
        head.push(&[3.0, 4.0], &[1, 2], &[0.5, 0.25]).unwrap();
        head.push(&[0.0, 1.0], &[2], &[1.0]).unwrap();
        let (mut scratch, mut scores) = (HeadScratch::default(), Vec::new());
        head.score(&[2.0, 0.0], &mut scratch, &mut scores);
        let further = (4.0f32 * (0.6 - 1.0)).exp();
        let unseen = UNSEEN_SHARE / 3.0;
        let parts = [1.0, 0.5 * further, 0.25 * further].map(|vote| vote / (1.0 + further));
        for (score, part) in scores.iter().zip(parts) {
            assert!((score.exp() - part - unseen).abs() < 2e-3, "{score} for {part}");
        }
        head.score(&[0.0, 0.0], &mut scratch, &mut scores);
        assert!(scores.iter().all(|score| score.is_finite()));
        let empty = NeighboursHead::new(3, 2, 2, 4.0).unwrap();
        empty.score(&[1.0, 0.0], &mut scratch, &mut scores);
        assert_eq!(scores, [unseen.ln(); 3]);
        assert!(head.push(&[1.0, 0.0], &[3], &[1.0]).is_err());
        assert_eq!(head.rows(), 3);
    }
}
