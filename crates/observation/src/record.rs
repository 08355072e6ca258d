//! A request of which more than counts is kept, on its way beside the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use corral_types::{EndpointId, Name, Timestamp, WorkspaceId};

use crate::DROPPED;
use crate::mask::Masks;
use crate::recorder::Message;
use crate::settings::{DriftSettings, LogSettings, Observing, ObservingError};

/// Bytes of records that wait to be worked on. Those beyond are dropped: whoever asked shall not
/// wait for what is kept of it.
pub(crate) const MAX_WAITING_BYTES: usize = 16 << 20;

/// Texts of an endpoint that are compared with its reference in a second: what more there are
/// cannot tell much else, and their copies would cost the requests.
const MAX_COMPARED_TEXTS_PER_SECOND: u64 = 200;

/// What a record takes beside its texts, about.
const RECORD_BYTES: usize = 512;

/// Which requests of an endpoint are kept, and how.
#[derive(Debug)]
pub struct Sampler {
    pub endpoint: EndpointId,
    pub(crate) log: Option<(LogSettings, Masks)>,
    pub(crate) drift: Option<DriftSettings>,
    considered: AtomicU64,
    /// The second since the epoch in which texts were compared last, and how many in it.
    compared: AtomicU64,
}

impl Sampler {
    /// `None` where nothing is.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn of(endpoint: EndpointId, observing: &Observing) -> Result<Option<Self>, ObservingError> {
        let log = observing.log.clone().filter(|log| log.sample > 0.0);
        let log = log.map(|log| log.check().map(|masks| (log, masks))).transpose()?;
        let drift = observing.drift.clone();
        if log.is_none() && drift.is_none() {
            return Ok(None);
        }
        let (considered, compared) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Some(Self { endpoint, log, drift, considered, compared }))
    }

    /// Whether a request is compared with the reference, as long as there were few in its second.
    /// A second that two requests begin at once may have a few more.
    fn is_compared(&self, at: Timestamp, texts: usize) -> bool {
        if self.drift.is_none() {
            return false;
        }
        let second = (at.as_millis() / 1_000) << 32;
        let before = self.compared.load(Ordering::Relaxed);
        let count = before.max(second);
        if count - second >= MAX_COMPARED_TEXTS_PER_SECOND {
            return false;
        }
        self.compared.store(count + texts as u64, Ordering::Relaxed);
        true
    }

    /// Whether the next request is kept: each in turn, as evenly as the part allows.
    fn is_next_logged(&self) -> bool {
        let Some((settings, _)) = &self.log else { return false };
        let number = self.considered.fetch_add(1, Ordering::Relaxed) as f64;
        ((number + 1.0) * settings.sample).floor() > (number * settings.sample).floor()
    }
}

/// A class with its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    pub id: String,
    pub probability: f32,
}

/// What was answered for a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextAnswer {
    /// The most probable class first.
    pub labels: Vec<Labelled>,
    /// Whether the text was taken for none of the classes.
    pub is_refused: bool,
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    pub is_logged: bool,
    pub is_compared: bool,
}

/// A request with its answers.
#[derive(Clone, Debug)]
pub struct Record {
    pub workspace: WorkspaceId,
    /// The endpoint's name.
    pub name: Name,
    pub purpose: Purpose,
    /// The endpoint's version.
    pub version: u32,
    /// The model, and its version.
    pub model: Option<(Name, u32)>,
    pub at: Timestamp,
    /// What decides the side of a split.
    pub key: Option<String>,
    pub texts: Vec<String>,
    /// One for each text.
    pub answers: Vec<TextAnswer>,
    /// What the version that is asked as well answered, and which that is.
    pub mirror: Option<(u32, Vec<TextAnswer>)>,
}

/// Where records go.
#[derive(Clone, Debug)]
pub struct Records {
    pub(crate) sender: SyncSender<Message>,
    pub(crate) waiting_bytes: Arc<AtomicUsize>,
}

impl Records {
    /// The next request of an endpoint, if it is kept: with copies of its texts. `None` too where
    /// too much is waiting.
    pub fn sample(
        &self,
        sampler: &Arc<Sampler>,
        (workspace, name, version): (WorkspaceId, &Name, u32),
        key: Option<&str>,
        texts: &[String],
    ) -> Option<Sample> {
        let at = Timestamp::now();
        let purpose = Purpose {
            is_logged: sampler.is_next_logged(),
            is_compared: sampler.is_compared(at, texts.len()),
        };
        if !purpose.is_logged && !purpose.is_compared {
            return None;
        }
        let bytes =
            RECORD_BYTES + texts.iter().map(|text| text.len() + RECORD_BYTES).sum::<usize>();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let weight = Weight { of: self.waiting_bytes.clone(), bytes };
        if before + bytes > MAX_WAITING_BYTES {
            metrics::counter!(DROPPED.name).increment(1);
            return None;
        }
        let record = Record {
            workspace,
            name: name.clone(),
            purpose,
            version,
            model: None,
            at,
            key: key.map(str::to_owned),
            texts: texts.to_vec(),
            answers: Vec::new(),
            mirror: None,
        };
        let kept = Kept { sampler: sampler.clone(), record, _weight: weight };
        Some(Sample { kept: Some(kept), sender: self.sender.clone() })
    }
}

/// A record with what it takes of the bytes that may wait.
#[derive(Debug)]
pub(crate) struct Kept {
    pub sampler: Arc<Sampler>,
    pub record: Record,
    _weight: Weight,
}

#[derive(Debug)]
struct Weight {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request that is kept. Dropped, it goes to be worked on, if it was answered.
#[derive(Debug)]
pub struct Sample {
    kept: Option<Kept>,
    sender: SyncSender<Message>,
}

impl Sample {
    /// Notes the answers, one for each text, and the model that gave them.
    pub fn answered(&mut self, model: Option<(Name, u32)>, answers: Vec<TextAnswer>) {
        if let Some(kept) = &mut self.kept {
            kept.record.model = model;
            kept.record.answers = answers;
        }
    }

    /// Notes what another version answered.
    pub fn mirrored(&mut self, version: u32, answers: Vec<TextAnswer>) {
        if let Some(kept) = &mut self.kept {
            kept.record.mirror = Some((version, answers));
        }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let answered = |kept: &Kept| kept.record.answers.len() == kept.record.texts.len();
        if let Some(kept) = self.kept.take().filter(answered)
            && self.sender.try_send(Message::Kept(Box::new(kept))).is_err()
        {
            metrics::counter!(DROPPED.name).increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    fn records(capacity: usize) -> (Records, Receiver<Message>) {
        let (sender, receiver) = sync_channel(capacity);
        (Records { sender, waiting_bytes: Arc::new(AtomicUsize::new(0)) }, receiver)
    }

    fn sampler(observing: Observing) -> Arc<Sampler> {
        let sampler = Sampler::of(EndpointId::from_u128(1), &observing).unwrap();
        Arc::new(sampler.expect("something is watched"))
    }

    fn logs(sample: f64) -> Observing {
        let log = Some(LogSettings { sample, ..LogSettings::default() });
        Observing { log, drift: None }
    }

    fn sample(records: &Records, sampler: &Arc<Sampler>, texts: &[String]) -> Option<Sample> {
        let name = "live".parse().unwrap();
        records.sample(sampler, (WorkspaceId::from_u128(1), &name, 1), None, texts)
    }

    #[test]
    fn requests_are_kept_evenly_and_only_when_answered() {
        let (records, received) = records(1000);
        let (tenth, texts) = (sampler(logs(0.1)), ["a".to_owned()]);
        for number in 0..1000 {
            let Some(mut sample) = sample(&records, &tenth, &texts) else { continue };
            assert_eq!(number % 10, 9, "the last of ten");
            if number < 500 {
                sample.answered(None, vec![TextAnswer::default()]);
            }
        }
        assert_eq!(received.try_iter().count(), 50);
        assert_eq!(records.waiting_bytes.load(Ordering::Relaxed), 0);
        assert!(Sampler::of(EndpointId::from_u128(1), &logs(0.0)).unwrap().is_none());
    }

    #[test]
    fn what_does_not_fit_is_dropped_at_once() {
        let (records, received) = records(2);
        let every = sampler(logs(1.0));
        let send = |texts: &[String]| {
            let sample = sample(&records, &every, texts);
            sample.map(|mut sample| sample.answered(None, vec![TextAnswer::default(); texts.len()]))
        };
        let long = ["x".repeat(MAX_WAITING_BYTES / 2)];
        assert!(send(&long).is_some());
        assert!(send(&long).is_none(), "too many bytes");
        for _ in 0..3 {
            send(&["a".to_owned()]);
        }
        assert_eq!(received.try_iter().count(), 2, "too many records");
        assert_eq!(records.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_second_has_so_many_texts_compared() {
        let drift = Some(DriftSettings::default());
        let watched = sampler(Observing { log: None, drift });
        let at = |millis: u64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let compared = |millis: u64| (0..9).filter(|_| watched.is_compared(at(millis), 50)).count();
        assert_eq!([compared(0), compared(999), compared(1_000)], [4, 0, 4]);
    }
}
