//! What a taxonomy says of its classes, as texts to learn from.

use corral_taxonomy::{Class, ClassIndex, Taxonomy};

use crate::folds::groups_by_text;
use crate::options::ClassTexts;

/// The texts of a taxonomy's classes, names so written that they read as words.
#[derive(Clone, Debug, Default)]
pub struct ClassTextRows {
    texts: Vec<(ClassIndex, String)>,
    /// The name of each class within phrases, for a task that has nothing else to go by.
    phrases: Vec<(ClassIndex, String)>,
}

/// How names are put into phrases. A class of which nothing but the name is known gets texts
/// from them, so that a classifier sees its name in company and folds have something to hold out.
const PHRASES: [(&str, &str); 2] = [("a text about ", ""), ("I have a question about ", ".")];

impl ClassTextRows {
    /// The texts of all classes of a taxonomy.
    pub fn of(taxonomy: Option<&Taxonomy>, which: ClassTexts) -> Self {
        let mut rows = Self::default();
        let classes = taxonomy.map_or(&[][..], Taxonomy::classes);
        for (index, class) in classes.iter().enumerate() {
            let index = index as ClassIndex;
            let texts = own_texts(class, which).into_iter().filter(|text| !text.trim().is_empty());
            rows.texts.extend(texts.map(|text| (index, text)));
            let name = readable(&class.name);
            let phrases = PHRASES.iter().map(|(before, after)| format!("{before}{name}{after}"));
            rows.phrases.extend(phrases.map(|phrase| (index, phrase)));
        }
        rows
    }

    /// The texts of the classes that are `wanted`, less those that are also a tested text,
    /// which would be told its answer.
    pub fn wanted(&self, wanted: &[bool], tested: &[&str]) -> Vec<(ClassIndex, &str)> {
        without_tested(chosen(&self.texts, wanted), tested)
    }

    /// The names in phrases of the classes that are `wanted`.
    pub fn phrases(&self, wanted: &[bool]) -> Vec<(ClassIndex, &str)> {
        chosen(&self.phrases, wanted)
    }
}

/// Which classes a model is to tell apart: the leaves, and inner classes that rows carry.
pub fn wanted_classes(taxonomy: &Taxonomy, carried: impl Iterator<Item = ClassIndex>) -> Vec<bool> {
    let mut wanted: Vec<bool> =
        (0..taxonomy.len()).map(|class| taxonomy.is_leaf(class as ClassIndex)).collect();
    carried.for_each(|class| wanted[class as usize] = true);
    wanted
}

fn own_texts(class: &Class, which: ClassTexts) -> Vec<String> {
    let examples = class.examples.iter().cloned();
    match which {
        ClassTexts::All => std::iter::once(readable(&class.name))
            .chain(class.description.clone())
            .chain(examples)
            .collect(),
        ClassTexts::Examples => examples.collect(),
        ClassTexts::None => Vec::new(),
    }
}

/// A name as words: `card_arrival`, `Sci/Tech` and `cardArrival` are two words each.
fn readable(name: &str) -> String {
    let is_one_word = !name.contains(char::is_whitespace);
    let mut out = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    for letter in name.chars() {
        if is_one_word && letter.is_uppercase() && before.is_lowercase() {
            out.push(' ');
        }
        out.push(if matches!(letter, '_' | '/') { ' ' } else { letter });
        before = letter;
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn chosen<'a>(texts: &'a [(ClassIndex, String)], wanted: &[bool]) -> Vec<(ClassIndex, &'a str)> {
    let kept = texts.iter().filter(|(class, _)| wanted[*class as usize]);
    kept.map(|(class, text)| (*class, text.as_str())).collect()
}

/// The class texts that are not also the text of a test row, which would be told its answer.
fn without_tested<'a>(
    class_texts: Vec<(ClassIndex, &'a str)>,
    tested: &[&str],
) -> Vec<(ClassIndex, &'a str)> {
    let own = class_texts.iter().map(|(_, text)| *text);
    let texts: Vec<&str> = tested.iter().copied().chain(own).collect();
    let groups = groups_by_text(&texts);
    // Groups are numbered by first appearance: those below the mark appear among the tested.
    let mark = groups[..tested.len()].iter().max().map_or(0, |&last| last + 1);
    let kept = class_texts.into_iter().zip(&groups[tested.len()..]);
    kept.filter(|(_, group)| **group >= mark).map(|(text, _)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_text_that_a_test_row_has_is_not_learnt_from() {
        let texts = vec![(0, "Bakers"), (0, "make bread"), (1, "Welders")];
        let kept = without_tested(texts.clone(), &["bakers ", "join metal"]);
        assert_eq!(kept, [(0, "make bread"), (1, "Welders")]);
        assert_eq!(without_tested(texts.clone(), &[]), texts);
    }

    #[test]
    fn names_become_words() {
        for (name, words) in [
            ("card_arrival", "card arrival"),
            ("Sci/Tech", "Sci Tech"),
            ("cardArrival", "card Arrival"),
            ("Chief Executives", "Chief Executives"),
            ("McDonald sells burgers", "McDonald sells burgers"),
            ("USB", "USB"),
            ("__", ""),
        ] {
            assert_eq!(readable(name), words);
        }
    }
}
