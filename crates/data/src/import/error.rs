//! Why an import failed as a whole.

use std::io;

use corral_types::{ErrorKind, Explain, display_bytes};

use super::problems::ProblemSummary;
use crate::dataset::ReadError;
use crate::ipc_writer::WriteError;
use crate::manifest::ColumnType;
use crate::split::DrawError;

/// Why nothing was imported. Whatever was written is gone again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("there is no file to import")]
    NoFiles,
    #[error("there are no rows in {}", files.join(", "))]
    NoRows { files: Vec<String> },
    #[error("{found} files; one import takes at most {limit}")]
    TooManyFiles { found: usize, limit: usize },
    #[error("read {file}")]
    Read { file: String, source: io::Error },
    #[error("the import was cancelled")]
    Cancelled,
    #[error("{file} begins like a JSON array; JSON is imported as one object a line")]
    JsonArray { file: String },
    #[error("{file} is not a text file, nor Parquet, Arrow or XLSX")]
    UnknownFormat { file: String },
    #[error("{file} cannot be read as {format}: {detail}")]
    Damaged { file: String, format: &'static str, detail: String },
    #[error("{file} has no sheet `{sheet}`; its sheets are {}", sheets.join(", "))]
    NoSheet { file: String, sheet: String, sheets: Vec<String> },
    #[error("{file} has {}; an XLSX file may have {}", display_bytes(*bytes), display_bytes(*limit))]
    XlsxTooLarge { file: String, bytes: u64, limit: u64 },
    #[error("`{delimiter}` cannot separate fields: it is the quote or ends lines")]
    Delimiter { delimiter: char },
    #[error(
        "{file} has no text column by any of the usual names; its columns are {}",
        listed(columns)
    )]
    NoTextColumn { file: String, columns: Vec<String> },
    #[error("{file} has no column `{wanted}` for the {role}; its columns are {}", listed(columns))]
    NoSuchColumn {
        file: String,
        role: &'static str,
        wanted: String,
        columns: Vec<String>,
        nearest: Option<String>,
    },
    #[error("{file} has two columns called `{column}`, and it is to be the {role}")]
    AmbiguousColumn { file: String, role: &'static str, column: String },
    #[error("the column `{column}` is to be both the {first} and the {second}")]
    ColumnWithTwoRoles { column: String, first: &'static str, second: &'static str },
    #[error("{file} has {found} columns; a data set has at most {limit}")]
    TooManyColumns { file: String, found: usize, limit: usize },
    #[error("a column name of {file} has {bytes} bytes; a name has at most {limit}")]
    ColumnNameTooLong { file: String, bytes: usize, limit: usize },
    #[error("{file} names more than {limit} classes in column `{column}`")]
    TooManyClasses { file: String, column: String, limit: usize },
    #[error("{file} names more than {limit} splits in column `{column}`")]
    TooManySplits { file: String, column: String, limit: usize },
    #[error("{file} has the column `{column}`, which the data set it is appended to lacks")]
    ColumnNotInBase { file: String, column: String, columns: Vec<String> },
    #[error(
        "column `{column}` is declared {declared}, but in the data set it is appended to it is {found}"
    )]
    TypeNotOfBase { column: String, declared: ColumnType, found: ColumnType },
    #[error("{0}")]
    BadRows(ProblemSummary),
    #[error(transparent)]
    Draw(#[from] DrawError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    ReadBack(#[from] ReadError),
}

impl ImportError {
    /// The bad rows, when they are why the import failed.
    pub fn problems(&self) -> Option<&ProblemSummary> {
        match self {
            Self::BadRows(problems) => Some(problems),
            _ => None,
        }
    }
}

/// Column names in a message: the first 30 of them.
fn listed(columns: &[String]) -> String {
    let shown: Vec<_> = columns.iter().take(30).map(|name| format!("`{name}`")).collect();
    let more = columns.len().saturating_sub(30);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

impl Explain for ImportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyFiles { .. }
            | Self::XlsxTooLarge { .. }
            | Self::TooManyColumns { .. }
            | Self::ColumnNameTooLong { .. }
            | Self::TooManyClasses { .. }
            | Self::TooManySplits { .. } => ErrorKind::TooLarge,
            Self::Write(_) => ErrorKind::Internal,
            Self::ReadBack(error) => error.kind(),
            Self::Draw(error) => error.kind(),
            Self::Cancelled => ErrorKind::Conflict,
            Self::NoFiles
            | Self::NoRows { .. }
            | Self::Read { .. }
            | Self::JsonArray { .. }
            | Self::UnknownFormat { .. }
            | Self::Damaged { .. }
            | Self::NoSheet { .. }
            | Self::Delimiter { .. }
            | Self::NoTextColumn { .. }
            | Self::NoSuchColumn { .. }
            | Self::AmbiguousColumn { .. }
            | Self::ColumnWithTwoRoles { .. }
            | Self::ColumnNotInBase { .. }
            | Self::TypeNotOfBase { .. }
            | Self::BadRows(_) => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoTextColumn { .. } => "name the text column with --text".to_owned(),
            Self::NoSuchColumn { nearest: Some(nearest), .. } => {
                format!("there is a column `{nearest}`")
            }
            Self::JsonArray { file } => {
                format!("turn it into lines first, for example with `jq -c '.[]' {file}`")
            }
            Self::UnknownFormat { .. } => "name the format with --format".to_owned(),
            Self::TooManyClasses { .. } => "name the label column with --label".to_owned(),
            Self::TooManySplits { .. } => {
                "name the split column with --split, or say that there is none".to_owned()
            }
            Self::ColumnNotInBase { .. } => {
                "leave the column out, or import a new data set".to_owned()
            }
            Self::BadRows(problems) if problems.by_reason.contains_key("not_utf8") => {
                "name the encoding with --encoding, for example windows-1252; or leave bad rows out \
                 with --on-error skip"
                    .to_owned()
            }
            Self::BadRows(problems)
                if problems.by_reason.contains_key("unclosed_quote")
                    || problems.by_reason.contains_key("text_after_quote") =>
            {
                "if quotes mean nothing in this file, say so with --quote none; or leave bad rows \
                 out with --on-error skip"
                    .to_owned()
            }
            Self::BadRows(_) => "leave bad rows out with --on-error skip".to_owned(),
            Self::ReadBack(error) => return error.hint(),
            Self::Draw(error) => return error.hint(),
            _ => return None,
        };
        Some(hint)
    }
}
