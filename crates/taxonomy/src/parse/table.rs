//! Taxonomies in tables: a row a class.

use super::csv::{Record, Records};
use super::{Columns, Entry, Found, ParentRef, ParseOptions, non_empty, path_separator};
use crate::limits::MAX_CLASSES;
use crate::{Place, ProblemKind, TaxonomyError};

/// Reads a table whose first line may name its columns.
pub(super) fn read(
    text: &str,
    delimiter: char,
    options: &ParseOptions,
    found: &mut Found,
) -> Result<(), TaxonomyError> {
    let mut records = Records::new(text, delimiter);
    let Some(header) = records.next()? else { return Err(TaxonomyError::Empty) };
    let mut rows = Vec::new();
    let positions = match Positions::find(&header.fields, &options.columns)? {
        Some(positions) => positions,
        None if header.fields.len() == 1 => {
            rows.push(Record { line: header.line, fields: header.fields.clone() });
            Positions { name: Some(0), ..Positions::default() }
        }
        None => return Err(TaxonomyError::NoNameColumn { found: header.fields }),
    };
    while let Some(record) = records.next()? {
        // Spreadsheets write rows of nothing but delimiters after the last.
        if record.fields.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        if record.fields.len() != header.fields.len() {
            let (found_fields, expected) = (record.fields.len(), header.fields.len());
            let kind = ProblemKind::FieldCount { found: found_fields, expected };
            found.problems.add(&Place::Line(record.line), kind);
        }
        rows.push(record);
        if rows.len() > MAX_CLASSES {
            return Err(TaxonomyError::TooManyClasses);
        }
    }
    let paths = rows.iter().filter_map(|row| row.fields.get(positions.path?)).map(String::as_str);
    let separator = path_separator(options, paths).to_owned();
    for row in rows {
        let entry = entry(&row, &positions, &separator, found);
        found.entries.push(entry);
    }
    Ok(())
}

/// Reads one name a line; empty lines are left out.
pub(super) fn read_lines(text: &str, found: &mut Found) {
    let lines = text.lines().zip(1u32..).filter(|(line, _)| !line.trim().is_empty());
    // One more than allowed is enough for the refusal.
    for (line, number) in lines.take(MAX_CLASSES + 1) {
        found.entries.push(Entry {
            place: Place::Line(number),
            id: None,
            name: non_empty(line),
            description: None,
            examples: Vec::new(),
            parent: ParentRef::Top,
        });
    }
}

/// The delimiter that stands most often in the first line, outside of quotes; the comma wins ties.
pub(super) fn delimiter_of(text: &str) -> char {
    let mut counts = [(',', 0), (';', 0), ('\t', 0)];
    let mut quoted = false;
    for c in text.trim_start_matches(['\r', '\n']).chars() {
        match c {
            '"' => quoted = !quoted,
            '\n' | '\r' if !quoted => break,
            _ if quoted => {}
            _ => counts.iter_mut().filter(|(d, _)| *d == c).for_each(|(_, count)| *count += 1),
        }
    }
    let most = counts.iter().map(|&(_, count)| count).max().unwrap_or(0);
    counts.iter().find(|&&(_, count)| count == most).map_or(',', |&(delimiter, _)| delimiter)
}

fn entry(row: &Record, positions: &Positions, separator: &str, found: &mut Found) -> Entry {
    let place = Place::Line(row.line);
    let field =
        |position: Option<usize>| row.fields.get(position?).and_then(|text| non_empty(text));
    let parent = match (field(positions.path), field(positions.parent)) {
        (Some(path), None) => {
            ParentRef::Path(path.split(separator).map(|part| part.trim().to_owned()).collect())
        }
        (None, Some(parent)) => ParentRef::Named(parent),
        (None, None) => ParentRef::Top,
        (Some(_), Some(_)) => {
            found.problems.add(&place, ProblemKind::PathAndParent);
            ParentRef::Top
        }
    };
    let examples = field(positions.examples).unwrap_or_default();
    Entry {
        id: field(positions.id),
        name: field(positions.name),
        description: field(positions.description),
        examples: examples.split(['|', '\n']).filter_map(non_empty).collect(),
        parent,
        place,
    }
}

/// Where in a row the fields stand.
#[derive(Default)]
struct Positions {
    id: Option<usize>,
    name: Option<usize>,
    description: Option<usize>,
    examples: Option<usize>,
    parent: Option<usize>,
    path: Option<usize>,
}

impl Positions {
    /// `None` where no column says what a class is called.
    fn find(header: &[String], columns: &Columns) -> Result<Option<Self>, TaxonomyError> {
        let find = |field, chosen: &Option<String>, usual: &[&str]| {
            position(header, field, chosen.as_deref(), usual)
        };
        let positions = Self {
            id: find("id", &columns.id, &["id", "code"])?,
            name: find("name", &columns.name, &["name", "label", "class", "title", "category"])?,
            description: find("description", &columns.description, &["description", "definition"])?,
            examples: find("examples", &columns.examples, &["examples", "example"])?,
            parent: find("parent", &columns.parent, &["parent", "parentid"])?,
            path: find("path", &columns.path, &["path"])?,
        };
        let named = positions.id.or(positions.name).or(positions.path).is_some();
        Ok(named.then_some(positions))
    }
}

/// The column of a field: the chosen one, else the one with the field's own name, else the only
/// one with another usual name.
fn position(
    header: &[String],
    field: &'static str,
    chosen: Option<&str>,
    usual: &[&str],
) -> Result<Option<usize>, TaxonomyError> {
    if let Some(wanted) = chosen {
        return match header.iter().position(|name| name.trim() == wanted.trim()) {
            Some(position) => Ok(Some(position)),
            None => Err(TaxonomyError::NoSuchColumn {
                wanted: wanted.to_owned(),
                found: header.to_vec(),
            }),
        };
    }
    let plain: Vec<String> = header
        .iter()
        .map(|name| name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase())
        .collect();
    let with_name = |wanted: &str| {
        let wanted = wanted.to_owned();
        plain.iter().enumerate().filter(move |(_, name)| **name == wanted).map(|(at, _)| at)
    };
    let mut places: Vec<usize> = with_name(usual[0]).collect();
    if places.is_empty() {
        places = usual[1..].iter().flat_map(|word| with_name(word)).collect();
    }
    match places[..] {
        [] => Ok(None),
        [position] => Ok(Some(position)),
        _ => Err(TaxonomyError::AmbiguousColumn {
            field,
            columns: places.iter().map(|&at| header[at].clone()).collect(),
        }),
    }
}
