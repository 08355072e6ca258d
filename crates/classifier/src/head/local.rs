//! Local heads: a choice among parents, and under each parent one among its children.

use std::borrow::Cow;

use super::{FeatureRow, HeadError, HeadScratch, LinearHead};
use crate::calibration::exp;

/// A classifier for each parent node (Silla, Freitas, Data Mining and Knowledge Discovery
/// 2011) in two tiers: the probability of an output is that of its parent among all parents,
/// times its own among the outputs of that parent. Scores are the logarithms of these
/// products times a sharpness, so that a temperature calibrates them.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalHead<'a> {
    /// One output a parent.
    pub(crate) parents: LinearHead<'a>,
    /// One output an output of the head; compared within a parent only.
    pub(crate) children: LinearHead<'a>,
    /// The parent of each output.
    pub(crate) parent_of: Cow<'a, [u16]>,
    pub(crate) sharpness: f32,
}

/// The outputs of one parent while a row is scored.
#[derive(Clone, Copy, Debug)]
pub struct Siblings {
    highest: f32,
    total: f32,
}

impl<'a> LocalHead<'a> {
    /// Joins two linear heads over the same columns; `parent_of` has an output of the first
    /// for each of the second. A `sharpness` of 1 is usual.
    pub fn new(
        parents: LinearHead<'a>,
        children: LinearHead<'a>,
        parent_of: Vec<u16>,
        sharpness: f32,
    ) -> Result<Self, HeadError> {
        let same = |given, wanted| {
            if given == wanted { Ok(()) } else { Err(HeadError::Length { given, wanted }) }
        };
        same(children.columns(), parents.columns())?;
        same(parent_of.len(), children.outputs())?;
        if !sharpness.is_finite() {
            return Err(HeadError::NotFinite { column: 0 });
        }
        let count = parents.outputs();
        match parent_of.iter().find(|parent| usize::from(**parent) >= count) {
            Some(&parent) => Err(HeadError::Parent { parent, parents: count }),
            None => Ok(Self { parents, children, parent_of: parent_of.into(), sharpness }),
        }
    }

    pub const fn columns(&self) -> usize {
        self.children.columns()
    }

    pub fn outputs(&self) -> usize {
        self.children.outputs()
    }

    /// The number of parents.
    pub fn parents(&self) -> usize {
        self.parents.outputs()
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        self.parents.memory_bytes() + self.children.memory_bytes() + size_of_val(&*self.parent_of)
    }

    /// Writes the scores of a row to `scores`, one an output.
    pub(super) fn score(
        &self,
        row: FeatureRow<'_>,
        scratch: &mut HeadScratch,
        scores: &mut Vec<f32>,
    ) {
        let HeadScratch { hidden, siblings, .. } = scratch;
        self.parents.score(row, hidden);
        self.children.score(row, scores);
        join_tiers(hidden, scores, &self.parent_of, siblings);
        scores.iter_mut().for_each(|score| *score *= self.sharpness);
    }
}

/// Turns the scores of outputs among their siblings, in place, into logarithms of
/// probabilities, given the scores of parents, which are overwritten.
pub fn join_tiers(
    parents: &mut [f32],
    outputs: &mut [f32],
    parent_of: &[u16],
    siblings: &mut Vec<Siblings>,
) {
    siblings.clear();
    siblings.resize(parents.len(), Siblings { highest: f32::NEG_INFINITY, total: 0.0 });
    // A damaged file may name parents that do not exist: their outputs keep their scores.
    let places = || parent_of.iter().map(|&parent| usize::from(parent));
    for (score, parent) in outputs.iter().zip(places()) {
        if let Some(siblings) = siblings.get_mut(parent) {
            siblings.highest = siblings.highest.max(*score);
        }
    }
    for (score, parent) in outputs.iter().zip(places()) {
        if let Some(siblings) = siblings.get_mut(parent) {
            siblings.total += exp(score - siblings.highest);
        }
    }
    let highest = parents.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = parents.iter().map(|score| exp(score - highest)).sum();
    let normaliser = highest + total.ln();
    for (parent, siblings) in parents.iter_mut().zip(siblings.iter()) {
        *parent -= normaliser + siblings.highest + siblings.total.ln();
    }
    for (score, parent) in outputs.iter_mut().zip(places()) {
        *score += parents.get(parent).copied().unwrap_or(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Head, Precision};

    fn linear(weights: &[f32], bias: &[f32]) -> LinearHead<'static> {
        LinearHead::from_column_major(weights, bias.to_vec(), Precision::F32).unwrap()
    }

    fn softmax(scores: &[f32]) -> Vec<f64> {
        let parts: Vec<f64> = scores.iter().map(|score| f64::from(*score).exp()).collect();
        let total: f64 = parts.iter().sum();
        parts.into_iter().map(|part| part / total).collect()
    }

    #[test]
    fn a_score_is_the_logarithm_of_two_choices() {
        // Two columns; five outputs under three parents, one of them with a single child.
        let parents = linear(&[1.0, -2.0, 0.5, 0.0, 3.0, -1.0], &[0.1, 0.2, 0.3]);
        let weights = [2.0, 1.0, -1.0, 80.0, 0.0, 0.5, 0.0, 1.5, -3.0, 4.0];
        let children = linear(&weights, &[0.0, 0.5, 0.0, -1.0, 0.25]);
        let parent_of = [1, 0, 1, 2, 0];
        let sharpness = 1.5;
        let head = LocalHead::new(parents.clone(), children.clone(), parent_of.to_vec(), sharpness);
        let head = Head::from(head.unwrap());
        assert_eq!((head.columns(), head.outputs()), (2, 5));
        let (mut scratch, mut scores) = (HeadScratch::default(), Vec::new());
        for row in [[1.0, 0.0], [0.0, 2.0], [-3.0, 0.5], [0.0, 0.0]] {
            let row = FeatureRow::dense(&row);
            head.score(row, &mut scratch, &mut scores);
            let (mut of_parents, mut of_children) = (Vec::new(), Vec::new());
            parents.score(row, &mut of_parents);
            children.score(row, &mut of_children);
            let of_parents = softmax(&of_parents);
            let mut total = 0.0;
            for (output, &score) in scores.iter().enumerate() {
                let siblings = (0..5).filter(|&other| parent_of[other] == parent_of[output]);
                let siblings: Vec<usize> = siblings.collect();
                let among: Vec<f32> = siblings.iter().map(|&other| of_children[other]).collect();
                let place = siblings.iter().position(|&other| other == output).unwrap();
                let wanted = of_parents[usize::from(parent_of[output])] * softmax(&among)[place];
                let log = f64::from(score / sharpness);
                assert!((log - wanted.ln()).abs() < 1e-5, "{log} for {wanted}");
                total += log.exp();
            }
            assert!((total - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn tiers_that_do_not_fit_are_refused() {
        let parents = || linear(&[1.0, 2.0], &[0.0, 0.0]);
        let children = || linear(&[1.0, 2.0, 3.0], &[0.0; 3]);
        let new = |children, parent_of: &[u16]| {
            LocalHead::new(parents(), children, parent_of.to_vec(), 1.0).unwrap_err()
        };
        assert_eq!(new(children(), &[0, 1]), HeadError::Length { given: 2, wanted: 3 });
        let unknown = HeadError::Parent { parent: 2, parents: 2 };
        assert_eq!(new(children(), &[0, 2, 1]), unknown);
        let wide = linear(&[1.0; 6], &[0.0; 3]);
        assert_eq!(new(wide, &[0, 1, 1]), HeadError::Length { given: 2, wanted: 1 });
        let endless = LocalHead::new(parents(), children(), vec![0, 1, 1], f32::INFINITY);
        assert_eq!(endless, Err(HeadError::NotFinite { column: 0 }));
    }
}
