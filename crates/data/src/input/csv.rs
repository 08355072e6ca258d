//! The CSV parser: RFC 4180 with any delimiter, line ends LF, CR LF or CR, blank lines left
//! out. It jumps from one special byte to the next with vectorised searches, so its speed
//! grows with the length of fields. Malformed quoting is read leniently and reported.

use std::io::{self, Read};
use std::ops::Range;

use memchr::{memchr, memchr2, memchr3};

use super::window::Window;

/// How fields are separated and quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    UnclosedQuote,
    /// Text follows the closing quote of this field.
    TextAfterQuote(usize),
    TooLong,
}

pub(crate) struct CsvReader<R> {
    window: Window<R>,
    dialect: Dialect,
    row_bytes: usize,
    fields: Vec<Span>,
    /// Fields whose quotes were doubled, end to end.
    unescaped: Vec<u8>,
    record: Range<usize>,
}

/// A field of the current record.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    kind: SpanKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpanKind {
    Plain,
    Quoted,
    /// Quoted, and in the unescaped bytes.
    Unescaped,
}

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub bytes: &'a [u8],
    pub quoted: bool,
}

enum Scan {
    Record {
        length: usize,
        defect: Option<Defect>,
    },
    /// The record does not end in the bytes at hand.
    Unfinished,
}

impl<R: Read> CsvReader<R> {
    /// A reader of records of at most `row_bytes`.
    pub(crate) fn new(source: R, dialect: Dialect, row_bytes: usize) -> Self {
        Self {
            window: Window::new(source),
            dialect,
            row_bytes,
            fields: Vec::new(),
            unescaped: Vec::new(),
            record: 0..0,
        }
    }

    /// Reads the next record. `None` at the end; else what is wrong with the record, if
    /// anything. Its fields are then at hand, except when it is too long.
    pub(crate) fn next_record(&mut self) -> io::Result<Option<Option<Defect>>> {
        loop {
            let blank = self.window.bytes().iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
            let blank = blank.count();
            self.window.consume(blank);
            let bytes = self.window.bytes();
            if !bytes.is_empty() {
                self.fields.clear();
                self.unescaped.clear();
                let mut scanner = Scanner {
                    bytes,
                    at_end: self.window.at_end(),
                    dialect: self.dialect,
                    fields: &mut self.fields,
                    unescaped: &mut self.unescaped,
                };
                if let Scan::Record { length, defect } = scanner.scan() {
                    let start = self.window.start();
                    self.record = start..start + length;
                    self.window.consume(length);
                    let too_long = length > self.row_bytes;
                    return Ok(Some(if too_long { Some(Defect::TooLong) } else { defect }));
                }
                if bytes.len() > self.row_bytes {
                    let start = self.window.start();
                    self.record = start..start + bytes.len();
                    self.fields.clear();
                    return Ok(Some(Some(Defect::TooLong)));
                }
            } else if self.window.at_end() {
                return Ok(None);
            }
            self.window.refill()?;
        }
    }

    /// The number of fields of the current record.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// A field of the current record.
    pub(crate) fn field(&self, index: usize) -> Field<'_> {
        let Span { start, end, kind } = self.fields[index];
        let bytes = match kind {
            SpanKind::Plain | SpanKind::Quoted => {
                self.window.at(self.record.start + start, self.record.start + end)
            }
            SpanKind::Unescaped => &self.unescaped[start..end],
        };
        Field { bytes, quoted: kind != SpanKind::Plain }
    }

    /// The physical line on which the current record begins, from 1.
    pub(crate) fn line(&mut self) -> u64 {
        self.window.line_at(self.record.start)
    }

    /// Bytes of the current record.
    pub(crate) fn record_bytes(&self) -> usize {
        self.record.len()
    }

    /// Goes on after the first physical line of the current record, which a misplaced quote
    /// has made longer than that.
    pub(crate) fn resume_after_first_line(&mut self) -> io::Result<()> {
        self.window.go_back(self.record.start);
        loop {
            let bytes = self.window.bytes();
            if let Some(at) = memchr2(b'\n', b'\r', bytes) {
                // A CR LF cut in two only leaves a blank line, which is skipped.
                self.window.consume(at + 1);
                return Ok(());
            }
            let length = bytes.len();
            self.window.consume(length);
            if self.window.at_end() {
                return Ok(());
            }
            self.window.refill()?;
        }
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at_end: bool,
    dialect: Dialect,
    fields: &'a mut Vec<Span>,
    unescaped: &'a mut Vec<u8>,
}

/// How a field ended.
enum FieldEnd {
    Delimiter(usize),
    /// The record ends too, at this place.
    Record(usize),
    Unfinished,
}

impl Scanner<'_> {
    fn scan(&mut self) -> Scan {
        let mut at = 0;
        let mut defect = None;
        loop {
            let quoted =
                self.dialect.quote.is_some() && self.bytes.get(at).copied() == self.dialect.quote;
            let end =
                if quoted { self.quoted_field(at, &mut defect) } else { self.plain_field(at) };
            match end {
                FieldEnd::Delimiter(end) => at = end + 1,
                FieldEnd::Record(length) => return Scan::Record { length, defect },
                FieldEnd::Unfinished => return Scan::Unfinished,
            }
        }
    }

    fn plain_field(&mut self, start: usize) -> FieldEnd {
        let found = memchr3(self.dialect.delimiter, b'\n', b'\r', &self.bytes[start..]);
        let end = found.map_or(self.bytes.len(), |length| start + length);
        self.fields.push(Span { start, end, kind: SpanKind::Plain });
        self.end_at(end)
    }

    /// What a field that ends before this place ends with.
    fn end_at(&self, end: usize) -> FieldEnd {
        match self.bytes.get(end) {
            None if self.at_end => FieldEnd::Record(end),
            None => FieldEnd::Unfinished,
            Some(b'\n') => FieldEnd::Record(end + 1),
            Some(b'\r') => match self.bytes.get(end + 1) {
                Some(b'\n') => FieldEnd::Record(end + 2),
                None if !self.at_end => FieldEnd::Unfinished,
                _ => FieldEnd::Record(end + 1),
            },
            Some(_) => FieldEnd::Delimiter(end),
        }
    }

    fn quoted_field(&mut self, opening: usize, defect: &mut Option<Defect>) -> FieldEnd {
        let quote = self.bytes[opening];
        let start = opening + 1;
        let unescaped_start = self.unescaped.len();
        let mut kind = SpanKind::Quoted;
        let mut piece = start;
        loop {
            let Some(length) = memchr(quote, &self.bytes[piece..]) else {
                if !self.at_end {
                    return FieldEnd::Unfinished;
                }
                *defect = Some(Defect::UnclosedQuote);
                self.push_quoted(kind, start, unescaped_start, piece, self.bytes.len());
                return FieldEnd::Record(self.bytes.len());
            };
            let closing = piece + length;
            match self.bytes.get(closing + 1) {
                None if !self.at_end => return FieldEnd::Unfinished,
                Some(&next) if next == quote => {
                    self.unescaped.extend_from_slice(&self.bytes[piece..=closing]);
                    kind = SpanKind::Unescaped;
                    piece = closing + 2;
                }
                Some(&next) if next != self.dialect.delimiter && next != b'\n' && next != b'\r' => {
                    // Text after a closing quote belongs to the field, up to its end.
                    defect.get_or_insert(Defect::TextAfterQuote(self.fields.len()));
                    self.unescaped.extend_from_slice(&self.bytes[piece..closing]);
                    let rest = closing + 1;
                    let found = memchr3(self.dialect.delimiter, b'\n', b'\r', &self.bytes[rest..]);
                    let end = found.map_or(self.bytes.len(), |length| rest + length);
                    self.push_quoted(SpanKind::Unescaped, start, unescaped_start, rest, end);
                    return self.end_at(end);
                }
                _ => {
                    self.push_quoted(kind, start, unescaped_start, piece, closing);
                    return self.end_at(closing + 1);
                }
            }
        }
    }

    /// Adds a quoted field whose last piece is given.
    fn push_quoted(
        &mut self,
        kind: SpanKind,
        start: usize,
        unescaped_start: usize,
        piece: usize,
        end: usize,
    ) {
        let span = if kind == SpanKind::Unescaped {
            self.unescaped.extend_from_slice(&self.bytes[piece..end]);
            Span { start: unescaped_start, end: self.unescaped.len(), kind }
        } else {
            Span { start, end, kind }
        };
        self.fields.push(span);
    }
}
