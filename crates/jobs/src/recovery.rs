//! Reading the state back: the newest snapshot, then the records after it.

use std::io::{ErrorKind, Read, Write};

use corral_journal::{Journal, Recovery, SequenceNumber};

use crate::apply::{CoreState, StatePiece};
use crate::core::{JobsCore, JobsPolicy};
use crate::error::{JobsError, SnapshotError};
use crate::record::Record;
use crate::story::StoryWriter;

/// How many records' worth of story is written at a time while reading back.
const STORY_BATCH: usize = 4_096;
/// No piece of a snapshot is larger: a job's request and result, and its attempts.
const MAX_PIECE_BYTES: u32 = 64 << 20;

/// The state as it was, with the stories completed by what the records tell, and how many
/// bytes of records were read for it.
pub(crate) fn recover(
    policy: JobsPolicy,
    recovery: Recovery,
    stories: &mut StoryWriter,
) -> Result<(JobsCore, u64), JobsError> {
    if let Some(tail) = &recovery.cut_tail {
        tracing::info!(
            file = %tail.file.display(), offset = tail.offset, bytes = tail.bytes,
            "cut off records of jobs that were being written when the last process ended"
        );
    }
    for file in &recovery.damaged_snapshots {
        tracing::warn!(file = %file.display(), "went past a damaged snapshot of the jobs");
    }
    let pieces = match recovery.snapshot {
        Some(snapshot) => read_pieces(snapshot).map_err(JobsError::Snapshot)?,
        None => Vec::new(),
    };
    let mut core = JobsCore::restore(policy, pieces);
    let mut story = Vec::new();
    let mut record_bytes = 0;
    for record in recovery.records {
        let record = record?;
        record_bytes += record.payload.len() as u64;
        let sequence = record.sequence.get();
        let record = Record::decode(&record.payload)
            .map_err(|source| JobsError::Record { sequence, source })?;
        story.extend(core.apply(&record));
        if story.len() >= STORY_BATCH {
            stories.append(&story)?;
            story.clear();
        }
    }
    stories.append(&story)?;
    // Stories of jobs that have ended get no more entries, and are right as they are.
    for job in core.jobs().filter(|job| !job.state().is_ended()) {
        stories.trim(job.id, job.events, job.log_lines)?;
    }
    Ok((core, record_bytes))
}

/// Replaces the records up to `covers` by the state they led to. Blocks.
pub(crate) fn write_snapshot(
    journal: &Journal,
    covers: SequenceNumber,
    state: &CoreState,
) -> Result<(), JobsError> {
    let mut writer = journal.begin_snapshot(covers)?;
    for piece in state.encode() {
        let length = u32::try_from(piece.len()).expect("a piece is far below 4 GiB");
        writer
            .write_all(&length.to_le_bytes())
            .and_then(|()| writer.write_all(&piece))
            .map_err(|error| JobsError::Snapshot(SnapshotError::Write(error)))?;
    }
    Ok(writer.install()?)
}

fn read_pieces(mut snapshot: impl Read) -> Result<Vec<StatePiece>, SnapshotError> {
    let mut pieces = Vec::new();
    let mut length = [0; 4];
    loop {
        match snapshot.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(pieces),
            Err(error) => return Err(SnapshotError::Read(error)),
        }
        let bytes = u32::from_le_bytes(length);
        if bytes > MAX_PIECE_BYTES {
            return Err(SnapshotError::Read(ErrorKind::InvalidData.into()));
        }
        let mut piece = vec![0; bytes as usize];
        snapshot.read_exact(&mut piece).map_err(SnapshotError::Read)?;
        pieces.push(StatePiece::decode(&piece).map_err(SnapshotError::Piece)?);
    }
}
