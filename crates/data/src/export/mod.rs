//! Writing a version out in a format that others read. What is exported imports again as
//! the same rows, labels and splits; columns keep their types except in CSV, which has none.

mod columnar;
mod text;
mod xlsx;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;
use corral_types::{ErrorKind, Explain, nearest};

use crate::dataset::{Batch, Dataset, ReadError};
use crate::manifest::{
    Column, LABEL_COLUMN, LayerKind, Manifest, ROW_ID_COLUMN, SHARES_COLUMN, SPLIT_COLUMN,
    TEXT_COLUMN, WEIGHT_COLUMN,
};

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
    /// A workbook of one sheet, its first row the names of the columns; what a sheet cannot
    /// hold is refused.
    Xlsx,
}

impl ExportFormat {
    pub const ALL: [Self; 5] = [Self::Csv, Self::Jsonl, Self::Parquet, Self::Arrow, Self::Xlsx];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Xlsx => "xlsx",
        }
    }

    /// The format of a file of this name, by its suffix.
    ///
    /// # Errors
    /// When the name has no suffix, or one of no format; in words.
    pub fn of_file_name(name: &str) -> Result<Self, String> {
        let suffix = name.rsplit_once('.').map(|(_, suffix)| suffix.to_lowercase());
        let known = match suffix.as_deref() {
            Some("ndjson") => Some(Self::Jsonl),
            Some("feather") => Some(Self::Arrow),
            Some(suffix) => Self::ALL.into_iter().find(|format| format.as_str() == suffix),
            None => None,
        };
        known.ok_or_else(|| {
            let suffix = suffix.map_or_else(|| "no suffix".to_owned(), |it| format!("`.{it}`"));
            format!(
                "{name} has {suffix}, which says no format; write one that ends in .csv, .jsonl, \
                 .parquet, .arrow or .xlsx"
            )
        })
    }

    /// Refuses more rows than a file of this format holds.
    ///
    /// # Errors
    /// When there are more.
    pub fn check_rows(self, rows: u64) -> Result<(), ExportError> {
        match self {
            Self::Xlsx => xlsx::check_rows(rows),
            Self::Csv | Self::Jsonl | Self::Parquet | Self::Arrow => Ok(()),
        }
    }

    /// The media type of an exported file.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/jsonl",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.file",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
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
            format!(
                "`{text}` is not an export format; they are csv, jsonl, parquet, arrow and xlsx"
            )
        })
    }
}

/// What of a version is written.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Only the rows of this split.
    pub split: Option<String>,
    pub row_ids: RowIds,
    pub text_name: TextName,
}

/// What the column of texts is called in an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextName {
    /// `text`, whatever it was called where it came from.
    #[default]
    Usual,
    /// As it was called where it was imported from, unless another column is called so.
    AsImported,
}

/// Columns that are written after those of the data set, made batch by batch.
pub trait Beside {
    /// Their names and types, in order.
    fn columns(&self) -> &[Column];

    /// Their values for a batch, one array a column, of the types that [`Batch::column`] has.
    /// Called once for every batch, in order.
    ///
    /// # Errors
    /// When the values cannot be had.
    fn values(&mut self, batch: &Batch) -> io::Result<Vec<ArrayRef>>;
}

/// For exports of a data set alone.
struct Nothing;

impl Beside for Nothing {
    fn columns(&self) -> &[Column] {
        &[]
    }

    fn values(&mut self, _: &Batch) -> io::Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }
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
    #[error("a sheet has room for {limit} rows below its head, and there are {rows}")]
    TooManyRows { rows: u64, limit: u64 },
    #[error("make the columns that stand beside the data set's")]
    Beside { source: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Explain for ExportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchSplit { .. } => ErrorKind::NotFound,
            Self::TooManyRows { .. } => ErrorKind::TooLarge,
            Self::Write { .. }
            | Self::Encode { .. }
            | Self::Parquet { .. }
            | Self::Beside { .. } => ErrorKind::Internal,
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
            Self::TooManyRows { .. } => Some("write csv or parquet instead".to_owned()),
            Self::Write { .. }
            | Self::Encode { .. }
            | Self::Parquet { .. }
            | Self::Beside { .. } => None,
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
    export_with(dataset, &mut Nothing, format, options, writer)
}

/// The same with further columns after those of the data set.
///
/// # Errors
/// As [`export`], or when the columns cannot be made.
pub fn export_with(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    format: ExportFormat,
    options: &ExportOptions,
    writer: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let selection = Selection::of(dataset, options)?;
    match format {
        ExportFormat::Csv => text::write_csv(dataset, beside, &selection, writer),
        ExportFormat::Jsonl => text::write_jsonl(dataset, beside, &selection, writer),
        ExportFormat::Parquet => columnar::write_parquet(dataset, beside, &selection, writer),
        ExportFormat::Arrow => columnar::write_arrow(dataset, beside, &selection, writer),
        ExportFormat::Xlsx => xlsx::write(dataset, beside, &selection, writer),
    }
}

/// What the column of texts is called in an export with these options.
pub fn text_column_name(dataset: &Manifest, text_name: TextName) -> &str {
    let imported = dataset.schema.text_column.as_str();
    let roles = [LABEL_COLUMN, SHARES_COLUMN, SPLIT_COLUMN, WEIGHT_COLUMN, ROW_ID_COLUMN];
    let is_taken = roles.contains(&imported)
        || dataset.schema.columns.iter().any(|column| column.name == imported);
    match text_name {
        TextName::AsImported if !imported.is_empty() && !is_taken => imported,
        TextName::AsImported | TextName::Usual => TEXT_COLUMN,
    }
}

/// What an export has.
struct Selection {
    split: Option<u16>,
    row_ids: bool,
    text_name: String,
    /// What the columns of roles are called, where the version has them.
    labels: Option<String>,
    shares: Option<String>,
    splits: Option<String>,
    weights: Option<String>,
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
        let is_taken = |name: &str| manifest.schema.columns.iter().any(|it| it.name == name);
        let name = |usual: &str, is_there: bool| {
            let free = if is_taken(usual) { format!("row_{usual}") } else { usual.to_owned() };
            is_there.then_some(free)
        };
        Ok(Self {
            split: options.split.as_ref().map(code).transpose()?,
            row_ids: options.row_ids == RowIds::Include,
            text_name: text_column_name(manifest, options.text_name).to_owned(),
            labels: name(LABEL_COLUMN, !manifest.labels.names.is_empty()),
            shares: name(SHARES_COLUMN, manifest.has_shares()),
            splits: name(SPLIT_COLUMN, !manifest.splits.is_empty()),
            weights: name(WEIGHT_COLUMN, manifest.layer(LayerKind::Weight).is_some()),
        })
    }

    fn has(&self, batch: &Batch, row: usize) -> bool {
        self.split.is_none() || batch.split(row) == self.split
    }
}
