//! What a labeling function is, as people write it.
//!
//! Common to all are the name, what is voted, and which text is looked at; what decides whether
//! the vote is given is the [`Rule`], one variant a kind.

use std::collections::BTreeMap;

use corral_types::BlobHash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::LabelingError;

/// The longest name of a function.
pub const MAX_NAME_BYTES: usize = 100;

/// How deep combinations nest; deeper ones are surely a mistake.
pub const MAX_DEPTH: usize = 20;

/// A labeling function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub says: Says,
    /// Its word stands against functions that are not trusted.
    pub is_trusted: bool,
    /// The column whose text is looked at; the data set's text where none is named.
    pub column: Option<String>,
    pub rule: Rule,
}

/// What a function votes where it does not abstain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// The row is of this class, or of one of these.
    For(Vec<String>),
    /// The row is of none of these.
    Against(Vec<String>),
    /// The rule itself says which class.
    ByRule,
}

/// One or several, as people write them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn of(names: &[String]) -> Self {
        match names {
            [one] => Self::One(one.clone()),
            more => Self::More(more.to_vec()),
        }
    }

    fn names(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::More(names) => names,
        }
    }
}

/// When a function votes.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    Keyword(Keywords),
    Regex(Pattern),
    Length(Lengths),
    Shape(Shape),
    Column(Comparison),
    Given(Given),
    Combine(Combination),
    Similar(Similar),
    Model(ModelVoter),
}

/// Words and phrases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keywords {
    /// Votes where any of these is found …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// … and all of these …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// … and none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<String>,
    /// So many different ones of `any`; 1 where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<usize>,
    /// Words of several classes: the class with most different ones found is voted for, none
    /// where two have as many.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "is_usual")]
    pub case: Case,
    #[serde(rename = "match", skip_serializing_if = "is_usual")]
    pub place: Place,
    #[serde(skip_serializing_if = "is_usual")]
    pub forms: Forms,
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    #[default]
    Ignore,
    Exact,
}

/// Where keywords may stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// As whole words.
    #[default]
    Words,
    /// Within words too.
    Anywhere,
}

/// Which forms of a word count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forms {
    /// As written.
    #[default]
    Exact,
    /// With the endings of English inflection: `refund` is found in `refunded`.
    Stems,
    /// With one letter wrong, missing or too many, in words of five letters and more.
    Fuzzy,
}

/// A regular expression in Rust's syntax.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pattern {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pattern: String,
    /// Patterns of several classes: the first that is found, by the order of the classes' names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_exact")]
    pub case: PatternCase,
}

/// Patterns say themselves what case is, so they are exact by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatternCase {
    #[default]
    Exact,
    Ignore,
}

fn is_exact(case: &PatternCase) -> bool {
    *case == PatternCase::Exact
}

/// How long a text is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lengths {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chars: Option<Range>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Range>,
}

/// From and up to, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Range {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
}

impl Range {
    pub fn contains(self, value: usize) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

/// What a text looks like: it has any of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub has: Vec<Trait>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trait {
    /// Nothing but white space.
    Empty,
    /// It ends with a question mark.
    Question,
    /// It ends with an exclamation mark.
    Exclamation,
    Digit,
    Url,
    Email,
    /// A sign of currency beside a digit.
    Money,
    /// Letters, and all of them capitals.
    Capitals,
    /// A character outside ASCII.
    Foreign,
}

/// A comparison of a column with a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    pub op: Operator,
    /// A text, number or truth value; a list of them for `in`; nothing for `missing` and
    /// `present`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    #[serde(rename = "=", alias = "==", alias = "eq")]
    Equal,
    #[serde(rename = "!=", alias = "ne")]
    Unequal,
    #[serde(rename = "<", alias = "lt")]
    Less,
    #[serde(rename = "<=", alias = "le")]
    AtMost,
    #[serde(rename = ">", alias = "gt")]
    More,
    #[serde(rename = ">=", alias = "ge")]
    AtLeast,
    #[serde(rename = "in")]
    In,
    #[serde(rename = "missing")]
    Missing,
    #[serde(rename = "present")]
    Present,
}

/// Votes that stand in a column already: what another program, a person or a language model said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The position in the column's list, from 0, where it holds lists as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<usize>,
    /// By value of the column, the class; other values abstain.
    pub votes: BTreeMap<String, String>,
}

/// Other functions and rules, combined.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    pub when: Condition,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Where this function votes, whatever it says.
    Function(String),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    AtLeast(usize, Vec<Condition>),
    /// Where this rule holds, on the text of this column.
    Rule(Option<String>, Box<Rule>),
}

/// Texts that mean nearly the same as examples or a description, by the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Similar {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Examples of several classes: the nearest example's class is voted for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Vec<String>>,
    /// The cosine from which on it votes.
    pub threshold: f32,
    /// How many of the nearest examples decide, by their majority; 1 where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<usize>,
}

/// What a model answers, above a probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelVoter {
    /// A model of the workspace, or NAME@VERSION; `endpoint` takes what an endpoint serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub threshold: f32,
    /// The model's classes by other names; without any, all under their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, String>,
}

/// The kinds by name, for messages.
pub const KINDS: [&str; 10] = [
    "keyword",
    "dictionary",
    "regex",
    "length",
    "shape",
    "column",
    "given",
    "combine",
    "similar",
    "model",
];

impl Rule {
    /// The name by which people choose the kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Keyword(_) => "keyword",
            Self::Regex(_) => "regex",
            Self::Length(_) => "length",
            Self::Shape(_) => "shape",
            Self::Column(_) => "column",
            Self::Given(_) => "given",
            Self::Combine(_) => "combine",
            Self::Similar(_) => "similar",
            Self::Model(_) => "model",
        }
    }

    /// The classes that the rule itself tells apart, in the order of its votes.
    pub fn classes(&self) -> Vec<String> {
        match self {
            Self::Keyword(keywords) => keywords.classes.keys().cloned().collect(),
            Self::Regex(pattern) => pattern.classes.keys().cloned().collect(),
            Self::Similar(similar) => similar.classes.keys().cloned().collect(),
            Self::Given(given) => {
                let mut classes: Vec<_> = given.votes.values().cloned().collect();
                classes.sort_unstable();
                classes.dedup();
                classes
            }
            Self::Model(voter) => {
                let mut classes: Vec<_> = voter.classes.values().cloned().collect();
                classes.sort_unstable();
                classes.dedup();
                classes
            }
            Self::Length(_) | Self::Shape(_) | Self::Column(_) | Self::Combine(_) => Vec::new(),
        }
    }

    fn body(&self) -> Map<String, Value> {
        let value = match self {
            Self::Keyword(body) => serde_json::to_value(body),
            Self::Regex(body) => serde_json::to_value(body),
            Self::Length(body) => serde_json::to_value(body),
            Self::Shape(body) => serde_json::to_value(body),
            Self::Column(body) => serde_json::to_value(body),
            Self::Given(body) => serde_json::to_value(body),
            Self::Similar(body) => serde_json::to_value(body),
            Self::Model(body) => serde_json::to_value(body),
            Self::Combine(combination) => {
                return Map::from_iter([("when".to_owned(), combination.when.to_value())]);
            }
        };
        match value {
            Ok(Value::Object(body)) => body,
            _ => unreachable!("bodies are structs of plain fields"),
        }
    }
}

impl Condition {
    fn to_value(&self) -> Value {
        let list =
            |conditions: &[Self]| Value::Array(conditions.iter().map(Self::to_value).collect());
        let one =
            |key: &str, value: Value| Value::Object(Map::from_iter([(key.to_owned(), value)]));
        match self {
            Self::Function(name) => Value::String(name.clone()),
            Self::And(conditions) => one("and", list(conditions)),
            Self::Or(conditions) => one("or", list(conditions)),
            Self::Not(condition) => one("not", condition.to_value()),
            Self::AtLeast(count, conditions) => {
                let mut map = Map::new();
                map.insert("at_least".to_owned(), (*count).into());
                map.insert("of".to_owned(), list(conditions));
                Value::Object(map)
            }
            Self::Rule(column, rule) => {
                let mut map = rule.body();
                map.insert("kind".to_owned(), rule.kind().into());
                if let Some(column) = column {
                    map.insert("column".to_owned(), column.clone().into());
                }
                Value::Object(map)
            }
        }
    }

    /// The functions it names.
    pub fn functions(&self) -> Vec<&str> {
        match self {
            Self::Function(name) => vec![name],
            Self::And(conditions) | Self::Or(conditions) | Self::AtLeast(_, conditions) => {
                conditions.iter().flat_map(Self::functions).collect()
            }
            Self::Not(condition) => condition.functions(),
            Self::Rule(_, rule) => match &**rule {
                Rule::Combine(combination) => combination.when.functions(),
                _ => Vec::new(),
            },
        }
    }
}

impl Function {
    /// Reads a definition.
    ///
    /// # Errors
    /// What is wrong with it, by the name of the function.
    pub fn from_value(value: Value) -> Result<Self, LabelingError> {
        let Value::Object(mut map) = value else {
            return Err(LabelingError::NotADefinition { found: kind_of(&value).to_owned() });
        };
        let name = match map.remove("name") {
            Some(Value::String(name)) => name,
            _ => return Err(LabelingError::NoName),
        };
        let wrong = |reason: String| LabelingError::Definition { function: name.clone(), reason };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
            return Err(wrong(format!(
                "a name has 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` and `.`"
            )));
        }
        let class = names(map.remove("class"), "class").map_err(wrong)?;
        let against = names(map.remove("not"), "not").map_err(wrong)?;
        let is_trusted = match map.remove("trusted") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(trusted)) => trusted,
            Some(other) => return Err(wrong(format!("`trusted` is true or false, not {other}"))),
        };
        let (column, rule) = rule(map, MAX_DEPTH).map_err(wrong)?;
        let of_rule = rule.classes();
        let says_itself = !of_rule.is_empty() || matches!(rule, Rule::Model(_));
        let says = match (class, against) {
            (Some(_), Some(_)) => {
                return Err(wrong("it has both `class` and `not`; write two functions".to_owned()));
            }
            (None, None) if says_itself => Says::ByRule,
            (None, None) => {
                return Err(wrong(
                    "it has no `class`, and no `not`: what does it vote?".to_owned(),
                ));
            }
            (Some(_) | None, _) if says_itself => {
                return Err(wrong(
                    "its rule names classes itself, so `class` and `not` have no place".to_owned(),
                ));
            }
            (Some(names), None) => Says::For(names),
            (None, Some(names)) => Says::Against(names),
        };
        Ok(Self { name, says, is_trusted, column, rule })
    }

    /// The definition as people write it: name, kind and vote first.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("name".to_owned(), self.name.clone().into());
        map.insert("kind".to_owned(), self.rule.kind().into());
        let one =
            |names: &[String]| serde_json::to_value(OneOrMore::of(names)).expect("plain texts");
        match &self.says {
            Says::For(names) => drop(map.insert("class".to_owned(), one(names))),
            Says::Against(names) => drop(map.insert("not".to_owned(), one(names))),
            Says::ByRule => {}
        }
        if let Some(column) = &self.column {
            map.insert("column".to_owned(), column.clone().into());
        }
        map.extend(self.rule.body());
        if self.is_trusted {
            map.insert("trusted".to_owned(), true.into());
        }
        Value::Object(map)
    }

    /// The classes it names, in the order of its votes.
    pub fn classes(&self) -> Vec<String> {
        match &self.says {
            Says::For(names) | Says::Against(names) => names.clone(),
            Says::ByRule => self.rule.classes(),
        }
    }

    /// What its votes depend on, beside the rows: neither its name nor, where it has one vote,
    /// the class of that. `others` gives what the functions it names depend on.
    pub fn content_hash(&self, others: &dyn Fn(&str) -> Option<BlobHash>) -> BlobHash {
        let mut map = self.rule.body();
        map.insert("kind".to_owned(), self.rule.kind().into());
        map.insert("column".to_owned(), self.column.clone().into());
        if let Rule::Combine(combination) = &self.rule {
            let named = combination.when.functions().into_iter().filter_map(others);
            let hashes: Vec<String> = named.map(|hash| hash.to_string()).collect();
            map.insert("functions".to_owned(), hashes.into());
        }
        BlobHash::of(Value::Object(map).to_string().as_bytes())
    }
}

fn names(value: Option<Value>, field: &str) -> Result<Option<Vec<String>>, String> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let value = match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => other,
    };
    let found: OneOrMore = serde_json::from_value(value)
        .map_err(|_| format!("`{field}` is a class's name, or a list of them"))?;
    let names = found.names();
    if names.is_empty() || names.iter().any(|name| name.trim().is_empty()) {
        return Err(format!("`{field}` names no class"));
    }
    Ok(Some(names.iter().map(|name| name.trim().to_owned()).collect()))
}

/// Reads the rule of a definition, and the column that it is about.
fn rule(mut map: Map<String, Value>, depth: usize) -> Result<(Option<String>, Rule), String> {
    let kind = match map.remove("kind") {
        Some(Value::String(kind)) => kind,
        _ => return Err(format!("it has no `kind`; the kinds are {}", KINDS.join(", "))),
    };
    let column = match map.remove("column") {
        None | Some(Value::Null) => None,
        Some(Value::String(column)) => Some(column),
        Some(other) => return Err(format!("`column` is a column's name, not {other}")),
    };
    let body = Value::Object(map.clone());
    let rule = match kind.as_str() {
        "keyword" | "dictionary" => Rule::Keyword(read::<Keywords>(body)?),
        "regex" => Rule::Regex(read::<Pattern>(body)?),
        "length" => Rule::Length(read::<Lengths>(body)?),
        "shape" => Rule::Shape(read::<Shape>(body)?),
        "column" => Rule::Column(read::<Comparison>(body)?),
        "given" => Rule::Given(read::<Given>(body)?),
        "similar" => Rule::Similar(read::<Similar>(body)?),
        "model" => Rule::Model(read::<ModelVoter>(body)?),
        "combine" => {
            let when = map.remove("when").ok_or("it has no `when`: what is combined?")?;
            if let Some(key) = map.keys().next() {
                return Err(format!("unknown field `{key}`; a combination has `when` alone"));
            }
            Rule::Combine(Combination { when: condition(when, depth)? })
        }
        other => {
            let near = corral_types::nearest(other, KINDS, 1);
            let hint =
                near.first().map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Err(format!(
                "`{other}` is not a kind; the kinds are {}{hint}",
                KINDS.join(", ")
            ));
        }
    };
    if column.is_none() && matches!(rule, Rule::Column(_) | Rule::Given(_)) {
        return Err(format!("a function of kind {kind} needs a `column`"));
    }
    Ok((column, rule))
}

fn read<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, String> {
    serde_json::from_value(body).map_err(|error| error.to_string())
}

fn condition(value: Value, depth: usize) -> Result<Condition, String> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| format!("combinations nest at most {MAX_DEPTH} deep"))?;
    let list = |value: Value| match value {
        Value::Array(values) if !values.is_empty() => {
            values.into_iter().map(|value| condition(value, depth)).collect::<Result<Vec<_>, _>>()
        }
        other => Err(format!("expected a list of conditions, not {other}")),
    };
    let mut map = match value {
        Value::String(name) => return Ok(Condition::Function(name)),
        Value::Object(map) => map,
        other => {
            return Err(format!("a condition is a function's name or an object, not {other}"));
        }
    };
    if map.contains_key("kind") {
        let (column, rule) = rule(map, depth)?;
        if !rule.classes().is_empty() {
            return Err("a rule within a combination names no classes".to_owned());
        }
        return Ok(Condition::Rule(column, Box::new(rule)));
    }
    let found = if let Some(value) = map.remove("and") {
        Condition::And(list(value)?)
    } else if let Some(value) = map.remove("or") {
        Condition::Or(list(value)?)
    } else if let Some(value) = map.remove("not") {
        Condition::Not(Box::new(condition(value, depth)?))
    } else if let Some(count) = map.remove("at_least") {
        let count = count.as_u64().ok_or("`at_least` is a whole number")? as usize;
        let of = map.remove("of").ok_or("`at_least` goes with a list `of` conditions")?;
        Condition::AtLeast(count, list(of)?)
    } else {
        return Err("a condition has `and`, `or`, `not`, `at_least` or a `kind`".to_owned());
    };
    match map.keys().next() {
        None => Ok(found),
        Some(key) => Err(format!("unknown field `{key}` in a condition")),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
