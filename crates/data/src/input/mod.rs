//! Reading the files that are imported, whatever their format and wrapping.

mod arrow_messages;
mod columnar;
pub(crate) mod csv;
mod csv_rows;
mod dialect;
mod jsonl;
mod lines;
mod source;
mod window;
mod xlsx;

use std::io;

use crate::import::{Format, ImportError};

pub(crate) use source::{OpenedSource, SourceContext, SourceShape, open_source};

/// Reads all rows of an opened file into the sink.
pub(crate) fn read_rows(
    opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    match opened.format {
        Format::Csv | Format::Tsv => csv_rows::read(opened, context),
        Format::Jsonl => jsonl::read(opened, context),
        Format::Lines => lines::read(opened, context),
        Format::Parquet => columnar::read_parquet(opened, context),
        Format::ArrowFile => columnar::read_arrow_file(opened, context),
        Format::ArrowStream => columnar::read_arrow_stream(opened, context),
        Format::Xlsx => xlsx::read(opened, context),
    }
}

/// What a failed read means: a cancelled import, or a source or wrapping that cannot be read.
pub(crate) fn read_error(file: &str, source: io::Error) -> ImportError {
    if source.get_ref().is_some_and(|inner| inner.is::<source::Cancelled>()) {
        return ImportError::Cancelled;
    }
    ImportError::Read { file: file.to_owned(), source }
}

/// Runs a decoder that was not written for damaged input: should it panic, the file is
/// reported as damaged instead.
pub(crate) fn guarded<T>(
    file: &str,
    format: &'static str,
    decode: impl FnOnce() -> Result<T, ImportError>,
) -> Result<T, ImportError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        let detail = "its contents contradict each other".to_owned();
        Err(ImportError::Damaged { file: file.to_owned(), format, detail })
    })
}
