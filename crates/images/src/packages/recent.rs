//! What indexes answered a short while ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Installed, Pin, Request, Target};

/// How long an answer holds: as long as the public index lets its own be kept. Asking again takes
/// half a second and more, most of what installing known packages takes.
const HOLDS: Duration = Duration::from_secs(600);

/// Answers that are kept; each is a few kilobytes.
const MAX_ANSWERS: usize = 256;

/// Requests and the packages that they came down to.
#[derive(Default)]
pub struct Recent {
    answers: Mutex<HashMap<String, (Instant, Vec<Pin>)>>,
}

impl Recent {
    pub fn get(&self, key: &str, now: Instant) -> Option<Vec<Pin>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, pins) = answers.get(key)?;
        (now.duration_since(*asked) < HOLDS).then(|| pins.clone())
    }

    pub fn keep(&self, key: String, pins: Vec<Pin>, now: Instant) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (asked, _)| now.duration_since(*asked) < HOLDS);
        if answers.len() >= MAX_ANSWERS {
            let oldest = answers.iter().min_by_key(|(_, (asked, _))| *asked);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.map(|key| answers.remove(&key));
        }
        answers.insert(key, (now, pins));
    }
}

/// All that an answer hangs on, beside the index.
pub fn key(request: &Request, installed: &Installed, target: &Target) -> String {
    format!("{request:?} {installed:?} {target:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_hold_for_a_while_and_are_bounded() {
        let (recent, now) = (Recent::default(), Instant::now());
        for number in 0..=MAX_ANSWERS {
            let later = now + Duration::from_millis(number as u64);
            recent.keep(number.to_string(), vec![], later);
        }
        assert_eq!(recent.get("0", now), None, "the oldest made room");
        assert_eq!(recent.get("1", now + HOLDS / 2), Some(vec![]));
        assert_eq!(recent.get("1", now + HOLDS * 2), None);
        recent.keep("new".into(), vec![], now + HOLDS * 2);
        assert_eq!(recent.answers.lock().unwrap().len(), 1);
    }
}
