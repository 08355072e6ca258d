//! Secrets.

use corral_apps::{NewSecret, SecretInfo, SecretMode};
use corral_containers::SecretValue;
use corral_modal_api as api;
use corral_modal_api::ObjectCreationType;

use super::Edge;
use super::call::Call;
use super::ids::{id, seconds};
use super::refusal::{Answer, Refusal};

pub async fn get_or_create(
    edge: &Edge,
    call: &Call,
    request: api::SecretGetOrCreateRequest,
) -> Answer<api::SecretGetOrCreateResponse> {
    let apps = &edge.apps;
    let created = request.object_creation_type();
    let environment = if created == ObjectCreationType::AnonymousOwnedByApp
        && request.environment_name.is_empty()
        && !request.app_id.is_empty()
    {
        apps.app(&call.caller, id(&request.app_id, "app")?).await?.environment
    } else {
        apps.environment(&call.caller, &request.environment_name).await?.id
    };
    let name = request.deployment_name;
    let mode = match created {
        ObjectCreationType::Unspecified => {
            let required = &request.required_keys;
            let found = apps.secret_named(&call.caller, environment, &name, required).await?;
            return answer(edge, call, found).await;
        }
        ObjectCreationType::CreateIfMissing => SecretMode::CreateIfMissing,
        ObjectCreationType::CreateFailIfExists => SecretMode::CreateOrFail,
        ObjectCreationType::CreateOverwriteIfExists
        | ObjectCreationType::AnonymousOwnedByApp
        | ObjectCreationType::Ephemeral => SecretMode::Overwrite,
    };
    let is_anonymous =
        matches!(created, ObjectCreationType::AnonymousOwnedByApp | ObjectCreationType::Ephemeral);
    if !is_anonymous && name.is_empty() {
        return Err(Refusal::invalid("a secret that is kept needs a name"));
    }
    let values = request.env_dict.into_iter();
    let new = NewSecret {
        environment,
        name: (!is_anonymous).then_some(name),
        values: values.map(|(key, value)| (key, SecretValue::new(value))).collect(),
        mode,
    };
    let kept = apps.put_secret(&call.caller, new).await?;
    answer(edge, call, kept).await
}

async fn answer(
    edge: &Edge,
    call: &Call,
    secret: SecretInfo,
) -> Answer<api::SecretGetOrCreateResponse> {
    let environment = edge.apps.environment_by_id(&call.caller, secret.environment).await?;
    Ok(api::SecretGetOrCreateResponse {
        secret_id: secret.id.to_string(),
        metadata: Some(metadata(&secret, &environment.name)),
    })
}

fn metadata(secret: &SecretInfo, environment: &str) -> api::SecretMetadata {
    api::SecretMetadata {
        name: secret.name.clone().unwrap_or_default(),
        creation_info: Some(api::CreationInfo {
            created_at: seconds(secret.created),
            created_by: secret.detail.created_by.clone(),
        }),
        keys: secret.detail.keys.clone(),
        environment_name: environment.to_owned(),
        ..Default::default()
    }
}

pub async fn list(
    edge: &Edge,
    call: &Call,
    request: api::SecretListRequest,
) -> Answer<api::SecretListResponse> {
    let environment = edge.apps.environment(&call.caller, &request.environment_name).await?;
    let mut secrets = edge.apps.secrets(&call.caller, environment.id).await?;
    // Newest first, in pages that end before a time.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.created));
    if let Some(page) = &request.pagination {
        if page.created_before > 0.0 {
            secrets.retain(|secret| seconds(secret.created) < page.created_before);
        }
        if let Ok(most @ 1..) = usize::try_from(page.max_objects) {
            secrets.truncate(most);
        }
    }
    let items = secrets.iter().map(|secret| api::SecretListItem {
        label: secret.name.clone().unwrap_or_default(),
        created_at: seconds(secret.created),
        environment_name: environment.name.clone(),
        secret_id: secret.id.to_string(),
        metadata: Some(metadata(secret, &environment.name)),
        ..Default::default()
    });
    let items = items.collect();
    Ok(api::SecretListResponse { items, environment_name: environment.name })
}

pub async fn delete(edge: &Edge, call: &Call, request: api::SecretDeleteRequest) -> Answer<()> {
    Ok(edge.apps.remove_secret(&call.caller, id(&request.secret_id, "secret")?).await?)
}

pub async fn update(edge: &Edge, call: &Call, request: api::SecretUpdateRequest) -> Answer<()> {
    let secret = id(&request.secret_id, "secret")?;
    let changes = request.updates.into_iter();
    let changes = changes.map(|one| (one.key, one.value.map(SecretValue::new))).collect();
    edge.apps.change_secret(&call.caller, secret, changes).await?;
    Ok(())
}

pub async fn get_info(
    edge: &Edge,
    call: &Call,
    request: api::SecretGetInfoRequest,
) -> Answer<api::SecretGetInfoResponse> {
    let secret = edge.apps.secret(&call.caller, id(&request.secret_id, "secret")?).await?;
    let environment = edge.apps.environment_by_id(&call.caller, secret.environment).await?;
    let metadata = Some(metadata(&secret, &environment.name));
    Ok(api::SecretGetInfoResponse { metadata })
}
