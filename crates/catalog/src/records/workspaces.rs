//! Workspaces: the tenants.

use corral_types::{Name, Timestamp, WorkspaceId};

use super::{Answer, NewRecord};
use crate::{Page, PageRequest};

/// The workspace `default`, which every catalog has from its beginning.
pub const DEFAULT_WORKSPACE: WorkspaceId = WorkspaceId::from_u128(0);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceRecord {
    pub id: WorkspaceId,
    pub name: Name,
    pub created: Timestamp,
}

pub trait WorkspaceRecords {
    /// # Errors
    /// When the name or the id is taken.
    fn create_workspace(&self, new: NewRecord<WorkspaceId>) -> Answer<'_, WorkspaceRecord>;

    fn workspace(&self, id: WorkspaceId) -> Answer<'_, WorkspaceRecord>;

    fn workspace_named(&self, name: Name) -> Answer<'_, WorkspaceRecord>;

    fn list_workspaces(&self, page: PageRequest) -> Answer<'_, Page<WorkspaceRecord>>;
}
