//! Reading a version: mapped files, batches without copies, random access to rows.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Float32Array, LargeStringArray, ListArray, RecordBatch,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType};
use corral_types::{BlobHash, ErrorKind, Explain};

use crate::ipc_file::IpcFile;
use crate::manifest::{
    Column, ColumnType, LabelArity, LayerKind, Manifest, ROW_ID_COLUMN, TEXT_COLUMN,
};
use crate::store::PartStore;

/// Why a version cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("open the data set's file {blob}")]
    Open { blob: BlobHash, source: io::Error },
    #[error("decode the data set's file {blob}")]
    Decode { blob: BlobHash, source: ArrowError },
    #[error("the data set's file {blob} is damaged: {what}")]
    Damaged { blob: BlobHash, what: &'static str },
    #[error("row {row} of a data set of {rows} rows")]
    NoSuchRow { row: u64, rows: u64 },
    #[error("the data set has no column `{column}`")]
    NoSuchColumn { column: String },
}

impl Explain for ReadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() != io::ErrorKind::NotFound => {
                ErrorKind::Internal
            }
            Self::Open { .. } | Self::Decode { .. } | Self::Damaged { .. } => ErrorKind::DataLoss,
            Self::NoSuchRow { .. } | Self::NoSuchColumn { .. } => ErrorKind::NotFound,
        }
    }

    fn hint(&self) -> Option<String> {
        (self.kind() == ErrorKind::DataLoss)
            .then(|| "restore the file from a backup, or import the data set again".to_owned())
    }
}

/// An open version of a data set. Cloning is cheap, and clones share what is decoded.
#[derive(Clone, Debug)]
pub struct Dataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    manifest: Arc<Manifest>,
    slots: Vec<Slot>,
    /// First row of each batch, and after them the number of rows.
    first_rows: Vec<u64>,
}

/// One batch and the pieces of the layers over it.
#[derive(Debug)]
struct Slot {
    part: usize,
    index: usize,
    data: Arc<IpcFile>,
    labels: Option<Arc<IpcFile>>,
    splits: Option<Arc<IpcFile>>,
    hashes: Option<Arc<IpcFile>>,
    weights: Option<Arc<IpcFile>>,
    shares: Option<Arc<IpcFile>>,
    decoded: OnceLock<Batch>,
}

impl Dataset {
    /// Maps all files of a version and checks that they fit together: schemas, batches, rows.
    /// Values are checked when their batch is first decoded.
    ///
    /// # Errors
    /// When a file is missing, damaged, or is not the shape that the manifest says.
    pub fn open(
        manifest: impl Into<Arc<Manifest>>,
        store: &dyn PartStore,
    ) -> Result<Self, ReadError> {
        let manifest = manifest.into();
        let parts = 0..manifest.parts.len();
        Self::open_parts(manifest, parts, store)
    }

    /// The same for some of the parts: rows and batches count from the first of them. What
    /// is read of a part stays mapped until it is dropped, so whoever goes through a large
    /// version once does it part by part.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Panics
    /// When there are no such parts.
    pub fn open_parts(
        manifest: Arc<Manifest>,
        parts: Range<usize>,
        store: &dyn PartStore,
    ) -> Result<Self, ReadError> {
        let open = |blob: BlobHash| {
            let path =
                store.local_path(&blob).map_err(|source| ReadError::Open { blob, source })?;
            IpcFile::open(blob, &path)
        };
        let mut slots = Vec::new();
        let mut first_rows = vec![0];
        for at in parts {
            let part = &manifest.parts[at];
            let data = open(part.blob)?;
            check_part(&data, part.rows, &manifest.schema.columns)?;
            let layer = |kind: LayerKind| {
                let file = manifest.layer(kind).and_then(|layer| layer.files[at].as_ref());
                let opened = file.map(|file| open(file.blob)).transpose()?;
                if let Some(opened) = &opened {
                    check_layer(opened, kind, manifest.labels.arity, &data)?;
                }
                Ok::<_, ReadError>(opened)
            };
            let labels = layer(LayerKind::Label)?;
            let splits = layer(LayerKind::Split)?;
            let hashes = layer(LayerKind::TextHash)?;
            let weights = layer(LayerKind::Weight)?;
            let shares = layer(LayerKind::Shares)?;
            for index in 0..data.batches() {
                let first = first_rows.last().copied().unwrap_or(0);
                first_rows.push(first + data.rows[index]);
                slots.push(Slot {
                    part: at,
                    index,
                    data: Arc::clone(&data),
                    labels: labels.clone(),
                    splits: splits.clone(),
                    hashes: hashes.clone(),
                    weights: weights.clone(),
                    shares: shares.clone(),
                    decoded: OnceLock::new(),
                });
            }
        }
        Ok(Self { inner: Arc::new(Inner { manifest, slots, first_rows }) })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The manifest, to open other parts of the version with.
    pub fn shared_manifest(&self) -> &Arc<Manifest> {
        &self.inner.manifest
    }

    /// Rows of the opened parts.
    pub fn rows(&self) -> u64 {
        self.inner.first_rows.last().copied().unwrap_or(0)
    }

    pub fn batches(&self) -> usize {
        self.inner.slots.len()
    }

    /// The index of the part that a batch belongs to.
    pub fn part_of(&self, batch: usize) -> usize {
        self.inner.slots[batch].part
    }

    /// A batch with its layers, decoded at the first call and kept; nothing is copied.
    ///
    /// # Errors
    /// When its bytes are damaged.
    ///
    /// # Panics
    /// When there is no such batch.
    pub fn batch(&self, index: usize) -> Result<Batch, ReadError> {
        let slot = &self.inner.slots[index];
        if let Some(batch) = slot.decoded.get() {
            return Ok(batch.clone());
        }
        let batch = self.decode(index)?;
        Ok(slot.decoded.get_or_init(|| batch).clone())
    }

    /// All batches in row order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Batch, ReadError>> {
        (0..self.batches()).map(|index| self.batch(index))
    }

    /// One row, counted from 0 in the order of the version, not by row id.
    ///
    /// # Errors
    /// When there is no such row or its batch is damaged.
    pub fn row(&self, row: u64) -> Result<Row, ReadError> {
        if row >= self.rows() {
            return Err(ReadError::NoSuchRow { row, rows: self.rows() });
        }
        let index = self.inner.first_rows.partition_point(|&first| first <= row) - 1;
        let offset = row - self.inner.first_rows[index];
        Ok(Row { batch: self.batch(index)?, at: offset as usize })
    }

    /// The first rows, at most `rows`.
    ///
    /// # Errors
    /// When a batch is damaged.
    pub fn head(&self, rows: u64) -> Result<Vec<Row>, ReadError> {
        (0..rows.min(self.rows())).map(|row| self.row(row)).collect()
    }

    /// Reads every value of every file once.
    ///
    /// # Errors
    /// When any of them is damaged.
    pub fn verify(&self) -> Result<(), ReadError> {
        (0..self.batches()).try_for_each(|index| self.decode(index).map(drop))
    }

    /// The labels of a batch, without touching its texts.
    pub(crate) fn labels(&self, index: usize) -> Result<Labels, ReadError> {
        let slot = &self.inner.slots[index];
        let Some(file) = &slot.labels else {
            return Ok(Labels::None);
        };
        let column = first_column(&file.batch(slot.index)?);
        let classes = self.inner.manifest.labels.names.len();
        let labels = match self.inner.manifest.labels.arity {
            LabelArity::Single => Labels::Single(column.as_primitive::<UInt32Type>().clone()),
            LabelArity::Multi => Labels::Multi(column.as_list::<i32>().clone()),
        };
        if labels.largest_code().is_some_and(|code| code as usize >= classes) {
            return Err(file.damaged("a label is not in the data set's table"));
        }
        Ok(labels)
    }

    /// The splits of a batch; `None` when it has no split at all.
    pub(crate) fn splits(&self, index: usize) -> Result<Option<UInt16Array>, ReadError> {
        let slot = &self.inner.slots[index];
        let Some(file) = &slot.splits else {
            return Ok(None);
        };
        let splits: UInt16Array = first_column(&file.batch(slot.index)?).as_primitive().clone();
        let known = self.inner.manifest.splits.len();
        if splits.iter().flatten().any(|code| usize::from(code) >= known) {
            return Err(file.damaged("a split is not among the data set's"));
        }
        Ok(Some(splits))
    }

    /// The weights of a batch; `None` when no row of the part has one.
    pub(crate) fn weights(&self, index: usize) -> Result<Option<Float32Array>, ReadError> {
        let slot = &self.inner.slots[index];
        let Some(file) = &slot.weights else {
            return Ok(None);
        };
        let weights: Float32Array = first_column(&file.batch(slot.index)?).as_primitive().clone();
        if weights.iter().flatten().any(|weight| !(weight.is_finite() && weight >= 0.0)) {
            return Err(file.damaged("a weight is not a finite number from 0 on"));
        }
        Ok(Some(weights))
    }

    /// The shares of the labels of a batch; `None` when no row of the part has any.
    pub(crate) fn shares(
        &self,
        index: usize,
        labels: &Labels,
    ) -> Result<Option<ListArray>, ReadError> {
        let slot = &self.inner.slots[index];
        let Some(file) = &slot.shares else {
            return Ok(None);
        };
        let shares: ListArray = first_column(&file.batch(slot.index)?).as_list().clone();
        for row in (0..shares.len()).filter(|&row| shares.is_valid(row)) {
            let of_row = list_of::<Float32Type>(&shares, row);
            if of_row.len() != labels.codes(row).len() {
                return Err(file.damaged("a row does not have one share a label"));
            }
            if !of_row.iter().all(|share| share.is_finite() && *share > 0.0) {
                return Err(file.damaged("a share is not a finite number above 0"));
            }
        }
        Ok(Some(shares))
    }

    /// The hashes of the normalised texts of a batch; `None` when the version lacks them.
    pub(crate) fn text_hashes(&self, index: usize) -> Result<Option<UInt64Array>, ReadError> {
        let slot = &self.inner.slots[index];
        let Some(file) = &slot.hashes else {
            return Ok(None);
        };
        Ok(Some(first_column(&file.batch(slot.index)?).as_primitive().clone()))
    }

    pub(crate) fn batch_rows(&self, index: usize) -> usize {
        (self.inner.first_rows[index + 1] - self.inner.first_rows[index]) as usize
    }

    fn decode(&self, index: usize) -> Result<Batch, ReadError> {
        let slot = &self.inner.slots[index];
        let columns = slot.data.batch(slot.index)?;
        if columns.column(0).null_count() + columns.column(1).null_count() > 0 {
            return Err(slot.data.damaged("a row id or text is null"));
        }
        let labels = self.labels(index)?;
        Ok(Batch {
            first_row: self.inner.first_rows[index],
            row_ids: columns.column(0).as_primitive().clone(),
            texts: columns.column(1).as_string().clone(),
            shares: self.shares(index, &labels)?,
            labels,
            splits: self.splits(index)?,
            weights: self.weights(index)?,
            columns,
        })
    }
}

/// Checks that a part's file has the columns and rows it must have.
fn check_part(file: &IpcFile, rows: u64, columns: &[Column]) -> Result<(), ReadError> {
    let fields = file.schema().fields();
    let expected = [(ROW_ID_COLUMN, DataType::UInt64), (TEXT_COLUMN, DataType::LargeUtf8)];
    let named = fields.len() >= 2
        && expected
            .iter()
            .zip(fields)
            .all(|((name, kind), field)| field.name() == name && field.data_type() == kind);
    if !named {
        return Err(file.damaged("it does not begin with row ids and texts"));
    }
    let declared = |name: &str, column_type| {
        columns.iter().any(|column| column.name == name && Some(column.column_type) == column_type)
    };
    if !fields[2..].iter().all(|field| declared(field.name(), column_type_of(field.data_type()))) {
        return Err(file.damaged("it has a column that is not in the data set's schema"));
    }
    if file.rows.iter().try_fold(0u64, |sum, rows| sum.checked_add(*rows)) != Some(rows) {
        return Err(file.damaged("it does not have the rows that the manifest says"));
    }
    Ok(())
}

fn check_layer(
    file: &IpcFile,
    kind: LayerKind,
    arity: LabelArity,
    data: &IpcFile,
) -> Result<(), ReadError> {
    let fields = file.schema().fields();
    let shape = fields.first().map(|field| field.data_type());
    let fits = fields.len() == 1
        && match (kind, arity, shape) {
            (LayerKind::Label, LabelArity::Single, Some(DataType::UInt32))
            | (LayerKind::Split, _, Some(DataType::UInt16))
            | (LayerKind::TextHash, _, Some(DataType::UInt64))
            | (LayerKind::Weight, _, Some(DataType::Float32)) => true,
            (LayerKind::Label, LabelArity::Multi, Some(DataType::List(item))) => {
                *item.data_type() == DataType::UInt32
            }
            (LayerKind::Shares, LabelArity::Multi, Some(DataType::List(item))) => {
                *item.data_type() == DataType::Float32
            }
            _ => false,
        };
    if !fits {
        return Err(file.damaged("it is not the layer that the manifest says"));
    }
    if file.rows != data.rows {
        return Err(file.damaged("its batches are not those of its part"));
    }
    Ok(())
}

/// The values of one list.
fn list_of<T: ArrowPrimitiveType>(lists: &ListArray, row: usize) -> &[T::Native] {
    let offsets = lists.value_offsets();
    &lists.values().as_primitive::<T>().values()[offsets[row] as usize..offsets[row + 1] as usize]
}

fn first_column(batch: &RecordBatch) -> ArrayRef {
    Arc::clone(batch.column(0))
}

pub(crate) fn column_type_of(data_type: &DataType) -> Option<ColumnType> {
    match data_type {
        DataType::LargeUtf8 => Some(ColumnType::String),
        DataType::Int64 => Some(ColumnType::Int),
        DataType::Float64 => Some(ColumnType::Float),
        DataType::Boolean => Some(ColumnType::Bool),
        _ => None,
    }
}

/// A run of consecutive rows. Cloning is cheap; the values lie in the mapped files.
#[derive(Clone, Debug)]
pub struct Batch {
    first_row: u64,
    row_ids: UInt64Array,
    texts: LargeStringArray,
    labels: Labels,
    shares: Option<ListArray>,
    splits: Option<UInt16Array>,
    weights: Option<Float32Array>,
    columns: RecordBatch,
}

/// The labels of a batch, as codes into the manifest's table.
#[derive(Clone, Debug)]
pub enum Labels {
    /// No row of the batch is labelled.
    None,
    Single(UInt32Array),
    Multi(ListArray),
}

impl Labels {
    /// The codes of a row; empty when it is unlabelled.
    pub fn codes(&self, row: usize) -> &[u32] {
        match self {
            Self::None => &[],
            Self::Single(codes) if codes.is_valid(row) => &codes.values()[row..=row],
            Self::Multi(lists) if lists.is_valid(row) => list_of::<UInt32Type>(lists, row),
            Self::Single(_) | Self::Multi(_) => &[],
        }
    }

    fn largest_code(&self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Single(codes) => codes.iter().flatten().max(),
            Self::Multi(lists) => {
                lists.values().as_primitive::<UInt32Type>().iter().flatten().max()
            }
        }
    }
}

impl Batch {
    /// The version's number of the batch's first row.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub fn text(&self, row: usize) -> &str {
        self.texts.value(row)
    }

    pub fn texts(&self) -> &LargeStringArray {
        &self.texts
    }

    pub fn row_id(&self, row: usize) -> u64 {
        self.row_ids.value(row)
    }

    pub fn row_ids(&self) -> &[u64] {
        self.row_ids.values()
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The label of a row, or the first of several; `None` when it is unlabelled.
    pub fn label(&self, row: usize) -> Option<u32> {
        self.labels.codes(row).first().copied()
    }

    /// How likely each label of a row is, in the order of its codes, above zero and of any sum;
    /// `None` where its labels count the same.
    pub fn shares(&self, row: usize) -> Option<&[f32]> {
        let shares = self.shares.as_ref()?;
        shares.is_valid(row).then(|| list_of::<Float32Type>(shares, row))
    }

    /// What a row counts; `None` where nothing was said, which is as good as 1.
    pub fn weight(&self, row: usize) -> Option<f32> {
        let weights = self.weights.as_ref()?;
        weights.is_valid(row).then(|| weights.value(row))
    }

    /// The split of a row, as an index into the manifest's split names.
    pub fn split(&self, row: usize) -> Option<u16> {
        let splits = self.splits.as_ref()?;
        splits.is_valid(row).then(|| splits.value(row))
    }

    /// The split of every row; `None` when no row of the part has one.
    pub fn splits(&self) -> Option<&UInt16Array> {
        self.splits.as_ref()
    }

    /// A further column by name: a `LargeStringArray`, `Int64Array`, `Float64Array` or
    /// `BooleanArray`. `None` also when the whole part leaves it empty.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        let (index, _) = self.columns.schema_ref().column_with_name(name)?;
        (index >= 2).then(|| self.columns.column(index))
    }

    /// The part's own columns: row id, text, and the further ones it has.
    pub fn record_batch(&self) -> &RecordBatch {
        &self.columns
    }
}

/// One row of a data set.
#[derive(Clone, Debug)]
pub struct Row {
    batch: Batch,
    at: usize,
}

/// A value of a further column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    String(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Row {
    pub fn id(&self) -> u64 {
        self.batch.row_id(self.at)
    }

    pub fn text(&self) -> &str {
        self.batch.text(self.at)
    }

    /// Label codes; empty when the row is unlabelled.
    pub fn labels(&self) -> &[u32] {
        self.batch.labels.codes(self.at)
    }

    /// See [`Batch::shares`].
    pub fn shares(&self) -> Option<&[f32]> {
        self.batch.shares(self.at)
    }

    /// See [`Batch::weight`].
    pub fn weight(&self) -> Option<f32> {
        self.batch.weight(self.at)
    }

    pub fn split(&self) -> Option<u16> {
        self.batch.split(self.at)
    }

    /// The row's value in a further column; `None` when it is empty.
    pub fn value(&self, column: &str) -> Option<Value<'_>> {
        self.batch.column(column).and_then(|array| value_at(array, self.at))
    }
}

/// The value of a further column's array at a row.
pub fn value_at(array: &ArrayRef, row: usize) -> Option<Value<'_>> {
    if array.is_null(row) {
        return None;
    }
    match column_type_of(array.data_type())? {
        ColumnType::String => Some(Value::String(array.as_string::<i64>().value(row))),
        ColumnType::Int => {
            Some(Value::Int(array.as_primitive::<arrow_array::types::Int64Type>().value(row)))
        }
        ColumnType::Float => {
            Some(Value::Float(array.as_primitive::<arrow_array::types::Float64Type>().value(row)))
        }
        ColumnType::Bool => Some(Value::Bool(array.as_boolean().value(row))),
    }
}
