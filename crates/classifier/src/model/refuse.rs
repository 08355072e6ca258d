//! Refusals in a model file.

use std::ops::Range;

use super::error::{Damage, ModelError, PartsError};
use super::format::{FileBuilder, Sections};
use super::open::{entries, unsound};
use super::settings::{RefusalScoreSettings, RefusalSettings, Settings};
use super::spec::ModelSpec;
use super::verify::finite;
use crate::calibration::Link;
use crate::refusal::{Detector, Refusal, RefusalScore, SHARED_SIGNALS};

const WEIGHTS: &str = "refusal.weights";

/// Where the arrays of a refusal lie in a file.
#[derive(Debug)]
pub(super) struct RefusalPlaces {
    settings: RefusalSettings,
    /// Of a detector.
    weights: Range<usize>,
}

impl RefusalPlaces {
    pub const fn has_detector(&self) -> bool {
        matches!(self.settings.score, RefusalScoreSettings::Detector { .. })
    }

    /// The refusal over the arrays of the file.
    pub fn view<'a>(&self, bytes: &'a [u8]) -> Refusal<'a> {
        let score = match self.settings.score {
            RefusalScoreSettings::Doubt => RefusalScore::Doubt,
            RefusalScoreSettings::Entropy => RefusalScore::Entropy,
            RefusalScoreSettings::Detector { bias } => RefusalScore::Detector(Detector {
                weights: entries(bytes, &self.weights).into(),
                bias,
            }),
        };
        Refusal { score, threshold: self.settings.threshold }
    }
}

/// Finds the arrays of a refusal among the sections of a file.
pub(super) fn place_refusal(
    settings: &Settings,
    sections: &mut Sections,
) -> Result<Option<RefusalPlaces>, ModelError> {
    let Some(refusal) = settings.refusal else { return Ok(None) };
    if settings.link != Link::Softmax {
        return Err(unsound("a refusal of texts that may have several classes"));
    }
    let mut places = RefusalPlaces { settings: refusal, weights: 0..0 };
    if let RefusalScoreSettings::Detector { .. } = refusal.score {
        places.weights = sections.take::<f32>(WEIGHTS, SHARED_SIGNALS + settings.members.len())?;
    }
    Ok(Some(places))
}

/// What the header says of a refusal.
pub(super) const fn refusal_settings(refusal: &Refusal<'_>) -> RefusalSettings {
    let score = match &refusal.score {
        RefusalScore::Doubt => RefusalScoreSettings::Doubt,
        RefusalScore::Entropy => RefusalScoreSettings::Entropy,
        RefusalScore::Detector(detector) => RefusalScoreSettings::Detector { bias: detector.bias },
    };
    RefusalSettings { threshold: refusal.threshold, score }
}

/// Writes the arrays of a refusal.
pub(super) fn add_refusal(file: &mut FileBuilder, refusal: &Refusal<'_>) {
    if let RefusalScore::Detector(detector) = &refusal.score {
        file.add(WEIGHTS, &detector.weights);
    }
}

/// Refuses to write what could not be read.
pub(super) fn check_refusal(spec: &ModelSpec, refusal: &Refusal<'_>) -> Result<(), PartsError> {
    let wrong = |what| Err(PartsError::Refusal { what });
    if spec.link != Link::Softmax {
        return wrong("is of texts that may have several classes");
    }
    if !refusal.threshold.is_finite() {
        return wrong("has a threshold that is not finite");
    }
    let RefusalScore::Detector(detector) = &refusal.score else { return Ok(()) };
    if detector.weights.len() != SHARED_SIGNALS + spec.members.len() {
        return wrong("has a detector of other signals");
    }
    if !detector.bias.is_finite() {
        return wrong("has a bias that is not finite");
    }
    Ok(())
}

/// Checks that the numbers of a refusal are numbers.
pub(super) fn check_refusal_entries(refusal: &Refusal<'_>) -> Result<(), Damage> {
    let RefusalScore::Detector(detector) = &refusal.score else { return Ok(()) };
    finite(&detector.weights, || WEIGHTS.to_owned())
}
