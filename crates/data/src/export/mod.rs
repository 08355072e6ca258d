//! Writing a version out in a format that others read. What is exported imports again as
//! the same rows, labels and splits; columns keep their types except in CSV, which has none.

mod columnar;
mod text;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use arrow_schema::ArrowError;
use corral_types::{ErrorKind, Explain, nearest};

use crate::dataset::{Batch, Dataset, ReadError};
use crate::manifest::LayerKind;

/// The formats of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// RFC 4180 with LF line ends; several labels of a row, and their
    /// shares, as a JSON list in the field. An empty
    /// text is quoted, a missing value is not.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Compressed with zstd.
    Parquet,
    /// An uncompressed Arrow IPC file.
    Arrow,
}

impl ExportFormat {
    pub const ALL: [Self; 4] = [Self::Csv, Self::Jsonl, Self::Parquet, Self::Arrow];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// The media type of an exported file.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/jsonl",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.file",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ExportFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            format!("`{text}` is not an export format; they are csv, jsonl, parquet and arrow")
        })
    }
}

/// What of a version is written.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Only the rows of this split.
    pub split: Option<String>,
    pub row_ids: RowIds,
}

/// Whether an export begins with the column `row_id`, by which results can be joined to the
/// data set again. An import leaves it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowIds {
    #[default]
    Omit,
    Include,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the data set has no split `{split}`; its splits are {}", splits.join(", "))]
    NoSuchSplit { split: String, splits: Vec<String> },
    #[error("write the export")]
    Write { source: io::Error },
    #[error("encode the export as {format}")]
    Encode { format: ExportFormat, source: ArrowError },
    #[error("encode the export as parquet")]
    Parquet { source: parquet::errors::ParquetError },
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Explain for ExportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchSplit { .. } => ErrorKind::NotFound,
            Self::Write { .. } | Self::Encode { .. } | Self::Parquet { .. } => ErrorKind::Internal,
            Self::Read(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchSplit { split, splits } => {
                let near = nearest(split, splits.iter().map(String::as_str), 1);
                near.first().map(|name| format!("there is a split `{name}`"))
            }
            Self::Read(error) => error.hint(),
            Self::Write { .. } | Self::Encode { .. } | Self::Parquet { .. } => None,
        }
    }
}

/// Writes the rows of a version, in order and in bounded memory; returns how many.
///
/// The columns are `row_id` if asked for, `text`; `label`, `label_shares`, `split` and
/// `row_weight` where the version has any; then the further ones. A row without one of them has
/// nothing there.
///
/// # Errors
/// When there is no such split, the version cannot be read, or the writer fails.
pub fn export(
    dataset: &Dataset,
    format: ExportFormat,
    options: &ExportOptions,
    writer: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let selection = Selection::of(dataset, options)?;
    match format {
        ExportFormat::Csv => text::write_csv(dataset, &selection, writer),
        ExportFormat::Jsonl => text::write_jsonl(dataset, &selection, writer),
        ExportFormat::Parquet => columnar::write_parquet(dataset, &selection, writer),
        ExportFormat::Arrow => columnar::write_arrow(dataset, &selection, writer),
    }
}

/// What an export has.
struct Selection {
    split: Option<u16>,
    row_ids: bool,
    labels: bool,
    shares: bool,
    splits: bool,
    weights: bool,
}

impl Selection {
    fn of(dataset: &Dataset, options: &ExportOptions) -> Result<Self, ExportError> {
        let manifest = dataset.manifest();
        let code = |split: &String| {
            manifest.split_code(split).ok_or_else(|| ExportError::NoSuchSplit {
                split: split.clone(),
                splits: manifest.splits.clone(),
            })
        };
        Ok(Self {
            split: options.split.as_ref().map(code).transpose()?,
            row_ids: options.row_ids == RowIds::Include,
            labels: !manifest.labels.names.is_empty(),
            shares: manifest.has_shares(),
            splits: !manifest.splits.is_empty(),
            weights: manifest.layer(LayerKind::Weight).is_some(),
        })
    }

    fn has(&self, batch: &Batch, row: usize) -> bool {
        self.split.is_none() || batch.split(row) == self.split
    }
}
