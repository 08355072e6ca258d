//! What a container's client is started with.

use std::collections::HashSet;

use corral_apps::ResolvedFunction;
use corral_modal_api as api;
use corral_modal_api::Message;
use corral_modal_api::object::HandleMetadataOneof;
use corral_types::{Caller, ContainerId, FunctionId};

use super::refusal::Answer;
use super::{Edge, metadata};

/// The bytes of the file that a container of this function reads its arguments from. For one
/// that is to stop at its checkpoint, `checkpoint` names that.
///
/// Everything that its code refers to is among its objects, since the client fails on what is
/// not.
///
/// # Errors
/// When a definition cannot be read.
pub async fn container_arguments(
    edge: &Edge,
    function: &ResolvedFunction,
    container: ContainerId,
    checkpoint: Option<&str>,
) -> Answer<Vec<u8>> {
    let caller = Caller {
        workspace: function.workspace,
        token: None,
        scopes: super::call::scopes_of_the_server(),
    };
    let mut definition = metadata::definition(function)?;
    let spec = &function.spec;
    // A bound function may ask for other numbers than its base.
    definition.max_concurrent_inputs = spec.max_concurrent_inputs;
    definition.target_concurrent_inputs = spec.target_concurrent_inputs;
    definition.batch_max_size = spec.batching.map_or(0, |batch| batch.max_size);
    definition.batch_linger_ms = spec.batching.map_or(0, |batch| batch.linger_ms);
    definition.is_checkpointing_function = checkpoint.is_some();
    definition.app_name = function.app.name.clone().unwrap_or_default();
    let mut layout = metadata::layout(edge, &caller, &function.app, &function.layout).await?;
    add_self(function, &mut layout)?;
    add_dependencies(edge, &caller, &spec.dependencies, &mut layout).await?;
    let arguments = api::ContainerArguments {
        task_id: container.to_string(),
        function_id: function.record.id.to_string(),
        app_id: function.app.id.to_string(),
        function_def: Some(definition),
        serialized_params: function.parameters().to_vec().into(),
        environment_name: function.environment_name.clone(),
        checkpoint_id: checkpoint.map(str::to_owned),
        app_layout: Some(layout),
        ..Default::default()
    };
    Ok(arguments.encode_to_vec())
}

/// A function that was not published stands in no layout, but its container asks for it.
fn add_self(function: &ResolvedFunction, layout: &mut api::AppLayout) -> Answer<()> {
    let base = function.base();
    if function.layout.placed(base).is_some() {
        return Ok(());
    }
    let handle = metadata::of_function(function)?;
    layout.function_ids.insert(function.record.tag.clone(), base.to_string());
    layout.objects.push(api::Object {
        object_id: base.to_string(),
        handle_metadata_oneof: Some(HandleMetadataOneof::FunctionHandleMetadata(handle)),
    });
    Ok(())
}

async fn add_dependencies(
    edge: &Edge,
    caller: &Caller,
    dependencies: &[String],
    layout: &mut api::AppLayout,
) -> Answer<()> {
    let mut there: HashSet<String> =
        layout.objects.iter().map(|object| object.object_id.clone()).collect();
    for dependency in dependencies {
        if !there.insert(dependency.clone()) {
            continue;
        }
        // A function of another app comes with what is needed to call it; of images, secrets and
        // mounts the id is enough.
        let handle = match dependency.parse::<FunctionId>() {
            Ok(id) => {
                let function = edge.apps.function(caller, id).await?;
                let handle = metadata::of_function(&function)?;
                Some(HandleMetadataOneof::FunctionHandleMetadata(handle))
            }
            Err(_) => None,
        };
        let object_id = dependency.clone();
        layout.objects.push(api::Object { object_id, handle_metadata_oneof: handle });
    }
    Ok(())
}
