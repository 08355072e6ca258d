//! Predictions line by line: a body of any length, answered in order while it arrives.
//!
//! One task a request reads lines into chunks, has a few chunks answered at a time and hands
//! the answers to the connection. Everything between is bounded, so that memory does not
//! grow with the body: who sends faster than we answer, or does not read our answers, is
//! read from no further.

use std::io;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use corral_serving::MAX_TEXT_BYTES;
use corral_types::{Caller, ErrorKind, Failure};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::sync::mpsc;

use super::answer::{Answer, ApiError};
use super::split_lines::{Line, SplitLines};
use crate::api::{ErrorDetail, PredictLine, PredictQuery, PredictedLine};
use crate::asking::{Addressed, ask};
use crate::state::App;

/// The content types of bodies that hold a JSON value a line.
const CONTENT_TYPES: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];

/// The longest line: a text of the greatest length with every byte of it escaped, and some
/// room for what else the row has.
const MAX_LINE_BYTES: usize = 6 * MAX_TEXT_BYTES + (1 << 20);

/// A chunk is answered at once: this many lines, or bytes of text, take a core some
/// milliseconds, which is long beside handing them over, and short beside other requests.
const CHUNK_LINES: usize = 512;
const CHUNK_BYTES: usize = 128 * 1024;

/// How long a chunk that is not full waits for more, so that lines which come one at a time
/// are answered one at a time.
const GATHER: Duration = Duration::from_millis(2);

/// Chunks of a request that are answered at a time; more would let one request fill the
/// queue for cores that all requests wait in.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Answered chunks that wait for the connection.
const ANSWERS_IN_FLIGHT: usize = 4;

/// How long a client may leave our answers unread before the request is cut off: one that
/// sends its whole body before it reads would otherwise wait for ever, and we for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A chunk waits for a core among all other requests: how often it asks again when too many
/// wait, and how long before.
const BUSY_ATTEMPTS: u32 = 60;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Whether a content type is that of JSON lines.
pub fn are_meant_by(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    CONTENT_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known))
}

/// Answers a body of lines.
///
/// # Errors
/// When the endpoint cannot answer anything, or an option is wrong: what concerns a single
/// line is answered in its place.
pub async fn answer(
    app: App,
    caller: Caller,
    addressed: Addressed,
    query: PredictQuery,
    body: Body,
) -> Answer<Response> {
    // No text yet: this finds out what is wrong with the request itself, and opens the model.
    ask(&app, &caller, &addressed, query.question(Vec::new())).await?;
    let (sender, receiver) = mpsc::channel(ANSWERS_IN_FLIGHT);
    tokio::spawn(async move {
        let asked = Asked { app, caller, addressed, query };
        let answers = chunks(body).map(|chunk| asked.answer(chunk)).buffered(CHUNKS_IN_FLIGHT);
        deliver(answers, &sender, STALL_TIMEOUT).await;
    });
    let content_type = [(header::CONTENT_TYPE, CONTENT_TYPES[0])];
    Ok((content_type, Body::from_stream(received(receiver))).into_response())
}

/// What goes to the connection: answers, and that there are no more.
enum Delivery {
    Answers(Bytes),
    End,
}

/// Hands answers over until there are none, or nobody wants them for so long.
async fn deliver(
    answers: impl Stream<Item = Bytes>,
    sender: &mpsc::Sender<Delivery>,
    stall_timeout: Duration,
) {
    let mut answers = std::pin::pin!(answers);
    loop {
        let next = tokio::select! {
            biased;
            () = sender.closed() => return,
            next = answers.next() => next,
        };
        let is_end = next.is_none();
        let delivery = next.map_or(Delivery::End, Delivery::Answers);
        let sent = sender.send_timeout(delivery, stall_timeout).await;
        if sent.is_err() || is_end {
            return;
        }
    }
}

/// The answers as a body. Without the word that this is the end it breaks off, so that half
/// an answer is never taken for a whole one.
fn received(receiver: mpsc::Receiver<Delivery>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Delivery::Answers(answers)) => Ok(Some((answers, receiver))),
            Some(Delivery::End) => Ok(None),
            None => Err(io::Error::other("the answers were not read, or the server ends")),
        }
    })
}

/// A row of the request: what is asked, or why it cannot be asked.
enum Row {
    Asked(PredictLine),
    Refused { id: Option<Value>, failure: Failure },
}

/// Rows that are answered together, in order; each with the number of its line.
#[derive(Default)]
struct Chunk {
    rows: Vec<(u64, Row)>,
    text_bytes: usize,
}

impl Chunk {
    fn push(&mut self, line: Line) {
        let (number, row) = match line {
            Line::Whole { number, bytes } => (number, read(&bytes)),
            Line::TooLong { number } => (number, refused(ErrorKind::TooLarge, too_long())),
        };
        if let Row::Asked(asked) = &row {
            self.text_bytes += asked.text.len();
        }
        self.rows.push((number, row));
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_LINES || self.text_bytes >= CHUNK_BYTES
    }
}

fn too_long() -> String {
    format!("a line has more than {}", corral_types::display_bytes(MAX_LINE_BYTES as u64))
}

fn refused(kind: ErrorKind, message: String) -> Row {
    Row::Refused { id: None, failure: Failure::new(kind, message) }
}

/// Reads a line: a JSON string, or an object with a `text`.
fn read(bytes: &[u8]) -> Row {
    let read = if bytes.first() == Some(&b'"') {
        serde_json::from_slice(bytes).map(|text| PredictLine { text, id: None })
    } else {
        serde_json::from_slice(bytes)
    };
    match read {
        Ok(PredictLine { text, id }) if text.len() > MAX_TEXT_BYTES => {
            let message =
                format!("the text has {} bytes; a text has at most {MAX_TEXT_BYTES}", text.len());
            let failure = Failure::new(ErrorKind::TooLarge, message)
                .with_hint("cut it; classifiers read the beginning");
            Row::Refused { id, failure }
        }
        Ok(asked) => Row::Asked(asked),
        Err(error) => {
            let message = format!("the line is no text to classify: {error}");
            let failure = Failure::new(ErrorKind::Invalid, message)
                .with_hint("a line is a JSON string, or an object with the text as `text`");
            Row::Refused { id: None, failure }
        }
    }
}

/// The lines of a body in chunks, as they come.
fn chunks(body: Body) -> impl Stream<Item = Chunk> {
    let reader = Reader { blocks: body.into_data_stream(), lines: SplitLines::new(MAX_LINE_BYTES) };
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        let (chunk, more) = reader.next_chunk().await;
        (!chunk.rows.is_empty()).then_some((chunk, more.then_some(reader)))
    })
}

struct Reader {
    blocks: BodyDataStream,
    lines: SplitLines,
}

impl Reader {
    /// The next chunk, and whether more can follow; an empty one ends the body.
    async fn next_chunk(&mut self) -> (Chunk, bool) {
        let mut chunk = Chunk::default();
        loop {
            while let Some(line) = self.lines.next_line() {
                chunk.push(line);
                if chunk.is_full() {
                    return (chunk, true);
                }
            }
            let block = if chunk.rows.is_empty() {
                self.blocks.next().await
            } else {
                match tokio::time::timeout(GATHER, self.blocks.next()).await {
                    Ok(block) => block,
                    Err(_) => return (chunk, true),
                }
            };
            match block {
                Some(Ok(block)) => self.lines.feed(block),
                Some(Err(error)) => {
                    // Damage in a packed body, or nobody is there any more.
                    let message = format!("the body broke off: {error}");
                    let row = refused(ErrorKind::Invalid, message);
                    chunk.rows.push((self.lines.number(), row));
                    return (chunk, false);
                }
                None => {
                    if let Some(last) = self.lines.finish() {
                        chunk.push(last);
                    }
                    return (chunk, false);
                }
            }
        }
    }
}

/// What is asked about every line.
struct Asked {
    app: App,
    caller: Caller,
    addressed: Addressed,
    query: PredictQuery,
}

impl Asked {
    /// The answers to a chunk, a line each.
    async fn answer(&self, chunk: Chunk) -> Bytes {
        let texts = chunk.rows.iter().filter_map(|(_, row)| match row {
            Row::Asked(asked) => Some(asked.text.clone()),
            Row::Refused { .. } => None,
        });
        let mut answers = self.predict(texts.collect()).await.map(Vec::into_iter);
        let mut written = Vec::with_capacity(chunk.rows.len() * 128);
        for (line, row) in chunk.rows {
            let answered = match (row, &mut answers) {
                (Row::Refused { id, failure }, _) => {
                    PredictedLine::Failed { id, line, error: ErrorDetail::from(&failure) }
                }
                (Row::Asked(asked), Err(failure)) => {
                    let error = ErrorDetail::from(&*failure);
                    PredictedLine::Failed { id: asked.id, line, error }
                }
                (Row::Asked(asked), Ok(answers)) => {
                    let answer = answers.next().expect("every text has an answer");
                    PredictedLine::Answered { id: asked.id, prediction: answer.into() }
                }
            };
            serde_json::to_writer(&mut written, &answered).expect("answers are JSON");
            written.push(b'\n');
        }
        written.into()
    }

    async fn predict(&self, texts: Vec<String>) -> Result<Vec<corral_serving::Answer>, Failure> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let mut attempt = 1;
        loop {
            let question = self.query.question(texts.clone());
            match ask(&self.app, &self.caller, &self.addressed, question).await {
                Ok(answered) => return Ok(answered.predictions),
                Err(ApiError(failure)) if failure.kind != ErrorKind::Exhausted => {
                    return Err(failure);
                }
                Err(ApiError(failure)) if attempt == BUSY_ATTEMPTS => return Err(failure),
                Err(_) => tokio::time::sleep(BUSY_PAUSE).await,
            }
            attempt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_texts_or_rows_or_refused_alone() {
        let asked = |line: &str| match read(line.as_bytes()) {
            Row::Asked(asked) => Ok((asked.text, asked.id)),
            Row::Refused { failure, .. } => Err(failure.message),
        };
        assert_eq!(asked("\"a text\""), Ok(("a text".to_owned(), None)));
        let row = asked(r#"{"text": "x", "id": [1], "label": "y"}"#);
        assert_eq!(row, Ok(("x".to_owned(), Some(serde_json::json!([1])))));
        for wrong in ["", "{", "3", "null", "[]", r#"{"id": 3}"#, r#"{"text": 3}"#, "\"a\" \"b\""] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
        assert!(asked(r#"{"id": 3}"#).unwrap_err().contains("text"));
        let long = format!("\"{}\"", "x".repeat(MAX_TEXT_BYTES + 1));
        assert!(asked(&long).unwrap_err().contains("at most"));
    }

    #[test]
    fn content_types_are_compared_without_their_parameters() {
        assert!(are_meant_by("application/x-ndjson"));
        assert!(are_meant_by("Application/NDJSON; charset=utf-8"));
        assert!(!are_meant_by("application/json") && !are_meant_by(""));
    }

    #[tokio::test]
    async fn a_body_is_cut_into_full_chunks_and_a_rest() {
        let lines = "\"line\"\n".repeat(CHUNK_LINES * 2 + 3);
        let found: Vec<_> = chunks(Body::from(lines)).map(|chunk| chunk.rows.len()).collect().await;
        assert_eq!(found, [CHUNK_LINES, CHUNK_LINES, 3]);
        let long = format!("\"{}\"\n", "x".repeat(CHUNK_BYTES / 2)).repeat(5);
        let found: Vec<_> = chunks(Body::from(long)).map(|chunk| chunk.rows.len()).collect().await;
        assert_eq!(found, [2, 2, 1]);
        assert_eq!(chunks(Body::empty()).count().await, 0);
    }

    #[tokio::test]
    async fn answers_that_break_off_are_no_end() {
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Delivery::Answers(Bytes::from_static(b"a"))).await.ok().unwrap();
        drop(sender);
        let found: Vec<_> = received(receiver).collect().await;
        assert!(matches!(found[..], [Ok(_), Err(_)]));
        let (sender, receiver) = mpsc::channel(4);
        let answers = stream::iter([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        deliver(answers, &sender, STALL_TIMEOUT).await;
        let found: Vec<_> = received(receiver).collect().await;
        assert!(matches!(found[..], [Ok(_), Ok(_)]));
    }

    #[tokio::test]
    async fn nobody_to_read_ends_the_work() {
        let (sender, receiver) = mpsc::channel(4);
        drop(receiver);
        // Answers that never come must not keep the task.
        deliver(stream::pending(), &sender, STALL_TIMEOUT).await;
    }

    #[tokio::test]
    async fn answers_left_unread_end_the_work() {
        let (sender, receiver) = mpsc::channel(1);
        let answers = stream::repeat(Bytes::from_static(b"a"));
        deliver(answers, &sender, Duration::from_millis(5)).await;
        drop(sender);
        let found: Vec<_> = received(receiver).collect().await;
        assert!(matches!(found[..], [Ok(_), Err(_)]));
    }
}
