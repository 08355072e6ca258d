//! Apps: functions that are published together, in versions that never change.

use corral_types::{AppId, EnvironmentId, FunctionId, Timestamp, WorkspaceId};

use super::Answer;

/// The largest document of an app or of a version of it: a layout of some ten thousand functions.
pub const MAX_APP_JSON_BYTES: usize = 4 << 20;

/// Apps in one answer at most.
pub const MAX_APPS_LISTED: usize = 1_000;

/// Where an app is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppPhase {
    /// Made, and not published yet.
    Initializing,
    /// Ends with its client.
    Ephemeral,
    /// Was begun by a client, and does not end with it.
    Detached,
    /// Has a name by which others find it.
    Deployed,
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRecord {
    pub id: AppId,
    pub environment: EnvironmentId,
    /// Unique in the environment among apps that have not ended.
    pub name: Option<String>,
    pub description: String,
    pub phase: AppPhase,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    /// Goes up with every change.
    pub revision: u32,
    /// The newest version, 0 before the first.
    pub version: u32,
    /// A document of the service; the catalog does not look inside.
    pub detail_json: String,
}

/// What an app consisted of from one moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppVersionRecord {
    /// Counted from 1.
    pub number: u32,
    pub created: Timestamp,
    /// A document of the service; the catalog does not look inside.
    pub layout_json: String,
}

/// An app's next version, and which definitions of its functions count from then on.
#[derive(Clone, Debug)]
pub struct NewAppVersion {
    pub created: Timestamp,
    pub layout_json: String,
    pub definitions: Vec<(FunctionId, u32)>,
}

pub trait AppRecords {
    /// # Errors
    /// When the name or the id is taken, or the environment is not there.
    fn create_app(&self, workspace: WorkspaceId, new: AppRecord) -> Answer<'_, AppRecord>;

    fn app(&self, workspace: WorkspaceId, id: AppId) -> Answer<'_, AppRecord>;

    /// The app of this name that has not ended.
    fn app_named(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
        name: String,
    ) -> Answer<'_, AppRecord>;

    /// Newest first, at most [`MAX_APPS_LISTED`].
    fn list_apps(
        &self,
        workspace: WorkspaceId,
        environment: EnvironmentId,
    ) -> Answer<'_, Vec<AppRecord>>;

    /// Every app of every workspace that has not ended; for the start of the server.
    fn apps_not_ended(&self) -> Answer<'_, Vec<(WorkspaceId, AppRecord)>>;

    /// Replaces an app that is at the revision of `changed`, but for its id, its environment, its
    /// creation and its version.
    ///
    /// # Errors
    /// [`HeadMoved`](crate::CatalogError::HeadMoved) where it is at another revision; when the
    /// name is taken.
    fn change_app(&self, workspace: WorkspaceId, changed: AppRecord) -> Answer<'_, AppRecord>;

    /// The same, and gives it its next version, at once.
    ///
    /// # Errors
    /// As [`change_app`](Self::change_app); when a definition is not there.
    fn publish_app(
        &self,
        workspace: WorkspaceId,
        changed: AppRecord,
        version: NewAppVersion,
    ) -> Answer<'_, AppRecord>;

    fn app_version(
        &self,
        workspace: WorkspaceId,
        id: AppId,
        number: u32,
    ) -> Answer<'_, AppVersionRecord>;

    /// Oldest first.
    fn list_app_versions(
        &self,
        workspace: WorkspaceId,
        id: AppId,
    ) -> Answer<'_, Vec<AppVersionRecord>>;

    /// Removes the apps that ended before `before`, in all workspaces; answers how many.
    fn forget_apps(&self, before: Timestamp) -> Answer<'_, u64>;
}
