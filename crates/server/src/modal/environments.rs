//! Environments and workspaces.

use corral_apps::{DEFAULT_ENVIRONMENT, EnvironmentRecord};
use corral_modal_api as api;

use super::Edge;
use super::call::Call;
use super::ids::seconds;
use super::refusal::{Answer, Refusal};

pub async fn get_or_create(
    edge: &Edge,
    call: &Call,
    request: api::EnvironmentGetOrCreateRequest,
) -> Answer<api::EnvironmentGetOrCreateResponse> {
    let name = &request.deployment_name;
    let found = edge.apps.environment(&call.caller, name).await;
    let environment = match (found, request.object_creation_type()) {
        (Ok(found), api::ObjectCreationType::CreateFailIfExists) => {
            let exists = format!("there is already an environment `{}`", found.name);
            return Err(Refusal::new(corral_types::ErrorKind::Conflict, exists));
        }
        (Ok(found), _) => found,
        (Err(error), api::ObjectCreationType::Unspecified) => return Err(error.into()),
        (Err(_), _) if call.container.is_some() => {
            return Err(Refusal::not_found(format!("there is no environment `{name}`")));
        }
        (Err(_), _) => edge.apps.create_environment(&call.caller, name).await?,
    };
    Ok(api::EnvironmentGetOrCreateResponse {
        environment_id: environment.id.to_string(),
        metadata: Some(api::EnvironmentMetadata {
            name: environment.name,
            settings: Some(api::EnvironmentSettings {
                image_builder_version: call.client.builder().to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
    })
}

pub async fn list(edge: &Edge, call: &Call, _: ()) -> Answer<api::EnvironmentListResponse> {
    let environments = edge.apps.environments(&call.caller).await?;
    let items = environments.into_iter().map(|found| item(call, found)).collect();
    Ok(api::EnvironmentListResponse { items })
}

pub async fn create(
    edge: &Edge,
    call: &Call,
    request: api::EnvironmentCreateRequest,
) -> Answer<()> {
    edge.apps.create_environment(&call.caller, &request.name).await?;
    Ok(())
}

pub async fn delete(
    edge: &Edge,
    call: &Call,
    request: api::EnvironmentDeleteRequest,
) -> Answer<()> {
    Ok(edge.apps.remove_environment(&call.caller, &request.name).await?)
}

pub async fn update(
    edge: &Edge,
    call: &Call,
    request: api::EnvironmentUpdateRequest,
) -> Answer<api::EnvironmentListItem> {
    let changed = match &request.name {
        Some(name) => {
            edge.apps.rename_environment(&call.caller, &request.current_name, name).await?
        }
        None => edge.apps.environment(&call.caller, &request.current_name).await?,
    };
    Ok(item(call, changed))
}

fn item(call: &Call, environment: EnvironmentRecord) -> api::EnvironmentListItem {
    api::EnvironmentListItem {
        default: environment.name == DEFAULT_ENVIRONMENT,
        environment_id: environment.id.to_string(),
        created_at: seconds(environment.created),
        image_builder_version: Some(call.client.builder().to_owned()),
        name: environment.name,
        ..Default::default()
    }
}
