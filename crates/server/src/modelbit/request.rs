//! The body of a request: one inference, or a batch of rows with ids.

use std::time::Duration;

use corral_types::{ErrorKind, Explain};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// The longest that a request may take, and what it may take when it does not say.
const MAX_TIMEOUT_SECONDS: f64 = 300.0;

/// The column of a row, or key of a dictionary, that holds the text.
const TEXT: &str = "text";

/// What a row is called by: its answer comes with it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum RowId {
    Number(Number),
    Text(String),
}

/// Whether one answer is given or a list.
#[derive(Debug, PartialEq)]
pub enum Shape {
    Single,
    Batch(Vec<RowId>),
}

/// A request as it was read: a text for the single inference, or one for each row.
#[derive(Debug, PartialEq)]
pub struct Inference {
    pub texts: Vec<String>,
    pub shape: Shape,
    pub timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the body is not the JSON expected here")]
    Json(#[source] serde_json::Error),
    #[error("`timeout_seconds` is {found}; it is from 0 to {MAX_TIMEOUT_SECONDS}")]
    Timeout { found: f64 },
    #[error("`{field}` is not served")]
    NotServed { field: &'static str },
    #[error("row {row} of `data` is not an id and a text")]
    Row { row: usize },
    #[error("the id of row {row} of `data` is neither a number nor a text")]
    RowId { row: usize },
    #[error("`data` holds no text")]
    NoText,
    #[error("row {row} of `data` holds no text")]
    NoTextInRow { row: usize },
}

impl Explain for RequestError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotServed { .. } => Some("wait for the answer of the request".to_owned()),
            Self::Json(_) | Self::Timeout { .. } => None,
            _ => Some(
                "`data` is a text, {\"text\": …}, or a list of [id, text] or [id, {\"text\": …}]"
                    .to_owned(),
            ),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    data: Value,
    timeout_seconds: Option<f64>,
    response_webhook: Option<Value>,
    response_webhook_ignore_timeout: Option<Value>,
    response_format: Option<Value>,
}

impl Inference {
    /// # Errors
    /// Whatever is wrong with the body.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        let body: Body = serde_json::from_slice(body).map_err(RequestError::Json)?;
        for (field, value) in [
            ("response_webhook", &body.response_webhook),
            ("response_webhook_ignore_timeout", &body.response_webhook_ignore_timeout),
            ("response_format", &body.response_format),
        ] {
            if value.is_some() {
                return Err(RequestError::NotServed { field });
            }
        }
        let seconds = body.timeout_seconds.unwrap_or(MAX_TIMEOUT_SECONDS);
        if !(seconds > 0.0 && seconds <= MAX_TIMEOUT_SECONDS) {
            return Err(RequestError::Timeout { found: seconds });
        }
        let timeout = Duration::from_secs_f64(seconds);
        let (texts, shape) = match body.data {
            Value::Array(rows) if rows.iter().all(Value::is_array) => {
                let (ids, texts) = batch(rows)?;
                (texts, Shape::Batch(ids))
            }
            // The list of a function's arguments, of which ours has one.
            Value::Array(mut arguments) if arguments.len() == 1 => {
                let argument = arguments.pop().expect("there is one");
                (vec![text_of(argument).ok_or(RequestError::NoText)?], Shape::Single)
            }
            argument => (vec![text_of(argument).ok_or(RequestError::NoText)?], Shape::Single),
        };
        Ok(Self { texts, shape, timeout })
    }
}

fn batch(rows: Vec<Value>) -> Result<(Vec<RowId>, Vec<String>), RequestError> {
    let read = |(row, value): (usize, Value)| {
        let Value::Array(fields) = value else { return Err(RequestError::Row { row }) };
        let Ok([id, argument]) = <[Value; 2]>::try_from(fields) else {
            return Err(RequestError::Row { row });
        };
        let id = serde_json::from_value(id).map_err(|_| RequestError::RowId { row })?;
        Ok((id, text_of(argument).ok_or(RequestError::NoTextInRow { row })?))
    };
    rows.into_iter().enumerate().map(read).collect()
}

/// The text of an argument: itself, or of a row of a data frame the column `text`, or the
/// only column.
fn text_of(argument: Value) -> Option<String> {
    match argument {
        Value::String(text) => Some(text),
        Value::Object(mut columns) => {
            let only = columns.len() == 1;
            let column = match columns.remove(TEXT) {
                None if only => columns.into_iter().next().map(|(_, value)| value),
                column => column,
            };
            match column {
                Some(Value::String(text)) => Some(text),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<Inference, String> {
        Inference::read(body.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_inference_or_a_batch_of_rows() {
        for single in [json!("a"), json!(["a"]), json!({"text": "a", "x": 1}), json!({"q": "a"})] {
            let read = read(&json!({"data": single})).unwrap();
            assert_eq!((read.texts, read.shape), (vec!["a".to_owned()], Shape::Single));
        }
        let rows = json!([[1, "a"], ["two", {"text": "b", "other": 3}], [2.5, {"c": "c"}]]);
        let read = read(&json!({"data": rows, "timeout_seconds": 10})).unwrap();
        assert_eq!(read.texts, ["a", "b", "c"]);
        let ids = [
            RowId::Number(1.into()),
            RowId::Text("two".to_owned()),
            RowId::Number(Number::from_f64(2.5).unwrap()),
        ];
        assert_eq!(read.shape, Shape::Batch(ids.to_vec()));
        assert_eq!(read.timeout, Duration::from_secs(10));
        let empty = self::read(&json!({"data": []})).unwrap();
        assert_eq!((empty.texts.len(), empty.shape), (0, Shape::Batch(Vec::new())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (body, word) in [
            (json!({}), "JSON"),
            (json!({"data": "a", "top_k": 3}), "JSON"),
            (json!({"data": null}), "no text"),
            (json!({"data": ["a", "b"]}), "no text"),
            (json!({"data": {"a": "x", "b": "y"}}), "no text"),
            (json!({"data": [[1, "a"], [2]]}), "row 1"),
            (json!({"data": [[1, "a", "b"]]}), "row 0"),
            (json!({"data": [[null, "a"]]}), "id of row 0"),
            (json!({"data": [[1, 2]]}), "row 0"),
            (json!({"data": "a", "timeout_seconds": 0}), "timeout_seconds"),
            (json!({"data": "a", "timeout_seconds": 301}), "timeout_seconds"),
            (json!({"data": "a", "response_webhook": "https://x"}), "response_webhook"),
        ] {
            let error = read(&body).unwrap_err();
            assert!(error.contains(word), "{body}: {error}");
        }
    }

    #[test]
    fn damaged_bodies_are_refused_or_read_and_never_panic() {
        let whole = json!({"data": [[1, "a"], ["x", {"text": "b"}]], "timeout_seconds": 1.5});
        let whole = whole.to_string().into_bytes();
        let mut refused = 0;
        for seed in 0..5000u64 {
            let mut damaged = whole.clone();
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for _ in 0..=seed % 4 {
                random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31);
                let at = usize::try_from(random % damaged.len() as u64).unwrap();
                damaged[at] = u8::try_from(random >> 32 & 0x7f).unwrap();
            }
            match Inference::read(&damaged) {
                Ok(Inference { texts, shape: Shape::Batch(ids), .. }) => {
                    assert_eq!(texts.len(), ids.len(), "seed {seed}");
                }
                Ok(read) => assert_eq!(read.texts.len(), 1, "seed {seed}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 2000, "{refused} of 5000");
    }
}
