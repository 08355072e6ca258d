//! Files that clients have sent, mounts made of them, and uploads of payloads.
//!
//! Bytes are shared on disk, but whether a file is there is decided for each workspace by what
//! was sent in it.

use corral_blobs::PutBlob;
use corral_catalog::{BlobOwner, FileRecord, MountRecord};
use corral_containers::{FileTree, TreeFile};
use corral_types::{BlobHash, Caller, MountId, Scope, UploadId};
use serde::{Deserialize, Serialize};

use crate::identity::derived_id;
use crate::{Apps, AppsError, require};

/// Files of one mount at most.
const MAX_MOUNT_FILES: usize = 200_000;

/// Missing files that an error names.
const MAX_NAMED_MISSING: usize = 5;

/// A file of a mount to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFile {
    /// Absolute in the container; relative to the context in a build.
    pub path: String,
    pub sha256: [u8; 32],
    /// Permission bits, where the client gave any.
    pub mode: Option<u32>,
}

/// The permission bits of a file of which nothing was said.
const PLAIN_MODE: u32 = 0o644;

/// What a mount holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountContents {
    /// The name of a mount that every workspace has and workers bring along, such as the client's
    /// own package.
    pub global: Option<String>,
    pub tree: FileTree,
}

impl Apps {
    /// Those of these files that were sent in this workspace.
    ///
    /// # Errors
    /// When they are too many, or the catalog fails.
    pub async fn known_files(
        &self,
        caller: &Caller,
        sha256: Vec<[u8; 32]>,
    ) -> Result<Vec<[u8; 32]>, AppsError> {
        let now = self.inner.clock.now();
        let files = self.inner.catalog.files(caller.workspace, sha256, now).await?;
        Ok(files.into_iter().map(|file| file.sha256).collect())
    }

    /// Notes that a file was sent whose bytes are in the blob store. Whoever calls has computed
    /// the hash from them.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn put_file(
        &self,
        caller: &Caller,
        sha256: [u8; 32],
        blob: BlobHash,
    ) -> Result<(), AppsError> {
        require(caller, Scope::Write)?;
        let now = self.inner.clock.now();
        let file = FileRecord { sha256, blob };
        Ok(self.inner.catalog.put_file(caller.workspace, file, now).await?)
    }

    /// Makes a mount of files that were sent; the same files are the same mount.
    ///
    /// # Errors
    /// When some were not sent in this workspace, or there are too many.
    pub async fn put_mount(
        &self,
        caller: &Caller,
        mut files: Vec<MountFile>,
    ) -> Result<MountId, AppsError> {
        require(caller, Scope::Write)?;
        if files.len() > MAX_MOUNT_FILES {
            let (what, found) = ("the number of files", files.len());
            return Err(AppsError::TooLarge { what, found, most: MAX_MOUNT_FILES });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let now = self.inner.clock.now();
        let mut wanted: Vec<[u8; 32]> = files.iter().map(|file| file.sha256).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut known = self.inner.catalog.files(caller.workspace, wanted, now).await?;
        known.sort_by_key(|file| file.sha256);
        let mut tree = FileTree::default();
        let mut missing = Vec::new();
        for file in files {
            match known.binary_search_by_key(&file.sha256, |known| known.sha256) {
                Ok(found) => tree.files.push(TreeFile {
                    path: file.path,
                    blob: known[found].blob,
                    mode: file.mode.map_or(PLAIN_MODE, |mode| mode & 0o7777),
                }),
                Err(_) => missing.push(file.path),
            }
        }
        if !missing.is_empty() {
            missing.truncate(MAX_NAMED_MISSING);
            return Err(AppsError::NotSent { missing: missing.join(", ") });
        }
        let blobs: Vec<BlobHash> = known.iter().map(|file| file.blob).collect();
        let store = self.inner.blobs.clone();
        let revived = blobs.clone();
        // Files that were sent long ago may be about to be collected.
        let revived = tokio::task::spawn_blocking(move || {
            revived.iter().try_for_each(|blob| store.revive(blob).map(drop))
        });
        revived.await.map_err(|_| AppsError::CutOff)??;
        self.note_mount(caller, MountContents { global: None, tree }, blobs).await
    }

    /// The mount of this name that every workspace has.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn global_mount(&self, caller: &Caller, name: &str) -> Result<MountId, AppsError> {
        let contents = MountContents { global: Some(name.to_owned()), tree: FileTree::default() };
        self.note_mount(caller, contents, Vec::new()).await
    }

    /// What a mount holds.
    ///
    /// # Errors
    /// When there is none.
    pub async fn mount(&self, caller: &Caller, id: MountId) -> Result<MountContents, AppsError> {
        let record = self.inner.catalog.mount(caller.workspace, id).await?;
        serde_json::from_str(&record.files_json)
            .map_err(|source| AppsError::Document { what: "a mount's files", source })
    }

    async fn note_mount(
        &self,
        caller: &Caller,
        contents: MountContents,
        blobs: Vec<BlobHash>,
    ) -> Result<MountId, AppsError> {
        let tree = contents.tree.key();
        let name = contents.global.as_deref().unwrap_or_default();
        let id = derived_id(caller.workspace, &[b"mount", name.as_bytes(), tree.as_bytes()]);
        let record = MountRecord {
            id,
            created: self.inner.clock.now(),
            files_json: serde_json::to_string(&contents).expect("paths and hashes are JSON"),
        };
        self.inner.catalog.put_mount(caller.workspace, record, blobs).await?;
        Ok(id)
    }

    /// Notes that an upload has arrived.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn finish_upload(
        &self,
        caller: &Caller,
        upload: UploadId,
        put: PutBlob,
    ) -> Result<(), AppsError> {
        let owner = BlobOwner::Upload(upload);
        Ok(self.inner.catalog.add_references(caller.workspace, owner, vec![put.hash]).await?)
    }

    /// The blob that an upload of this workspace became.
    ///
    /// # Errors
    /// [`AppsError::NotUploaded`].
    pub async fn uploaded(&self, caller: &Caller, upload: UploadId) -> Result<BlobHash, AppsError> {
        let owner = BlobOwner::Upload(upload);
        let blobs = self.inner.catalog.references_of(caller.workspace, owner).await?;
        let first = blobs.first().copied();
        first.ok_or_else(|| AppsError::NotUploaded { upload: upload.to_string() })
    }

    /// Whether this workspace may read a blob: something that was sent in it refers to it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn may_read(&self, caller: &Caller, blob: BlobHash) -> Result<bool, AppsError> {
        Ok(self.inner.catalog.has_reference(caller.workspace, blob).await?)
    }
}
