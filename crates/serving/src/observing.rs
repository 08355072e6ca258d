//! What is noted of a request beside its answer, and what people are told of it.

use corral_observation::{Effort, Observation, Observer, Subject};
use corral_types::{Explain, WorkspaceId};

use crate::route::{Route, Serves};
use crate::{Answer, Question, Serving, ServingError};

/// The answers of a version, and what they took.
#[derive(Debug)]
pub(crate) struct Asked {
    pub answers: Vec<Answer>,
    pub effort: Effort,
}

/// A request that has reached a version, until it is known what becomes of it. Dropped before
/// that, its client has gone.
pub(crate) struct Observed {
    observation: Observation,
}

impl Serving {
    /// Begins to note what becomes of a request.
    pub(crate) fn observe(
        &self,
        workspace: WorkspaceId,
        route: &Route,
        number: u32,
        question: &Question,
    ) -> Observed {
        let texts = question.texts.len() as u64;
        let subject = || Subject {
            workspace,
            endpoint: route.endpoint,
            name: route.name.clone(),
            version: number,
            model_bytes: match route.version(number) {
                Serves::Model { bytes, .. } => *bytes,
                Serves::Fixed(_) => 0,
            },
        };
        Observed { observation: self.shared.observer.begin(route.endpoint, number, texts, subject) }
    }

    /// The counters of what endpoints are asked.
    pub fn observer(&self) -> &Observer {
        &self.shared.observer
    }
}

impl Observed {
    /// Notes what came of it, and hands that on.
    pub fn finish(self, asked: Result<Asked, ServingError>) -> Result<Vec<Answer>, ServingError> {
        match asked {
            Ok(Asked { answers, effort }) => {
                self.observation.answered(effort);
                Ok(answers)
            }
            Err(error) => {
                self.observation.failed(error.kind());
                Err(error)
            }
        }
    }
}
