//! What can go wrong while an image is made.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_types::{ErrorKind, Explain, display_bytes};

use crate::step::StepEnd;

/// Why an image could not be made. All who wait for the same image are given the same one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    /// The recipe asks for what is not supported, or cannot be read.
    #[error("{what}")]
    Refused { what: String, hint: Option<String> },
    /// A command of the recipe ended badly.
    #[error("`{command}` {end}{}", after(.output))]
    Step {
        command: String,
        end: StepEnd,
        /// The last lines that it wrote.
        output: String,
    },
    /// A program that the builder itself needs ended badly.
    #[error("{what}{}", after(.output))]
    Tool { what: String, output: String },
    #[error(
        "an image needs more than the {} that images may take on this machine",
        display_bytes(*.quota_bytes)
    )]
    Quota { quota_bytes: u64 },
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was tried, as an imperative.
        action: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
}

/// The output that follows a message, on lines of its own.
fn after(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; it wrote last:\n{output}") }
}

impl BuildError {
    /// For `map_err`: the failure of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: None }
    }

    pub(crate) fn refused_with(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: Some(hint.into()) }
    }
}

impl Explain for BuildError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Unsupported,
            Self::Step { .. } => ErrorKind::Invalid,
            Self::Tool { .. } => ErrorKind::Unavailable,
            Self::Quota { .. } => ErrorKind::Exhausted,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Io { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Quota { .. } => Some(
                "stop containers of images that are no longer needed, or raise the quota".into(),
            ),
            _ => None,
        }
    }
}
