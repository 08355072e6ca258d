//! Batches go out to the files of the current part and of the layers over it.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, LargeStringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};

use crate::ipc_writer::{FinishedFile, IpcFileWriter, WriteError};
use crate::layers::{
    NO_SPLIT, hash_batch, label_batch, layer_schema, record_batch, shares_batch, split_batch,
    weight_batch,
};
use crate::limits::Limits;
use crate::manifest::{LabelArity, LayerKind, ROW_ID_COLUMN, TEXT_COLUMN};

/// The rows of one batch.
pub(crate) struct BatchRows {
    pub texts: LargeStringArray,
    /// The further columns that have any value.
    pub columns: Vec<(String, ArrayRef)>,
    /// The labels of all rows end to end, and where each row's end.
    pub label_codes: Vec<u32>,
    pub label_ends: Vec<u32>,
    /// The shares of the labels of rows that have any, end to end, and where each row's end.
    pub shares: Vec<f32>,
    pub share_ends: Vec<u32>,
    pub arity: LabelArity,
    pub splits: Vec<u16>,
    /// `NaN` where a row has none.
    pub weights: Vec<f32>,
    pub hashes: Vec<u64>,
    /// Bytes of all values, for the size of the part.
    pub bytes: usize,
}

/// A part whose files are written and not yet in the store.
pub(crate) struct DraftPart {
    pub data: FinishedFile,
    pub schema: Arc<Schema>,
    /// `None` when no row of the part has a label.
    pub labels: Option<FinishedFile>,
    pub arity: LabelArity,
    /// `None` when no row of the part has a split.
    pub splits: Option<FinishedFile>,
    pub hashes: FinishedFile,
    /// `None` when no row of the part has a weight.
    pub weights: Option<FinishedFile>,
    /// `None` when no row of the part has shares.
    pub shares: Option<FinishedFile>,
    pub first_row_id: u64,
    pub rows: u64,
    pub text_bytes: u64,
}

/// Writes batches into parts.
pub(crate) struct PartWriter {
    folder: PathBuf,
    part_bytes: u64,
    open: Option<OpenPart>,
    finished: Vec<DraftPart>,
    next_row_id: u64,
}

struct OpenPart {
    schema: Arc<Schema>,
    data: IpcFileWriter,
    labels: IpcFileWriter,
    arity: LabelArity,
    any_label: bool,
    splits: IpcFileWriter,
    any_split: bool,
    hashes: IpcFileWriter,
    weights: IpcFileWriter,
    any_weight: bool,
    shares: IpcFileWriter,
    any_share: bool,
    first_row_id: u64,
    rows: u64,
    text_bytes: u64,
    value_bytes: u64,
}

impl PartWriter {
    pub(crate) fn new(folder: PathBuf, limits: &Limits, next_row_id: u64) -> Self {
        Self {
            folder,
            part_bytes: limits.part_bytes,
            open: None,
            finished: Vec::new(),
            next_row_id,
        }
    }

    /// Rows in all batches so far.
    pub(crate) fn next_row_id(&self) -> u64 {
        self.next_row_id
    }

    pub(crate) fn write(&mut self, batch: BatchRows) -> Result<(), WriteError> {
        let schema = part_schema(&batch.columns);
        if self.open.as_ref().is_some_and(|open| open.schema != schema || open.arity != batch.arity)
        {
            self.close_part()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                none.insert(OpenPart::create(&self.folder, schema, batch.arity, self.next_row_id)?)
            }
        };
        let rows = batch.hashes.len() as u64;
        let value_bytes = batch.bytes as u64;
        open.write(batch, self.next_row_id)?;
        open.value_bytes += value_bytes;
        self.next_row_id += rows;
        if open.value_bytes >= self.part_bytes {
            self.close_part()?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Vec<DraftPart>, WriteError> {
        self.close_part()?;
        Ok(self.finished)
    }

    fn close_part(&mut self) -> Result<(), WriteError> {
        if let Some(open) = self.open.take() {
            self.finished.push(open.finish()?);
        }
        Ok(())
    }
}

impl OpenPart {
    fn create(
        folder: &std::path::Path,
        schema: Arc<Schema>,
        arity: LabelArity,
        first_row_id: u64,
    ) -> Result<Self, WriteError> {
        let layer = |kind| IpcFileWriter::create(folder, &layer_schema(kind, arity));
        Ok(Self {
            data: IpcFileWriter::create(folder, &schema)?,
            schema,
            labels: layer(LayerKind::Label)?,
            arity,
            any_label: false,
            splits: layer(LayerKind::Split)?,
            any_split: false,
            hashes: layer(LayerKind::TextHash)?,
            weights: layer(LayerKind::Weight)?,
            any_weight: false,
            shares: layer(LayerKind::Shares)?,
            any_share: false,
            first_row_id,
            rows: 0,
            text_bytes: 0,
            value_bytes: 0,
        })
    }

    fn write(&mut self, batch: BatchRows, first_row_id: u64) -> Result<(), WriteError> {
        let rows = batch.hashes.len() as u64;
        self.rows += rows;
        self.text_bytes += batch.texts.values().len() as u64;
        self.any_label |= !batch.label_codes.is_empty();
        self.any_weight |= batch.weights.iter().any(|weight| !weight.is_nan());
        self.any_share |= !batch.shares.is_empty();
        self.any_split |= batch.splits.iter().any(|&split| split != NO_SPLIT);

        let row_ids = UInt64Array::from_iter_values(first_row_id..first_row_id + rows);
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(row_ids), Arc::new(batch.texts)];
        arrays.extend(batch.columns.into_iter().map(|(_, array)| array));
        self.data.write(&record_batch(&self.schema, arrays))?;

        self.labels.write(&label_batch(batch.label_codes, &batch.label_ends, self.arity))?;
        self.splits.write(&split_batch(batch.splits))?;
        self.weights.write(&weight_batch(batch.weights))?;
        self.shares.write(&shares_batch(batch.shares, &batch.share_ends))?;
        self.hashes.write(&hash_batch(batch.hashes))
    }

    fn finish(self) -> Result<DraftPart, WriteError> {
        let labels = self.labels.finish()?;
        let splits = self.splits.finish()?;
        let weights = self.weights.finish()?;
        let shares = self.shares.finish()?;
        Ok(DraftPart {
            data: self.data.finish()?,
            schema: self.schema,
            labels: self.any_label.then_some(labels),
            arity: self.arity,
            splits: self.any_split.then_some(splits),
            hashes: self.hashes.finish()?,
            weights: self.any_weight.then_some(weights),
            shares: self.any_share.then_some(shares),
            first_row_id: self.first_row_id,
            rows: self.rows,
            text_bytes: self.text_bytes,
        })
    }
}

fn part_schema(columns: &[(String, ArrayRef)]) -> Arc<Schema> {
    let mut fields = vec![
        Field::new(ROW_ID_COLUMN, DataType::UInt64, false),
        Field::new(TEXT_COLUMN, DataType::LargeUtf8, false),
    ];
    let further =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    fields.extend(further);
    Arc::new(Schema::new(fields))
}
