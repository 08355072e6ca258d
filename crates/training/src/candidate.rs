//! What a search tries: features and a learner over them.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::features::FeaturizerSettings;
use crate::learner::LearnerSettings;
use crate::rows::LabelKind;
use crate::task_shape::EmbeddingWidths;

/// A featurizer and a learner with their settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub featurizer: FeaturizerSettings,
    pub learner: LearnerSettings,
}

impl Candidate {
    /// A name for people, such as `words 1-2 chars 3-5 & pooled×2 + linear_svm C=0.3`.
    pub fn name(&self) -> String {
        format!("{} + {}", self.featurizer, self.learner)
    }

    /// What it has in common with candidates that differ in numbers alone.
    pub fn family(&self) -> String {
        let lexical = if self.featurizer.reads_lexicon() { "lexical" } else { "" };
        let view = self.featurizer.view().map_or_else(String::new, |view| view.to_string());
        format!("{lexical} {view} + {}", self.learner.name())
    }

    /// Whether it can be tried on a task; `number` is its place in a list, from 1.
    ///
    /// # Errors
    /// When it reads nothing or what is not there, a setting is out of its range, or the learner
    /// cannot do the task. The error names the place and what is wrong.
    pub fn check(
        &self,
        number: usize,
        kind: LabelKind,
        widths: &EmbeddingWidths,
    ) -> Result<(), TrainError> {
        let refuse = |why: String| Err(TrainError::Candidate { number, why });
        if !self.featurizer.reads_lexicon() && !self.featurizer.reads_encoder() {
            return refuse("it reads neither a lexicon nor an embedding".to_owned());
        }
        if let Some(view) = self.featurizer.view()
            && widths.of(view).is_none()
        {
            return refuse(format!(
                "it reads the {view} embedding and there is no encoder with it"
            ));
        }
        if let Some(used) = self.featurizer.embedding
            && !(used.scale.is_finite() && used.scale > 0.0)
        {
            return refuse(format!("the embedding's scale is {}, and must be above 0", used.scale));
        }
        if let Some(lexicon) = self.featurizer.lexicon {
            lexicon.config().check().map_err(TrainError::Lexicon)?;
        }
        if kind == LabelKind::MultiLabel && !self.learner.abilities().multi_label {
            return refuse(format!("{} cannot learn multi-label tasks", self.learner.name()));
        }
        self.learner.check(&self.featurizer).or_else(refuse)
    }
}
