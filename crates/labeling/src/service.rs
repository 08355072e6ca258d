//! The functions of data sets as records of a workspace, and the sessions of those that
//! somebody works on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use corral_blobs::BlobStore;
use corral_catalog::{
    Catalog, CatalogError, LabelingVersion, NewLabelingVersion, VersionChoice, all_pages,
};
use corral_types::{BlobHash, Caller, DatasetId, Timestamp};

use crate::cache::VoteCache;
use crate::document::{Changes, FunctionSet};
use crate::error::LabelingError;
use crate::session::Session;
use crate::votes::Rows;

/// Data sets that are kept open for answers at once, each with some megabytes of rows.
const MAX_SESSIONS: usize = 8;

/// How often an edit is tried again where others edit at the same moment.
const MAX_EDIT_ATTEMPTS: usize = 8;

/// The functions of a data set, as of a version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedSet {
    /// 0 where the data set never had any.
    pub version: u32,
    pub document: Option<BlobHash>,
    pub set: FunctionSet,
}

/// A session and the manifest that it is of.
type OpenSession = (BlobHash, Arc<Session>);

/// The service behind `/v1/datasets/NAME/functions`.
#[derive(Clone)]
pub struct Labelings {
    catalog: Arc<dyn Catalog>,
    blobs: BlobStore,
    pub cache: Arc<VoteCache>,
    sessions: Arc<Mutex<Vec<OpenSession>>>,
}

impl Labelings {
    /// `votes` is the folder of the votes that are kept.
    pub fn new(catalog: Arc<dyn Catalog>, blobs: BlobStore, votes: PathBuf) -> Self {
        let cache = Arc::new(VoteCache::new(Some(votes)));
        Self { catalog, blobs, cache, sessions: Arc::default() }
    }

    /// The functions of a data set; none where it never had any.
    ///
    /// # Errors
    /// When there is no such data set in the caller's workspace, or no such version.
    pub async fn load(
        &self,
        caller: &Caller,
        dataset: DatasetId,
        version: Option<u32>,
    ) -> Result<LoadedSet, LabelingError> {
        let choice = version.map_or(VersionChoice::Latest, VersionChoice::Number);
        let found = self.catalog.labeling_version(caller.workspace, dataset, choice).await?;
        match (found, version) {
            (Some(found), _) => self.read(found).await,
            (None, None) => Ok(LoadedSet::default()),
            (None, Some(number)) => Err(CatalogError::NotFound {
                what: corral_catalog::RecordKind::Labeling,
                name: format!("{dataset}@{number}"),
                nearest: Vec::new(),
            }
            .into()),
        }
    }

    async fn read(&self, found: LabelingVersion) -> Result<LoadedSet, LabelingError> {
        let (blobs, document) = (self.blobs.clone(), found.document);
        let set = blocking(move || FunctionSet::from_bytes(&blobs.read(&document)?)).await?;
        Ok(LoadedSet { version: found.number, document: Some(document), set })
    }

    /// Every version of a data set's functions, oldest first.
    ///
    /// # Errors
    /// When there is no such data set in the caller's workspace.
    pub async fn versions(
        &self,
        caller: &Caller,
        dataset: DatasetId,
    ) -> Result<Vec<LabelingVersion>, LabelingError> {
        let page = |page| self.catalog.list_labeling_versions(caller.workspace, dataset, page);
        Ok(all_pages(page).await?)
    }

    /// Makes what `edited` says of the functions as of `base` the next version. Nothing changes
    /// where nothing changed.
    ///
    /// # Errors
    /// When others have edited the functions since `base`.
    pub async fn save(
        &self,
        caller: &Caller,
        dataset: DatasetId,
        base: &LoadedSet,
        edited: FunctionSet,
        changes: &Changes,
    ) -> Result<LoadedSet, LabelingError> {
        if edited == base.set && base.version > 0 {
            return Ok(base.clone());
        }
        let (blobs, bytes) = (self.blobs.clone(), edited.to_bytes());
        let document = blocking(move || Ok(blobs.put_bytes(&bytes)?.hash)).await?;
        let new = NewLabelingVersion {
            document,
            functions: edited.functions.len() as u32,
            created: Timestamp::now(),
            note: note_of(changes),
        };
        let (workspace, built_on) = (caller.workspace, base.version);
        let added = self.catalog.add_labeling_version(workspace, dataset, built_on, new).await?;
        Ok(LoadedSet { version: added.number, document: Some(document), set: edited })
    }

    /// How often an edit is worth trying again after a conflict with another.
    pub const fn edit_attempts() -> usize {
        MAX_EDIT_ATTEMPTS
    }

    /// The session of a version of a data set, opened if it is not. Blocking.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn session(
        &self,
        manifest: BlobHash,
        rows: &Rows<'_>,
    ) -> Result<Arc<Session>, LabelingError> {
        let known = |sessions: &mut Vec<OpenSession>| {
            let at = sessions.iter().position(|(hash, _)| *hash == manifest)?;
            // The one used last stands last.
            let found = sessions.remove(at);
            let session = Arc::clone(&found.1);
            sessions.push(found);
            Some(session)
        };
        let lock = || self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = known(&mut lock()) {
            return Ok(session);
        }
        let opened = Arc::new(Session::open(rows)?);
        let mut sessions = lock();
        if let Some(session) = known(&mut sessions) {
            return Ok(session);
        }
        if sessions.len() == MAX_SESSIONS {
            sessions.remove(0);
        }
        sessions.push((manifest, Arc::clone(&opened)));
        Ok(opened)
    }
}

/// The most of a version's note, in bytes: names of functions, not a log.
const MAX_NOTE_BYTES: usize = 300;

fn note_of(changes: &Changes) -> String {
    let named = [("add", &changes.added), ("edit", &changes.changed), ("remove", &changes.removed)];
    let parts = named
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", names.join(", ")));
    let mut note = parts.collect::<Vec<_>>().join("; ");
    if note.len() > MAX_NOTE_BYTES {
        let end = (0..=MAX_NOTE_BYTES).rev().find(|&at| note.is_char_boundary(at)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

/// Runs what reads or writes files off the threads that answer requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LabelingError> + Send + 'static,
) -> Result<T, LabelingError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| LabelingError::CutOff)?
}
