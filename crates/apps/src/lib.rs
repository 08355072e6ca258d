//! What is defined: environments, apps with their versions, functions and classes, and what
//! containers are made of: images, mounts, secrets, files that clients have sent. And what apps
//! wrote: their logs.
//!
//! [`Apps`] keeps records through the catalog and decides what they mean; what happens with
//! calls is another service's business. Definitions stay the bytes that the client sent, beside
//! what was read from them ([`FunctionSpec`]).
//!
//! A function's definition counts from the moment its app is published: publishing swaps all
//! definitions of an app at once and makes a version, which a rollback brings back.

mod apps;
mod environments;
mod error;
mod files;
mod functions;
mod identity;
mod images;
mod layout;
pub mod logs;
mod presence;
mod sealing;
mod secrets;
mod spec;

pub use apps::{NewApp, PublishApp, Published, Stopped};
pub use environments::DEFAULT_ENVIRONMENT;
pub use error::AppsError;
pub use files::{MountContents, MountFile};
pub use functions::{ClsDetail, ResolvedFunction};
pub use images::{FunctionRun, ImageBase, ImageDefinition};
pub use layout::{AppDetail, Deployment, DeploymentKind, Layout, PlacedFunction};
pub use presence::{BEAT_INTERVAL, MISSED_BEATS};
pub use secrets::{NewSecret, SecretDetail, SecretInfo, SecretMode};
pub use spec::{
    BatchSpec, FunctionRole, FunctionSpec, GpuSpec, ResourceSpec, RetrySpec, ScalingSpec,
    SpecChange,
};

// The records of the catalog that are answered as they are.
pub use corral_catalog::{AppPhase, AppRecord, EnvironmentRecord, FunctionRecord};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corral_blobs::BlobStore;
use corral_catalog::Catalog;
use corral_types::{Caller, Clock, FunctionId, Scope, WorkspaceId};

use crate::presence::Presence;
use crate::sealing::SealingKey;

/// The name of the file with the key that secrets are sealed with, in the server's folder.
pub const KEY_FILE: &str = "secrets.key";

/// The service. Clones share it.
#[derive(Clone)]
pub struct Apps {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Arc<dyn Catalog>,
    blobs: BlobStore,
    key: SealingKey,
    key_file: PathBuf,
    clock: Arc<dyn Clock>,
    presence: Mutex<Presence>,
    resolved: Mutex<Resolved>,
}

/// Functions as they were last found. This server is the only one that changes them, so what is
/// remembered holds until it forgets it itself.
#[derive(Default)]
struct Resolved {
    functions: HashMap<(WorkspaceId, FunctionId), Arc<ResolvedFunction>>,
    /// Counts how often something was forgotten: what was looked up before then must not be
    /// remembered after it.
    forgotten: u64,
}

impl Apps {
    /// Opens the service over what is kept; `folder` is the server's, where the key of secrets
    /// lies and is made if it is missing.
    ///
    /// # Errors
    /// When the key cannot be read or made.
    pub fn open(
        catalog: Arc<dyn Catalog>,
        blobs: BlobStore,
        folder: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AppsError> {
        let key_file = folder.join(KEY_FILE);
        let key = SealingKey::open(&key_file)?;
        let inner = Inner {
            catalog,
            blobs,
            key,
            key_file,
            clock,
            presence: Mutex::default(),
            resolved: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file with the key that secrets are sealed with, for a backup of it.
    pub fn key_file(&self) -> &Path {
        &self.inner.key_file
    }

    /// A keyed hash for what this server signs for itself, such as addresses of uploads. The
    /// purpose keeps uses apart.
    pub fn sign(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        self.inner.key.sign(purpose, message)
    }
}

fn require(caller: &Caller, scope: Scope) -> Result<(), AppsError> {
    if caller.may(scope) || caller.may(Scope::Admin) {
        return Ok(());
    }
    Err(AppsError::Forbidden { scopes: caller.scopes, needed: scope })
}
