//! Data sets of a workspace.

use std::sync::Arc;

use corral_blobs::BlobStore;
use corral_catalog::{
    Catalog, CatalogError, DatasetRecord, DatasetVersion, NewDatasetVersion, NewRecord, Page,
    PageRequest, RecordKind, VersionChoice, all_pages,
};
use corral_data::{Dataset, ImportOptions, ImportReport, Manifest, Progress, Source};
use corral_types::{Caller, DatasetId, JobId, Name, Timestamp};
use tokio::sync::Semaphore;

use crate::taxonomies::blocking;
use crate::{BlobParts, DatasetsError};

/// Imports that run at once. Each takes a core and up to some 200 MB.
const MAX_IMPORTS: usize = 4;

/// What an import makes of the name it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportMode {
    /// A new data set; a name that is taken is refused.
    #[default]
    Create,
    /// The next version of a data set that is there.
    Append,
    /// A new data set that this job made; its version's note says so.
    MadeBy(JobId),
}

/// The service behind `/v1/datasets`.
#[derive(Clone)]
pub struct Datasets {
    catalog: Arc<dyn Catalog>,
    blobs: BlobStore,
    running: Arc<Semaphore>,
}

/// A version with its manifest.
#[derive(Debug)]
pub struct OpenSet {
    pub record: DatasetRecord,
    pub version: DatasetVersion,
    pub manifest: Manifest,
}

/// What an import made.
#[derive(Debug)]
pub struct ImportedSet {
    pub set: OpenSet,
    pub report: ImportReport,
}

impl Datasets {
    pub fn new(catalog: Arc<dyn Catalog>, blobs: BlobStore) -> Self {
        Self { catalog, blobs, running: Arc::new(Semaphore::new(MAX_IMPORTS)) }
    }

    /// Imports files as a new data set or a new version. Nothing refers to what was read
    /// before all of it is stored and synced.
    ///
    /// # Errors
    /// What is wrong with the files; a name that is taken or missing; a head that another
    /// append moved meanwhile.
    pub async fn import(
        &self,
        caller: &Caller,
        name: Name,
        mode: ImportMode,
        sources: Vec<Source<'static>>,
        options: ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<ImportedSet, DatasetsError> {
        let permit = self.running.clone().try_acquire_owned();
        let permit = permit.map_err(|_| DatasetsError::Busy { names: MAX_IMPORTS })?;
        // Asked before the work, so that a wrong name costs nothing.
        let base = match (mode, self.load(caller, name.clone(), None).await) {
            (ImportMode::Append, found) => Some(found?),
            (ImportMode::Create | ImportMode::MadeBy(_), Ok(_)) => {
                let (what, name) = (RecordKind::Dataset, name.to_string());
                return Err(CatalogError::AlreadyExists { what, name }.into());
            }
            (_, Err(DatasetsError::Catalog(CatalogError::NotFound { .. }))) => None,
            (_, Err(error)) => return Err(error),
        };
        let blobs = self.blobs.clone();
        let base_manifest = base.as_ref().map(|base| base.manifest.clone());
        let (imported, manifest_blob) = blocking(move || {
            let _permit = permit;
            let parts = BlobParts(blobs.clone());
            let imported = corral_data::import(
                sources,
                &options,
                &parts,
                base_manifest.as_ref(),
                progress.as_ref(),
            )?;
            let put = blobs.put_bytes(&imported.manifest.to_bytes())?;
            Ok((imported, put.hash))
        })
        .await?;
        let manifest = imported.manifest;
        let now = Timestamp::now();
        let version = NewDatasetVersion {
            manifest: manifest_blob,
            rows: manifest.rows(),
            bytes: manifest.stored_bytes(),
            created: now,
            note: match mode {
                ImportMode::Create => "import".to_owned(),
                ImportMode::Append => "append".to_owned(),
                ImportMode::MadeBy(job) => Self::note_of(job),
            },
            blobs: manifest.blobs(),
        };
        let workspace = caller.workspace;
        let (record, version) = match base {
            Some(base) => {
                let (id, built_on) = (base.record.id, base.version.number);
                let added =
                    self.catalog.add_dataset_version(workspace, id, built_on, version).await?;
                (self.catalog.dataset(workspace, id).await?, added)
            }
            None => {
                let new = NewRecord { id: DatasetId::generate(), name, created: now };
                let record = self.catalog.create_dataset(workspace, new, version).await?;
                let head = record.head.clone();
                (record, head)
            }
        };
        let set = OpenSet { record, version, manifest };
        Ok(ImportedSet { set, report: imported.report })
    }

    /// Makes a manifest, whose files are all stored, a new data set or the next version of one.
    /// What the same note says was made is answered, not made again.
    ///
    /// # Errors
    /// When the catalog fails, or somebody else made a version at the same moment.
    pub async fn keep(
        &self,
        caller: &Caller,
        name: Name,
        manifest: Manifest,
        note: String,
    ) -> Result<OpenSet, DatasetsError> {
        let base = match self.load(caller, name.clone(), None).await {
            Ok(base) if base.version.note == note => return Ok(base),
            Ok(base) => Some(base),
            Err(DatasetsError::Catalog(CatalogError::NotFound { .. })) => None,
            Err(error) => return Err(error),
        };
        let (blobs, bytes) = (self.blobs.clone(), manifest.to_bytes());
        let put = blocking(move || Ok(blobs.put_bytes(&bytes)?)).await?;
        let now = Timestamp::now();
        let version = NewDatasetVersion {
            manifest: put.hash,
            rows: manifest.rows(),
            bytes: manifest.stored_bytes(),
            created: now,
            note,
            blobs: manifest.blobs(),
        };
        let workspace = caller.workspace;
        let (record, version) = match base {
            Some(base) => {
                let (id, built_on) = (base.record.id, base.version.number);
                let added =
                    self.catalog.add_dataset_version(workspace, id, built_on, version).await?;
                (self.catalog.dataset(workspace, id).await?, added)
            }
            None => {
                let new = NewRecord { id: DatasetId::generate(), name, created: now };
                let record = self.catalog.create_dataset(workspace, new, version).await?;
                let head = record.head.clone();
                (record, head)
            }
        };
        Ok(OpenSet { record, version, manifest })
    }

    /// The note of a version that a job made, by which it is known again.
    pub fn note_of(job: JobId) -> String {
        format!("made by {job}")
    }

    /// A version's record and manifest.
    ///
    /// # Errors
    /// When there is no such data set or version in the caller's workspace.
    pub async fn load(
        &self,
        caller: &Caller,
        name: Name,
        version: Option<u32>,
    ) -> Result<OpenSet, DatasetsError> {
        let record = self.catalog.dataset_named(caller.workspace, name).await?;
        let choice = version.map_or(VersionChoice::Latest, VersionChoice::Number);
        let version = self.catalog.dataset_version(caller.workspace, record.id, choice).await?;
        let (blobs, hash) = (self.blobs.clone(), version.manifest);
        let manifest = blocking(move || Ok(Manifest::parse(&blobs.read(&hash)?)?)).await?;
        Ok(OpenSet { record, version, manifest })
    }

    /// Maps a version's files.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub async fn open(&self, manifest: Manifest) -> Result<Dataset, DatasetsError> {
        let parts = BlobParts(self.blobs.clone());
        blocking(move || Ok(Dataset::open(manifest, &parts)?)).await
    }

    /// # Errors
    /// When the catalog cannot be read.
    pub async fn list(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<DatasetRecord>, DatasetsError> {
        Ok(self.catalog.list_datasets(caller.workspace, page).await?)
    }

    /// Every version of a data set, oldest first.
    ///
    /// # Errors
    /// When there is no such data set in the caller's workspace.
    pub async fn versions(
        &self,
        caller: &Caller,
        id: DatasetId,
    ) -> Result<Vec<DatasetVersion>, DatasetsError> {
        let page = |page| self.catalog.list_dataset_versions(caller.workspace, id, page);
        Ok(all_pages(page).await?)
    }

    /// Removes a data set with its versions; what was derived from its parts loses its
    /// references with it, and collection of garbage takes the bytes.
    ///
    /// # Errors
    /// When there is no such data set in the caller's workspace.
    pub async fn remove(&self, caller: &Caller, name: Name) -> Result<(), DatasetsError> {
        let record = self.catalog.dataset_named(caller.workspace, name).await?;
        self.catalog.remove_dataset(caller.workspace, record.id).await?;
        Ok(())
    }
}
