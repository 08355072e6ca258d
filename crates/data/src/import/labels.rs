//! The labels of the rows of a batch, and the tables of names that they and splits are codes of.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::builder::{Cell, display};
use super::options::{ImportOptions, LabelArityChoice};
use super::problems::ProblemReason;
use crate::manifest::{LabelArity, Manifest};
use crate::revise::add_share;

/// Characters of a wrong value that are shown.
const SHOWN_CHARS: usize = 80;

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
    /// The shares of the labels of rows that have any.
    shares: Vec<f32>,
    share_ends: Vec<u32>,
    /// What the label of the row at hand names, in order; `None` for an empty name.
    named: Vec<Option<u32>>,
    /// The shares of the row at hand, one for each of `named` if all is well.
    row_shares: Option<Vec<f32>>,
}

/// The labels of a batch.
pub(super) struct BatchLabels {
    pub codes: Vec<u32>,
    pub ends: Vec<u32>,
    pub shares: Vec<f32>,
    pub share_ends: Vec<u32>,
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
        Self {
            table,
            arity,
            codes: Vec::new(),
            ends: Vec::new(),
            shares: Vec::new(),
            share_ends: Vec::new(),
            named: Vec::new(),
            row_shares: None,
        }
    }

    /// Bytes of the codes and shares.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.codes.len() + self.shares.len())
    }

    /// Ends the row at hand, whose shares must fit its labels.
    pub(super) fn end_row(&mut self) -> Result<(), ProblemReason> {
        if let Some(shares) = self.row_shares.take() {
            self.share_labels(&shares)?;
        }
        self.named.clear();
        self.ends.push(self.codes.len() as u32);
        self.share_ends.push(self.shares.len() as u32);
        Ok(())
    }

    /// Gives the labels of the row at hand their shares. A label without any share is none.
    fn share_labels(&mut self, shares: &[f32]) -> Result<(), ProblemReason> {
        if shares.len() != self.named.len() {
            let (shares, labels) = (shares.len(), self.named.len());
            return Err(ProblemReason::ShareCount { shares, labels });
        }
        let start = self.first();
        self.codes.truncate(start);
        for (code, &share) in self.named.iter().zip(shares) {
            if let (Some(code), true) = (code, share > 0.0) {
                add_share(&mut self.codes, &mut self.shares, start, (*code, share));
            }
        }
        if self.codes.len() == start && !shares.is_empty() {
            return Err(ProblemReason::ShareSum);
        }
        // The share of the one label a row may have says nothing.
        if self.arity == LabelArity::Single {
            self.shares.clear();
        }
        Ok(())
    }

    /// Takes back the labels of the row at hand.
    pub(super) fn take_back(&mut self) {
        self.codes.truncate(self.first());
        self.shares.truncate(self.share_ends.last().map_or(0, |&end| end as usize));
        self.named.clear();
        self.row_shares = None;
    }

    /// The labels of the batch, leaving none.
    pub(super) fn take(&mut self) -> BatchLabels {
        BatchLabels {
            codes: std::mem::take(&mut self.codes),
            ends: std::mem::take(&mut self.ends),
            shares: std::mem::take(&mut self.shares),
            share_ends: std::mem::take(&mut self.share_ends),
        }
    }

    /// Puts the label cell of the row at hand.
    pub(super) fn put(
        &mut self,
        cell: Cell<'_>,
        options: &ImportOptions,
    ) -> Result<(), ProblemReason> {
        if !self.named.is_empty() {
            return Err(ProblemReason::ColumnTwice);
        }
        match cell {
            Cell::Null => Ok(()),
            Cell::Untyped(bytes) => match json_label(bytes, options) {
                Some(JsonLabel::Names(names)) => {
                    self.begin_list(options)?;
                    names.iter().try_for_each(|name| self.add(name.as_bytes(), options))
                }
                Some(JsonLabel::Shares(SharesByName(shares))) => {
                    self.begin_shares(options)?;
                    let mut shares = shares.iter();
                    shares.try_for_each(|(name, share)| self.add_shared(name, *share, options))
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
        if !self.named.is_empty() {
            return Err(ProblemReason::ColumnTwice);
        }
        if options.label_arity != LabelArityChoice::Single {
            self.arity = LabelArity::Multi;
        }
        Ok(())
    }

    /// Says that the row's label has shares, which follow with [`add_shared`](Self::add_shared).
    pub(super) fn begin_shares(&mut self, options: &ImportOptions) -> Result<(), ProblemReason> {
        self.begin_list(options)?;
        if self.row_shares.replace(Vec::new()).is_some() {
            return Err(ProblemReason::SharesTwice);
        }
        Ok(())
    }

    /// Adds a label with its share; one without any is none.
    pub(super) fn add_shared(
        &mut self,
        name: &str,
        share: Option<f64>,
        options: &ImportOptions,
    ) -> Result<(), ProblemReason> {
        let share = share_of(share.unwrap_or(0.0))?;
        // Its class is not made known, either: nothing is said of it.
        if share > 0.0 {
            self.add(name.as_bytes(), options)?;
        } else {
            self.named.push(None);
        }
        self.row_shares.get_or_insert_default().push(share);
        Ok(())
    }

    /// Puts the cell of the column of shares: a list as JSON or between the separators of
    /// labels, or one number.
    pub(super) fn put_shares(
        &mut self,
        cell: Cell<'_>,
        options: &ImportOptions,
    ) -> Result<(), ProblemReason> {
        let shares = match cell {
            Cell::Null | Cell::Untyped([]) => return Ok(()),
            Cell::Untyped(bytes) | Cell::Text(bytes) => shares_in(utf8(bytes)?, options)?,
            Cell::Int(value) => vec![Some(value as f64)],
            Cell::Float(value) => vec![Some(value)],
            Cell::Number(text) => vec![text.parse().ok()],
            Cell::Bool(_) => {
                return Err(ProblemReason::SharesType { value: display(&cell) });
            }
        };
        self.put_share_list(shares.into_iter(), options)
    }

    /// Puts the list of shares of the row at hand; a missing one is zero.
    pub(super) fn put_share_list(
        &mut self,
        shares: impl Iterator<Item = Option<f64>>,
        options: &ImportOptions,
    ) -> Result<(), ProblemReason> {
        let shares = shares.map(|share| share_of(share.unwrap_or(0.0)));
        let shares = shares.collect::<Result<Vec<_>, _>>()?;
        if options.label_arity != LabelArityChoice::Single {
            self.arity = LabelArity::Multi;
        }
        if self.row_shares.replace(shares).is_some() {
            return Err(ProblemReason::SharesTwice);
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
            self.named.push(None);
            return Ok(());
        }
        if name.len() > limits.label_bytes {
            let (bytes, limit_bytes) = (name.len(), limits.label_bytes);
            return Err(ProblemReason::LabelTooLong { bytes, limit_bytes });
        }
        let code = self.table.code(name);
        self.named.push(Some(code));
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

/// A share, if it is one.
fn share_of(value: f64) -> Result<f32, ProblemReason> {
    let share = value as f32;
    if share.is_finite() && share >= 0.0 {
        Ok(share)
    } else {
        Err(ProblemReason::ShareValue { value: format!("{value:?}") })
    }
}

/// The shares of a field.
fn shares_in(text: &str, options: &ImportOptions) -> Result<Vec<Option<f64>>, ProblemReason> {
    let text = text.trim();
    let wrong = || ProblemReason::SharesType { value: text.chars().take(SHOWN_CHARS).collect() };
    if text.starts_with('[') {
        return serde_json::from_str(text).map_err(|_| wrong());
    }
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| wrong()),
    };
    match options.label_separator.as_deref() {
        Some(separator) if !separator.is_empty() => text.split(separator).map(number).collect(),
        _ => Ok(vec![number(text)?]),
    }
}

/// What a label says that is written as JSON.
enum JsonLabel {
    Names(Vec<String>),
    Shares(SharesByName),
}

/// The share of each class, in the order of the object.
pub(super) struct SharesByName(pub Vec<(String, Option<f64>)>);

impl<'de> Deserialize<'de> for SharesByName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = SharesByName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of shares")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SharesByName, A::Error> {
                let mut shares = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    shares.push(entry);
                }
                Ok(SharesByName(shares))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// What a field says that is a JSON list of names or an object of shares.
fn json_label(bytes: &[u8], options: &ImportOptions) -> Option<JsonLabel> {
    if options.label_arity == LabelArityChoice::Single {
        return None;
    }
    match bytes.trim_ascii_start().first()? {
        b'[' => serde_json::from_slice(bytes).ok().map(JsonLabel::Names),
        b'{' => serde_json::from_slice(bytes).ok().map(JsonLabel::Shares),
        _ => None,
    }
}

/// The weight that a cell says; `None` where it says nothing.
pub(super) fn weight_of(cell: Cell<'_>) -> Result<Option<f32>, ProblemReason> {
    let value = match cell {
        Cell::Null | Cell::Untyped([]) => return Ok(None),
        Cell::Untyped(bytes) => utf8(bytes)?.trim().parse().ok(),
        Cell::Number(text) => text.parse().ok(),
        Cell::Int(value) => Some(value as f64),
        Cell::Float(value) => Some(value),
        Cell::Text(_) | Cell::Bool(_) => None,
    };
    match value.map(|value: f64| value as f32) {
        Some(weight) if weight.is_finite() && weight >= 0.0 => Ok(Some(weight)),
        _ => {
            let value = display(&cell).chars().take(SHOWN_CHARS).collect();
            Err(ProblemReason::WeightValue { value })
        }
    }
}

/// The text of a field.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ProblemReason> {
    simdutf8::compat::from_utf8(bytes)
        .map_err(|error| ProblemReason::NotUtf8 { at: error.valid_up_to() + 1 })
}
