//! Which column of a file is the text, the label, the split, the weight, the shares.

use corral_types::nearest;

use super::error::ImportError;
use super::options::{ColumnChoice, ColumnSelection, ImportOptions};
use crate::limits::Limits;
use crate::manifest::{ROW_ID_COLUMN, SHARES_COLUMN, Schema, WEIGHT_COLUMN};

/// The usual names, compared without case and with `_` for every separator; earlier ones win.
const TEXT_NAMES: &[&str] = &[
    "text",
    "sentence",
    "utterance",
    "content",
    "message",
    "body",
    "document",
    "review",
    "comment",
    "tweet",
    "query",
    "question",
    "sms",
    "post",
    "prompt",
    "input",
    "description",
    "title",
    "headline",
    "texts",
    "sentences",
];
const LABEL_NAMES: &[&str] = &[
    "label",
    "labels",
    "class",
    "classes",
    "category",
    "categories",
    "intent",
    "intents",
    "topic",
    "target",
    "sentiment",
    "tag",
    "tags",
    "class_name",
    "label_name",
    "label_text",
    "class_label",
    "y",
];
const SPLIT_NAMES: &[&str] =
    &["split", "set", "subset", "partition", "dataset_split", "data_split"];

/// Only names that mean nothing else: a column `weight` may be one of parcels.
const WEIGHT_NAMES: &[&str] = &[WEIGHT_COLUMN, "sample_weight"];
const SHARES_NAMES: &[&str] = &[SHARES_COLUMN];

/// What a column of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Text,
    Label,
    Split,
    Weight,
    Shares,
    Other,
    /// A split column that the split of the whole file overrides.
    SplitOfFile,
    Ignored,
}

/// Whether a field looks like a column name: one of the usual names of a role.
pub(crate) fn is_known_column_name(name: &str) -> bool {
    let plain = plain_name(name);
    let roles = [TEXT_NAMES, LABEL_NAMES, SPLIT_NAMES, WEIGHT_NAMES, SHARES_NAMES];
    roles.iter().any(|names| names.contains(&plain.as_str()))
}

fn plain_name(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    lower.chars().map(|c| if matches!(c, ' ' | '-' | '.') { '_' } else { c }).collect()
}

/// The columns with a role, by name; the first file that has one decides for those after it.
#[derive(Debug, Default)]
pub(crate) struct ColumnPlan {
    pub text: Option<String>,
    pub label: Option<String>,
    pub split: Option<String>,
    pub weight: Option<String>,
    pub shares: Option<String>,
}

impl ColumnPlan {
    /// A plan that prefers the columns of the data set that is appended to.
    pub(crate) fn following(base: Option<&Schema>) -> Self {
        base.map_or_else(Self::default, |schema| Self {
            text: Some(schema.text_column.clone()),
            label: schema.label_column.clone(),
            split: schema.split_column.clone(),
            weight: schema.weight_column.clone(),
            shares: schema.shares_column.clone(),
        })
    }

    /// The role of each column of a file. `has_split` says that the whole file is one split,
    /// which makes a split column meaningless.
    pub(crate) fn resolve(
        &mut self,
        file: &str,
        names: &[String],
        options: &ImportOptions,
        has_split: bool,
    ) -> Result<Vec<Role>, ImportError> {
        check_names(file, names, &options.limits)?;
        let search = Search { file, names };
        let text = match &options.text {
            Some(wanted) => search.named("text", wanted)?,
            None => {
                let found = search.usual(self.text.as_deref(), TEXT_NAMES);
                let only = (names.len() == 1).then_some(0);
                found.or(only).ok_or_else(|| ImportError::NoTextColumn {
                    file: file.to_owned(),
                    columns: names.to_vec(),
                })?
            }
        };
        let label = search.chosen("label", &options.label, self.label.as_deref(), LABEL_NAMES)?;
        let split = search.chosen("split", &options.split, self.split.as_deref(), SPLIT_NAMES)?;
        let weight =
            search.chosen("weight", &options.weight, self.weight.as_deref(), WEIGHT_NAMES)?;
        let shares =
            search.chosen("shares", &options.shares, self.shares.as_deref(), SHARES_NAMES)?;
        let mut taken = vec![(text, "text")];
        let mut claim = |found, role, choice| {
            let index = without_clash(found, &taken, role, choice, names)?;
            taken.extend(index.map(|index| (index, role)));
            Ok::<_, ImportError>(index)
        };
        let label = claim(label, "label", &options.label)?;
        let split = claim(split, "split", &options.split)?;
        let weight = claim(weight, "weight", &options.weight)?;
        let shares = claim(shares, "shares", &options.shares)?;
        for (index, role) in taken {
            if names.iter().filter(|name| **name == names[index]).count() > 1 {
                let column = names[index].clone();
                return Err(ImportError::AmbiguousColumn { file: file.to_owned(), role, column });
            }
        }
        self.text.get_or_insert_with(|| names[text].clone());
        if let Some(label) = label {
            self.label.get_or_insert_with(|| names[label].clone());
        }
        if let (Some(split), false) = (split, has_split) {
            self.split.get_or_insert_with(|| names[split].clone());
        }
        if let Some(weight) = weight {
            self.weight.get_or_insert_with(|| names[weight].clone());
        }
        if let Some(shares) = shares {
            self.shares.get_or_insert_with(|| names[shares].clone());
        }
        if let ColumnSelection::Only(kept) = &options.columns {
            for wanted in kept {
                search.named("columns kept", wanted)?;
            }
        }
        let role = |index: usize| {
            if index == text {
                Role::Text
            } else if Some(index) == label {
                Role::Label
            } else if Some(index) == split {
                if has_split { Role::SplitOfFile } else { Role::Split }
            } else if Some(index) == weight {
                Role::Weight
            } else if Some(index) == shares {
                Role::Shares
            } else {
                other_role(&names[index], options)
            }
        };
        Ok((0..names.len()).map(role).collect())
    }

    /// The role of a column that appears after the file's first rows, as a key of a later
    /// JSON object can.
    pub(crate) fn resolve_late(
        &mut self,
        name: &str,
        options: &ImportOptions,
        taken: RolesTaken,
    ) -> Role {
        let plain = plain_name(name);
        let is = |choice: &ColumnChoice, usual: &[&str]| match choice {
            ColumnChoice::Detect => usual.contains(&plain.as_str()),
            ColumnChoice::Named(wanted) => wanted == name,
            ColumnChoice::Absent => false,
        };
        if !taken.label && is(&options.label, LABEL_NAMES) {
            self.label.get_or_insert_with(|| name.to_owned());
            return Role::Label;
        }
        if taken.split != SplitSource::Column && is(&options.split, SPLIT_NAMES) {
            if taken.split == SplitSource::File {
                return Role::SplitOfFile;
            }
            self.split.get_or_insert_with(|| name.to_owned());
            return Role::Split;
        }
        if !taken.weight && is(&options.weight, WEIGHT_NAMES) {
            self.weight.get_or_insert_with(|| name.to_owned());
            return Role::Weight;
        }
        if !taken.shares && is(&options.shares, SHARES_NAMES) {
            self.shares.get_or_insert_with(|| name.to_owned());
            return Role::Shares;
        }
        other_role(name, options)
    }
}

/// The roles that columns of a file have already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RolesTaken {
    pub label: bool,
    pub split: SplitSource,
    pub weight: bool,
    pub shares: bool,
}

/// Where the rows of a file have their split from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SplitSource {
    #[default]
    Nothing,
    Column,
    /// The whole file is one split.
    File,
}

/// Row ids are given by the data set, so a column of that name is not kept.
fn other_role(name: &str, options: &ImportOptions) -> Role {
    let kept = match &options.columns {
        ColumnSelection::All => true,
        ColumnSelection::Only(kept) => kept.iter().any(|kept| kept == name),
    };
    if kept && name != ROW_ID_COLUMN { Role::Other } else { Role::Ignored }
}

/// A column found by its usual name yields to roles that have it; one that was named does not.
fn without_clash(
    found: Option<usize>,
    taken: &[(usize, &'static str)],
    role: &'static str,
    choice: &ColumnChoice,
    names: &[String],
) -> Result<Option<usize>, ImportError> {
    let clash = taken.iter().find(|(index, _)| Some(*index) == found);
    match (clash, choice) {
        (Some(&(index, first)), ColumnChoice::Named(_)) => {
            let column = names[index].clone();
            Err(ImportError::ColumnWithTwoRoles { column, first, second: role })
        }
        (Some(_), ColumnChoice::Detect | ColumnChoice::Absent) => Ok(None),
        (None, _) => Ok(found),
    }
}

fn check_names(file: &str, names: &[String], limits: &Limits) -> Result<(), ImportError> {
    if names.len() > limits.columns {
        let (found, limit) = (names.len(), limits.columns);
        return Err(ImportError::TooManyColumns { file: file.to_owned(), found, limit });
    }
    if let Some(long) = names.iter().find(|name| name.len() > limits.column_name_bytes) {
        let (bytes, limit) = (long.len(), limits.column_name_bytes);
        return Err(ImportError::ColumnNameTooLong { file: file.to_owned(), bytes, limit });
    }
    Ok(())
}

struct Search<'a> {
    file: &'a str,
    names: &'a [String],
}

impl Search<'_> {
    /// A column by the name a person gave: exactly, else without regard to case and separators.
    fn named(&self, role: &'static str, wanted: &str) -> Result<usize, ImportError> {
        let exact = self.names.iter().position(|name| name == wanted);
        let plain = plain_name(wanted);
        let found = exact.or_else(|| self.names.iter().position(|name| plain_name(name) == plain));
        found.ok_or_else(|| {
            let near = nearest(wanted, self.names.iter().map(String::as_str), 1);
            ImportError::NoSuchColumn {
                file: self.file.to_owned(),
                role,
                wanted: wanted.to_owned(),
                columns: self.names.to_vec(),
                nearest: near.first().map(|name| (*name).to_owned()),
            }
        })
    }

    fn usual(&self, planned: Option<&str>, usual: &[&str]) -> Option<usize> {
        let planned = self.names.iter().position(|name| Some(name.as_str()) == planned);
        planned.or_else(|| {
            let plain: Vec<_> = self.names.iter().map(|name| plain_name(name)).collect();
            usual.iter().find_map(|usual| plain.iter().position(|name| name == usual))
        })
    }

    fn chosen(
        &self,
        role: &'static str,
        choice: &ColumnChoice,
        planned: Option<&str>,
        usual: &[&str],
    ) -> Result<Option<usize>, ImportError> {
        match choice {
            ColumnChoice::Detect => Ok(self.usual(planned, usual)),
            ColumnChoice::Named(wanted) => self.named(role, wanted).map(Some),
            ColumnChoice::Absent => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(names: &[&str], options: &ImportOptions) -> Result<Vec<Role>, ImportError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        ColumnPlan::default().resolve("f.csv", &names, options, false)
    }

    #[test]
    fn usual_names_are_found() {
        use Role::{Ignored, Label, Other, Split, Text};
        let check = |names: &[&str], expect: &[Role]| {
            assert_eq!(roles(names, &ImportOptions::default()).unwrap(), expect, "{names:?}");
        };
        check(&["label", "text"], &[Label, Text]);
        check(&["Intent", "Utterance", "Set", "age"], &[Label, Text, Split, Other]);
        check(&["title", "body", "Class Label"], &[Other, Text, Label]);
        check(&["whatever"], &[Text]);
        check(&["row_id", "text"], &[Ignored, Text]);
    }

    #[test]
    fn missing_columns_name_what_there_is() {
        let named = ImportOptions { text: Some("titel".into()), ..ImportOptions::default() };
        let error = roles(&["Title", "Code"], &named).unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.csv has no column `titel` for the text; its columns are `Title`, `Code`"
        );
        use corral_types::Explain;
        assert_eq!(error.hint().unwrap(), "there is a column `Title`");
        let error = roles(&["a", "b"], &ImportOptions::default()).unwrap_err();
        assert!(error.to_string().contains("no text column"), "{error}");
    }

    #[test]
    fn one_column_cannot_have_two_roles() {
        let options = ImportOptions {
            text: Some("label".into()),
            label: ColumnChoice::Named("label".into()),
            ..ImportOptions::default()
        };
        assert!(matches!(
            roles(&["label", "x"], &options),
            Err(ImportError::ColumnWithTwoRoles { .. })
        ));
        let options = ImportOptions { text: Some("label".into()), ..ImportOptions::default() };
        assert_eq!(roles(&["label", "x"], &options).unwrap(), [Role::Text, Role::Other]);
        assert!(matches!(
            roles(&["text", "text"], &ImportOptions::default()),
            Err(ImportError::AmbiguousColumn { .. })
        ));
    }
}
