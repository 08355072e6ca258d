//! Records that change seldom: workspaces, tokens, data sets, taxonomies, models, encoders,
//! endpoints, runs, usage, apps with what their containers are made of, and which blobs they refer to.
//!
//! [`Catalog`] is the port: plain types in, plain types out, one method for each change that
//! must happen whole or not at all. [`SqliteCatalog`] keeps it in one file on this machine; SQL
//! stands nowhere else. Every implementation passes the scenarios of `behaviour` (a
//! feature, for tests).
//!
//! Every record belongs to a workspace, and every question names one: a record of another
//! workspace is not found. The exceptions are named where they stand: a token is found by its
//! secret before the workspace is known, collection of garbage and recovery look at everything,
//! and settings belong to the instance.
//!
//! When a change is answered it is on disk. A future that is dropped before its answer
//! may or may not have changed the catalog; each change is safe to ask for again.

#[cfg(feature = "behaviour")]
pub mod behaviour;
mod error;
mod page;
mod records;
mod sqlite;

pub use error::{CatalogError, RecordKind};
pub use page::{Cursor, MAX_PAGE_ITEMS, Page, PageRequest, all_pages};
pub use records::apps::{
    AppPhase, AppRecord, AppRecords, AppVersionRecord, MAX_APP_JSON_BYTES, MAX_APPS_LISTED,
    NewAppVersion,
};
pub use records::blobs::{BlobOwner, BlobReferences, MAX_REFERENCES_PER_CALL};
pub use records::datasets::{DatasetRecord, DatasetRecords, DatasetVersion, NewDatasetVersion};
pub use records::encoders::{EncoderRecord, EncoderRecords, NewEncoder};
pub use records::endpoints::{
    EndpointRecord, EndpointRecords, EndpointTarget, EndpointVersion, MAX_ENDPOINT_JSON_BYTES,
    MAX_ENDPOINT_VERSIONS, NewEndpointVersion, Served,
};
pub use records::environments::{EnvironmentRecord, EnvironmentRecords, MAX_ENVIRONMENTS};
pub use records::functions::{
    Binding, ClsRecord, DefinitionRecord, FunctionRecord, FunctionRecords, MAX_BINDING_BYTES,
    MAX_DEFINITION_BYTES, MAX_FUNCTION_JSON_BYTES, NewDefinition,
};
pub use records::labelings::{LabelingRecords, LabelingVersion, NewLabelingVersion};
pub use records::models::{
    Lineage, MAX_METRICS_BYTES, MAX_MODEL_NOTES, MAX_NOTE_NAME_BYTES, MAX_NOTE_VALUE_BYTES,
    ModelNote, ModelRecord, ModelRecords, ModelVersion, NewModelVersion, NoteChange, NoteKind,
};
pub use records::parts::{
    FileRecord, ImageRecord, MAX_FILES_PER_CALL, MAX_IMAGE_JSON_BYTES, MAX_MOUNT_JSON_BYTES,
    MAX_SEALED_BYTES, MAX_SECRETS_LISTED, MountRecord, PartRecords, SecretRecord,
};
pub use records::requests::{
    BeginRequest, Begun, IdempotentRequests, MAX_KEY_BYTES, MAX_STORED_RESPONSE_BYTES,
    StoredResponse,
};
pub use records::runs::{MAX_RUN_JSON_BYTES, MAX_RUNS_PER_CALL, RunRecord, RunRecords, RunStatus};
pub use records::settings::Settings;
pub use records::taxonomies::{
    NewTaxonomyVersion, TaxonomyRecord, TaxonomyRecords, TaxonomyVersion,
};
pub use records::tokens::{NewToken, SecretHash, TokenRecord, TokenRecords};
pub use records::usage::{MAX_USAGE_SUMS, UsageRecord, UsageRecords};
pub use records::workspaces::{DEFAULT_WORKSPACE, WorkspaceRecord, WorkspaceRecords};
pub use records::{Answer, NewRecord, VersionChoice};
pub use sqlite::{FORMAT_VERSION, SqliteCatalog};

use std::path::PathBuf;

/// Everything the catalog answers; services hold an `Arc<dyn Catalog>`.
pub trait Catalog:
    WorkspaceRecords
    + TokenRecords
    + BlobReferences
    + DatasetRecords
    + TaxonomyRecords
    + ModelRecords
    + EncoderRecords
    + LabelingRecords
    + EndpointRecords
    + EnvironmentRecords
    + AppRecords
    + FunctionRecords
    + PartRecords
    + RunRecords
    + UsageRecords
    + IdempotentRequests
    + Settings
    + Send
    + Sync
{
    /// Writes a consistent copy to a file that must not exist yet, and syncs it. Changes go on
    /// meanwhile.
    ///
    /// # Errors
    /// [`CatalogError::AlreadyExists`] for a file that is there; when it cannot be written.
    fn backup_to(&self, file: PathBuf) -> Answer<'_, ()>;

    /// Reads everything and says what is damaged or contradicts itself, a line each; empty when
    /// all is well.
    fn check(&self) -> Answer<'_, Vec<String>>;
}
