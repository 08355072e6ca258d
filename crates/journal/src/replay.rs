//! Reading the log back.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::frame::{FrameHeader, FrameKind, SequenceNumber, record_at};
use crate::segment::{Found, SegmentReader};
use crate::{Damage, JournalError};

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub sequence: SequenceNumber,
    pub payload: Vec<u8>,
}

/// The records after the snapshot, in order, read from disk as they are asked for: memory is
/// bounded by one frame, however long the log.
///
/// It ends with the last record there was when the journal was opened; or with an error, after
/// which it gives nothing more. Read it to its end before a snapshot is installed, which removes
/// segments.
pub struct Records {
    dir: PathBuf,
    /// First records of the segments not yet opened.
    segments: VecDeque<SequenceNumber>,
    segment: Option<SegmentReader>,
    /// The position in the segment's current body.
    in_body: usize,
    left_in_body: u32,
    /// The number of the next record in the log.
    next: SequenceNumber,
    /// Records up to here are in the snapshot.
    after: SequenceNumber,
    until: SequenceNumber,
}

impl Records {
    /// The records numbered above `after` and up to `until`; `segments` begins with the one that
    /// holds the first of them.
    pub(crate) fn new(
        dir: &Path,
        segments: VecDeque<SequenceNumber>,
        after: SequenceNumber,
        until: SequenceNumber,
    ) -> Self {
        let next = segments.front().copied().unwrap_or(after.next());
        Self {
            dir: dir.to_owned(),
            segments,
            segment: None,
            in_body: 0,
            left_in_body: 0,
            next,
            after,
            until,
        }
    }

    /// How many records are left to come, if none is damaged.
    pub fn remaining(&self) -> u64 {
        self.until.get().saturating_sub(self.next.previous().max(self.after).get())
    }

    fn read_next(&mut self) -> Result<Option<Record>, JournalError> {
        while self.next <= self.until {
            if self.left_in_body == 0 {
                self.read_frame()?;
                continue;
            }
            let segment = self.segment.as_ref().expect("a body was read from a segment");
            let (payload, end) = record_at(segment.body(), self.in_body).ok_or_else(|| {
                JournalError::damaged(&segment.path, segment.offset(), Damage::Frame)
            })?;
            let sequence = self.next;
            let record =
                (sequence > self.after).then(|| Record { sequence, payload: payload.to_owned() });
            self.in_body = end;
            self.left_in_body -= 1;
            self.next = sequence.next();
            if record.is_some() {
                return Ok(record);
            }
        }
        Ok(None)
    }

    fn read_frame(&mut self) -> Result<(), JournalError> {
        let Some(segment) = &mut self.segment else {
            let missing = Damage::MissingSegment { first: self.next };
            let first = self
                .segments
                .pop_front()
                .ok_or_else(|| JournalError::damaged(&self.dir, 0, missing))?;
            let segment = SegmentReader::open(&self.dir, first)?;
            expect(self.next, first, &segment.path, 0)?;
            self.segment = Some(segment);
            return Ok(());
        };
        let offset = segment.offset();
        match segment.next_frame()? {
            Found::Frame(FrameHeader { kind, first, records, .. }) => {
                expect(self.next, first, &segment.path, offset)?;
                (self.in_body, self.left_in_body) = (0, records);
                if kind == FrameKind::Continued {
                    self.segment = None;
                }
                Ok(())
            }
            // The writer stopped between making the next segment and closing this one.
            Found::Nothing if self.segments.front() == Some(&self.next) => {
                self.segment = None;
                Ok(())
            }
            Found::Nothing => Err(JournalError::damaged(&segment.path, offset, Damage::Frame)),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read_next().transpose();
        if matches!(next, Some(Err(_))) {
            self.until = SequenceNumber::ZERO;
        }
        next
    }
}

/// Where the last segment ends.
pub(crate) struct SegmentEnd {
    pub offset: u64,
    pub next: SequenceNumber,
    /// The kind and offset of the last frame.
    pub last_frame: Option<(FrameKind, u64)>,
}

/// Reads the last segment to the first place where no frame can be read.
pub(crate) fn find_end(segment: &mut SegmentReader) -> Result<SegmentEnd, JournalError> {
    let mut next = segment.header.first;
    let mut last_frame = None;
    loop {
        let offset = segment.offset();
        match segment.next_frame()? {
            Found::Nothing => return Ok(SegmentEnd { offset, next, last_frame }),
            Found::Frame(frame) => {
                expect(next, frame.first, &segment.path, offset)?;
                next = frame.next();
                if frame.kind == FrameKind::Continued {
                    let missing = Damage::MissingSegment { first: next };
                    return Err(JournalError::damaged(&segment.path, offset, missing));
                }
                last_frame = Some((frame.kind, offset));
            }
        }
    }
}

fn expect(
    expected: SequenceNumber,
    found: SequenceNumber,
    file: &Path,
    offset: u64,
) -> Result<(), JournalError> {
    if expected == found {
        return Ok(());
    }
    Err(JournalError::damaged(file, offset, Damage::Gap { expected, found }))
}
