//! What is noted of a request beside its answer, and what people set of it.

use std::fs::File;

use corral_catalog::CatalogError;
use corral_observation::{
    Effort, Labelled, Observation, Observer, Observing, ObservingError, Sample, Subject, TextAnswer,
};
use corral_types::{Caller, Explain, Name, WorkspaceId};

use crate::route::{Route, Serves};
use crate::service::Changed;
use crate::{Answer, Endpoint, Question, Serving, ServingError};

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
    sample: Option<Sample>,
}

/// What is observed, as it is kept; nothing where it was never set.
pub(crate) fn parse(json: &str) -> Result<Observing, serde_json::Error> {
    if json.is_empty() { Ok(Observing::default()) } else { serde_json::from_str(json) }
}

/// An answer as it is kept.
pub(crate) fn text_answer(answer: &Answer) -> TextAnswer {
    let label = |scored: &crate::Scored| Labelled {
        id: scored.id.clone(),
        probability: scored.probability,
    };
    TextAnswer {
        labels: answer.scored.iter().map(label).collect(),
        is_refused: answer.refusal.is_some_and(|verdict| verdict.is_refused),
    }
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
        let shared = &self.shared;
        let sample = route.sampler.as_ref().and_then(|sampler| {
            let key = question.key.as_deref();
            let asked = (workspace, &route.name, number);
            shared.recorder.records().sample(sampler, asked, key, &question.texts)
        });
        let observation = shared.observer.begin(route.endpoint, number, texts, subject);
        Observed { observation, sample }
    }

    /// The counters of what endpoints are asked.
    pub fn observer(&self) -> &Observer {
        &self.shared.observer
    }

    /// Changes what is observed of an endpoint; `change` runs again where the endpoint moved on
    /// meanwhile.
    ///
    /// # Errors
    /// When there is no such endpoint, or the change is none that can be.
    pub async fn change_observing(
        &self,
        caller: &Caller,
        name: Name,
        change: impl Fn(&mut Observing) -> Result<(), ObservingError> + Send + Sync,
    ) -> Result<Endpoint, ServingError> {
        self.change_endpoint(caller.workspace, name, |mut endpoint| {
            change(&mut endpoint.observing)?;
            if let Some(log) = &endpoint.observing.log {
                log.check()?;
            }
            if let Some(drift) = &endpoint.observing.drift {
                drift.check()?;
            }
            let json = serde_json::to_string(&endpoint.observing).expect("plain fields");
            Ok(Changed::Observing(json))
        })
        .await
    }

    /// The files of an endpoint's log, oldest rows first, up to the requests that are answered.
    ///
    /// # Errors
    /// When there is no such endpoint or it has no rows; when the disk fails.
    pub async fn log_files(
        &self,
        caller: &Caller,
        name: Name,
    ) -> Result<Vec<(String, File)>, ServingError> {
        let endpoint = self.endpoint(caller, name).await?;
        let recorder = self.shared.recorder.clone();
        let id = endpoint.record.id;
        let files = tokio::task::spawn_blocking(move || recorder.files(id)).await;
        let files = files.map_err(|_| ServingError::CutOff)?.map_err(ServingError::Log)?;
        if files.is_empty() {
            return Err(ServingError::NoLog(endpoint.record.name.to_string()));
        }
        Ok(files)
    }

    /// Writes to disk what is noted of requests that were answered.
    ///
    /// # Errors
    /// When usage cannot be noted.
    pub async fn finish_notes(&self) -> Result<(), CatalogError> {
        let recorder = self.shared.recorder.clone();
        // Cut off only where the process ends already.
        let _ = tokio::task::spawn_blocking(move || recorder.write()).await;
        self.note_usage().await
    }

    /// The folder of all endpoints' logs.
    pub fn log_folder(&self) -> &std::path::Path {
        self.shared.recorder.folder()
    }
}

impl Observed {
    /// Notes that it failed.
    pub fn failed(self, error: &ServingError) {
        self.observation.failed(error.kind());
    }

    /// Notes what came of it, and hands that on with what is kept of it, which goes its way when
    /// it is dropped.
    pub fn finish(
        self,
        asked: Result<Asked, ServingError>,
        route: &Route,
        number: u32,
    ) -> (Result<Vec<Answer>, ServingError>, Option<Sample>) {
        let Self { observation, mut sample } = self;
        match asked {
            Ok(Asked { answers, effort }) => {
                observation.answered(effort);
                if let Some(sample) = &mut sample {
                    let model = match route.version(number) {
                        Serves::Model { name, version, .. } => Some((name.clone(), *version)),
                        Serves::Fixed(_) => None,
                    };
                    sample.answered(model, answers.iter().map(text_answer).collect());
                }
                (Ok(answers), sample)
            }
            Err(error) => {
                observation.failed(error.kind());
                (Err(error), None)
            }
        }
    }
}
