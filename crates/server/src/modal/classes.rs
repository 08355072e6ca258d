//! Classes: one function each, whose methods are named with the input.

use corral_apps::ClsDetail;
use corral_modal_api as api;
use corral_modal_api::Message;
use corral_types::{AppId, ClsId};

use super::call::Call;
use super::functions::environment_of;
use super::ids::{id, optional_id};
use super::refusal::{Answer, Refusal};
use super::{Edge, metadata};

pub async fn create(
    edge: &Edge,
    call: &Call,
    request: api::ClassCreateRequest,
) -> Answer<api::ClassCreateResponse> {
    let app: AppId = id(&request.app_id, "app")?;
    let existing: Option<ClsId> = optional_id(&request.existing_class_id, "class")?;
    let methods = request.methods;
    let detail = ClsDetail { methods: methods.iter().map(Message::encode_to_vec).collect() };
    let key = call.key("ClassCreate");
    let cls = edge.apps.put_cls(&call.caller, app, existing, &key, &detail).await?;
    Ok(api::ClassCreateResponse {
        class_id: cls.to_string(),
        handle_metadata: Some(api::ClassHandleMetadata { methods, ..Default::default() }),
    })
}

pub async fn get(
    edge: &Edge,
    call: &Call,
    request: api::ClassGetRequest,
) -> Answer<api::ClassGetResponse> {
    let (name, tag) = (&request.app_name, &request.object_tag);
    let environment = environment_of(call, edge, &request.environment_name).await?;
    let app = edge.apps.deployed_app(&call.caller, &environment, name).await?;
    let layout = edge.apps.layout(&call.caller, &app).await?;
    let cls = layout.classes.get(tag).copied().ok_or_else(|| {
        Refusal::not_found(format!("there is no class `{tag}` in the app `{name}`"))
    })?;
    let service = format!("{tag}.*");
    let function = edge.apps.function_named(&call.caller, &environment, name, &service).await?;
    let detail = edge.apps.cls(&call.caller, cls).await?;
    let mut methods = Vec::new();
    for method in &detail.methods {
        methods.extend(api::ClassMethod::decode(&method[..]).ok());
    }
    Ok(api::ClassGetResponse {
        class_id: cls.to_string(),
        handle_metadata: Some(metadata::of_class(&function, methods)?),
        ..Default::default()
    })
}
