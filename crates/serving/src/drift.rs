//! References for drift, made from what models were trained on, and alarms.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use corral_catalog::Served;
use corral_observation::{
    AlarmEnd, AlarmWish, DriftReading, DriftReadings, MIN_REFERENCE_TEXTS, Profile, ReferenceWish,
    Sender,
};
use corral_types::{DatasetId, EndpointId, Timestamp, WorkspaceId, source_chain};
use tokio::sync::{Semaphore, mpsc};

use crate::observing::text_answer;
use crate::predict::MAX_TEXT_BYTES;
use crate::{Question, Serving, ServingError};

/// Texts of a reference: with more its shares are hardly surer.
const REFERENCE_TEXTS: usize = 5_000;

/// Texts that are asked together for a reference: few, so that requests come in between.
const TEXTS_PER_QUESTION: usize = 16;

/// How often a question of a reference is asked again when requests take all cores, and when.
const BUSY_ATTEMPTS: u32 = 100;
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// Alarms that are delivered at once: one that is tried again and again shall not hold others up.
const MAX_DELIVERIES: usize = 16;

/// What comes of asking for texts: why there are none is said in words.
pub type Texts<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + 'a>>;

/// Where the texts are that models were trained on.
pub trait TrainingTexts: Send + Sync {
    /// At most so many texts of a data set's version, spread over it: of its splits `test` and
    /// `valid` where these have enough, since a model is surer of rows that it learned from.
    fn texts(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        version: u32,
        limit: usize,
    ) -> Texts<'_>;
}

impl Serving {
    /// Makes the references that are asked for, one after the other, for as long as any can be
    /// asked for.
    pub async fn make_references(
        &self,
        mut wishes: mpsc::Receiver<ReferenceWish>,
        texts: Arc<dyn TrainingTexts>,
    ) {
        while let Some(wish) = wishes.recv().await {
            let made = self.reference(&wish, &*texts).await;
            if let Err(why) = &made {
                tracing::info!(endpoint = %wish.name, version = wish.version, why, "no reference");
            }
            let recorder = self.shared.recorder.clone();
            // Cut off only where the process ends.
            let _ = tokio::task::spawn_blocking(move || {
                recorder.referred(wish.endpoint, wish.version, made);
            })
            .await;
        }
    }

    /// The model's answers to texts that it was trained on, as a reference.
    async fn reference(
        &self,
        wish: &ReferenceWish,
        texts: &dyn TrainingTexts,
    ) -> Result<Profile, String> {
        let failed = |error: &ServingError| error_text(error);
        let catalog = &self.shared.catalog;
        let record = catalog.endpoint_named(wish.workspace, wish.name.clone()).await;
        let record = record.map_err(|error| error_text(&error))?;
        let version = record.versions.iter().find(|version| version.number == wish.version);
        let Some(version) = version.filter(|_| record.id == wish.endpoint) else {
            return Err("the version is gone".to_owned());
        };
        let Served::Model { version, .. } = &version.serves else {
            return Err("its answer is the same for every text".to_owned());
        };
        let Some((dataset, number)) = version.lineage.dataset else {
            return Err("the model was trained elsewhere, or on no text".to_owned());
        };
        let mut texts = texts.texts(wish.workspace, dataset, number, REFERENCE_TEXTS).await?;
        texts.retain(|text| text.len() <= MAX_TEXT_BYTES);
        if texts.len() < MIN_REFERENCE_TEXTS {
            let (found, least) = (texts.len(), MIN_REFERENCE_TEXTS);
            return Err(format!("the data set has {found} texts; a reference takes {least}"));
        }
        let route = self.route(wish.workspace, &wish.name).map_err(|error| failed(&error))?;
        let serves = route.find(wish.version).ok_or("the version is gone")?;
        let mut answers = Vec::with_capacity(texts.len());
        for some in texts.chunks(TEXTS_PER_QUESTION) {
            let mut attempts = 0;
            let asked = loop {
                let question = Question { texts: some.to_vec(), ..Question::default() };
                attempts += 1;
                match self.shared.ask(wish.endpoint, serves, question).await {
                    Err(ServingError::Busy { .. }) if attempts < BUSY_ATTEMPTS => {
                        tokio::time::sleep(BUSY_WAIT).await;
                    }
                    asked => break asked.map_err(|error| failed(&error))?,
                }
            };
            answers.extend(asked.answers.iter().map(text_answer));
            // Light questions are answered on this thread.
            tokio::task::yield_now().await;
        }
        Profile::of(&texts, &answers).ok_or_else(|| "there are too few texts".to_owned())
    }

    /// Delivers the alarms that come, for as long as any can come.
    pub async fn send_alarms(&self, mut wishes: mpsc::Receiver<AlarmWish>) {
        let sender = match Sender::new() {
            Ok(sender) => sender,
            Err(error) => return tracing::error!(%error, "no webhook can be told of drift"),
        };
        let deliveries = Arc::new(Semaphore::new(MAX_DELIVERIES));
        while let Some(wish) = wishes.recv().await {
            let permit = deliveries.clone().acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let (sender, recorder) = (sender.clone(), self.shared.recorder.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let AlarmWish { endpoint, version, webhook, alarm } = wish;
                let end = match sender.deliver(&webhook, &alarm).await {
                    Ok(()) => AlarmEnd::Delivered(Timestamp::now()),
                    Err(failure) => AlarmEnd::Failed(failure),
                };
                let told = move || recorder.alarmed(endpoint, version, end);
                let _ = tokio::task::spawn_blocking(told).await;
            });
        }
    }

    /// How all versions stand that are watched for drift.
    pub fn drift_readings(&self) -> &DriftReadings {
        self.shared.recorder.drift()
    }

    /// How a version of an endpoint stands that is watched for drift; `None` if it is not, or was
    /// not asked yet.
    pub fn drift(&self, endpoint: EndpointId, version: u32) -> Option<DriftReading> {
        self.drift_readings().of(endpoint, version)
    }
}

fn error_text(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = source_chain(error);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}
