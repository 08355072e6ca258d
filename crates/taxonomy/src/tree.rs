//! The tree itself and the questions asked of it.

use std::collections::HashMap;
use std::ops::Range;

use corral_types::BlobHash;

/// The position of a class in [`Taxonomy::classes`].
pub type ClassIndex = u32;

/// One class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Unique in the taxonomy. Where the file gave none: the name if no other class bears it,
    /// else the names from the root down joined by ` > `.
    pub id: String,
    /// Unique among the children of one parent.
    pub name: String,
    pub description: Option<String>,
    /// Texts that belong to the class.
    pub examples: Vec<String>,
    /// The class right above; before this one in the order. `None` at the top.
    pub parent: Option<ClassIndex>,
}

/// An immutable tree (or forest) of classes with at least one class.
///
/// Classes are in depth-first order: parents before children, siblings as listed.
#[derive(Clone, Debug)]
pub struct Taxonomy {
    classes: Vec<Class>,
    /// For each class, the position after the last class under it.
    ends: Vec<ClassIndex>,
    /// For each class, the classes above it.
    depths: Vec<u16>,
    by_id: HashMap<Box<str>, ClassIndex>,
    by_name: HashMap<Box<str>, Vec<ClassIndex>>,
}

impl Taxonomy {
    /// A taxonomy of classes that are already in depth-first order with unique ids, unique
    /// names among siblings, and within the limits: what the builder establishes.
    pub(crate) fn from_ordered(classes: Vec<Class>) -> Self {
        let mut ends: Vec<ClassIndex> = (1..=classes.len() as ClassIndex).collect();
        let mut depths = vec![0u16; classes.len()];
        let mut by_id = HashMap::with_capacity(classes.len());
        let mut by_name: HashMap<Box<str>, Vec<ClassIndex>> = HashMap::with_capacity(classes.len());
        for (index, class) in classes.iter().enumerate() {
            if let Some(parent) = class.parent {
                debug_assert!((parent as usize) < index, "parents stand before children");
                depths[index] = depths[parent as usize] + 1;
            }
            let earlier = by_id.insert(class.id.as_str().into(), index as ClassIndex);
            debug_assert!(earlier.is_none(), "ids are unique");
            by_name.entry(class.name.as_str().into()).or_default().push(index as ClassIndex);
        }
        for index in (0..classes.len()).rev() {
            if let Some(parent) = classes[index].parent {
                ends[parent as usize] = ends[parent as usize].max(ends[index]);
            }
        }
        Self { classes, ends, depths, by_id, by_name }
    }

    /// All classes, parents before children.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The number of classes; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a taxonomy has at least one class")]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// The class at a position.
    ///
    /// # Panics
    /// When the position is not below [`Self::len`].
    pub fn class(&self, index: ClassIndex) -> &Class {
        &self.classes[index as usize]
    }

    /// The class with this id.
    pub fn by_id(&self, id: &str) -> Option<ClassIndex> {
        self.by_id.get(id).copied()
    }

    /// The classes with this name, in order; several when it stands under several parents.
    pub fn by_name(&self, name: &str) -> &[ClassIndex] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The classes at the top, in order.
    pub fn roots(&self) -> impl Iterator<Item = ClassIndex> + '_ {
        self.siblings(0..self.len() as ClassIndex)
    }

    /// The classes right below one, in order.
    pub fn children(&self, index: ClassIndex) -> impl Iterator<Item = ClassIndex> + '_ {
        self.siblings(self.descendants(index))
    }

    /// The positions of all classes below one, which follow it without a gap.
    pub fn descendants(&self, index: ClassIndex) -> Range<ClassIndex> {
        index + 1..self.ends[index as usize]
    }

    /// The classes above one, from its parent up to the top.
    pub fn ancestors(&self, index: ClassIndex) -> impl Iterator<Item = ClassIndex> + '_ {
        std::iter::successors(self.class(index).parent, |&above| self.class(above).parent)
    }

    /// How many classes stand above one: 0 at the top.
    pub fn depth(&self, index: ClassIndex) -> usize {
        usize::from(self.depths[index as usize])
    }

    /// The number of levels: 1 for a flat taxonomy.
    pub fn levels(&self) -> usize {
        self.depths.iter().max().map_or(0, |&deepest| usize::from(deepest) + 1)
    }

    /// The classes with this many above them, in order.
    pub fn level(&self, depth: usize) -> impl Iterator<Item = ClassIndex> + '_ {
        (0..self.len() as ClassIndex).filter(move |&index| self.depth(index) == depth)
    }

    /// The class itself or the one above it that has `depth` classes above; `None` when the
    /// class lies higher than that.
    pub fn ancestor_at(&self, index: ClassIndex, depth: usize) -> Option<ClassIndex> {
        let up = self.depth(index).checked_sub(depth)?;
        std::iter::once(index).chain(self.ancestors(index)).nth(up)
    }

    pub fn is_leaf(&self, index: ClassIndex) -> bool {
        self.ends[index as usize] == index + 1
    }

    /// The classes with none below, in order.
    pub fn leaves(&self) -> impl Iterator<Item = ClassIndex> + '_ {
        (0..self.len() as ClassIndex).filter(|&index| self.is_leaf(index))
    }

    /// The names from the root down to the class.
    pub fn path(&self, index: ClassIndex) -> Vec<&str> {
        let mut names: Vec<&str> = std::iter::once(index)
            .chain(self.ancestors(index))
            .map(|class| self.class(class).name.as_str())
            .collect();
        names.reverse();
        names
    }

    /// The hash of the canonical JSON: two taxonomies with the same version are the same.
    pub fn version(&self) -> BlobHash {
        BlobHash::of(&self.to_json())
    }

    /// The first class of each subtree that the range is made of.
    fn siblings(&self, range: Range<ClassIndex>) -> impl Iterator<Item = ClassIndex> + '_ {
        let first = (range.start < range.end).then_some(range.start);
        std::iter::successors(first, move |&index| {
            Some(self.ends[index as usize]).filter(|&next| next < range.end)
        })
    }
}

impl PartialEq for Taxonomy {
    fn eq(&self, other: &Self) -> bool {
        self.classes == other.classes
    }
}

impl Eq for Taxonomy {}
