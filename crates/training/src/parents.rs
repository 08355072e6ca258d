//! A level of a taxonomy between its root and a model's classes.

use corral_taxonomy::{ClassIndex, Taxonomy};

use crate::learner::blocks_for;
use crate::metrics::Levels;

/// Which node of one level each class of a model lies under. With it, a learner can choose
/// among the nodes first and then among the classes of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parents {
    /// By class.
    of_class: Vec<u32>,
    /// The classes of each parent, in rising order.
    children: Vec<Vec<u32>>,
}

impl Parents {
    /// The parents of classes, by their numbers.
    pub fn new(of_class: Vec<u32>) -> Self {
        let count = of_class.iter().max().map_or(0, |&last| last as usize + 1);
        let mut children = vec![Vec::new(); count];
        for (class, &parent) in (0u32..).zip(&of_class) {
            children[parent as usize].push(class);
        }
        Self { of_class, children }
    }

    /// The level of a taxonomy at which a row is compared with the fewest classes; `None` where
    /// no level is less work than all classes at once.
    pub fn of(taxonomy: &Taxonomy, classes: &[ClassIndex]) -> Option<Self> {
        let levels = Levels::of(taxonomy, classes)?;
        let all = blocks_for(classes.len()) as f64;
        let parents = levels.nodes().map(|nodes| Self::new(nodes.to_vec()));
        parents
            .filter(|parents| parents.count() > 1 && parents.blocks_a_row() < all)
            .min_by(|a, b| a.blocks_a_row().total_cmp(&b.blocks_a_row()))
    }

    pub const fn count(&self) -> usize {
        self.children.len()
    }

    pub const fn class_count(&self) -> usize {
        self.of_class.len()
    }

    /// The parent of a class.
    pub fn of_class(&self, class: u32) -> u32 {
        self.of_class[class as usize]
    }

    /// The parent of each class, as heads keep it.
    pub fn of_classes(&self) -> Vec<u16> {
        self.of_class.iter().map(|&parent| parent as u16).collect()
    }

    /// The classes of a parent, in rising order.
    pub fn children(&self, parent: u32) -> &[u32] {
        &self.children[parent as usize]
    }

    /// The blocks of classes that a row is compared with on average, if all classes have as
    /// many rows.
    pub fn blocks_a_row(&self) -> f64 {
        let below = |children: &Vec<u32>| match children.len() {
            0 | 1 => 0.0,
            count => (count * blocks_for(count)) as f64,
        };
        let below: f64 = self.children.iter().map(below).sum();
        blocks_for(self.count()) as f64 + below / self.class_count().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_taxonomy::{MissingParents, ParseOptions, parse};

    /// A taxonomy of codes whose first one and two characters are its inner levels.
    fn taxonomy(codes: &[String]) -> (Taxonomy, Vec<ClassIndex>) {
        let lines = format!(
            "id,name\n{}",
            codes.iter().map(|code| format!("{code},{code}\n")).collect::<String>()
        );
        let options = ParseOptions {
            prefix_lengths: vec![1, 2],
            missing_parents: MissingParents::Create,
            ..ParseOptions::default()
        };
        let taxonomy = parse("codes.csv", lines.as_bytes(), &options).unwrap();
        let leaves = (0..taxonomy.classes().len() as ClassIndex)
            .filter(|&class| taxonomy.class(class).id.len() == 4)
            .collect();
        (taxonomy, leaves)
    }

    fn codes(first: usize, second: usize, third: usize) -> Vec<String> {
        let letter = |at: usize| char::from(b'a' + at as u8);
        let mut codes = Vec::new();
        for a in 0..first {
            for b in 0..second {
                codes.extend((0..third).map(|c| format!("{}{}{c:02}", letter(a), letter(b))));
            }
        }
        codes
    }

    #[test]
    fn the_level_of_least_work_is_taken() {
        let (tree, leaves) = taxonomy(&codes(10, 4, 4));
        let parents = Parents::of(&tree, &leaves).unwrap();
        // Under 10 classes 16 each, not under 40 classes 4 each.
        assert_eq!((parents.count(), parents.class_count()), (10, 160));
        assert_eq!(parents.blocks_a_row(), 2.0);
        for class in 0..160 {
            assert!(parents.children(parents.of_class(class)).contains(&class));
        }
        let (tree, leaves) = taxonomy(&codes(2, 16, 16));
        assert_eq!(Parents::of(&tree, &leaves).unwrap().count(), 32);
    }

    #[test]
    fn a_level_that_saves_nothing_is_none() {
        // Twelve classes are one block anyway; a root of one child is no choice.
        for codes in [codes(3, 2, 2), codes(1, 1, 40)] {
            let (tree, leaves) = taxonomy(&codes);
            assert_eq!(Parents::of(&tree, &leaves), None);
        }
        // Nor is there any in a list of labels.
        let flat = Taxonomy::from_labels(["a", "b", "c"]).unwrap();
        assert_eq!(Parents::of(&flat, &[0, 1, 2]), None);
    }

    #[test]
    fn children_without_siblings_are_no_work() {
        let parents = Parents::new(vec![0, 1, 1, 2]);
        assert_eq!(parents.blocks_a_row(), 1.5);
        assert_eq!(parents.children(1), [1, 2]);
    }
}
