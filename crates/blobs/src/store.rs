//! The store: finding, publishing and removing blobs.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use corral_types::BlobHash;

use crate::BlobError;
use crate::scratch::Scratch;
use crate::writer::{BUFFER_BYTES, BlobWriter};

/// Free disk that puts leave untouched unless told otherwise: the catalog, the journal and the
/// logs of the same disk must go on when uploads are refused.
pub const DEFAULT_RESERVE_BYTES: u64 = 1 << 30;

/// How a store treats its disk.
#[derive(Clone, Copy, Debug)]
pub struct BlobStoreOptions {
    /// A put that would leave less than this free is refused.
    pub reserve_bytes: u64,
}

impl Default for BlobStoreOptions {
    fn default() -> Self {
        Self { reserve_bytes: DEFAULT_RESERVE_BYTES }
    }
}

/// A blob that is stored and synced: from now on it may be referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutBlob {
    pub hash: BlobHash,
    pub bytes: u64,
    /// Whether these bytes were not here before.
    pub was_new: bool,
}

/// A content-addressed store in a directory; clones share it.
#[derive(Clone)]
pub struct BlobStore {
    inner: Arc<Inner>,
}

struct Inner {
    objects: PathBuf,
    scratch: Scratch,
    options: BlobStoreOptions,
}

impl BlobStore {
    /// Opens the store in `dir`, creating it where it is missing. Several processes may have it
    /// open at once.
    ///
    /// # Errors
    /// When the directory cannot be created, read, locked or synced.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, BlobError> {
        Self::open_with(dir, BlobStoreOptions::default())
    }

    /// [`open`](Self::open) with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(dir: impl AsRef<Path>, options: BlobStoreOptions) -> Result<Self, BlobError> {
        let dir = dir.as_ref();
        let (objects, scratch) = (dir.join("objects"), dir.join("scratch"));
        create_directory(dir)?;
        create_directory(&scratch)?;
        create_shards(&objects)?;
        let scratch = Scratch::open(&scratch)?;
        Ok(Self { inner: Arc::new(Inner { objects, scratch, options }) })
    }

    /// Stores these bytes.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<PutBlob, BlobError> {
        let mut writer = self.writer()?.announce_bytes(bytes.len() as u64)?;
        writer.append(bytes)?;
        writer.finish()
    }

    /// Stores a copy of the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or the disk is full or fails.
    pub fn put_file(&self, path: impl AsRef<Path>) -> Result<PutBlob, BlobError> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(BlobError::io("open", path))?;
        let metadata = file.metadata().map_err(BlobError::io("read", path))?;
        let mut writer = self.writer()?.announce_bytes(metadata.len())?;
        writer.append_all_from(&mut file).map_err(|error| match error {
            BlobError::Source { source } => BlobError::io("read", path)(source),
            other => other,
        })?;
        writer.finish()
    }

    /// Stores the file at `path` by taking it over: it is moved, not copied, where it lies on the
    /// store's file system, as files in the [scratch folder](Self::scratch_folder) do. Nobody may
    /// have it open for writing.
    ///
    /// # Errors
    /// When the file cannot be read or moved, or the disk is full or fails; the file may then
    /// still be at `path`.
    pub fn adopt_file(&self, path: impl AsRef<Path>) -> Result<PutBlob, BlobError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(BlobError::io("open", path))?;
        let (hash, bytes) = hash_file(&file, path)?;
        if self.revive_sized(&hash, bytes)? {
            fs::remove_file(path).map_err(BlobError::io("remove", path))?;
            return Ok(PutBlob { hash, bytes, was_new: false });
        }
        match self.publish(path, &file, hash, bytes) {
            Err(BlobError::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
                let put = self.put_file(path)?;
                fs::remove_file(path).map_err(BlobError::io("remove", path))?;
                Ok(put)
            }
            other => other,
        }
    }

    /// A writer for bytes that arrive piece by piece.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn writer(&self) -> Result<BlobWriter, BlobError> {
        BlobWriter::create(self.clone())
    }

    /// A folder on the store's file system for files to be [adopted](Self::adopt_file). It is
    /// removed when the last clone of this store is dropped, or after the process has ended.
    pub fn scratch_folder(&self) -> &Path {
        self.inner.scratch.folder()
    }

    /// Where the blob's file is, for mapping it or handing it to a process. The file is
    /// read-only, and stays readable for whoever has it open or mapped when it is deleted.
    ///
    /// # Errors
    /// [`BlobError::NotFound`].
    pub fn local_path(&self, hash: &BlobHash) -> Result<PathBuf, BlobError> {
        self.len(hash)?;
        Ok(self.object_path(hash))
    }

    /// Whether the blob is stored.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn contains(&self, hash: &BlobHash) -> Result<bool, BlobError> {
        match self.len(hash) {
            Ok(_) => Ok(true),
            Err(BlobError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The blob's size in bytes.
    ///
    /// # Errors
    /// [`BlobError::NotFound`].
    pub fn len(&self, hash: &BlobHash) -> Result<u64, BlobError> {
        let path = self.object_path(hash);
        fs::metadata(&path)
            .map(|metadata| metadata.len())
            .map_err(not_found_or("read", hash, &path))
    }

    /// The blob, open for reading.
    ///
    /// # Errors
    /// [`BlobError::NotFound`].
    pub fn open_file(&self, hash: &BlobHash) -> Result<File, BlobError> {
        let path = self.object_path(hash);
        File::open(&path).map_err(not_found_or("open", hash, &path))
    }

    /// The blob's bytes; for blobs known to be small.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], or [`BlobError::Damaged`]: bytes read whole are checked.
    pub fn read(&self, hash: &BlobHash) -> Result<Vec<u8>, BlobError> {
        let path = self.object_path(hash);
        let bytes = fs::read(&path).map_err(not_found_or("read", hash, &path))?;
        let found = BlobHash::of(&bytes);
        if found == *hash { Ok(bytes) } else { Err(BlobError::Damaged { path, found }) }
    }

    /// Reads the whole blob and checks it against its hash.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Damaged`].
    pub fn verify(&self, hash: &BlobHash) -> Result<(), BlobError> {
        let path = self.object_path(hash);
        let (found, _) = hash_file(&self.open_file(hash)?, &path)?;
        if found == *hash { Ok(()) } else { Err(BlobError::Damaged { path, found }) }
    }

    /// Makes a stored blob young again, so that a reference to it may be written (see the
    /// protocol at the top of this crate). False when it is not here and must be put.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn revive(&self, hash: &BlobHash) -> Result<bool, BlobError> {
        let shard = Shard::lock(self.shard_path(hash))?;
        self.revive_in(&shard, hash, None)
    }

    /// Removes the blob, whoever refers to it. False when it was not here.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn delete(&self, hash: &BlobHash) -> Result<bool, BlobError> {
        let _shard = Shard::lock(self.shard_path(hash))?;
        let path = self.object_path(hash);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(BlobError::io("delete", &path)(error)),
        }
    }

    /// Refuses `needed_bytes` more when they would eat into the reserve.
    ///
    /// # Errors
    /// [`BlobError::DiskFull`] with the numbers.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), BlobError> {
        let free_bytes = self.free_bytes()?;
        let reserve_bytes = self.inner.options.reserve_bytes;
        if needed_bytes.saturating_add(reserve_bytes) <= free_bytes {
            return Ok(());
        }
        let path = self.inner.objects.clone();
        Err(BlobError::DiskFull { path, needed_bytes, free_bytes, reserve_bytes })
    }

    pub(crate) fn free_bytes(&self) -> Result<u64, BlobError> {
        let objects = &self.inner.objects;
        let free = rustix::fs::statvfs(objects)
            .map_err(|errno| BlobError::io("measure the disk of", objects)(errno.into()))?;
        Ok(free.f_bavail.saturating_mul(free.f_frsize))
    }

    pub(crate) fn stage(&self) -> Staged {
        Staged(self.inner.scratch.fresh_path())
    }

    pub(crate) fn objects(&self) -> &Path {
        &self.inner.objects
    }

    pub(crate) fn shard_path(&self, hash: &BlobHash) -> PathBuf {
        self.inner.objects.join(&hash.to_string()[..2])
    }

    pub(crate) fn object_path(&self, hash: &BlobHash) -> PathBuf {
        let digits = hash.to_string();
        self.inner.objects.join(&digits[..2]).join(&digits[2..])
    }

    /// [`revive`](Self::revive), for bytes at hand: a stored file of another length is damaged
    /// and does not count.
    pub(crate) fn revive_sized(&self, hash: &BlobHash, bytes: u64) -> Result<bool, BlobError> {
        let shard = Shard::lock(self.shard_path(hash))?;
        self.revive_in(&shard, hash, Some(bytes))
    }

    /// Moves the file at `path`, open as `file`, to its name as a blob.
    pub(crate) fn publish(
        &self,
        path: &Path,
        file: &File,
        hash: BlobHash,
        bytes: u64,
    ) -> Result<PutBlob, BlobError> {
        let settle = |action| BlobError::io(action, path);
        file.set_permissions(Permissions::from_mode(0o444)).map_err(settle("protect"))?;
        file.set_modified(SystemTime::now()).map_err(settle("date"))?;
        file.sync_all().map_err(settle("sync"))?;
        let shard = Shard::lock(self.shard_path(&hash))?;
        if self.revive_in(&shard, &hash, Some(bytes))? {
            fs::remove_file(path).map_err(BlobError::io("remove", path))?;
            return Ok(PutBlob { hash, bytes, was_new: false });
        }
        let object = self.object_path(&hash);
        fs::rename(path, &object).map_err(BlobError::io("publish", &object))?;
        shard.unlock_and_sync()?;
        Ok(PutBlob { hash, bytes, was_new: true })
    }

    /// Under the shard's lock: dates the blob now, if it is here. The directory is synced too,
    /// since whoever put the blob may not have come to that yet.
    fn revive_in(
        &self,
        shard: &Shard,
        hash: &BlobHash,
        bytes: Option<u64>,
    ) -> Result<bool, BlobError> {
        let path = self.object_path(hash);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(BlobError::io("open", &path)(error)),
        };
        let stored = file.metadata().map_err(BlobError::io("read", &path))?.len();
        if bytes.is_some_and(|bytes| bytes != stored) {
            return Ok(false);
        }
        file.set_modified(SystemTime::now()).map_err(BlobError::io("date", &path))?;
        shard.sync()?;
        Ok(true)
    }
}

impl fmt::Debug for BlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobStore({})", self.inner.objects.display())
    }
}

/// A path in scratch; whatever is there when it is dropped is removed.
pub(crate) struct Staged(PathBuf);

impl Staged {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Published files are gone from here already; the rest goes with the scratch folder
        // if it cannot be removed now.
        let _ = fs::remove_file(&self.0);
    }
}

/// One of the 256 directories of objects, locked: while it is held no other thread or process
/// revives, publishes or deletes in it.
pub(crate) struct Shard {
    path: PathBuf,
    directory: File,
}

impl Shard {
    pub(crate) fn lock(path: PathBuf) -> Result<Self, BlobError> {
        // Each lock opens the directory anew: locks on one open file would not exclude threads.
        let directory = File::open(&path).map_err(BlobError::io("open", &path))?;
        directory.lock().map_err(BlobError::io("lock", &path))?;
        Ok(Self { path, directory })
    }

    fn sync(&self) -> Result<(), BlobError> {
        self.directory.sync_all().map_err(BlobError::io("sync", &self.path))
    }

    /// Others need not wait for the disk once the names are settled.
    fn unlock_and_sync(self) -> Result<(), BlobError> {
        self.directory.unlock().map_err(BlobError::io("unlock", &self.path))?;
        self.sync()
    }
}

/// Creates the directory, durably, where it is missing.
fn create_directory(dir: &Path) -> Result<(), BlobError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(BlobError::io("create", dir))?;
    let absolute = fs::canonicalize(dir).map_err(BlobError::io("find", dir))?;
    absolute.parent().map_or(Ok(()), sync_directory)
}

/// All 256 at once, so that no put ever has to make its directory durable first.
fn create_shards(objects: &Path) -> Result<(), BlobError> {
    create_directory(objects)?;
    for number in 0..=255u8 {
        let shard = objects.join(format!("{number:02x}"));
        match fs::create_dir(&shard) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(BlobError::io("create", &shard)(error));
            }
            _ => {}
        }
    }
    sync_directory(objects)
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), BlobError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(BlobError::io("sync", path))
}

/// The hash and length of everything in `file`.
pub(crate) fn hash_file(mut file: &File, path: &Path) -> Result<(BlobHash, u64), BlobError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finalize().into(), bytes)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(BlobError::io("read", path)(error)),
        }
    }
}

fn not_found_or(
    action: &'static str,
    hash: &BlobHash,
    path: &Path,
) -> impl FnOnce(io::Error) -> BlobError {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => BlobError::NotFound { hash: *hash },
        _ => BlobError::io(action, path)(error),
    }
}
