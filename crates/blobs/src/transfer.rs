//! Blobs out to a backup and back in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use corral_types::BlobHash;

use crate::store::sync_directory;
use crate::{BlobError, BlobStore};

/// What an export or import moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    pub blobs: u64,
    pub bytes: u64,
}

impl BlobStore {
    /// Puts these blobs into the directory `to`, in the layout of `objects/`, and syncs them.
    /// On the store's own file system they are hard links, which cost nothing and keep the
    /// bytes when the store deletes them; elsewhere they are copies. What is there already,
    /// from an earlier export, stays.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] for the first blob that is missing, or the disk's own.
    pub fn export(
        &self,
        hashes: impl IntoIterator<Item = BlobHash>,
        to: impl AsRef<Path>,
    ) -> Result<Transferred, BlobError> {
        let to = to.as_ref();
        fs::create_dir_all(to).map_err(BlobError::io("create", to))?;
        let mut transferred = Transferred::default();
        let mut touched = BTreeSet::new();
        for hash in hashes {
            let digits = hash.to_string();
            let shard = to.join(&digits[..2]);
            fs::create_dir_all(&shard).map_err(BlobError::io("create", &shard))?;
            transferred.bytes += self.export_one(&hash, &shard.join(&digits[2..]))?;
            transferred.blobs += 1;
            touched.insert(shard);
        }
        touched.iter().try_for_each(|shard| sync_directory(shard))?;
        sync_directory(to)?;
        Ok(transferred)
    }

    /// Stores every blob of an [export](Self::export), each checked against its name.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] for a file whose bytes are not what its name says; files before it
    /// are stored by then. Files whose names are not hashes are passed over.
    pub fn import(&self, from: impl AsRef<Path>) -> Result<Transferred, BlobError> {
        let mut transferred = Transferred::default();
        for shard in list(from.as_ref())? {
            if !shard.is_dir() {
                continue;
            }
            for path in list(&shard)? {
                let Some(expected) = hash_of_path(&path) else { continue };
                let mut file = File::open(&path).map_err(BlobError::io("open", &path))?;
                let mut writer = self.writer()?.expect_hash(expected);
                writer.append_all_from(&mut file)?;
                let put = writer.finish().map_err(|error| match error {
                    BlobError::Mismatch { found, .. } => BlobError::Damaged { path, found },
                    other => other,
                })?;
                transferred.blobs += 1;
                transferred.bytes += put.bytes;
            }
        }
        Ok(transferred)
    }

    fn export_one(&self, hash: &BlobHash, target: &Path) -> Result<u64, BlobError> {
        let bytes = self.len(hash)?;
        if fs::metadata(target).is_ok_and(|there| there.len() == bytes) {
            return Ok(bytes);
        }
        let object = self.object_path(hash);
        // Copied or linked under another name first: a file with a blob's name is whole.
        let partial = target.with_extension("partial");
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BlobError::io("remove", &partial)(error));
            }
            _ => {}
        }
        if fs::hard_link(&object, &partial).is_err() {
            fs::copy(&object, &partial).map_err(BlobError::io("copy to", &partial))?;
            File::open(&partial)
                .and_then(|file| file.sync_all())
                .map_err(BlobError::io("sync", &partial))?;
        }
        fs::rename(&partial, target).map_err(BlobError::io("name", target))?;
        Ok(bytes)
    }
}

fn list(dir: &Path) -> Result<Vec<std::path::PathBuf>, BlobError> {
    fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(BlobError::io("list", dir))
}

fn hash_of_path(path: &Path) -> Option<BlobHash> {
    let shard = path.parent()?.file_name()?.to_str()?;
    format!("{shard}{}", path.file_name()?.to_str()?).parse().ok()
}
