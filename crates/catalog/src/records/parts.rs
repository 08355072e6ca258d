//! What containers are made of: images, mounts, secrets, and files that clients have sent.

use corral_types::{BlobHash, EnvironmentId, ImageId, MountId, SecretId, Timestamp, WorkspaceId};

use super::Answer;

/// The largest recipe of an image: its context files travel in it.
pub const MAX_IMAGE_JSON_BYTES: usize = 64 << 20;

/// The largest list of a mount's files: some 100,000 of them.
pub const MAX_MOUNT_JSON_BYTES: usize = 32 << 20;

/// The largest secret, sealed.
pub const MAX_SEALED_BYTES: usize = 1 << 20;

/// Secrets in one answer at most.
pub const MAX_SECRETS_LISTED: usize = 1_000;

/// Files asked for in one call at most.
pub const MAX_FILES_PER_CALL: usize = 100_000;

/// The recipe of an image; it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub id: ImageId,
    pub created: Timestamp,
    /// A document of the service; the catalog does not look inside.
    pub recipe_json: String,
}

/// The list of a mount's files; it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRecord {
    pub id: MountId,
    pub created: Timestamp,
    /// A document of the service; the catalog does not look inside.
    pub files_json: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    pub id: SecretId,
    pub environment: EnvironmentId,
    /// Unique in the environment; a secret without a name is found by its id only.
    pub name: Option<String>,
    pub created: Timestamp,
    /// A document of the service without the values; the catalog does not look inside.
    pub detail_json: String,
    /// The values, encrypted by the service.
    pub sealed: Vec<u8>,
}

/// A file that a client has sent, by the hash that clients know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRecord {
    pub sha256: [u8; 32],
    pub blob: BlobHash,
}

pub trait PartRecords {
    /// Notes an image; the same id again changes nothing.
    fn put_image(&self, workspace: WorkspaceId, image: ImageRecord) -> Answer<'_, ()>;

    fn image(&self, workspace: WorkspaceId, id: ImageId) -> Answer<'_, ImageRecord>;

    /// Notes a mount and its references to these blobs; the same id again changes nothing.
    fn put_mount(
        &self,
        workspace: WorkspaceId,
        mount: MountRecord,
        blobs: Vec<BlobHash>,
    ) -> Answer<'_, ()>;

    fn mount(&self, workspace: WorkspaceId, id: MountId) -> Answer<'_, MountRecord>;

    /// Makes a secret, or replaces the one of this id.
    ///
    /// # Errors
    /// When the name is taken by another.
    fn put_secret(&self, workspace: WorkspaceId, secret: SecretRecord) -> Answer<'_, ()>;

    fn secret(&self, workspace: WorkspaceId, id: SecretId) -> Answer<'_, SecretRecord>;

    fn secret_named(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
        name: String,
    ) -> Answer<'_, SecretRecord>;

    /// Those with a name, by name, at most [`MAX_SECRETS_LISTED`].
    fn list_secrets(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
    ) -> Answer<'_, Vec<SecretRecord>>;

    fn remove_secret(&self, workspace: WorkspaceId, id: SecretId) -> Answer<'_, ()>;

    /// Notes that this workspace has sent a file, and refers to its blob.
    fn put_file(&self, workspace: WorkspaceId, file: FileRecord, seen: Timestamp)
    -> Answer<'_, ()>;

    /// Those of these files that this workspace has sent; they count as seen now.
    fn files(
        &self,
        workspace: WorkspaceId,
        sha256: Vec<[u8; 32]>,
        seen: Timestamp,
    ) -> Answer<'_, Vec<FileRecord>>;

    /// Forgets the files that were not seen since `before`, in all workspaces; answers how many.
    /// Mounts keep their blobs.
    fn forget_files(&self, before: Timestamp) -> Answer<'_, u64>;
}
