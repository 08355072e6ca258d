//! Functions: made, defined, found, bound, scaled.

use corral_apps::ResolvedFunction;
use corral_catalog::FunctionRecord;
use corral_modal_api as api;
use corral_modal_api::Message;
use corral_types::{AppId, FunctionId};

use super::call::Call;
use super::ids::id;
use super::refusal::{Answer, Refusal};
use super::settings::{autoscaler, function_settings, scaling_change};
use super::{Edge, definitions, life, metadata, options};

pub async fn precreate(
    edge: &Edge,
    call: &Call,
    request: api::FunctionPrecreateRequest,
) -> Answer<api::FunctionPrecreateResponse> {
    let app: AppId = id(&request.app_id, "app")?;
    let record = edge.apps.precreate_function(&call.caller, app, &request.function_name).await?;
    // What is known of it so far is what the client has just said.
    let known = api::Function {
        function_name: request.function_name,
        function_type: request.function_type,
        method_definitions: request.method_definitions,
        function_schema: request.function_schema,
        supported_input_formats: request.supported_input_formats,
        supported_output_formats: request.supported_output_formats,
        ..Default::default()
    };
    let handle = metadata::of_definition(&known, record.id, record.latest, app.to_string());
    Ok(api::FunctionPrecreateResponse {
        function_id: record.id.to_string(),
        handle_metadata: Some(handle),
    })
}

pub async fn create(
    edge: &Edge,
    call: &Call,
    request: api::FunctionCreateRequest,
) -> Answer<api::FunctionCreateResponse> {
    let app: AppId = id(&request.app_id, "app")?;
    let existing = request.existing_function_id.clone();
    let function = definitions::of_request(request)?;
    let builder = builder_of(edge, call, &function).await?;
    let spec = definitions::read(call, &function, &builder)?;
    let tag = function.function_name.clone();
    let bytes = function.encode_to_vec();
    let record: FunctionRecord =
        edge.apps.define_function(&call.caller, app, &tag, &spec, bytes).await?;
    if !existing.is_empty() && existing != record.id.to_string() {
        let message = format!("the function `{tag}` is {}, not {existing}", record.id);
        return Err(Refusal::invalid(message));
    }
    let handle = metadata::of_definition(&function, record.id, record.latest, app.to_string());
    Ok(api::FunctionCreateResponse {
        function_id: record.id.to_string(),
        handle_metadata: Some(handle),
        function_data: Some(definitions::data(function.clone())),
        function: Some(function),
        ..Default::default()
    })
}

/// The image builder's version of a function's image: what its containers bring along follows
/// from it.
async fn builder_of(edge: &Edge, call: &Call, function: &api::Function) -> Answer<String> {
    let image = edge.apps.image(&call.caller, id(&function.image_id, "image")?).await?;
    Ok(image.builder_version)
}

pub async fn get(
    edge: &Edge,
    call: &Call,
    request: api::FunctionGetRequest,
) -> Answer<api::FunctionGetResponse> {
    let environment = environment_of(call, edge, &request.environment_name).await?;
    let found = edge
        .apps
        .function_named(&call.caller, &environment, &request.app_name, &request.object_tag)
        .await?;
    Ok(api::FunctionGetResponse {
        function_id: found.record.id.to_string(),
        handle_metadata: Some(metadata::of_function(&found)?),
        function: Some(definitions::data(metadata::definition(&found)?)),
        ..Default::default()
    })
}

/// The environment that is named, or the one that the caller is in; a container stays in its own.
pub async fn environment_of(call: &Call, edge: &Edge, name: &str) -> Answer<String> {
    let Some(app) = call.own_app() else { return Ok(name.to_owned()) };
    let app = edge.apps.app(&call.caller, app).await?;
    let own = edge.apps.environment_by_id(&call.caller, app.environment).await?.name;
    if !name.is_empty() && name != own {
        let message = format!("a container of the environment `{own}` reaches no other");
        return Err(Refusal::new(corral_types::ErrorKind::Forbidden, message));
    }
    Ok(own)
}

/// A function that the caller may call: a container those of its environment.
pub async fn callable(
    edge: &Edge,
    call: &Call,
    function: &str,
) -> Answer<std::sync::Arc<ResolvedFunction>> {
    let id: FunctionId = id(function, "function")?;
    let found = edge.apps.function(&call.caller, id).await?;
    if let Some(app) = call.own_app() {
        let own = edge.apps.app(&call.caller, app).await?;
        if own.environment != found.environment {
            return Err(Refusal::not_found(format!("there is no function `{function}`")));
        }
    }
    Ok(found)
}

pub async fn get_by_id(
    edge: &Edge,
    call: &Call,
    request: api::FunctionGetByIdRequest,
) -> Answer<api::FunctionGetByIdResponse> {
    let found = callable(edge, call, &request.function_id).await?;
    Ok(api::FunctionGetByIdResponse {
        handle_metadata: Some(metadata::of_function(&found)?),
        function: Some(definitions::data(metadata::definition(&found)?)),
    })
}

pub async fn bind_params(
    edge: &Edge,
    call: &Call,
    request: api::FunctionBindParamsRequest,
) -> Answer<api::FunctionBindParamsResponse> {
    let base = callable(edge, call, &request.function_id).await?;
    let change = options::read(request.function_options)?;
    if call.container.is_some() && !change.secrets.is_empty() {
        let message = "a container does not attach secrets to functions";
        return Err(Refusal::new(corral_types::ErrorKind::Forbidden, message));
    }
    let parameters = request.serialized_params.to_vec();
    let bound = edge.apps.bind_function(&call.caller, base.record.id, parameters, &change).await?;
    life::define(edge, &bound).await?;
    let mut handle = metadata::of_function(&bound)?;
    handle.base_function_id = bound.base().to_string();
    Ok(api::FunctionBindParamsResponse {
        bound_function_id: bound.record.id.to_string(),
        handle_metadata: Some(handle),
    })
}

pub async fn current_stats(
    edge: &Edge,
    call: &Call,
    request: api::FunctionGetCurrentStatsRequest,
) -> Answer<api::FunctionStats> {
    let found = callable(edge, call, &request.function_id).await?;
    let stats = edge.functions.stats(found.record.id).await?;
    let count = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Ok(api::FunctionStats {
        backlog: count(stats.backlog),
        num_total_tasks: stats.containers,
        num_running_inputs: count(stats.running_inputs),
        input_headroom: count(stats.input_headroom),
    })
}

pub async fn update_scheduling(
    edge: &Edge,
    call: &Call,
    request: api::FunctionUpdateSchedulingParamsRequest,
) -> Answer<api::FunctionUpdateSchedulingParamsResponse> {
    let found = callable(edge, call, &request.function_id).await?;
    let mut settings = request.settings.unwrap_or_default();
    if settings.min_containers.is_none() && request.warm_pool_size_override > 0 {
        settings.min_containers = Some(request.warm_pool_size_override);
    }
    let change = scaling_change(&settings);
    let scaling = edge.functions.change_scaling(&call.caller, found.record.id, change).await?;
    Ok(api::FunctionUpdateSchedulingParamsResponse { current_settings: Some(autoscaler(scaling)) })
}

pub async fn get_scheduling(
    edge: &Edge,
    call: &Call,
    request: api::FunctionGetSchedulingParamsRequest,
) -> Answer<api::FunctionGetSchedulingParamsResponse> {
    let found = callable(edge, call, &request.function_id).await?;
    let defined = function_settings(&found).scaling;
    let now = edge.functions.settings(found.record.id).await;
    let now = now.map_or(defined, |settings| settings.scaling);
    Ok(api::FunctionGetSchedulingParamsResponse {
        autoscaler_configuration: Some(api::AutoscalerConfiguration {
            settings: Some(autoscaler(now)),
            static_settings: Some(autoscaler(defined)),
            ..Default::default()
        }),
    })
}
