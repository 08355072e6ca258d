//! What is asked of an endpoint, and what it answers.

use std::time::Duration;

use corral_classifier::{Model, Prediction, Ranked, RefusalVerdict, Refusals};

use crate::ServingError;

/// The most texts of a request: a second of work for an encoder on one core, so that a
/// request cannot hold a core for long.
pub const MAX_TEXTS: usize = 4096;

/// The longest text. Encoders read some hundred words; lexical features of a megabyte take
/// some ten milliseconds.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// The most classes that are named for a text.
pub const MAX_TOP_K: u32 = 1000;

/// The longest that a request can be given; nothing that is asked takes so long.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);

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
    /// How long whoever asks will wait; as long as it takes where absent.
    pub timeout: Option<Duration>,
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

/// The answers to a question, and the time that they took on a core.
#[derive(Debug)]
pub struct Worked {
    pub answers: Vec<Answer>,
    pub core: Duration,
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
            timeout: None,
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
        if let Some(timeout) = self.timeout
            && !(Duration::from_millis(1)..=MAX_TIMEOUT).contains(&timeout)
        {
            return Err(ServingError::TimeoutRange { found: timeout });
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
