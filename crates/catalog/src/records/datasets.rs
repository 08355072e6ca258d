//! Data sets and their versions.

use corral_types::{BlobHash, DatasetId, Name, Timestamp, WorkspaceId};

use super::{Answer, NewRecord, VersionChoice};
use crate::{Page, PageRequest};

/// A data set with its newest version; there is always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRecord {
    pub id: DatasetId,
    pub name: Name,
    pub created: Timestamp,
    pub head: DatasetVersion,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetVersion {
    pub dataset: DatasetId,
    /// Counted from 1.
    pub number: u32,
    /// The manifest's blob, which is the version's identity.
    pub manifest: BlobHash,
    pub rows: u64,
    pub bytes: u64,
    pub created: Timestamp,
    /// What made it, such as `import` or `append`.
    pub note: String,
}

#[derive(Clone, Debug)]
pub struct NewDatasetVersion {
    pub manifest: BlobHash,
    pub rows: u64,
    pub bytes: u64,
    pub created: Timestamp,
    pub note: String,
    /// The blobs of the version besides the manifest.
    pub blobs: Vec<BlobHash>,
}

pub trait DatasetRecords {
    /// A new data set, its first version and that version's references, at once.
    ///
    /// # Errors
    /// When the name or the id is taken in this workspace.
    fn create_dataset(
        &self,
        workspace: WorkspaceId,
        new: NewRecord<DatasetId>,
        first: NewDatasetVersion,
    ) -> Answer<'_, DatasetRecord>;

    /// The next version and its references, at once.
    ///
    /// # Errors
    /// [`HeadMoved`](crate::CatalogError::HeadMoved) when `built_on` is not the newest version.
    fn add_dataset_version(
        &self,
        workspace: WorkspaceId,
        id: DatasetId,
        built_on: u32,
        new: NewDatasetVersion,
    ) -> Answer<'_, DatasetVersion>;

    fn dataset(&self, workspace: WorkspaceId, id: DatasetId) -> Answer<'_, DatasetRecord>;

    fn dataset_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, DatasetRecord>;

    fn dataset_version(
        &self,
        workspace: WorkspaceId,
        id: DatasetId,
        version: VersionChoice,
    ) -> Answer<'_, DatasetVersion>;

    fn list_datasets(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<DatasetRecord>>;

    /// Oldest first.
    fn list_dataset_versions(
        &self,
        workspace: WorkspaceId,
        id: DatasetId,
        page: PageRequest,
    ) -> Answer<'_, Page<DatasetVersion>>;

    /// Removes a data set, its versions and references. Answers with the blobs that nothing
    /// in any workspace refers to any more.
    fn remove_dataset(&self, workspace: WorkspaceId, id: DatasetId) -> Answer<'_, Vec<BlobHash>>;
}
