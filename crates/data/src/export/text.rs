//! CSV and JSONL, and the rows that a sheet is written from.

use std::io::{self, BufWriter, Write};

use arrow_array::ArrayRef;
use memchr::{memchr2, memchr3};

use super::{Beside, ExportError, Selection};
use crate::dataset::{Batch, Dataset, Value, value_at};
use crate::manifest::{Column, LabelArity, ROW_ID_COLUMN};

/// What is gathered before it is written.
const BUFFER_BYTES: usize = 256 * 1024;

pub(super) fn write_csv(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    selection: &Selection,
    writer: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let names = column_names(dataset, beside.columns(), selection);
    let header = |out: &mut Out<'_>| {
        for (index, name) in names.iter().enumerate() {
            separate(out, index)?;
            csv_field(out, name)?;
        }
        out.write_all(b"\n")
    };
    write_rows(dataset, beside, selection, writer, &header, &|out, row| {
        for index in 0..names.len() {
            separate(out, index)?;
            match row.cell(index) {
                ExportCell::Nothing => {}
                ExportCell::Value(Value::String(text)) => csv_field(out, text)?,
                ExportCell::Value(Value::Int(value)) => write!(out, "{value}")?,
                ExportCell::Value(Value::Float(value)) => write!(out, "{value:?}")?,
                ExportCell::Value(Value::Bool(value)) => write!(out, "{value}")?,
                ExportCell::RowId(id) => write!(out, "{id}")?,
                ExportCell::Names(names) => csv_field(out, &serde_json::to_string(&names)?)?,
                ExportCell::Shares(shares) => csv_field(out, &serde_json::to_string(&shares)?)?,
                ExportCell::Weight(weight) => write!(out, "{weight}")?,
            }
        }
        out.write_all(b"\n")
    })
}

pub(super) fn write_jsonl(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    selection: &Selection,
    writer: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let names = column_names(dataset, beside.columns(), selection);
    let keys: Vec<String> =
        names.iter().map(|name| serde_json::to_string(name).expect("a text is JSON")).collect();
    write_rows(dataset, beside, selection, writer, &|_| Ok(()), &|out, row| {
        for (index, key) in keys.iter().enumerate() {
            out.write_all(if index == 0 { b"{" } else { b", " })?;
            write!(out, "{key}: ")?;
            match row.cell(index) {
                ExportCell::Nothing => out.write_all(b"null")?,
                ExportCell::Value(Value::String(text)) => serde_json::to_writer(&mut *out, text)?,
                ExportCell::Value(Value::Int(value)) => write!(out, "{value}")?,
                // JSON has no infinities; serde_json writes them as null.
                ExportCell::Value(Value::Float(value)) => serde_json::to_writer(&mut *out, &value)?,
                ExportCell::Value(Value::Bool(value)) => write!(out, "{value}")?,
                ExportCell::RowId(id) => write!(out, "{id}")?,
                ExportCell::Names(names) => serde_json::to_writer(&mut *out, &names)?,
                ExportCell::Shares(shares) => serde_json::to_writer(&mut *out, shares)?,
                ExportCell::Weight(weight) => write!(out, "{weight}")?,
            }
        }
        out.write_all(b"}\n")
    })
}

pub(super) type Out<'w> = BufWriter<&'w mut (dyn Write + Send)>;

/// Writes a head and every row that is selected; returns how many rows.
pub(super) fn write_rows(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    selection: &Selection,
    writer: &mut (dyn Write + Send),
    header: &dyn Fn(&mut Out<'_>) -> io::Result<()>,
    write_row: &dyn Fn(&mut Out<'_>, &ExportRow<'_>) -> io::Result<()>,
) -> Result<u64, ExportError> {
    let failed = |source| ExportError::Write { source };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, writer);
    header(&mut out).map_err(failed)?;
    let mut rows = 0;
    for batch in dataset.iter() {
        let batch = batch?;
        let columns = dataset.manifest().schema.columns.iter();
        let values = beside.values(&batch).map_err(|source| ExportError::Beside { source })?;
        let columns: Vec<Option<&ArrayRef>> = columns
            .map(|column| batch.column(&column.name))
            .chain(values.iter().map(Some))
            .collect();
        for at in (0..batch.len()).filter(|&row| selection.has(&batch, row)) {
            let row = ExportRow { dataset, selection, batch: &batch, columns: &columns, at };
            write_row(&mut out, &row).map_err(failed)?;
            rows += 1;
        }
    }
    out.flush().map_err(failed)?;
    Ok(rows)
}

/// The columns of an export, in order.
pub(super) fn column_names(
    dataset: &Dataset,
    beside: &[Column],
    selection: &Selection,
) -> Vec<String> {
    let mut names = Vec::new();
    names.extend(selection.row_ids.then(|| ROW_ID_COLUMN.to_owned()));
    names.push(selection.text_name.clone());
    let Selection { labels, shares, splits, weights, .. } = selection;
    names.extend([labels, shares, splits, weights].into_iter().flatten().cloned());
    let further = dataset.manifest().schema.columns.iter().chain(beside);
    names.extend(further.map(|column| column.name.clone()));
    names
}

pub(super) struct ExportRow<'a> {
    dataset: &'a Dataset,
    selection: &'a Selection,
    batch: &'a Batch,
    columns: &'a [Option<&'a ArrayRef>],
    at: usize,
}

pub(super) enum ExportCell<'a> {
    Nothing,
    RowId(u64),
    Value(Value<'a>),
    /// Several labels.
    Names(Vec<&'a str>),
    Shares(&'a [f32]),
    /// In the shortest form that reads back as the same.
    Weight(f32),
}

impl<'a> ExportRow<'a> {
    /// The value in a column of [`column_names`].
    pub(super) fn cell(&self, mut column: usize) -> ExportCell<'a> {
        let fixed = [
            (self.selection.row_ids, Self::row_id as fn(&Self) -> ExportCell<'a>),
            (true, Self::text),
            (self.selection.labels.is_some(), Self::label),
            (self.selection.shares.is_some(), Self::shares),
            (self.selection.splits.is_some(), Self::split),
            (self.selection.weights.is_some(), Self::weight),
        ];
        for (present, cell) in fixed {
            match (present, column) {
                (false, _) => {}
                (true, 0) => return cell(self),
                (true, _) => column -= 1,
            }
        }
        let array = self.columns[column];
        let value = array.and_then(|array| value_at(array, self.at));
        value.map_or(ExportCell::Nothing, ExportCell::Value)
    }

    fn row_id(&self) -> ExportCell<'a> {
        ExportCell::RowId(self.batch.row_id(self.at))
    }

    fn text(&self) -> ExportCell<'a> {
        ExportCell::Value(Value::String(self.batch.text(self.at)))
    }

    fn label(&self) -> ExportCell<'a> {
        let table = &self.dataset.manifest().labels;
        let codes = self.batch.labels().codes(self.at);
        let mut names = codes.iter().map(|&code| table.names[code as usize].as_str());
        match table.arity {
            _ if codes.is_empty() => ExportCell::Nothing,
            LabelArity::Single => names
                .next()
                .map_or(ExportCell::Nothing, |name| ExportCell::Value(Value::String(name))),
            LabelArity::Multi => ExportCell::Names(names.collect()),
        }
    }

    fn shares(&self) -> ExportCell<'a> {
        self.batch.shares(self.at).map_or(ExportCell::Nothing, ExportCell::Shares)
    }

    fn weight(&self) -> ExportCell<'a> {
        self.batch.weight(self.at).map_or(ExportCell::Nothing, ExportCell::Weight)
    }

    fn split(&self) -> ExportCell<'a> {
        let splits = &self.dataset.manifest().splits;
        match self.batch.split(self.at) {
            Some(code) => ExportCell::Value(Value::String(&splits[usize::from(code)])),
            None => ExportCell::Nothing,
        }
    }
}

fn separate(out: &mut Out<'_>, index: usize) -> io::Result<()> {
    if index > 0 { out.write_all(b",") } else { Ok(()) }
}

fn csv_field(out: &mut Out<'_>, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let special =
        memchr3(b',', b'"', b'\n', bytes).is_some() || memchr2(b'\r', b'\t', bytes).is_some();
    if !special && !bytes.is_empty() {
        return out.write_all(bytes);
    }
    out.write_all(b"\"")?;
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'"', rest) {
        out.write_all(&rest[..=at])?;
        out.write_all(b"\"")?;
        rest = &rest[at + 1..];
    }
    out.write_all(rest)?;
    out.write_all(b"\"")
}
