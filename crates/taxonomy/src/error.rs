//! What can be wrong with a taxonomy file, and where.

use std::fmt;

use corral_types::{ErrorKind, Explain, display_bytes};

use crate::limits::{MAX_CLASSES, MAX_CYCLE_MEMBERS_PRINTED, MAX_FILE_BYTES};

/// Where in its file a class stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The line, counted from 1.
    Line(u32),
    /// The way to a value in a JSON document, as in `classes[3].children[0]`.
    Item(String),
    /// Nowhere: a parent that the file only implies, or a label.
    Implied,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Item(path) if path.is_empty() => f.write_str("the document"),
            Self::Item(path) => f.write_str(path),
            Self::Implied => f.write_str("implied"),
        }
    }
}

/// One mistake in a taxonomy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {kind}")]
pub struct Problem {
    pub place: Place,
    pub kind: ProblemKind,
}

/// What a mistake is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    #[error("a class has neither a name nor an id")]
    EmptyName,
    #[error("the path `{path}` has an empty part")]
    EmptyPathPart { path: String },
    #[error("the id `{id}` is already used at {first}")]
    DuplicateId { id: String, first: Place },
    #[error("the name `{name}` already stands {} at {first}", under(.parent))]
    DuplicateName { name: String, parent: Option<String>, first: Place },
    #[error("the parent `{parent}` of `{name}` is not a class of this taxonomy{}", did_you_mean(.nearest))]
    UnknownParent { name: String, parent: String, nearest: Vec<String> },
    #[error(
        "the parent `{parent}` of `{name}` is the name of {count} classes; give the parent's id"
    )]
    AmbiguousParent { name: String, parent: String, count: usize },
    #[error("these classes are each other's ancestors: {}", cycle(.members))]
    Cycle { members: Vec<String> },
    #[error("`{name}` lies {depth} classes deep; a taxonomy has at most {limit} levels")]
    TooDeep { name: String, depth: usize, limit: usize },
    #[error("the {field} has {bytes} bytes; it may have at most {limit}")]
    TooLong { field: &'static str, bytes: usize, limit: usize },
    #[error("the class has {count} examples; it may have at most {limit}")]
    TooManyExamples { count: usize, limit: usize },
    #[error("the {field} holds a control character (U+{code:04X})")]
    ControlCharacter { field: &'static str, code: u32 },
    #[error("the name `{name}` is not the last part of the path `{path}`")]
    NameNotInPath { name: String, path: String },
    #[error("the class has both a path and a parent; give one of them")]
    PathAndParent,
    #[error("expected {expected}, found {found}")]
    UnexpectedValue { expected: &'static str, found: String },
    #[error("the key `{key}` is given twice")]
    RepeatedKey { key: String },
    #[error("the row has {found} fields, the header has {expected}")]
    FieldCount { found: usize, expected: usize },
}

fn under(parent: &Option<String>) -> String {
    match parent {
        Some(parent) => format!("under `{parent}`"),
        None => "at the top".to_owned(),
    }
}

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!("; nearest: {}", quoted(names)),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn cycle(members: &[String]) -> String {
    let shown = &members[..members.len().min(MAX_CYCLE_MEMBERS_PRINTED)];
    let names = shown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
    match members.len() - shown.len() {
        0 => names,
        more => format!("{names} → … ({more} more)"),
    }
}

/// Why bytes are not a taxonomy.
#[derive(Debug, thiserror::Error)]
pub enum TaxonomyError {
    #[error(
        "the taxonomy has {}, more than the {} that one may have",
        display_bytes(*.bytes as u64),
        display_bytes(MAX_FILE_BYTES as u64)
    )]
    TooManyBytes { bytes: usize },
    #[error("the taxonomy is not UTF-8 text from byte {offset} on")]
    NotUtf8 { offset: usize },
    #[error("cannot tell the format of `{file_name}`")]
    UnknownFormat { file_name: String },
    #[error("line {line} is not CSV: {reason}")]
    Csv { line: u32, reason: &'static str },
    #[error("the taxonomy is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("line {line} is not YAML: {reason}")]
    Yaml { line: u32, reason: String },
    #[error("the taxonomy was written in format {found}; this version reads format {supported}")]
    NewerFormat { found: String, supported: u32 },
    #[error("no column holds names, ids or paths; the columns are {}", quoted(.found))]
    NoNameColumn { found: Vec<String> },
    #[error("there is no column `{wanted}`; the columns are {}", quoted(.found))]
    NoSuchColumn { wanted: String, found: Vec<String> },
    #[error("the columns {} could all hold the {field}", quoted(.columns))]
    AmbiguousColumn { field: &'static str, columns: Vec<String> },
    #[error("the prefix lengths {lengths:?} do not rise")]
    PrefixLengths { lengths: Vec<usize> },
    #[error("the taxonomy has no class")]
    Empty,
    #[error("the taxonomy has more than {MAX_CLASSES} classes")]
    TooManyClasses,
    /// Everything that is wrong with the classes, in the order of the file.
    #[error("the taxonomy has {}{}", count(.problems.len() + .unlisted), list(.problems, *.unlisted))]
    Problems { problems: Vec<Problem>, unlisted: usize },
}

fn count(problems: usize) -> String {
    if problems == 1 { "a problem:".to_owned() } else { format!("{problems} problems:") }
}

fn list(problems: &[Problem], unlisted: usize) -> String {
    let mut text: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    if unlisted > 0 {
        text.push_str(&format!("\n  … and {unlisted} more"));
    }
    text
}

impl Explain for TaxonomyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyBytes { .. } | Self::TooManyClasses => ErrorKind::TooLarge,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotUtf8 { .. } => "save the file as UTF-8",
            Self::UnknownFormat { .. } => {
                "name it .csv, .tsv, .json, .yaml or .txt, or say its format"
            }
            Self::NoNameColumn { .. } | Self::AmbiguousColumn { .. } => {
                "say which column holds the name, the id or the path"
            }
            Self::PrefixLengths { .. } => {
                "give the lengths of the codes of each level, as in 2,4,6,7"
            }
            Self::NewerFormat { .. } => "import it with the version of Corral that wrote it",
            Self::Problems { problems, .. } => {
                let unknown_parent =
                    |p: &Problem| matches!(p.kind, ProblemKind::UnknownParent { .. });
                if problems.iter().all(unknown_parent) {
                    "add the missing parents to the file, or ask for them to be created"
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
