//! Apps: made, published, listed, ended.

use std::collections::{BTreeMap, HashMap};

use corral_apps::{AppPhase, AppRecord, Deployment, DeploymentKind, NewApp, PublishApp, Published};
use corral_modal_api as api;
use corral_modal_api::{AppState, Message};
use corral_types::{AppId, Caller, ClsId, ErrorKind, FunctionId};

use super::call::Call;
use super::ids::{id, seconds, text_or};
use super::refusal::{Answer, Refusal};
use super::{Edge, life, metadata};

pub async fn create(
    edge: &Edge,
    call: &Call,
    request: api::AppCreateRequest,
) -> Answer<api::AppCreateResponse> {
    let phase = match request.app_state() {
        AppState::Detached => AppPhase::Detached,
        AppState::Initializing | AppState::Deployed => AppPhase::Initializing,
        _ => AppPhase::Ephemeral,
    };
    let new = NewApp {
        environment: request.environment_name,
        description: request.description,
        phase,
        tags: request.tags.into_iter().collect(),
        client_version: call.client.text().to_owned(),
        idempotency_key: call.key("AppCreate"),
    };
    let app = edge.apps.create_app(&call.caller, new).await?;
    let page = page_url(call, &app);
    Ok(api::AppCreateResponse {
        app_id: app.id.to_string(),
        app_logs_url: page.clone(),
        app_page_url: page,
    })
}

/// Where people look at an app.
fn page_url(call: &Call, app: &AppRecord) -> String {
    format!("{}/apps/{}", call.base_url, app.id)
}

pub async fn heartbeat(edge: &Edge, call: &Call, request: api::AppHeartbeatRequest) -> Answer<()> {
    Ok(edge.apps.heartbeat(&call.caller, id(&request.app_id, "app")?).await?)
}

pub async fn publish(
    edge: &Edge,
    call: &Call,
    request: api::AppPublishRequest,
) -> Answer<api::AppPublishResponse> {
    if request.staged {
        let message = "Corral does not serve staged deployments";
        return Err(Refusal::new(ErrorKind::Unsupported, message));
    }
    let phase = phase(request.app_state());
    let definitions = &request.definition_ids;
    let mut functions = BTreeMap::new();
    for (tag, function) in &request.function_ids {
        let function_id: FunctionId = id(function, "function")?;
        let definition = definitions
            .get(function)
            .and_then(|definition| metadata::definition_number(function_id, definition));
        functions.insert(tag.clone(), (function_id, definition));
    }
    let mut classes = BTreeMap::new();
    for (tag, cls) in &request.class_ids {
        classes.insert(tag.clone(), id(cls, "class")?);
    }
    let publish = PublishApp {
        app: id(&request.app_id, "app")?,
        name: request.name,
        phase,
        functions,
        classes,
        tags: request.tags.into_iter().collect(),
        deployment: Deployment {
            kind: DeploymentKind::Published,
            tag: request.deployment_tag,
            client_version: call.client.text().to_owned(),
            deployed_by: deployed_by(call),
            commit: request.commit_info.map(|info| info.encode_to_vec()).unwrap_or_default(),
        },
    };
    let published = edge.apps.publish(&call.caller, publish).await?;
    life::published(edge, &call.caller, &published).await?;
    let deployed_at = deployed_at(edge, &published)?;
    let url = page_url(call, &published.app);
    Ok(api::AppPublishResponse { url, deployed_at, server_warnings: Vec::new() })
}

fn deployed_by(call: &Call) -> String {
    call.caller.token.map(|token| token.to_string()).unwrap_or_default()
}

/// 0 where nothing has changed, as clients expect.
fn deployed_at(edge: &Edge, published: &Published) -> Answer<f64> {
    if !published.is_new {
        return Ok(0.0);
    }
    let detail = edge.apps.detail(&published.app)?;
    Ok(detail
        .deployed_at_ms
        .map_or_else(|| seconds(corral_types::Timestamp::now()), |millis| millis as f64 / 1e3))
}

const fn phase(state: AppState) -> Option<AppPhase> {
    match state {
        AppState::Ephemeral => Some(AppPhase::Ephemeral),
        AppState::Detached => Some(AppPhase::Detached),
        AppState::Deployed => Some(AppPhase::Deployed),
        _ => None,
    }
}

/// What clients before 1.0 do instead of publishing: first the objects, then the name.
pub async fn set_objects(
    edge: &Edge,
    call: &Call,
    request: api::AppSetObjectsRequest,
) -> Answer<()> {
    let mut functions = BTreeMap::new();
    let mut classes = BTreeMap::new();
    for (tag, object) in &request.indexed_object_ids {
        if let Ok(function) = object.parse::<FunctionId>() {
            functions.insert(tag.clone(), (function, None));
        } else if let Ok(cls) = object.parse::<ClsId>() {
            classes.insert(tag.clone(), cls);
        }
    }
    let publish = PublishApp {
        app: id(&request.app_id, "app")?,
        name: String::new(),
        phase: phase(request.new_app_state()),
        functions,
        classes,
        tags: BTreeMap::new(),
        deployment: Deployment {
            client_version: call.client.text().to_owned(),
            deployed_by: deployed_by(call),
            ..Deployment::default()
        },
    };
    let published = edge.apps.publish(&call.caller, publish).await?;
    life::published(edge, &call.caller, &published).await
}

pub async fn deploy(
    edge: &Edge,
    call: &Call,
    request: api::AppDeployRequest,
) -> Answer<api::AppDeployResponse> {
    let app = edge.apps.app(&call.caller, id(&request.app_id, "app")?).await?;
    let layout = edge.apps.layout(&call.caller, &app).await?;
    let functions = layout.functions.into_iter();
    let publish = PublishApp {
        app: app.id,
        name: request.name,
        phase: Some(AppPhase::Deployed),
        functions: functions.map(|(tag, at)| (tag, (at.id, Some(at.definition)))).collect(),
        classes: layout.classes,
        tags: edge.apps.detail(&app)?.tags,
        deployment: Deployment { tag: request.tag, ..layout.deployment },
    };
    let published = edge.apps.publish(&call.caller, publish).await?;
    life::published(edge, &call.caller, &published).await?;
    Ok(api::AppDeployResponse { url: page_url(call, &published.app) })
}

pub async fn get_objects(
    edge: &Edge,
    call: &Call,
    request: api::AppGetObjectsRequest,
) -> Answer<api::AppGetObjectsResponse> {
    let app = edge.apps.app(&call.caller, id(&request.app_id, "app")?).await?;
    let layout = edge.apps.layout(&call.caller, &app).await?;
    let wire = metadata::layout(edge, &call.caller, &app, &layout).await?;
    let mut objects: HashMap<String, api::Object> =
        wire.objects.into_iter().map(|object| (object.object_id.clone(), object)).collect();
    let tags = wire.function_ids.into_iter().chain(wire.class_ids);
    let items =
        tags.map(|(tag, object)| api::AppGetObjectsItem { tag, object: objects.remove(&object) });
    Ok(api::AppGetObjectsResponse { items: items.collect() })
}

pub async fn lookup(
    edge: &Edge,
    call: &Call,
    request: api::AppLookupRequest,
) -> Answer<api::AppLookupResponse> {
    let (environment, name) = (&request.environment_name, &request.app_name);
    let app = edge.apps.deployed_app(&call.caller, environment, name).await?;
    Ok(api::AppLookupResponse { app_id: app.id.to_string() })
}

pub async fn get_or_create(
    edge: &Edge,
    call: &Call,
    request: api::AppGetOrCreateRequest,
) -> Answer<api::AppGetOrCreateResponse> {
    let (environment, name) = (&request.environment_name, &request.app_name);
    let creates = request.object_creation_type() == api::ObjectCreationType::CreateIfMissing;
    let app = if creates {
        let version = call.client.text();
        edge.apps.app_or_create(&call.caller, environment, name, version).await?
    } else {
        edge.apps.deployed_app(&call.caller, environment, name).await?
    };
    let handle_metadata = Some(handle(edge, &call.caller, &app).await?);
    Ok(api::AppGetOrCreateResponse { app_id: app.id.to_string(), handle_metadata })
}

pub async fn by_deployment_name(
    edge: &Edge,
    call: &Call,
    request: api::AppGetByDeploymentNameRequest,
) -> Answer<api::AppGetByDeploymentNameResponse> {
    let environment = edge.apps.environment(&call.caller, &request.environment_name).await?;
    let found = edge.apps.deployed_app(&call.caller, &environment.name, &request.name).await;
    let mut answer = api::AppGetByDeploymentNameResponse {
        environment_name: environment.name,
        ..Default::default()
    };
    match found {
        Ok(app) => {
            answer.lifecycle = Some(lifecycle(edge, &app)?);
            answer.app_id = app.id.to_string();
        }
        // No app is an answer too: the client then makes one.
        Err(corral_apps::AppsError::Catalog(corral_catalog::CatalogError::NotFound { .. })) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(answer)
}

pub async fn get_layout(
    edge: &Edge,
    call: &Call,
    request: api::AppGetLayoutRequest,
) -> Answer<api::AppGetLayoutResponse> {
    let app = edge.apps.app(&call.caller, id(&request.app_id, "app")?).await?;
    let layout = edge.apps.layout(&call.caller, &app).await?;
    let app_layout = Some(metadata::layout(edge, &call.caller, &app, &layout).await?);
    Ok(api::AppGetLayoutResponse { app_layout })
}

pub async fn get_lifecycle(
    edge: &Edge,
    call: &Call,
    request: api::AppGetLifecycleRequest,
) -> Answer<api::AppGetLifecycleResponse> {
    let app = edge.apps.app(&call.caller, id(&request.app_id, "app")?).await?;
    Ok(api::AppGetLifecycleResponse { lifecycle: Some(lifecycle(edge, &app)?) })
}

pub async fn get_info(
    edge: &Edge,
    call: &Call,
    request: api::AppGetInfoRequest,
) -> Answer<api::AppGetInfoResponse> {
    let app = edge.apps.app(&call.caller, id(&request.app_id, "app")?).await?;
    let info = Some(handle(edge, &call.caller, &app).await?);
    Ok(api::AppGetInfoResponse { info, ..Default::default() })
}

pub async fn list(
    edge: &Edge,
    call: &Call,
    request: api::AppListRequest,
) -> Answer<api::AppListResponse> {
    let apps = edge.apps.apps(&call.caller, &request.environment_name).await?;
    let mut running: HashMap<AppId, i32> = HashMap::new();
    for container in edge.functions.containers(Some(call.caller.workspace)).await {
        *running.entry(container.app).or_default() += 1;
    }
    let mut items = Vec::with_capacity(apps.len());
    for app in apps {
        items.push(api::app_list_response::AppListItem {
            app_id: app.id.to_string(),
            description: app.name.clone().unwrap_or_else(|| app.description.clone()),
            state: state(&app).into(),
            created_at: seconds(app.created),
            stopped_at: app.ended.map(seconds).unwrap_or_default(),
            n_running_tasks: running.get(&app.id).copied().unwrap_or(0),
            name: app.name.clone().unwrap_or_default(),
            ..Default::default()
        });
    }
    Ok(api::AppListResponse { apps: items })
}

pub async fn stop(edge: &Edge, call: &Call, request: api::AppStopRequest) -> Answer<()> {
    edge.stop_app(&call.caller, id(&request.app_id, "app")?, None).await?;
    Ok(())
}

pub async fn client_disconnect(
    edge: &Edge,
    call: &Call,
    request: api::AppClientDisconnectRequest,
) -> Answer<()> {
    let reason = request.reason().as_str_name().trim_start_matches("APP_DISCONNECT_REASON_");
    let mut reason = reason.to_lowercase().replace('_', " ");
    if !request.exception.is_empty() {
        let exception: String = request.exception.chars().take(1_000).collect();
        reason = format!("{reason}: {exception}");
    }
    let app = id(&request.app_id, "app")?;
    if let Some(stopped) = edge.apps.disconnect(&call.caller, app, Some(reason)).await? {
        life::stopped(edge, &stopped).await?;
    }
    Ok(())
}

pub async fn rollback(
    edge: &Edge,
    call: &Call,
    request: api::AppRollbackRequest,
) -> Answer<api::AppRollbackResponse> {
    let (app, version) = (id(&request.app_id, "app")?, i64::from(request.version));
    let published = edge.roll_back_app(&call.caller, app, version, call.client.text()).await?;
    let deployed_at = deployed_at(edge, &published)?;
    let url = page_url(call, &published.app);
    Ok(api::AppRollbackResponse { url, deployed_at, server_warnings: Vec::new() })
}

pub async fn rollover(
    edge: &Edge,
    call: &Call,
    request: api::AppRolloverRequest,
) -> Answer<api::AppRolloverResponse> {
    let app = id(&request.app_id, "app")?;
    let published = edge.apps.rollover(&call.caller, app, call.client.text()).await?;
    life::published(edge, &call.caller, &published).await?;
    let deployed_at = deployed_at(edge, &published)?;
    let url = page_url(call, &published.app);
    Ok(api::AppRolloverResponse { url, deployed_at, server_warnings: Vec::new() })
}

pub async fn history(
    edge: &Edge,
    call: &Call,
    request: api::AppDeploymentHistoryRequest,
) -> Answer<api::AppDeploymentHistoryResponse> {
    let app = edge.apps.app(&call.caller, id(&request.app_id, "app")?).await?;
    let versions = edge.apps.versions(&call.caller, app.id).await?;
    let histories = versions.into_iter().rev().map(|(number, created, layout)| {
        let Deployment { kind, tag, client_version, deployed_by, commit } = layout.deployment;
        let (rollback_version, deployment_type) = match kind {
            DeploymentKind::Published => (0, api::DeploymentType::Standard),
            DeploymentKind::Rollback { to } => (to, api::DeploymentType::Rollback),
            DeploymentKind::Rollover => (0, api::DeploymentType::Rollover),
        };
        let commit = (!commit.is_empty()).then(|| api::CommitInfo::decode(&commit[..]));
        api::AppDeploymentHistory {
            app_id: app.id.to_string(),
            version: number,
            client_version,
            deployed_at: seconds(created),
            deployed_by,
            tag,
            rollback_version,
            rollback_allowed: number != app.version,
            commit_info: commit.and_then(Result::ok),
            deployment_type: deployment_type.into(),
            ..Default::default()
        }
    });
    Ok(api::AppDeploymentHistoryResponse {
        app_deployment_histories: histories.collect(),
        production_app_version: app.version,
    })
}

pub async fn set_tags(edge: &Edge, call: &Call, request: api::AppSetTagsRequest) -> Answer<()> {
    let tags = request.tags.into_iter().collect();
    Ok(edge.apps.set_tags(&call.caller, id(&request.app_id, "app")?, tags).await?)
}

pub async fn get_tags(
    edge: &Edge,
    call: &Call,
    request: api::AppGetTagsRequest,
) -> Answer<api::AppGetTagsResponse> {
    let app = edge.apps.app(&call.caller, id(&request.app_id, "app")?).await?;
    let tags = edge.apps.detail(&app)?.tags;
    Ok(api::AppGetTagsResponse { tags: tags.into_iter().collect() })
}

const fn state(app: &AppRecord) -> AppState {
    match app.phase {
        AppPhase::Initializing => AppState::Initializing,
        AppPhase::Ephemeral => AppState::Ephemeral,
        AppPhase::Detached => AppState::Detached,
        AppPhase::Deployed => AppState::Deployed,
        AppPhase::Stopped => AppState::Stopped,
    }
}

fn lifecycle(edge: &Edge, app: &AppRecord) -> Answer<api::AppLifecycle> {
    let detail = edge.apps.detail(app)?;
    Ok(api::AppLifecycle {
        app_state: state(app).into(),
        created_at: seconds(app.created),
        created_by: detail.created_by,
        deployed_at: detail.deployed_at_ms.map(|ms| ms as f64 / 1e3).unwrap_or_default(),
        version: app.version as i32,
        stopped_at: app.ended.map(seconds).unwrap_or_default(),
        stopped_by: detail.end_reason.unwrap_or_default(),
        ..Default::default()
    })
}

async fn handle(edge: &Edge, caller: &Caller, app: &AppRecord) -> Answer<api::AppHandleMetadata> {
    let environment = edge.apps.environment_by_id(caller, app.environment).await?;
    let layout = edge.apps.layout(caller, app).await?;
    let functions = layout.functions.iter();
    Ok(api::AppHandleMetadata {
        description: text_or(app.name.as_deref().unwrap_or_default(), &app.description).to_owned(),
        app_id: app.id.to_string(),
        environment_name: environment.name,
        lifecycle: Some(lifecycle(edge, app)?),
        functions: functions.map(|(tag, placed)| (tag.clone(), placed.id.to_string())).collect(),
        ..Default::default()
    })
}
