//! Rows of Parquet and Arrow files. Strings, integers, floats and truth values keep their
//! types; anything else becomes text as Arrow displays it.

use std::io::{BufReader, Read};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeListArray, LargeStringArray,
    MapArray, RecordBatch, StructArray, UInt64Array,
};
use arrow_cast::CastOptions;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::arrow_messages::{ArrowMessages, MessageError};
use super::guarded;
use super::source::{OpenedSource, SourceContext, spool};
use crate::import::{Cell, ImportError, Position, ProblemReason, RowSink, Target};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8192;
/// Padding after the magic of an Arrow file: alignments of up to 512 bytes are in use.
const MAX_PADDING_BYTES: usize = 512;

pub(crate) fn read_parquet(
    opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let file = context.sink.file().to_owned();
    let damaged =
        |detail: String| ImportError::Damaged { file: file.clone(), format: "parquet", detail };
    let spooled = spool(opened.reader, context)?;
    let (schema, reader) = guarded(&file, "parquet", || {
        let builder = ParquetRecordBatchReaderBuilder::try_new(spooled)
            .map_err(|error| damaged(error.to_string()))?;
        let schema = Arc::clone(builder.schema());
        let reader = builder.with_batch_size(BATCH_ROWS).build();
        Ok((schema, reader.map_err(|error| damaged(error.to_string()))?))
    })?;
    let batches = reader.map(|batch| batch.map_err(|error| damaged(error.to_string())));
    read_batches("parquet", &schema, batches, context)
}

/// An Arrow file is a stream between its magic and its footer.
pub(crate) fn read_arrow_file(
    mut opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let after_magic = opened.beginning.get(8..).unwrap_or_default();
    // Writers pad the magic to the alignment of their buffers.
    let padding = after_magic.iter().take(MAX_PADDING_BYTES).take_while(|byte| **byte == 0).count();
    let mut skipped = vec![0; 8 + padding / 8 * 8];
    let file = context.sink.file();
    opened.reader.read_exact(&mut skipped).map_err(|error| super::read_error(file, error))?;
    if !skipped.starts_with(b"ARROW1") {
        let detail = "it does not begin with ARROW1".to_owned();
        return Err(ImportError::Damaged { file: file.to_owned(), format: "arrow", detail });
    }
    read_arrow_stream(opened, context)
}

pub(crate) fn read_arrow_stream(
    opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let file = context.sink.file().to_owned();
    let limit = context.sink.options.limits.arrow_batch_bytes;
    let failed = |error| match error {
        MessageError::Read(source) => super::read_error(&file, source),
        MessageError::Damaged(detail) => {
            ImportError::Damaged { file: file.clone(), format: "arrow", detail }
        }
    };
    let mut messages = guarded(&file, "arrow", || {
        ArrowMessages::open(BufReader::new(opened.reader), limit).map_err(failed)
    })?;
    let schema = Arc::clone(messages.schema());
    let batches = std::iter::from_fn(|| messages.next_batch().map_err(failed).transpose());
    read_batches("arrow", &schema, batches, context)
}

fn read_batches(
    format: &'static str,
    schema: &Schema,
    mut batches: impl Iterator<Item = Result<RecordBatch, ImportError>>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let file = context.sink.file().to_owned();
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let targets = context.sink.resolve(context.plan, &names)?;
    let mut row = 0;
    loop {
        let next = guarded(&file, format, || batches.next().transpose())?;
        let Some(batch) = next else {
            return Ok(());
        };
        let columns = guarded(&file, format, || {
            let columns = batch.columns().iter().zip(&targets).zip(&names);
            columns
                .filter(|((_, target), _)| **target != Target::Ignored)
                .map(|((array, &target), name)| {
                    let values =
                        Values::of(array, target).map_err(|error| ImportError::Damaged {
                            file: file.clone(),
                            format,
                            detail: error.to_string(),
                        })?;
                    Ok((name.as_str(), target, values))
                })
                .collect::<Result<Vec<_>, ImportError>>()
        })?;
        for index in 0..batch.num_rows() {
            row += 1;
            let put = columns.iter().try_for_each(|(name, target, values)| {
                values.put(context.sink, *target, index).map_err(|reason| (name, reason))
            });
            match put {
                Ok(()) => context.sink.finish_row(|| Position::Row(row))?,
                Err((name, reason)) => {
                    let column = Some((*name).to_owned());
                    context.sink.reject_row_in(Position::Row(row), column, reason)?;
                }
            }
        }
    }
}

/// The values of one column of a batch, in one of the few shapes that are told apart.
enum Values {
    Text(LargeStringArray),
    Int(Int64Array),
    UInt(UInt64Array),
    Float(Float64Array),
    Bool(BooleanArray),
    /// Labels.
    List(LargeListArray),
    /// Shares of labels.
    Numbers(LargeListArray),
    /// Labels that are the fields of a struct, with their shares.
    SharesOfFields {
        nulls: StructArray,
        fields: Vec<(String, Float64Array)>,
    },
    /// Labels that are the keys of a map, with their shares.
    SharesOfKeys(Box<KeyedShares>),
    /// Shown as text.
    Other(ArrayRef),
}

/// The keys and values of a map.
struct KeyedShares {
    map: MapArray,
    keys: LargeStringArray,
    shares: Float64Array,
}

impl Values {
    fn of(array: &ArrayRef, target: Target) -> Result<Self, ArrowError> {
        use DataType as T;
        let cast = |to: &DataType| arrow_cast::cast(array, to);
        Ok(match array.data_type() {
            T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => {
                Self::Text(cast(&T::LargeUtf8)?.as_string::<i64>().clone())
            }
            T::Dictionary(_, values)
                if matches!(**values, T::Utf8 | T::LargeUtf8 | T::Utf8View) =>
            {
                Self::Text(cast(&T::LargeUtf8)?.as_string::<i64>().clone())
            }
            T::Dictionary(_, values) => Self::of(&cast(values)?, target)?,
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
                Self::Int(cast(&T::Int64)?.as_primitive::<Int64Type>().clone())
            }
            T::UInt64 => Self::UInt(array.as_primitive::<UInt64Type>().clone()),
            T::Float16 | T::Float32 | T::Float64 => {
                Self::Float(cast(&T::Float64)?.as_primitive::<Float64Type>().clone())
            }
            T::Boolean => Self::Bool(array.as_boolean().clone()),
            T::List(_)
            | T::LargeList(_)
            | T::FixedSizeList(..)
            | T::ListView(_)
            | T::LargeListView(_)
                if target == Target::Label =>
            {
                let item = Arc::new(Field::new_list_field(T::LargeUtf8, true));
                Self::List(cast(&T::LargeList(item))?.as_list::<i64>().clone())
            }
            T::List(_)
            | T::LargeList(_)
            | T::FixedSizeList(..)
            | T::ListView(_)
            | T::LargeListView(_)
                if target == Target::Shares =>
            {
                let item = Arc::new(Field::new_list_field(T::Float64, true));
                Self::Numbers(cast(&T::LargeList(item))?.as_list::<i64>().clone())
            }
            T::Struct(_) if target == Target::Label => {
                let nulls = array.as_struct().clone();
                let fields = nulls
                    .fields()
                    .iter()
                    .zip(nulls.columns())
                    .map(|(field, column)| Ok((field.name().clone(), floats(column)?)));
                let fields = fields.collect::<Result<Vec<_>, ArrowError>>()?;
                Self::SharesOfFields { nulls, fields }
            }
            T::Map(..) if target == Target::Label => {
                let map = array.as_map().clone();
                let keys = arrow_cast::cast(map.keys(), &T::LargeUtf8)?;
                let shares = floats(map.values())?;
                Self::SharesOfKeys(Box::new(KeyedShares {
                    keys: keys.as_string::<i64>().clone(),
                    shares,
                    map,
                }))
            }
            _ => Self::Other(Arc::clone(array)),
        })
    }

    fn put(&self, sink: &mut RowSink<'_>, target: Target, row: usize) -> Result<(), ProblemReason> {
        let null = match self {
            Self::Text(array) => array.is_null(row),
            Self::Int(array) => array.is_null(row),
            Self::UInt(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Bool(array) => array.is_null(row),
            Self::List(array) | Self::Numbers(array) => array.is_null(row),
            Self::SharesOfFields { nulls, .. } => nulls.is_null(row),
            Self::SharesOfKeys(of) => of.map.is_null(row),
            Self::Other(array) => array.is_null(row),
        };
        if null {
            return sink.put(target, Cell::Null);
        }
        match self {
            Self::Text(array) => sink.put(target, Cell::Text(array.value(row).as_bytes())),
            Self::Int(array) => sink.put(target, Cell::Int(array.value(row))),
            Self::UInt(array) => match i64::try_from(array.value(row)) {
                Ok(value) => sink.put(target, Cell::Int(value)),
                Err(_) => sink.put(target, Cell::Text(array.value(row).to_string().as_bytes())),
            },
            Self::Float(array) => sink.put(target, Cell::Float(array.value(row))),
            Self::Bool(array) => sink.put(target, Cell::Bool(array.value(row))),
            Self::List(array) => {
                let labels = array.value(row);
                let labels = labels.as_string::<i64>();
                sink.begin_label_list()?;
                // A name of nothing still has its place among the shares.
                let mut labels = labels.iter().map(Option::unwrap_or_default);
                labels.try_for_each(|label| sink.add_label(label.as_bytes()))
            }
            Self::Numbers(array) => {
                let shares = array.value(row);
                sink.put_share_list(shares.as_primitive::<Float64Type>().iter())
            }
            Self::SharesOfFields { fields, .. } => {
                let share = |shares: &Float64Array| shares.is_valid(row).then(|| shares.value(row));
                let fields = fields.iter().map(|(name, shares)| (name.as_str(), share(shares)));
                sink.put_shared_labels(fields.filter(|(_, share)| share.is_some()))
            }
            Self::SharesOfKeys(of) => {
                let KeyedShares { map, keys, shares } = &**of;
                let offsets = map.value_offsets();
                let entries = offsets[row] as usize..offsets[row + 1] as usize;
                let share = |at: usize| shares.is_valid(at).then(|| shares.value(at));
                sink.put_shared_labels(entries.map(|at| (keys.value(at), share(at))))
            }
            Self::Other(array) => {
                let refuse = || match target {
                    Target::Text => ProblemReason::TextType { found: "not text" },
                    Target::Label => ProblemReason::LabelType { found: "neither text nor number" },
                    Target::Split => ProblemReason::SplitType { found: "neither text nor number" },
                    Target::Weight => {
                        ProblemReason::WeightValue { value: "neither text nor number".to_owned() }
                    }
                    Target::Shares => {
                        ProblemReason::SharesType { value: "neither list nor number".to_owned() }
                    }
                    Target::Column(_) | Target::Ignored => {
                        ProblemReason::CellError { code: "a value that cannot be shown".to_owned() }
                    }
                };
                if matches!(target, Target::Text) {
                    return Err(refuse());
                }
                let options = FormatOptions::new().with_display_error(false);
                let shown = ArrayFormatter::try_new(array.as_ref(), &options)
                    .and_then(|formatter| formatter.value(row).try_to_string())
                    .map_err(|_| refuse())?;
                sink.put(target, Cell::Text(shown.as_bytes()))
            }
        }
    }
}

/// Numbers of any type; what is not a number is an error, not a gap.
fn floats(array: &ArrayRef) -> Result<Float64Array, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = arrow_cast::cast_with_options(array, &DataType::Float64, &options)?;
    Ok(cast.as_primitive::<Float64Type>().clone())
}
