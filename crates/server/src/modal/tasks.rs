//! Containers, as people see them.

use corral_functions::ContainerInfo;
use corral_modal_api as api;
use corral_types::{AppId, ContainerId, ErrorKind};

use super::Edge;
use super::call::Call;
use super::ids::{id, optional_id, seconds};
use super::refusal::{Answer, Refusal};

pub async fn list(
    edge: &Edge,
    call: &Call,
    request: api::TaskListRequest,
) -> Answer<api::TaskListResponse> {
    let app: Option<AppId> = optional_id(&request.app_id, "app")?;
    let environment = edge.apps.environment(&call.caller, &request.environment_name).await?;
    let mut tasks = Vec::new();
    for container in edge.functions.containers(Some(call.caller.workspace)).await {
        if app.is_some_and(|app| app != container.app) {
            continue;
        }
        let of = edge.apps.app(&call.caller, container.app).await?;
        if app.is_none() && of.environment != environment.id {
            continue;
        }
        tasks.push(api::TaskStats {
            task_id: container.container.to_string(),
            app_id: of.id.to_string(),
            app_description: of.name.unwrap_or(of.description),
            started_at: container.started_at.map(seconds).unwrap_or_default(),
            enqueued_at: seconds(container.requested_at),
        });
    }
    Ok(api::TaskListResponse { tasks })
}

pub async fn info(
    edge: &Edge,
    call: &Call,
    request: api::TaskGetInfoRequest,
) -> Answer<api::TaskGetInfoResponse> {
    let container = find(edge, call, &request.task_id).await?;
    Ok(api::TaskGetInfoResponse {
        app_id: container.app.to_string(),
        info: Some(api::TaskInfo {
            id: container.container.to_string(),
            started_at: container.started_at.map(seconds).unwrap_or_default(),
            enqueued_at: seconds(container.requested_at),
            ..Default::default()
        }),
    })
}

/// A person may stop any container of the workspace, a container itself.
pub async fn stop(
    edge: &Edge,
    call: &Call,
    request: api::ContainerStopRequest,
) -> Answer<api::ContainerStopResponse> {
    let container = find(edge, call, &request.task_id).await?.container;
    if call.container.as_ref().is_some_and(|own| own.container != container) {
        let message = "a container stops no other";
        return Err(Refusal::new(ErrorKind::Forbidden, message));
    }
    edge.functions.stop_container(&call.caller, container).await?;
    Ok(api::ContainerStopResponse {})
}

async fn find(edge: &Edge, call: &Call, text: &str) -> Answer<ContainerInfo> {
    let container: ContainerId = id(text, "container")?;
    let found = edge.functions.container(container).await;
    let own = found.filter(|found| found.workspace == call.caller.workspace);
    own.ok_or_else(|| Refusal::not_found(format!("there is no container `{text}`")))
}
