//! The labeling functions of data sets: all those of one are a document, and every edit makes
//! the next version of it.

use corral_types::{BlobHash, DatasetId, Timestamp, WorkspaceId};

use super::{Answer, VersionChoice};
use crate::{Page, PageRequest};

/// The functions of a data set as they were after an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelingVersion {
    pub dataset: DatasetId,
    /// Counted from 1.
    pub number: u32,
    /// The document's blob.
    pub document: BlobHash,
    pub functions: u32,
    pub created: Timestamp,
    /// What made it, such as the names of the functions that were changed.
    pub note: String,
}

#[derive(Clone, Debug)]
pub struct NewLabelingVersion {
    pub document: BlobHash,
    pub functions: u32,
    pub created: Timestamp,
    pub note: String,
}

pub trait LabelingRecords {
    /// The next version of a data set's functions and its reference, at once. `built_on` is the
    /// number of the newest there is, 0 where there is none.
    ///
    /// # Errors
    /// [`HeadMoved`](crate::CatalogError::HeadMoved) when `built_on` is not the newest version;
    /// when there is no such data set.
    fn add_labeling_version(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        built_on: u32,
        new: NewLabelingVersion,
    ) -> Answer<'_, LabelingVersion>;

    /// A version of a data set's functions; `None` where it has none, or not that one.
    fn labeling_version(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        version: VersionChoice,
    ) -> Answer<'_, Option<LabelingVersion>>;

    /// Oldest first.
    fn list_labeling_versions(
        &self,
        workspace: WorkspaceId,
        dataset: DatasetId,
        page: PageRequest,
    ) -> Answer<'_, Page<LabelingVersion>>;
}
