//! `/v1/containers`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use corral_apps::AppRecord;
use corral_containers::StartKind;
use corral_functions::ContainerInfo;
use corral_types::{AppId, Caller, ContainerId, ErrorKind, Failure};

use super::answer::{Answer, ApiError, Query, id, time};
use super::apps;
use super::pages::{Place, newest_first};
use crate::api::{ContainerDetail, ContainerListQuery, Page};
use crate::auth::{Reader, Writer};
use crate::state::App;

/// The containers there are, newest first.
#[utoipa::path(get, path = "/v1/containers", tag = "functions", params(ContainerListQuery),
    responses((status = 200, body = Page<ContainerDetail>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<ContainerListQuery>,
) -> Answer<Json<Page<ContainerDetail>>> {
    let environment = query.environment.as_deref();
    let mut found = app.functions.containers(Some(caller.workspace)).await;
    if let Some(text) = &query.app {
        let record = apps::find(&app, &caller, environment, text).await?;
        found.retain(|container| container.app == record.id);
    }
    let mut places = Places::default();
    if let Some(environment) = environment {
        let environment = app.apps.environment(&caller, environment).await?.id;
        let mut inside = Vec::with_capacity(found.len());
        for container in found {
            if places.of(&app, &caller, container.app).await?.0.environment == environment {
                inside.push(container);
            }
        }
        found = inside;
    }
    let place = |one: &ContainerInfo| Place::new(one.requested_at, one.container);
    let page = newest_first(found, place, query.after.as_deref(), query.limit)?;
    let mut items = Vec::with_capacity(page.items.len());
    for container in page.items {
        items.push(detail(&app, &caller, &mut places, container).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// One container.
#[utoipa::path(get, path = "/v1/containers/{id}", tag = "functions",
    params(("id" = String, Path)), responses((status = 200, body = ContainerDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
) -> Answer<Json<ContainerDetail>> {
    let container: ContainerId = id(&text, "container")?;
    let found = app.functions.container(container).await;
    let found = found.filter(|found| found.workspace == caller.workspace).ok_or_else(|| {
        let message = format!("there is no container {container} now");
        ApiError(
            Failure::new(ErrorKind::NotFound, message)
                .with_hint("`corral container ls` lists the containers"),
        )
    })?;
    Ok(Json(detail(&app, &caller, &mut Places::default(), found).await?))
}

/// Ends a container; the inputs that it works on are tried elsewhere.
#[utoipa::path(post, path = "/v1/containers/{id}/stop", tag = "functions",
    params(("id" = String, Path)), responses((status = 204)))]
pub async fn stop(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    app.functions.stop_container(&caller, id(&text, "container")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Apps of a list with the names of their environments, each looked up once.
#[derive(Default)]
struct Places(HashMap<AppId, (AppRecord, String)>);

impl Places {
    async fn of(&mut self, app: &App, caller: &Caller, id: AppId) -> Answer<&(AppRecord, String)> {
        match self.0.entry(id) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(vacant) => {
                let record = app.apps.app(caller, id).await?;
                let environment = app.apps.environment_by_id(caller, record.environment).await?;
                Ok(vacant.insert((record, environment.name)))
            }
        }
    }
}

async fn detail(
    app: &App,
    caller: &Caller,
    places: &mut Places,
    container: ContainerInfo,
) -> Answer<ContainerDetail> {
    let function = app.apps.function(caller, container.function).await?;
    let (record, environment) = places.of(app, caller, container.app).await?;
    Ok(ContainerDetail {
        id: container.container.to_string(),
        environment: environment.clone(),
        app: record.name.clone().unwrap_or_else(|| record.description.clone()),
        app_id: record.id.to_string(),
        function: function.record.tag.clone(),
        function_id: container.function.to_string(),
        version: container.version,
        state: container.state.as_str().to_owned(),
        started_from: container.start_kind.map(|kind| {
            match kind {
                StartKind::Cold => "cold",
                StartKind::Template => "template",
                StartKind::Snapshot => "snapshot",
            }
            .to_owned()
        }),
        requested: time(container.requested_at),
        started: container.started_at.map(time),
        inputs: container.inputs.iter().map(ToString::to_string).collect(),
        inputs_given: container.inputs_given,
    })
}
