//! Models and encoders that are open at the moment.
//!
//! A model is mapped, not loaded: opening reads its header, and the kernel's page cache
//! holds the rest. What the cache bounds is the number of mappings; the one that was asked
//! for longest ago is closed first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use corral_blobs::BlobStore;
use corral_classifier::{Encoder, Model};
use corral_encoder::MiniLm;
use corral_types::BlobHash;

use crate::ServingError;
use crate::pool::{Pace, Unit};

/// Models open at once: each costs a mapping, of which Linux allows 65,530 a process, and
/// some kilobytes.
const MAX_OPEN_MODELS: usize = 16_384;

/// Encoders open at once: each packs some 25 MiB.
const MAX_OPEN_ENCODERS: usize = 8;

/// The most recently used values of a fallible function of a key.
struct Recent<K, V> {
    entries: Mutex<Entries<K, V>>,
    capacity: usize,
}

struct Entries<K, V> {
    values: HashMap<K, (V, u64)>,
    uses: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    fn new(capacity: usize) -> Self {
        Self { entries: Mutex::new(Entries { values: HashMap::new(), uses: 0 }), capacity }
    }

    /// The value, made by `open` where it is not at hand. Two threads may both make one;
    /// the first that is done stays.
    fn get<E>(&self, key: K, open: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(value) = self.lookup(key) {
            return Ok(value);
        }
        let opened = open()?;
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.uses += 1;
        let now = entries.uses;
        if entries.values.len() >= self.capacity && !entries.values.contains_key(&key) {
            let oldest = entries.values.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                entries.values.remove(&oldest);
            }
        }
        Ok(entries.values.entry(key).or_insert((opened, now)).0.clone())
    }

    /// Lets go of a value; whoever holds it keeps it.
    fn remove(&self, key: &K) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).values.remove(key);
    }

    fn lookup(&self, key: K) -> Option<V> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.uses += 1;
        let now = entries.uses;
        let (value, used) = entries.values.get_mut(&key)?;
        *used = now;
        Some(value.clone())
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
}

impl Opened {
    pub fn new(blobs: BlobStore) -> Self {
        Self {
            blobs,
            models: Recent::new(MAX_OPEN_MODELS),
            encoders: Recent::new(MAX_OPEN_ENCODERS),
        }
    }

    /// The model in this blob.
    ///
    /// # Errors
    /// When the blob is missing or does not hold a model.
    pub fn model(&self, blob: BlobHash) -> Result<Arc<OpenModel>, ServingError> {
        self.models.get(blob, || {
            let path = self.blobs.local_path(&blob).map_err(ServingError::Blob)?;
            let model = Model::open(&path).map_err(ServingError::Model)?;
            let unit = if model.encoder().is_some() { Unit::Tokens } else { Unit::Bytes };
            Ok(Arc::new(OpenModel { model, pace: Pace::new(unit) }))
        })
    }

    /// Closes a model once the requests under way are done; the next one opens it again.
    pub fn close_model(&self, blob: BlobHash) {
        self.models.remove(&blob);
    }

    /// The encoder in this blob.
    ///
    /// # Errors
    /// When the blob is missing or does not hold an encoder.
    pub fn encoder(&self, blob: BlobHash) -> Result<Arc<dyn Encoder>, ServingError> {
        let encoder = self.encoders.get(blob, || -> Result<_, ServingError> {
            let path = self.blobs.local_path(&blob).map_err(ServingError::Blob)?;
            Ok(Arc::new(MiniLm::open_verified(&path, blob).map_err(ServingError::Encoder)?))
        })?;
        Ok(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_goes_first_and_failures_are_not_kept() {
        let recent: Recent<u32, u32> = Recent::new(2);
        let get = |key| recent.get(key, || Ok::<_, ()>(key * 10)).unwrap();
        get(1);
        get(2);
        get(1);
        get(3);
        assert_eq!(recent.get(1, || Err("opened again")), Ok(10));
        assert_eq!(recent.get(2, || Err("opened again")), Err("opened again"));
        assert_eq!(recent.get(3, || Err("opened again")), Ok(30));
        recent.remove(&3);
        assert_eq!(recent.get(3, || Err("opened again")), Err("opened again"));
    }
}
