//! Data sets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// How to read the files of an import. What is absent is found out from the data.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub struct ImportQuery {
    /// The column that holds the text.
    pub text: Option<String>,
    /// The column that holds the label, the list of labels, or an object of labels and how
    /// likely each is, as in `{"billing": 0.7, "other": 0.3}`.
    pub label: Option<String>,
    /// The column that holds how likely each label of a row's list is: a list as long.
    pub shares: Option<String>,
    /// The column that says what a row counts: from 0, nothing, on; 1 where it is empty.
    pub weight: Option<String>,
    /// The column that names the split of a row.
    pub split: Option<String>,
    /// `usual` (the default): columns with the usual names are the label, the split, the weight.
    /// `text`: only what is named here has a role, and every other column stays as it is.
    pub roles: Option<String>,
    /// `csv`, `tsv`, `jsonl`, `parquet`, `arrow`, `xlsx` or `text`.
    pub format: Option<String>,
    /// One character, or `tab`.
    pub delimiter: Option<String>,
    /// `utf-8`, `utf-16le`, `utf-16be` or `windows-1252`.
    pub encoding: Option<String>,
    /// `present` or `absent`.
    pub header: Option<String>,
    /// Separates several labels within one field.
    pub label_separator: Option<String>,
    /// `fail` (the default) or `skip`.
    pub on_error: Option<String>,
    /// Draws splits by a hash of the row, stratified by class: `test=0.1,valid=0.1`.
    pub draw: Option<String>,
    /// The seed of the draw; 0 when absent.
    pub seed: Option<u64>,
    /// `create` (the default) or `append`.
    pub mode: Option<String>,
    /// The file's name when the body is the file itself.
    pub file_name: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatasetSummary {
    pub name: String,
    pub id: String,
    /// The number of the newest version.
    pub version: u32,
    pub rows: u64,
    pub bytes: u64,
    pub created: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DatasetDetail {
    pub name: String,
    pub id: String,
    pub version: u32,
    /// The hash of the version's manifest.
    pub manifest: String,
    pub created: String,
    pub note: String,
    pub rows: u64,
    pub bytes: u64,
    pub parts: u64,
    pub columns: Vec<ColumnDetail>,
    pub text_column: String,
    pub multi_label: bool,
    pub unlabelled_rows: u64,
    /// Rows that say how likely each of their labels is.
    #[serde(default)]
    pub probabilistic_rows: u64,
    /// Rows with a weight of their own; those without count 1.
    #[serde(default)]
    pub weighted_rows: u64,
    /// Rows of weight 0, from which nothing is learnt.
    #[serde(default)]
    pub weightless_rows: u64,
    pub empty_texts: u64,
    /// Rows whose text, normalised, occurred in an earlier row.
    pub duplicate_rows: u64,
    pub splits: Vec<SplitDetail>,
    /// Rows by class name.
    pub classes: BTreeMap<String, u64>,
    /// Characters of text at the 0th, 5th, 25th, 50th, 75th, 95th, 99th and 100th percentile.
    pub text_chars: Vec<Quantile>,
    pub versions: Vec<VersionDetail>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ColumnDetail {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SplitDetail {
    /// Empty for rows without a split.
    pub name: String,
    pub rows: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Quantile {
    pub percent: f64,
    pub value: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionDetail {
    pub version: u32,
    pub rows: u64,
    pub created: String,
    pub note: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportAnswer {
    pub dataset: DatasetDetail,
    pub report: ImportReport,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    pub rows_added: u64,
    pub bytes_read: u64,
    pub files: Vec<ImportedFile>,
    pub skipped_rows: u64,
    /// Rows that were skipped, by why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped_by_reason: BTreeMap<String, u64>,
    /// The first problems that were met, each with file, line, column and reason.
    pub problems: Vec<String>,
    /// What else is worth knowing, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportedFile {
    pub file: String,
    pub rows: u64,
    /// How the file was read: format, compression, delimiter, encoding.
    pub read_as: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rows {
    /// One object a row: `row_id`, `text`, `labels`, `split`, `label_shares` and `row_weight`
    /// where the data set has any, and the other columns.
    pub rows: Vec<BTreeMap<String, Value>>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct HeadQuery {
    pub version: Option<u32>,
    /// At most 1000; 10 when absent.
    pub limit: Option<u32>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    pub version: Option<u32>,
    /// `csv`, `jsonl` (the default), `parquet` or `arrow`.
    pub format: Option<String>,
}
