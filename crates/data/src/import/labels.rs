//! The labels of the rows of a batch, and the tables of names that they and splits are codes of.

use std::collections::HashMap;

use super::builder::{Cell, display};
use super::options::{ImportOptions, LabelArityChoice};
use super::problems::ProblemReason;
use crate::manifest::{LabelArity, Manifest};

/// Names with codes in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    pub names: Vec<String>,
    codes: HashMap<String, u32>,
    last: u32,
}

impl NameTable {
    pub(super) fn of(names: &[String]) -> Self {
        let codes = names.iter().enumerate().map(|(code, name)| (name.clone(), code as u32));
        Self { names: names.to_vec(), codes: codes.collect(), last: 0 }
    }

    /// The code of a name, new or known.
    pub(super) fn code(&mut self, name: &str) -> u32 {
        // Files are often sorted by class, and splits come in long runs.
        if self.is_last(name) {
            return self.last;
        }
        self.last = match self.codes.get(name) {
            Some(&code) => code,
            None => {
                let code = self.names.len() as u32;
                self.names.push(name.to_owned());
                self.codes.insert(name.to_owned(), code);
                code
            }
        };
        self.last
    }

    /// Whether a name is the one last looked up, whose code is then [`last`](Self::last).
    pub(super) fn is_last(&self, name: &str) -> bool {
        self.names.get(self.last as usize).is_some_and(|last| last == name)
    }

    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Forgets the names after the first so many.
    pub(super) fn truncate(&mut self, names: usize) {
        for name in self.names.drain(names..) {
            self.codes.remove(&name);
        }
    }
}

/// The labels of all rows of a batch end to end, and where each row's end.
#[derive(Debug)]
pub(super) struct LabelRows {
    pub table: NameTable,
    pub arity: LabelArity,
    codes: Vec<u32>,
    ends: Vec<u32>,
}

impl LabelRows {
    pub(super) fn new(options: &ImportOptions, base: Option<&Manifest>) -> Self {
        let based = base.map_or(LabelArity::Single, |base| base.labels.arity);
        let arity = match options.label_arity {
            LabelArityChoice::Multi => LabelArity::Multi,
            LabelArityChoice::Detect if options.label_separator.is_some() => LabelArity::Multi,
            LabelArityChoice::Detect | LabelArityChoice::Single => based,
        };
        let table = base.map_or_else(NameTable::default, |base| NameTable::of(&base.labels.names));
        Self { table, arity, codes: Vec::new(), ends: Vec::new() }
    }

    /// Bytes of the codes.
    pub(super) fn bytes(&self) -> usize {
        4 * self.codes.len()
    }

    pub(super) fn end_row(&mut self) {
        self.ends.push(self.codes.len() as u32);
    }

    /// Takes back the labels of the row at hand.
    pub(super) fn take_back(&mut self) {
        self.codes.truncate(self.first());
    }

    /// The codes and ends of the batch, leaving none.
    pub(super) fn take(&mut self) -> (Vec<u32>, Vec<u32>) {
        (std::mem::take(&mut self.codes), std::mem::take(&mut self.ends))
    }

    /// Puts the label cell of the row at hand.
    pub(super) fn put(
        &mut self,
        cell: Cell<'_>,
        options: &ImportOptions,
    ) -> Result<(), ProblemReason> {
        if self.codes.len() > self.first() {
            return Err(ProblemReason::ColumnTwice);
        }
        match cell {
            Cell::Null => Ok(()),
            Cell::Untyped(bytes) => match json_list(bytes, options) {
                Some(names) => {
                    self.begin_list(options)?;
                    names.iter().try_for_each(|name| self.add(name.as_bytes(), options))
                }
                None => self.put_text(bytes, options),
            },
            Cell::Text(bytes) => self.put_text(bytes, options),
            // A float that is whole stands for a class number, as columns with gaps make it.
            Cell::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                self.add((value as i64).to_string().as_bytes(), options)
            }
            cell => self.add(display(&cell).as_bytes(), options),
        }
    }

    fn put_text(&mut self, bytes: &[u8], options: &ImportOptions) -> Result<(), ProblemReason> {
        match &options.label_separator {
            Some(separator) if !separator.is_empty() => {
                let names = utf8(bytes)?.split(separator.as_str());
                names.into_iter().try_for_each(|name| self.add(name.as_bytes(), options))
            }
            _ => self.add(bytes, options),
        }
    }

    /// Says that the row's label is a list.
    pub(super) fn begin_list(&mut self, options: &ImportOptions) -> Result<(), ProblemReason> {
        if self.codes.len() > self.first() {
            return Err(ProblemReason::ColumnTwice);
        }
        if options.label_arity != LabelArityChoice::Single {
            self.arity = LabelArity::Multi;
        }
        Ok(())
    }

    /// Adds a label to the row at hand, if it is neither empty nor there already.
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        options: &ImportOptions,
    ) -> Result<(), ProblemReason> {
        let name = utf8(bytes)?.trim();
        let limits = &options.limits;
        if name.is_empty() {
            return Ok(());
        }
        if name.len() > limits.label_bytes {
            let (bytes, limit_bytes) = (name.len(), limits.label_bytes);
            return Err(ProblemReason::LabelTooLong { bytes, limit_bytes });
        }
        let code = self.table.code(name);
        let first = self.first();
        if self.codes[first..].contains(&code) {
            return Ok(());
        }
        let found = self.codes.len() - first + 1;
        if found > limits.labels_per_row {
            return Err(ProblemReason::TooManyLabels { found, limit: limits.labels_per_row });
        }
        if found > 1 && self.arity == LabelArity::Single {
            return Err(ProblemReason::SeveralLabels);
        }
        self.codes.push(code);
        Ok(())
    }

    /// Where the labels of the row at hand begin.
    fn first(&self) -> usize {
        self.ends.last().map_or(0, |&end| end as usize)
    }
}

/// The names of a field that is a JSON list of names.
fn json_list(bytes: &[u8], options: &ImportOptions) -> Option<Vec<String>> {
    let may_be = bytes.trim_ascii_start().starts_with(b"[");
    if !may_be || options.label_arity == LabelArityChoice::Single {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

/// The text of a field.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ProblemReason> {
    simdutf8::compat::from_utf8(bytes)
        .map_err(|error| ProblemReason::NotUtf8 { at: error.valid_up_to() + 1 })
}
