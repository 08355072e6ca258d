//! Models and their versions.

use corral_types::{BlobHash, DatasetId, JobId, ModelId, Name, TaxonomyId, Timestamp, WorkspaceId};

use super::{Answer, NewRecord, VersionChoice};
use crate::{Page, PageRequest};

/// The bytes of a version's metrics at most: a summary; the report is a blob.
pub const MAX_METRICS_BYTES: usize = 256 * 1024;

/// Notes of a version at most: what a person looks through.
pub const MAX_MODEL_NOTES: usize = 100;
/// Bytes of a note's name, and of its value, at most: a line in a table.
pub const MAX_NOTE_NAME_BYTES: usize = 100;
pub const MAX_NOTE_VALUE_BYTES: usize = 1000;

/// A model with its newest version that is not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRecord {
    pub id: ModelId,
    pub name: Name,
    pub created: Timestamp,
    /// `None` when every version was removed.
    pub latest: Option<ModelVersion>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelVersion {
    pub model: ModelId,
    /// Counted from 1; never given twice, not even after removal.
    pub number: u32,
    /// The model file.
    pub file: BlobHash,
    pub bytes: u64,
    pub lineage: Lineage,
    /// A JSON object; the catalog does not look inside.
    pub metrics_json: String,
    /// The encoder that the model needs.
    pub encoder: Option<BlobHash>,
    /// What its training found out; `None` for a model that was imported.
    pub report: Option<BlobHash>,
    pub created: Timestamp,
    /// When the version was removed: its number and lineage stay, its file may be gone.
    pub removed: Option<Timestamp>,
}

/// What a model version was made from; what it names may have been removed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    pub job: Option<JobId>,
    pub dataset: Option<(DatasetId, u32)>,
    pub taxonomy: Option<(TaxonomyId, u32)>,
    /// The version of Corral that trained it.
    pub code: Option<String>,
}

/// What people say of a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelNote {
    /// Of the version.
    pub number: u32,
    pub kind: NoteKind,
    pub name: String,
    /// Of a metric a number, as it was written.
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKind {
    Tag,
    Metric,
}

/// A note that is made, changed or taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteChange {
    pub kind: NoteKind,
    pub name: String,
    /// `None` takes it away.
    pub value: Option<String>,
}

#[derive(Clone, Debug)]
pub struct NewModelVersion {
    pub file: BlobHash,
    pub bytes: u64,
    pub lineage: Lineage,
    pub metrics_json: String,
    pub encoder: Option<BlobHash>,
    pub report: Option<BlobHash>,
    pub created: Timestamp,
}

pub trait ModelRecords {
    /// The next version of the model with this name and its references, at once; where there is
    /// no such model, `new` makes it.
    ///
    /// A version of this model that the same job made from the same file is answered instead
    /// of a second one: a job's result may be delivered twice.
    fn add_model_version(
        &self,
        workspace: WorkspaceId,
        new: NewRecord<ModelId>,
        version: NewModelVersion,
    ) -> Answer<'_, ModelVersion>;

    fn model(&self, workspace: WorkspaceId, id: ModelId) -> Answer<'_, ModelRecord>;

    fn model_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, ModelRecord>;

    /// A version, a removed one too when asked for by number.
    fn model_version(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        version: VersionChoice,
    ) -> Answer<'_, ModelVersion>;

    fn list_models(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<ModelRecord>>;

    /// Oldest first, removed ones too.
    fn list_model_versions(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        page: PageRequest,
    ) -> Answer<'_, Page<ModelVersion>>;

    /// Makes, changes and takes away notes of a version, all or none.
    ///
    /// # Errors
    /// When there is no such version, or a limit is passed.
    fn change_model_notes(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        number: u32,
        changes: Vec<NoteChange>,
    ) -> Answer<'_, ()>;

    /// The notes of all versions of a model, by version, kind and name.
    fn model_notes(&self, workspace: WorkspaceId, id: ModelId) -> Answer<'_, Vec<ModelNote>>;

    /// Marks a version as removed and gives up its references. Answers with the blobs that
    /// nothing in any workspace refers to any more; none when it was removed before.
    ///
    /// # Errors
    /// [`InUse`](crate::CatalogError::InUse) while a version of an endpoint serves it.
    fn remove_model_version(
        &self,
        workspace: WorkspaceId,
        id: ModelId,
        number: u32,
        at: Timestamp,
    ) -> Answer<'_, Vec<BlobHash>>;

    /// Removes a model with all its versions and references; its name is free again. Answers
    /// with the blobs that nothing in any workspace refers to any more.
    ///
    /// # Errors
    /// [`InUse`](crate::CatalogError::InUse) while a version of an endpoint serves it.
    fn remove_model(&self, workspace: WorkspaceId, id: ModelId) -> Answer<'_, Vec<BlobHash>>;
}
