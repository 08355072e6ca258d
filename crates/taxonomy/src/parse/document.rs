//! JSON and YAML as one tree of values that keeps the order of keys, repeated keys and lines.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::TaxonomyError;
use crate::limits::MAX_NESTING;

/// A value of a document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The line it begins on, where the format tells.
    pub line: Option<u32>,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    /// A number with a fraction, or true or false: not text, and not silently made one.
    Other(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Text(_) => "text".to_owned(),
            Self::Other(text) => format!("{text} (in quotes it would be text)"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "an object".to_owned(),
        }
    }
}

/// Reads a JSON document; the parser itself refuses to go deeper than 128.
pub(super) fn from_json(text: &str) -> Result<Node, TaxonomyError> {
    serde_json::from_str(text).map_err(TaxonomyError::Json)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(|value| Self { line: None, value })
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Other(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Other(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = sequence.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}

/// Reads a single YAML document. Anchors, aliases and tags are refused: a taxonomy needs none,
/// and an alias lets a small file stand for a huge one.
pub(super) fn from_yaml(text: &str) -> Result<Node, TaxonomyError> {
    let mut events = Events { parser: Parser::new_from_str(text) };
    loop {
        match events.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd, _) => return Err(TaxonomyError::Empty),
            (event, span) => {
                let root = events.node(event, span, MAX_NESTING)?;
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
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), TaxonomyError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(TaxonomyError::Yaml {
                line: error.marker().line() as u32,
                reason: error.info().to_owned(),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        nesting: usize,
    ) -> Result<Node, TaxonomyError> {
        let nesting =
            nesting.checked_sub(1).ok_or_else(|| wrong(span, "it is nested too deeply"))?;
        let value = match event {
            Event::Scalar(text, style, 0, None) => match (style, &*text) {
                (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
                _ => Value::Text(text.into_owned()),
            },
            Event::SequenceStart(0, None) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Value::List(list),
                        (event, span) => list.push(self.node(event, span, nesting)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut map = Vec::new();
                loop {
                    let (event, key_span) = self.next()?;
                    if event == Event::MappingEnd {
                        break Value::Map(map);
                    }
                    let Value::Text(key) = self.node(event, key_span, nesting)?.value else {
                        return Err(wrong(key_span, "a key is not text"));
                    };
                    let (event, span) = self.next()?;
                    let mut value = self.node(event, span, nesting)?;
                    value.line = Some(key_span.start.line() as u32);
                    map.push((key, value));
                }
            }
            Event::Alias(_) => return Err(wrong(span, "aliases are not supported")),
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                return Err(wrong(span, "anchors and tags are not supported"));
            }
            _ => return Err(wrong(span, "a value is missing")),
        };
        Ok(Node { line: Some(span.start.line() as u32), value })
    }
}

fn wrong(span: Span, reason: &str) -> TaxonomyError {
    TaxonomyError::Yaml { line: span.start.line() as u32, reason: reason.to_owned() }
}
