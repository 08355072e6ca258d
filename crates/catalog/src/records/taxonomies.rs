//! Taxonomies and their versions.

use corral_types::{BlobHash, Name, TaxonomyId, Timestamp, WorkspaceId};

use super::{Answer, NewRecord, VersionChoice};
use crate::{Page, PageRequest};

/// A taxonomy with its newest version; there is always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaxonomyRecord {
    pub id: TaxonomyId,
    pub name: Name,
    pub created: Timestamp,
    pub head: TaxonomyVersion,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaxonomyVersion {
    pub taxonomy: TaxonomyId,
    /// Counted from 1.
    pub number: u32,
    /// The canonical document's blob, which is the version's identity.
    pub document: BlobHash,
    pub classes: u32,
    pub created: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewTaxonomyVersion {
    pub document: BlobHash,
    pub classes: u32,
    pub created: Timestamp,
}

pub trait TaxonomyRecords {
    /// A new taxonomy, its first version and the reference to its document, at once.
    ///
    /// # Errors
    /// When the name or the id is taken in this workspace.
    fn create_taxonomy(
        &self,
        workspace: WorkspaceId,
        new: NewRecord<TaxonomyId>,
        first: NewTaxonomyVersion,
    ) -> Answer<'_, TaxonomyRecord>;

    /// The next version and the reference to its document, at once.
    ///
    /// # Errors
    /// [`HeadMoved`](crate::CatalogError::HeadMoved) when `built_on` is not the newest version.
    fn add_taxonomy_version(
        &self,
        workspace: WorkspaceId,
        id: TaxonomyId,
        built_on: u32,
        new: NewTaxonomyVersion,
    ) -> Answer<'_, TaxonomyVersion>;

    fn taxonomy(&self, workspace: WorkspaceId, id: TaxonomyId) -> Answer<'_, TaxonomyRecord>;

    fn taxonomy_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, TaxonomyRecord>;

    fn taxonomy_version(
        &self,
        workspace: WorkspaceId,
        id: TaxonomyId,
        version: VersionChoice,
    ) -> Answer<'_, TaxonomyVersion>;

    fn list_taxonomies(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<TaxonomyRecord>>;

    /// Oldest first.
    fn list_taxonomy_versions(
        &self,
        workspace: WorkspaceId,
        id: TaxonomyId,
        page: PageRequest,
    ) -> Answer<'_, Page<TaxonomyVersion>>;

    /// Removes a taxonomy, its versions and references. Answers with the blobs that nothing
    /// in any workspace refers to any more.
    fn remove_taxonomy(&self, workspace: WorkspaceId, id: TaxonomyId) -> Answer<'_, Vec<BlobHash>>;
}
