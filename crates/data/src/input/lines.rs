//! Rows of plain text files, and lines as JSONL needs them.

use std::io::{self, Read};

use memchr::memchr;

use super::read_error;
use super::source::{OpenedSource, SourceContext};
use super::window::Window;
use crate::import::{Cell, ImportError, Position, ProblemReason, Target};
use crate::manifest::TEXT_COLUMN;

/// Lines that end in LF or CR LF.
pub(crate) struct LineReader<R> {
    window: Window<R>,
    row_bytes: usize,
    number: u64,
}

/// One line, without its end.
pub(crate) enum Line<'a> {
    Text(&'a [u8]),
    /// Longer than a row may be; skipped.
    TooLong,
}

impl<R: Read> LineReader<R> {
    pub(crate) fn new(source: R, row_bytes: usize) -> Self {
        Self { window: Window::new(source), row_bytes, number: 0 }
    }

    /// The number of the current line, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.number += 1;
        let mut searched = 0;
        let (start, end) = loop {
            let bytes = self.window.bytes();
            if let Some(at) = memchr(b'\n', &bytes[searched..]) {
                let length = searched + at;
                let start = self.window.start();
                self.window.consume(length + 1);
                break (start, start + length);
            }
            searched = bytes.len();
            if self.window.at_end() {
                if searched == 0 {
                    return Ok(None);
                }
                let start = self.window.start();
                self.window.consume(searched);
                break (start, start + searched);
            }
            if searched > self.row_bytes {
                self.skip_line()?;
                return Ok(Some(Line::TooLong));
            }
            self.window.refill()?;
        };
        let line = self.window.at(start, end);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(if line.len() > self.row_bytes { Line::TooLong } else { Line::Text(line) }))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.window.bytes();
            let end = memchr(b'\n', bytes);
            let length = bytes.len();
            self.window.consume(end.map_or(length, |at| at + 1));
            if end.is_some() || self.window.at_end() {
                return Ok(());
            }
            self.window.refill()?;
        }
    }
}

/// Every line is a text, an empty one too.
pub(crate) fn read(
    opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let file = context.sink.file().to_owned();
    let limit_bytes = context.sink.options.limits.row_bytes;
    let targets = context.sink.resolve(context.plan, &[TEXT_COLUMN.to_owned()])?;
    debug_assert_eq!(targets, [Target::Text]);
    let mut reader = LineReader::new(opened.reader, limit_bytes);
    loop {
        let position = Position::Line(reader.number() + 1);
        let Some(line) = reader.next_line().map_err(|error| read_error(&file, error))? else {
            return Ok(());
        };
        let put = match line {
            Line::Text(text) => context.sink.put(Target::Text, Cell::Text(text)),
            Line::TooLong => Err(ProblemReason::RowTooLong { limit_bytes }),
        };
        match put {
            Ok(()) => context.sink.finish_row(|| position)?,
            Err(reason) => context.sink.reject_row(position, Some(Target::Text), reason)?,
        }
    }
}
