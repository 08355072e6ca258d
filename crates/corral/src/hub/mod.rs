//! Recipes that make ready classifiers from public facts. A recipe is a file of the project: it
//! says where the facts are published, under what licence, how they become classes and rows, and
//! what is known of their limits. Nothing of the facts themselves is part of the project.

mod card;
mod rows;
mod sources;

pub use card::data_card;
pub use rows::{Built, build};
pub use sources::{Found, fetch, find_in};

use corral_types::{ErrorKind, Failure, nearest};
use serde::{Deserialize, Serialize};

/// Every recipe there is.
const RECIPES: &[&str] = &[include_str!("../../../../hub/occupations.toml")];

/// How a classifier is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What it is asked for by, and what the endpoint is called unless another name is given.
    pub name: String,
    pub title: String,
    pub about: String,
    pub licence: Licence,
    pub sources: Vec<RecipeSource>,
    pub classes: ClassTable,
    pub texts: Vec<TextTable>,
    pub train: TrainSettings,
    pub card: CardTexts,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    pub name: String,
    pub address: String,
    pub attribution: String,
}

/// A published file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeSource {
    pub file: String,
    pub address: String,
    /// Of the file with its lines ended by LF alone, which servers and tools may change.
    pub sha256: String,
}

/// Which file and columns the classes are read from; files have tabs between their columns, and
/// the columns' names in the first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassTable {
    pub file: String,
    pub id: String,
    pub name: String,
    pub description: String,
    /// Lengths of the ids' prefixes that are classes above.
    pub levels: Vec<u32>,
}

/// Which file and columns texts and their classes are read from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTable {
    pub file: String,
    pub text: String,
    pub label: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    pub task: String,
    pub budget_seconds: u64,
    /// One text of so many is kept to measure with.
    pub test_one_in: u64,
}

/// What a person wrote for the data card.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardTexts {
    pub made: String,
    pub limits: Vec<String>,
}

/// All recipes.
pub fn recipes() -> Vec<Recipe> {
    let read = |text: &&str| toml::from_str(text).expect("the project's own recipes are read");
    RECIPES.iter().map(read).collect()
}

/// The recipe of a name.
///
/// # Errors
/// When there is none, with the nearest.
pub fn recipe(name: &str) -> Result<Recipe, Failure> {
    let all = recipes();
    let names: Vec<String> = all.iter().map(|recipe| recipe.name.clone()).collect();
    all.into_iter().find(|recipe| recipe.name == name).ok_or_else(|| {
        let near = nearest(name, names.iter().map(String::as_str), 1);
        let failure = Failure::new(ErrorKind::NotFound, format!("there is no recipe `{name}`"));
        failure.with_hint(match near.first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`corral hub ls` lists them: {}", names.join(", ")),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_hold_together() {
        for recipe in recipes() {
            let has = |file: &str| recipe.sources.iter().any(|source| source.file == file);
            assert!(has(&recipe.classes.file), "{}", recipe.name);
            assert!(recipe.texts.iter().all(|texts| has(&texts.file)), "{}", recipe.name);
            for source in &recipe.sources {
                assert!(source.address.starts_with("https://"), "{}", source.file);
                assert_eq!(source.sha256.len(), 64, "{}", source.file);
            }
            assert!(recipe.train.test_one_in > 1 && !recipe.card.limits.is_empty());
            assert!(super::recipe(&recipe.name).is_ok());
        }
        let failure = recipe("ocupations").unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean `occupations`?"));
    }
}
