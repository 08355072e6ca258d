//! Reading the state back: the newest snapshot, then the records after it.

use std::io::{ErrorKind, Read};

use corral_journal::Recovery;

use crate::core::Core;
use crate::error::{FunctionsError, SnapshotError};
use crate::record::Record;

/// No piece of a snapshot is larger: hundreds of calls with a payload each, one of them perhaps
/// with chunks.
const MAX_PIECE_BYTES: u32 = 256 << 20;

/// The state as it was, and how many bytes of records were read for it.
pub(crate) fn recover(recovery: Recovery) -> Result<(Core, u64), FunctionsError> {
    if let Some(tail) = &recovery.cut_tail {
        tracing::info!(
            file = %tail.file.display(), offset = tail.offset, bytes = tail.bytes,
            "cut off records of functions that were being written when the last process ended"
        );
    }
    for file in &recovery.damaged_snapshots {
        tracing::warn!(file = %file.display(), "went past a damaged snapshot of the functions");
    }
    let mut core = Core::default();
    if let Some(snapshot) = recovery.snapshot {
        core.sequence = snapshot.covers().get();
        read_pieces(snapshot, &mut core).map_err(FunctionsError::Snapshot)?;
        core.link_restored();
    }
    let mut record_bytes = 0;
    for record in recovery.records {
        let record = record?;
        record_bytes += record.payload.len() as u64;
        let sequence = record.sequence.get();
        let decoded = Record::decode(&record.payload)
            .map_err(|source| FunctionsError::Record { sequence, source })?;
        core.sequence = sequence - 1;
        core.apply(decoded);
    }
    core.ahead = None;
    Ok((core, record_bytes))
}

fn read_pieces(mut snapshot: impl Read, core: &mut Core) -> Result<(), SnapshotError> {
    let mut length = [0; 4];
    let mut piece = Vec::new();
    loop {
        match snapshot.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(SnapshotError::Read(error)),
        }
        let bytes = u32::from_le_bytes(length);
        if bytes > MAX_PIECE_BYTES {
            return Err(SnapshotError::Read(ErrorKind::InvalidData.into()));
        }
        piece.resize(bytes as usize, 0);
        snapshot.read_exact(&mut piece).map_err(SnapshotError::Read)?;
        core.restore(&piece).map_err(SnapshotError::Piece)?;
    }
}
