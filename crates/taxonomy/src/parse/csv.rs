//! Records of RFC 4180, with any delimiter and any line ending.

use crate::TaxonomyError;
use crate::limits::MAX_COLUMNS;

/// One record and the line it begins on.
pub(super) struct Record {
    pub line: u32,
    pub fields: Vec<String>,
}

/// Reads records one after another; lines that are wholly empty are left out.
pub(super) struct Records<'a> {
    rest: &'a str,
    delimiter: char,
    line: u32,
}

impl<'a> Records<'a> {
    pub fn new(text: &'a str, delimiter: char) -> Self {
        Self { rest: text, delimiter, line: 1 }
    }

    /// The next record, `None` after the last.
    ///
    /// # Errors
    /// When a quoted field does not end, or goes on after its closing quote.
    pub fn next(&mut self) -> Result<Option<Record>, TaxonomyError> {
        loop {
            match self.rest.as_bytes() {
                [] => return Ok(None),
                [b'\n', ..] => self.line += 1,
                [b'\r', ..] => {}
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        let mut record = Record { line: self.line, fields: Vec::new() };
        loop {
            let field = if self.rest.starts_with('"') { self.quoted()? } else { self.plain() };
            record.fields.push(field);
            if record.fields.len() > MAX_COLUMNS {
                return Err(self.wrong("the line has more than a thousand columns"));
            }
            let Some(next) = self.rest.chars().next() else { break };
            self.rest = &self.rest[next.len_utf8()..];
            if next != self.delimiter {
                // A carriage return here is followed by the line feed it belongs to, or is
                // a line ending of its own.
                if next == '\r' && self.rest.starts_with('\n') {
                    self.rest = &self.rest[1..];
                }
                self.line += 1;
                break;
            }
        }
        Ok(Some(record))
    }

    fn plain(&mut self) -> String {
        let ends = |c: char| c == self.delimiter || c == '\n' || c == '\r';
        let (field, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        field.to_owned()
    }

    fn quoted(&mut self) -> Result<String, TaxonomyError> {
        let opened = self.line;
        let mut field = String::new();
        self.rest = &self.rest[1..];
        loop {
            let Some(quote) = self.rest.find('"') else {
                self.line = opened;
                return Err(self.wrong("a quoted field does not end"));
            };
            let part = &self.rest[..quote];
            self.line += part.matches('\n').count() as u32;
            field.push_str(part);
            self.rest = &self.rest[quote + 1..];
            match self.rest.chars().next() {
                Some('"') => {
                    field.push('"');
                    self.rest = &self.rest[1..];
                }
                Some(c) if c != self.delimiter && c != '\n' && c != '\r' => {
                    return Err(self.wrong("text follows the closing quote of a field"));
                }
                _ => return Ok(field),
            }
        }
    }

    fn wrong(&self, reason: &'static str) -> TaxonomyError {
        TaxonomyError::Csv { line: self.line, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Result<Vec<(u32, Vec<String>)>, String> {
        let mut reader = Records::new(text, ',');
        let mut all = Vec::new();
        while let Some(record) = reader.next().map_err(|error| error.to_string())? {
            all.push((record.line, record.fields));
        }
        Ok(all)
    }

    #[test]
    fn fields_and_lines_are_found_as_the_standard_has_them() {
        let check = |text: &str, expect: &[(u32, &[&str])]| {
            let expect: Vec<(u32, Vec<String>)> = expect
                .iter()
                .map(|(line, fields)| (*line, fields.iter().map(ToString::to_string).collect()))
                .collect();
            assert_eq!(records(text), Ok(expect), "{text:?}");
        };
        check("", &[]);
        check("\n\r\n\n", &[]);
        check("a,b\nc,d", &[(1, &["a", "b"]), (2, &["c", "d"])]);
        check("a,b\r\n\r\nc,\r\n", &[(1, &["a", "b"]), (3, &["c", ""])]);
        check("\"a,\"\"x\"\"\ny\",b\nc\n", &[(1, &["a,\"x\"\ny", "b"]), (3, &["c"])]);
        check("a\"b,\"\",é", &[(1, &["a\"b", "", "é"])]);
        check("a\rb", &[(1, &["a"]), (2, &["b"])]);
        check(",", &[(1, &["", ""])]);
    }

    #[test]
    fn broken_quotes_are_refused_with_their_line() {
        assert_eq!(
            records("a\n\"b\nc").unwrap_err(),
            "line 2 is not CSV: a quoted field does not end"
        );
        assert_eq!(
            records("a\n\"b\"c").unwrap_err(),
            "line 2 is not CSV: text follows the closing quote of a field"
        );
    }
}
