//! One request for predictions: checked, given a core, answered.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corral_classifier::{
    Encoder, Model, PredictOptions, Prediction, Ranked, RefusalVerdict, Refusals, Scratch,
};
use tokio::sync::Semaphore;

use crate::ServingError;

/// The most texts of a request: a second of work for an encoder on one core, so that a
/// request cannot hold a core for long.
pub const MAX_TEXTS: usize = 4096;

/// The longest text. Encoders read some hundred words; lexical features of a megabyte take
/// some ten milliseconds.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// The most classes that are named for a text.
pub const MAX_TOP_K: u32 = 1000;

/// Bytes of text that are answered where the request arrived, on an async thread: well
/// below half a millisecond of lexical features.
const LIGHT_TEXT_BYTES: usize = 4096;

/// Requests that may wait for a core before further ones are refused: a quarter second's
/// work of light requests, so that whoever is admitted is answered soon.
const MAX_WAITING: usize = 256;

/// What is asked of an endpoint.
#[derive(Clone, Debug)]
pub struct Question {
    /// What decides the side of a split by key.
    pub key: Option<String>,
    pub texts: Vec<String>,
    pub top_k: u32,
    pub threshold: Option<f32>,
    pub prefix: Option<String>,
    /// Asks for the deepest class that is at least so probable, with all below it.
    pub back_off: Option<f32>,
    pub refusals: Refusals,
}

/// The answer for a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The most probable classes first; none where the text is refused or none passes the
    /// threshold.
    pub scored: Vec<Scored>,
    /// The class that an unsure answer was taken back to.
    pub backed_off: Option<Scored>,
    /// What a model that refuses texts makes of this one.
    pub refusal: Option<RefusalVerdict>,
}

/// A class in an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    pub id: String,
    pub name: String,
    pub probability: f32,
}

impl Default for Question {
    /// Asks for the likeliest class of no text.
    fn default() -> Self {
        Self {
            key: None,
            texts: Vec::new(),
            top_k: 1,
            threshold: None,
            prefix: None,
            back_off: None,
            refusals: Refusals::Apply,
        }
    }
}

impl Question {
    /// # Errors
    /// When a limit is passed, which is named.
    pub fn check(&self) -> Result<(), ServingError> {
        if self.texts.len() > MAX_TEXTS {
            return Err(ServingError::TooManyTexts { found: self.texts.len() });
        }
        for (index, text) in self.texts.iter().enumerate() {
            if text.len() > MAX_TEXT_BYTES {
                return Err(ServingError::TextTooLong { index, bytes: text.len() });
            }
        }
        if !(1..=MAX_TOP_K).contains(&self.top_k) {
            return Err(ServingError::TopK { found: self.top_k });
        }
        let probabilities = [("threshold", self.threshold), ("back_off", self.back_off)];
        for (field, found) in probabilities {
            match found {
                Some(found) if !(0.0..=1.0).contains(&found) => {
                    return Err(ServingError::Probability { field, found });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a model without an encoder answers it in well under half a millisecond.
    fn is_light(&self) -> bool {
        self.texts.iter().map(String::len).sum::<usize>() <= LIGHT_TEXT_BYTES
    }
}

/// The cores that predictions may take.
pub struct Cores {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Cores {
    pub fn new(count: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(count.max(1))), waiting: AtomicUsize::new(0) }
    }

    /// Answers a question that was checked.
    ///
    /// # Errors
    /// When the model cannot answer it, or too many requests are waiting.
    pub async fn answer(
        &self,
        model: Arc<Model>,
        encoder: Option<Arc<dyn Encoder>>,
        question: Question,
    ) -> Result<Vec<Answer>, ServingError> {
        if encoder.is_none() && question.is_light() {
            return predict(&model, None, &question);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = WaitingGuard(&self.waiting);
        if before >= MAX_WAITING {
            return Err(ServingError::Busy { waiting: before });
        }
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        drop(waiting);
        let answered = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if the client has gone.
            let _permit = permit;
            predict(&model, encoder.as_deref(), &question)
        });
        answered.await.map_err(|_| ServingError::CutOff)?
    }
}

struct WaitingGuard<'a>(&'a AtomicUsize);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Answers on the calling thread.
fn predict(
    model: &Model,
    encoder: Option<&dyn Encoder>,
    question: &Question,
) -> Result<Vec<Answer>, ServingError> {
    let subset = question
        .prefix
        .as_deref()
        .map(|prefix| model.subset(prefix))
        .transpose()
        .map_err(ServingError::Predict)?;
    let options = PredictOptions {
        top_k: question.top_k as usize,
        threshold: question.threshold,
        subset: subset.as_ref(),
        back_off: question.back_off,
        refusals: question.refusals,
        ..PredictOptions::default()
    };
    let embeddings = model.encode(&question.texts, encoder).map_err(ServingError::Predict)?;
    SCRATCH.with_borrow_mut(|scratch| {
        let texts = question.texts.iter().enumerate();
        texts
            .map(|(index, text)| {
                let prediction = model
                    .predict(text, embeddings.text(index), scratch, &options)
                    .map_err(ServingError::Predict)?;
                Ok(Answer::of(model, &prediction, question.threshold))
            })
            .collect()
    })
}

impl Answer {
    /// A model's prediction with the names of classes, those below a threshold left out.
    pub fn of(model: &Model, prediction: &Prediction, threshold: Option<f32>) -> Self {
        let is_refused = prediction.refusal.is_some_and(|verdict| verdict.is_refused);
        let named = prediction.ranked.iter().filter(|ranked| {
            !is_refused && threshold.is_none_or(|threshold| ranked.probability >= threshold)
        });
        Self {
            scored: named.filter_map(|ranked| scored(model, ranked)).collect(),
            backed_off: prediction.backed_off.and_then(|ranked| scored(model, &ranked)),
            refusal: prediction.refusal,
        }
    }
}

fn scored(model: &Model, ranked: &Ranked) -> Option<Scored> {
    let class = model.class(ranked.class)?;
    Some(Scored {
        id: class.id.to_owned(),
        name: class.name.to_owned(),
        probability: ranked.probability,
    })
}
