//! Endpoints: names that send requests to model versions.

use corral_types::{EndpointId, ModelId, Name, Timestamp, WorkspaceId};

use super::models::ModelVersion;
use super::{Answer, NewRecord, VersionChoice};
use crate::{Page, PageRequest};

/// Where an endpoint sends its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointTarget {
    pub model: ModelId,
    /// [`VersionChoice::Latest`] follows the model: a new version serves from the moment it exists.
    pub version: VersionChoice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    pub id: EndpointId,
    pub name: Name,
    pub created: Timestamp,
    /// When it was last pointed somewhere.
    pub updated: Timestamp,
    pub target: EndpointTarget,
    pub model_name: Name,
    /// What the target means at the time of asking; never a removed version.
    pub serves: ModelVersion,
}

/// One pointing of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointChange {
    /// Counted from 1.
    pub number: u32,
    pub target: EndpointTarget,
    /// The version that the target meant then.
    pub served: u32,
    pub at: Timestamp,
}

/// The wish to point an endpoint.
#[derive(Clone, Debug)]
pub struct PointEndpoint {
    /// The name decides which endpoint; the id and the creation time are taken where none has it.
    pub endpoint: NewRecord<EndpointId>,
    pub target: EndpointTarget,
    pub at: Timestamp,
}

pub trait EndpointRecords {
    /// Makes the endpoint or points it elsewhere, at once, and notes it in the history.
    ///
    /// # Errors
    /// When the version is not in this workspace, or removed.
    fn point_endpoint(
        &self,
        workspace: WorkspaceId,
        wish: PointEndpoint,
    ) -> Answer<'_, EndpointRecord>;

    fn endpoint_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, EndpointRecord>;

    fn list_endpoints(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<EndpointRecord>>;

    /// Oldest first.
    fn list_endpoint_changes(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        page: PageRequest,
    ) -> Answer<'_, Page<EndpointChange>>;

    /// Removes an endpoint and its history.
    fn remove_endpoint(&self, workspace: WorkspaceId, id: EndpointId) -> Answer<'_, ()>;
}
