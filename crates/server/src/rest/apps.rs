//! `/v1/environments` and `/v1/apps`.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use corral_apps::{AppPhase, AppRecord, DeploymentKind};
use corral_catalog::CatalogError;
use corral_types::{AppId, Caller, ErrorKind, Failure, Timestamp};

use super::answer::{Answer, ApiError, Body, Query, invalid, time};
use super::pages::{Place, newest_first};
use crate::api::{
    AppDetail, AppListQuery, AppVersionDetail, EnvironmentDetail, EnvironmentQuery, Page,
    RollbackRequest,
};
use crate::auth::{Reader, Writer};
use crate::state::App;

/// The version that a rollback brings back when none is named: the one before the present one.
const ONE_BACK: i64 = -1;

/// How the versions of clients are noted that are none: this interface.
const NO_CLIENT: &str = "";

/// The environments of the workspace, the default one first.
#[utoipa::path(get, path = "/v1/environments", tag = "functions",
    responses((status = 200, body = Page<EnvironmentDetail>)))]
pub async fn environments(
    State(app): State<App>,
    Reader(caller): Reader,
) -> Answer<Json<Page<EnvironmentDetail>>> {
    let found = app.apps.environments(&caller).await?;
    let items = found.into_iter().map(|environment| EnvironmentDetail {
        name: environment.name,
        id: environment.id.to_string(),
        created: time(environment.created),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// The apps of an environment, newest first, with those that ended in the last month.
#[utoipa::path(get, path = "/v1/apps", tag = "functions", params(AppListQuery),
    responses((status = 200, body = Page<AppDetail>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<AppListQuery>,
) -> Answer<Json<Page<AppDetail>>> {
    let phase = query.state.as_deref().map(phase_of).transpose()?;
    let mut found = app.apps.apps(&caller, environment(query.environment.as_deref())).await?;
    found.retain(|record| phase.is_none_or(|phase| record.phase == phase));
    let place = |record: &AppRecord| Place::new(record.created, record.id);
    let page = newest_first(found, place, query.after.as_deref(), query.limit)?;
    let containers = containers_by_app(&app, &caller).await;
    let name = environment_name(query.environment.as_deref());
    let mut items = Vec::with_capacity(page.items.len());
    for record in &page.items {
        items.push(detail(&app, record, name, &containers)?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// One app, by its name or its id.
#[utoipa::path(get, path = "/v1/apps/{app}", tag = "functions",
    params(("app" = String, Path), EnvironmentQuery), responses((status = 200, body = AppDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<EnvironmentQuery>,
) -> Answer<Json<AppDetail>> {
    let record = find(&app, &caller, query.environment.as_deref(), &text).await?;
    whole(&app, &caller, &record).await
}

/// The versions of an app, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/history", tag = "functions",
    params(("app" = String, Path), EnvironmentQuery),
    responses((status = 200, body = Page<AppVersionDetail>)))]
pub async fn history(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<EnvironmentQuery>,
) -> Answer<Json<Page<AppVersionDetail>>> {
    let record = find(&app, &caller, query.environment.as_deref(), &text).await?;
    let versions = app.apps.versions(&caller, record.id).await?;
    let items = versions.into_iter().rev().map(|(version, created, layout)| {
        let (kind, rolled_back_to) = match layout.deployment.kind {
            DeploymentKind::Published => ("published", None),
            DeploymentKind::Rollback { to } => ("rollback", Some(to)),
            DeploymentKind::Rollover => ("rollover", None),
        };
        AppVersionDetail {
            version,
            created: time(created),
            kind: kind.to_owned(),
            rolled_back_to,
            tag: layout.deployment.tag,
            client_version: layout.deployment.client_version,
            deployed_by: layout.deployment.deployed_by,
            functions: layout.functions.into_keys().collect(),
        }
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// Ends an app for good: its containers end, its unfinished calls end as terminated. Ending it
/// again changes nothing.
#[utoipa::path(post, path = "/v1/apps/{app}/stop", tag = "functions",
    params(("app" = String, Path), EnvironmentQuery), responses((status = 200, body = AppDetail)))]
pub async fn stop(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Query(query): Query<EnvironmentQuery>,
) -> Answer<Json<AppDetail>> {
    let record = find(&app, &caller, query.environment.as_deref(), &text).await?;
    let stopped = app.edge.stop_app(&caller, record.id, None).await?;
    whole(&app, &caller, &stopped.app).await
}

/// Brings an earlier version of an app back, as a new one.
#[utoipa::path(post, path = "/v1/apps/{app}/rollback", tag = "functions",
    params(("app" = String, Path), EnvironmentQuery), request_body = RollbackRequest,
    responses((status = 200, body = AppDetail)))]
pub async fn rollback(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Query(query): Query<EnvironmentQuery>,
    Body(request): Body<RollbackRequest>,
) -> Answer<Json<AppDetail>> {
    let record = find(&app, &caller, query.environment.as_deref(), &text).await?;
    let version = request.version.unwrap_or(ONE_BACK);
    let published = app.edge.roll_back_app(&caller, record.id, version, NO_CLIENT).await?;
    whole(&app, &caller, &published.app).await
}

/// The environment as services have it: empty for the default one.
pub fn environment(named: Option<&str>) -> &str {
    named.unwrap_or_default()
}

fn environment_name(named: Option<&str>) -> &str {
    named.filter(|name| !name.is_empty()).unwrap_or(corral_apps::DEFAULT_ENVIRONMENT)
}

/// An app by its id, the name under which it is deployed, or what its client called it: then the
/// newest of that name.
pub async fn find(
    app: &App,
    caller: &Caller,
    environment_named: Option<&str>,
    text: &str,
) -> Answer<AppRecord> {
    if let Ok(id) = text.parse::<AppId>() {
        return Ok(app.apps.app(caller, id).await?);
    }
    let environment = environment(environment_named);
    match app.apps.deployed_app(caller, environment, text).await {
        Err(corral_apps::AppsError::Catalog(CatalogError::NotFound { .. })) => {}
        found => return Ok(found?),
    }
    let mut all = app.apps.apps(caller, environment).await?;
    // Those that are still there come before those that have ended.
    all.sort_by_key(|record| (record.ended.is_some(), std::cmp::Reverse(record.created)));
    let named =
        |record: &&AppRecord| record.name.as_deref() == Some(text) || record.description == text;
    if let Some(found) = all.iter().find(named) {
        return Ok(found.clone());
    }
    let names = all.iter().filter_map(|record| record.name.as_deref());
    let near = corral_types::nearest(text, names, 3);
    let place = environment_name(environment_named);
    let failure =
        Failure::new(ErrorKind::NotFound, format!("there is no app `{text}` in `{place}`"));
    Err(ApiError(failure.with_hint(match near.first() {
        Some(name) => format!("did you mean `{name}`? `corral app ls` lists the apps"),
        None => "`corral app ls` lists the apps; `modal deploy` makes one".to_owned(),
    })))
}

fn phase_of(word: &str) -> Answer<AppPhase> {
    const PHASES: [AppPhase; 5] = [
        AppPhase::Initializing,
        AppPhase::Ephemeral,
        AppPhase::Detached,
        AppPhase::Deployed,
        AppPhase::Stopped,
    ];
    PHASES.into_iter().find(|phase| state(*phase) == word).ok_or_else(|| {
        let words = PHASES.map(state).join(", ");
        invalid(format!("`{word}` is not an app's state; the states are {words}"))
    })
}

const fn state(phase: AppPhase) -> &'static str {
    match phase {
        AppPhase::Initializing => "initializing",
        AppPhase::Ephemeral => "ephemeral",
        AppPhase::Detached => "detached",
        AppPhase::Deployed => "deployed",
        AppPhase::Stopped => "stopped",
    }
}

async fn containers_by_app(app: &App, caller: &Caller) -> HashMap<AppId, u32> {
    let mut counts = HashMap::new();
    for container in app.functions.containers(Some(caller.workspace)).await {
        *counts.entry(container.app).or_default() += 1;
    }
    counts
}

/// An app with the names of its functions, for the caller who may read or has just changed it.
async fn whole(app: &App, caller: &Caller, record: &AppRecord) -> Answer<Json<AppDetail>> {
    let containers = containers_by_app(app, caller).await;
    let environment = app.apps.environment_by_id(caller, record.environment).await?;
    let layout = app.apps.layout(caller, record).await?;
    let functions = layout.functions.into_keys().collect();
    Ok(Json(AppDetail { functions, ..detail(app, record, &environment.name, &containers)? }))
}

fn detail(
    app: &App,
    record: &AppRecord,
    environment: &str,
    containers: &HashMap<AppId, u32>,
) -> Answer<AppDetail> {
    let noted = app.apps.detail(record)?;
    Ok(AppDetail {
        id: record.id.to_string(),
        name: record.name.clone(),
        description: record.description.clone(),
        environment: environment.to_owned(),
        state: state(record.phase).to_owned(),
        version: record.version,
        created: time(record.created),
        deployed: noted.deployed_at_ms.map(|at| time(Timestamp::from_millis(at))),
        ended: record.ended.map(time),
        end_reason: noted.end_reason,
        client_version: noted.client_version,
        tags: noted.tags,
        containers: containers.get(&record.id).copied().unwrap_or(0),
        functions: Vec::new(),
    })
}
