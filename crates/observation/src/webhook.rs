//! Telling another server that an endpoint's drift has passed its bound.
//!
//! A POST of JSON, signed if there is a secret, and tried a few times. It is given up at last: the
//! state is to be seen at the endpoint all the same.

use std::time::Duration;

use corral_types::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use ring::hmac;
use serde::Serialize;

use crate::drift::Distances;
use crate::settings::Webhook;

/// How long an answer is waited for, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts of a delivery, and the wait after the first, which doubles each time: a receiver
/// that restarts within a minute is reached.
const MAX_ATTEMPTS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The header with the HMAC-SHA256 of the body, by the secret.
pub const SIGNATURE_HEADER: &str = "corral-signature";

/// What a receiver is told.
#[derive(Clone, Debug, Serialize)]
pub struct Alarm {
    pub event: &'static str,
    pub endpoint: String,
    pub version: u32,
    pub bound: f64,
    /// The distance of each side of the requests from the reference.
    pub distances: Vec<(&'static str, f64)>,
    pub window_texts: u64,
    pub reference_texts: u64,
    pub at: String,
}

impl Alarm {
    pub fn of_drift(
        (endpoint, version): (String, u32),
        bound: f64,
        distances: &Distances,
        (window_texts, reference_texts): (u64, u64),
        at: Timestamp,
    ) -> Self {
        Self {
            event: "drift",
            endpoint,
            version,
            bound,
            distances: distances.named().to_vec(),
            window_texts,
            reference_texts,
            at: at.to_string(),
        }
    }

    fn body(&self) -> Vec<u8> {
        let Self { event, endpoint, version, bound, .. } = self;
        let distances: serde_json::Map<String, serde_json::Value> =
            self.distances.iter().map(|(name, it)| ((*name).to_owned(), (*it).into())).collect();
        let body = serde_json::json!({
            "event": event,
            "endpoint": endpoint,
            "version": version,
            "bound": bound,
            "distances": distances,
            "window_texts": self.window_texts,
            "reference_texts": self.reference_texts,
            "at": self.at,
        });
        serde_json::to_vec(&body).expect("plain values")
    }
}

/// What is sent as the signature of a body.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let digits = hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let digits: String = digits;
    format!("sha256={digits}")
}

/// Sends alarms. Redirects are not followed, and answers not read but for their status.
#[derive(Clone, Debug)]
pub struct Sender(reqwest::Client);

impl Sender {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client =
            reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build()?;
        Ok(Self(client))
    }

    /// Delivers an alarm.
    ///
    /// # Errors
    /// In words, what the last attempt came to.
    pub async fn deliver(&self, webhook: &Webhook, alarm: &Alarm) -> Result<(), String> {
        let body = alarm.body();
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(webhook, body.clone()).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            tracing::warn!(endpoint = alarm.endpoint, attempt, failure, "a webhook failed");
            if attempt == MAX_ATTEMPTS {
                return Err(format!("given up after {attempt} attempts: {failure}"));
            }
            tokio::time::sleep(wait).await;
            (attempt, wait) = (attempt + 1, wait * 2);
        }
    }

    async fn attempt(&self, webhook: &Webhook, body: Vec<u8>) -> Result<(), String> {
        let mut request = self.0.post(&webhook.url).header(CONTENT_TYPE, "application/json");
        if let Some(secret) = &webhook.secret {
            request = request.header(SIGNATURE_HEADER, signature(secret, &body));
        }
        // Without the URL, which may hold a token.
        let sent = request.body(body).send().await.map_err(|error| {
            let error = error.without_url();
            corral_types::source_chain(&error).into_iter().last().unwrap_or(error.to_string())
        })?;
        match sent.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the receiver answered {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // Its test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }
}
