//! Functions and classes.

use std::sync::{Arc, PoisonError};

use corral_catalog::{Binding, CatalogError, ClsRecord, FunctionRecord, NewDefinition};
use corral_types::{AppId, Caller, ClsId, EnvironmentId, FunctionId, Scope, WorkspaceId, nearest};
use serde::{Deserialize, Serialize};

use crate::identity::{check_tag, derived_id};
use crate::{AppPhase, AppRecord, Apps, AppsError, FunctionSpec, Layout, SpecChange, require};

/// Functions remembered between requests, some kilobytes each; pickled ones may be megabytes.
const MAX_REMEMBERED: usize = 2_000;

/// The largest definition that is remembered.
const MAX_REMEMBERED_BYTES: usize = 256 << 10;

/// What is noted of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClsDetail {
    /// What the client said of its methods, as it said it; newer clients say it of the function.
    #[serde(default)]
    pub methods: Vec<Vec<u8>>,
}

/// A function with all that decides what its containers are.
#[derive(Clone, Debug)]
pub struct ResolvedFunction {
    pub workspace: WorkspaceId,
    pub environment: EnvironmentId,
    pub environment_name: String,
    pub app: Arc<AppRecord>,
    pub record: FunctionRecord,
    /// What it asks for, changes of a bound function included.
    pub spec: FunctionSpec,
    /// The definition as the client sent it; for a bound function that of its base.
    pub definition: Vec<u8>,
    /// Another one makes new containers.
    pub generation: u64,
    /// What its app consists of.
    pub layout: Arc<Layout>,
}

impl ResolvedFunction {
    /// The function whose definition counts: itself, or what it is bound to.
    pub fn base(&self) -> FunctionId {
        self.record.bound.as_ref().map_or(self.record.id, |binding| binding.base)
    }

    /// The parameters of a bound function.
    pub fn parameters(&self) -> &[u8] {
        self.record.bound.as_ref().map_or(&[], |binding| &binding.parameters)
    }
}

impl Apps {
    /// Makes a function without a definition, so that others can refer to it. One name in one app
    /// is one function.
    ///
    /// # Errors
    /// When the app is not there or has ended.
    pub async fn precreate_function(
        &self,
        caller: &Caller,
        app: AppId,
        tag: &str,
    ) -> Result<FunctionRecord, AppsError> {
        require(caller, Scope::Write)?;
        check_tag(tag)?;
        self.live_app(caller, app).await?;
        let id = derived_id(
            caller.workspace,
            &[b"function", &app.as_u128().to_be_bytes(), tag.as_bytes()],
        );
        let new = FunctionRecord {
            id,
            app,
            tag: tag.to_owned(),
            created: self.inner.clock.now(),
            bound: None,
            definition: 0,
            latest: 0,
        };
        Ok(self.inner.catalog.create_function(caller.workspace, new).await?)
    }

    /// Gives a function a definition, which counts once its app is published.
    ///
    /// # Errors
    /// When something that it refers to is not there, or it is too large.
    pub async fn define_function(
        &self,
        caller: &Caller,
        app: AppId,
        tag: &str,
        spec: &FunctionSpec,
        definition: Vec<u8>,
    ) -> Result<FunctionRecord, AppsError> {
        let function = self.precreate_function(caller, app, tag).await?;
        let catalog = &self.inner.catalog;
        catalog.image(caller.workspace, spec.image).await?;
        for mount in &spec.mounts {
            catalog.mount(caller.workspace, *mount).await?;
        }
        for secret in &spec.secrets {
            catalog.secret(caller.workspace, *secret).await?;
        }
        let new = NewDefinition {
            created: self.inner.clock.now(),
            settings_json: serde_json::to_string(spec).expect("a spec is JSON"),
            definition,
        };
        let defined = catalog.add_definition(caller.workspace, function.id, new).await?;
        self.forget_resolved();
        Ok(defined)
    }

    /// The function with these parameters and changes: always the same one for the same.
    ///
    /// # Errors
    /// When the base is not there, is bound itself, or they are too large.
    pub async fn bind_function(
        &self,
        caller: &Caller,
        base: FunctionId,
        parameters: Vec<u8>,
        change: &SpecChange,
    ) -> Result<Arc<ResolvedFunction>, AppsError> {
        let catalog = &self.inner.catalog;
        let mut found = catalog.function(caller.workspace, base).await?;
        let mut change = change.clone();
        let mut parameters = parameters;
        if let Some(binding) = found.bound {
            // Bound once more: what was bound before stays beneath.
            let before = read_change(&binding.options)?;
            change = before.then(change);
            if parameters.is_empty() {
                parameters = binding.parameters;
            }
            found = catalog.function(caller.workspace, binding.base).await?;
        }
        for secret in &change.secrets {
            catalog.secret(caller.workspace, *secret).await?;
        }
        let options = if change.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&change).expect("a change is JSON")
        };
        let base = found.id.as_u128().to_be_bytes();
        let id = derived_id(caller.workspace, &[b"bound", &base, &parameters, &options]);
        let bound = FunctionRecord {
            id,
            created: self.inner.clock.now(),
            bound: Some(Binding { base: found.id, parameters, options }),
            definition: 0,
            latest: 0,
            ..found
        };
        catalog.create_function(caller.workspace, bound).await?;
        self.function(caller, id).await
    }

    /// A function with all that decides what its containers are: its published definition, or
    /// the newest where none was published.
    ///
    /// # Errors
    /// When it is not there or has no definition.
    pub async fn function(
        &self,
        caller: &Caller,
        id: FunctionId,
    ) -> Result<Arc<ResolvedFunction>, AppsError> {
        let key = (caller.workspace, id);
        let forgotten = {
            let resolved = self.inner.resolved.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = resolved.functions.get(&key) {
                return Ok(found.clone());
            }
            resolved.forgotten
        };
        let found = Arc::new(self.resolve(caller, id).await?);
        if found.definition.len() <= MAX_REMEMBERED_BYTES {
            let mut resolved = self.inner.resolved.lock().unwrap_or_else(PoisonError::into_inner);
            if resolved.functions.len() >= MAX_REMEMBERED {
                resolved.functions.clear();
            }
            if resolved.forgotten == forgotten {
                resolved.functions.insert(key, found.clone());
            }
        }
        Ok(found)
    }

    /// A function by its name in a deployed app; at an earlier version of it where one is named.
    ///
    /// # Errors
    /// When the app or the function is not there.
    pub async fn function_named(
        &self,
        caller: &Caller,
        environment: &str,
        app: &str,
        tag: &str,
    ) -> Result<Arc<ResolvedFunction>, AppsError> {
        let found = self.deployed_app(caller, environment, app).await?;
        let layout = self.layout(caller, &found).await?;
        let Some(placed) = layout.functions.get(tag) else {
            let names = layout.functions.keys().map(String::as_str);
            let near = nearest(tag, names, 3).into_iter().map(str::to_owned).collect();
            return Err(AppsError::NotInApp {
                what: "function",
                name: tag.to_owned(),
                app: app.to_owned(),
                nearest: near,
            });
        };
        self.function(caller, placed.id).await
    }

    /// Notes a class.
    ///
    /// # Errors
    /// When the app is not there or has ended.
    pub async fn put_cls(
        &self,
        caller: &Caller,
        app: AppId,
        existing: Option<ClsId>,
        idempotency_key: &str,
        detail: &ClsDetail,
    ) -> Result<ClsId, AppsError> {
        require(caller, Scope::Write)?;
        self.live_app(caller, app).await?;
        let id = match existing {
            Some(id) => {
                let found = self.inner.catalog.cls(caller.workspace, id).await?;
                if found.app != app {
                    let (function, app) = (id.to_string(), app.to_string());
                    return Err(AppsError::Foreign { function, app });
                }
                id
            }
            None => derived_id(caller.workspace, &[b"class", idempotency_key.as_bytes()]),
        };
        let record = ClsRecord {
            id,
            app,
            created: self.inner.clock.now(),
            detail_json: serde_json::to_string(detail).expect("bytes are JSON"),
        };
        self.inner.catalog.put_cls(caller.workspace, record).await?;
        Ok(id)
    }

    /// What is noted of a class.
    ///
    /// # Errors
    /// When there is none.
    pub async fn cls(&self, caller: &Caller, id: ClsId) -> Result<ClsDetail, AppsError> {
        let found = self.inner.catalog.cls(caller.workspace, id).await?;
        serde_json::from_str(&found.detail_json)
            .map_err(|source| AppsError::Document { what: "a class's methods", source })
    }

    /// Forgets what was resolved, after something that it depends on has changed.
    pub(crate) fn forget_resolved(&self) {
        let mut resolved = self.inner.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.functions.clear();
        resolved.forgotten += 1;
    }

    async fn resolve(
        &self,
        caller: &Caller,
        id: FunctionId,
    ) -> Result<ResolvedFunction, AppsError> {
        let catalog = &self.inner.catalog;
        let record = catalog.function(caller.workspace, id).await?;
        let base = match &record.bound {
            Some(binding) => catalog.function(caller.workspace, binding.base).await?,
            None => record.clone(),
        };
        let number = if base.definition > 0 { base.definition } else { base.latest };
        let definition = match catalog.definition(caller.workspace, base.id, number).await {
            Err(CatalogError::NotFound { .. }) => {
                return Err(AppsError::Undefined { function: base.tag });
            }
            found => found?,
        };
        let mut spec: FunctionSpec = serde_json::from_str(&definition.settings_json)
            .map_err(|source| AppsError::Document { what: "a function's settings", source })?;
        if let Some(binding) = &record.bound {
            spec = read_change(&binding.options)?.apply_to(spec);
        }
        let app = catalog.app(caller.workspace, record.app).await?;
        let environment = catalog.environment(caller.workspace, app.environment).await?;
        let layout = self.layout(caller, &app).await?;
        let generation = match layout.placed(base.id) {
            Some(placed) => u64::from(placed.generation),
            None => u64::from(number),
        };
        Ok(ResolvedFunction {
            workspace: caller.workspace,
            environment: environment.id,
            environment_name: environment.name,
            app: Arc::new(app),
            record,
            spec,
            definition: definition.definition,
            generation,
            layout: Arc::new(layout),
        })
    }

    /// An app that has not ended.
    pub(crate) async fn live_app(
        &self,
        caller: &Caller,
        id: AppId,
    ) -> Result<AppRecord, AppsError> {
        let app = self.inner.catalog.app(caller.workspace, id).await?;
        if app.phase == AppPhase::Stopped || app.ended.is_some() {
            return Err(AppsError::Ended { app: app.name.unwrap_or(app.description) });
        }
        Ok(app)
    }
}

fn read_change(options: &[u8]) -> Result<SpecChange, AppsError> {
    if options.is_empty() {
        return Ok(SpecChange::default());
    }
    serde_json::from_slice(options)
        .map_err(|source| AppsError::Document { what: "a bound function's options", source })
}
