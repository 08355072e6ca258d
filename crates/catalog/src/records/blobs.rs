//! Who refers to which blob: what decides that a hash exists for a workspace, and what
//! collection of garbage must keep.

use corral_types::{
    BlobHash, DatasetId, JobId, ModelId, MountId, TaxonomyId, Timestamp, UploadId, WorkspaceId,
};

use super::Answer;

/// References in one call at most: one change of the catalog must not hold up the others.
pub const MAX_REFERENCES_PER_CALL: usize = 100_000;

/// What a reference belongs to and is removed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobOwner {
    /// An upload until its blobs belong to something.
    Upload(UploadId),
    /// Manifests, parts and layers of every version of a data set.
    Dataset(DatasetId),
    /// The document of every version of a taxonomy.
    Taxonomy(TaxonomyId),
    /// The file and the report of one model version.
    ModelVersion(ModelId, u32),
    /// An encoder's file, by its hash.
    Encoder(BlobHash),
    /// What a job was given and what it left.
    Job(JobId),
    /// The files of a mount.
    Mount(MountId),
    /// A file that a client has sent, by its SHA-256.
    File([u8; 32]),
}

pub trait BlobReferences {
    /// Refers to these blobs; those that the owner refers to already stay.
    ///
    /// # Errors
    /// When the owner is a record of the catalog and not in this workspace.
    fn add_references(
        &self,
        workspace: WorkspaceId,
        owner: BlobOwner,
        blobs: Vec<BlobHash>,
    ) -> Answer<'_, ()>;

    /// Gives up all references of an upload or a job; none is no error. Answers with the
    /// blobs that nothing in any workspace refers to any more.
    ///
    /// # Errors
    /// For any other owner: its references go with its record.
    fn remove_references(
        &self,
        workspace: WorkspaceId,
        owner: BlobOwner,
    ) -> Answer<'_, Vec<BlobHash>>;

    /// What an owner refers to in this workspace, ascending.
    fn references_of(&self, workspace: WorkspaceId, owner: BlobOwner) -> Answer<'_, Vec<BlobHash>>;

    /// Gives up the references of all uploads, in all workspaces, whose ids were made before
    /// `before`; answers how many.
    fn forget_uploads(&self, before: Timestamp) -> Answer<'_, u64>;

    /// Whether anything in this workspace refers to the blob: whether it may read it.
    fn has_reference(&self, workspace: WorkspaceId, blob: BlobHash) -> Answer<'_, bool>;

    /// The blobs that anything in any workspace refers to, ascending, after `after`, at
    /// most `limit`; for collection of garbage only.
    fn referenced_blobs(&self, after: Option<BlobHash>, limit: usize) -> Answer<'_, Vec<BlobHash>>;

    /// Those of these blobs that nothing in any workspace refers to; for collection of garbage
    /// only.
    fn unreferenced_blobs(&self, blobs: Vec<BlobHash>) -> Answer<'_, Vec<BlobHash>>;
}
