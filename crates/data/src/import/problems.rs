//! Bad rows: where, in which column, why, and how many.

use std::collections::BTreeMap;
use std::fmt;

use crate::manifest::ColumnType;

/// One bad row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub position: Position,
    pub column: Option<String>,
    pub reason: ProblemReason,
}

/// Where a row stands in its file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// A physical line of a text file; of a row over several lines, the first.
    Line(u64),
    /// A row of a file without lines.
    Row(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.file, self.position)?;
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why a row is bad.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemReason {
    #[error("{found} fields where the header has {expected}")]
    FieldCount { found: usize, expected: usize },
    #[error("byte {at} of the field is not UTF-8")]
    NotUtf8 { at: usize },
    #[error("a quote is opened and never closed")]
    UnclosedQuote,
    #[error("text follows a closing quote")]
    TextAfterQuote,
    #[error("the row is longer than {limit_bytes} bytes")]
    RowTooLong { limit_bytes: usize },
    #[error("not a JSON object: {detail}")]
    NotJson { detail: String },
    #[error("there is no text")]
    MissingText,
    #[error("the text is {found}, not a string")]
    TextType { found: &'static str },
    #[error("`{value}` is not of type {expected}")]
    ValueType { value: String, expected: ColumnType },
    #[error("the label is {found}, not a name, a list of names or an object of shares")]
    LabelType { found: &'static str },
    #[error("a label of {bytes} bytes; a label has at most {limit_bytes}")]
    LabelTooLong { bytes: usize, limit_bytes: usize },
    #[error("{found} labels; a row has at most {limit}")]
    TooManyLabels { found: usize, limit: usize },
    #[error("several labels in a data set whose rows have one")]
    SeveralLabels,
    #[error("the split is {found}, not a name")]
    SplitType { found: &'static str },
    #[error("a split name of {bytes} bytes; a name has at most {limit_bytes}")]
    SplitTooLong { bytes: usize, limit_bytes: usize },
    #[error("the weight `{value}` is not a finite number from 0 on")]
    WeightValue { value: String },
    #[error("the share `{value}` is not a finite number from 0 on")]
    ShareValue { value: String },
    #[error("`{value}` is not a list of shares")]
    SharesType { value: String },
    #[error("{shares} shares for {labels} labels")]
    ShareCount { shares: usize, labels: usize },
    #[error("the shares of the labels are all zero")]
    ShareSum,
    #[error("the label itself has shares, and so has the column of shares")]
    SharesTwice,
    #[error("the column stands twice in the row")]
    ColumnTwice,
    #[error("the data set has no such column")]
    UnknownColumn,
    #[error("the cell holds the error {code}")]
    CellError { code: String },
}

impl ProblemReason {
    /// A word for the kind of reason, by which they are counted.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::FieldCount { .. } => "field_count",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::UnclosedQuote => "unclosed_quote",
            Self::TextAfterQuote => "text_after_quote",
            Self::RowTooLong { .. } => "row_too_long",
            Self::NotJson { .. } => "not_json",
            Self::MissingText => "missing_text",
            Self::TextType { .. } => "text_type",
            Self::ValueType { .. } => "value_type",
            Self::LabelType { .. } => "label_type",
            Self::LabelTooLong { .. } => "label_too_long",
            Self::TooManyLabels { .. } => "too_many_labels",
            Self::SeveralLabels => "several_labels",
            Self::SplitType { .. } => "split_type",
            Self::SplitTooLong { .. } => "split_too_long",
            Self::WeightValue { .. } => "weight_value",
            Self::ShareValue { .. } => "share_value",
            Self::SharesType { .. } => "shares_type",
            Self::ShareCount { .. } => "share_count",
            Self::ShareSum => "share_sum",
            Self::SharesTwice => "shares_twice",
            Self::ColumnTwice => "column_twice",
            Self::UnknownColumn => "unknown_column",
            Self::CellError { .. } => "cell_error",
        }
    }
}

/// All bad rows of an import: counted by reason, the first of them listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProblemSummary {
    pub total: u64,
    /// Rows for each [`ProblemReason::word`].
    pub by_reason: BTreeMap<&'static str, u64>,
    pub first: Vec<Problem>,
    /// The scan ended early, at the limit on problems: there may be more.
    pub stopped_early: bool,
}

impl ProblemSummary {
    pub(crate) fn add(&mut self, listed: usize, problem: Problem) {
        self.total += 1;
        *self.by_reason.entry(problem.reason.word()).or_default() += 1;
        if self.first.len() < listed {
            self.first.push(problem);
        }
    }
}

/// The first problems, one a line, and how many more there are.
impl fmt::Display for ProblemSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_least = if self.stopped_early { "at least " } else { "" };
        let rows = if self.total == 1 { "row" } else { "rows" };
        write!(f, "{at_least}{} bad {rows}", self.total)?;
        for problem in &self.first {
            write!(f, "\n  {problem}")?;
        }
        let more = self.total - self.first.len() as u64;
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        Ok(())
    }
}
