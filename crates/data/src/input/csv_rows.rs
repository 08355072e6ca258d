//! Rows of CSV and TSV files.

use super::csv::{CsvReader, Defect, Dialect};
use super::dialect;
use super::read_error;
use super::source::{OpenedSource, SourceContext};
use crate::import::{Cell, Format, ImportError, Position, ProblemReason, RowSink, Target};

/// A record that a stray quote made longer than this is expensive to read twice; such
/// records are counted against `Limits::runaway_rows`.
const RUNAWAY_BYTES: usize = 64 * 1024;

pub(crate) fn read(
    opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let file = context.sink.file().to_owned();
    let mut options = context.sink.options.clone();
    if opened.format == Format::Tsv {
        options.delimiter.get_or_insert(b'\t');
    }
    let fit = dialect::detect(&opened.beginning, opened.whole, &options);
    let dialect = fit.dialect;
    let delimiter = dialect.delimiter;
    if matches!(delimiter, b'\n' | b'\r') || Some(delimiter) == dialect.quote {
        return Err(ImportError::Delimiter { delimiter: delimiter as char });
    }
    let has_header = dialect::has_header(&opened.beginning, opened.whole, dialect, &options);
    context.shape.delimiter = Some(delimiter);
    context.shape.has_header = Some(has_header);

    let mut reader = CsvReader::new(opened.reader, dialect, options.limits.row_bytes);
    let read = |error| read_error(&file, error);
    let Some(first) = reader.next_record().map_err(read)? else {
        return Ok(());
    };
    let names: Vec<String> = (0..reader.len())
        .map(|index| {
            let name = String::from_utf8_lossy(reader.field(index).bytes).trim().to_owned();
            if has_header && !name.is_empty() { name } else { format!("column_{}", index + 1) }
        })
        .collect();
    let targets = context.sink.resolve(context.plan, &names)?;
    let mut rows = CsvRows { sink: &mut *context.sink, names, targets, runaways: 0 };
    if !has_header || first.is_some() {
        rows.take(&mut reader, first, &file)?;
    }
    while let Some(defect) = reader.next_record().map_err(read)? {
        rows.take(&mut reader, defect, &file)?;
    }
    Ok(())
}

struct CsvRows<'c, 'a> {
    sink: &'c mut RowSink<'a>,
    names: Vec<String>,
    targets: Vec<Target>,
    runaways: u64,
}

impl CsvRows<'_, '_> {
    fn take<R: std::io::Read>(
        &mut self,
        reader: &mut CsvReader<R>,
        defect: Option<Defect>,
        file: &str,
    ) -> Result<(), ImportError> {
        if let Some(defect) = defect {
            return self.reject_defect(reader, defect, file);
        }
        if reader.len() != self.targets.len() {
            let reason =
                ProblemReason::FieldCount { found: reader.len(), expected: self.targets.len() };
            return self.sink.reject_row(Position::Line(reader.line()), None, reason);
        }
        for (index, &target) in self.targets.iter().enumerate() {
            let field = reader.field(index);
            let absent = field.bytes.is_empty() && !field.quoted && target != Target::Text;
            let cell = if absent { Cell::Null } else { Cell::Untyped(field.bytes) };
            if let Err(reason) = self.sink.put(target, cell) {
                let position = Position::Line(reader.line());
                let column = self.names.get(index).cloned();
                return self.sink.reject_row_in(position, column, reason);
            }
        }
        // Most rows are good: their line is only counted when it is asked for.
        self.sink.finish_row(|| Position::Line(reader.line()))
    }

    fn reject_defect<R: std::io::Read>(
        &mut self,
        reader: &mut CsvReader<R>,
        defect: Defect,
        file: &str,
    ) -> Result<(), ImportError> {
        let position = Position::Line(reader.line());
        let limit_bytes = self.sink.options.limits.row_bytes;
        let (column, reason) = match defect {
            Defect::UnclosedQuote => (None, ProblemReason::UnclosedQuote),
            Defect::TextAfterQuote(index) => {
                (self.names.get(index).cloned(), ProblemReason::TextAfterQuote)
            }
            Defect::TooLong => (None, ProblemReason::RowTooLong { limit_bytes }),
        };
        self.sink.reject_row_in(position, column, reason)?;
        if reader.record_bytes() > RUNAWAY_BYTES {
            self.runaways += 1;
            if self.runaways > self.sink.options.limits.runaway_rows {
                let detail = format!(
                    "more than {} rows run away: their quotes are opened and never closed",
                    self.sink.options.limits.runaway_rows
                );
                return Err(ImportError::Damaged { file: file.to_owned(), format: "csv", detail });
            }
        }
        reader.resume_after_first_line().map_err(|error| read_error(file, error))
    }
}

/// Whether a text without a telling extension is fields between delimiters rather than prose.
pub(crate) fn looks_separated(beginning: &[u8], whole: bool, dialect: &dialect::Fit) -> bool {
    let Dialect { delimiter, .. } = dialect.dialect;
    if dialect.fields < 2 || dialect.records < 2 {
        return false;
    }
    let certain = match delimiter {
        b'\t' => dialect.regular_per_mille >= 950,
        // Prose has commas too, but hardly the same number in every one of many lines.
        _ => dialect.regular_per_mille == 1000 && dialect.records >= 10,
    };
    certain || {
        let mut reader = CsvReader::new(beginning, dialect.dialect, usize::MAX);
        let first = reader.next_record();
        let known = |index| {
            let name = String::from_utf8_lossy(reader.field(index).bytes).into_owned();
            crate::import::is_known_column_name(&name)
        };
        let named = matches!(first, Ok(Some(None))) && (0..reader.len()).any(known);
        named && dialect.regular_per_mille >= if whole { 500 } else { 800 }
    }
}
