//! Manifests: what a version of a data set consists of. The hash of a manifest's bytes is
//! the version's id, so the bytes are canonical: fields in the order declared here, no
//! maps, no floating-point numbers.

use corral_types::{BlobHash, ErrorKind, Explain};
use serde::{Deserialize, Serialize};

use crate::statistics::Statistics;

/// The newest format that this code knows. Older ones are read for ever, newer ones refused; a
/// manifest is written in the oldest that can say what it says, so that a version's id does not
/// change with the code that makes it.
pub const FORMAT_VERSION: u32 = 2;
/// The format before weights and shares.
const WITHOUT_WEIGHTS_AND_SHARES: u32 = 1;

/// The names that parts and exports use for the columns every data set has.
pub const ROW_ID_COLUMN: &str = "row_id";
pub const TEXT_COLUMN: &str = "text";
pub const LABEL_COLUMN: &str = "label";
pub const SPLIT_COLUMN: &str = "split";
/// Names that nobody gives to a column of another meaning: they are found again at import.
pub const WEIGHT_COLUMN: &str = "row_weight";
pub const SHARES_COLUMN: &str = "label_shares";

/// One immutable version of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format_version: u32,
    pub schema: Schema,
    pub labels: LabelTable,
    /// Split names; a split layer holds indices into them.
    pub splits: Vec<String>,
    pub parts: Vec<Part>,
    pub layers: Vec<Layer>,
    /// The id that the next appended row gets. Ids are never used again.
    pub next_row_id: u64,
    pub statistics: Statistics,
}

/// The columns of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// What the text column was called where it was imported from.
    pub text_column: String,
    /// What the label column was called; `None` when there was none.
    pub label_column: Option<String>,
    /// What the split column was called; `None` when there was none.
    pub split_column: Option<String>,
    /// What the column of row weights was called; `None` when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_column: Option<String>,
    /// What the column of label shares was called; `None` when there was none. The label column
    /// itself may have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares_column: Option<String>,
    /// Every other column, in the order of the parts' files. A part may lack a column that
    /// all its rows leave empty.
    pub columns: Vec<Column>,
}

/// A column without a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

/// The types a column can have. Anything else is kept as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    String,
    Int,
    Float,
    Bool,
}

impl ColumnType {
    pub const ALL: [Self; 4] = [Self::String, Self::Int, Self::Float, Self::Bool];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
        }
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            format!("`{text}` is not a column type; the types are string, int, float and bool")
        })
    }
}

/// The classes that rows are labelled with. A label code is an index into `names`, which
/// only ever grows, so that codes mean the same in every version of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelTable {
    pub names: Vec<String>,
    pub arity: LabelArity,
}

/// How many labels a row may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelArity {
    #[default]
    Single,
    Multi,
}

/// A run of rows in one Arrow IPC file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub blob: BlobHash,
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Row ids of a part are consecutive from here.
    pub first_row_id: u64,
    pub text_bytes: u64,
}

/// A column that lies over the parts in files of its own, so that it can change without them.
/// Its files have the same batches, row for row, as the parts'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    pub name: String,
    pub kind: LayerKind,
    /// One entry a part; `None` where the column is empty for the whole part.
    pub files: Vec<Option<LayerFile>>,
}

/// What a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Label codes: `UInt32`, or a list of them where rows may have several; null is unlabelled.
    Label,
    /// Indices into the split names, `UInt16`; null is a row without a split.
    Split,
    /// The 64-bit hash of each normalised text, `UInt64`: finds duplicates and draws splits
    /// without reading texts again.
    TextHash,
    /// What each row counts, `Float32`; null is a row that counts 1. Since format 2.
    Weight,
    /// How likely each label of a row is, a list of `Float32` beside the list of its label
    /// codes, above zero and not brought to any sum; null is a row whose labels count the same.
    /// Since format 2, and only where rows may have several labels.
    Shares,
}

impl LayerKind {
    /// The layer's name, and that of the column in its files.
    pub const fn column(self) -> &'static str {
        match self {
            Self::Label => LABEL_COLUMN,
            Self::Split => SPLIT_COLUMN,
            Self::TextHash => "text_hash",
            Self::Weight => WEIGHT_COLUMN,
            Self::Shares => SHARES_COLUMN,
        }
    }
}

/// One part's piece of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerFile {
    pub blob: BlobHash,
    pub bytes: u64,
}

impl Manifest {
    /// The canonical bytes, which are what is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has only texts and integers")
    }

    /// The version's id: the BLAKE3 hash of [`to_bytes`](Self::to_bytes).
    pub fn id(&self) -> BlobHash {
        BlobHash::of(&self.to_bytes())
    }

    /// Reads the bytes of a manifest and checks that its pieces fit together.
    ///
    /// # Errors
    /// When the bytes are no manifest, are of a newer format, or contradict themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(ManifestError::Parse)?;
        if !(WITHOUT_WEIGHTS_AND_SHARES..=FORMAT_VERSION).contains(&version.format_version) {
            return Err(ManifestError::Format { found: version.format_version });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Parse)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Sets the format to the oldest that can say what this manifest says.
    pub(crate) fn set_format(&mut self) {
        self.format_version = self.least_format();
    }

    fn least_format(&self) -> u32 {
        let has_columns =
            self.schema.weight_column.is_some() || self.schema.shares_column.is_some();
        let is_new = |layer: &Layer| matches!(layer.kind, LayerKind::Weight | LayerKind::Shares);
        if has_columns || self.layers.iter().any(is_new) {
            FORMAT_VERSION
        } else {
            WITHOUT_WEIGHTS_AND_SHARES
        }
    }

    /// Whether rows have probabilistic labels.
    pub fn has_shares(&self) -> bool {
        self.layer(LayerKind::Shares).is_some()
    }

    /// The rows of all parts.
    pub fn rows(&self) -> u64 {
        self.statistics.rows
    }

    /// Bytes of all files of this version, those shared with others included.
    pub fn stored_bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|part| part.bytes);
        parts.chain(self.layer_files().map(|file| file.bytes)).sum()
    }

    /// Every blob this version refers to, each once, sorted.
    pub fn blobs(&self) -> Vec<BlobHash> {
        let parts = self.parts.iter().map(|part| part.blob);
        let mut blobs: Vec<_> = parts.chain(self.layer_files().map(|file| file.blob)).collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }

    pub fn layer(&self, kind: LayerKind) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.kind == kind)
    }

    /// The index of a split; `valid` also answers to `validation`, `val` and `dev`, and
    /// `train` to `training`.
    pub fn split_code(&self, name: &str) -> Option<u16> {
        let exact = self.splits.iter().position(|split| split == name);
        let canonical = crate::split::canonical_split_name(name);
        let found = exact.or_else(|| self.splits.iter().position(|split| *split == canonical));
        found.map(|index| index as u16)
    }

    /// The code of a class.
    pub fn label_code(&self, name: &str) -> Option<u32> {
        self.labels.names.iter().position(|label| label == name).map(|index| index as u32)
    }

    /// Rows of each class over all splits, by label code.
    pub fn class_rows(&self) -> Vec<u64> {
        let mut totals = vec![0; self.labels.names.len()];
        for split in &self.statistics.splits {
            for (total, rows) in totals.iter_mut().zip(&split.class_rows) {
                *total += rows;
            }
        }
        totals
    }

    fn layer_files(&self) -> impl Iterator<Item = &LayerFile> {
        self.layers.iter().flat_map(|layer| layer.files.iter().flatten())
    }

    fn check(&self) -> Result<(), ManifestError> {
        let inconsistent = |what: &'static str| Err(ManifestError::Inconsistent { what });
        let mut next_row_id = 0u64;
        let mut rows = 0u64;
        for part in &self.parts {
            if part.first_row_id < next_row_id {
                return inconsistent("the row ids of its parts overlap");
            }
            let Some(after) = part.first_row_id.checked_add(part.rows) else {
                return inconsistent("row ids pass 64 bits");
            };
            next_row_id = after;
            rows += part.rows;
        }
        if self.next_row_id < next_row_id {
            return inconsistent("the next row id is in use");
        }
        if rows != self.statistics.rows {
            return inconsistent("its parts do not add up to its rows");
        }
        if self.layers.iter().any(|layer| layer.files.len() != self.parts.len()) {
            return inconsistent("a layer does not have one entry a part");
        }
        let kinds = self.layers.iter().enumerate();
        if kinds
            .into_iter()
            .any(|(at, layer)| self.layers[..at].iter().any(|l| l.kind == layer.kind))
        {
            return inconsistent("it has two layers of one kind");
        }
        if self.format_version < self.least_format() {
            return inconsistent("it has weights or shares, which its format does not know");
        }
        if self.has_shares() && self.labels.arity != LabelArity::Multi {
            return inconsistent("it has shares of labels of which a row has one");
        }
        if self.splits.len() > usize::from(u16::MAX) {
            return inconsistent("it has more splits than there are codes");
        }
        Ok(())
    }
}

/// Why bytes are not a manifest that this code can use.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("read a data set's manifest")]
    Parse(#[source] serde_json::Error),
    #[error(
        "the data set's manifest has format {found}; this version reads formats up to {FORMAT_VERSION}"
    )]
    Format { found: u32 },
    #[error("the data set's manifest contradicts itself: {what}")]
    Inconsistent { what: &'static str },
}

impl Explain for ManifestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Format { .. } => ErrorKind::Unsupported,
            Self::Parse(_) | Self::Inconsistent { .. } => ErrorKind::DataLoss,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Format { .. } => {
                Some("use the version of corral that wrote it, or a newer one".into())
            }
            Self::Parse(_) | Self::Inconsistent { .. } => None,
        }
    }
}
