//! From published tables to a taxonomy and labelled rows.

use std::collections::{BTreeMap, BTreeSet};

use corral_types::{ErrorKind, Failure};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Found, Recipe};

/// What a recipe made of its files.
pub struct Built {
    /// A CSV file of `id`, `name` and `description`.
    pub taxonomy_csv: String,
    /// One object a line, of `text`, `labels` and `split`.
    pub rows_jsonl: String,
    pub classes: usize,
    pub rows: usize,
    pub test_rows: usize,
    /// Rows that several classes are right for.
    pub ambiguous_rows: usize,
    /// Classes that no row has.
    pub classes_without_rows: usize,
    /// Rows of the tables whose class is none of the taxonomy's, left out.
    pub unknown_rows: usize,
}

/// A table with tabs between its columns and their names in the first line.
struct Table<'t> {
    file: &'t str,
    names: Vec<&'t str>,
    lines: std::str::Lines<'t>,
}

impl<'t> Table<'t> {
    fn open(found: &'t [Found], file: &'t str) -> Result<Self, Failure> {
        let text = found.iter().find(|found| found.file == file).map(|found| found.text.as_str());
        let text = text.ok_or_else(|| invalid(format!("the recipe names no source `{file}`")))?;
        let mut lines = text.lines();
        let names = lines.next().unwrap_or_default().split('\t').map(str::trim).collect();
        Ok(Self { file, names, lines })
    }

    fn column(&self, name: &str) -> Result<usize, Failure> {
        self.names.iter().position(|found| *found == name).ok_or_else(|| {
            let columns = self.names.join(", ");
            invalid(format!("{} has no column `{name}`; its columns are {columns}", self.file))
        })
    }

    /// The cells of some columns, row by row; a row that is too short for one has it empty.
    fn rows<const N: usize>(self, columns: [usize; N]) -> impl Iterator<Item = [&'t str; N]> {
        self.lines.filter(|line| !line.trim().is_empty()).map(move |line| {
            let cells: Vec<&str> = line.split('\t').collect();
            columns.map(|column| cells.get(column).copied().unwrap_or_default().trim())
        })
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorKind::Invalid, message)
}

/// Makes the classes and rows of a recipe: each distinct text, lower-cased, once, with all its
/// classes. The same files make the same bytes.
///
/// # Errors
/// When a table lacks a column, or there is nothing to learn from.
pub fn build(recipe: &Recipe, found: &[Found]) -> Result<Built, Failure> {
    let classes = &recipe.classes;
    let table = Table::open(found, &classes.file)?;
    let columns = [
        table.column(&classes.id)?,
        table.column(&classes.name)?,
        table.column(&classes.description)?,
    ];
    let mut taxonomy_csv = "id,name,description\n".to_owned();
    let mut known = BTreeSet::new();
    for [id, name, description] in table.rows(columns) {
        if !id.is_empty() && known.insert(id) {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let cells = [quoted(id), quoted(name), quoted(description)];
            taxonomy_csv += &(cells.join(",") + "\n");
        }
    }
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut unknown_rows = 0;
    for source in &recipe.texts {
        let table = Table::open(found, &source.file)?;
        let columns = [table.column(&source.text)?, table.column(&source.label)?];
        for [text, label] in table.rows(columns) {
            let text = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
            if text.is_empty() {
                continue;
            }
            if known.contains(label) {
                texts.entry(text).or_default().insert(label);
            } else {
                unknown_rows += 1;
            }
        }
    }
    if texts.is_empty() {
        return Err(invalid("the files hold no text of a known class".to_owned()));
    }
    let (mut rows_jsonl, mut test_rows) = (String::new(), 0);
    let mut used = BTreeSet::new();
    for (text, labels) in &texts {
        let is_test = is_test(text, recipe.train.test_one_in);
        test_rows += usize::from(is_test);
        let split = if is_test { "test" } else { "train" };
        used.extend(labels.iter().copied());
        rows_jsonl += &json!({"text": text, "labels": labels, "split": split}).to_string();
        rows_jsonl.push('\n');
    }
    Ok(Built {
        taxonomy_csv,
        rows_jsonl,
        classes: known.len(),
        rows: texts.len(),
        test_rows,
        ambiguous_rows: texts.values().filter(|labels| labels.len() > 1).count(),
        classes_without_rows: known.len() - used.len(),
        unknown_rows,
    })
}

/// Whether a text is kept to measure with: by its hash, so that it is in every edition.
fn is_test(text: &str, one_in: u64) -> bool {
    let digest = Sha256::digest(text.as_bytes());
    let (first, _) = digest.split_first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(*first).is_multiple_of(one_in)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::recipe;

    fn found(file: &str, text: &str) -> Found {
        Found {
            file: file.to_owned(),
            address: String::new(),
            text: text.to_owned(),
            sha256: String::new(),
            is_expected: false,
        }
    }

    #[test]
    fn each_distinct_text_stands_once_with_all_its_classes() {
        let recipe = recipe("occupations").unwrap();
        let files = [
            found(
                "Occupation Data.txt",
                "O*NET-SOC Code\tTitle\tDescription\n\
                 11-1011.00\tChief Executives\tThey \"lead\".\n29-1141.00\tNurses\tCare\n\
                 53-0000.00\tDrivers\tDrive\n",
            ),
            found(
                "Alternate Titles.txt",
                "O*NET-SOC Code\tAlternate Title\tShort Title\tSource(s)\n\
                 11-1011.00\tHead  of Care\tn/a\t02\n29-1141.00\thead of care\tn/a\t02\n\
                 99-9999.00\tGhost\tn/a\t02\n29-1141.00\tRN\n",
            ),
            found(
                "Sample of Reported Titles.txt",
                "O*NET-SOC Code\tReported Job Title\tShown in My Next Move\n29-1141.00\tRN\tY\n",
            ),
        ];
        let built = build(&recipe, &files).unwrap();
        let rows: Vec<&str> = built.rows_jsonl.lines().collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains(r#""labels":["11-1011.00","29-1141.00"]"#), "{}", rows[0]);
        assert!(rows[0].contains(r#""text":"head of care""#), "{}", rows[0]);
        assert!(built.taxonomy_csv.contains(r#""They ""lead"".""#));
        assert_eq!((built.classes, built.classes_without_rows), (3, 1));
        assert_eq!((built.ambiguous_rows, built.unknown_rows), (1, 1));

        let wrong = [found("Occupation Data.txt", "Code\tTitle\n")];
        let failure = build(&recipe, &wrong).err().unwrap();
        assert!(failure.message.contains("`O*NET-SOC Code`") && failure.message.contains("Code,"));
    }

    #[test]
    fn the_published_occupations_are_those_that_the_recipe_was_written_for() {
        let Some(data) = std::env::var_os("CORRAL_TEST_DATA") else {
            println!("skipped: CORRAL_TEST_DATA names no folder");
            return;
        };
        let recipe = recipe("occupations").unwrap();
        let folder = std::path::Path::new(&data).join("onet");
        let found = crate::hub::find_in(&recipe, &folder).unwrap();
        assert!(found.iter().all(|found| found.is_expected));
        let built = build(&recipe, &found).unwrap();
        assert_eq!((built.classes, built.rows), (1_016, 42_877));
        assert_eq!((built.unknown_rows, built.classes_without_rows), (0, 0));
        let share = built.test_rows as f64 / built.rows as f64;
        assert!((0.09..0.11).contains(&share), "{share}");
    }
}
