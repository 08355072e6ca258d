//! Which class lies under which.

use std::collections::HashMap;

use corral_types::nearest;

use super::build::Draft;
use super::{ParentRef, Problems};
use crate::limits::{MAX_CHARS_WITH_NEAREST, MAX_CLASSES, MAX_NAMES_WITH_NEAREST, MAX_NEAREST};
use crate::{MissingParents, Place, ProblemKind, TaxonomyError};

/// The parent of each draft. Adds the drafts that paths imply and, where asked for, missing
/// parents. A parent that cannot be found becomes a problem, and its child stands at the top.
pub(super) fn resolve_parents(
    drafts: &mut Vec<Draft>,
    prefix_lengths: &[usize],
    missing_parents: MissingParents,
    problems: &mut Problems,
) -> Result<Vec<Option<usize>>, TaxonomyError> {
    let mut parents = place_paths(drafts)?;
    let mut directory = Directory::new(drafts, problems);
    let mut index = 0;
    while index < drafts.len() {
        parents.resize(drafts.len(), None);
        let wanted = match &drafts[index].parent {
            ParentRef::Entry(parent) => {
                parents[index] = Some(*parent);
                None
            }
            ParentRef::Named(parent) => Some(parent.clone()),
            ParentRef::Top if parents[index].is_none() => prefix(&drafts[index], prefix_lengths),
            ParentRef::Top | ParentRef::Path(_) => None,
        };
        if let Some(wanted) = wanted {
            parents[index] = match directory.find(&wanted) {
                Lookup::One(parent) => {
                    if drafts[parent].place == Place::Implied {
                        drafts[parent].order = drafts[parent].order.min(drafts[index].order);
                    }
                    Some(parent)
                }
                Lookup::None if missing_parents == MissingParents::Create => {
                    let order = drafts[index].order;
                    if drafts.len() == MAX_CLASSES {
                        return Err(TaxonomyError::TooManyClasses);
                    }
                    directory.add(drafts.len(), wanted.clone());
                    drafts.push(Draft::implied(Some(wanted.clone()), wanted, order));
                    Some(drafts.len() - 1)
                }
                lookup => {
                    let kind = directory.problem(&drafts[index], wanted, lookup);
                    problems.add(&drafts[index].place, kind);
                    None
                }
            };
        }
        index += 1;
    }
    Ok(parents)
}

/// The longest of the upper levels' prefixes of a class's id.
fn prefix(draft: &Draft, lengths: &[usize]) -> Option<String> {
    let id = draft.id.as_ref().unwrap_or(&draft.name);
    let chars = id.chars().count();
    let &length = lengths.iter().rfind(|&&length| length < chars)?;
    Some(id.chars().take(length).collect())
}

/// The parents of the drafts that have paths; the classes those pass through are added.
fn place_paths(drafts: &mut Vec<Draft>) -> Result<Vec<Option<usize>>, TaxonomyError> {
    struct Step {
        above: Option<usize>,
        name: String,
        draft: Option<usize>,
        order: usize,
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut known: HashMap<(Option<usize>, String), usize> = HashMap::new();
    let mut ends: Vec<Option<usize>> = vec![None; drafts.len()];
    if !drafts.iter().any(|draft| matches!(draft.parent, ParentRef::Path(_))) {
        return Ok(ends);
    }
    for (index, draft) in drafts.iter().enumerate() {
        let parts = match &draft.parent {
            ParentRef::Path(parts) => parts.as_slice(),
            ParentRef::Top if !draft.name.is_empty() => std::slice::from_ref(&draft.name),
            _ => continue,
        };
        let mut above = None;
        for name in parts {
            let step = *known.entry((above, name.clone())).or_insert_with(|| {
                steps.push(Step { above, name: name.clone(), draft: None, order: draft.order });
                steps.len() - 1
            });
            above = Some(step);
        }
        ends[index] = above;
        if let Some(step) = above {
            steps[step].draft.get_or_insert(index);
        }
        if steps.len() > MAX_CLASSES + drafts.len() {
            return Err(TaxonomyError::TooManyClasses);
        }
    }
    for step in &mut steps {
        if step.draft.is_none() {
            if drafts.len() == MAX_CLASSES {
                return Err(TaxonomyError::TooManyClasses);
            }
            step.draft = Some(drafts.len());
            drafts.push(Draft::implied(None, step.name.clone(), step.order));
        }
    }
    let above = |step: usize| steps[step].above.and_then(|above| steps[above].draft);
    let mut parents: Vec<Option<usize>> = ends.iter().map(|end| end.and_then(above)).collect();
    parents.resize(drafts.len(), None);
    for (index, step) in steps.iter().enumerate() {
        let draft = step.draft.expect("every step has a draft by now");
        if draft >= ends.len() {
            parents[draft] = above(index);
        }
    }
    Ok(parents)
}

enum Lookup {
    None,
    One(usize),
    Several(usize),
}

/// The classes by id and by name, as parents are referred to.
struct Directory {
    by_id: HashMap<String, usize>,
    /// The first class with a name, and how many there are.
    by_name: HashMap<String, (usize, usize)>,
    searches_left: usize,
}

impl Directory {
    fn new(drafts: &[Draft], problems: &mut Problems) -> Self {
        let mut by_id: HashMap<String, usize> = HashMap::with_capacity(drafts.len());
        let mut by_name: HashMap<String, (usize, usize)> = HashMap::with_capacity(drafts.len());
        for (index, draft) in drafts.iter().enumerate() {
            if let Some(id) = &draft.id {
                let first = *by_id.entry(id.clone()).or_insert(index);
                if first != index {
                    let first = drafts[first].place.clone();
                    let kind = ProblemKind::DuplicateId { id: id.clone(), first };
                    problems.add(&draft.place, kind);
                }
            }
            if !draft.name.is_empty() {
                by_name.entry(draft.name.clone()).or_insert((index, 0)).1 += 1;
            }
        }
        Self { by_id, by_name, searches_left: MAX_NAMES_WITH_NEAREST }
    }

    fn add(&mut self, index: usize, id: String) {
        self.by_id.insert(id, index);
    }

    fn find(&self, wanted: &str) -> Lookup {
        match (self.by_id.get(wanted), self.by_name.get(wanted)) {
            (Some(&index), _) | (None, Some(&(index, 1))) => Lookup::One(index),
            (None, Some(&(_, count))) => Lookup::Several(count),
            (None, None) => Lookup::None,
        }
    }

    fn problem(&mut self, draft: &Draft, parent: String, lookup: Lookup) -> ProblemKind {
        let name = draft.id.clone().unwrap_or_else(|| draft.name.clone());
        if let Lookup::Several(count) = lookup {
            return ProblemKind::AmbiguousParent { name, parent, count };
        }
        let mut like = Vec::new();
        if self.searches_left > 0 && parent.chars().count() <= MAX_CHARS_WITH_NEAREST {
            self.searches_left -= 1;
            let known = self.by_id.keys().chain(self.by_name.keys()).map(String::as_str);
            like =
                nearest(&parent, known, 2 * MAX_NEAREST).into_iter().map(str::to_owned).collect();
            // A text that is both an id and a name came twice, side by side.
            like.dedup();
            like.truncate(MAX_NEAREST);
        }
        ProblemKind::UnknownParent { name, parent, nearest: like }
    }
}

/// Every cycle among the classes, each once, from its first member upwards.
pub(super) fn cycles(parents: &[Option<usize>]) -> Vec<Vec<usize>> {
    // The walk in which a class was first met; a walk that meets itself has closed a cycle.
    let mut met_in: Vec<Option<usize>> = vec![None; parents.len()];
    let mut cycles = Vec::new();
    for start in 0..parents.len() {
        let mut at = start;
        while met_in[at].is_none() {
            met_in[at] = Some(start);
            match parents[at] {
                Some(parent) => at = parent,
                None => break,
            }
        }
        let closed = parents[at].is_some() && met_in[at] == Some(start);
        if closed {
            let mut members = vec![at];
            members.extend(
                std::iter::successors(parents[at], |&member| parents[member])
                    .take_while(|&member| member != at),
            );
            let first = (0..members.len()).min_by_key(|&i| members[i]).unwrap_or(0);
            members.rotate_left(first);
            cycles.push(members);
        }
    }
    cycles
}

/// How many classes stand above each; `None` for those on or below a cycle.
pub(super) fn depths(parents: &[Option<usize>]) -> Vec<Option<usize>> {
    #[derive(Clone, Copy)]
    enum State {
        Unseen,
        OnTheWay,
        Known(Option<usize>),
    }
    let mut states = vec![State::Unseen; parents.len()];
    let mut way = Vec::new();
    for start in 0..parents.len() {
        let mut at = start;
        let mut depth = loop {
            match states[at] {
                State::Known(depth) => break depth.map(|depth| depth + 1),
                State::OnTheWay => break None,
                State::Unseen => {}
            }
            states[at] = State::OnTheWay;
            way.push(at);
            match parents[at] {
                Some(parent) => at = parent,
                None => break Some(0),
            }
        };
        while let Some(member) = way.pop() {
            states[member] = State::Known(depth);
            depth = depth.map(|depth| depth + 1);
        }
    }
    states
        .into_iter()
        .map(|state| match state {
            State::Known(depth) => depth,
            State::Unseen | State::OnTheWay => None,
        })
        .collect()
}
