//! Importing: files of many formats become parts and a manifest, in one pass and bounded memory.

mod assemble;
mod builder;

mod columns;
mod error;
mod labels;
mod options;
mod part_writer;
mod problems;
mod run;
mod sink;

pub use error::ImportError;
pub use options::{
    ColumnChoice, ColumnSelection, Compression, Format, Header, ImportOptions, LabelArityChoice,
    OnError, QuoteChoice, RoleNames, TextEncoding,
};
pub use problems::{Position, Problem, ProblemReason, ProblemSummary};
pub use run::{
    FileReport, ImportProgress, ImportReport, Imported, NoProgress, Progress, Source, import,
};

pub(crate) use columns::{ColumnPlan, is_known_column_name};
pub(crate) use sink::{Cell, RowSink, Target};
