//! Definitions of functions: from what the client sent to what is asked for.

use corral_apps::{
    BatchSpec, FunctionRole, FunctionSpec, GpuSpec, ResourceSpec, RetrySpec, ScalingSpec,
};
use corral_containers::Network;
use corral_modal_api as api;
use corral_modal_api::network_access::NetworkAccessType;

use super::call::Call;
use super::ids::{id, ids};
use super::refusal::{Answer, Refusal};

const MIB: u64 = 1 << 20;

/// How long a container may take to start where the user said nothing, at least.
const DEFAULT_STARTUP_TIMEOUT_S: u32 = 300;

/// What a function asks for.
///
/// # Errors
/// When it asks for what this server does not have, by name.
pub fn read(call: &Call, function: &api::Function, builder: &str) -> Answer<FunctionSpec> {
    refuse_unsupported(function)?;
    let settings = function.autoscaler_settings.unwrap_or_default();
    let legacy = |value: u32| (value > 0).then_some(value);
    let scaling = ScalingSpec {
        min_containers: settings.min_containers.or(legacy(function.warm_pool_size)),
        max_containers: settings.max_containers.or(legacy(function.concurrency_limit)),
        buffer_containers: settings
            .buffer_containers
            .or(legacy(function.experimental_buffer_containers)),
        scaledown_window_s: settings.scaledown_window.or(legacy(function.task_idle_timeout_secs)),
    };
    let most = function.max_concurrent_inputs.max(1);
    let target = match function.target_concurrent_inputs {
        0 => most,
        target => target.min(most),
    };
    let is_blocked = function.block_network
        || function
            .network_access
            .as_ref()
            .is_some_and(|access| access.network_access_type() == NetworkAccessType::Blocked);
    let role = match (function.is_builder_function, function.is_class) {
        (true, _) => FunctionRole::ImageBuild,
        (false, true) => FunctionRole::Cls,
        (false, false) => FunctionRole::Function,
    };
    let is_file = function.definition_type() == api::function::DefinitionType::File;
    Ok(FunctionSpec {
        role,
        image: id(&function.image_id, "image")?,
        mounts: ids(&function.mount_ids, "mount")?,
        secrets: ids(&function.secret_ids, "secret")?,
        dependencies: function
            .object_dependencies
            .iter()
            .map(|one| one.object_id.clone())
            .collect(),
        resources: function.resources.as_ref().map(resources).unwrap_or_default(),
        scaling,
        max_concurrent_inputs: most,
        target_concurrent_inputs: target,
        batching: (function.batch_max_size > 0).then_some(BatchSpec {
            max_size: function.batch_max_size,
            linger_ms: function.batch_linger_ms,
        }),
        single_use: function.single_use_containers || function.max_inputs == 1,
        timeout_s: function.timeout_secs,
        startup_timeout_s: startup_timeout(function),
        retries: function.retry_policy.as_ref().map(retries),
        snapshot: function.checkpointing_enabled,
        network: if is_blocked { Network::None } else { Network::Outbound },
        module: if is_file { function.module_name.clone() } else { String::new() },
        client_version: call.client.text().to_owned(),
        builder_version: builder.to_owned(),
    })
}

fn refuse_unsupported(function: &api::Function) -> Answer<()> {
    let refuse = |what: &str| {
        let name = &function.function_name;
        let message = format!("`{name}` asks for {what}, which Corral does not serve");
        Err(Refusal::new(corral_types::ErrorKind::Unsupported, message))
    };
    if !function.volume_mounts.is_empty() {
        return refuse("volumes");
    }
    if !function.shared_volume_mounts.is_empty() {
        return refuse("network file systems");
    }
    if !function.cloud_bucket_mounts.is_empty() || !function.s3_mounts.is_empty() {
        return refuse("mounts of cloud buckets");
    }
    if function.experimental_group_size > 1 {
        return refuse("a cluster of containers");
    }
    if function.is_server || function.http_config.is_some() {
        return refuse("a server");
    }
    Ok(())
}

/// How long a container may take to start. Clients send the time of an input where the user said
/// nothing, which is no measure of it where it is short.
fn startup_timeout(function: &api::Function) -> u32 {
    let said = function.startup_timeout_secs;
    if said == 0 || said == function.timeout_secs {
        return function.timeout_secs.max(DEFAULT_STARTUP_TIMEOUT_S);
    }
    said
}

/// What a container takes.
pub fn resources(resources: &api::Resources) -> ResourceSpec {
    let some = |value: u32| (value > 0).then_some(value);
    let bytes = |mib: u32| some(mib).map(|mib| u64::from(mib) * MIB);
    let gpu = resources.gpu_config.as_ref().filter(|gpu| {
        gpu.count > 0 || !gpu.gpu_type.is_empty() || gpu.r#type() != api::GpuType::Unspecified
    });
    ResourceSpec {
        milli_cpu: some(resources.milli_cpu),
        milli_cpu_limit: some(resources.milli_cpu_max),
        memory_request_bytes: bytes(resources.memory_mb),
        memory_limit_bytes: bytes(resources.memory_mb_max),
        disk_bytes: bytes(resources.ephemeral_disk_mb),
        gpu: gpu.map(|gpu| GpuSpec {
            kind: match (gpu.gpu_type.as_str(), gpu.r#type()) {
                ("", api::GpuType::Unspecified | api::GpuType::Any) => String::new(),
                ("", kind) => kind.as_str_name().trim_start_matches("GPU_TYPE_").to_owned(),
                (name, _) => name.to_owned(),
            },
            count: gpu.count.max(1),
        }),
    }
}

pub fn retries(policy: &api::FunctionRetryPolicy) -> RetrySpec {
    RetrySpec {
        retries: policy.retries,
        initial_delay_ms: policy.initial_delay_ms,
        backoff_coefficient: policy.backoff_coefficient,
        max_delay_ms: policy.max_delay_ms,
    }
}

/// The function that a request defines, whichever way the client wrote it down, and what is said
/// of it beside alternatives of its hardware. Its mounts are a set, which clients send in any
/// order: sorted, so that the same function is the same bytes.
pub fn of_request(request: api::FunctionCreateRequest) -> Answer<api::Function> {
    if let Some(mut function) = request.function {
        function.schedule = function.schedule.or(request.schedule);
        function.mount_ids.sort();
        return Ok(function);
    }
    let none = || Refusal::invalid("the request defines no function");
    let data = request.function_data.ok_or_else(none)?;
    // The first alternative is the one that the user prefers.
    let first = data.ranked_functions.into_iter().min_by_key(|ranked| ranked.rank);
    let mut function = first.and_then(|ranked| ranked.function).ok_or_else(none)?;
    if function.function_name.is_empty() {
        function.function_name = data.function_name;
    }
    function.schedule = function.schedule.or(data.schedule);
    function.mount_ids.sort();
    Ok(function)
}

/// A function as newer clients read it back.
pub fn data(function: api::Function) -> api::FunctionData {
    api::FunctionData {
        module_name: function.module_name.clone(),
        function_name: function.function_name.clone(),
        function_type: function.function_type,
        warm_pool_size: function.warm_pool_size,
        concurrency_limit: function.concurrency_limit,
        task_idle_timeout_secs: function.task_idle_timeout_secs,
        timeout_secs: function.timeout_secs,
        startup_timeout_secs: function.startup_timeout_secs,
        web_url: function.web_url.clone(),
        web_url_info: function.web_url_info,
        webhook_config: function.webhook_config.clone(),
        custom_domain_info: function.custom_domain_info.clone(),
        method_definitions: function.method_definitions.clone(),
        method_definitions_set: function.method_definitions_set,
        is_class: function.is_class,
        class_parameter_info: function.class_parameter_info.clone(),
        is_method: function.is_method,
        schedule: function.schedule.clone(),
        untrusted: function.untrusted,
        autoscaler_settings: function.autoscaler_settings,
        function_schema: function.function_schema.clone(),
        experimental_options: function.experimental_options.clone(),
        supported_input_formats: function.supported_input_formats.clone(),
        supported_output_formats: function.supported_output_formats.clone(),
        implementation_name: function.implementation_name.clone(),
        ranked_functions: vec![api::function_data::RankedFunction {
            rank: 0,
            function: Some(without_code(function)),
        }],
        ..Default::default()
    }
}

/// The function without its pickled code, which nobody who asks for it needs.
fn without_code(mut function: api::Function) -> api::Function {
    function.function_serialized = Default::default();
    function.class_serialized = Default::default();
    function
}
