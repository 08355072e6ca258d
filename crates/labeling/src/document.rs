//! The functions of a data set as one document, of which every edit makes a new version.

use std::collections::BTreeMap;

use corral_labels::LabelArity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::Function;
use crate::error::LabelingError;
use crate::program::MAX_FUNCTIONS;

/// The format of stored documents.
const FORMAT: u32 = 1;

/// The functions of a data set, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionSet {
    /// The taxonomy that functions take their classes from; implied by them where none is named.
    pub taxonomy: Option<String>,
    /// Whether several classes may hold for a row.
    pub arity: LabelArity,
    pub functions: Vec<VersionedFunction>,
}

/// A function, and how often it was edited.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionedFunction {
    /// Counted from 1; every edit counts.
    pub version: u32,
    pub function: Function,
}

/// What an import did, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub unchanged: usize,
}

impl Changes {
    pub fn is_none(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    taxonomy: Option<String>,
    arity: LabelArity,
    functions: Vec<StoredFunction>,
}

#[derive(Serialize, Deserialize)]
struct StoredFunction {
    version: u32,
    definition: Value,
}

impl FunctionSet {
    /// The bytes that are kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let functions = self.functions.iter().map(|versioned| StoredFunction {
            version: versioned.version,
            definition: versioned.function.to_value(),
        });
        let stored = Stored {
            format: FORMAT,
            taxonomy: self.taxonomy.clone(),
            arity: self.arity,
            functions: functions.collect(),
        };
        serde_json::to_vec(&stored).expect("definitions are plain values")
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// When the bytes are something else, or of a newer format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LabelingError> {
        let wrong = |reason: String| LabelingError::Stored { reason };
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(wrong(format!("format {} is not {FORMAT}", stored.format)));
        }
        let functions = stored.functions.into_iter().map(|stored| {
            let function = Function::from_value(stored.definition)?;
            Ok(VersionedFunction { version: stored.version, function })
        });
        let functions = functions.collect::<Result<_, LabelingError>>();
        let functions = functions.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { taxonomy: stored.taxonomy, arity: stored.arity, functions })
    }

    pub fn definitions(&self) -> Vec<Function> {
        self.functions.iter().map(|versioned| versioned.function.clone()).collect()
    }

    pub fn get(&self, name: &str) -> Option<&VersionedFunction> {
        self.functions.iter().find(|versioned| versioned.function.name == name)
    }

    /// The function of this name.
    ///
    /// # Errors
    /// When there is none, with the nearest.
    pub fn required(&self, name: &str) -> Result<&VersionedFunction, LabelingError> {
        self.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> LabelingError {
        let names = self.functions.iter().map(|versioned| versioned.function.name.as_str());
        let nearest =
            corral_types::nearest(name, names, 3).into_iter().map(str::to_owned).collect();
        LabelingError::NoSuchFunction { function: name.to_owned(), nearest }
    }

    /// Adds a function, or replaces the one of its name.
    pub fn put(&mut self, function: Function) -> Changes {
        let mut changes = Changes::default();
        match self.functions.iter_mut().find(|there| there.function.name == function.name) {
            None => {
                changes.added.push(function.name.clone());
                self.functions.push(VersionedFunction { version: 1, function });
            }
            Some(there) if there.function == function => changes.unchanged += 1,
            Some(there) => {
                changes.changed.push(function.name.clone());
                *there = VersionedFunction { version: there.version + 1, function };
            }
        }
        changes
    }

    /// # Errors
    /// When there is no function of this name.
    pub fn remove(&mut self, name: &str) -> Result<(), LabelingError> {
        let at = self.functions.iter().position(|there| there.function.name == name);
        let at = at.ok_or_else(|| self.missing(name))?;
        self.functions.remove(at);
        Ok(())
    }

    /// Makes the functions those of a file, in its order: new, changed, gone.
    ///
    /// # Errors
    /// When a function is named twice, or there are too many.
    pub fn replace(&mut self, functions: Vec<Function>) -> Result<Changes, LabelingError> {
        if functions.len() > MAX_FUNCTIONS {
            let (found, limit) = (functions.len(), MAX_FUNCTIONS);
            return Err(LabelingError::TooManyFunctions { found, limit });
        }
        let mut old: BTreeMap<String, VersionedFunction> = std::mem::take(&mut self.functions)
            .into_iter()
            .map(|versioned| (versioned.function.name.clone(), versioned))
            .collect();
        let mut changes = Changes::default();
        for function in functions {
            if self.get(&function.name).is_some() {
                return Err(LabelingError::TwiceNamed { function: function.name });
            }
            let version = match old.remove(&function.name) {
                Some(there) if there.function == function => {
                    changes.unchanged += 1;
                    there.version
                }
                Some(there) => {
                    changes.changed.push(function.name.clone());
                    there.version + 1
                }
                None => {
                    changes.added.push(function.name.clone());
                    1
                }
            };
            self.functions.push(VersionedFunction { version, function });
        }
        changes.removed = old.into_keys().collect();
        Ok(changes)
    }
}

/// The functions of a file, and what it says of all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionFile {
    pub taxonomy: Option<String>,
    pub arity: LabelArity,
    pub functions: Vec<Function>,
}

/// Reads a file: a list of functions, or an object with `functions` and perhaps `taxonomy` and
/// `multi_label`.
///
/// # Errors
/// What is wrong with the first that is wrong.
pub fn read_file(value: Value) -> Result<FunctionFile, LabelingError> {
    let (mut map, list) = match value {
        Value::Array(list) => (serde_json::Map::new(), list),
        Value::Object(mut map) => match map.remove("functions") {
            Some(Value::Array(list)) => (map, list),
            _ => return Err(LabelingError::NotAList),
        },
        _ => return Err(LabelingError::NotAList),
    };
    let functions = list.into_iter().map(Function::from_value).collect::<Result<_, _>>()?;
    let taxonomy = match map.remove("taxonomy") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name),
        Some(_) => return Err(LabelingError::FileField { field: "taxonomy".to_owned() }),
    };
    let arity = match map.remove("multi_label") {
        None | Some(Value::Bool(false)) => LabelArity::Single,
        Some(Value::Bool(true)) => LabelArity::Multi,
        Some(_) => return Err(LabelingError::FileField { field: "multi_label".to_owned() }),
    };
    match map.keys().next() {
        Some(field) => Err(LabelingError::FileField { field: field.clone() }),
        None => Ok(FunctionFile { taxonomy, arity, functions }),
    }
}
