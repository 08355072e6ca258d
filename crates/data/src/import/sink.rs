//! Where the readers of every format put their rows, cell by cell: checks them, looks up
//! labels and splits, measures texts, and hands full batches on.

use std::path::PathBuf;

pub(crate) use super::builder::Cell;
use super::builder::{ColumnBuilder, TextValues};
use super::columns::{ColumnPlan, Role, RolesTaken, SplitSource};
use super::error::ImportError;
use super::labels::{BatchLabels, LabelRows, NameTable, SharesByName, utf8, weight_of};
use super::options::{ColumnChoice, ImportOptions, OnError, RoleNames};
use super::part_writer::{BatchRows, DraftPart, PartWriter};
use super::problems::{Position, Problem, ProblemReason, ProblemSummary};
use super::run::{ImportProgress, Progress};
use crate::layers::{NO_SPLIT, NO_WEIGHT};
use crate::manifest::{
    ColumnType, LABEL_COLUMN, LabelArity, Manifest, SHARES_COLUMN, SPLIT_COLUMN, TEXT_COLUMN,
    WEIGHT_COLUMN,
};
use crate::split::canonical_split_name;
use crate::statistics::LengthCounter;
use crate::text_form::{BLANK_HASH, TextForm, measure};

/// The longest split name in bytes.
const MAX_SPLIT_NAME_BYTES: usize = 128;

/// Where a cell belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Text,
    Label,
    Split,
    Weight,
    Shares,
    Column(usize),
    Ignored,
}

/// What a file contributed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileCounts {
    pub rows: u64,
    pub problems: u64,
}

/// Everything the sink gathered, for the manifest.
pub(crate) struct SinkResult {
    pub drafts: Vec<DraftPart>,
    pub columns: Vec<(String, ColumnType)>,
    pub labels: NameTable,
    pub splits: NameTable,
    pub arity: LabelArity,
    pub problems: ProblemSummary,
    pub notes: Vec<String>,
    pub empty_texts: u64,
    pub chars: LengthCounter,
    pub words: LengthCounter,
    pub next_row_id: u64,
}

pub(crate) struct RowSink<'a> {
    pub options: &'a ImportOptions,
    progress: &'a dyn Progress,
    bytes_read: std::rc::Rc<std::cell::Cell<u64>>,
    writer: PartWriter,
    append: bool,

    file: String,
    file_split: Option<u16>,
    /// The roles that columns of the file have.
    taken: RolesTaken,
    /// The column that says the shares, of its own or the label: they are only found wrong when
    /// the row ends.
    shares_column: String,
    pub counts: FileCounts,

    texts: TextValues,
    columns: Vec<ColumnBuilder>,
    row_splits: Vec<u16>,
    weights: Vec<f32>,
    hashes: Vec<u64>,
    column_bytes: usize,

    labels: LabelRows,
    splits: NameTable,
    /// Names known before the row at hand, to take it back.
    known: (usize, usize),
    /// The split of the row at hand.
    split: u16,
    has_split: bool,
    /// The weight of the row at hand.
    weight: f32,
    pending: Option<TextForm>,

    problems: ProblemSummary,
    notes: Vec<String>,
    empty_texts: u64,
    chars: LengthCounter,
    words: LengthCounter,
    rows: u64,
    scratch: Vec<u8>,
}

impl<'a> RowSink<'a> {
    pub(crate) fn new(
        options: &'a ImportOptions,
        folder: PathBuf,
        base: Option<&Manifest>,
        progress: &'a dyn Progress,
        bytes_read: std::rc::Rc<std::cell::Cell<u64>>,
    ) -> Self {
        let next_row_id = base.map_or(0, |base| base.next_row_id);
        let columns = base.map_or_else(Vec::new, |base| {
            let columns = base.schema.columns.iter();
            columns.map(|c| ColumnBuilder::fixed(c.name.clone(), c.column_type)).collect()
        });
        Self {
            options,
            progress,
            bytes_read,
            writer: PartWriter::new(folder, &options.limits, next_row_id),
            append: base.is_some(),
            file: String::new(),
            file_split: None,
            taken: RolesTaken::default(),
            shares_column: SHARES_COLUMN.to_owned(),
            counts: FileCounts::default(),
            texts: TextValues::default(),
            columns,
            row_splits: Vec::new(),
            weights: Vec::new(),
            hashes: Vec::new(),
            column_bytes: 0,
            labels: LabelRows::new(options, base),
            splits: base.map_or_else(NameTable::default, |base| NameTable::of(&base.splits)),
            known: (0, 0),
            split: NO_SPLIT,
            has_split: false,
            weight: NO_WEIGHT,
            pending: None,
            problems: ProblemSummary::default(),
            notes: Vec::new(),
            empty_texts: 0,
            chars: LengthCounter::default(),
            words: LengthCounter::default(),
            rows: 0,
            scratch: Vec::new(),
        }
    }

    /// Rows taken so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Begins a file, all of whose rows are in `split` if one is given.
    pub(crate) fn begin_file(
        &mut self,
        file: &str,
        split: Option<&str>,
    ) -> Result<(), ImportError> {
        file.clone_into(&mut self.file);
        self.counts = FileCounts::default();
        self.taken = RolesTaken::default();
        self.file_split = None;
        if let Some(split) = split {
            let code = self.splits.code(&canonical_split_name(split)) as u16;
            self.check_tables()?;
            self.file_split = Some(code);
            self.taken.split = SplitSource::File;
        }
        self.start_row();
        Ok(())
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn file_has_split(&self) -> bool {
        self.file_split.is_some()
    }

    /// Finds the columns of the current file and makes those it has beside text, label and split.
    pub(crate) fn resolve(
        &mut self,
        plan: &mut ColumnPlan,
        names: &[String],
    ) -> Result<Vec<Target>, ImportError> {
        let roles = plan.resolve(&self.file, names, self.options, self.file_has_split())?;
        let mut taken = Vec::new();
        roles.iter().zip(names).map(|(&role, name)| self.target(role, name, &mut taken)).collect()
    }

    /// The same for one column that appears only now.
    pub(crate) fn resolve_late(
        &mut self,
        plan: &mut ColumnPlan,
        name: &str,
    ) -> Result<Target, ImportError> {
        let role = plan.resolve_late(name, self.options, self.taken);
        self.target(role, name, &mut Vec::new())
    }

    fn target(
        &mut self,
        role: Role,
        name: &str,
        taken: &mut Vec<usize>,
    ) -> Result<Target, ImportError> {
        Ok(match role {
            Role::Text => Target::Text,
            Role::Label => {
                self.taken.label = true;
                if !self.taken.shares {
                    name.clone_into(&mut self.shares_column);
                }
                Target::Label
            }
            Role::Split => {
                self.taken.split = SplitSource::Column;
                Target::Split
            }
            Role::Weight => {
                self.taken.weight = true;
                self.note_role(name, "what its rows count");
                Target::Weight
            }
            Role::Shares => {
                self.taken.shares = true;
                name.clone_into(&mut self.shares_column);
                self.note_role(name, "the shares of its labels");
                Target::Shares
            }
            Role::SplitOfFile => {
                let file = &self.file;
                self.notes.push(format!(
                    "{file}: column `{name}` was left out, since the whole file is one split"
                ));
                Target::Ignored
            }
            Role::Ignored => Target::Ignored,
            Role::Other => Target::Column(self.column(name, taken)?),
        })
    }

    /// Roles that change what is learnt are told where nobody gave them.
    fn note_role(&mut self, column: &str, role: &str) {
        let options = self.options;
        let is_named = [&options.weight, &options.shares]
            .iter()
            .any(|choice| matches!(choice, ColumnChoice::Named(named) if named == column));
        if !is_named {
            let file = &self.file;
            self.notes.push(format!("{file}: column `{column}` was taken for {role}"));
        }
    }

    /// The builder of a column. A second column of one name in a file, or one named like
    /// those every data set has, gets a number after its name.
    fn column(&mut self, name: &str, taken: &mut Vec<usize>) -> Result<usize, ImportError> {
        let reserved: &[&str] = match self.options.role_names {
            RoleNames::Reserved => {
                &[TEXT_COLUMN, LABEL_COLUMN, SPLIT_COLUMN, WEIGHT_COLUMN, SHARES_COLUMN]
            }
            RoleNames::Free => &[TEXT_COLUMN],
        };
        let base = if name.is_empty() { "column" } else { name };
        let mut unique = base.to_owned();
        let mut number = 1;
        let index = loop {
            let found = self.columns.iter().position(|column| column.name == unique);
            match found {
                Some(index) if !taken.contains(&index) => break index,
                None if !reserved.contains(&unique.as_str()) => {
                    self.add_column(unique.clone())?;
                    break self.columns.len() - 1;
                }
                _ => {
                    number += 1;
                    unique = format!("{base}_{number}");
                }
            }
        };
        taken.push(index);
        if number > 1 {
            let file = &self.file;
            self.notes.push(format!(
                "{file}: a column `{base}` is called `{unique}`, the name being taken"
            ));
        }
        Ok(index)
    }

    fn add_column(&mut self, name: String) -> Result<(), ImportError> {
        if self.append {
            let columns = self.columns.iter().map(|column| column.name.clone()).collect();
            return Err(ImportError::ColumnNotInBase {
                file: self.file.clone(),
                column: name,
                columns,
            });
        }
        if self.columns.len() == self.options.limits.columns {
            let (found, limit) = (self.columns.len() + 1, self.columns.len());
            return Err(ImportError::TooManyColumns { file: self.file.clone(), found, limit });
        }
        let declared = self.options.column_types.iter().find(|(declared, _)| *declared == name);
        let mut builder = match declared {
            Some((_, column_type)) => ColumnBuilder::fixed(name, *column_type),
            None => ColumnBuilder::undecided(name),
        };
        (0..self.hashes.len()).for_each(|_| builder.push_null());
        self.columns.push(builder);
        Ok(())
    }

    /// Puts one cell of the row at hand.
    pub(crate) fn put(&mut self, target: Target, cell: Cell<'_>) -> Result<(), ProblemReason> {
        match target {
            Target::Text => self.put_text(cell),
            Target::Label => self.labels.put(cell, self.options),
            Target::Split => self.put_split(cell),
            Target::Weight => {
                let weight = weight_of(cell)?.unwrap_or(NO_WEIGHT);
                if !std::mem::replace(&mut self.weight, weight).is_nan() {
                    return Err(ProblemReason::ColumnTwice);
                }
                Ok(())
            }
            Target::Shares => self.labels.put_shares(cell, self.options),
            Target::Column(index) => {
                let builder = &mut self.columns[index];
                if builder.len() > self.hashes.len() {
                    return Err(ProblemReason::ColumnTwice);
                }
                let before = builder.bytes();
                builder.push(cell)?;
                self.column_bytes += builder.bytes().saturating_sub(before);
                Ok(())
            }
            Target::Ignored => Ok(()),
        }
    }

    fn put_text(&mut self, cell: Cell<'_>) -> Result<(), ProblemReason> {
        if self.texts.len() > self.hashes.len() {
            return Err(ProblemReason::ColumnTwice);
        }
        let bytes = match cell {
            Cell::Text(bytes) | Cell::Untyped(bytes) => bytes,
            Cell::Null => return Err(ProblemReason::MissingText),
            Cell::Number(_) | Cell::Int(_) | Cell::Float(_) => {
                return Err(ProblemReason::TextType { found: "a number" });
            }
            Cell::Bool(_) => return Err(ProblemReason::TextType { found: "a truth value" }),
        };
        let text = utf8(bytes)?;
        let form = measure(text, &mut self.scratch);
        self.texts.push(bytes);
        // The row counts as begun only when its hash is there; see `finish_row`.
        self.pending = Some(form);
        Ok(())
    }

    /// Says that the row's label is a list; the labels follow with [`add_label`](Self::add_label).
    pub(crate) fn begin_label_list(&mut self) -> Result<(), ProblemReason> {
        self.labels.begin_list(self.options)
    }

    /// Adds a label to the row at hand, if it is neither empty nor there already.
    pub(crate) fn add_label(&mut self, bytes: &[u8]) -> Result<(), ProblemReason> {
        self.labels.add(bytes, self.options)
    }

    /// Puts a label with its shares.
    pub(crate) fn put_shared_labels<'n>(
        &mut self,
        shares: impl IntoIterator<Item = (&'n str, Option<f64>)>,
    ) -> Result<(), ProblemReason> {
        self.labels.begin_shares(self.options)?;
        let mut shares = shares.into_iter();
        shares.try_for_each(|(name, share)| self.labels.add_shared(name, share, self.options))
    }

    /// The same, from the text of a JSON object.
    pub(crate) fn put_json_shares(&mut self, json: &str) -> Result<(), ProblemReason> {
        let SharesByName(shares) = serde_json::from_str(json).map_err(|_| {
            ProblemReason::LabelType { found: "an object whose values are not numbers" }
        })?;
        self.put_shared_labels(shares.iter().map(|(name, share)| (name.as_str(), *share)))
    }

    /// Puts the shares of the row's labels, in their order; a missing one is zero.
    pub(crate) fn put_share_list(
        &mut self,
        shares: impl Iterator<Item = Option<f64>>,
    ) -> Result<(), ProblemReason> {
        self.labels.put_share_list(shares, self.options)
    }

    fn put_split(&mut self, cell: Cell<'_>) -> Result<(), ProblemReason> {
        if std::mem::replace(&mut self.has_split, true) {
            return Err(ProblemReason::ColumnTwice);
        }
        let named;
        let name = match cell {
            Cell::Null => return Ok(()),
            Cell::Text(bytes) | Cell::Untyped(bytes) => utf8(bytes)?.trim(),
            Cell::Number(text) => text,
            Cell::Int(value) => {
                named = value.to_string();
                &named
            }
            Cell::Float(_) => return Err(ProblemReason::SplitType { found: "a fraction" }),
            Cell::Bool(_) => return Err(ProblemReason::SplitType { found: "a truth value" }),
        };
        if name.is_empty() {
            return Ok(());
        }
        if name.len() > MAX_SPLIT_NAME_BYTES {
            let limit_bytes = MAX_SPLIT_NAME_BYTES;
            return Err(ProblemReason::SplitTooLong { bytes: name.len(), limit_bytes });
        }
        // A split is mostly that of the row before, and then its canonical name is known too.
        let code = match self.splits.is_last(name) {
            true => self.splits.last(),
            false => self.splits.code(&canonical_split_name(name)),
        };
        self.split = code.min(u32::from(NO_SPLIT)) as u16;
        Ok(())
    }

    /// Ends the row at hand; one without a text is a bad row.
    pub(crate) fn finish_row(
        &mut self,
        position: impl FnOnce() -> Position,
    ) -> Result<(), ImportError> {
        let Some(form) = self.pending.take() else {
            return self.reject_row(position(), Some(Target::Text), ProblemReason::MissingText);
        };
        if (self.labels.table.names.len(), self.splits.names.len()) != self.known {
            self.check_tables()?;
        }
        if self.problems.total > 0 && self.options.on_error == OnError::Fail {
            // The import fails: rows are only checked from here on.
            self.take_back_row();
            return Ok(());
        }
        if let Err(reason) = self.labels.end_row() {
            let column = Some(self.shares_column.clone());
            return self.reject_row_in(position(), column, reason);
        }
        self.hashes.push(form.hash);
        self.weights.push(self.weight);
        self.row_splits.push(self.file_split.unwrap_or(self.split));
        let rows = self.hashes.len();
        for column in &mut self.columns {
            if column.len() < rows {
                column.push_null();
            }
        }
        self.chars.add(form.chars);
        self.words.add(form.words);
        self.empty_texts += u64::from(form.hash == BLANK_HASH);
        self.counts.rows += 1;
        self.rows += 1;
        self.start_row();
        let bytes = self.texts.bytes() + self.column_bytes + self.labels.bytes() + 20 * rows;
        if rows >= self.options.limits.batch_rows || bytes >= self.options.limits.batch_bytes {
            self.flush(bytes)?;
        }
        Ok(())
    }

    /// Drops the row at hand and records why.
    pub(crate) fn reject_row(
        &mut self,
        position: Position,
        target: Option<Target>,
        reason: ProblemReason,
    ) -> Result<(), ImportError> {
        let column = target.and_then(|target| match target {
            Target::Text => Some(TEXT_COLUMN.to_owned()),
            Target::Label => Some(LABEL_COLUMN.to_owned()),
            Target::Split => Some(SPLIT_COLUMN.to_owned()),
            Target::Weight => Some(WEIGHT_COLUMN.to_owned()),
            Target::Shares => Some(self.shares_column.clone()),
            Target::Column(index) => Some(self.columns[index].name.clone()),
            Target::Ignored => None,
        });
        self.reject_row_in(position, column, reason)
    }

    /// The same, with the column by the name it has in the file.
    pub(crate) fn reject_row_in(
        &mut self,
        position: Position,
        column: Option<String>,
        reason: ProblemReason,
    ) -> Result<(), ImportError> {
        self.take_back_row();
        self.counts.problems += 1;
        let problem = Problem { file: self.file.clone(), position, column, reason };
        self.problems.add(self.options.limits.listed_problems, problem);
        if self.problems.total >= self.options.limits.problems_before_stopping
            && self.options.on_error == OnError::Fail
        {
            self.problems.stopped_early = true;
            return Err(ImportError::BadRows(std::mem::take(&mut self.problems)));
        }
        Ok(())
    }

    /// Ends the import: the last batch goes out and the last part is closed.
    pub(crate) fn finish(mut self) -> Result<SinkResult, ImportError> {
        if self.problems.total > 0 && self.options.on_error == OnError::Fail {
            return Err(ImportError::BadRows(self.problems));
        }
        if !self.hashes.is_empty() {
            self.flush(self.texts.bytes() + self.column_bytes)?;
        }
        let next_row_id = self.writer.next_row_id();
        let typed = |column: &ColumnBuilder| {
            (column.name.clone(), column.column_type().unwrap_or(ColumnType::String))
        };
        Ok(SinkResult {
            columns: self.columns.iter().map(typed).collect(),
            drafts: self.writer.finish()?,
            arity: self.labels.arity,
            labels: self.labels.table,
            splits: self.splits,
            problems: self.problems,
            notes: self.notes,
            empty_texts: self.empty_texts,
            chars: self.chars,
            words: self.words,
            next_row_id,
        })
    }

    fn start_row(&mut self) {
        self.known = (self.labels.table.names.len(), self.splits.names.len());
        self.split = NO_SPLIT;
        self.has_split = false;
        self.weight = NO_WEIGHT;
        self.pending = None;
    }

    fn take_back_row(&mut self) {
        let rows = self.hashes.len();
        self.texts.truncate(rows);
        self.labels.take_back();
        self.labels.table.truncate(self.known.0);
        self.splits.truncate(self.known.1);
        for column in &mut self.columns {
            column.truncate(rows);
        }
        self.start_row();
    }

    fn check_tables(&self) -> Result<(), ImportError> {
        let limits = &self.options.limits;
        let file = || self.file.clone();
        if self.labels.table.names.len() > limits.classes {
            let column = LABEL_COLUMN.to_owned();
            return Err(ImportError::TooManyClasses {
                file: file(),
                column,
                limit: limits.classes,
            });
        }
        if self.splits.names.len() > limits.splits {
            let column = SPLIT_COLUMN.to_owned();
            return Err(ImportError::TooManySplits { file: file(), column, limit: limits.splits });
        }
        Ok(())
    }

    fn flush(&mut self, bytes: usize) -> Result<(), ImportError> {
        let rows = self.hashes.len();
        let columns = self.columns.iter_mut().filter_map(|column| {
            let array = column.take()?;
            Some((column.name.clone(), array))
        });
        let columns = columns.collect();
        let take_u16 = std::mem::replace(&mut self.row_splits, Vec::with_capacity(rows));
        let BatchLabels { codes, ends, shares, share_ends } = self.labels.take();
        let batch = BatchRows {
            texts: self.texts.take(None),
            columns,
            label_codes: codes,
            label_ends: ends,
            shares,
            share_ends,
            arity: self.labels.arity,
            splits: take_u16,
            weights: std::mem::replace(&mut self.weights, Vec::with_capacity(rows)),
            hashes: std::mem::replace(&mut self.hashes, Vec::with_capacity(rows)),
            bytes,
        };
        self.column_bytes = 0;
        self.writer.write(batch)?;
        self.progress
            .advance(ImportProgress { bytes_read: self.bytes_read.get(), rows: self.rows });
        if self.progress.is_cancelled() {
            return Err(ImportError::Cancelled);
        }
        Ok(())
    }
}
