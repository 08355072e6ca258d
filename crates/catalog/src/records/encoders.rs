//! Encoders that a workspace may use. Their bytes are shared by all that refer to them.

use corral_types::{BlobHash, Name, Timestamp, WorkspaceId};

use super::Answer;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderRecord {
    /// The encoder's file, which is its identity.
    pub file: BlobHash,
    pub name: Name,
    /// The numbers in one embedding.
    pub dimension: u32,
    pub bytes: u64,
    pub created: Timestamp,
    /// Whether training takes it when none is named; one encoder of a workspace is.
    pub is_default: bool,
}

#[derive(Clone, Debug)]
pub struct NewEncoder {
    pub file: BlobHash,
    pub name: Name,
    pub dimension: u32,
    pub bytes: u64,
    pub created: Timestamp,
}

pub trait EncoderRecords {
    /// An encoder and the reference to its file, at once; the first of a workspace becomes its
    /// default. One that is there already is answered as it is.
    ///
    /// # Errors
    /// When the name belongs to another encoder.
    fn add_encoder(&self, workspace: WorkspaceId, new: NewEncoder) -> Answer<'_, EncoderRecord>;

    fn encoder(&self, workspace: WorkspaceId, file: BlobHash) -> Answer<'_, EncoderRecord>;

    fn encoder_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, EncoderRecord>;

    fn default_encoder(&self, workspace: WorkspaceId) -> Answer<'_, Option<EncoderRecord>>;

    /// Makes an encoder the default in place of the one that was.
    fn set_default_encoder(
        &self,
        workspace: WorkspaceId,
        file: BlobHash,
    ) -> Answer<'_, EncoderRecord>;

    /// By name.
    fn list_encoders(&self, workspace: WorkspaceId) -> Answer<'_, Vec<EncoderRecord>>;

    /// Removes an encoder and the reference to its file; no other becomes the default by
    /// itself. Answers with the blobs that nothing in any workspace refers to any more.
    ///
    /// # Errors
    /// [`InUse`](crate::CatalogError::InUse) while a model version that is not removed needs it.
    fn remove_encoder(&self, workspace: WorkspaceId, file: BlobHash) -> Answer<'_, Vec<BlobHash>>;
}
