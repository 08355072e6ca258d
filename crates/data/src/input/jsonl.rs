//! Rows of JSONL files: one JSON object a line. Columns are the keys, in the order in which
//! they first appear; a key may first appear in any row.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::lines::{Line, LineReader};
use super::read_error;
use super::source::{OpenedSource, SourceContext};
use crate::import::{Cell, ColumnPlan, ImportError, Position, ProblemReason, RowSink, Target};

/// Rows of the beginning whose keys are known before the first row is taken.
const SAMPLED_ROWS: usize = 1000;

pub(crate) fn read(
    opened: OpenedSource<'_>,
    context: &mut SourceContext<'_, '_>,
) -> Result<(), ImportError> {
    let file = context.sink.file().to_owned();
    let limit_bytes = context.sink.options.limits.row_bytes;
    let names = sampled_keys(&opened.beginning);
    if names.is_empty() {
        return Err(ImportError::Damaged {
            file,
            format: "jsonl",
            detail: "none of its first lines is a JSON object with keys".to_owned(),
        });
    }
    let targets = context.sink.resolve(context.plan, &names)?;
    let known = names.into_iter().zip(targets).collect();
    let mut keys = Keys { known, late: HashMap::new() };
    let mut reader = LineReader::new(opened.reader, limit_bytes);
    loop {
        let position = Position::Line(reader.number() + 1);
        let Some(line) = reader.next_line().map_err(|error| read_error(&file, error))? else {
            return Ok(());
        };
        let line = match line {
            Line::Text(line) => line,
            Line::TooLong => {
                let reason = ProblemReason::RowTooLong { limit_bytes };
                context.sink.reject_row(position, None, reason)?;
                continue;
            }
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut row = RowVisitor {
            sink: &mut *context.sink,
            plan: &mut *context.plan,
            keys: &mut keys,
            outcome: Ok(()),
        };
        let mut json = serde_json::Deserializer::from_slice(line);
        let parsed = json.deserialize_map(&mut row).and_then(|()| json.end());
        let outcome = match (row.outcome, parsed) {
            (Err(RowFailure::Import(error)), _) => return Err(error),
            (Err(RowFailure::Cell { column, reason }), _) => Err((Some(column), reason)),
            (Ok(()), Err(error)) => {
                Err((None, ProblemReason::NotJson { detail: describe(&error) }))
            }
            (Ok(()), Ok(())) => Ok(()),
        };
        match outcome {
            Ok(()) => context.sink.finish_row(|| position)?,
            Err((column, reason)) => context.sink.reject_row_in(position, column, reason)?,
        }
    }
}

/// What the parser says, without its place: every row is line 1 to it.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} at byte {}", error.column())
}

/// The keys of the first rows, in the order of first appearance.
fn sampled_keys(beginning: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in beginning.split(|&byte| byte == b'\n').take(SAMPLED_ROWS) {
        let mut json = serde_json::Deserializer::from_slice(line);
        // A line that is cut off or bad still shows the keys before the place where it ends.
        let _ = json.deserialize_map(KeyCollector(&mut names));
    }
    names
}

struct KeyCollector<'a>(&'a mut Vec<String>);

impl<'de> Visitor<'de> for KeyCollector<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            map.next_value::<serde::de::IgnoredAny>()?;
            if !self.0.iter().any(|name| *name == key) {
                self.0.push(key.into_owned());
            }
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Where each key goes. Rows mostly have the same keys in the same order, so the place of
/// a key in the row is tried first.
struct Keys {
    known: Vec<(String, Target)>,
    late: HashMap<String, Target>,
}

impl Keys {
    fn get(&self, place: usize, key: &str) -> Option<Target> {
        let at_place = self.known.get(place).filter(|(name, _)| name == key);
        let known = at_place.or_else(|| self.known.iter().find(|(name, _)| name == key));
        known.map(|(_, target)| *target).or_else(|| self.late.get(key).copied())
    }
}

enum RowFailure {
    Import(ImportError),
    Cell { column: String, reason: ProblemReason },
}

struct RowVisitor<'r, 'a> {
    sink: &'r mut RowSink<'a>,
    plan: &'r mut ColumnPlan,
    keys: &'r mut Keys,
    outcome: Result<(), RowFailure>,
}

impl<'de> Visitor<'de> for &mut RowVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(Key(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            if self.outcome.is_err() {
                continue;
            }
            let target = match self.keys.get(place, &key) {
                Some(target) => target,
                None => match self.sink.resolve_late(self.plan, &key) {
                    Ok(target) => {
                        if target != Target::Ignored {
                            self.keys.late.insert(key.clone().into_owned(), target);
                        }
                        target
                    }
                    Err(error) => {
                        self.outcome = Err(RowFailure::Import(error));
                        continue;
                    }
                },
            };
            place += 1;
            if let Err(reason) = put_value(self.sink, target, value.get()) {
                self.outcome = Err(RowFailure::Cell { column: key.into_owned(), reason });
            }
        }
        Ok(())
    }
}

/// Puts a JSON value into its column. Lists and objects are kept as their JSON text, save
/// lists and objects of labels and lists of shares.
fn put_value(sink: &mut RowSink<'_>, target: Target, json: &str) -> Result<(), ProblemReason> {
    match json.as_bytes().first() {
        Some(b'"') => {
            let text = string(json)?;
            sink.put(target, Cell::Text(text.as_bytes()))
        }
        Some(b'n') => sink.put(target, Cell::Null),
        Some(b't') => sink.put(target, Cell::Bool(true)),
        Some(b'f') => sink.put(target, Cell::Bool(false)),
        Some(b'[') => match target {
            Target::Label => put_label_list(sink, json),
            Target::Text => Err(ProblemReason::TextType { found: "a list" }),
            Target::Split => Err(ProblemReason::SplitType { found: "a list" }),
            Target::Weight => Err(ProblemReason::WeightValue { value: "[…]".to_owned() }),
            Target::Shares => sink.put(target, Cell::Text(json.as_bytes())),
            Target::Column(_) | Target::Ignored => sink.put(target, Cell::Text(json.as_bytes())),
        },
        Some(b'{') => match target {
            Target::Label => sink.put_json_shares(json),
            Target::Weight => Err(ProblemReason::WeightValue { value: "{…}".to_owned() }),
            Target::Shares => Err(ProblemReason::SharesType { value: "{…}".to_owned() }),
            Target::Text => Err(ProblemReason::TextType { found: "an object" }),
            Target::Split => Err(ProblemReason::SplitType { found: "an object" }),
            Target::Column(_) | Target::Ignored => sink.put(target, Cell::Text(json.as_bytes())),
        },
        _ => sink.put(target, Cell::Number(json)),
    }
}

/// The text of a JSON string, borrowed where it has no escapes.
fn string(json: &str) -> Result<Cow<'_, str>, ProblemReason> {
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_str(json)
            .map(Cow::Owned)
            .map_err(|error| ProblemReason::NotJson { detail: describe(&error) }),
    }
}

fn put_label_list(sink: &mut RowSink<'_>, json: &str) -> Result<(), ProblemReason> {
    let labels: Vec<&RawValue> = serde_json::from_str(json)
        .map_err(|error| ProblemReason::NotJson { detail: describe(&error) })?;
    sink.begin_label_list()?;
    for label in labels {
        let json = label.get();
        match json.as_bytes().first() {
            Some(b'"') => sink.add_label(string(json)?.as_bytes())?,
            // A name of nothing still has its place among the shares.
            Some(b'n') => sink.add_label(b"")?,
            Some(b'[') => return Err(ProblemReason::LabelType { found: "a list of lists" }),
            Some(b'{') => return Err(ProblemReason::LabelType { found: "a list of objects" }),
            _ => sink.add_label(json.as_bytes())?,
        }
    }
    Ok(())
}
