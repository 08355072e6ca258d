//! Every version that is watched for drift: its reference, its recent texts, and what came of
//! comparing them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use corral_types::{EndpointId, Name, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::profile::{Distances, Profile};
use super::tracker::{Crossing, Standing, Tracker};
use crate::record::Record;
use crate::settings::{DriftSettings, Webhook};
use crate::webhook::Alarm;

/// How long it is waited until a reference that could not be made is asked for again.
const REFERENCE_RETRY: Duration = Duration::from_secs(600);

/// A version of an endpoint.
type Key = (EndpointId, u32);

/// A version that needs a reference.
#[derive(Clone, Debug)]
pub struct ReferenceWish {
    pub workspace: WorkspaceId,
    pub endpoint: EndpointId,
    pub name: Name,
    pub version: u32,
}

/// An alarm on its way.
#[derive(Debug)]
pub struct AlarmWish {
    pub endpoint: EndpointId,
    pub version: u32,
    pub webhook: Webhook,
    pub alarm: Alarm,
}

/// How a version stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DriftReading {
    /// Texts of the reference; none as long as there is no reference.
    pub reference_texts: Option<u64>,
    /// Why there is no reference.
    pub no_reference: Option<String>,
    /// The last window that was compared.
    pub last: Option<LastWindow>,
    /// Texts counted towards the next one.
    pub texts: u64,
    /// What came of the last alarm.
    pub alarm: Option<AlarmEnd>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LastWindow {
    pub distances: Distances,
    pub texts: u64,
    pub standing: Standing,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AlarmEnd {
    Delivered(Timestamp),
    Failed(String),
}

/// What is kept of a version on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    profile: Profile,
    is_beyond: bool,
}

/// What others may see. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DriftReadings(Arc<RwLock<HashMap<Key, DriftReading>>>);

impl DriftReadings {
    /// How a version stands; `None` if it is not watched, or was not asked yet.
    pub fn of(&self, endpoint: EndpointId, version: u32) -> Option<DriftReading> {
        let readings = self.0.read().unwrap_or_else(PoisonError::into_inner);
        readings.get(&(endpoint, version)).cloned()
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut DriftReading)) {
        let mut readings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(readings.entry(key).or_default());
    }

    fn forget(&self, is_gone: impl Fn(EndpointId) -> bool) {
        let mut readings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        readings.retain(|(endpoint, _), _| !is_gone(*endpoint));
    }
}

/// The recorder's part in it.
pub(crate) struct DriftWatch {
    folder: PathBuf,
    readings: DriftReadings,
    trackers: HashMap<Key, Tracker>,
    /// When a reference was asked for.
    asked: HashMap<Key, Instant>,
    references: mpsc::Sender<ReferenceWish>,
    alarms: mpsc::Sender<AlarmWish>,
}

impl DriftWatch {
    pub fn new(
        folder: PathBuf,
        readings: DriftReadings,
        references: mpsc::Sender<ReferenceWish>,
        alarms: mpsc::Sender<AlarmWish>,
    ) -> Self {
        let (trackers, asked) = (HashMap::new(), HashMap::new());
        Self { folder, readings, trackers, asked, references, alarms }
    }

    /// Takes a request in, and tells where a bound is passed with it.
    pub fn take(&mut self, endpoint: EndpointId, settings: &DriftSettings, record: &Record) {
        let key = (endpoint, record.version);
        if !self.trackers.contains_key(&key) && !self.open(key, record) {
            return;
        }
        let Some(tracker) = self.trackers.get_mut(&key) else { return };
        let window = u64::from(settings.window_texts);
        for (text, answer) in record.texts.iter().zip(&record.answers) {
            let Some(found) = tracker.add(text, answer, window, settings.bound) else { continue };
            let last = LastWindow {
                distances: found.distances,
                texts: found.texts,
                standing: found.standing,
                at: record.at,
            };
            self.readings.change(key, |reading| reading.last = Some(last));
            let reference_texts = tracker.profile().texts();
            match (found.crossing, &settings.webhook) {
                (Crossing::None, _) => continue,
                (Crossing::Outward, Some(webhook)) => {
                    let alarm = Alarm::of_drift(
                        (record.name.to_string(), record.version),
                        settings.bound,
                        &found.distances,
                        (found.texts, reference_texts),
                        record.at,
                    );
                    let (version, webhook) = (record.version, webhook.clone());
                    let wish = AlarmWish { endpoint, version, webhook, alarm };
                    if self.alarms.try_send(wish).is_err() {
                        let failed = "too many alarms were waiting".to_owned();
                        self.readings
                            .change(key, |reading| reading.alarm = Some(AlarmEnd::Failed(failed)));
                    }
                }
                // It is noted when the alarm was delivered, so that it is not lost with the server.
                _ => store(&self.folder, key, tracker.profile(), found.standing),
            }
            tracing::info!(endpoint = %record.name, version = record.version,
                distance = found.distances.largest(), crossing = ?found.crossing, "drift");
        }
        let texts = tracker.texts();
        self.readings.change(key, |reading| reading.texts = texts);
    }

    /// Reads the reference of a version, or asks for one to be made; says whether it is there.
    fn open(&mut self, key: Key, record: &Record) -> bool {
        let waits = self.asked.get(&key).is_some_and(|asked| asked.elapsed() < REFERENCE_RETRY);
        if waits {
            return false;
        }
        if let Some(stored) = read(&path(&self.folder, key)) {
            let standing = if stored.is_beyond { Standing::Beyond } else { Standing::Within };
            self.begin(key, stored.profile, standing);
            return true;
        }
        let (endpoint, version) = key;
        let (workspace, name) = (record.workspace, record.name.clone());
        // Where too many wait the next request asks again.
        let wish = ReferenceWish { workspace, endpoint, name, version };
        if self.references.try_send(wish).is_ok() {
            self.asked.insert(key, Instant::now());
            self.readings.change(key, |_| {});
        }
        false
    }

    fn begin(&mut self, key: Key, profile: Profile, standing: Standing) {
        let texts = profile.texts();
        self.asked.remove(&key);
        self.trackers.insert(key, Tracker::new(profile, standing));
        self.readings.change(key, |reading| {
            *reading = DriftReading { reference_texts: Some(texts), ..DriftReading::default() };
        });
    }

    /// Takes a reference that was made, or why none could be.
    pub fn referred(&mut self, key: Key, made: Result<Profile, String>) {
        match made {
            Ok(profile) => {
                store(&self.folder, key, &profile, Standing::Within);
                self.begin(key, profile, Standing::Within);
            }
            Err(why) => self.readings.change(key, |reading| reading.no_reference = Some(why)),
        }
    }

    /// Notes what came of an alarm.
    pub fn alarmed(&mut self, key: Key, end: AlarmEnd) {
        if let Some(tracker) = self.trackers.get(&key) {
            store(&self.folder, key, tracker.profile(), tracker.standing());
        }
        self.readings.change(key, |reading| reading.alarm = Some(end));
    }

    /// Lets go of endpoints that are gone or no longer watched.
    pub fn forget(&mut self, is_gone: impl Fn(EndpointId) -> bool) {
        self.trackers.retain(|(endpoint, _), _| !is_gone(*endpoint));
        self.asked.retain(|(endpoint, _), _| !is_gone(*endpoint));
        self.readings.forget(&is_gone);
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let endpoint = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if endpoint.is_some_and(&is_gone)
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::error!(path = %entry.path().display(), %error, "remove references");
            }
        }
    }
}

fn path(folder: &Path, (endpoint, version): Key) -> PathBuf {
    folder.join(endpoint.to_string()).join(format!("{version}.json"))
}

/// One that is missing or damaged is made anew.
fn read(path: &Path) -> Option<Stored> {
    let bytes = std::fs::read(path).ok()?;
    let stored: Stored = serde_json::from_slice(&bytes).ok()?;
    stored.profile.is_sound().then_some(stored)
}

/// Writes a file whole before it gets its name. What fails is made anew after the next start.
fn store(folder: &Path, key: Key, profile: &Profile, standing: Standing) {
    let path = path(folder, key);
    let stored = Stored { profile: profile.clone(), is_beyond: standing == Standing::Beyond };
    let json = serde_json::to_vec(&stored).expect("plain fields");
    let write = || -> std::io::Result<()> {
        let unfinished = path.with_extension("unfinished");
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(&unfinished, &json)?;
        std::fs::File::open(&unfinished)?.sync_all()?;
        std::fs::rename(&unfinished, &path)
    };
    if let Err(error) = write() {
        tracing::error!(path = %path.display(), %error, "keep a reference");
    }
}
