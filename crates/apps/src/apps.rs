//! The life of apps: made, published in versions, rolled back, ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::PoisonError;

use corral_catalog::{AppVersionRecord, CatalogError, NewAppVersion};
use corral_types::{AppId, Caller, ClsId, FunctionId, Scope, Timestamp, WorkspaceId};

use crate::identity::{check_name, check_tag, derived_id};
use crate::layout::{AppDetail, Deployment, DeploymentKind, Layout, PlacedFunction};
use crate::{AppPhase, AppRecord, Apps, AppsError, require};

/// Functions and classes of one app at most.
const MAX_OBJECTS: usize = 10_000;

/// How long an app that has ended is listed.
const KEPT_AFTER_END: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// An app to be made.
#[derive(Clone, Debug)]
pub struct NewApp {
    /// By name; empty for the default one.
    pub environment: String,
    pub description: String,
    pub phase: AppPhase,
    pub tags: BTreeMap<String, String>,
    pub client_version: String,
    /// The same key makes the same app.
    pub idempotency_key: String,
}

/// A version of an app to be published.
#[derive(Clone, Debug)]
pub struct PublishApp {
    pub app: AppId,
    /// Empty keeps the name it has.
    pub name: String,
    /// `None` keeps the phase it has.
    pub phase: Option<AppPhase>,
    /// By name in the app; with the number of the definition, or the newest.
    pub functions: BTreeMap<String, (FunctionId, Option<u32>)>,
    pub classes: BTreeMap<String, ClsId>,
    pub tags: BTreeMap<String, String>,
    pub deployment: Deployment,
}

/// What publishing has changed.
#[derive(Clone, Debug)]
pub struct Published {
    pub app: AppRecord,
    /// False when the app was so already.
    pub is_new: bool,
    /// Functions that count from now on, bound ones too.
    pub functions: Vec<FunctionId>,
    /// Functions that do not count any more, bound ones too.
    pub retired: Vec<FunctionId>,
}

/// What ending an app has changed.
#[derive(Clone, Debug)]
pub struct Stopped {
    pub app: AppRecord,
    /// Functions that do not count any more, bound ones too.
    pub retired: Vec<FunctionId>,
}

impl Apps {
    /// Makes an app.
    ///
    /// # Errors
    /// When the environment is not there.
    pub async fn create_app(&self, caller: &Caller, new: NewApp) -> Result<AppRecord, AppsError> {
        require(caller, Scope::Write)?;
        let environment = self.environment(caller, &new.environment).await?;
        let now = self.inner.clock.now();
        let detail = AppDetail {
            tags: new.tags,
            client_version: new.client_version,
            created_by: self.who(caller),
            ..AppDetail::default()
        };
        let keyed: AppId = derived_id(caller.workspace, &[b"app", new.idempotency_key.as_bytes()]);
        let record = AppRecord {
            id: keyed,
            environment: environment.id,
            name: None,
            description: new.description.chars().take(200).collect(),
            phase: new.phase,
            created: now,
            ended: None,
            revision: 1,
            version: 0,
            detail_json: to_json(&detail),
        };
        let catalog = &self.inner.catalog;
        let made = match catalog.create_app(caller.workspace, record).await {
            Err(CatalogError::AlreadyExists { .. }) => catalog.app(caller.workspace, keyed).await?,
            made => made?,
        };
        if hangs_on_client(made.phase) {
            self.lock_presence().expect(caller.workspace, made.id, now);
        }
        Ok(made)
    }

    /// The client of an app is there.
    ///
    /// # Errors
    /// When the app is not there.
    pub async fn heartbeat(&self, caller: &Caller, app: AppId) -> Result<(), AppsError> {
        self.inner.catalog.app(caller.workspace, app).await?;
        let now = self.inner.clock.now();
        self.lock_presence().beat(caller.workspace, app, now);
        Ok(())
    }

    /// An app.
    ///
    /// # Errors
    /// When there is none.
    pub async fn app(&self, caller: &Caller, id: AppId) -> Result<AppRecord, AppsError> {
        Ok(self.inner.catalog.app(caller.workspace, id).await?)
    }

    /// The app of this name that others find.
    ///
    /// # Errors
    /// When there is none.
    pub async fn deployed_app(
        &self,
        caller: &Caller,
        environment: &str,
        name: &str,
    ) -> Result<AppRecord, AppsError> {
        let environment = self.environment(caller, environment).await?;
        let catalog = &self.inner.catalog;
        Ok(catalog.app_named(caller.workspace, environment.id, name.to_owned()).await?)
    }

    /// Newest first, ended ones too.
    ///
    /// # Errors
    /// When the environment is not there.
    pub async fn apps(
        &self,
        caller: &Caller,
        environment: &str,
    ) -> Result<Vec<AppRecord>, AppsError> {
        let environment = self.environment(caller, environment).await?;
        Ok(self.inner.catalog.list_apps(caller.workspace, environment.id).await?)
    }

    /// The app of this name; one that is deployed empty where there is none.
    ///
    /// # Errors
    /// When the name is none.
    pub async fn app_or_create(
        &self,
        caller: &Caller,
        environment: &str,
        name: &str,
        client_version: &str,
    ) -> Result<AppRecord, AppsError> {
        check_name("an app", name)?;
        match self.deployed_app(caller, environment, name).await {
            Err(AppsError::Catalog(CatalogError::NotFound { .. })) => {}
            found => return found,
        }
        let new = NewApp {
            environment: environment.to_owned(),
            description: name.to_owned(),
            phase: AppPhase::Initializing,
            tags: BTreeMap::new(),
            client_version: client_version.to_owned(),
            idempotency_key: AppId::generate().to_string(),
        };
        let made = self.create_app(caller, new).await?;
        let publish = PublishApp {
            app: made.id,
            name: name.to_owned(),
            phase: Some(AppPhase::Deployed),
            functions: BTreeMap::new(),
            classes: BTreeMap::new(),
            tags: BTreeMap::new(),
            deployment: Deployment::default(),
        };
        Ok(self.publish(caller, publish).await?.app)
    }

    /// Makes a version of an app count: all its functions change at once.
    ///
    /// # Errors
    /// When the app has ended, a function is not its own or has no definition, or another app has
    /// the name.
    pub async fn publish(
        &self,
        caller: &Caller,
        publish: PublishApp,
    ) -> Result<Published, AppsError> {
        require(caller, Scope::Write)?;
        if !publish.name.is_empty() {
            check_name("an app", &publish.name)?;
        }
        let found = publish.functions.len() + publish.classes.len();
        if found > MAX_OBJECTS {
            let what = "the number of functions and classes";
            return Err(AppsError::TooLarge { what, found, most: MAX_OBJECTS });
        }
        let app = self.live_app(caller, publish.app).await?;
        let before = self.layout(caller, &app).await?;
        let number = app.version + 1;
        let mut functions = BTreeMap::new();
        for (tag, (id, definition)) in publish.functions {
            check_tag(&tag)?;
            let record = self.inner.catalog.function(caller.workspace, id).await?;
            if record.app != app.id || record.bound.is_some() {
                let (function, app) = (id.to_string(), app.id.to_string());
                return Err(AppsError::Foreign { function, app });
            }
            let definition = definition.unwrap_or(record.latest);
            if definition == 0 || definition > record.latest {
                return Err(AppsError::Undefined { function: record.tag });
            }
            let unchanged = before
                .placed(id)
                .filter(|placed| placed.definition == definition)
                .map(|placed| placed.generation);
            let generation = unchanged.unwrap_or(number);
            functions.insert(tag, PlacedFunction { id, definition, generation });
        }
        let layout = Layout { functions, classes: publish.classes, deployment: publish.deployment };
        let mut changed = app.clone();
        if !publish.name.is_empty() {
            changed.name = Some(publish.name);
        }
        changed.phase = publish.phase.unwrap_or(app.phase);
        let mut detail = self.detail(&app)?;
        detail.tags = publish.tags;
        self.install(caller, app, changed, detail, before, layout).await
    }

    /// Brings an earlier version of an app back, as a new one. Numbers below 0 count back from
    /// the present one.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn rollback(
        &self,
        caller: &Caller,
        id: AppId,
        version: i64,
        client_version: &str,
    ) -> Result<Published, AppsError> {
        require(caller, Scope::Write)?;
        let app = self.live_app(caller, id).await?;
        let refuse = || AppsError::NoVersion { app: app.name.clone().unwrap_or_default(), version };
        let wanted = if version < 0 { i64::from(app.version) + version } else { version };
        let wanted = u32::try_from(wanted).ok().filter(|wanted| (1..=app.version).contains(wanted));
        let wanted = wanted.ok_or_else(refuse)?;
        let before = self.layout(caller, &app).await?;
        let mut layout = self.layout_of(caller, id, wanted).await?;
        for placed in layout.functions.values_mut() {
            let now = before.placed(placed.id).filter(|now| now.definition == placed.definition);
            placed.generation = now.map_or(app.version + 1, |now| now.generation);
        }
        layout.deployment = Deployment {
            kind: DeploymentKind::Rollback { to: wanted },
            client_version: client_version.to_owned(),
            deployed_by: self.who(caller),
            ..layout.deployment
        };
        let detail = self.detail(&app)?;
        self.install(caller, app.clone(), app, detail, before, layout).await
    }

    /// Gives all functions of an app new containers.
    ///
    /// # Errors
    /// When the app has ended or has no version.
    pub async fn rollover(
        &self,
        caller: &Caller,
        id: AppId,
        client_version: &str,
    ) -> Result<Published, AppsError> {
        require(caller, Scope::Write)?;
        let app = self.live_app(caller, id).await?;
        let before = self.layout(caller, &app).await?;
        let mut layout = before.clone();
        for placed in layout.functions.values_mut() {
            placed.generation = app.version + 1;
        }
        layout.deployment = Deployment {
            kind: DeploymentKind::Rollover,
            client_version: client_version.to_owned(),
            deployed_by: self.who(caller),
            ..layout.deployment
        };
        let detail = self.detail(&app)?;
        self.install(caller, app.clone(), app, detail, before, layout).await
    }

    async fn install(
        &self,
        caller: &Caller,
        app: AppRecord,
        mut changed: AppRecord,
        mut detail: AppDetail,
        before: Layout,
        layout: Layout,
    ) -> Result<Published, AppsError> {
        let now = self.inner.clock.now();
        // A rollback or a rollover is a version even where nothing comes out differently.
        let is_same = app.version > 0
            && layout.deployment.kind == DeploymentKind::Published
            && before.functions == layout.functions
            && before.classes == layout.classes
            && (&app.name, app.phase) == (&changed.name, changed.phase)
            && self.detail(&app)?.tags == detail.tags;
        let bound = self.bound_functions(caller, app.id).await?;
        if is_same {
            let functions = counting(&layout, &bound);
            return Ok(Published { app, is_new: false, functions, retired: Vec::new() });
        }
        if changed.phase == AppPhase::Deployed {
            detail.deployed_at_ms = Some(now.as_millis());
        }
        changed.detail_json = to_json(&detail);
        let definitions =
            layout.functions.values().map(|placed| (placed.id, placed.definition)).collect();
        let version = NewAppVersion { created: now, layout_json: to_json(&layout), definitions };
        let published = self.inner.catalog.publish_app(caller.workspace, changed, version).await?;
        self.forget_resolved();
        if !hangs_on_client(published.phase) {
            self.lock_presence().release(app.id);
        }
        let functions = counting(&layout, &bound);
        let kept: HashSet<FunctionId> = functions.iter().copied().collect();
        let mut retired = counting(&before, &bound);
        retired.retain(|id| !kept.contains(id));
        Ok(Published { app: published, is_new: true, functions, retired })
    }

    /// Ends an app for good; ending it again changes nothing.
    ///
    /// # Errors
    /// When there is none.
    pub async fn stop(
        &self,
        caller: &Caller,
        id: AppId,
        reason: Option<String>,
    ) -> Result<Stopped, AppsError> {
        require(caller, Scope::Write)?;
        self.lock_presence().release(id);
        let retired = self
            .inner
            .catalog
            .functions_of_app(caller.workspace, id)
            .await?
            .into_iter()
            .map(|function| function.id)
            .collect();
        loop {
            let mut app = self.inner.catalog.app(caller.workspace, id).await?;
            if app.phase == AppPhase::Stopped {
                return Ok(Stopped { app, retired });
            }
            let mut detail = self.detail(&app)?;
            detail.end_reason = reason.clone();
            app.detail_json = to_json(&detail);
            app.phase = AppPhase::Stopped;
            app.ended = Some(self.inner.clock.now());
            match self.inner.catalog.change_app(caller.workspace, app).await {
                // It changed meanwhile: it ends as it is now.
                Err(CatalogError::HeadMoved { .. }) => {}
                changed => {
                    self.forget_resolved();
                    return Ok(Stopped { app: changed?, retired });
                }
            }
        }
    }

    /// The client of an app has gone: an app that hangs on it ends.
    ///
    /// # Errors
    /// When there is no such app.
    pub async fn disconnect(
        &self,
        caller: &Caller,
        id: AppId,
        reason: Option<String>,
    ) -> Result<Option<Stopped>, AppsError> {
        let app = self.inner.catalog.app(caller.workspace, id).await?;
        if !hangs_on_client(app.phase) {
            return Ok(None);
        }
        self.stop(caller, id, reason).await.map(Some)
    }

    /// Replaces the tags of an app.
    ///
    /// # Errors
    /// When there is no such app, or it has changed meanwhile.
    pub async fn set_tags(
        &self,
        caller: &Caller,
        id: AppId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), AppsError> {
        require(caller, Scope::Write)?;
        let mut app = self.inner.catalog.app(caller.workspace, id).await?;
        let detail = AppDetail { tags, ..self.detail(&app)? };
        app.detail_json = to_json(&detail);
        self.inner.catalog.change_app(caller.workspace, app).await?;
        self.forget_resolved();
        Ok(())
    }

    /// The apps whose clients were not heard of for too long, in all workspaces.
    pub fn abandoned(&self) -> Vec<(WorkspaceId, AppId)> {
        self.lock_presence().missing(self.inner.clock.now())
    }

    /// Every app that has not ended, in all workspaces. From now on the clients of those that
    /// hang on one are expected to be heard of. For the start of the server.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn resume(&self) -> Result<Vec<(WorkspaceId, AppRecord)>, AppsError> {
        let apps = self.inner.catalog.apps_not_ended().await?;
        let now = self.inner.clock.now();
        for (workspace, app) in &apps {
            if hangs_on_client(app.phase) {
                self.lock_presence().expect(*workspace, app.id, now);
            }
        }
        Ok(apps)
    }

    /// The functions of an app that count, bound ones too.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn counting_functions(
        &self,
        caller: &Caller,
        app: &AppRecord,
    ) -> Result<Vec<FunctionId>, AppsError> {
        let layout = self.layout(caller, app).await?;
        let bound = self.bound_functions(caller, app.id).await?;
        Ok(counting(&layout, &bound))
    }

    /// What an app consists of now; nothing before it was published.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn layout(&self, caller: &Caller, app: &AppRecord) -> Result<Layout, AppsError> {
        if app.version == 0 {
            return Ok(Layout::default());
        }
        self.layout_of(caller, app.id, app.version).await
    }

    /// The versions of an app, oldest first.
    ///
    /// # Errors
    /// When there is no such app.
    pub async fn versions(
        &self,
        caller: &Caller,
        id: AppId,
    ) -> Result<Vec<(u32, Timestamp, Layout)>, AppsError> {
        self.inner.catalog.app(caller.workspace, id).await?;
        let versions = self.inner.catalog.list_app_versions(caller.workspace, id).await?;
        let read = |version: AppVersionRecord| {
            Ok((version.number, version.created, read_layout(&version)?))
        };
        versions.into_iter().map(read).collect()
    }

    /// What is noted of an app.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn detail(&self, app: &AppRecord) -> Result<AppDetail, AppsError> {
        serde_json::from_str(&app.detail_json)
            .map_err(|source| AppsError::Document { what: "an app's details", source })
    }

    /// Forgets what is too old: apps that ended a month ago, files that were not asked for since,
    /// uploads of payloads.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn forget_old(&self) -> Result<(), AppsError> {
        let now = self.inner.clock.now().as_millis();
        let kept = KEPT_AFTER_END.as_millis() as u64;
        let before = Timestamp::from_millis(now.saturating_sub(kept));
        let catalog = &self.inner.catalog;
        let apps = catalog.forget_apps(before).await?;
        let files = catalog.forget_files(before).await?;
        let uploads = catalog.forget_uploads(before).await?;
        tracing::info!(apps, files, uploads, "forgot what was too old");
        Ok(())
    }

    /// Who asks, as records note it.
    pub(crate) fn who(&self, caller: &Caller) -> String {
        caller.token.map(|token| token.to_string()).unwrap_or_default()
    }

    async fn layout_of(
        &self,
        caller: &Caller,
        id: AppId,
        number: u32,
    ) -> Result<Layout, AppsError> {
        read_layout(&self.inner.catalog.app_version(caller.workspace, id, number).await?)
    }

    /// Bound functions of an app with what they are bound to.
    async fn bound_functions(
        &self,
        caller: &Caller,
        id: AppId,
    ) -> Result<Vec<(FunctionId, FunctionId)>, AppsError> {
        let functions = self.inner.catalog.functions_of_app(caller.workspace, id).await?;
        let bound = functions.iter().filter_map(|one| one.bound.as_ref().map(|b| (one.id, b.base)));
        Ok(bound.collect())
    }

    fn lock_presence(&self) -> std::sync::MutexGuard<'_, crate::presence::Presence> {
        self.inner.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an app ends when its client goes.
fn hangs_on_client(phase: AppPhase) -> bool {
    matches!(phase, AppPhase::Initializing | AppPhase::Ephemeral)
}

/// The functions of a layout and those bound to them.
fn counting(layout: &Layout, bound: &[(FunctionId, FunctionId)]) -> Vec<FunctionId> {
    let mut functions: Vec<FunctionId> =
        layout.functions.values().map(|placed| placed.id).collect();
    let bound = bound.iter().filter(|(_, base)| layout.placed(*base).is_some());
    functions.extend(bound.map(|(id, _)| *id));
    functions
}

fn read_layout(version: &AppVersionRecord) -> Result<Layout, AppsError> {
    serde_json::from_str(&version.layout_json)
        .map_err(|source| AppsError::Document { what: "an app's layout", source })
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers are JSON")
}
