//! Environments: names of apps and secrets within a workspace.

use corral_types::{EnvironmentId, Timestamp, WorkspaceId};

use super::Answer;

/// Environments of one workspace at most: they are listed whole.
pub const MAX_ENVIRONMENTS: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentRecord {
    pub id: EnvironmentId,
    /// Unique in the workspace.
    pub name: String,
    pub created: Timestamp,
    /// A document of the service; the catalog does not look inside.
    pub settings_json: String,
}

pub trait EnvironmentRecords {
    /// # Errors
    /// When the name or the id is taken, or there are [`MAX_ENVIRONMENTS`].
    fn create_environment(
        &self,
        workspace: WorkspaceId,
        new: EnvironmentRecord,
    ) -> Answer<'_, EnvironmentRecord>;

    fn environment(
        &self,
        workspace: WorkspaceId,
        id: EnvironmentId,
    ) -> Answer<'_, EnvironmentRecord>;

    fn environment_named(
        &self,
        workspace: WorkspaceId,
        name: String,
    ) -> Answer<'_, EnvironmentRecord>;

    /// All of a workspace, oldest first.
    fn list_environments(&self, workspace: WorkspaceId) -> Answer<'_, Vec<EnvironmentRecord>>;

    /// Replaces the name and the settings of an environment.
    ///
    /// # Errors
    /// When the name is taken by another.
    fn change_environment(
        &self,
        workspace: WorkspaceId,
        changed: EnvironmentRecord,
    ) -> Answer<'_, ()>;

    /// Removes an environment with its secrets and the apps in it that have ended.
    ///
    /// # Errors
    /// [`InUse`](crate::CatalogError::InUse) while apps in it have not ended.
    fn remove_environment(&self, workspace: WorkspaceId, id: EnvironmentId) -> Answer<'_, ()>;
}
