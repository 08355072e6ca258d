//! Models and encoders that are open at the moment.
//!
//! A model is mapped, not loaded: opening reads its header, and the kernel's page cache
//! holds the rest. What was asked for longest ago is closed first where the mappings pass their
//! number or their bytes, and what nobody asked for in a while is closed anyway, but for what
//! endpoints keep warm.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corral_blobs::BlobStore;
use corral_classifier::{Encoder, Model};
use corral_encoder::MiniLm;
use corral_observation::Opening;
use corral_types::BlobHash;

use crate::pool::{Pace, Unit};
use crate::{OPEN_MODEL_BYTES, OPEN_MODELS, ServingError};

/// Models open at once: each costs a mapping, of which Linux allows 65,530 a process.
const MAX_OPEN_MODELS: usize = 32_768;

/// Encoders open at once.
const MAX_OPEN_ENCODERS: usize = 8;

/// What an open model takes beside the pages of its file, about.
const MODEL_OVERHEAD_BYTES: u64 = 8 << 10;

/// How much may be open, and for how long unasked.
#[derive(Clone, Copy, Debug)]
pub struct OpenLimits {
    /// Bytes of all open models: their files, which are in memory at most whole.
    pub model_bytes: u64,
    /// What was not asked for so long is closed.
    pub idle: Duration,
}

/// The most recently used values of a fallible function of a key, within a number and a weight.
struct Recent<K, V> {
    entries: Mutex<Entries<K, V>>,
    capacity: usize,
    budget_bytes: u64,
}

struct Entries<K, V> {
    values: HashMap<K, Entry<V>>,
    /// The coldest first.
    uses: BTreeMap<u64, K>,
    next_use: u64,
    held_bytes: u64,
    /// Those that stay whether they are asked for or not.
    kept: HashSet<K>,
}

struct Entry<V> {
    value: V,
    bytes: u64,
    use_number: u64,
    used: Instant,
}

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    fn new(capacity: usize, budget_bytes: u64) -> Self {
        let entries = Entries {
            values: HashMap::new(),
            uses: BTreeMap::new(),
            next_use: 0,
            held_bytes: 0,
            kept: HashSet::new(),
        };
        Self { entries: Mutex::new(entries), capacity, budget_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, made by `open` with its weight where it is not at hand, and whether it was. Two
    /// threads may both make one; the first that is done stays.
    fn get<E>(
        &self,
        key: K,
        open: impl FnOnce() -> Result<(V, u64), E>,
    ) -> Result<(V, Opening), E> {
        if let Some(value) = self.lock().touch(key) {
            return Ok((value, Opening::Warm));
        }
        let (value, bytes) = open()?;
        let mut entries = self.lock();
        if let Some(first) = entries.touch(key) {
            return Ok((first, Opening::Cold));
        }
        entries.insert(key, value.clone(), bytes);
        let cold = entries.trim(self.capacity, self.budget_bytes);
        drop(entries);
        // Unmapping takes its time, which nobody else shall wait for.
        drop(cold);
        Ok((value, Opening::Cold))
    }

    /// Lets go of a value; whoever holds it keeps it.
    fn remove(&self, key: &K) {
        let removed = self.lock().remove(key);
        drop(removed);
    }

    /// Lets go of all that was not used since, but for what is kept.
    fn remove_unused_since(&self, since: Instant) {
        let mut entries = self.lock();
        let unused = entries.uses.values().copied();
        let unused = unused.take_while(|key| entries.values[key].used < since);
        let unused: Vec<K> = unused.filter(|key| !entries.kept.contains(key)).collect();
        let removed: Vec<Option<V>> = unused.iter().map(|key| entries.remove(key)).collect();
        drop(entries);
        drop(removed);
    }

    /// How many there are, and their bytes.
    fn held(&self) -> (usize, u64) {
        let entries = self.lock();
        (entries.values.len(), entries.held_bytes)
    }

    fn shut_among(&self, keys: &HashSet<K>) -> HashSet<K> {
        let entries = self.lock();
        keys.iter().filter(|key| !entries.values.contains_key(key)).copied().collect()
    }

    fn keep(&self, kept: HashSet<K>) {
        self.lock().kept = kept;
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Entries<K, V> {
    fn touch(&mut self, key: K) -> Option<V> {
        let entry = self.values.get_mut(&key)?;
        self.uses.remove(&entry.use_number);
        self.next_use += 1;
        self.uses.insert(self.next_use, key);
        entry.use_number = self.next_use;
        entry.used = Instant::now();
        Some(entry.value.clone())
    }

    fn insert(&mut self, key: K, value: V, bytes: u64) {
        self.next_use += 1;
        self.uses.insert(self.next_use, key);
        self.held_bytes += bytes;
        let entry = Entry { value, bytes, use_number: self.next_use, used: Instant::now() };
        self.values.insert(key, entry);
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let Entry { value, bytes, use_number, .. } = self.values.remove(key)?;
        self.uses.remove(&use_number);
        self.held_bytes -= bytes;
        Some(value)
    }

    /// Takes out the coldest that are beyond the limits, but the one just used and those kept.
    fn trim(&mut self, capacity: usize, budget_bytes: u64) -> Vec<V> {
        let mut cold = Vec::new();
        while self.values.len() > capacity || self.held_bytes > budget_bytes {
            let mut coldest = self.uses.iter().take(self.uses.len() - 1).map(|(_, key)| *key);
            let Some(coldest) = coldest.find(|key| !self.kept.contains(key)) else { break };
            cold.extend(self.remove(&coldest));
        }
        cold
    }
}

/// A model that is open.
pub struct OpenModel {
    pub model: Model,
    /// What its texts take.
    pub pace: Pace,
}

/// Opens models and encoders from the blob store and keeps them open.
pub struct Opened {
    blobs: BlobStore,
    models: Recent<BlobHash, Arc<OpenModel>>,
    encoders: Recent<BlobHash, Arc<MiniLm>>,
    idle: Duration,
}

impl Opened {
    pub fn new(blobs: BlobStore, limits: OpenLimits) -> Self {
        Self {
            blobs,
            models: Recent::new(MAX_OPEN_MODELS, limits.model_bytes),
            encoders: Recent::new(MAX_OPEN_ENCODERS, u64::MAX),
            idle: limits.idle,
        }
    }

    /// The model in this blob, and whether it was open.
    ///
    /// # Errors
    /// When the blob is missing or does not hold a model.
    pub fn model(&self, blob: BlobHash) -> Result<(Arc<OpenModel>, Opening), ServingError> {
        self.models.get(blob, || {
            let path = self.blobs.local_path(&blob).map_err(ServingError::Blob)?;
            let model = Model::open(&path).map_err(ServingError::Model)?;
            let unit = if model.encoder().is_some() { Unit::Tokens } else { Unit::Bytes };
            let bytes = model.file_bytes() + MODEL_OVERHEAD_BYTES;
            Ok((Arc::new(OpenModel { model, pace: Pace::new(unit) }), bytes))
        })
    }

    /// Closes a model once the requests under way are done; the next one opens it again.
    pub fn close_model(&self, blob: BlobHash) {
        self.models.remove(&blob);
    }

    /// The encoder in this blob, and whether it was open.
    ///
    /// # Errors
    /// When the blob is missing or does not hold an encoder.
    pub fn encoder(&self, blob: BlobHash) -> Result<(Arc<dyn Encoder>, Opening), ServingError> {
        let (encoder, opening) = self.encoders.get(blob, || -> Result<_, ServingError> {
            let path = self.blobs.local_path(&blob).map_err(ServingError::Blob)?;
            let encoder = MiniLm::open_verified(&path, blob).map_err(ServingError::Encoder)?;
            let bytes = encoder.file_bytes();
            Ok((Arc::new(encoder), bytes))
        })?;
        Ok((encoder, opening))
    }

    /// Tells the metrics what is open.
    pub fn tell(&self) {
        let (open, bytes) = self.models.held();
        metrics::gauge!(OPEN_MODELS.name).set(open as f64);
        metrics::gauge!(OPEN_MODEL_BYTES.name).set(bytes as f64);
    }

    /// What stays open from now on, and nothing else longer than it is asked for. Returns those of
    /// the models that are not open yet.
    pub fn keep(
        &self,
        models: HashSet<BlobHash>,
        encoders: HashSet<BlobHash>,
    ) -> HashSet<BlobHash> {
        let shut = self.models.shut_among(&models);
        self.models.keep(models);
        self.encoders.keep(encoders);
        if let Some(since) = Instant::now().checked_sub(self.idle) {
            self.models.remove_unused_since(since);
            self.encoders.remove_unused_since(since);
        }
        shut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of ten times their key, which weigh 10 bytes each.
    fn get(recent: &Recent<u32, u32>, key: u32) {
        let is_cold = !is_open(recent, key);
        let (value, opening) = recent.get(key, || Ok::<_, ()>((key * 10, 10))).unwrap();
        assert_eq!((value, opening == Opening::Cold), (key * 10, is_cold));
    }

    fn is_open(recent: &Recent<u32, u32>, key: u32) -> bool {
        recent.lock().values.contains_key(&key)
    }

    #[test]
    fn the_longest_unused_goes_first_and_failures_are_not_kept() {
        let recent = Recent::new(2, u64::MAX);
        get(&recent, 1);
        get(&recent, 2);
        get(&recent, 1);
        get(&recent, 3);
        assert_eq!([1, 2, 3].map(|key| is_open(&recent, key)), [true, false, true]);
        assert_eq!(recent.get(2, || Err("cannot be opened")), Err("cannot be opened"));
        assert!(!is_open(&recent, 2));
        recent.remove(&3);
        assert_eq!((is_open(&recent, 3), recent.lock().held_bytes), (false, 10));
    }

    #[test]
    fn the_budget_holds_but_for_one_that_is_larger_and_those_kept() {
        let recent = Recent::new(100, 35);
        (1..=3).for_each(|key| get(&recent, key));
        recent.keep(HashSet::from([1]));
        get(&recent, 4);
        assert_eq!([1, 2, 3, 4].map(|key| is_open(&recent, key)), [true, false, true, true]);
        assert_eq!(recent.get(5, || Ok::<_, ()>((50, 1000))), Ok((50, Opening::Cold)));
        assert_eq!([1, 3, 4, 5].map(|key| is_open(&recent, key)), [true, false, false, true]);
        get(&recent, 6);
        assert_eq!([1, 5, 6].map(|key| is_open(&recent, key)), [true, false, true]);
        assert_eq!(recent.lock().held_bytes, 20);
    }

    #[test]
    fn what_nobody_asked_for_goes_but_for_what_is_kept() {
        let recent = Recent::new(100, u64::MAX);
        (1..=3).for_each(|key| get(&recent, key));
        let since = Instant::now();
        get(&recent, 2);
        recent.keep(HashSet::from([3]));
        recent.remove_unused_since(since);
        assert_eq!([1, 2, 3].map(|key| is_open(&recent, key)), [false, true, true]);
        recent.keep(HashSet::new());
        recent.remove_unused_since(Instant::now());
        assert!(recent.lock().values.is_empty() && recent.lock().uses.is_empty());
    }
}
