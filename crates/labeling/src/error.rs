//! Why functions cannot be taken, run or labeled by.

use corral_blobs::BlobError;
use corral_catalog::CatalogError;
use corral_data::{ReadError, ReviseError};
use corral_labels::FitError;
use corral_types::{ErrorKind, Explain};

#[derive(Debug, thiserror::Error)]
pub enum LabelingError {
    #[error("a labeling function is an object of fields, not {found}")]
    NotADefinition { found: String },
    #[error("a labeling function has no `name`")]
    NoName,
    #[error("the function `{function}`: {reason}")]
    Definition { function: String, reason: String },
    #[error("the pattern of the function `{function}` uses look-around, which is not supported")]
    LookAround { function: String },
    #[error("two functions are called `{function}`")]
    TwiceNamed { function: String },
    #[error("there is no function `{function}`")]
    NoSuchFunction { function: String, nearest: Vec<String> },
    #[error("functions name each other in a circle: {names}")]
    Circle { names: String },
    #[error("the function `{function}` is for `{class}`, which is no class of {taxonomy}")]
    UnknownClass { function: String, class: String, taxonomy: String, nearest: Vec<String> },
    #[error("the data set has no column `{column}`, which the function `{function}` looks at")]
    NoSuchColumn { function: String, column: String, nearest: Vec<String> },
    #[error("{found} functions; a data set has at most {limit}")]
    TooManyFunctions { found: usize, limit: usize },
    #[error("line {line} of the file: {reason}")]
    Yaml { line: usize, reason: String },
    #[error("the functions are not a list")]
    NotAList,
    #[error(
        "the file's field `{field}` is not understood; a file is a list of functions, or has \
         `functions`, `taxonomy` (a name) and `multi_label` (true or false)"
    )]
    FileField { field: String },
    #[error("the function `{function}` needs {what}")]
    Needs { function: String, what: String },
    #[error("read the stored functions: {reason}")]
    Stored { reason: String },
    #[error("the data set has no labeling functions")]
    NoFunctions,
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Revise(#[from] ReviseError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("keep or read the functions")]
    Blob(#[from] BlobError),
    #[error("the work was cut off")]
    CutOff,
    #[error("a newer edit took its place")]
    Superseded,
}

impl Explain for LabelingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotADefinition { .. }
            | Self::NoName
            | Self::Definition { .. }
            | Self::LookAround { .. }
            | Self::TwiceNamed { .. }
            | Self::Circle { .. }
            | Self::UnknownClass { .. }
            | Self::NoSuchColumn { .. }
            | Self::Yaml { .. }
            | Self::NotAList
            | Self::FileField { .. }
            | Self::Needs { .. }
            | Self::NoFunctions => ErrorKind::Invalid,
            Self::NoSuchFunction { .. } => ErrorKind::NotFound,
            Self::TooManyFunctions { .. } => ErrorKind::TooLarge,
            Self::Stored { .. } => ErrorKind::DataLoss,
            Self::Superseded => ErrorKind::Conflict,
            Self::CutOff => ErrorKind::Unavailable,
            Self::Fit(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Revise(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Blob(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let near = |nearest: &[String]| {
            (!nearest.is_empty()).then(|| format!("nearest: {}", nearest.join(", ")))
        };
        match self {
            Self::LookAround { .. } => Some(
                "match what may stand around as well, or combine two functions: \
                 `when: {and: [this, {not: that}]}`"
                    .to_owned(),
            ),
            Self::NoSuchFunction { nearest, .. }
            | Self::UnknownClass { nearest, .. }
            | Self::NoSuchColumn { nearest, .. } => near(nearest),
            Self::NoFunctions => {
                Some("add some with `corral lf add` or `corral lf import`".to_owned())
            }
            Self::Fit(error) => error.hint(),
            Self::Read(error) => error.hint(),
            Self::Revise(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::Blob(error) => error.hint(),
            _ => None,
        }
    }
}
