//! The file of functions that people keep beside their code: YAML read as JSON values, and
//! written a function a line.
//!
//! Anchors, aliases and tags are refused: functions need none, and an alias lets a small file
//! stand for a huge one.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

use crate::error::LabelingError;

/// Fields that stand before the others, in this order.
const FIRST: [&str; 5] = ["name", "kind", "class", "not", "column"];

/// How deep values nest.
const MAX_NESTING: usize = 64;

/// Reads a document of YAML, of which JSON is a part.
pub fn from_yaml(text: &str) -> Result<Value, LabelingError> {
    let mut events = Events { parser: Parser::new_from_str(text) };
    loop {
        match events.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd, _) => return Ok(Value::Array(Vec::new())),
            (event, span) => {
                let root = events.value(event, span, MAX_NESTING)?;
                return loop {
                    match events.next()? {
                        (Event::DocumentEnd | Event::Nothing, _) => {}
                        (Event::StreamEnd, _) => break Ok(root),
                        (_, span) => break Err(wrong(span, "a second document begins")),
                    }
                };
            }
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), LabelingError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(LabelingError::Yaml {
                line: error.marker().line(),
                reason: error.info().to_owned(),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn value(
        &mut self,
        event: Event<'a>,
        span: Span,
        nesting: usize,
    ) -> Result<Value, LabelingError> {
        let nesting =
            nesting.checked_sub(1).ok_or_else(|| wrong(span, "it is nested too deeply"))?;
        Ok(match event {
            Event::Scalar(text, style, 0, None) => scalar(&text, style),
            Event::SequenceStart(0, None) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Value::Array(list),
                        (event, span) => list.push(self.value(event, span, nesting)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut map = Map::new();
                loop {
                    let (event, key_span) = self.next()?;
                    if event == Event::MappingEnd {
                        break Value::Object(map);
                    }
                    let Event::Scalar(key, _, 0, None) = event else {
                        return Err(wrong(key_span, "a key is not text"));
                    };
                    let (event, span) = self.next()?;
                    let value = self.value(event, span, nesting)?;
                    if map.insert(key.clone().into_owned(), value).is_some() {
                        return Err(wrong(key_span, &format!("`{key}` is there twice")));
                    }
                }
            }
            Event::Alias(_) => return Err(wrong(span, "aliases are not supported")),
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                return Err(wrong(span, "anchors and tags are not supported"));
            }
            _ => return Err(wrong(span, "a value is missing")),
        })
    }
}

/// Plain scalars are numbers, truth values or nothing where they look so; quoted ones are text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if looks_like_number(text) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    }
}

fn looks_like_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

fn wrong(span: Span, reason: &str) -> LabelingError {
    LabelingError::Yaml { line: span.start.line(), reason: reason.to_owned() }
}

/// Writes a list of definitions, one a line.
pub fn to_yaml(definitions: &[Value]) -> String {
    let mut text = String::new();
    for definition in definitions {
        text.push_str("- ");
        write_value(definition, &mut text);
        text.push('\n');
    }
    text
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
        Value::String(string) => write_text(string, text),
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                write_value(value, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            text.push('{');
            let rank = |key: &str| FIRST.iter().position(|first| *first == key);
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| rank(key).unwrap_or(FIRST.len()));
            for (at, (key, value)) in fields.into_iter().enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                write_text(key, text);
                text.push_str(": ");
                write_value(value, text);
            }
            text.push('}');
        }
    }
}

/// Bare where nothing in it means anything to YAML, else in double quotes as in JSON.
fn write_text(string: &str, text: &mut String) {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '/' | '.');
    let is_bare = string.starts_with(|c: char| c.is_alphabetic())
        && string.chars().all(is_word)
        && !string.ends_with(' ')
        && matches!(scalar(string, ScalarStyle::Plain), Value::String(_))
        && !matches!(string, "yes" | "no" | "on" | "off" | "y" | "n");
    if is_bare {
        text.push_str(string);
    } else {
        text.push_str(&Value::from(string).to_string());
    }
}
