//! Endpoints: names that send requests to model versions.
//!
//! What an endpoint answers with is a version of it, which never changes: a model's version, or
//! a fixed answer. Which of its versions a request reaches is its routing, a document of the
//! serving service's own, which is replaced as a whole. So is what is watched of its requests.

use corral_types::{EndpointId, ModelId, Name, Timestamp, WorkspaceId};

use super::models::ModelVersion;
use super::{Answer, NewRecord};
use crate::{Page, PageRequest};

/// The versions that an endpoint keeps: three years of nightly training. They are read and held
/// in memory together.
pub const MAX_ENDPOINT_VERSIONS: usize = 1_000;

/// The largest routing document, document of what is observed, or fixed answer.
pub const MAX_ENDPOINT_JSON_BYTES: usize = 64 << 10;

/// What a new version of an endpoint shall answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointTarget {
    Model {
        model: ModelId,
        version: u32,
    },
    /// The same for every request, as a document of the serving service.
    Fixed {
        answer_json: String,
    },
}

/// What a version of an endpoint answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    Model { name: Name, version: Box<ModelVersion> },
    Fixed { answer_json: String },
}

/// A version of an endpoint. It keeps its model's version from removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointVersion {
    /// Counted from 1, and never given twice.
    pub number: u32,
    pub created: Timestamp,
    pub serves: Served,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    pub id: EndpointId,
    pub name: Name,
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Goes up with every change.
    pub revision: u32,
    /// Empty until it is set for the first time.
    pub routing_json: String,
    /// What is watched of its requests; empty until it is set for the first time.
    pub observing_json: String,
    /// Oldest first; there is always one.
    pub versions: Vec<EndpointVersion>,
}

impl EndpointRecord {
    /// The newest version.
    pub fn latest(&self) -> &EndpointVersion {
        self.versions.last().expect("an endpoint has a version")
    }
}

/// The wish for a new version of an endpoint.
#[derive(Clone, Debug)]
pub struct NewEndpointVersion {
    /// The name decides which endpoint; the id and the creation time are taken where none has it.
    pub endpoint: NewRecord<EndpointId>,
    pub target: EndpointTarget,
    pub at: Timestamp,
}

pub trait EndpointRecords {
    /// Adds a version, and makes the endpoint if it is not there.
    ///
    /// # Errors
    /// When the model's version is not in this workspace, or removed;
    /// [`TooLarge`](crate::CatalogError::TooLarge) past [`MAX_ENDPOINT_VERSIONS`] or
    /// [`MAX_ENDPOINT_JSON_BYTES`].
    fn add_endpoint_version(
        &self,
        workspace: WorkspaceId,
        new: NewEndpointVersion,
    ) -> Answer<'_, EndpointRecord>;

    fn endpoint_named(&self, workspace: WorkspaceId, name: Name) -> Answer<'_, EndpointRecord>;

    fn list_endpoints(
        &self,
        workspace: WorkspaceId,
        page: PageRequest,
    ) -> Answer<'_, Page<EndpointRecord>>;

    /// Replaces the routing of an endpoint that is at this revision.
    ///
    /// # Errors
    /// [`HeadMoved`](crate::CatalogError::HeadMoved) where it is at another one;
    /// [`TooLarge`](crate::CatalogError::TooLarge) past [`MAX_ENDPOINT_JSON_BYTES`].
    fn set_endpoint_routing(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        revision: u32,
        routing_json: String,
        at: Timestamp,
    ) -> Answer<'_, EndpointRecord>;

    /// Replaces what is watched of an endpoint that is at this revision.
    ///
    /// # Errors
    /// As [`set_endpoint_routing`](Self::set_endpoint_routing).
    fn set_endpoint_observing(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        revision: u32,
        observing_json: String,
        at: Timestamp,
    ) -> Answer<'_, EndpointRecord>;

    /// Removes a version of an endpoint that is at this revision.
    ///
    /// # Errors
    /// [`HeadMoved`](crate::CatalogError::HeadMoved) where it is at another one;
    /// [`InUse`](crate::CatalogError::InUse) for its only version.
    fn remove_endpoint_version(
        &self,
        workspace: WorkspaceId,
        id: EndpointId,
        revision: u32,
        number: u32,
        at: Timestamp,
    ) -> Answer<'_, EndpointRecord>;

    /// Removes an endpoint with all its versions.
    fn remove_endpoint(&self, workspace: WorkspaceId, id: EndpointId) -> Answer<'_, ()>;
}
