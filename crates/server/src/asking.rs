//! What every request format asks of an endpoint, and the one place where it is asked.

use std::time::Duration;

use corral_serving::{Answered, Endpoint, Question, Refusals, Selector};
use corral_types::{Caller, ErrorKind, Failure, Name};

use crate::api::PredictQuery;
use crate::rest::{Answer, ApiError};
use crate::state::App;

/// The longest key of a request.
const MAX_KEY_BYTES: usize = 256;

impl PredictQuery {
    /// These options asked of some texts.
    pub fn question(&self, texts: Vec<String>) -> Question {
        Question {
            key: self.key.clone(),
            texts,
            top_k: self.top_k.unwrap_or(1),
            threshold: self.threshold,
            prefix: self.prefix.clone(),
            back_off: self.back_off,
            refusals: if self.answer_all { Refusals::Ignore } else { Refusals::Apply },
            timeout: self.timeout_ms.map(Duration::from_millis),
        }
    }
}

/// An endpoint as a request names it, and the version of it if the request names one.
#[derive(Clone, Debug)]
pub struct Addressed {
    pub endpoint: Name,
    pub version: Option<Selector>,
}

impl Addressed {
    /// # Errors
    /// When the name is none, or the version is neither a number nor a name.
    pub fn read(name: &str, version: Option<&str>) -> Answer<Self> {
        let endpoint = name.parse().map_err(|error: corral_types::NameError| {
            ApiError(Failure::new(ErrorKind::Invalid, error.to_string()))
        })?;
        Ok(Self { endpoint, version: version.map(str::parse).transpose()? })
    }
}

/// Asks an endpoint.
///
/// # Errors
/// When there is no such endpoint or version, or it cannot answer.
pub async fn ask(
    app: &App,
    caller: &Caller,
    addressed: &Addressed,
    question: Question,
) -> Answer<Answered> {
    if question.key.as_ref().is_some_and(|key| key.len() > MAX_KEY_BYTES) {
        let message = format!("`key` is longer than {MAX_KEY_BYTES} bytes");
        return Err(ApiError(Failure::new(ErrorKind::Invalid, message)));
    }
    let Addressed { endpoint, version } = addressed;
    Ok(app.serving.predict(caller, endpoint, version.as_ref(), question).await?)
}

/// The endpoint that a request names, which has the version if it names one.
///
/// # Errors
/// When there is no such endpoint or version.
pub async fn find(app: &App, caller: &Caller, addressed: &Addressed) -> Answer<Endpoint> {
    let endpoint = app.serving.endpoint(caller, addressed.endpoint.clone()).await?;
    if let Some(version) = &addressed.version {
        endpoint.routing.number(version, &endpoint.numbers())?;
    }
    Ok(endpoint)
}
