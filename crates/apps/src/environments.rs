//! Environments.

use corral_catalog::CatalogError;
use corral_types::{Caller, EnvironmentId, Scope};

pub use corral_catalog::EnvironmentRecord;

use crate::identity::{check_name, derived_id};
use crate::{Apps, AppsError, require};

/// The environment of every workspace in which things are where none was named.
pub const DEFAULT_ENVIRONMENT: &str = "default";

/// The settings of an environment of which nothing was said.
const NO_SETTINGS: &str = "{}";

impl Apps {
    /// The environment of this name; the default one for an empty name, which is made when it is
    /// first asked for.
    ///
    /// # Errors
    /// When there is none.
    pub async fn environment(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<EnvironmentRecord, AppsError> {
        let is_default = name.is_empty() || name == DEFAULT_ENVIRONMENT;
        let name = if is_default { DEFAULT_ENVIRONMENT } else { name };
        let catalog = &self.inner.catalog;
        match catalog.environment_named(caller.workspace, name.to_owned()).await {
            Err(CatalogError::NotFound { .. }) if is_default => {
                self.make_environment(caller, name).await
            }
            found => Ok(found?),
        }
    }

    /// The environment of an id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn environment_by_id(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<EnvironmentRecord, AppsError> {
        Ok(self.inner.catalog.environment(caller.workspace, id).await?)
    }

    /// All of the workspace, the default one first.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn environments(&self, caller: &Caller) -> Result<Vec<EnvironmentRecord>, AppsError> {
        let default = self.environment(caller, DEFAULT_ENVIRONMENT).await?;
        let mut all = self.inner.catalog.list_environments(caller.workspace).await?;
        all.sort_by_key(|environment| environment.id != default.id);
        Ok(all)
    }

    /// Makes an environment.
    ///
    /// # Errors
    /// When the name is taken or is none.
    pub async fn create_environment(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<EnvironmentRecord, AppsError> {
        require(caller, Scope::Write)?;
        check_name("an environment", name)?;
        let new = EnvironmentRecord {
            id: EnvironmentId::generate(),
            name: name.to_owned(),
            created: self.inner.clock.now(),
            settings_json: NO_SETTINGS.to_owned(),
        };
        Ok(self.inner.catalog.create_environment(caller.workspace, new).await?)
    }

    /// Gives an environment another name.
    ///
    /// # Errors
    /// When there is none, or the name is taken; for the default one.
    pub async fn rename_environment(
        &self,
        caller: &Caller,
        name: &str,
        new_name: &str,
    ) -> Result<EnvironmentRecord, AppsError> {
        require(caller, Scope::Write)?;
        check_name("an environment", new_name)?;
        let mut found = self.environment(caller, name).await?;
        if found.name == DEFAULT_ENVIRONMENT && new_name != DEFAULT_ENVIRONMENT {
            let reason = "the default environment keeps its name".to_owned();
            let text = new_name.to_owned();
            return Err(AppsError::Name { what: "the default environment", text, reason });
        }
        found.name = new_name.to_owned();
        self.inner.catalog.change_environment(caller.workspace, found.clone()).await?;
        self.forget_resolved();
        Ok(found)
    }

    /// Removes an environment with its secrets and ended apps.
    ///
    /// # Errors
    /// When there is none, or apps in it have not ended.
    pub async fn remove_environment(&self, caller: &Caller, name: &str) -> Result<(), AppsError> {
        require(caller, Scope::Write)?;
        let found = self.environment(caller, name).await?;
        self.inner.catalog.remove_environment(caller.workspace, found.id).await?;
        self.forget_resolved();
        Ok(())
    }

    async fn make_environment(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<EnvironmentRecord, AppsError> {
        let new = EnvironmentRecord {
            id: derived_id(caller.workspace, &[name.as_bytes()]),
            name: name.to_owned(),
            created: self.inner.clock.now(),
            settings_json: NO_SETTINGS.to_owned(),
        };
        let catalog = &self.inner.catalog;
        match catalog.create_environment(caller.workspace, new).await {
            // Another request made it in between.
            Err(CatalogError::AlreadyExists { .. }) => {
                Ok(catalog.environment_named(caller.workspace, name.to_owned()).await?)
            }
            made => Ok(made?),
        }
    }
}
