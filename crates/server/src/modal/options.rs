//! What a bound function asks for otherwise than its base.

use corral_apps::{ScalingSpec, SpecChange};
use corral_modal_api as api;
use corral_types::ErrorKind;

use super::definitions::{resources, retries};
use super::ids::ids;
use super::refusal::{Answer, Refusal};

/// # Errors
/// When something is asked for that this server does not have.
pub fn read(options: Option<api::FunctionOptions>) -> Answer<SpecChange> {
    let Some(options) = options else { return Ok(SpecChange::default()) };
    if !options.volume_mounts.is_empty() || !options.cloud_bucket_mounts.is_empty() {
        let message = "the options ask for volumes, which Corral does not serve";
        return Err(Refusal::new(ErrorKind::Unsupported, message));
    }
    Ok(SpecChange {
        replaces_secrets: options.replace_secret_ids,
        secrets: ids(&options.secret_ids, "secret")?,
        mounts: ids(&options.mount_ids, "mount")?,
        resources: options.resources.as_ref().map(resources),
        scaling: ScalingSpec {
            min_containers: options.warm_pool_size,
            max_containers: options.concurrency_limit,
            buffer_containers: options.buffer_containers,
            scaledown_window_s: options.task_idle_timeout_secs,
        },
        max_concurrent_inputs: options.max_concurrent_inputs,
        target_concurrent_inputs: options.target_concurrent_inputs,
        batch_max_size: options.batch_max_size,
        batch_linger_ms: options.batch_linger_ms,
        timeout_s: options.timeout_secs,
        retries: options.retry_policy.as_ref().map(retries),
    })
}
