//! The import itself: one file after the other into the sink, then the manifest.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use super::assemble::assemble;
use super::columns::ColumnPlan;
use super::error::ImportError;
use super::options::{Compression, Format, ImportOptions, TextEncoding};
use super::problems::ProblemSummary;
use super::sink::RowSink;
use crate::input::{SourceContext, SourceShape, open_source, read_rows};
use crate::manifest::Manifest;
use crate::revise::scratch_folder;
use crate::store::PartStore;

/// A file to import, read once from front to back.
pub struct Source<'r> {
    /// The name it is reported by, whose extension is taken as a hint of its format.
    pub file_name: String,
    pub reader: Box<dyn Read + Send + 'r>,
    /// The split that all its rows are in.
    pub split: Option<String>,
}

/// Watches an import and can stop it.
pub trait Progress: Send + Sync {
    /// Called at least once a batch.
    fn advance(&self, progress: ImportProgress);

    /// Asked before every read; once it says yes the import ends.
    fn is_cancelled(&self) -> bool;
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportProgress {
    /// Bytes of all files, as they are before unwrapping.
    pub bytes_read: u64,
    pub rows: u64,
}

/// For imports that nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn advance(&self, _: ImportProgress) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A finished import. Its files are in the store; its manifest is not yet.
#[derive(Clone, Debug)]
pub struct Imported {
    pub manifest: Manifest,
    pub report: ImportReport,
}

/// What an import did and found out.
#[derive(Clone, Debug, Default)]
pub struct ImportReport {
    pub files: Vec<FileReport>,
    /// The rows that were left out.
    pub problems: ProblemSummary,
    /// What a person may want to know, as sentences.
    pub notes: Vec<String>,
}

/// One file of an import.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub file: String,
    pub format: Format,
    pub compression: Compression,
    pub encoding: Option<TextEncoding>,
    pub delimiter: Option<char>,
    pub has_header: Option<bool>,
    pub rows: u64,
    pub bad_rows: u64,
    pub bytes_read: u64,
}

/// Imports files as a new version: of a new data set, or of the one that `base` is a version
/// of, after its rows. Memory stays bounded whatever the size of the files; nothing refers
/// to what is written until the returned manifest is recorded, and scratch files are gone
/// when this returns.
///
/// # Errors
/// When a file cannot be read or understood, has bad rows that are not to be skipped, passes
/// a limit, does not fit `base`, or when the store fails.
pub fn import(
    sources: Vec<Source<'_>>,
    options: &ImportOptions,
    store: &dyn PartStore,
    base: Option<&Manifest>,
    progress: &dyn Progress,
) -> Result<Imported, ImportError> {
    if sources.is_empty() {
        return Err(ImportError::NoFiles);
    }
    let (found, limit) = (sources.len(), options.limits.files);
    if found > limit {
        return Err(ImportError::TooManyFiles { found, limit });
    }
    check_declared_types(options, base)?;
    if let Some(draw) = &options.draw {
        draw.check()?;
    }
    let names: Vec<String> = sources.iter().map(|source| source.file_name.clone()).collect();
    let scratch = scratch_folder(store)?;
    let bytes_read = Rc::new(Cell::new(0));
    let mut plan = ColumnPlan::following(base.map(|base| &base.schema));
    let mut sink =
        RowSink::new(options, scratch.path().to_owned(), base, progress, Rc::clone(&bytes_read));
    let mut report = ImportReport::default();
    for Source { file_name, reader, split } in sources {
        let before = bytes_read.get();
        sink.begin_file(&file_name, split.as_deref())?;
        let opened = open_source(&file_name, reader, options, progress, Rc::clone(&bytes_read))?;
        let (format, compression, encoding) = (opened.format, opened.compression, opened.encoding);
        let (guessed, replaced) = (opened.encoding_guessed, Rc::clone(&opened.replaced));
        let mut shape = SourceShape::default();
        let mut context = SourceContext {
            sink: &mut sink,
            plan: &mut plan,
            shape: &mut shape,
            scratch: scratch.path(),
            progress,
            bytes_read: Rc::clone(&bytes_read),
        };
        read_rows(opened, &mut context)?;
        if let (true, Some(encoding)) = (guessed, encoding) {
            report.notes.push(format!(
                "{file_name} is not UTF-8 and does not say what it is; it was read as {}",
                encoding.as_str()
            ));
        }
        if replaced.get() > 0 {
            report.notes.push(format!(
                "{file_name} has malformed characters, which became U+FFFD in {} places or more",
                replaced.get()
            ));
        }
        report.files.push(FileReport {
            file: file_name,
            format,
            compression,
            encoding,
            delimiter: shape.delimiter.map(char::from),
            has_header: shape.has_header,
            rows: sink.counts.rows,
            bad_rows: sink.counts.problems,
            bytes_read: bytes_read.get() - before,
        });
    }
    let rows = sink.rows();
    let result = sink.finish()?;
    if rows == 0 {
        return Err(match result.problems.total {
            0 => ImportError::NoRows { files: names },
            _ => ImportError::BadRows(result.problems),
        });
    }
    report.problems = result.problems.clone();
    report.notes.extend(result.notes.iter().cloned());
    let manifest = assemble(result, plan, options, base, store, scratch.path(), &mut report.notes)?;
    if progress.is_cancelled() {
        return Err(ImportError::Cancelled);
    }
    progress.advance(ImportProgress { bytes_read: bytes_read.get(), rows });
    Ok(Imported { manifest, report })
}

/// A type that is asked for must be the one the data set appended to has.
fn check_declared_types(
    options: &ImportOptions,
    base: Option<&Manifest>,
) -> Result<(), ImportError> {
    let Some(base) = base else {
        return Ok(());
    };
    for (name, declared) in &options.column_types {
        let column = base.schema.columns.iter().find(|column| column.name == *name);
        if let Some(column) = column.filter(|column| column.column_type != *declared) {
            let (declared, found) = (*declared, column.column_type);
            return Err(ImportError::TypeNotOfBase { column: name.clone(), declared, found });
        }
    }
    Ok(())
}
