//! What can be told to an import; everything left out is found out from the file.

use std::fmt;
use std::str::FromStr;

use crate::limits::Limits;
use crate::manifest::ColumnType;
use crate::split::DrawSplits;

/// How files are to be read. The default finds everything out.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    pub format: Option<Format>,
    pub compression: Option<Compression>,
    pub encoding: Option<TextEncoding>,
    /// The byte between the fields of a CSV file.
    pub delimiter: Option<u8>,
    pub quote: QuoteChoice,
    pub header: Header,
    /// The sheet of an XLSX file; the first one otherwise.
    pub sheet: Option<String>,
    /// The text column; otherwise the first present of the usual names.
    pub text: Option<String>,
    pub label: ColumnChoice,
    pub split: ColumnChoice,
    /// The column of row weights.
    pub weight: ColumnChoice,
    /// The column of shares, a list as long as that of the labels.
    pub shares: ColumnChoice,
    pub columns: ColumnSelection,
    pub role_names: RoleNames,
    /// Types of columns that are not to be found out. A value that is not of the type is an error.
    pub column_types: Vec<(String, ColumnType)>,
    /// What stands between the labels of a row with several.
    pub label_separator: Option<String>,
    pub label_arity: LabelArityChoice,
    pub on_error: OnError,
    /// Splits drawn for the rows that the files leave without one.
    pub draw: Option<DrawSplits>,
    pub limits: Limits,
}

/// The formats that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Fields between commas, semicolons, tabs or bars, quoted as in RFC 4180.
    Csv,
    /// CSV between tabs.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    Parquet,
    /// An Arrow IPC file (Feather version 2).
    ArrowFile,
    ArrowStream,
    Xlsx,
    /// One text a line.
    Lines,
}

impl Format {
    pub const ALL: [Self; 8] = [
        Self::Csv,
        Self::Tsv,
        Self::Jsonl,
        Self::Parquet,
        Self::ArrowFile,
        Self::ArrowStream,
        Self::Xlsx,
        Self::Lines,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::ArrowFile => "arrow",
            Self::ArrowStream => "arrow-stream",
            Self::Xlsx => "xlsx",
            Self::Lines => "lines",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|format| format.as_str()).collect();
            format!("`{text}` is not a format; the formats are {}", names.join(", "))
        })
    }
}

/// How a file is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::None, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a compression; they are none, gzip and zstd"))
    }
}

/// How the characters of a text file are encoded, by any label of the WHATWG encoding
/// standard: `utf-8`, `utf-16le`, `windows-1252`, `shift_jis`, and so on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TextEncoding(pub(crate) &'static encoding_rs::Encoding);

impl TextEncoding {
    pub const UTF_8: Self = Self(encoding_rs::UTF_8);
    pub const UTF_16LE: Self = Self(encoding_rs::UTF_16LE);
    pub const UTF_16BE: Self = Self(encoding_rs::UTF_16BE);
    pub const WINDOWS_1252: Self = Self(encoding_rs::WINDOWS_1252);

    pub fn as_str(self) -> &'static str {
        self.0.name()
    }
}

impl fmt::Debug for TextEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TextEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        encoding_rs::Encoding::for_label(text.as_bytes()).map(Self).ok_or_else(|| {
            format!("`{text}` is not a known encoding; for example utf-8, utf-16le or windows-1252")
        })
    }
}

/// Whether fields of a CSV file can be quoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuoteChoice {
    /// With `"`, unless the file's beginning only makes sense without.
    #[default]
    Detect,
    With(u8),
    Never,
}

/// Whether the first row of a CSV or XLSX file names the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    #[default]
    Detect,
    Present,
    /// The columns are called `column_1`, `column_2`, and so on.
    Absent,
}

/// Which column has a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ColumnChoice {
    /// The first present of the usual names, if any.
    #[default]
    Detect,
    Named(String),
    /// None, whatever the columns are called.
    Absent,
}

/// Which of the other columns are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ColumnSelection {
    #[default]
    All,
    Only(Vec<String>),
}

/// What becomes of a column without a role that is called like one that has it in an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleNames {
    /// It gets a number after its name.
    #[default]
    Reserved,
    /// It keeps its name, `text` apart; a role that the data set gets later is exported under
    /// another one.
    Free,
}

/// Whether rows may have several labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelArityChoice {
    /// They may when any row's label is a list.
    #[default]
    Detect,
    /// A list of more than one label is an error.
    Single,
    Multi,
}

/// What happens to an import that meets a bad row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It scans on to count them all, and fails.
    #[default]
    Fail,
    /// It leaves the row out and reports it.
    Skip,
}
