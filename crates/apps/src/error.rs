//! Why something about apps cannot be done.

use std::path::PathBuf;

use corral_blobs::BlobError;
use corral_catalog::CatalogError;
use corral_types::{ErrorKind, Explain, Scope, Scopes};

#[derive(Debug, thiserror::Error)]
pub enum AppsError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("keep or read a stored file")]
    Blob(#[from] BlobError),
    #[error("the token has the scopes {scopes}; this needs {needed}")]
    Forbidden { scopes: Scopes, needed: Scope },
    #[error("`{text}` is not a name of {what}: {reason}")]
    Name { what: &'static str, text: String, reason: String },
    #[error("{what} `{text}` names nothing")]
    Id { what: &'static str, text: String },
    #[error("{app} has ended")]
    Ended { app: String },
    #[error("{app} has no version {version}")]
    NoVersion { app: String, version: i64 },
    #[error("there is no {what} `{name}` in the app `{app}`")]
    NotInApp { what: &'static str, name: String, app: String, nearest: Vec<String> },
    #[error("{function} belongs to another app than {app}")]
    Foreign { function: String, app: String },
    #[error("{function} has no definition yet")]
    Undefined { function: String },
    #[error("the secret `{name}` lacks {missing}")]
    MissingKeys { name: String, missing: String },
    #[error("{what} is {found}; it may be at most {most}")]
    TooLarge { what: &'static str, found: usize, most: usize },
    #[error("files of a mount were not sent: {missing}")]
    NotSent { missing: String },
    #[error("the upload {upload} has not arrived")]
    NotUploaded { upload: String },
    #[error("the bytes have the SHA-256 {found}, not {expected}")]
    WrongHash { found: String, expected: String },
    #[error("a chain of images has more than {most} links")]
    ImageChain { most: usize },
    #[error("a stored document cannot be read: {what}")]
    Document {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("the key of secrets in {path}")]
    Key {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} holds no key of secrets")]
    KeyFormat { path: PathBuf },
    #[error("the secret {secret} cannot be opened with this server's key")]
    Sealed { secret: String },
    #[error("keep or read the log of {app}")]
    Log {
        app: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the work was cut off")]
    CutOff,
}

impl Explain for AppsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Blob(error) => error.kind(),
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::Name { .. } | Self::WrongHash { .. } | Self::MissingKeys { .. } => {
                ErrorKind::Invalid
            }
            Self::Id { .. } | Self::NoVersion { .. } | Self::NotInApp { .. } => ErrorKind::NotFound,
            Self::Ended { .. } | Self::Foreign { .. } | Self::Undefined { .. } => {
                ErrorKind::Conflict
            }
            Self::TooLarge { .. } | Self::ImageChain { .. } => ErrorKind::TooLarge,
            Self::NotSent { .. } | Self::NotUploaded { .. } => ErrorKind::NotFound,
            Self::Document { .. } | Self::KeyFormat { .. } | Self::Sealed { .. } => {
                ErrorKind::DataLoss
            }
            Self::Key { .. } | Self::Log { .. } => ErrorKind::Internal,
            Self::CutOff => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Catalog(error) => error.hint(),
            Self::Blob(error) => error.hint(),
            Self::Forbidden { .. } => {
                Some("an admin makes tokens by `corral token create --scopes …`".to_owned())
            }
            Self::Ended { .. } => Some("deploy or run it again".to_owned()),
            Self::NotInApp { nearest, .. } if !nearest.is_empty() => {
                let names: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("did you mean {}?", names.join(" or ")))
            }
            Self::NotSent { .. } => Some("send them with MountPutFile first".to_owned()),
            Self::KeyFormat { .. } | Self::Sealed { .. } => {
                Some("restore the file that was there when the secret was made".to_owned())
            }
            _ => None,
        }
    }
}
