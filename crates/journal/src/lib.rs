//! The journal: an append-only log in a directory, in which what was acknowledged is not lost.
//!
//! Records are opaque bytes, numbered from 1 without gaps. An append is acknowledged once it is
//! on disk: a single writer thread takes everything that waits, writes it as one *frame*, syncs
//! it, and acknowledges all of it at once (group commit), while the next frame gathers. So one
//! appender pays for one sync, and a thousand share it.
//!
//! ```text
//! DIR/lock                           held by the process that has the journal open, with its pid
//! DIR/00000000000000000001.segment   frames from record 1 on; full and closed
//! DIR/00000000000000040960.segment   frames from record 40960 on; the last is written to
//! DIR/00000000000000050000.snapshot  the owner's state after record 50000
//! ```
//!
//! **After a crash** [`Journal::open`] gives back the newest snapshot and the records after it.
//! The end of the last segment may hold a frame that was being written; it is cut off, since
//! nothing in it was acknowledged. Every other damage is an error that names file and offset.
//! The two are told apart without guessing: a frame is written only after the one before it was
//! synced, so an unreadable frame that is followed by a readable one *had* been synced.
//! What that cannot see is damage to the very last frame of a journal that was not closed.
//!
//! **After a failed sync** nothing is acknowledged any more. The kernel may have dropped what it
//! could not write, and a second sync would succeed without it; only what is read and written
//! anew by the next open can be trusted.
//!
//! **A snapshot** lets the log before it go. It is written beside the log while appends go on,
//! synced, read back from the disk and compared, and only then takes its name; only after that
//! are the older snapshot and the segments that it covers removed.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! use corral_journal::{Journal, JournalOptions};
//!
//! let (journal, recovery) = Journal::open(dir, JournalOptions::default())?;
//! let mut total = 0;
//! for record in recovery.records {
//!     total += u64::from_le_bytes(record?.payload.try_into().expect("eight bytes"));
//! }
//! let last = journal.append_blocking(5u64.to_le_bytes())?; // or .append(…).await
//! total += 5;
//! journal.install_snapshot(last, &total.to_le_bytes())?;
//! # Ok(())
//! # }
//! ```

mod error;
mod export;
mod frame;
mod journal;
mod lock;
mod log;
mod open;
mod queue;
mod replay;
mod segment;
mod snapshot;

pub use error::{Damage, JournalError};
pub use frame::{MAX_BATCH_BYTES, MAX_RECORD_BYTES, QUEUE_BYTES, SequenceNumber};
pub use journal::{Journal, JournalOptions, Pending};
pub use open::{CutTail, Recovery};
pub use replay::{Record, Records};
pub use snapshot::{Snapshot, SnapshotWriter};

#[cfg(test)]
mod tests;
