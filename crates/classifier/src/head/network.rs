//! Networks of two layers: a linear head over hidden units, which are linear in the features
//! or rectified.

use serde::{Deserialize, Serialize};

use super::{FeatureRow, HeadError, HeadScratch, LinearHead};

/// What becomes of a hidden unit's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// It stays: an embedding for each feature, added up, as in fastText (Joulin, Grave,
    /// Bojanowski, Mikolov, EACL 2017).
    Identity,
    /// Nothing below zero passes.
    Rectified,
}

/// Features to hidden units to outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkHead<'a> {
    pub(crate) hidden: LinearHead<'a>,
    pub(crate) activation: Activation,
    pub(crate) output: LinearHead<'a>,
}

impl Activation {
    /// The hidden units for their sums, in place.
    pub(crate) fn apply(self, sums: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Rectified => sums.iter_mut().for_each(|sum| *sum = sum.max(0.0)),
        }
    }
}

impl<'a> NetworkHead<'a> {
    /// A network whose `output` layer reads what `hidden` gives.
    pub fn new(
        hidden: LinearHead<'a>,
        activation: Activation,
        output: LinearHead<'a>,
    ) -> Result<Self, HeadError> {
        if hidden.outputs() != output.columns() {
            return Err(HeadError::Length { given: output.columns(), wanted: hidden.outputs() });
        }
        Ok(Self { hidden, activation, output })
    }

    pub const fn columns(&self) -> usize {
        self.hidden.columns()
    }

    pub fn outputs(&self) -> usize {
        self.output.outputs()
    }

    /// The hidden units.
    pub fn width(&self) -> usize {
        self.hidden.outputs()
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        self.hidden.memory_bytes() + self.output.memory_bytes()
    }

    /// Writes the scores of a row to `scores`, one an output.
    pub(super) fn score(
        &self,
        row: FeatureRow<'_>,
        scratch: &mut HeadScratch,
        scores: &mut Vec<f32>,
    ) {
        self.hidden.score(row, &mut scratch.hidden);
        self.activation.apply(&mut scratch.hidden);
        self.output.score(FeatureRow::dense(&scratch.hidden), scores);
    }
}
