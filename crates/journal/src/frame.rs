//! Frames: what one write and one sync make durable.
//!
//! ```text
//! offset  bytes
//!      0      4  CRC-32 of the header's other 36 bytes
//!      4      4  kind: 1 records, 2 mark, 3 continued
//!      8      8  the segment's salt
//!     16      8  number of the first record (of the next one, in frames without records)
//!     24      4  bytes of the body
//!     28      4  records in the body
//!     32      4  CRC-32 of the body
//!     36      4  zero
//!     40      …  the body: for each record its length in 4 bytes, then its payload
//!      …  0 – 7  zeros, so that the next frame begins at a multiple of 8
//! ```
//!
//! All integers are little-endian. A frame counts whole or not at all, which is what makes a
//! batch atomic. The salt is drawn when a segment is made, so that bytes inside a payload are
//! never taken for a frame, whoever chose them.

use std::fmt;

/// The largest record. What is over 16 KiB belongs into a blob; the rest is room for the
/// occasional long list.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// The largest batch, its 4 bytes a record included.
pub const MAX_BATCH_BYTES: usize = 8 << 20;

/// How much may wait for the disk before appenders wait too: a tenth of a second of a slow disk.
/// A frame is whatever waited, so this bounds frames as well, and memory to twice as much.
pub const QUEUE_BYTES: usize = 16 << 20;

pub(crate) const FRAME_HEADER_BYTES: usize = 40;

/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGNMENT: usize = 8;

/// The bytes before each payload in a body.
pub(crate) const LENGTH_BYTES: usize = 4;

/// The number of a record: 1 for the first, then one more for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(u64);

impl SequenceNumber {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the record after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number `count` records later.
    #[must_use]
    pub(crate) const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// The number of the record before this one; zero stays zero.
    #[must_use]
    pub(crate) const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Records = 1,
    /// Everything before this is on disk; written when the journal is opened and closed, so that
    /// later damage to the last records is not taken for a frame that was never finished.
    Mark = 2,
    /// As a mark, and the log goes on in the next segment.
    Continued = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub kind: FrameKind,
    pub salt: u64,
    pub first: SequenceNumber,
    pub body_bytes: u32,
    pub records: u32,
    pub body_crc: u32,
}

impl FrameHeader {
    pub(crate) fn for_body(salt: u64, first: SequenceNumber, records: u32, body: &[u8]) -> Self {
        let body_bytes = u32::try_from(body.len()).expect("the queue's limit is below 4 GiB");
        let body_crc = crc32fast::hash(body);
        Self { kind: FrameKind::Records, salt, first, body_bytes, records, body_crc }
    }

    pub(crate) fn without_records(kind: FrameKind, salt: u64, next: SequenceNumber) -> Self {
        Self { kind, salt, first: next, body_bytes: 0, records: 0, body_crc: 0 }
    }

    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.get().to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.records.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in these bytes, if they are one of a segment with this salt.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES], salt: u64) -> Option<Self> {
        if u64_at(bytes, 8) != salt || u32_at(bytes, 0) != crc32fast::hash(&bytes[4..]) {
            return None;
        }
        let kind = match u32_at(bytes, 4) {
            1 => FrameKind::Records,
            2 => FrameKind::Mark,
            3 => FrameKind::Continued,
            _ => return None,
        };
        let first = SequenceNumber(u64_at(bytes, 16));
        let (body_bytes, records) = (u32_at(bytes, 24), u32_at(bytes, 28));
        let fits = body_bytes as usize <= QUEUE_BYTES && u32_at(bytes, 36) == 0;
        let consistent = (kind == FrameKind::Records) == (records > 0);
        (fits && consistent).then_some(Self {
            kind,
            salt,
            first,
            body_bytes,
            records,
            body_crc: u32_at(bytes, 32),
        })
    }

    /// The whole frame's length, with header and padding.
    pub(crate) fn frame_bytes(&self) -> u64 {
        padded(FRAME_HEADER_BYTES + self.body_bytes as usize) as u64
    }

    /// The number of the record after this frame.
    pub(crate) fn next(&self) -> SequenceNumber {
        self.first.plus(u64::from(self.records))
    }
}

/// `bytes` rounded up to where a frame may begin.
pub(crate) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(FRAME_ALIGNMENT)
}

/// Adds a record to a body.
pub(crate) fn push_record(body: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("records are at most 1 MiB");
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(payload);
}

/// The payload that begins at `start` of a body, and where the next begins.
pub(crate) fn record_at(body: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let length = body.get(start..start + LENGTH_BYTES)?;
    let end = start + LENGTH_BYTES + u32_at(length, 0) as usize;
    Some((body.get(start + LENGTH_BYTES..end)?, end))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_and_no_flipped_bit_goes_unseen() {
        let header = FrameHeader::for_body(42, SequenceNumber(7), 2, b"some body");
        let bytes = header.encode();
        assert_eq!(FrameHeader::decode(&bytes, 42), Some(header));
        assert_eq!(FrameHeader::decode(&bytes, 43), None);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&damaged, 42), None, "bit {bit}");
        }
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let header =
            FrameHeader::for_body(0x0102_0304_0506_0708, SequenceNumber(9), 1, &[3, 0, 0, 0]);
        let text: String = header.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            text,
            // As Python's struct and zlib.crc32 make it.
            "b7a919f9010000000807060504030201\
             09000000000000000400000001000000\
             f270f13300000000"
        );
    }

    #[test]
    fn records_are_found_in_a_body_and_not_beyond_it() {
        let mut body = Vec::new();
        push_record(&mut body, b"one");
        push_record(&mut body, b"");
        assert_eq!(record_at(&body, 0), Some((&b"one"[..], 7)));
        assert_eq!(record_at(&body, 7), Some((&b""[..], 11)));
        assert_eq!(record_at(&body, 11), None);
        assert_eq!(record_at(&body[..6], 0), None);
    }
}
