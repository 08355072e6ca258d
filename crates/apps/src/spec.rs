//! What a function asks for, read from its definition.

use corral_containers::Network;
use corral_types::{ImageId, MountId, SecretId};
use serde::{Deserialize, Serialize};

/// What a function is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionRole {
    /// It is called.
    #[default]
    Function,
    /// It holds the methods of a cls.
    Cls,
    /// It makes a layer of an image.
    ImageBuild,
}

/// Graphics processors by kind and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSpec {
    /// As the client wrote it, such as `A100`; empty for any.
    pub kind: String,
    pub count: u32,
}

/// What a container of the function takes; `None` is for the server to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSpec {
    pub milli_cpu: Option<u32>,
    pub milli_cpu_limit: Option<u32>,
    pub memory_request_bytes: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub gpu: Option<GpuSpec>,
}

/// How many containers; `None` is for the server to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingSpec {
    pub min_containers: Option<u32>,
    pub max_containers: Option<u32>,
    pub buffer_containers: Option<u32>,
    pub scaledown_window_s: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrySpec {
    pub retries: u32,
    pub initial_delay_ms: u32,
    pub backoff_coefficient: f32,
    pub max_delay_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSpec {
    pub max_size: u32,
    pub linger_ms: u64,
}

/// What a function asks for. Serialized, it is kept for ever: fields may be added with a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionSpec {
    #[serde(default)]
    pub role: FunctionRole,
    pub image: ImageId,
    /// Laid over the image in this order.
    pub mounts: Vec<MountId>,
    pub secrets: Vec<SecretId>,
    /// Ids of the objects that its code refers to, in the order of the code.
    pub dependencies: Vec<String>,
    pub resources: ResourceSpec,
    pub scaling: ScalingSpec,
    pub max_concurrent_inputs: u32,
    pub target_concurrent_inputs: u32,
    pub batching: Option<BatchSpec>,
    /// A container takes one input and ends.
    pub single_use: bool,
    /// 0 is for the server to choose.
    pub timeout_s: u32,
    pub startup_timeout_s: u32,
    pub retries: Option<RetrySpec>,
    /// Containers go on from a snapshot after their imports.
    pub snapshot: bool,
    pub network: Network,
    /// The module of its code; empty where the code travels in the definition.
    pub module: String,
    pub client_version: String,
    /// The image builder's version of that client.
    pub builder_version: String,
}

/// What a bound function asks for otherwise than its base. Serialized, it is part of the bound
/// function's id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpecChange {
    /// Replaces the secrets, or adds to them.
    pub replaces_secrets: bool,
    pub secrets: Vec<SecretId>,
    pub mounts: Vec<MountId>,
    pub resources: Option<ResourceSpec>,
    pub scaling: ScalingSpec,
    pub max_concurrent_inputs: Option<u32>,
    pub target_concurrent_inputs: Option<u32>,
    pub batch_max_size: Option<u32>,
    pub batch_linger_ms: Option<u64>,
    pub timeout_s: Option<u32>,
    pub retries: Option<RetrySpec>,
}

impl SpecChange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The spec with these changes.
    #[must_use]
    pub fn apply_to(&self, mut spec: FunctionSpec) -> FunctionSpec {
        if self.replaces_secrets {
            spec.secrets.clear();
        }
        spec.secrets.extend(&self.secrets);
        spec.mounts.extend(&self.mounts);
        if let Some(resources) = &self.resources {
            spec.resources = resources.clone();
        }
        let scaling = &mut spec.scaling;
        scaling.min_containers = self.scaling.min_containers.or(scaling.min_containers);
        scaling.max_containers = self.scaling.max_containers.or(scaling.max_containers);
        scaling.buffer_containers = self.scaling.buffer_containers.or(scaling.buffer_containers);
        scaling.scaledown_window_s = self.scaling.scaledown_window_s.or(scaling.scaledown_window_s);
        if let Some(most) = self.max_concurrent_inputs {
            spec.max_concurrent_inputs = most;
        }
        if let Some(target) = self.target_concurrent_inputs {
            spec.target_concurrent_inputs = target;
        }
        if self.batch_max_size.is_some() || self.batch_linger_ms.is_some() {
            let before = spec.batching.unwrap_or(BatchSpec { max_size: 0, linger_ms: 0 });
            let max_size = self.batch_max_size.unwrap_or(before.max_size);
            let linger_ms = self.batch_linger_ms.unwrap_or(before.linger_ms);
            spec.batching = (max_size > 0).then_some(BatchSpec { max_size, linger_ms });
        }
        spec.timeout_s = self.timeout_s.unwrap_or(spec.timeout_s);
        spec.retries = self.retries.or(spec.retries);
        spec
    }
}

impl SpecChange {
    /// This change and then another one, as one.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        if other.replaces_secrets {
            self.replaces_secrets = true;
            self.secrets.clear();
        }
        self.secrets.extend(other.secrets);
        self.mounts.extend(other.mounts);
        let scaling = ScalingSpec {
            min_containers: other.scaling.min_containers.or(self.scaling.min_containers),
            max_containers: other.scaling.max_containers.or(self.scaling.max_containers),
            buffer_containers: other.scaling.buffer_containers.or(self.scaling.buffer_containers),
            scaledown_window_s: other
                .scaling
                .scaledown_window_s
                .or(self.scaling.scaledown_window_s),
        };
        Self {
            replaces_secrets: self.replaces_secrets,
            secrets: self.secrets,
            mounts: self.mounts,
            resources: other.resources.or(self.resources),
            scaling,
            max_concurrent_inputs: other.max_concurrent_inputs.or(self.max_concurrent_inputs),
            target_concurrent_inputs: other
                .target_concurrent_inputs
                .or(self.target_concurrent_inputs),
            batch_max_size: other.batch_max_size.or(self.batch_max_size),
            batch_linger_ms: other.batch_linger_ms.or(self.batch_linger_ms),
            timeout_s: other.timeout_s.or(self.timeout_s),
            retries: other.retries.or(self.retries),
        }
    }
}
