//! What an app consists of, and what is noted of it.

use std::collections::BTreeMap;

use corral_types::{ClsId, FunctionId};
use serde::{Deserialize, Serialize};

/// What is noted of an app beside its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDetail {
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The version of the client that made it.
    #[serde(default)]
    pub client_version: String,
    /// Who made it: the name of a token.
    #[serde(default)]
    pub created_by: String,
    /// When it was last deployed, in milliseconds since 1970.
    #[serde(default)]
    pub deployed_at_ms: Option<u64>,
    /// Why it ended, where there is more to say than that it was stopped.
    #[serde(default)]
    pub end_reason: Option<String>,
}

/// A function's place in a version of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFunction {
    pub id: FunctionId,
    /// Which of its definitions counts.
    pub definition: u32,
    /// The app's version since when its containers are what they are; another one makes new
    /// containers.
    pub generation: u32,
}

/// How a version came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeploymentKind {
    #[default]
    Published,
    /// An earlier version was brought back.
    Rollback { to: u32 },
    /// The same with new containers.
    Rollover,
}

/// Who made a version, from what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub kind: DeploymentKind,
    /// A label of the deployer's.
    #[serde(default)]
    pub tag: String,
    #[serde(default)]
    pub client_version: String,
    #[serde(default)]
    pub deployed_by: String,
    /// What the client said of the commit, as it said it.
    #[serde(default)]
    pub commit: Vec<u8>,
}

/// What an app consists of, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub functions: BTreeMap<String, PlacedFunction>,
    pub classes: BTreeMap<String, ClsId>,
    #[serde(default)]
    pub deployment: Deployment,
}

impl Layout {
    /// Where this function stands.
    pub fn placed(&self, id: FunctionId) -> Option<&PlacedFunction> {
        self.functions.values().find(|placed| placed.id == id)
    }
}
