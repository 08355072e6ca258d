//! The files of layers: their schemas and batches.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float32Array, ListArray, RecordBatch, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema};

use crate::dataset::{Labels, ReadError};
use crate::ipc_file::IpcFile;
use crate::ipc_writer::{FinishedFile, IpcFileWriter, WriteError};
use crate::manifest::{LabelArity, LayerFile, LayerKind};
use crate::store::PartStore;

/// A split code that stands for none while a batch is built.
pub(crate) const NO_SPLIT: u16 = u16::MAX;
/// A weight that stands for none while a batch is built.
pub(crate) const NO_WEIGHT: f32 = f32::NAN;

/// The schema of a layer's files.
pub(crate) fn layer_schema(kind: LayerKind, arity: LabelArity) -> Arc<Schema> {
    let field = match (kind, arity) {
        (LayerKind::Label, LabelArity::Single) => Field::new(kind.column(), DataType::UInt32, true),
        (LayerKind::Label, LabelArity::Multi) => {
            Field::new(kind.column(), DataType::List(list_item(DataType::UInt32)), true)
        }
        (LayerKind::Split, _) => Field::new(kind.column(), DataType::UInt16, true),
        (LayerKind::TextHash, _) => Field::new(kind.column(), DataType::UInt64, false),
        (LayerKind::Weight, _) => Field::new(kind.column(), DataType::Float32, true),
        (LayerKind::Shares, _) => {
            Field::new(kind.column(), DataType::List(list_item(DataType::Float32)), true)
        }
    };
    Arc::new(Schema::new(vec![field]))
}

fn list_item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new_list_field(data_type, false))
}

/// Lists end to end, one a row, up to its end each; an empty one is null.
fn list_array(values: ArrayRef, ends: &[u32]) -> ArrayRef {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let filled: Vec<bool> = starts.zip(ends).map(|(start, &end)| start < end).collect();
    let offsets: Vec<i32> = std::iter::once(0).chain(ends.iter().map(|&end| end as i32)).collect();
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let nulls = filled.contains(&false).then(|| NullBuffer::from(filled));
    Arc::new(ListArray::new(list_item(values.data_type().clone()), offsets, values, nulls))
}

/// A batch of arrays that were built for its schema.
pub(crate) fn record_batch(schema: &Arc<Schema>, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(schema), arrays)
        .expect("the arrays were built for this schema, one value a row")
}

/// A batch of the label layer: row `i` has the codes from `ends[i - 1]` to `ends[i]`; none
/// means unlabelled. With [`LabelArity::Single`] a row has at most one.
pub(crate) fn label_batch(codes: Vec<u32>, ends: &[u32], arity: LabelArity) -> RecordBatch {
    let array: ArrayRef = match arity {
        LabelArity::Single if codes.len() == ends.len() => Arc::new(UInt32Array::from(codes)),
        LabelArity::Single => {
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let labelled: Vec<bool> = starts.zip(ends).map(|(start, &end)| start < end).collect();
            let mut next = codes.iter().copied();
            let spread: Vec<u32> = labelled
                .iter()
                .map(|&labelled| if labelled { next.next().unwrap_or_default() } else { 0 })
                .collect();
            Arc::new(UInt32Array::new(spread.into(), Some(NullBuffer::from(labelled))))
        }
        LabelArity::Multi => list_array(Arc::new(UInt32Array::from(codes)), ends),
    };
    record_batch(&layer_schema(LayerKind::Label, arity), vec![array])
}

/// A batch of the split layer; [`NO_SPLIT`] becomes null.
pub(crate) fn split_batch(codes: Vec<u16>) -> RecordBatch {
    let assigned: Vec<bool> = codes.iter().map(|&code| code != NO_SPLIT).collect();
    let nulls = assigned.contains(&false).then(|| NullBuffer::from(assigned));
    let array: ArrayRef = Arc::new(UInt16Array::new(codes.into(), nulls));
    record_batch(&layer_schema(LayerKind::Split, LabelArity::Single), vec![array])
}

/// A batch of the layer of text hashes.
pub(crate) fn hash_batch(hashes: Vec<u64>) -> RecordBatch {
    let schema = layer_schema(LayerKind::TextHash, LabelArity::Single);
    record_batch(&schema, vec![Arc::new(UInt64Array::from(hashes))])
}

/// A batch of the layer of weights; [`NO_WEIGHT`] becomes null.
pub(crate) fn weight_batch(weights: Vec<f32>) -> RecordBatch {
    let given: Vec<bool> = weights.iter().map(|weight| !weight.is_nan()).collect();
    let nulls = given.contains(&false).then(|| NullBuffer::from(given));
    let array: ArrayRef = Arc::new(Float32Array::new(weights.into(), nulls));
    record_batch(&layer_schema(LayerKind::Weight, LabelArity::Single), vec![array])
}

/// A batch of the layer of shares: row `i` has those from `ends[i - 1]` to `ends[i]`, as many as
/// it has labels, or none.
pub(crate) fn shares_batch(shares: Vec<f32>, ends: &[u32]) -> RecordBatch {
    let array = list_array(Arc::new(Float32Array::from(shares)), ends);
    record_batch(&layer_schema(LayerKind::Shares, LabelArity::Multi), vec![array])
}

/// Puts a file of a layer into the store.
pub(crate) fn put(file: FinishedFile, store: &dyn PartStore) -> Result<LayerFile, WriteError> {
    let FinishedFile { path, hash, bytes } = file;
    put_path(path, &hash, store)?;
    Ok(LayerFile { blob: hash, bytes })
}

/// Puts a finished file into the store, which takes it from its path.
pub(crate) fn put_path(
    path: tempfile::TempPath,
    hash: &corral_types::BlobHash,
    store: &dyn PartStore,
) -> Result<(), WriteError> {
    store.put_file(&path, hash).map_err(|source| WriteError::Put { source })
}

/// A label layer of single labels written again as one of lists.
pub(crate) fn to_multi(
    file: &IpcFile,
    folder: &std::path::Path,
) -> Result<Result<FinishedFile, WriteError>, ReadError> {
    use arrow_array::cast::AsArray;
    let mut batches = Vec::new();
    for index in 0..file.batches() {
        let batch = file.batch(index)?;
        let labels = Labels::Single(batch.column(0).as_primitive().clone());
        let (mut codes, mut ends) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            codes.extend_from_slice(labels.codes(row));
            ends.push(codes.len() as u32);
        }
        batches.push(label_batch(codes, &ends, LabelArity::Multi));
    }
    let write = || {
        let schema = layer_schema(LayerKind::Label, LabelArity::Multi);
        let mut writer = IpcFileWriter::create(folder, &schema)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()
    };
    Ok(write())
}
