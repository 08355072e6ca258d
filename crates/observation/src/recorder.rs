//! The thread that works on what is kept of requests: masks it and writes it to logs, and compares
//! it with what a model was trained on.
//!
//! It is handed records by a bounded queue and never waited for. What it holds when the server is
//! killed is lost: the records of the last [`LOG_WRITE_INTERVAL`] at most.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use corral_types::{EndpointId, Timestamp};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::DROPPED;
use crate::drift::{AlarmEnd, AlarmWish, DriftReadings, DriftWatch, Profile, ReferenceWish};
use crate::log::{LogError, LogFolder, LogRow};
use crate::record::{Kept, Record, Records, TextAnswer};
use crate::settings::{LogField, LogSettings, Observing};

/// How often records are written to disk.
pub const LOG_WRITE_INTERVAL: Duration = Duration::from_secs(10);

/// Records that wait to be worked on; what they may weigh is bounded beside.
const MAX_WAITING_RECORDS: usize = 4_096;

/// References and alarms that wait to be made and sent.
const MAX_WISHES: usize = 64;

/// Rows that wait to be written, in bytes: past that they are written at once.
const MAX_UNWRITTEN_BYTES: usize = 8 << 20;

/// How often logs that were written to are tidied, and how often all are.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
const TIDY_ALL_INTERVAL: Duration = Duration::from_secs(3_600);

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Message {
    Kept(Box<Kept>),
    /// To see whether an endpoint's log is to be there at all.
    Tidy(EndpointId),
    /// The reference of a version, or why there is none.
    Referred(EndpointId, u32, Result<Box<Profile>, String>),
    /// What came of an alarm.
    Alarmed(EndpointId, u32, AlarmEnd),
    /// To write what it holds, and then answer with the files of an endpoint's log, if one is
    /// named.
    Write(Option<EndpointId>, SyncSender<Result<Vec<(String, File)>, LogError>>),
}

/// Where logs lie, and what makes hashes of keys.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    pub folder: PathBuf,
    /// Where references of drift lie.
    pub references: PathBuf,
    /// Kept from whoever reads a log, who could else try out keys.
    pub key_secret: [u8; 32],
}

/// What is kept of requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Recorder {
    records: Records,
    folder: PathBuf,
    settings: Arc<RwLock<HashMap<EndpointId, Observing>>>,
    drift: DriftReadings,
}

/// What the recorder asks of others.
#[derive(Debug)]
pub struct Wishes {
    pub references: mpsc::Receiver<ReferenceWish>,
    pub alarms: mpsc::Receiver<AlarmWish>,
}

impl Recorder {
    /// Starts the thread. `settings` are those of every endpoint that has some: a log whose
    /// endpoint is not among them is removed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        options: RecorderOptions,
        settings: HashMap<EndpointId, Observing>,
    ) -> io::Result<(Self, Wishes)> {
        let (sender, receiver) = sync_channel(MAX_WAITING_RECORDS);
        let settings = Arc::new(RwLock::new(settings));
        let folder = options.folder.clone();
        let (reference_sender, references) = mpsc::channel(MAX_WISHES);
        let (alarm_sender, alarms) = mpsc::channel(MAX_WISHES);
        let drift = DriftReadings::default();
        let watch = DriftWatch::new(
            options.references.clone(),
            drift.clone(),
            reference_sender,
            alarm_sender,
        );
        let work = Work {
            options,
            settings: settings.clone(),
            drift: watch,
            unwritten: HashMap::new(),
            unwritten_bytes: 0,
            written: HashSet::new(),
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        thread.spawn(move || work.run(&receiver))?;
        let records = Records { sender, waiting_bytes: Arc::new(AtomicUsize::new(0)) };
        Ok((Self { records, folder, settings, drift }, Wishes { references, alarms }))
    }

    /// Where records go.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// The folder of all logs.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// What is watched of an endpoint from now on; what is not has what is kept of it removed.
    pub fn keep(&self, endpoint: EndpointId, observing: &Observing) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let before = match *observing == Observing::default() {
            true => settings.remove(&endpoint),
            false => settings.insert(endpoint, observing.clone()),
        };
        if before.is_some_and(|before| before != *observing) {
            // Where too much is waiting it is done within the hour.
            let _ = self.records.sender.try_send(Message::Tidy(endpoint));
        }
    }

    /// How versions stand that are watched for drift.
    pub fn drift(&self) -> &DriftReadings {
        &self.drift
    }

    /// Hands over the reference of a version, or why there is none. Blocking.
    pub fn referred(&self, endpoint: EndpointId, version: u32, made: Result<Profile, String>) {
        // A thread that is gone compares nothing any more.
        let message = Message::Referred(endpoint, version, made.map(Box::new));
        let _ = self.records.sender.send(message);
    }

    /// Tells what came of an alarm. Blocking.
    pub fn alarmed(&self, endpoint: EndpointId, version: u32, end: AlarmEnd) {
        let _ = self.records.sender.send(Message::Alarmed(endpoint, version, end));
    }

    /// Writes everything that was handed over before. Blocking.
    pub fn write(&self) {
        // A thread that is gone has nothing left to write.
        let _ = self.ask(None);
    }

    /// The files of an endpoint's log, opened, oldest rows first, up to what was handed over
    /// before. Blocking.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn files(&self, endpoint: EndpointId) -> Result<Vec<(String, File)>, LogError> {
        self.ask(Some(endpoint)).unwrap_or_else(|| Ok(Vec::new()))
    }

    fn ask(&self, endpoint: Option<EndpointId>) -> Option<Result<Vec<(String, File)>, LogError>> {
        let (reply, answer) = sync_channel(1);
        self.records.sender.send(Message::Write(endpoint, reply)).ok()?;
        answer.recv().ok()
    }
}

/// What the thread holds.
struct Work {
    options: RecorderOptions,
    settings: Arc<RwLock<HashMap<EndpointId, Observing>>>,
    drift: DriftWatch,
    unwritten: HashMap<EndpointId, Vec<LogRow>>,
    unwritten_bytes: usize,
    /// Endpoints whose logs were written to since they were tidied.
    written: HashSet<EndpointId>,
}

impl Work {
    fn run(mut self, receiver: &Receiver<Message>) {
        self.tidy_all();
        let begun = Instant::now();
        let (mut next_write, mut next_tidy) = (begun + LOG_WRITE_INTERVAL, begun + TIDY_INTERVAL);
        let mut next_tidy_all = begun + TIDY_ALL_INTERVAL;
        loop {
            let wait = next_write.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(wait) {
                Ok(Message::Kept(kept)) => self.take(*kept),
                Ok(Message::Tidy(endpoint)) => {
                    self.tidy(endpoint);
                    self.forget_drift();
                }
                Ok(Message::Referred(endpoint, version, made)) => {
                    self.drift.referred((endpoint, version), made.map(|profile| *profile));
                }
                Ok(Message::Alarmed(endpoint, version, end)) => {
                    self.drift.alarmed((endpoint, version), end);
                }
                Ok(Message::Write(endpoint, reply)) => {
                    self.write();
                    let files = endpoint.map(|endpoint| self.log(endpoint).open_files());
                    // Whoever asked may have gone.
                    let _ = reply.send(files.unwrap_or_else(|| Ok(Vec::new())));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            let now = Instant::now();
            if now >= next_write || self.unwritten_bytes > MAX_UNWRITTEN_BYTES {
                self.write();
                next_write = now + LOG_WRITE_INTERVAL;
            }
            if now >= next_tidy_all {
                self.tidy_all();
                next_tidy_all = now + TIDY_ALL_INTERVAL;
            }
            if now >= next_tidy {
                for endpoint in std::mem::take(&mut self.written) {
                    self.tidy(endpoint);
                }
                next_tidy = now + TIDY_INTERVAL;
            }
        }
    }

    fn log(&self, endpoint: EndpointId) -> LogFolder {
        LogFolder::new(self.options.folder.join(endpoint.to_string()))
    }

    fn take(&mut self, kept: Kept) {
        let Kept { sampler, record, .. } = kept;
        if let Some(settings) = sampler.drift.as_ref().filter(|_| record.purpose.is_compared) {
            self.drift.take(sampler.endpoint, settings, &record);
        }
        let log = sampler.log.as_ref().filter(|_| record.purpose.is_logged);
        let Some((settings, masks)) = log else { return };
        let key = record.key.as_ref().filter(|_| !settings.omit.contains(&LogField::Key));
        let key = key.map(|key| self.hash(sampler.endpoint, key));
        let Record { version, model, at, texts, answers, mirror, .. } = record;
        let model = model.map(|(name, number)| format!("{name}@{number}"));
        let rows = self.unwritten.entry(sampler.endpoint).or_default();
        for (index, (text, answer)) in texts.into_iter().zip(answers).enumerate() {
            let first = answer.labels.first();
            let theirs = mirror.as_ref().and_then(|(number, answers)| {
                Some((*number, answers.get(index)?.labels.first().map(|label| label.id.clone())))
            });
            let row = LogRow {
                at,
                version,
                model: model.clone(),
                key: key.clone(),
                text: (!settings.omit.contains(&LogField::Text)).then(|| masks.apply(text)),
                answer: first.map(|label| label.id.clone()),
                probability: first.map(|label| f64::from(label.probability)),
                top_k: (!settings.omit.contains(&LogField::TopK)).then(|| top_k(&answer)),
                is_refused: answer.is_refused,
                mirror_version: theirs.as_ref().map(|(number, _)| *number),
                mirror_answer: theirs.and_then(|(_, first)| first),
            };
            self.unwritten_bytes += row.bytes();
            rows.push(row);
        }
    }

    /// The same for the same key of an endpoint, and nothing that leads back to it.
    fn hash(&self, endpoint: EndpointId, key: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.options.key_secret);
        hasher.update(&endpoint.as_u128().to_be_bytes()).update(key.as_bytes());
        hasher.finalize().to_hex().chars().take(32).collect()
    }

    fn write(&mut self) {
        self.unwritten_bytes = 0;
        for (endpoint, rows) in std::mem::take(&mut self.unwritten) {
            // Its log may have been removed meanwhile.
            if self.log_settings(endpoint).is_none() {
                continue;
            }
            match self.log(endpoint).append(&rows) {
                Ok(()) => drop(self.written.insert(endpoint)),
                Err(error) => {
                    metrics::counter!(DROPPED.name).increment(rows.len() as u64);
                    tracing::error!(%endpoint, %error, rows = rows.len(), "rows of a log are lost");
                }
            }
        }
    }

    fn log_settings(&self, endpoint: EndpointId) -> Option<LogSettings> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.get(&endpoint)?.log.clone()
    }

    fn forget_drift(&mut self) {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        self.drift.forget(|endpoint| {
            settings.get(&endpoint).is_none_or(|observing| observing.drift.is_none())
        });
    }

    fn tidy(&self, endpoint: EndpointId) {
        let settings = self.log_settings(endpoint);
        let log = self.log(endpoint);
        let tidied = match settings {
            Some(settings) => log
                .clear_unfinished()
                .and_then(|()| log.tidy(Timestamp::now(), settings.keep_days, settings.max_bytes)),
            None => log.remove_all(),
        };
        if let Err(error) = tidied {
            tracing::error!(%endpoint, %error, "a log cannot be tidied; it is tried again");
        }
    }

    fn tidy_all(&mut self) {
        self.forget_drift();
        let Ok(entries) = std::fs::read_dir(&self.options.folder) else { return };
        for entry in entries.flatten() {
            if let Some(endpoint) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                self.tidy(endpoint);
            }
        }
    }
}

/// The classes of an answer as a JSON list.
fn top_k(answer: &TextAnswer) -> String {
    #[derive(Serialize)]
    struct Entry<'a> {
        id: &'a str,
        probability: f32,
    }
    let entries = answer.labels.iter();
    let entries: Vec<Entry<'_>> =
        entries.map(|label| Entry { id: &label.id, probability: label.probability }).collect();
    serde_json::to_string(&entries).expect("plain fields")
}
