//! From the labels of a data set to classes.

use std::collections::BTreeSet;

use corral_types::nearest;

use crate::limits::{MAX_CHARS_WITH_NEAREST, MAX_NAMES_WITH_NEAREST, MAX_NEAREST};
use crate::parse::{Entry, ParentRef, Problems, build};
use crate::{ClassIndex, MissingParents, Place, Taxonomy, TaxonomyError};

/// Which labels of a data set name classes of a taxonomy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelMatch {
    /// In the order the labels were given.
    pub matched: Vec<MatchedLabel>,
    /// The most frequent first.
    pub unknown: Vec<UnknownLabel>,
}

/// A label that names a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedLabel {
    pub label: String,
    pub class: ClassIndex,
    /// The rows that carry the label.
    pub count: u64,
}

/// A label that names no class, or no single one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLabel {
    pub label: String,
    /// The rows that carry the label.
    pub count: u64,
    pub why: Unresolved,
    /// For an absent label, ids and names like it (looked for in the most frequent
    /// [`MAX_NAMES_WITH_NEAREST`] only); for an ambiguous one, the ids of the classes it could mean.
    pub nearest: Vec<String>,
}

/// Why a label names no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// Neither an id nor a name.
    Absent,
    /// The name of several classes, under different parents.
    Ambiguous,
}

impl Taxonomy {
    /// The flat taxonomy of the labels found in a data set: distinct, in byte order, each both
    /// id and name of its class. Empty labels are rows without one and are left out.
    ///
    /// # Errors
    /// When there is no label, or labels are beyond the limits.
    pub fn from_labels<'a>(
        labels: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TaxonomyError> {
        let distinct: BTreeSet<&str> =
            labels.into_iter().map(str::trim).filter(|label| !label.is_empty()).collect();
        let entries = distinct
            .into_iter()
            .map(|label| Entry {
                place: Place::Implied,
                id: Some(label.to_owned()),
                name: Some(label.to_owned()),
                description: None,
                examples: Vec::new(),
                parent: ParentRef::Top,
            })
            .collect();
        build(entries, &[], MissingParents::Refuse, Problems::default())
    }

    /// The class that a label names: by id, else by name where only one class bears it. Case
    /// counts; white space around the label does not.
    ///
    /// # Errors
    /// When no class bears it, or several do.
    pub fn resolve(&self, label: &str) -> Result<ClassIndex, Unresolved> {
        let label = label.trim();
        match (self.by_id(label), self.by_name(label)) {
            (Some(class), _) | (None, &[class]) => Ok(class),
            (None, []) => Err(Unresolved::Absent),
            (None, _) => Err(Unresolved::Ambiguous),
        }
    }

    /// Which of these labels, each with the rows that carry it, name which classes.
    pub fn match_labels<'a>(&self, labels: impl IntoIterator<Item = (&'a str, u64)>) -> LabelMatch {
        let mut result = LabelMatch::default();
        for (label, count) in labels {
            let label = label.to_owned();
            match self.resolve(&label) {
                Ok(class) => result.matched.push(MatchedLabel { label, class, count }),
                Err(why) => {
                    result.unknown.push(UnknownLabel { label, count, why, nearest: Vec::new() });
                }
            }
        }
        result.unknown.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.label.cmp(&b.label)));
        for unknown in result.unknown.iter_mut().take(MAX_NAMES_WITH_NEAREST) {
            unknown.nearest = match unknown.why {
                Unresolved::Absent => self.nearest_names(&unknown.label),
                Unresolved::Ambiguous => self
                    .by_name(unknown.label.trim())
                    .iter()
                    .map(|&class| self.class(class).id.clone())
                    .collect(),
            };
        }
        result
    }

    /// The ids and names most like a text, nearest first; none for a text longer than
    /// [`MAX_CHARS_WITH_NEAREST`].
    pub fn nearest_names(&self, wanted: &str) -> Vec<String> {
        if wanted.chars().count() > MAX_CHARS_WITH_NEAREST {
            return Vec::new();
        }
        let known: BTreeSet<&str> =
            self.classes().iter().flat_map(|class| [class.id.as_str(), &class.name]).collect();
        nearest(wanted, known, MAX_NEAREST).into_iter().map(str::to_owned).collect()
    }
}
