//! Where layers lie: made in a scratch folder, moved when whole, counted, evicted.
//!
//! ```text
//! DIR/lock  layers/ID/{tree/, about.json}  records/KEY-BASE.json  scratch/  uv-cache/  machine/
//! ```
//!
//! A layer's file contents are not synced before it counts as there: syncing hundreds of
//! megabytes would be most of a build. Instead a layer notes the boot in which it was made, and
//! opening syncs those of the present boot; one of an earlier boot that was never synced may be
//! torn, and is dropped.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, Mode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::BuildError;
use crate::files;

/// After eviction this share of the quota, in percent, may still be taken, so that the next layer
/// does not evict again.
const EVICT_TO_PERCENT: u64 = 90;

/// A layer's use is noted on disk this often at most, in seconds: an image may be asked for
/// thousands of times a second.
const TOUCH_EVERY_S: u64 = 60;

/// What indexes said of packages is kept up to this size; beyond it all of it goes at the next
/// start. A large package has a few megabytes of releases.
const MAX_INDEX_BYTES: u64 = 512 << 20;

/// The name of a layer: what it is and the hash of what made it.
pub type LayerId = String;

/// What stands beside a layer's tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    bytes: u64,
    boot: String,
    #[serde(default)]
    synced: bool,
    /// What the maker of the layer wants to know again.
    #[serde(default)]
    note: Value,
}

struct Entry {
    bytes: u64,
    note: Value,
    used: SystemTime,
    touched: SystemTime,
    /// More than one reference: something uses the layer.
    users: Arc<()>,
}

/// Keeps layers from being evicted, as long as a copy of it lives.
#[derive(Clone, Default)]
pub struct Hold {
    _users: Vec<Arc<()>>,
}

impl Hold {
    pub fn and(mut self, other: &Hold) -> Self {
        self._users.extend(other._users.iter().cloned());
        self
    }
}

/// A layer in use.
#[derive(Clone)]
pub struct Layer {
    pub id: LayerId,
    pub tree: PathBuf,
    pub note: Value,
    user: Arc<()>,
}

impl Layer {
    pub fn hold(&self) -> Hold {
        Hold { _users: vec![Arc::clone(&self.user)] }
    }
}

/// A folder that is removed with its value.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed when the images are opened again.
        drop(files::remove_tree(&self.path));
    }
}

pub struct Store {
    dir: PathBuf,
    quota_bytes: u64,
    boot: String,
    layers: Mutex<HashMap<LayerId, Entry>>,
    number: AtomicU64,
    /// Held for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens or makes it, removes what an earlier process left unfinished, counts what is there.
    pub fn open(dir: &Path, quota_bytes: u64) -> Result<Self, BuildError> {
        fs::create_dir_all(dir).map_err(BuildError::io("make", dir))?;
        // Files in layers keep their set-user-id bits: nobody else of the machine may reach them.
        rustix::fs::chmod(dir, Mode::RWXU)
            .map_err(|errno| BuildError::io("close to others", dir)(errno.into()))?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(BuildError::io("open", &path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| BuildError::io("lock for this process alone", &path)(errno.into()))?;
        let scratch = dir.join("scratch");
        files::remove_tree(&scratch).map_err(BuildError::io("remove", &scratch))?;
        let indexes = dir.join("uv-cache");
        if indexes.is_dir() {
            let bytes = files::own_bytes(&indexes).map_err(BuildError::io("count", &indexes))?;
            if bytes > MAX_INDEX_BYTES {
                files::remove_tree(&indexes).map_err(BuildError::io("remove", &indexes))?;
            }
        }
        for name in ["scratch", "layers", "records", "machine"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(BuildError::io("make", &path))?;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let store = Self {
            dir: dir.to_owned(),
            quota_bytes,
            boot: boot.trim().to_owned(),
            layers: Mutex::default(),
            number: AtomicU64::new(0),
            _lock: lock,
        };
        store.take_stock()?;
        Ok(store)
    }

    fn take_stock(&self) -> Result<(), BuildError> {
        let root = self.dir.join("layers");
        let listed = fs::read_dir(&root).map_err(BuildError::io("list", &root))?;
        let mut unsynced = Vec::new();
        let mut layers = self.lock();
        for entry in listed {
            let path = entry.map_err(BuildError::io("list", &root))?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let about = read_about(&path);
            let Some((about, used)) = about.filter(|(a, _)| a.synced || a.boot == self.boot) else {
                self.discard(&path)?;
                continue;
            };
            if !about.synced {
                unsynced.push((path.clone(), about.clone()));
            }
            let About { bytes, note, .. } = about;
            let users = Arc::default();
            layers.insert(id.to_owned(), Entry { bytes, note, used, touched: used, users });
        }
        drop(layers);
        if !unsynced.is_empty() {
            let folder = File::open(&root).map_err(BuildError::io("open", &root))?;
            rustix::fs::syncfs(&folder)
                .map_err(|errno| BuildError::io("sync", &root)(errno.into()))?;
            for (path, about) in unsynced {
                write_about(&path, &About { synced: true, ..about })?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LayerId, Entry>> {
        self.layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new empty folder on the same file system as the layers.
    pub fn scratch(&self) -> Result<Scratch, BuildError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join("scratch").join(number.to_string());
        fs::create_dir(&path).map_err(BuildError::io("make", &path))?;
        Ok(Scratch { path })
    }

    /// A number that no other layer of this process or an earlier one of this boot has: the time.
    pub fn unique(&self) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{:x}-{:x}", now.as_nanos(), self.number.fetch_add(1, Ordering::Relaxed))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join("layers").join(id)
    }

    /// A layer, if it is there; it counts as used now.
    pub fn get(&self, id: &str) -> Option<Layer> {
        let mut layers = self.lock();
        let entry = layers.get_mut(id)?;
        let now = SystemTime::now();
        entry.used = now;
        let path = self.path(id);
        if now.duration_since(entry.touched).is_ok_and(|age| age.as_secs() >= TOUCH_EVERY_S) {
            entry.touched = now;
            // Only the order of eviction after a restart hangs on it.
            let about = File::options().append(true).open(path.join("about.json"));
            drop(about.and_then(|file| file.set_modified(now)));
        }
        let (note, user) = (entry.note.clone(), Arc::clone(&entry.users));
        Some(Layer { id: id.to_owned(), tree: path.join("tree"), note, user })
    }

    /// Makes a finished tree a layer. If there is one of that name already, that one stays.
    pub fn adopt(&self, id: &str, tree: &Path, note: Value) -> Result<Layer, BuildError> {
        let bytes = files::own_bytes(tree).map_err(BuildError::io("count", tree))?;
        self.adopt_counted(id, tree, bytes, note)
    }

    /// As [`adopt`](Self::adopt), where it is known how many bytes the tree takes for itself.
    pub fn adopt_counted(
        &self,
        id: &str,
        tree: &Path,
        bytes: u64,
        note: Value,
    ) -> Result<Layer, BuildError> {
        if let Some(layer) = self.get(id) {
            return Ok(layer);
        }
        // The top one's mode is that of a container's root.
        fs::set_permissions(tree, fs::Permissions::from_mode(0o755))
            .map_err(BuildError::io("set the mode of", tree))?;
        if !id.starts_with(crate::base::PREFIX) {
            self.make_room(bytes)?;
        }
        let whole = self.scratch()?;
        let folder = whole.path().join("layer");
        fs::create_dir(&folder).map_err(BuildError::io("make", &folder))?;
        let about = About { bytes, boot: self.boot.clone(), synced: false, note: note.clone() };
        write_about(&folder, &about)?;
        let inner = folder.join("tree");
        fs::rename(tree, &inner).map_err(BuildError::io("move", tree))?;
        let path = self.path(id);
        let mut layers = self.lock();
        if !layers.contains_key(id) {
            fs::rename(&folder, &path).map_err(BuildError::io("move into place", &path))?;
            let now = SystemTime::now();
            let entry = Entry { bytes, note, used: now, touched: now, users: Arc::default() };
            layers.insert(id.to_owned(), entry);
        }
        drop(layers);
        self.get(id).ok_or(BuildError::Quota { quota_bytes: self.quota_bytes })
    }

    /// Bytes in layers that count, and how many layers there are.
    pub fn usage(&self) -> (u64, usize) {
        let layers = self.lock();
        (counted(&layers), layers.len())
    }

    /// Layers by what their name begins with.
    pub fn ids(&self, prefix: &str) -> Vec<LayerId> {
        self.lock().keys().filter(|id| id.starts_with(prefix)).cloned().collect()
    }

    /// Evicts layers, longest unused first, until so many bytes more fit.
    fn make_room(&self, bytes: u64) -> Result<(), BuildError> {
        let mut evicted = Vec::new();
        let mut layers = self.lock();
        if counted(&layers).saturating_add(bytes) > self.quota_bytes {
            let aim = (self.quota_bytes / 100 * EVICT_TO_PERCENT).saturating_sub(bytes);
            let mut idle: Vec<(SystemTime, LayerId)> = layers
                .iter()
                .filter(|(id, entry)| {
                    Arc::strong_count(&entry.users) == 1 && !id.starts_with(crate::base::PREFIX)
                })
                .map(|(id, entry)| (entry.used, id.clone()))
                .collect();
            idle.sort_unstable();
            for (_, id) in idle {
                if counted(&layers) <= aim {
                    break;
                }
                layers.remove(&id);
                evicted.push(id);
            }
        }
        let fits = counted(&layers).saturating_add(bytes) <= self.quota_bytes;
        drop(layers);
        for id in evicted {
            self.discard(&self.path(&id))?;
        }
        match fits {
            true => Ok(()),
            false => Err(BuildError::Quota { quota_bytes: self.quota_bytes }),
        }
    }

    /// Forgets a layer that nothing uses.
    pub fn remove(&self, id: &str) -> Result<(), BuildError> {
        let mut layers = self.lock();
        if layers.get(id).is_none_or(|entry| Arc::strong_count(&entry.users) > 1) {
            return Ok(());
        }
        layers.remove(id);
        drop(layers);
        self.discard(&self.path(id))
    }

    /// Moves it out of sight first, so that a kill leaves no half of it in place.
    fn discard(&self, path: &Path) -> Result<(), BuildError> {
        let scratch = self.scratch()?;
        fs::rename(path, scratch.path().join("gone")).map_err(BuildError::io("remove", path))
    }
}

fn counted(layers: &HashMap<LayerId, Entry>) -> u64 {
    let counts = |id: &str| !id.starts_with(crate::base::PREFIX);
    layers.iter().filter(|(id, _)| counts(id)).map(|(_, entry)| entry.bytes).sum()
}

fn read_about(layer: &Path) -> Option<(About, SystemTime)> {
    let path = layer.join("about.json");
    let about = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    Some((about, fs::metadata(&path).and_then(|found| found.modified()).ok()?))
}

/// Writes a small file so that it is there whole or not at all, whenever the power fails.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)
}

fn write_about(layer: &Path, about: &About) -> Result<(), BuildError> {
    let path = layer.join("about.json");
    let bytes = serde_json::to_vec(about).expect("numbers, texts and JSON can be written as JSON");
    fs::write(&path, bytes).map_err(BuildError::io("write", &path))
}
