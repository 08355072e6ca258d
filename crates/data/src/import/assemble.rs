//! From drafts to a version: parts written before a column was widened are converted, files
//! go into the store, layers are lined up over old and new parts, and rows are counted.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use corral_types::BlobHash;

use super::columns::ColumnPlan;
use super::error::ImportError;
use super::options::ImportOptions;
use super::part_writer::DraftPart;
use super::sink::SinkResult;
use crate::counting::{CountError, duplicate_rows, layer_counts};
use crate::dataset::{ReadError, column_type_of};
use crate::ipc_file::IpcFile;
use crate::ipc_writer::{FinishedFile, IpcFileWriter, WriteError};
use crate::layers::{put, put_path, to_multi};
use crate::manifest::{
    self, Column, ColumnType, LabelTable, Layer, LayerFile, LayerKind, Manifest, Part,
};
use crate::revise::{ReviseError, drawn};
use crate::statistics::Statistics;
use crate::store::PartStore;

impl From<CountError> for ImportError {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Read(error) => Self::ReadBack(error),
            CountError::Write(error) => Self::Write(error),
        }
    }
}

pub(super) fn assemble(
    result: SinkResult,
    plan: ColumnPlan,
    options: &ImportOptions,
    base: Option<&Manifest>,
    store: &dyn PartStore,
    scratch: &Path,
    notes: &mut Vec<String>,
) -> Result<Manifest, ImportError> {
    let mut manifest = base.cloned().unwrap_or_else(|| empty_manifest(&plan, &result.columns));
    // Rows of an append may be the first that have them.
    manifest.schema.weight_column = manifest.schema.weight_column.or(plan.weight);
    manifest.schema.shares_column = manifest.schema.shares_column.or(plan.shares);
    if manifest.labels.arity != result.arity {
        lift_to_lists(&mut manifest, store, scratch)?;
    }
    manifest.labels = LabelTable { names: result.labels.names, arity: result.arity };
    manifest.splits = result.splits.names;

    let mut labels = LayerFiles::of(&manifest, LayerKind::Label);
    let mut splits = LayerFiles::of(&manifest, LayerKind::Split);
    let mut hashes = LayerFiles::of(&manifest, LayerKind::TextHash);
    let mut weights = LayerFiles::of(&manifest, LayerKind::Weight);
    let mut shares = LayerFiles::of(&manifest, LayerKind::Shares);
    let mut widened = Vec::new();
    let mut text_bytes = 0;
    for draft in result.drafts {
        let draft = convert_types(draft, &result.columns, scratch, &mut widened)?;
        let draft_labels = match draft.labels {
            Some(file) if draft.arity != result.arity => {
                let read = IpcFile::open(file.hash, &file.path)?;
                Some(to_multi(&read, scratch)??)
            }
            labels => labels,
        };
        labels.push(draft_labels, store)?;
        splits.push(draft.splits, store)?;
        hashes.push(Some(draft.hashes), store)?;
        weights.push(draft.weights, store)?;
        shares.push(draft.shares, store)?;
        let FinishedFile { path, hash, bytes } = draft.data;
        put_path(path, &hash, store)?;
        text_bytes += draft.text_bytes;
        manifest.parts.push(Part {
            blob: hash,
            rows: draft.rows,
            bytes,
            first_row_id: draft.first_row_id,
            text_bytes: draft.text_bytes,
        });
    }
    widened.dedup();
    for column in widened {
        notes.push(format!(
            "column `{column}` turned out wider than its first values: those written before were \
             converted"
        ));
    }
    let layers = [labels, splits, hashes, weights, shares];
    manifest.layers = layers.into_iter().filter_map(LayerFiles::layer).collect();
    manifest.set_format();
    manifest.next_row_id = result.next_row_id;

    let statistics = &mut manifest.statistics;
    statistics.rows = manifest.parts.iter().map(|part| part.rows).sum();
    statistics.text_bytes += text_bytes;
    statistics.empty_texts += result.empty_texts;
    statistics.chars.merge(&result.chars.finish());
    statistics.words.merge(&result.words.finish());

    let mut manifest = Arc::new(manifest);
    let duplicates = duplicate_rows(&manifest, store, scratch, options.limits.sort_memory_bytes)?;
    if let Some(draw) = &options.draw {
        manifest = Arc::new(drawn(&manifest, store, &options.limits, draw).map_err(draw_error)?);
    }
    let counts = layer_counts(&manifest, store)?;
    let mut manifest = Arc::unwrap_or_clone(manifest);
    manifest.statistics.duplicate_rows = duplicates;
    counts.set(&mut manifest.statistics);
    Ok(manifest)
}

/// What a draw over freshly written layers can fail with.
fn draw_error(error: ReviseError) -> ImportError {
    match error {
        ReviseError::Draw(error) => ImportError::Draw(error),
        ReviseError::Read(error) => ImportError::ReadBack(error),
        ReviseError::Write(error) => ImportError::Write(error),
        ReviseError::TooManySplits { limit } => ImportError::TooManySplits {
            file: "the draw".to_owned(),
            column: manifest::SPLIT_COLUMN.to_owned(),
            limit,
        },
        ReviseError::NoTextHashes
        | ReviseError::SeveralLabels { .. }
        | ReviseError::LabelTooLong { .. }
        | ReviseError::EmptyLabel { .. }
        | ReviseError::WrongShare { .. }
        | ReviseError::WrongWeight { .. }
        | ReviseError::TooManyClasses { .. } => unreachable!("a draw does not touch labels"),
    }
}

fn empty_manifest(plan: &ColumnPlan, columns: &[(String, ColumnType)]) -> Manifest {
    let columns = columns
        .iter()
        .map(|(name, column_type)| Column { name: name.clone(), column_type: *column_type });
    Manifest {
        format_version: manifest::FORMAT_VERSION,
        schema: manifest::Schema {
            text_column: plan.text.clone().unwrap_or_else(|| manifest::TEXT_COLUMN.to_owned()),
            label_column: plan.label.clone(),
            split_column: plan.split.clone(),
            weight_column: None,
            shares_column: None,
            columns: columns.collect(),
        },
        labels: LabelTable::default(),
        splits: Vec::new(),
        parts: Vec::new(),
        layers: Vec::new(),
        next_row_id: 0,
        statistics: Statistics::default(),
    }
}

/// Turns the label layer of a base whose rows have one label into one of lists.
fn lift_to_lists(
    manifest: &mut Manifest,
    store: &dyn PartStore,
    scratch: &Path,
) -> Result<(), ImportError> {
    for layer in manifest.layers.iter_mut().filter(|layer| layer.kind == LayerKind::Label) {
        for file in layer.files.iter_mut().flatten() {
            let blob: BlobHash = file.blob;
            let path =
                store.local_path(&blob).map_err(|source| ReadError::Open { blob, source })?;
            let single = IpcFile::open(blob, &path)?;
            let lists = to_multi(&single, scratch)??;
            *file = put(lists, store)?;
        }
    }
    Ok(())
}

/// One layer's files over the parts so far.
struct LayerFiles {
    kind: LayerKind,
    files: Vec<Option<LayerFile>>,
}

impl LayerFiles {
    fn of(manifest: &Manifest, kind: LayerKind) -> Self {
        let files = match manifest.layer(kind) {
            Some(layer) => layer.files.clone(),
            None => vec![None; manifest.parts.len()],
        };
        Self { kind, files }
    }

    fn push(
        &mut self,
        file: Option<FinishedFile>,
        store: &dyn PartStore,
    ) -> Result<(), WriteError> {
        self.files.push(file.map(|file| put(file, store)).transpose()?);
        Ok(())
    }

    fn layer(self) -> Option<Layer> {
        let any = self.files.iter().any(Option::is_some);
        let name = self.kind.column().to_owned();
        any.then_some(Layer { name, kind: self.kind, files: self.files })
    }
}

/// Rewrites a part one of whose columns was widened after it was written.
fn convert_types(
    draft: DraftPart,
    columns: &[(String, ColumnType)],
    scratch: &Path,
    widened: &mut Vec<String>,
) -> Result<DraftPart, ImportError> {
    let final_type = |field: &Field| {
        let column = columns.iter().find(|(name, _)| name == field.name());
        match column.map(|(_, column_type)| column_type) {
            Some(ColumnType::String) => DataType::LargeUtf8,
            Some(ColumnType::Int) => DataType::Int64,
            Some(ColumnType::Float) => DataType::Float64,
            Some(ColumnType::Bool) => DataType::Boolean,
            None => field.data_type().clone(),
        }
    };
    let fields: Vec<Field> = draft
        .schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let kept = index < 2 || column_type_of(field.data_type()).is_none();
            let data_type = if kept { field.data_type().clone() } else { final_type(field) };
            if data_type != *field.data_type() {
                widened.push(field.name().clone());
            }
            Field::new(field.name(), data_type, field.is_nullable())
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    if schema == draft.schema {
        return Ok(draft);
    }
    let file = IpcFile::open(draft.data.hash, &draft.data.path)?;
    let mut writer = IpcFileWriter::create(scratch, &schema)?;
    for index in 0..file.batches() {
        let batch = file.batch(index)?;
        let decode = |source| ReadError::Decode { blob: draft.data.hash, source };
        let arrays = batch.columns().iter().zip(schema.fields());
        let arrays = arrays.map(|(array, field)| arrow_cast::cast(array, field.data_type()));
        let arrays = arrays.collect::<Result<Vec<_>, _>>().map_err(decode)?;
        let converted = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(decode)?;
        writer.write(&converted)?;
    }
    Ok(DraftPart { data: writer.finish()?, schema, ..draft })
}
