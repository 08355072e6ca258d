//! The classes that functions vote for: those of a taxonomy, or those that functions name.

use std::collections::HashMap;

use corral_labels::{Class, Vote};
use corral_taxonomy::Taxonomy;
use corral_types::nearest;

use crate::definition::{Function, Says};
use crate::error::LabelingError;

/// Nearest names given for one that is not there.
const MAX_NEAREST: usize = 3;

/// The classes of a labeling, by their position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    names: Vec<String>,
    positions: HashMap<String, Class>,
    /// The taxonomy they are of; `None` where functions imply them.
    taxonomy: Option<String>,
}

impl Classes {
    /// The classes that functions name, as they come, and after them those of the data set's
    /// labels: an implied taxonomy.
    pub fn implied<'a>(functions: &[Function], labels: impl IntoIterator<Item = &'a str>) -> Self {
        let mut classes = Self::default();
        for name in functions.iter().flat_map(Function::classes) {
            classes.add(&name);
        }
        labels.into_iter().for_each(|label| classes.add(label.trim()));
        classes
    }

    /// The classes of a taxonomy, by id. Functions and labels name them by id or name.
    pub fn of_taxonomy(name: &str, taxonomy: &Taxonomy) -> Self {
        let mut classes = Self { taxonomy: Some(name.to_owned()), ..Self::default() };
        taxonomy.classes().iter().for_each(|class| classes.add(&class.id));
        for (at, class) in taxonomy.classes().iter().enumerate() {
            if taxonomy.resolve(&class.name) == Ok(at as u32) {
                classes.positions.entry(class.name.clone()).or_insert(at as Class);
            }
        }
        classes
    }

    /// The class of a name, which becomes one if it is none.
    pub fn position_or_add(&mut self, name: &str) -> Class {
        self.add(name.trim());
        self.positions[name.trim()]
    }

    fn add(&mut self, name: &str) {
        if !name.is_empty() && !self.positions.contains_key(name) {
            self.positions.insert(name.to_owned(), self.names.len() as Class);
            self.names.push(name.to_owned());
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The taxonomy they are of.
    pub fn taxonomy(&self) -> Option<&str> {
        self.taxonomy.as_deref()
    }

    pub fn name(&self, class: Class) -> &str {
        &self.names[class as usize]
    }

    /// The class of a name or id.
    pub fn position(&self, name: &str) -> Option<Class> {
        self.positions.get(name.trim()).copied()
    }

    /// What a function can vote, in the order of its rule's votes.
    ///
    /// # Errors
    /// When it names a class that is none.
    pub fn votes(&self, function: &Function) -> Result<Vec<Vote>, LabelingError> {
        let all = |names: &[String]| {
            names.iter().map(|name| self.required(function, name)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match &function.says {
            Says::For(names) => vec![Vote::For(all(names)?).normalised()],
            Says::Against(names) => vec![Vote::Against(all(names)?).normalised()],
            Says::ByRule => all(&function.rule.classes())?.into_iter().map(Vote::one).collect(),
        })
    }

    fn required(&self, function: &Function, name: &str) -> Result<Class, LabelingError> {
        self.position(name).ok_or_else(|| {
            let known = self.positions.keys().map(String::as_str);
            let near = nearest(name, known, MAX_NEAREST).into_iter().map(str::to_owned);
            LabelingError::UnknownClass {
                function: function.name.clone(),
                class: name.to_owned(),
                taxonomy: self.taxonomy.as_ref().map_or_else(
                    || "the functions".to_owned(),
                    |taxonomy| format!("the taxonomy {taxonomy}"),
                ),
                nearest: near.collect(),
            }
        })
    }
}
