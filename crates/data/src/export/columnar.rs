//! Parquet and Arrow: labels and splits by name, several labels as a list.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, LargeStringBuilder, ListBuilder};
use arrow_array::{ArrayRef, BooleanArray, Float32Array, RecordBatch, UInt64Array, new_null_array};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{Beside, ExportError, ExportFormat, Selection};
use crate::dataset::{Batch, Dataset};
use crate::manifest::{Column, ColumnType, LabelArity, ROW_ID_COLUMN};

/// Rows of a row group, which the writer gathers: two full batches.
const ROW_GROUP_ROWS: usize = 131_072;

pub(super) fn write_parquet(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    selection: &Selection,
    writer: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let failed = |source| ExportError::Parquet { source };
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder()
        .set_compression(zstd)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let schema = export_schema(dataset, beside.columns(), selection);
    let mut out = ArrowWriter::try_new(writer, schema, Some(properties)).map_err(failed)?;
    let rows = write_batches(dataset, beside, selection, ExportFormat::Parquet, &mut |batch| {
        out.write(&batch).map_err(failed)
    })?;
    out.close().map_err(failed)?;
    Ok(rows)
}

pub(super) fn write_arrow(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    selection: &Selection,
    writer: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let format = ExportFormat::Arrow;
    let failed = |source| ExportError::Encode { format, source };
    let schema = export_schema(dataset, beside.columns(), selection);
    let mut out = FileWriter::try_new_buffered(writer, &schema).map_err(failed)?;
    let rows = write_batches(dataset, beside, selection, format, &mut |batch| {
        out.write(&batch).map_err(failed)
    })?;
    out.finish().map_err(failed)?;
    out.flush().map_err(failed)?;
    Ok(rows)
}

fn write_batches(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    selection: &Selection,
    format: ExportFormat,
    write: &mut dyn FnMut(RecordBatch) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let schema = export_schema(dataset, beside.columns(), selection);
    let failed = |source| ExportError::Encode { format, source };
    let mut rows = 0;
    for batch in dataset.iter() {
        let batch = batch?;
        let values = beside.values(&batch).map_err(|source| ExportError::Beside { source })?;
        let mut arrays = arrays(dataset, selection, &batch);
        arrays.extend(values);
        let mut record = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(failed)?;
        if selection.split.is_some() {
            let kept: Vec<bool> = (0..batch.len()).map(|row| selection.has(&batch, row)).collect();
            record = filter_record_batch(&record, &BooleanArray::from(kept)).map_err(failed)?;
        }
        rows += record.num_rows() as u64;
        write(record)?;
    }
    Ok(rows)
}

fn export_schema(dataset: &Dataset, beside: &[Column], selection: &Selection) -> SchemaRef {
    let manifest = dataset.manifest();
    let mut fields = Vec::new();
    if selection.row_ids {
        fields.push(Field::new(ROW_ID_COLUMN, DataType::UInt64, false));
    }
    fields.push(Field::new(&selection.text_name, DataType::LargeUtf8, false));
    if let Some(name) = &selection.labels {
        let label = match manifest.labels.arity {
            LabelArity::Single => DataType::LargeUtf8,
            LabelArity::Multi => {
                DataType::List(Arc::new(Field::new_list_field(DataType::LargeUtf8, true)))
            }
        };
        fields.push(Field::new(name, label, true));
    }
    if let Some(name) = &selection.shares {
        let shares = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
        fields.push(Field::new(name, shares, true));
    }
    if let Some(name) = &selection.splits {
        fields.push(Field::new(name, DataType::LargeUtf8, true));
    }
    if let Some(name) = &selection.weights {
        fields.push(Field::new(name, DataType::Float32, true));
    }
    for column in manifest.schema.columns.iter().chain(beside) {
        fields.push(Field::new(&column.name, data_type(column.column_type), true));
    }
    Arc::new(Schema::new(fields))
}

fn data_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::String => DataType::LargeUtf8,
        ColumnType::Int => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::Bool => DataType::Boolean,
    }
}

/// The columns of the data set itself.
fn arrays(dataset: &Dataset, selection: &Selection, batch: &Batch) -> Vec<ArrayRef> {
    let manifest = dataset.manifest();
    let name = |code: u32| manifest.labels.names[code as usize].as_str();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    if selection.row_ids {
        arrays.push(Arc::new(UInt64Array::from(batch.row_ids().to_vec())));
    }
    arrays.push(Arc::new(batch.texts().clone()));
    if selection.labels.is_some() {
        arrays.push(match manifest.labels.arity {
            LabelArity::Single => {
                let mut builder = LargeStringBuilder::new();
                (0..batch.len()).for_each(|row| builder.append_option(batch.label(row).map(name)));
                Arc::new(builder.finish())
            }
            LabelArity::Multi => {
                let mut builder = ListBuilder::new(LargeStringBuilder::new());
                for row in 0..batch.len() {
                    let codes = batch.labels().codes(row);
                    codes.iter().for_each(|&code| builder.values().append_value(name(code)));
                    builder.append(!codes.is_empty());
                }
                Arc::new(builder.finish())
            }
        });
    }
    if selection.shares.is_some() {
        let mut builder = ListBuilder::new(Float32Builder::new());
        for row in 0..batch.len() {
            builder.values().append_slice(batch.shares(row).unwrap_or_default());
            builder.append(batch.shares(row).is_some());
        }
        arrays.push(Arc::new(builder.finish()));
    }
    if selection.splits.is_some() {
        let mut builder = LargeStringBuilder::new();
        for row in 0..batch.len() {
            let split = batch.split(row).map(|code| manifest.splits[usize::from(code)].as_str());
            builder.append_option(split);
        }
        arrays.push(Arc::new(builder.finish()));
    }
    if selection.weights.is_some() {
        let weights = (0..batch.len()).map(|row| batch.weight(row));
        arrays.push(Arc::new(Float32Array::from_iter(weights)));
    }
    for column in &manifest.schema.columns {
        arrays.push(match batch.column(&column.name) {
            Some(array) => Arc::clone(array),
            None => new_null_array(&data_type(column.column_type), batch.len()),
        });
    }
    arrays
}
