//! What follows when apps are published or end: their functions begin or stop to be served.
//!
//! The record comes first: what it says is made true again when the server starts.

use std::sync::Arc;

use corral_apps::{AppPhase, Published, ResolvedFunction, Stopped};
use corral_types::{AppId, Caller, FunctionId, WorkspaceId};

use super::Edge;
use super::call::scopes_of_the_server;
use super::refusal::Answer;
use super::settings::function_settings;

/// Serves a function as it is defined now.
pub async fn define(edge: &Edge, function: &Arc<ResolvedFunction>) -> Answer<()> {
    Ok(edge.functions.define(function_settings(function)).await?)
}

/// Serves what was published, and no more what is no part of it.
pub async fn published(edge: &Edge, caller: &Caller, published: &Published) -> Answer<()> {
    define_all(edge, caller, &published.functions).await?;
    for function in &published.retired {
        edge.functions.retire(*function).await?;
    }
    Ok(())
}

/// Serves nothing of an app that has ended.
pub async fn stopped(edge: &Edge, stopped: &Stopped) -> Answer<()> {
    for function in &stopped.retired {
        edge.functions.retire(*function).await?;
    }
    Ok(())
}

async fn define_all(edge: &Edge, caller: &Caller, functions: &[FunctionId]) -> Answer<()> {
    for function in functions {
        let function = edge.apps.function(caller, *function).await?;
        define(edge, &function).await?;
    }
    Ok(())
}

fn server_in(workspace: WorkspaceId) -> Caller {
    Caller { workspace, token: None, scopes: scopes_of_the_server() }
}

impl Edge {
    /// Ends an app for good; ending it again changes nothing.
    ///
    /// # Errors
    /// When there is none, or the caller may not.
    pub async fn stop_app(
        &self,
        caller: &Caller,
        app: AppId,
        reason: Option<String>,
    ) -> Result<Stopped, corral_types::Failure> {
        let ended = self.apps.stop(caller, app, reason).await?;
        stopped(self, &ended).await.map_err(|refusal| refusal.failure)?;
        Ok(ended)
    }

    /// Brings an earlier version of an app back, as a new one, and serves it.
    ///
    /// # Errors
    /// When there is no such version, or the caller may not.
    pub async fn roll_back_app(
        &self,
        caller: &Caller,
        app: AppId,
        version: i64,
        client_version: &str,
    ) -> Result<Published, corral_types::Failure> {
        let back = self.apps.rollback(caller, app, version, client_version).await?;
        published(self, caller, &back).await.map_err(|refusal| refusal.failure)?;
        Ok(back)
    }

    /// Makes true what the records say: every function of an app that has not ended is served,
    /// and no other. For the start of the server, before anyone is answered.
    ///
    /// # Errors
    /// When the catalog or the journal fails.
    pub async fn resume(&self) -> Result<(), corral_types::Failure> {
        self.resume_all().await.map_err(|refusal| refusal.failure)
    }

    async fn resume_all(&self) -> Answer<()> {
        let live = self.apps.resume().await?;
        for (workspace, app) in &live {
            let caller = server_in(*workspace);
            let functions = self.apps.counting_functions(&caller, app).await?;
            define_all(self, &caller, &functions).await?;
        }
        let workspaces =
            corral_catalog::all_pages(|page| self.catalog.list_workspaces(page)).await?;
        for workspace in workspaces {
            for (function, app, _) in self.functions.usage(workspace.id).await {
                let is_live = live.iter().any(|(_, one)| one.id == app);
                if !is_live {
                    self.functions.retire(function).await?;
                }
            }
        }
        Ok(())
    }

    /// Ends the apps whose clients were not heard of for too long. To be called every few
    /// seconds.
    ///
    /// # Errors
    /// When the catalog or the journal fails; the others are ended next time.
    pub async fn end_abandoned(&self) -> Result<(), corral_types::Failure> {
        for (workspace, app) in self.apps.abandoned() {
            let caller = server_in(workspace);
            tracing::info!(%app, "the client of an app is gone; the app ends");
            let reason = Some("its client was not heard of any more".to_owned());
            self.stop_app(&caller, app, reason).await?;
        }
        Ok(())
    }

    /// Whether everything of an app has ended, so that no line of its log is still to come.
    pub(super) async fn is_over(&self, app: &corral_apps::AppRecord, caller: &Caller) -> bool {
        if app.phase != AppPhase::Stopped {
            return false;
        }
        let containers = self.functions.containers(Some(caller.workspace)).await;
        !containers.iter().any(|container| container.app == app.id)
    }
}
