//! Rows of one sheet of an XLSX workbook, read cell by cell. Numbers and truth values keep
//! their types, dates become ISO 8601 text, empty rows are left out.

use std::fs::File;
use std::io::{BufReader, Seek};

use calamine::{DataRef, Reader, Xlsx, XlsxError};

use super::dialect::is_header;
use super::guarded;
use super::source::{OpenedSource, SourceContext, spool};
use crate::import::{Cell, Header, ImportError, Position, ProblemReason, RowSink, Target};

const FORMAT: &str = "xlsx";
/// Rows held back to tell a header from data.
const SAMPLED_ROWS: usize = 50;

pub(crate) fn read(
    opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let file = context.sink.file().to_owned();
    let mut spooled = spool(opened.reader, context)?;
    guarded(&file, FORMAT, || check_size(&mut spooled, context, &file))?;
    let mut workbook: Xlsx<_> = guarded(&file, FORMAT, || {
        Xlsx::new(BufReader::new(spooled)).map_err(|error| damaged(&file, &error))
    })?;
    let sheets = workbook.sheet_names();
    let sheet = match &context.sink.options.sheet {
        Some(wanted) if sheets.contains(wanted) => wanted.clone(),
        Some(wanted) => {
            return Err(ImportError::NoSheet { file, sheet: wanted.clone(), sheets });
        }
        None => match sheets.first() {
            Some(first) => first.clone(),
            None => return Ok(()),
        },
    };
    let mut cells = guarded(&file, FORMAT, || {
        workbook.worksheet_cells_reader(&sheet).map_err(|error| damaged(&file, &error))
    })?;
    let mut rows =
        SheetRows { held: Vec::new(), names: Vec::new(), targets: Vec::new(), resolved: false };
    let mut row = SheetRow { number: 0, cells: Vec::new() };
    let limit = context.sink.options.limits.columns;
    loop {
        let next =
            guarded(&file, FORMAT, || cells.next_cell().map_err(|error| damaged(&file, &error)))?;
        let Some(cell) = next else { break };
        let (at_row, at_column) = cell.get_position();
        let number = u64::from(at_row) + 1;
        if number != row.number {
            let full = std::mem::replace(&mut row, SheetRow { number, cells: Vec::new() });
            rows.take(full, context)?;
        }
        let value = SheetCell::of(cell.get_value());
        if value == SheetCell::Empty {
            continue;
        }
        let column = at_column as usize;
        if column >= limit {
            let found = column + 1;
            return Err(ImportError::TooManyColumns { file, found, limit });
        }
        if row.cells.len() <= column {
            row.cells.resize(column + 1, SheetCell::Empty);
        }
        row.cells[column] = value;
    }
    rows.take(row, context)?;
    rows.resolve(context)
}

fn damaged(file: &str, error: &XlsxError) -> ImportError {
    ImportError::Damaged { file: file.to_owned(), format: FORMAT, detail: error.to_string() }
}

/// Shared texts are held in memory, so a workbook may not be, or grow, too large.
fn check_size(
    file: &mut File,
    context: &SourceContext<'_, '_>,
    name: &str,
) -> Result<(), ImportError> {
    let limits = &context.sink.options.limits;
    let unreadable =
        |detail: String| ImportError::Damaged { file: name.to_owned(), format: FORMAT, detail };
    let too_large =
        |bytes, limit| ImportError::XlsxTooLarge { file: name.to_owned(), bytes, limit };
    let bytes = file.metadata().map_err(|error| unreadable(error.to_string()))?.len();
    if bytes > limits.xlsx_bytes {
        return Err(too_large(bytes, limits.xlsx_bytes));
    }
    let mut archive =
        zip::ZipArchive::new(&mut *file).map_err(|error| unreadable(error.to_string()))?;
    let mut expanded = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| unreadable(error.to_string()))?;
        expanded = expanded.saturating_add(entry.size());
    }
    if expanded > limits.xlsx_expanded_bytes {
        return Err(too_large(expanded, limits.xlsx_expanded_bytes));
    }
    drop(archive);
    file.rewind().map_err(|error| unreadable(error.to_string()))
}

struct SheetRow {
    /// Counted from 1, as the sheet shows it.
    number: u64,
    cells: Vec<SheetCell>,
}

#[derive(Clone, Debug, PartialEq)]
enum SheetCell {
    Empty,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Error(String),
}

impl SheetCell {
    fn of(value: &DataRef<'_>) -> Self {
        match value {
            DataRef::Empty => Self::Empty,
            DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
                Self::Text(text.clone())
            }
            DataRef::SharedString(text) => Self::Text((*text).to_owned()),
            DataRef::Int(value) => Self::Int(*value),
            DataRef::Float(value) => Self::number(*value),
            DataRef::Bool(value) => Self::Bool(*value),
            DataRef::DateTime(value) if value.is_duration() => Self::number(value.as_f64()),
            DataRef::DateTime(value) => {
                let (year, month, day, hour, minute, second, _) = value.to_ymd_hms_milli();
                let date = format!("{year:04}-{month:02}-{day:02}");
                let midnight = (hour, minute, second) == (0, 0, 0);
                Self::Text(if midnight {
                    date
                } else {
                    format!("{date}T{hour:02}:{minute:02}:{second:02}")
                })
            }
            DataRef::Error(code) => Self::Error(code.to_string()),
        }
    }

    /// Sheets have only floats; whole ones are meant as integers.
    fn number(value: f64) -> Self {
        if value.fract() == 0.0 && value.abs() < 9e15 {
            Self::Int(value as i64)
        } else {
            Self::Float(value)
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) | Self::Error(text) => text.clone(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
        }
    }

    fn put(&self, sink: &mut RowSink<'_>, target: Target) -> Result<(), ProblemReason> {
        let cell = match self {
            Self::Error(code) => return Err(ProblemReason::CellError { code: code.clone() }),
            // What a person typed into the text column is a text, a number too.
            value if target == Target::Text => {
                return sink.put(target, Cell::Text(value.text().as_bytes()));
            }
            Self::Empty => Cell::Null,
            // A sheet has no lists: several labels are written as JSON, as in CSV.
            Self::Text(text) if target == Target::Label => Cell::Untyped(text.as_bytes()),
            Self::Text(text) => Cell::Text(text.as_bytes()),
            Self::Int(value) => Cell::Int(*value),
            Self::Float(value) => Cell::Float(*value),
            Self::Bool(value) => Cell::Bool(*value),
        };
        sink.put(target, cell)
    }
}

/// Rows on their way to the sink; the first ones wait until the header is known.
struct SheetRows {
    held: Vec<SheetRow>,
    names: Vec<String>,
    targets: Vec<Target>,
    resolved: bool,
}

impl SheetRows {
    fn take(
        &mut self,
        row: SheetRow,
        context: &mut SourceContext<'_, '_>,
    ) -> Result<(), ImportError> {
        if row.cells.is_empty() {
            return Ok(());
        }
        if self.resolved {
            return self.put(&row, context.sink);
        }
        self.held.push(row);
        if self.held.len() > SAMPLED_ROWS { self.resolve(context) } else { Ok(()) }
    }

    fn resolve(&mut self, context: &mut SourceContext<'_, '_>) -> Result<(), ImportError> {
        if self.resolved || self.held.is_empty() {
            return Ok(());
        }
        self.resolved = true;
        let texts: Vec<Vec<String>> =
            self.held.iter().map(|row| row.cells.iter().map(SheetCell::text).collect()).collect();
        let options = context.sink.options;
        let has_header = match options.header {
            Header::Present => true,
            Header::Absent => false,
            Header::Detect => is_header(&texts[0], &texts[1..], options),
        };
        context.shape.has_header = Some(has_header);
        let width = texts.iter().map(Vec::len).max().unwrap_or(0);
        self.names = (0..width)
            .map(|index| match texts[0].get(index).map(|name| name.trim()) {
                Some(name) if has_header && !name.is_empty() => name.to_owned(),
                _ => format!("column_{}", index + 1),
            })
            .collect();
        self.targets = context.sink.resolve(context.plan, &self.names)?;
        let held = std::mem::take(&mut self.held);
        let rows = held.iter().skip(usize::from(has_header));
        rows.into_iter().try_for_each(|row| self.put(row, context.sink))
    }

    fn put(&self, row: &SheetRow, sink: &mut RowSink<'_>) -> Result<(), ImportError> {
        let position = Position::Row(row.number);
        if row.cells.len() > self.targets.len() {
            let reason =
                ProblemReason::FieldCount { found: row.cells.len(), expected: self.targets.len() };
            return sink.reject_row(position, None, reason);
        }
        // A row ends with its last filled cell.
        let absent = std::iter::repeat(&SheetCell::Empty);
        for ((&target, cell), name) in
            self.targets.iter().zip(row.cells.iter().chain(absent)).zip(&self.names)
        {
            if let Err(reason) = cell.put(sink, target) {
                return sink.reject_row_in(position, Some(name.clone()), reason);
            }
        }
        sink.finish_row(|| position)
    }
}
