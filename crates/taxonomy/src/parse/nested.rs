//! Taxonomies in JSON and YAML: lists of classes, or objects of names to what is below them.

use super::document::{Node, Value};
use super::{Columns, Entry, Found, ParentRef, ParseOptions, non_empty, path_separator};
use crate::canonical::FORMAT_VERSION;
use crate::limits::MAX_CLASSES;
use crate::{Place, ProblemKind, TaxonomyError};

/// The keys of a class that stands in an object of names: there, `name` would be a class.
const KEYS_BELOW_A_NAME: [&str; 4] = ["id", "description", "examples", "children"];

/// Keys are shown up to this many characters in the place of a problem.
const MAX_KEY_CHARS_IN_PLACE: usize = 40;

/// Reads the classes of a document.
pub(super) fn read(
    root: &Node,
    options: &ParseOptions,
    found: &mut Found,
) -> Result<(), TaxonomyError> {
    let keys = Keys::new(&options.columns);
    let mut reader = Reader { keys, whole_paths: Vec::new(), found };
    if let Value::Map(map) = &root.value
        && let Some((_, classes)) = map.iter().find(|(key, _)| key == "classes")
        && map.iter().all(|(key, _)| key == "classes" || key == "format_version")
    {
        if let Some((_, version)) = map.iter().find(|(key, _)| key == "format_version") {
            match &version.value {
                Value::Text(text) if *text == FORMAT_VERSION.to_string() => {}
                Value::Text(text) | Value::Other(text) => {
                    let found = text.clone();
                    return Err(TaxonomyError::NewerFormat { found, supported: FORMAT_VERSION });
                }
                other => {
                    let found = other.kind();
                    return Err(TaxonomyError::NewerFormat { found, supported: FORMAT_VERSION });
                }
            }
        }
        reader.classes(classes, "classes", &ParentRef::Top)?;
    } else {
        reader.classes(root, "", &ParentRef::Top)?;
    }
    reader.split_paths(options);
    Ok(())
}

struct Keys {
    id: Vec<String>,
    name: Vec<String>,
    description: Vec<String>,
    examples: Vec<String>,
    parent: Vec<String>,
    path: Vec<String>,
}

impl Keys {
    fn new(columns: &Columns) -> Self {
        let keys = |chosen: &Option<String>, usual: &[&str]| match chosen {
            Some(key) => vec![key.clone()],
            None => usual.iter().map(ToString::to_string).collect(),
        };
        Self {
            id: keys(&columns.id, &["id", "code"]),
            name: keys(&columns.name, &["name", "label", "class", "title", "category"]),
            description: keys(&columns.description, &["description", "definition"]),
            examples: keys(&columns.examples, &["examples", "example"]),
            parent: keys(&columns.parent, &["parent", "parent_id"]),
            path: keys(&columns.path, &["path"]),
        }
    }
}

struct Reader<'a> {
    keys: Keys,
    /// The entries whose path is one text, kept whole until all of them show the separator.
    whole_paths: Vec<usize>,
    found: &'a mut Found,
}

/// The recursion is as deep as the document, which its parser bounds.
impl Reader<'_> {
    /// Classes in a list, or in an object of names.
    fn classes(&mut self, node: &Node, at: &str, under: &ParentRef) -> Result<(), TaxonomyError> {
        match &node.value {
            Value::Null => Ok(()),
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    self.item(item, &format!("{at}[{index}]"), under)?;
                }
                Ok(())
            }
            Value::Map(map) => {
                for (name, below) in map {
                    let at = join(at, name);
                    let entry = Entry {
                        place: place(below, &at),
                        id: None,
                        name: non_empty(name),
                        description: None,
                        examples: Vec::new(),
                        parent: under.clone(),
                    };
                    self.below_name(entry, below, &at)?;
                }
                Ok(())
            }
            other => self.unexpected(node, at, "a list or an object of classes", other),
        }
    }

    /// A class in a list: its name, or an object that describes it.
    fn item(&mut self, node: &Node, at: &str, under: &ParentRef) -> Result<(), TaxonomyError> {
        let mut entry = Entry {
            place: place(node, at),
            id: None,
            name: None,
            description: None,
            examples: Vec::new(),
            parent: under.clone(),
        };
        match &node.value {
            Value::Text(name) => {
                entry.name = non_empty(name);
                self.push(entry).map(|_| ())
            }
            Value::Map(map) => {
                let mut parent = None;
                let mut path = None;
                let mut path_is = None;
                let mut children = None;
                let mut seen: Vec<&str> = Vec::new();
                for (key, value) in map {
                    let at = join(at, key);
                    // Each field once, whichever of its names it is given under.
                    let is = |names: &[String]| names.iter().any(|name| name == key);
                    let field = if is(&self.keys.id) {
                        entry.id = self.text(value, &at);
                        "id"
                    } else if is(&self.keys.name) {
                        entry.name = self.text(value, &at);
                        "name"
                    } else if is(&self.keys.description) {
                        entry.description = self.text(value, &at);
                        "description"
                    } else if is(&self.keys.examples) {
                        entry.examples = self.texts(value, &at);
                        "examples"
                    } else if is(&self.keys.parent) {
                        parent = self.text(value, &at);
                        "parent"
                    } else if is(&self.keys.path) {
                        path = self.path(value, &at);
                        path_is = Some(&value.value);
                        "path"
                    } else if key == "children" {
                        children = Some((value, at));
                        "children"
                    } else {
                        continue;
                    };
                    if seen.contains(&field) {
                        let kind = ProblemKind::RepeatedKey { key: key.clone() };
                        self.found.problems.add(&entry.place, kind);
                    } else {
                        seen.push(field);
                    }
                }
                match (parent, path) {
                    (Some(_), Some(_)) => {
                        self.found.problems.add(&entry.place, ProblemKind::PathAndParent);
                    }
                    (Some(_), None) | (None, Some(_)) if *under != ParentRef::Top => {
                        let expected = "a class among another's children without parent or path";
                        let kind = ProblemKind::UnexpectedValue {
                            expected,
                            found: "one that names it".to_owned(),
                        };
                        self.found.problems.add(&entry.place, kind);
                    }
                    (Some(parent), None) => entry.parent = ParentRef::Named(parent),
                    (None, Some(path)) => entry.parent = ParentRef::Path(path),
                    (None, None) => {}
                }
                let whole = matches!(entry.parent, ParentRef::Path(_))
                    && matches!(path_is, Some(Value::Text(_)));
                let index = self.push(entry)?;
                if whole {
                    self.whole_paths.push(index);
                }
                match children {
                    Some((children, at)) => self.classes(children, &at, &ParentRef::Entry(index)),
                    None => Ok(()),
                }
            }
            other => self.unexpected(node, at, "a name or an object", other),
        }
    }

    /// What stands below a name: nothing, a description, an object that describes the class,
    /// or the classes under it.
    fn below_name(&mut self, mut entry: Entry, node: &Node, at: &str) -> Result<(), TaxonomyError> {
        let describes = |map: &[(String, Node)]| {
            !map.is_empty() && map.iter().all(|(key, _)| KEYS_BELOW_A_NAME.contains(&key.as_str()))
        };
        let mut below = Some((node, at.to_owned()));
        match &node.value {
            Value::Text(description) => {
                entry.description = non_empty(description);
                below = None;
            }
            Value::Map(map) if describes(map) => {
                below = None;
                let mut seen: Vec<&str> = Vec::new();
                for (key, value) in map {
                    if seen.contains(&key.as_str()) {
                        let kind = ProblemKind::RepeatedKey { key: key.clone() };
                        self.found.problems.add(&entry.place, kind);
                    } else {
                        seen.push(key);
                    }
                    let at = join(at, key);
                    match key.as_str() {
                        "id" => entry.id = self.text(value, &at),
                        "description" => entry.description = self.text(value, &at),
                        "examples" => entry.examples = self.texts(value, &at),
                        _ => below = Some((value, at)),
                    }
                }
            }
            _ => {}
        }
        let index = self.push(entry)?;
        match below {
            Some((below, at)) => self.classes(below, &at, &ParentRef::Entry(index)),
            None => Ok(()),
        }
    }

    fn push(&mut self, entry: Entry) -> Result<usize, TaxonomyError> {
        if self.found.entries.len() == MAX_CLASSES {
            return Err(TaxonomyError::TooManyClasses);
        }
        self.found.entries.push(entry);
        Ok(self.found.entries.len() - 1)
    }

    fn text(&mut self, node: &Node, at: &str) -> Option<String> {
        match &node.value {
            Value::Null => None,
            Value::Text(text) => non_empty(text),
            other => {
                self.mismatch(node, at, "text", other);
                None
            }
        }
    }

    /// A list of texts, or one text.
    fn texts(&mut self, node: &Node, at: &str) -> Vec<String> {
        match &node.value {
            Value::List(list) => list
                .iter()
                .enumerate()
                .filter_map(|(index, item)| self.text(item, &format!("{at}[{index}]")))
                .collect(),
            _ => self.text(node, at).into_iter().collect(),
        }
    }

    /// A path as a list of names, or as one text that is not split yet.
    fn path(&mut self, node: &Node, at: &str) -> Option<Vec<String>> {
        Some(self.texts(node, at)).filter(|parts| !parts.is_empty())
    }

    fn split_paths(&mut self, options: &ParseOptions) {
        let entries = &mut self.found.entries;
        let whole = |entry: &Entry| match &entry.parent {
            ParentRef::Path(parts) => parts.concat(),
            _ => String::new(),
        };
        let paths: Vec<String> = self.whole_paths.iter().map(|&at| whole(&entries[at])).collect();
        let separator = path_separator(options, paths.iter().map(String::as_str));
        for (&at, path) in self.whole_paths.iter().zip(&paths) {
            let parts = path.split(separator).map(|part| part.trim().to_owned());
            entries[at].parent = ParentRef::Path(parts.collect());
        }
    }

    fn mismatch(&mut self, node: &Node, at: &str, expected: &'static str, value: &Value) {
        let kind = ProblemKind::UnexpectedValue { expected, found: value.kind() };
        self.found.problems.add(&place(node, at), kind);
    }

    fn unexpected(
        &mut self,
        node: &Node,
        at: &str,
        expected: &'static str,
        value: &Value,
    ) -> Result<(), TaxonomyError> {
        self.mismatch(node, at, expected, value);
        Ok(())
    }
}

fn place(node: &Node, at: &str) -> Place {
    match node.line {
        Some(line) => Place::Line(line),
        None => Place::Item(at.to_owned()),
    }
}

fn join(at: &str, key: &str) -> String {
    let key: String = key.chars().take(MAX_KEY_CHARS_IN_PLACE).collect();
    if at.is_empty() { key } else { format!("{at}.{key}") }
}
