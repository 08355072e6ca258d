//! The classes of a model: ids, names and the tree they form.

use crate::model::{ModelError, PredictError};

/// Steps from a class to its root. Taxonomies of the world have about ten levels; a damaged
/// table that runs in a circle is left after so many steps.
pub const MAX_DEPTH: usize = 64;
/// Classes of one model, inner classes of the tree included.
pub const MAX_CLASSES: usize = 1 << 20;
/// What separates the steps of a path.
pub const PATH_SEPARATOR: char = '/';
const NO_PARENT: u32 = u32::MAX;

/// A class as a model is given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassEntry {
    pub id: String,
    pub name: String,
    /// The place of the parent in the same list.
    pub parent: Option<u32>,
}

/// A class as a model answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRef<'a> {
    pub index: u32,
    pub id: &'a str,
    pub name: &'a str,
    pub parent: Option<u32>,
}

/// The outputs of a model to which an answer is restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSubset {
    /// For each output, whether it is within.
    pub(crate) within: Vec<bool>,
    pub(crate) count: usize,
}

impl ClassSubset {
    /// The number of outputs within.
    pub const fn len(&self) -> usize {
        self.count
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn contains(&self, output: usize) -> bool {
        self.within.get(output).copied().unwrap_or(false)
    }
}

/// The class table over the arrays of a model file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassTable<'a> {
    /// Where each class's id ends in `text`, and behind it where its name ends.
    pub ends: &'a [u32],
    pub text: &'a [u8],
    pub parents: &'a [u32],
    /// The class of each output of the heads.
    pub outputs: &'a [u32],
}

/// The arrays of a class table, owned.
pub(crate) struct ClassArrays {
    pub ends: Vec<u32>,
    pub text: Vec<u8>,
    pub parents: Vec<u32>,
}

impl ClassArrays {
    /// Lays classes out, after checking that ids are not empty and differ, and that parents
    /// make a tree.
    pub fn build(classes: &[ClassEntry]) -> Result<Self, ModelError> {
        if classes.is_empty() || classes.len() > MAX_CLASSES {
            return Err(ModelError::ClassCount { count: classes.len() });
        }
        let mut ids: Vec<&str> = classes.iter().map(|class| class.id.as_str()).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ModelError::ClassTwice { id: pair[0].to_owned() });
        }
        if ids[0].is_empty() {
            return Err(ModelError::ClassWithoutId);
        }
        for class in classes {
            let mut at = class.parent;
            let mut depth = 0;
            while let Some(parent) = at {
                let entry = classes.get(parent as usize).filter(|_| depth < MAX_DEPTH);
                let Some(entry) = entry else {
                    return Err(ModelError::ClassParent { id: class.id.clone() });
                };
                at = entry.parent;
                depth += 1;
            }
        }
        let mut arrays = Self { ends: Vec::new(), text: Vec::new(), parents: Vec::new() };
        for class in classes {
            for part in [&class.id, &class.name] {
                arrays.text.extend_from_slice(part.as_bytes());
                let end = u32::try_from(arrays.text.len())
                    .map_err(|_| ModelError::ClassText { bytes: arrays.text.len() })?;
                arrays.ends.push(end);
            }
            arrays.parents.push(class.parent.unwrap_or(NO_PARENT));
        }
        Ok(arrays)
    }
}

impl<'a> ClassTable<'a> {
    pub const fn len(&self) -> usize {
        self.parents.len()
    }

    /// The class at `index`. In a damaged table a text that is none reads as empty.
    pub fn get(&self, index: u32) -> Option<ClassRef<'a>> {
        let parent = *self.parents.get(index as usize)?;
        Some(ClassRef {
            index,
            id: self.part(2 * index as usize),
            name: self.part(2 * index as usize + 1),
            parent: (parent as usize).lt(&self.len()).then_some(parent),
        })
    }

    fn part(&self, part: usize) -> &'a str {
        let start = part.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let end = self.ends.get(part).copied();
        start
            .zip(end)
            .and_then(|(start, end)| self.text.get(start as usize..end as usize))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    pub fn parent(&self, index: u32) -> Option<u32> {
        self.parents.get(index as usize).copied().filter(|&p| (p as usize) < self.len())
    }

    /// The classes from the root to `index`, itself included.
    pub fn path(&self, index: u32) -> Vec<u32> {
        let mut path: Vec<u32> = self.upward(index).collect();
        path.reverse();
        path
    }

    /// The classes from `index`, itself included, to the root.
    pub fn upward(&self, index: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(index), |&at| self.parent(at)).take(MAX_DEPTH + 1)
    }

    /// The outputs whose class has an id, a path of ids or a path of names that starts with
    /// `prefix`, and those below the class that has it as id.
    pub fn subset(&self, prefix: &str) -> Result<ClassSubset, PredictError> {
        let mut path = Vec::with_capacity(MAX_DEPTH + 1);
        let within: Vec<bool> = (self.outputs.iter())
            .map(|&output| {
                path.clear();
                path.extend(self.upward(output).filter_map(|class| self.get(class)));
                let downward = || path.iter().rev();
                path.first().is_some_and(|own| own.id.starts_with(prefix))
                    || path.iter().any(|class| class.id == prefix)
                    || joined_starts_with(downward().map(|class| class.id), prefix)
                    || joined_starts_with(downward().map(|class| class.name), prefix)
            })
            .collect();
        let count = within.iter().filter(|within| **within).count();
        if count == 0 {
            return Err(PredictError::PrefixUnknown { prefix: prefix.chars().take(80).collect() });
        }
        Ok(ClassSubset { within, count })
    }
}

/// Whether the steps, joined by [`PATH_SEPARATOR`], start with `prefix`.
fn joined_starts_with<'a>(steps: impl Iterator<Item = &'a str>, prefix: &str) -> bool {
    let mut rest = prefix;
    for (index, step) in steps.enumerate() {
        if index > 0 && !rest.is_empty() {
            let Some(after) = rest.strip_prefix(PATH_SEPARATOR) else { return false };
            rest = after;
        }
        if step.starts_with(rest) {
            return true;
        }
        let Some(after) = rest.strip_prefix(step) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_paths_are_told() {
        let starts = |prefix| joined_starts_with(["a", "bc", "", "d"].into_iter(), prefix);
        for prefix in ["", "a", "a/", "a/b", "a/bc", "a/bc/", "a/bc//", "a/bc//d"] {
            assert!(starts(prefix), "{prefix}");
        }
        for prefix in ["/", "b", "a/c", "abc", "a/bc/d", "a/bc//d/", "a/bc//de"] {
            assert!(!starts(prefix), "{prefix}");
        }
    }
}
