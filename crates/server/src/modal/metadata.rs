//! What clients are told of functions and classes, and of what an app consists of.

use std::collections::HashMap;

use corral_apps::{AppRecord, Layout, ResolvedFunction};
use corral_modal_api as api;
use corral_modal_api::Message;
use corral_modal_api::object::HandleMetadataOneof;
use corral_types::{Caller, ErrorKind, FunctionId};

use super::Edge;
use super::payloads::MAX_MESSAGE_PAYLOAD_BYTES;
use super::refusal::{Answer, Refusal};

/// The definition as the client sent it.
pub fn definition(function: &ResolvedFunction) -> Answer<api::Function> {
    api::Function::decode(&*function.definition).map_err(|error| {
        let id = function.record.id;
        Refusal::new(ErrorKind::DataLoss, format!("read the definition of {id}: {error}"))
    })
}

/// What a client needs in order to call a function.
pub fn of_function(function: &ResolvedFunction) -> Answer<api::FunctionHandleMetadata> {
    let placed = function.layout.placed(function.base());
    let number = placed.map_or(function.record.latest, |placed| placed.definition);
    let app = function.app.id.to_string();
    Ok(of_definition(&definition(function)?, function.base(), number, app))
}

/// The same, for a definition that has not been published.
pub fn of_definition(
    function: &api::Function,
    base: FunctionId,
    number: u32,
    app: String,
) -> api::FunctionHandleMetadata {
    let definition_id = definition_id(base, number);
    let methods = function
        .method_definitions
        .iter()
        .map(|(name, method)| (name.clone(), of_method(name, method, &definition_id, &app)));
    api::FunctionHandleMetadata {
        function_name: function.function_name.clone(),
        function_type: function.function_type,
        web_url: function.web_url.clone(),
        is_method: function.is_method,
        class_parameter_info: function.class_parameter_info.clone(),
        method_handle_metadata: methods.collect(),
        function_schema: function.function_schema.clone(),
        max_object_size_bytes: Some(MAX_MESSAGE_PAYLOAD_BYTES),
        max_async_object_size_bytes: Some(MAX_MESSAGE_PAYLOAD_BYTES),
        supported_input_formats: function.supported_input_formats.clone(),
        supported_output_formats: function.supported_output_formats.clone(),
        app_id: app,
        definition_id,
        ..Default::default()
    }
}

fn of_method(
    name: &str,
    method: &api::MethodDefinition,
    definition_id: &str,
    app: &str,
) -> api::FunctionHandleMetadata {
    api::FunctionHandleMetadata {
        function_name: method.function_name.clone(),
        function_type: method.function_type,
        web_url: method.web_url.clone(),
        is_method: true,
        use_method_name: name.to_owned(),
        function_schema: method.function_schema.clone(),
        max_object_size_bytes: Some(MAX_MESSAGE_PAYLOAD_BYTES),
        max_async_object_size_bytes: Some(MAX_MESSAGE_PAYLOAD_BYTES),
        supported_input_formats: method.supported_input_formats.clone(),
        supported_output_formats: method.supported_output_formats.clone(),
        app_id: app.to_owned(),
        definition_id: definition_id.to_owned(),
        ..Default::default()
    }
}

/// What a client needs in order to know a class.
pub fn of_class(
    function: &ResolvedFunction,
    methods: Vec<api::ClassMethod>,
) -> Answer<api::ClassHandleMetadata> {
    Ok(api::ClassHandleMetadata {
        methods,
        class_function_id: function.record.id.to_string(),
        class_function_metadata: Some(of_function(function)?),
    })
}

/// The id of a definition, from which its number can be read back.
fn definition_id(function: FunctionId, number: u32) -> String {
    format!("de-{}-{number}", function.to_string().trim_start_matches("fu-"))
}

/// The number in the id of a definition, if it is one of this function.
pub fn definition_number(function: FunctionId, text: &str) -> Option<u32> {
    let number = text.rsplit_once('-')?.1.parse().ok()?;
    (definition_id(function, number) == text).then_some(number)
}

/// What an app consists of, as containers and clients that go on with it are told.
pub async fn layout(
    edge: &Edge,
    caller: &Caller,
    app: &AppRecord,
    layout: &Layout,
) -> Answer<api::AppLayout> {
    let mut answer = api::AppLayout::default();
    let mut services = HashMap::new();
    for (tag, placed) in &layout.functions {
        let function = edge.apps.function(caller, placed.id).await?;
        let metadata = of_function(&function)?;
        services.insert(tag.clone(), (placed.id, metadata.clone()));
        answer.function_ids.insert(tag.clone(), placed.id.to_string());
        answer.objects.push(api::Object {
            object_id: placed.id.to_string(),
            handle_metadata_oneof: Some(HandleMetadataOneof::FunctionHandleMetadata(metadata)),
        });
    }
    for (tag, cls) in &layout.classes {
        let service = services.get(&format!("{tag}.*"));
        let metadata = api::ClassHandleMetadata {
            methods: Vec::new(),
            class_function_id: service.map(|(id, _)| id.to_string()).unwrap_or_default(),
            class_function_metadata: service.map(|(_, metadata)| metadata.clone()),
        };
        answer.class_ids.insert(tag.clone(), cls.to_string());
        answer.objects.push(api::Object {
            object_id: cls.to_string(),
            handle_metadata_oneof: Some(HandleMetadataOneof::ClassHandleMetadata(metadata)),
        });
    }
    debug_assert!(layout.functions.is_empty() || app.version > 0);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_known_by_their_ids() {
        let (one, other) = (FunctionId::from_u128(1), FunctionId::from_u128(2));
        let text = definition_id(one, 12);
        assert_eq!(definition_number(one, &text), Some(12));
        assert_eq!(definition_number(other, &text), None);
        assert_eq!(definition_number(one, ""), None);
    }
}
