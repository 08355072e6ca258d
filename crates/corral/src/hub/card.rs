//! The data card: what a model was made from, for whoever decides whether to use it.

use corral_types::display_count;

use super::{Built, Found, Recipe};

/// The card as Markdown.
pub fn data_card(recipe: &Recipe, found: &[Found], built: &Built) -> String {
    let count = |number: usize| display_count(number as u64);
    let mut card = format!("# {}\n\n{}\n\n## Sources\n\n", recipe.title, recipe.about);
    for source in found {
        let edition = match source.is_expected {
            true => "the edition that the recipe was written for",
            false => "another edition than the recipe was written for",
        };
        card += &format!(
            "- {}: {}\n  SHA-256 {}, {edition}\n",
            source.file, source.address, source.sha256
        );
    }
    card += &format!(
        "\n## Licence\n\n{}: {}\n{}\n\n## Sizes\n\n",
        recipe.licence.name, recipe.licence.address, recipe.licence.attribution
    );
    card += &format!(
        "- {} classes, {} of them without a text of their own\n\
         - {} distinct texts: {} to train on, {} to test on\n\
         - {} texts that several classes are right for\n",
        count(built.classes),
        count(built.classes_without_rows),
        count(built.rows),
        count(built.rows - built.test_rows),
        count(built.test_rows),
        count(built.ambiguous_rows)
    );
    if built.unknown_rows > 0 {
        card += &format!("- {} rows of no known class, left out\n", count(built.unknown_rows));
    }
    if !recipe.classes.levels.is_empty() {
        let levels: Vec<String> = recipe.classes.levels.iter().map(u32::to_string).collect();
        card += &format!(
            "- classes above them are the first {} characters of their ids\n",
            levels.join(", ")
        );
    }
    card += &format!("\n## How it was made\n\n{}\n\n## Known limits\n\n", recipe.card.made);
    for limit in &recipe.card.limits {
        card += &format!("- {limit}\n");
    }
    card + "\nHow well it does stands in the model's report (`corral model report NAME`).\n"
}
