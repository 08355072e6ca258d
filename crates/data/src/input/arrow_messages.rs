//! The messages of an Arrow stream, which is also what stands in an Arrow file between its
//! magic and its footer: one pass, no seeking, and one batch in memory. A stream that ends
//! without its end marker was cut off, even if it was cut between two messages.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{MessageHeader, MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use crate::ipc_message::check_batch;

/// The largest header of a message; that of a batch of a thousand columns has some 100 KiB.
const MAX_HEADER_BYTES: u64 = 64 << 20;

pub(super) struct ArrowMessages<R> {
    source: R,
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
    /// The largest batch, decompressed.
    batch_limit: u64,
    header: Vec<u8>,
}

/// Why messages cannot be read.
pub(super) enum MessageError {
    Read(std::io::Error),
    Damaged(String),
}

impl From<std::io::Error> for MessageError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut off".to_owned()),
            _ => Self::Read(error),
        }
    }
}

impl From<ArrowError> for MessageError {
    fn from(error: ArrowError) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn damaged(what: &str) -> MessageError {
    MessageError::Damaged(what.to_owned())
}

impl<R: Read> ArrowMessages<R> {
    /// Reads the schema, with which every stream begins.
    pub(super) fn open(source: R, batch_limit: u64) -> Result<Self, MessageError> {
        let mut messages = Self {
            source,
            schema: Arc::new(Schema::empty()),
            dictionaries: HashMap::new(),
            batch_limit,
            header: Vec::new(),
        };
        if !messages.read_header()? {
            return Err(damaged("it has no schema"));
        }
        let unreadable = || damaged("its first message is not a schema");
        let message = root_as_message(&messages.header).map_err(|_| unreadable())?;
        let schema = message.header_as_schema().ok_or_else(unreadable)?;
        messages.schema = Arc::new(arrow_ipc::convert::try_fb_to_schema(schema)?);
        Ok(messages)
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch; `None` at the end marker.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, MessageError> {
        while self.read_header()? {
            let message = root_as_message(&self.header)
                .map_err(|_| damaged("the header of a message cannot be read"))?;
            let length = u64::try_from(message.bodyLength())
                .map_err(|_| damaged("a message has a negative length"))?;
            if length > self.batch_limit {
                return Err(damaged(
                    "a batch is larger than can be held; write it in smaller batches",
                ));
            }
            let mut body = Vec::new();
            // Grows with what arrives, so a false length costs nothing.
            (&mut self.source).take(length).read_to_end(&mut body)?;
            if body.len() as u64 != length {
                return Err(damaged("it is cut off"));
            }
            let body = Buffer::from_vec(body);
            let version: MetadataVersion = message.version();
            match message.header_type() {
                MessageHeader::RecordBatch => {
                    let batch = message
                        .header_as_record_batch()
                        .ok_or_else(|| damaged("a batch is empty"))?;
                    check_batch(batch, &body, self.batch_limit).map_err(damaged)?;
                    let schema = Arc::clone(&self.schema);
                    let batch = read_record_batch(
                        &body,
                        batch,
                        schema,
                        &self.dictionaries,
                        None,
                        &version,
                    )?;
                    return Ok(Some(batch));
                }
                MessageHeader::DictionaryBatch => {
                    let dictionary = message
                        .header_as_dictionary_batch()
                        .ok_or_else(|| damaged("a dictionary is empty"))?;
                    let values =
                        dictionary.data().ok_or_else(|| damaged("a dictionary has no values"))?;
                    check_batch(values, &body, self.batch_limit).map_err(damaged)?;
                    read_dictionary(
                        &body,
                        dictionary,
                        &self.schema,
                        &mut self.dictionaries,
                        &version,
                    )?;
                }
                _ => return Err(damaged("it has a message that is neither batch nor dictionary")),
            }
        }
        Ok(None)
    }

    /// Reads the header of the next message; false at the end marker.
    fn read_header(&mut self) -> Result<bool, MessageError> {
        let mut word = [0; 4];
        self.source.read_exact(&mut word)?;
        // Before Arrow 0.15 there was no continuation marker.
        if word == [0xff; 4] {
            self.source.read_exact(&mut word)?;
        }
        let length = u64::from(u32::from_le_bytes(word));
        if length == 0 {
            return Ok(false);
        }
        if length > MAX_HEADER_BYTES {
            return Err(damaged("the header of a message is too long"));
        }
        self.header.clear();
        (&mut self.source).take(length).read_to_end(&mut self.header)?;
        if self.header.len() as u64 != length {
            return Err(damaged("it is cut off"));
        }
        Ok(true)
    }
}
