//! What a function asks for: how it is scaled, how its inputs are given out and retried.

use corral_types::{AppId, FunctionId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// The longest an input may run.
pub const MAX_TIMEOUT_MS: u64 = 24 * 3_600_000;
/// What an input may run where nothing was asked for.
pub const DEFAULT_TIMEOUT_MS: u64 = 300_000;
/// How long a container may be idle where nothing was asked for.
pub const DEFAULT_SCALEDOWN_WINDOW_MS: u64 = 60_000;
/// The most containers of one function, whatever it asks for: each is a process.
pub const MAX_CONTAINERS: u32 = 1_000;
/// The most inputs that one container works on at a time.
pub const MAX_CONCURRENT_INPUTS: u32 = 1_000;
/// The most inputs in one batch.
pub const MAX_BATCH_SIZE: u32 = 1_000;
/// The longest an input waits for others to fill its batch.
pub const MAX_LINGER_MS: u64 = 600_000;
/// The most attempts after the first that a function may ask for.
pub const MAX_RETRIES: u32 = 100;

/// What follows an attempt that failed or took too long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    pub initial_delay_ms: u64,
    /// The delay is multiplied by this with every further attempt …
    pub backoff_coefficient: f64,
    /// … up to this.
    pub max_delay_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 0, initial_delay_ms: 1_000, backoff_coefficient: 2.0, max_delay_ms: 60_000 }
    }
}

impl RetryPolicy {
    /// The pause before the attempt that follows `failed` failed ones; none when there is no
    /// attempt left.
    pub fn delay_ms(&self, failed: u32) -> Option<u64> {
        if failed == 0 || failed > self.retries {
            return None;
        }
        let grown = self.backoff_coefficient.max(1.0).powi((failed - 1).min(64) as i32)
            * self.initial_delay_ms as f64;
        Some((grown as u64).min(self.max_delay_ms))
    }
}

/// How many containers a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Kept also while nothing is to do.
    pub min_containers: u32,
    /// Never more than this; [`MAX_CONTAINERS`] where nothing was asked for.
    pub max_containers: u32,
    /// Beyond what is needed, while something is to do.
    pub buffer_containers: u32,
    /// How long a container may be idle.
    pub scaledown_window_ms: u64,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_containers: 0,
            max_containers: MAX_CONTAINERS,
            buffer_containers: 0,
            scaledown_window_ms: DEFAULT_SCALEDOWN_WINDOW_MS,
        }
    }
}

/// How inputs of one function are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    pub max_size: u32,
    /// How long the first input waits for others.
    pub linger_ms: u64,
}

/// Whether a container takes more than its first inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    #[default]
    Many,
    Single,
}

/// What a container of the function takes of its machine; for the accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub memory_request_bytes: u64,
    pub gpus: u32,
}

/// A function, or a cls with its parameters bound: one pool of containers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionSettings {
    pub function: FunctionId,
    pub workspace: WorkspaceId,
    pub app: AppId,
    /// Which definition this is. Another number makes new containers; those of the old one
    /// finish what they have and end.
    pub version: u64,
    pub scaling: Scaling,
    /// How many inputs a container works on at the same time, at most …
    pub max_concurrent_inputs: u32,
    /// … and how many as long as there can be more containers.
    pub target_concurrent_inputs: u32,
    pub batching: Option<Batching>,
    pub reuse: Reuse,
    /// How long an input may run.
    pub timeout_ms: u64,
    /// How long a container may take from its start to asking for its first input.
    pub startup_timeout_ms: u64,
    pub retries: RetryPolicy,
    pub resources: Resources,
}

impl FunctionSettings {
    /// A function with the client's defaults.
    pub fn new(function: FunctionId, workspace: WorkspaceId, app: AppId) -> Self {
        Self {
            function,
            workspace,
            app,
            version: 1,
            scaling: Scaling::default(),
            max_concurrent_inputs: 1,
            target_concurrent_inputs: 1,
            batching: None,
            reuse: Reuse::Many,
            timeout_ms: DEFAULT_TIMEOUT_MS,
            startup_timeout_ms: DEFAULT_TIMEOUT_MS,
            retries: RetryPolicy::default(),
            resources: Resources::default(),
        }
    }

    /// How many inputs a container may have at the same time.
    pub(crate) fn capacity(&self) -> u32 {
        match self.batching {
            Some(batching) => batching.max_size * self.max_concurrent_inputs,
            None => self.max_concurrent_inputs,
        }
    }

    /// How many inputs a container shall have at the same time, for counting containers.
    pub(crate) fn target(&self) -> u32 {
        let at_once = self.target_concurrent_inputs.clamp(1, self.max_concurrent_inputs);
        at_once * self.batching.map_or(1, |batching| batching.max_size)
    }

    /// # Errors
    /// The first setting that is out of its range.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let within = |what, found: u64, least: u64, most: u64| {
            if (least..=most).contains(&found) {
                Ok(())
            } else {
                Err(SettingsError::Range { what, found, least, most })
            }
        };
        let Scaling { min_containers, max_containers, buffer_containers, scaledown_window_ms } =
            self.scaling;
        let most = u64::from(MAX_CONTAINERS);
        within("max_containers", max_containers.into(), 1, most)?;
        within("min_containers", min_containers.into(), 0, max_containers.into())?;
        within("buffer_containers", buffer_containers.into(), 0, most)?;
        within("scaledown_window_ms", scaledown_window_ms, 0, MAX_TIMEOUT_MS)?;
        let (concurrent, most) = (self.max_concurrent_inputs, MAX_CONCURRENT_INPUTS);
        within("max_concurrent_inputs", concurrent.into(), 1, most.into())?;
        within(
            "target_concurrent_inputs",
            self.target_concurrent_inputs.into(),
            1,
            concurrent.into(),
        )?;
        if let Some(batching) = self.batching {
            within("batch_max_size", batching.max_size.into(), 1, MAX_BATCH_SIZE.into())?;
            within("batch_linger_ms", batching.linger_ms, 0, MAX_LINGER_MS)?;
        }
        within("timeout_ms", self.timeout_ms, 1, MAX_TIMEOUT_MS)?;
        within("startup_timeout_ms", self.startup_timeout_ms, 1, MAX_TIMEOUT_MS)?;
        within("retries", self.retries.retries.into(), 0, MAX_RETRIES.into())
    }
}

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{what} is {found}; it may be from {least} to {most}")]
    Range { what: &'static str, found: u64, least: u64, most: u64 },
}

/// Another scaling of a function until it is defined anew; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingChange {
    pub min_containers: Option<u32>,
    pub max_containers: Option<u32>,
    pub buffer_containers: Option<u32>,
    pub scaledown_window_ms: Option<u64>,
}

impl ScalingChange {
    pub fn apply_to(self, scaling: Scaling) -> Scaling {
        Scaling {
            min_containers: self.min_containers.unwrap_or(scaling.min_containers),
            max_containers: self.max_containers.unwrap_or(scaling.max_containers),
            buffer_containers: self.buffer_containers.unwrap_or(scaling.buffer_containers),
            scaledown_window_ms: self.scaledown_window_ms.unwrap_or(scaling.scaledown_window_ms),
        }
    }
}
