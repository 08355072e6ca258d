//! Ids and names in messages.

use corral_types::{Id, Kind};

use super::refusal::{Answer, Refusal};

/// An id in a message: one that cannot be read names nothing.
pub fn id<K: Kind>(text: &str, what: &str) -> Answer<Id<K>> {
    text.parse().map_err(|_| Refusal::not_found(format!("there is no {what} `{text}`")))
}

/// Ids in a message.
pub fn ids<K: Kind>(texts: &[String], what: &str) -> Answer<Vec<Id<K>>> {
    texts.iter().map(|text| id(text, what)).collect()
}

/// An id that may be left out.
pub fn optional_id<K: Kind>(text: &str, what: &str) -> Answer<Option<Id<K>>> {
    if text.is_empty() { Ok(None) } else { id(text, what).map(Some) }
}

/// The words that an enumeration's value of the protocol stands for, if it is known.
pub fn text_or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// A time as the protocol has it: seconds since 1970.
pub fn seconds(at: corral_types::Timestamp) -> f64 {
    at.as_millis() as f64 / 1e3
}

/// A time as newer messages have it.
pub fn timestamp(at: corral_types::Timestamp) -> corral_modal_api::Timestamp {
    let millis = at.as_millis();
    corral_modal_api::Timestamp {
        seconds: (millis / 1000) as i64,
        nanos: (millis % 1000) as i32 * 1_000_000,
    }
}

/// A time from a message; before 1970 counts as 1970.
pub fn millis(at: &corral_modal_api::Timestamp) -> corral_types::Timestamp {
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    let nanos = u64::try_from(at.nanos).unwrap_or(0);
    let millis = seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000);
    corral_types::Timestamp::from_millis(millis)
}
