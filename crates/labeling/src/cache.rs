//! Votes that are known already, by what they depend on: the function's hash and the part's.
//!
//! Some lie in memory, all in files below a folder, one folder a part. Files are written whole
//! or not at all and carry a checksum; one that is damaged or gone is computed again, so nothing
//! here needs to be synced or backed up.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use corral_labels::VoteLayer;
use corral_types::{BlobHash, MIB};

/// What layers may take in memory: those of some hundred functions over some million rows.
const MAX_MEMORY_BYTES: usize = 256 * MIB as usize;
/// What the files may take; beyond, those of the parts unused for longest go.
const MAX_FILE_BYTES: u64 = 4096 * MIB;

/// A function's hash and a part's.
type Key = (BlobHash, BlobHash);

/// The layers that are kept.
pub struct VoteCache {
    folder: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    layers: HashMap<Key, (Arc<VoteLayer>, u64)>,
    bytes: usize,
    /// Counts uses, so that the layer unused for longest is known.
    tick: u64,
}

impl VoteCache {
    /// A cache whose files lie below `folder`; without one, in memory alone.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, kept: Mutex::default() }
    }

    /// The layer of a function over a part, if it is known.
    pub fn get(&self, function: BlobHash, part: BlobHash) -> Option<Arc<VoteLayer>> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.tick += 1;
            let tick = kept.tick;
            if let Some((layer, used)) = kept.layers.get_mut(&(function, part)) {
                *used = tick;
                return Some(Arc::clone(layer));
            }
        }
        let bytes = fs_err::read(self.path(function, part)?).ok()?;
        let layer = Arc::new(VoteLayer::from_bytes(&bytes).ok()?);
        self.keep((function, part), &layer);
        Some(layer)
    }

    /// Keeps a layer. Where it cannot be written it is computed again another time.
    pub fn put(&self, function: BlobHash, part: BlobHash, layer: &Arc<VoteLayer>) {
        self.keep((function, part), layer);
        if let Some(path) = self.path(function, part)
            && let Err(error) = write_whole(&path, &layer.to_bytes())
        {
            tracing::warn!(path = %path.display(), %error, "votes are not kept on disk");
        }
    }

    /// Drops the files of parts that are no longer there, and of those unused for longest while
    /// all take more than they may.
    pub fn collect(&self, is_there: &dyn Fn(BlobHash) -> bool) {
        let Some(folder) = &self.folder else { return };
        let Ok(parts) = fs_err::read_dir(folder) else { return };
        let mut kept = Vec::new();
        for entry in parts.flatten() {
            let part: Option<BlobHash> =
                entry.file_name().to_str().and_then(|name| name.parse().ok());
            if part.is_some_and(is_there) {
                kept.push((last_change(&entry.path()), folder_bytes(&entry.path()), entry.path()));
            } else {
                let _ = fs_err::remove_dir_all(entry.path());
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, of_part, path) in kept {
            if bytes <= MAX_FILE_BYTES {
                break;
            }
            let _ = fs_err::remove_dir_all(path);
            bytes -= of_part;
        }
    }

    fn path(&self, function: BlobHash, part: BlobHash) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(part.to_string()).join(function.to_string()))
    }

    fn keep(&self, key: Key, layer: &Arc<VoteLayer>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.tick += 1;
        let tick = kept.tick;
        if let Some((old, _)) = kept.layers.insert(key, (Arc::clone(layer), tick)) {
            kept.bytes -= old.bytes();
        }
        kept.bytes += layer.bytes();
        if kept.bytes <= MAX_MEMORY_BYTES {
            return;
        }
        // A quarter at once, so that this is not done for every layer.
        let mut uses: Vec<(u64, Key)> =
            kept.layers.iter().map(|(key, (_, used))| (*used, *key)).collect();
        uses.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in uses {
            if kept.bytes <= MAX_MEMORY_BYTES / 4 * 3 {
                break;
            }
            if let Some((layer, _)) = kept.layers.remove(&key) {
                kept.bytes -= layer.bytes();
            }
        }
    }
}

fn write_whole(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let folder = path.parent().unwrap_or(path);
    fs_err::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn last_change(path: &std::path::Path) -> std::time::SystemTime {
    let changed = fs_err::metadata(path).and_then(|metadata| metadata.modified());
    changed.unwrap_or(std::time::UNIX_EPOCH)
}

fn folder_bytes(path: &std::path::Path) -> u64 {
    let Ok(files) = fs_err::read_dir(path) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use corral_labels::BlockVotes;

    use super::*;

    #[test]
    fn layers_outlive_the_process_and_damage_is_as_if_they_were_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (function, part) = (BlobHash::of(b"f"), BlobHash::of(b"p"));
        let block = BlockVotes::of_rows(1, (0..100).map(|row| (row % 3 == 0).then_some(0)));
        let layer = Arc::new(VoteLayer { blocks: vec![block] });
        VoteCache::new(Some(folder.path().into())).put(function, part, &layer);
        let again = VoteCache::new(Some(folder.path().into()));
        assert_eq!(again.get(function, part), Some(layer));
        assert_eq!(again.get(part, function), None);
        let path = folder.path().join(part.to_string()).join(function.to_string());
        std::fs::write(&path, b"CVL1 and nonsense").unwrap();
        let damaged = VoteCache::new(Some(folder.path().into()));
        assert_eq!(damaged.get(function, part), None);
        again.collect(&|_| false);
        assert!(!path.exists());
    }
}
