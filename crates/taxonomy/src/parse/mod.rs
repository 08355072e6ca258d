//! Reading taxonomy files.
//!
//! A file becomes a flat list of [`Entry`]s, whatever its format; [`build()`] makes the tree of
//! them and finds everything that is wrong at once.

mod build;
mod csv;
mod document;
mod nested;
mod resolve;
mod table;

pub(crate) use build::build;

use crate::limits::{MAX_FILE_BYTES, MAX_PROBLEMS_LISTED};
use crate::{Place, Problem, ProblemKind, Taxonomy, TaxonomyError};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180 with a header; the delimiter is the comma, semicolon or tab that stands most
    /// often in the header. A single column needs no header.
    Csv,
    /// As CSV, with tabs.
    Tsv,
    /// A list of names or of objects with the keys `id`, `name`, `description`, `examples`,
    /// `parent`, `path`, `children`; or an object of names to what is below them; or an object
    /// whose `classes` is one of these.
    Json,
    /// As JSON. Plain values are text as written: `no` and `0011` stay so.
    Yaml,
    /// One name a line.
    Lines,
}

/// Which columns of a table, or keys of a document, hold what; `None` finds them by their
/// usual names (`id`, `code`; `name`, `label`, `class`, `title`, `category`; `description`,
/// `definition`; `examples`, `example`; `parent`, `parent_id`; `path`), case aside.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    pub id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub examples: Option<String>,
    pub parent: Option<String>,
    pub path: Option<String>,
}

/// What happens where a parent is named that the file does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingParents {
    /// The file is refused.
    #[default]
    Refuse,
    /// The parent becomes a class whose name is its id.
    Create,
}

/// How to read a file; the default finds out everything by itself.
#[derive(Clone, Debug, Default)]
pub struct ParseOptions {
    /// `None`: by the file's extension, else by its first bytes.
    pub format: Option<Format>,
    pub columns: Columns,
    /// Between the parts of a path. `None`: `>` where any path of the file has one, else `/`.
    pub path_separator: Option<String>,
    /// The lengths, rising, in characters, of the ids of the upper levels: with `[2, 4, 6, 7]`
    /// the class `11-1011.00` lies under `11-1011`, that under `11-101`, `11-1` and `11`.
    /// Empty: ids have no such meaning.
    pub prefix_lengths: Vec<usize>,
    pub missing_parents: MissingParents,
}

/// Reads a taxonomy file.
///
/// In tables, examples are separated by `|` or line breaks. A parent is named by id, or by
/// name where that is unique. A path names every class from the top down to the class itself,
/// and the classes it passes through need no line of their own.
///
/// # Errors
/// When the bytes are not text of the format, hold more than the [limits](crate::limits) allow, or
/// say anything contradictory about the classes: all of that at once
/// ([`TaxonomyError::Problems`]).
pub fn parse(
    file_name: &str,
    bytes: &[u8],
    options: &ParseOptions,
) -> Result<Taxonomy, TaxonomyError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(TaxonomyError::TooManyBytes { bytes: bytes.len() });
    }
    if !options.prefix_lengths.is_sorted_by(|a, b| a < b)
        || options.prefix_lengths.first() == Some(&0)
    {
        return Err(TaxonomyError::PrefixLengths { lengths: options.prefix_lengths.clone() });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| TaxonomyError::NotUtf8 { offset: error.valid_up_to() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let format = match options.format {
        Some(format) => format,
        None => guess_format(file_name, text)?,
    };
    let mut found = Found::default();
    match format {
        Format::Csv => table::read(text, table::delimiter_of(text), options, &mut found)?,
        Format::Tsv => table::read(text, '\t', options, &mut found)?,
        Format::Lines => table::read_lines(text, &mut found),
        Format::Json => nested::read(&document::from_json(text)?, options, &mut found)?,
        Format::Yaml => nested::read(&document::from_yaml(text)?, options, &mut found)?,
    }
    build(found.entries, &options.prefix_lengths, options.missing_parents, found.problems)
}

fn guess_format(file_name: &str, text: &str) -> Result<Format, TaxonomyError> {
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("csv") => return Ok(Format::Csv),
        Some("tsv" | "tab") => return Ok(Format::Tsv),
        Some("json") => return Ok(Format::Json),
        Some("yaml" | "yml") => return Ok(Format::Yaml),
        _ => {}
    }
    let start = text.trim_start();
    let first_line = start.lines().next().unwrap_or_default();
    match start.chars().next() {
        Some('[' | '{') => Ok(Format::Json),
        _ if first_line.contains('\t') => Ok(Format::Tsv),
        _ if extension.as_deref() == Some("txt") => Ok(Format::Lines),
        _ => Err(TaxonomyError::UnknownFormat { file_name: file_name.to_owned() }),
    }
}

/// A class as its file gives it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub place: Place,
    pub id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub examples: Vec<String>,
    pub parent: ParentRef,
}

/// How a file says where a class lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParentRef {
    /// At the top, unless the id's prefix says otherwise.
    Top,
    /// Under the class with this id or name.
    Named(String),
    /// Under this entry, which stands before it.
    Entry(usize),
    /// The names from the root down to the class itself.
    Path(Vec<String>),
}

/// What was read of a file so far.
#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    problems: Problems,
}

/// What is wrong so far: the first [`MAX_PROBLEMS_LISTED`], and how many more.
#[derive(Default)]
pub(crate) struct Problems {
    listed: Vec<Problem>,
    unlisted: usize,
}

impl Problems {
    fn add(&mut self, place: &Place, kind: ProblemKind) {
        if self.listed.len() < MAX_PROBLEMS_LISTED {
            self.listed.push(Problem { place: place.clone(), kind });
        } else {
            self.unlisted += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// An error of all of them, in the order of the file, unless there is none.
    fn refuse(&mut self) -> Result<(), TaxonomyError> {
        if self.is_empty() {
            return Ok(());
        }
        let mut problems = std::mem::take(&mut self.listed);
        problems.sort_by_key(|problem| match problem.place {
            Place::Line(line) => line,
            Place::Item(_) | Place::Implied => 0,
        });
        Err(TaxonomyError::Problems { problems, unlisted: self.unlisted })
    }
}

/// The separator between the parts of these paths.
fn path_separator<'a>(
    options: &'a ParseOptions,
    mut paths: impl Iterator<Item = &'a str>,
) -> &'a str {
    match &options.path_separator {
        Some(separator) if !separator.is_empty() => separator,
        _ if paths.any(|path| path.contains('>')) => ">",
        _ => "/",
    }
}

/// The trimmed text, or `None` where it is empty.
fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
