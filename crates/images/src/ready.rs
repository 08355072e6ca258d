//! An image that is there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use corral_containers::ImageKey;
use serde::{Deserialize, Serialize};

use crate::base::BaseKind;
use crate::store::Hold;

/// A Modal client, as its version and that of its image builder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientVersion {
    /// Such as `1.6.4`.
    pub client_version: String,
    /// Such as `2025.06`.
    pub builder_version: String,
}

/// What clients are told about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMetadata {
    /// As `python --version` says it, such as `3.11.2`; `None` in an image without Python.
    pub python_version: Option<String>,
    /// Such as `glibc 2.36`.
    pub libc_version: String,
    pub working_directory: Option<String>,
    pub builder_version: String,
    /// The base in words, such as `the host's system files`.
    pub base: String,
}

/// What a container of an image is made of. While a copy of it lives, its layers stay.
#[derive(Clone)]
pub struct ReadyImage {
    pub key: ImageKey,
    /// Directories for an overlay root, top first; read only.
    pub lowers: Vec<PathBuf>,
    pub environment: BTreeMap<String, String>,
    pub working_directory: Option<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// What `RUN` lines in shell form are given to.
    pub shell: Vec<String>,
    /// Major and minor number, such as `3.11`.
    pub python_series: Option<String>,
    pub metadata: ImageMetadata,
    pub(crate) base: BaseKind,
    /// Keeps the directories there.
    pub hold: Hold,
}

impl fmt::Debug for ReadyImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyImage")
            .field("key", &self.key)
            .field("lowers", &self.lowers)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// A Modal client's container side, to be laid over an image.
#[derive(Clone)]
pub struct ClientBundle {
    /// Directories for the overlay above those of the image, top first.
    pub lowers: Vec<PathBuf>,
    /// What its processes need beside the image's variables: `PYTHONPATH`.
    pub environment: BTreeMap<String, String>,
    /// The version that runs: an old client's container side may be a newer one.
    pub client_version: String,
    /// Keeps the directories there.
    pub hold: Hold,
}
