//! Calls, payloads and outcomes as small as they get: of these there are millions.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use corral_types::{BlobHash, CallId, ContainerId, InputId, Timestamp};

use crate::call::{Invocation, Outcome, OutcomeStatus, Payload};
use crate::codec::{Reader, Writer};
use crate::error::CodecError;

/// What names a call: the upper 96 bits of its id, whose lower 32 are zero. In the id of an
/// input of the call they are the input's index plus one, so that an input's id need not be
/// kept, and tells where the input is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallKey([u32; 3]);

impl CallKey {
    /// From 48 bits of creation time and 48 others.
    pub fn new(created: Timestamp, others: [u8; 6]) -> Self {
        let mut random = [0; 10];
        random[..6].copy_from_slice(&others);
        Self::of(CallId::from_parts(created, random))
    }

    pub fn of(call: CallId) -> Self {
        let value = call.as_u128();
        Self([(value >> 96) as u32, (value >> 64) as u32, (value >> 32) as u32])
    }

    pub fn call(self) -> CallId {
        CallId::from_u128(self.bits())
    }

    pub fn input(self, index: u32) -> InputId {
        InputId::from_u128(self.bits() | u128::from(index + 1))
    }

    /// The call and index of an input's id, if it is one of ours.
    pub fn of_input(input: InputId) -> Option<(Self, u32)> {
        let index = (input.as_u128() as u32).checked_sub(1)?;
        Some((Self::of(CallId::from_u128(input.as_u128())), index))
    }

    pub fn created_at(self) -> Timestamp {
        Timestamp::from_millis((self.bits() >> 80) as u64)
    }

    /// The same bits with another time of creation.
    pub fn at(self, created: Timestamp) -> Self {
        let bits = self.others().to_be_bytes();
        Self::new(created, bits[2..].try_into().expect("six of eight bytes"))
    }

    /// The bits beside the time of creation.
    pub fn others(self) -> u64 {
        (self.bits() >> 32) as u64 & 0xffff_ffff_ffff
    }

    /// Whether both were made from the same bits, at whatever time.
    pub fn is_sibling(self, other: Self) -> bool {
        self.others() == other.others()
    }

    fn bits(self) -> u128 {
        let [first, second, third] = self.0.map(u128::from);
        first << 96 | second << 64 | third << 32
    }

    pub fn write(self, writer: &mut Writer) {
        for part in self.0 {
            writer.fixed(&part.to_le_bytes());
        }
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut parts = [0; 3];
        for part in &mut parts {
            *part = u32::from_le_bytes(reader.fixed(4)?.try_into().expect("four bytes were taken"));
        }
        Ok(Self(parts))
    }
}

impl fmt::Debug for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call().fmt(f)
    }
}

const INLINE: u8 = 0;
const BLOB: u8 = 1;

/// A payload in one allocation: a byte that says which kind, then the bytes or the hash.
pub(crate) fn pack_payload(payload: &Payload) -> Arc<[u8]> {
    let (kind, bytes): (u8, &[u8]) = match payload {
        Payload::Inline(bytes) => (INLINE, bytes),
        Payload::Blob(hash) => (BLOB, hash.as_bytes()),
    };
    std::iter::once(kind).chain(bytes.iter().copied()).collect()
}

/// # Errors
/// When the bytes are none of a payload.
pub(crate) fn unpack_payload(body: &[u8]) -> Result<Payload, CodecError> {
    match body {
        [] => Err(CodecError::Short),
        [INLINE, bytes @ ..] => Ok(Payload::Inline(Bytes::copy_from_slice(bytes))),
        [BLOB, hash @ ..] => blob_hash(hash).map(Payload::Blob),
        [found, ..] => Err(CodecError::Kind { found: *found }),
    }
}

/// The blob that a packed payload names, if it does.
pub(crate) fn payload_blob(body: &[u8]) -> Option<BlobHash> {
    match body {
        [BLOB, hash @ ..] => blob_hash(hash).ok(),
        _ => None,
    }
}

fn blob_hash(bytes: &[u8]) -> Result<BlobHash, CodecError> {
    bytes.try_into().map(BlobHash::from_bytes).map_err(|_| CodecError::Value { what: "a hash" })
}

/// An outcome and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub outcome: Outcome,
    pub container: Option<ContainerId>,
    pub started_at: Option<Timestamp>,
}

impl Ending {
    pub fn pack(&self) -> Arc<[u8]> {
        let Outcome {
            status,
            payload,
            data_format,
            exception,
            traceback,
            serialized_traceback,
            traceback_lines,
        } = &self.outcome;
        let mut writer = Writer::default();
        writer.byte(status_byte(*status));
        // Where a blob stands is the same for all, so that it is found without the rest.
        writer.optional(payload.as_ref(), |writer, payload| writer.bytes(&pack_payload(payload)));
        writer.byte(*data_format as u8);
        writer.optional(self.container, Writer::id);
        writer.optional(self.started_at, Writer::time);
        let words =
            [exception.as_bytes(), traceback.as_bytes(), serialized_traceback, traceback_lines];
        if words.iter().any(|words| !words.is_empty()) {
            for words in words {
                writer.bytes(words);
            }
        }
        writer.0.into()
    }

    /// # Errors
    /// When the bytes are none of an ending.
    pub fn unpack(body: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let status = read_status(reader.byte()?)?;
        let payload = reader.optional(|reader| unpack_payload(reader.bytes()?))?;
        let data_format = reader.byte()?.into();
        let container = reader.optional(Reader::id)?;
        let started_at = reader.optional(Reader::time)?;
        let mut outcome =
            Outcome { payload, data_format, ..Outcome::without_payload(status, String::new()) };
        if !reader.is_empty() {
            outcome.exception = reader.text()?;
            outcome.traceback = reader.text()?;
            outcome.serialized_traceback = Bytes::copy_from_slice(reader.bytes()?);
            outcome.traceback_lines = Bytes::copy_from_slice(reader.bytes()?);
        }
        Ok(Self { outcome, container, started_at })
    }
}

/// The status of a packed ending.
pub(crate) fn ending_status(body: &[u8]) -> OutcomeStatus {
    body.first().and_then(|&byte| read_status(byte).ok()).unwrap_or(OutcomeStatus::InternalFailure)
}

/// The blob that a packed ending names, if it does.
pub(crate) fn ending_blob(body: &[u8]) -> Option<BlobHash> {
    let mut reader = Reader::new(body.get(1..)?);
    let payload = reader.optional(Reader::bytes).ok()??;
    payload_blob(payload)
}

pub(crate) fn status_byte(status: OutcomeStatus) -> u8 {
    match status {
        OutcomeStatus::Success => 1,
        OutcomeStatus::Failure => 2,
        OutcomeStatus::Terminated => 3,
        OutcomeStatus::Timeout => 4,
        OutcomeStatus::InitFailure => 5,
        OutcomeStatus::InternalFailure => 6,
    }
}

fn read_status(byte: u8) -> Result<OutcomeStatus, CodecError> {
    let found = OutcomeStatus::ALL.into_iter().find(|&status| status_byte(status) == byte);
    found.ok_or(CodecError::Value { what: "a status" })
}

pub(crate) fn invocation_byte(invocation: Invocation) -> u8 {
    match invocation {
        Invocation::Sync => 0,
        Invocation::Async => 1,
        Invocation::SyncLegacy => 2,
    }
}

pub(crate) fn read_invocation(byte: u8) -> Result<Invocation, CodecError> {
    match byte {
        0 => Ok(Invocation::Sync),
        1 => Ok(Invocation::Async),
        2 => Ok(Invocation::SyncLegacy),
        _ => Err(CodecError::Value { what: "an invocation" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_inputs_tell_their_call_and_index() {
        let key = CallKey::new(Timestamp::from_millis(1_795_000_000_123), [1, 2, 3, 4, 5, 255]);
        assert_eq!(CallKey::of(key.call()), key);
        assert_eq!(CallKey::of_input(key.input(7)), Some((key, 7)));
        assert_eq!(key.created_at(), Timestamp::from_millis(1_795_000_000_123));
        assert_eq!(CallKey::of_input(InputId::from_u128(key.call().as_u128())), None);
        assert_eq!(size_of::<CallKey>(), 12);
    }

    #[test]
    fn endings_and_payloads_read_back() {
        let blob = BlobHash::of(b"blob");
        for payload in [Payload::Inline(Bytes::from_static(b"abc")), Payload::Blob(blob)] {
            assert_eq!(unpack_payload(&pack_payload(&payload)), Ok(payload.clone()));
            let named = matches!(payload, Payload::Blob(_)).then_some(blob);
            assert_eq!(payload_blob(&pack_payload(&payload)), named);
            let ending = Ending {
                outcome: Outcome { exception: "bad".into(), ..Outcome::success(payload, 4) },
                container: Some(ContainerId::from_u128(9)),
                started_at: Some(Timestamp::from_millis(5)),
            };
            let packed = ending.pack();
            assert_eq!(Ending::unpack(&packed), Ok(ending));
            assert_eq!(
                (ending_status(&packed), ending_blob(&packed)),
                (OutcomeStatus::Success, named)
            );
        }
        let bare = Ending {
            outcome: Outcome::without_payload(OutcomeStatus::Timeout, ""),
            container: None,
            started_at: None,
        };
        assert_eq!(bare.pack().len(), 5);
        assert_eq!(Ending::unpack(&bare.pack()), Ok(bare));
    }
}
