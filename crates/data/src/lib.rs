//! Data sets: importing files of many formats, manifests of immutable versions, reading
//! them without copies, statistics, splits, export.
//!
//! A version is a [`Manifest`]: parts (Arrow IPC files of row ids, texts and further columns)
//! and layers over them (labels, splits, hashes of texts). Everything is a file in a
//! content-addressed [`PartStore`], so that versions share what they have in common.

mod counting;
mod dataset;
mod export;
mod import;
mod input;
mod ipc_file;
mod ipc_message;
mod ipc_writer;
mod layers;
mod limits;
mod manifest;
mod revise;
mod sorter;
mod split;
mod statistics;
mod store;
#[cfg(test)]
mod tests;
mod text_form;

pub use dataset::{Batch, Dataset, Labels, ReadError, Row, Value, value_at};
pub use export::{
    Beside, ExportError, ExportFormat, ExportOptions, RowIds, TextName, export, export_with,
    text_column_name,
};
pub use import::{
    ColumnChoice, ColumnSelection, Compression, FileReport, Format, Header, ImportError,
    ImportOptions, ImportProgress, ImportReport, Imported, LabelArityChoice, NoProgress, OnError,
    Position, Problem, ProblemReason, ProblemSummary, Progress, QuoteChoice, RoleNames, Source,
    TextEncoding, import,
};
pub use ipc_writer::WriteError;
pub use limits::Limits;
pub use manifest::{
    Column, ColumnType, FORMAT_VERSION, LABEL_COLUMN, LabelArity, LabelTable, Layer, LayerFile,
    LayerKind, Manifest, ManifestError, Part, ROW_ID_COLUMN, SHARES_COLUMN, SPLIT_COLUMN, Schema,
    TEXT_COLUMN, WEIGHT_COLUMN,
};
pub use revise::{NewLabels, Resplit, ReviseError, relabel, resplit};
pub use split::{DrawError, DrawFrom, DrawSplits, Fraction, canonical_split_name};
pub use statistics::{LengthHistogram, LengthSummary, SplitStatistics, Statistics};
#[cfg(any(test, feature = "test-support"))]
pub use store::FolderStore;
pub use store::PartStore;
