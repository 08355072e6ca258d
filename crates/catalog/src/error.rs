//! What can go wrong with a record.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use corral_types::{ErrorKind, Explain};

use crate::BlobOwner;

/// What a record is of, as messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    Workspace,
    Token,
    Dataset,
    DatasetVersion,
    Taxonomy,
    TaxonomyVersion,
    Model,
    ModelVersion,
    Encoder,
    Labeling,
    Endpoint,
    EndpointVersion,
    Run,
    Request,
    Environment,
    App,
    AppVersion,
    Function,
    Definition,
    Cls,
    Image,
    Mount,
    Secret,
    BackupFile,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workspace => "workspace",
            Self::Token => "token",
            Self::Dataset => "data set",
            Self::DatasetVersion => "data set version",
            Self::Taxonomy => "taxonomy",
            Self::TaxonomyVersion => "taxonomy version",
            Self::Model => "model",
            Self::ModelVersion => "model version",
            Self::Encoder => "encoder",
            Self::Labeling => "set of labeling functions of",
            Self::Endpoint => "endpoint",
            Self::EndpointVersion => "endpoint version",
            Self::Run => "run",
            Self::Request => "request",
            Self::Environment => "environment",
            Self::App => "app",
            Self::AppVersion => "version of an app",
            Self::Function => "function",
            Self::Definition => "definition of a function",
            Self::Cls => "class",
            Self::Image => "image",
            Self::Mount => "mount",
            Self::Secret => "secret",
            Self::BackupFile => "backup file",
        })
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("there is no {what} `{name}`")]
    NotFound {
        what: RecordKind,
        name: String,
        /// Names of the same workspace that are like it.
        nearest: Vec<String>,
    },
    #[error("there is already a {what} `{name}`")]
    AlreadyExists { what: RecordKind, name: String },
    #[error("the {what} `{name}` moved on to number {found} while number {expected} was built on")]
    HeadMoved { what: RecordKind, name: String, expected: u32, found: u32 },
    #[error("the {what} `{name}` is used by {}", by.join(", "))]
    InUse { what: RecordKind, name: String, by: Vec<String> },
    #[error("the references of {owner:?} go with its record")]
    OwnedByRecord { owner: BlobOwner },
    #[error("the idempotency key `{key}` was used for another request")]
    KeyReused { key: String },
    #[error("the request with idempotency key `{key}` is still being answered")]
    KeyInProgress { key: String },
    #[error("the {what} has {size}; it may have at most {limit}")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    #[error("`{0}` is not a cursor that this list gave out")]
    Cursor(String),
    #[error(
        "the catalog has format version {found}; this version of Corral reads up to {supported}"
    )]
    NewerFormat { found: u32, supported: u32 },
    #[error("{path} is not a catalog of Corral")]
    Foreign { path: PathBuf },
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
    #[error("open the catalog {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    #[error("write the backup {path}")]
    Backup {
        path: PathBuf,
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    #[error("read or write the catalog")]
    Storage(#[source] Arc<dyn Error + Send + Sync>),
    /// The catalog shuts down, or the work stopped without an answer.
    #[error("the catalog is closed")]
    Closed,
}

impl Explain for CatalogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. }
            | Self::HeadMoved { .. }
            | Self::InUse { .. }
            | Self::KeyReused { .. }
            | Self::KeyInProgress { .. } => ErrorKind::Conflict,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Cursor(_) | Self::OwnedByRecord { .. } => ErrorKind::Invalid,
            Self::NewerFormat { .. } | Self::Foreign { .. } => ErrorKind::Unsupported,
            Self::Damaged(_) => ErrorKind::DataLoss,
            Self::Open { .. } | Self::Backup { .. } | Self::Storage(_) => ErrorKind::Internal,
            Self::Closed => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { nearest, .. } if !nearest.is_empty() => {
                let names: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("did you mean {}?", names.join(" or ")))
            }
            Self::AlreadyExists { what: RecordKind::BackupFile, .. } => {
                Some("choose another file, or remove that one".to_owned())
            }
            Self::AlreadyExists { .. } => {
                Some("choose another name, or remove that one".to_owned())
            }
            Self::HeadMoved { .. } => Some("do it again on the newest version".to_owned()),
            Self::InUse { what: RecordKind::Model | RecordKind::ModelVersion, .. } => Some(
                "remove those versions of endpoints first: `corral endpoint rm NAME/VERSION`"
                    .to_owned(),
            ),
            Self::InUse { .. } => Some("remove what uses it first".to_owned()),
            Self::KeyReused { .. } => Some("use a new key for each request".to_owned()),
            Self::KeyInProgress { .. } => Some("ask again in a moment".to_owned()),
            Self::Cursor(_) => Some("begin again without a cursor".to_owned()),
            Self::NewerFormat { .. } => {
                Some("run the version of Corral that wrote it, or a newer one".to_owned())
            }
            Self::Damaged(_) => Some("restore a backup with `corral restore`".to_owned()),
            _ => None,
        }
    }
}
