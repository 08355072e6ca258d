//! Blobs: files named by the BLAKE3 hash of their bytes, in a local directory.
//!
//! ```text
//! DIR/objects/ab/cdef…   one read-only file per blob: two digits of its hash, then the other 62
//! DIR/scratch/PID-N/     what one process is still writing; removed once that process is gone
//! ```
//!
//! **A blob is whole or absent.** Bytes are written to scratch, synced, and only then renamed to
//! the name their hash gives them; the directory is synced before the call returns. So whoever
//! holds a [`BlobHash`](corral_types::BlobHash) from a put may write it into a catalog or a journal: the
//! reference can never outlive the bytes, whatever is killed and whenever the power goes.
//!
//! **Garbage is what nobody refers to.** The store keeps no references; its owner does. Between a
//! put and the reference there is a moment when a blob looks like garbage, and [`BlobStore::sweep`]
//! spares it by age. The protocol has three rules:
//!
//! 1. Before a reference is written, the blob was put, or [revived](BlobStore::revive) when its
//!    bytes are known to be here. Both set its age to zero, also when it existed already.
//! 2. The reference is durable within the sweep's grace period.
//! 3. A sweep is given the references as they are when it starts, or newer.
//!
//! Setting the age and deleting by age exclude each other through a lock on the blob's directory,
//! which holds between processes too. A put therefore finds the blob and saves it from the sweep,
//! or finds it gone and stores it anew.
//!
//! Calls block on the disk; asynchronous callers use a blocking thread. Who may read a blob is
//! decided above, by the references of a workspace: to this store every hash is alike.

mod error;
mod scratch;
mod store;
mod sweep;
mod transfer;
mod writer;

pub use error::BlobError;
pub use store::{BlobStore, BlobStoreOptions, DEFAULT_RESERVE_BYTES, PutBlob};
pub use sweep::{BlobEntry, Blobs, Swept, Usage};
pub use transfer::Transferred;
pub use writer::{BUFFER_BYTES, BlobWriter};
