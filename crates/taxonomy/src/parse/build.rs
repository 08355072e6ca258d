//! From the entries of a file to the tree, or to everything that is wrong with it.

use std::collections::HashMap;

use super::resolve::{cycles, depths, resolve_parents};
use super::{Entry, ParentRef, Problems};
use crate::limits::{
    MAX_CLASSES, MAX_DEPTH, MAX_DESCRIPTION_BYTES, MAX_EXAMPLE_BYTES, MAX_EXAMPLES, MAX_NAME_BYTES,
};
use crate::{Class, ClassIndex, MissingParents, Place, ProblemKind, Taxonomy, TaxonomyError};

/// Between the names of a path that serves as an id.
const ID_PATH_SEPARATOR: &str = " > ";

/// A class on its way into the tree.
pub(super) struct Draft {
    pub place: Place,
    /// As the file gave it.
    pub id: Option<String>,
    pub name: String,
    pub description: Option<String>,
    pub examples: Vec<String>,
    pub parent: ParentRef,
    /// Where among its siblings it stands: the first entry that mentions it.
    pub order: usize,
}

impl Draft {
    /// A class that only its children mention.
    pub fn implied(id: Option<String>, name: String, order: usize) -> Self {
        let (description, examples) = (None, Vec::new());
        Self {
            place: Place::Implied,
            id,
            name,
            description,
            examples,
            parent: ParentRef::Top,
            order,
        }
    }
}

/// The tree of these entries; `problems` are those already found while reading.
pub(crate) fn build(
    entries: Vec<Entry>,
    prefix_lengths: &[usize],
    missing_parents: MissingParents,
    mut problems: Problems,
) -> Result<Taxonomy, TaxonomyError> {
    if entries.len() > MAX_CLASSES {
        return Err(TaxonomyError::TooManyClasses);
    }
    if entries.is_empty() && problems.is_empty() {
        return Err(TaxonomyError::Empty);
    }
    let mut drafts: Vec<Draft> = entries
        .into_iter()
        .enumerate()
        .map(|(order, entry)| draft(entry, order, &mut problems))
        .collect();
    let parents = resolve_parents(&mut drafts, prefix_lengths, missing_parents, &mut problems)?;
    drafts.iter().for_each(|draft| check_fields(draft, &mut problems));
    check_siblings(&drafts, &parents, &mut problems);
    for cycle in cycles(&parents) {
        let members = cycle.iter().map(|&at| called(&drafts[at])).collect();
        problems.add(&drafts[cycle[0]].place, ProblemKind::Cycle { members });
    }
    for (draft, depth) in drafts.iter().zip(depths(&parents)) {
        // Only the first class too deep on each way down: those below it say nothing new.
        if depth == Some(MAX_DEPTH) {
            let name = called(draft);
            let kind = ProblemKind::TooDeep { name, depth: MAX_DEPTH + 1, limit: MAX_DEPTH };
            problems.add(&draft.place, kind);
        }
    }
    problems.refuse()?;
    let ids = ids(&drafts, &parents, &mut problems);
    problems.refuse()?;
    Ok(Taxonomy::from_ordered(in_order(drafts, &parents, ids)))
}

/// Settles what a class is called: its name, else the end of its path, else its id.
fn draft(entry: Entry, order: usize, problems: &mut Problems) -> Draft {
    let Entry { place, id, name, description, examples, mut parent } = entry;
    let mut problem = |kind| problems.add(&place, kind);
    let mut called = name.clone();
    if let ParentRef::Path(parts) = &parent {
        let last = parts.last().cloned();
        let path = || parts.join(ID_PATH_SEPARATOR);
        let wrong = if parts.iter().any(String::is_empty) {
            Some(ProblemKind::EmptyPathPart { path: path() })
        } else if parts.len() > MAX_DEPTH {
            let (name, depth) = (last.clone().unwrap_or_default(), parts.len());
            Some(ProblemKind::TooDeep { name, depth, limit: MAX_DEPTH })
        } else {
            name.filter(|name| Some(name) != last.as_ref())
                .map(|name| ProblemKind::NameNotInPath { name, path: path() })
        };
        called = last;
        if let Some(wrong) = wrong {
            problem(wrong);
            // Without a name it takes part in no further check of names.
            (parent, called) = (ParentRef::Top, Some(String::new()));
        }
    }
    let called = called.or_else(|| id.clone());
    if called.is_none() {
        problem(ProblemKind::EmptyName);
    }
    Draft { place, id, name: called.unwrap_or_default(), description, examples, parent, order }
}

/// How messages name a class: by its id where it has one.
fn called(draft: &Draft) -> String {
    draft.id.clone().unwrap_or_else(|| draft.name.clone())
}

fn check_fields(draft: &Draft, problems: &mut Problems) {
    let mut problem = |kind| problems.add(&draft.place, kind);
    let mut check = |field, text: &str, limit, one_line: bool| {
        if text.len() > limit {
            problem(ProblemKind::TooLong { field, bytes: text.len(), limit });
        }
        let breaks = |c: char| c.is_control() && (one_line || !matches!(c, '\n' | '\r' | '\t'));
        if let Some(found) = text.chars().find(|&c| breaks(c)) {
            problem(ProblemKind::ControlCharacter { field, code: found.into() });
        }
    };
    if let Some(id) = &draft.id {
        check("id", id, MAX_NAME_BYTES, true);
    }
    check("name", &draft.name, MAX_NAME_BYTES, true);
    if let Some(description) = &draft.description {
        check("description", description, MAX_DESCRIPTION_BYTES, false);
    }
    for example in &draft.examples {
        check("example", example, MAX_EXAMPLE_BYTES, false);
    }
    if draft.examples.len() > MAX_EXAMPLES {
        problem(ProblemKind::TooManyExamples { count: draft.examples.len(), limit: MAX_EXAMPLES });
    }
}

fn check_siblings(drafts: &[Draft], parents: &[Option<usize>], problems: &mut Problems) {
    let mut seen: HashMap<(Option<usize>, &str), usize> = HashMap::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate().filter(|(_, draft)| !draft.name.is_empty()) {
        let first = *seen.entry((parents[index], &draft.name)).or_insert(index);
        if first != index {
            let kind = ProblemKind::DuplicateName {
                name: draft.name.clone(),
                parent: parents[index].map(|parent| called(&drafts[parent])),
                first: drafts[first].place.clone(),
            };
            problems.add(&draft.place, kind);
        }
    }
}

/// The id of each class: given, else its name where nothing else is called so, else its path.
fn ids(drafts: &[Draft], parents: &[Option<usize>], problems: &mut Problems) -> Vec<String> {
    let mut uses: HashMap<&str, usize> = HashMap::with_capacity(drafts.len());
    for draft in drafts {
        *uses.entry(&draft.name).or_default() += 1;
        if let Some(id) = draft.id.as_deref().filter(|id| *id != draft.name) {
            *uses.entry(id).or_default() += 1;
        }
    }
    let path = |index: usize| {
        let up = std::iter::successors(Some(index), |&at| parents[at]);
        let mut names: Vec<&str> = up.map(|at| drafts[at].name.as_str()).collect();
        names.reverse();
        names.join(ID_PATH_SEPARATOR)
    };
    let ids: Vec<String> = drafts
        .iter()
        .enumerate()
        .map(|(index, draft)| match &draft.id {
            Some(id) => id.clone(),
            None if uses[draft.name.as_str()] == 1 => draft.name.clone(),
            None => path(index),
        })
        .collect();
    let mut first_with: HashMap<&str, usize> = HashMap::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let mut problem = |kind| {
            problems.add(&drafts[index].place, kind);
        };
        if id.len() > MAX_NAME_BYTES {
            problem(ProblemKind::TooLong { field: "id", bytes: id.len(), limit: MAX_NAME_BYTES });
        }
        let first = *first_with.entry(id).or_insert(index);
        if first != index {
            let first = drafts[first].place.clone();
            problem(ProblemKind::DuplicateId { id: id.clone(), first });
        }
    }
    ids
}

/// The classes depth first, siblings in the order of the file.
fn in_order(drafts: Vec<Draft>, parents: &[Option<usize>], ids: Vec<String>) -> Vec<Class> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    let mut stack: Vec<usize> = Vec::new();
    for (index, parent) in parents.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(index),
            None => stack.push(index),
        }
    }
    // The stack gives its last element first.
    let last_first = |list: &mut Vec<usize>| {
        list.sort_by_key(|&index| std::cmp::Reverse((drafts[index].order, index)));
    };
    last_first(&mut stack);
    children.iter_mut().for_each(last_first);
    let mut positions: Vec<ClassIndex> = vec![0; drafts.len()];
    let mut order = Vec::with_capacity(drafts.len());
    while let Some(index) = stack.pop() {
        positions[index] = order.len() as ClassIndex;
        order.push(index);
        stack.append(&mut children[index]);
    }
    let mut parts: Vec<Option<(Draft, String)>> = drafts.into_iter().zip(ids).map(Some).collect();
    order
        .into_iter()
        .map(|index| {
            let (draft, id) = parts[index].take().expect("each class is visited once");
            Class {
                id,
                name: draft.name,
                description: draft.description,
                examples: draft.examples,
                parent: parents[index].map(|parent| positions[parent]),
            }
        })
        .collect()
}
