//! What is in the store, and removing what nobody refers to.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::time::{Duration, SystemTime};

use corral_types::BlobHash;

use crate::store::Shard;
use crate::{BlobError, BlobStore};

/// A stored blob, as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobEntry {
    pub hash: BlobHash,
    pub bytes: u64,
    /// When it was last put or revived.
    pub modified: SystemTime,
}

/// What the store takes and has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub blobs: u64,
    pub bytes: u64,
    /// Free on the disk, the reserve included.
    pub free_bytes: u64,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub deleted_blobs: u64,
    pub deleted_bytes: u64,
    /// Referred to.
    pub kept_blobs: u64,
    /// Not referred to, but put or revived within the grace period.
    pub spared_blobs: u64,
}

impl BlobStore {
    /// All blobs in no particular order. A blob that comes or goes meanwhile may or may not be
    /// seen; files whose names are not hashes are not blobs and are passed over.
    pub fn iter(&self) -> Blobs<'_> {
        Blobs { store: self, next_shard: 0, shard: None }
    }

    /// Counts blobs and bytes by listing them all.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn usage(&self) -> Result<Usage, BlobError> {
        let empty = Usage { free_bytes: self.free_bytes()?, ..Usage::default() };
        self.iter().try_fold(empty, |mut usage, entry| {
            usage.blobs += 1;
            usage.bytes += entry?.bytes;
            Ok(usage)
        })
    }

    /// Deletes every blob that `is_referenced` denies and that was last put or revived more than
    /// `grace` before this call. Puts go on meanwhile; the protocol at the top of this crate says
    /// what makes that safe.
    ///
    /// `is_referenced` must know every reference that exists when this is called. A grace period
    /// covers the longest time from a put to its reference: hours, not seconds.
    ///
    /// # Errors
    /// When the disk fails; what was deleted until then stays deleted.
    pub fn sweep(
        &self,
        is_referenced: impl Fn(&BlobHash) -> bool,
        grace: Duration,
    ) -> Result<Swept, BlobError> {
        // Before the epoch nothing is old enough.
        let put_before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut swept = Swept::default();
        for entry in self.iter() {
            let entry = entry?;
            if is_referenced(&entry.hash) {
                swept.kept_blobs += 1;
            } else if entry.modified < put_before && self.delete_if_old(&entry.hash, put_before)? {
                swept.deleted_blobs += 1;
                swept.deleted_bytes += entry.bytes;
            } else {
                swept.spared_blobs += 1;
            }
        }
        Ok(swept)
    }

    /// Looks at the age again under the lock, where it cannot change any more.
    fn delete_if_old(&self, hash: &BlobHash, put_before: SystemTime) -> Result<bool, BlobError> {
        let _shard = Shard::lock(self.shard_path(hash))?;
        let path = self.object_path(hash);
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let outcome = match modified {
            Ok(modified) if modified < put_before => fs::remove_file(&path).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map_err(BlobError::io("delete", &path)),
        }
    }
}

/// See [`BlobStore::iter`].
pub struct Blobs<'a> {
    store: &'a BlobStore,
    next_shard: u16,
    shard: Option<(String, ReadDir)>,
}

impl Iterator for Blobs<'_> {
    type Item = Result<BlobEntry, BlobError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((prefix, entries)) = &mut self.shard else {
                if self.next_shard > 255 {
                    return None;
                }
                let prefix = format!("{:02x}", self.next_shard);
                let path = self.store.objects().join(&prefix);
                self.next_shard += 1;
                match fs::read_dir(&path) {
                    Ok(entries) => self.shard = Some((prefix, entries)),
                    Err(error) => return Some(Err(BlobError::io("list", &path)(error))),
                }
                continue;
            };
            let found = match entries.next() {
                None => Ok(None),
                Some(entry) => entry.and_then(|entry| describe(prefix, &entry)).map(Some),
            };
            match found {
                Ok(None) => self.shard = None,
                Ok(Some(None)) => {}
                Ok(Some(Some(entry))) => return Some(Ok(entry)),
                Err(error) => {
                    let path = self.store.objects().join(&*prefix);
                    self.shard = None;
                    return Some(Err(BlobError::io("list", &path)(error)));
                }
            }
        }
    }
}

/// `None` for what is not a blob, or is gone by now.
fn describe(prefix: &str, entry: &DirEntry) -> io::Result<Option<BlobEntry>> {
    let name = entry.file_name();
    let hash = name.to_str().and_then(|name| format!("{prefix}{name}").parse().ok());
    let Some(hash) = hash else { return Ok(None) };
    match entry.metadata() {
        Ok(metadata) => {
            Ok(Some(BlobEntry { hash, bytes: metadata.len(), modified: metadata.modified()? }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
