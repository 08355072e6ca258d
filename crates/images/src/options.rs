//! What images are opened with.

use std::fs::File;
use std::io;
use std::sync::Arc;

use corral_types::BlobHash;

use crate::step::StepRunner;

/// Bytes that layers and packages may take unless told otherwise: some twenty images with large
/// numeric libraries.
const QUOTA_BYTES: u64 = 40 << 30;

/// What stands for the bases that recipes name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseChoice {
    /// The host's system files where they have the Python that is asked for and no further
    /// packages of the system are; Debian's packages otherwise.
    #[default]
    Auto,
    /// Debian's packages.
    Debian,
    /// The host's system files.
    Host,
}

/// Files by content.
pub trait Files: Send + Sync {
    /// # Errors
    /// When there is no such content here.
    fn open(&self, hash: &BlobHash) -> io::Result<File>;
}

/// How images are made and kept.
#[derive(Clone)]
pub struct ImagesOptions {
    pub base: BaseChoice,
    /// Bytes that layers and packages may take; bases do not count.
    pub quota_bytes: u64,
    pub files: Arc<dyn Files>,
    pub runner: Arc<dyn StepRunner>,
}

impl ImagesOptions {
    pub fn new(files: Arc<dyn Files>, runner: Arc<dyn StepRunner>) -> Self {
        Self { base: BaseChoice::default(), quota_bytes: QUOTA_BYTES, files, runner }
    }
}
