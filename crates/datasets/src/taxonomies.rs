//! Taxonomies of a workspace.

use std::io::Read;
use std::sync::Arc;

use corral_blobs::BlobStore;
use corral_catalog::{
    Catalog, CatalogError, NewRecord, NewTaxonomyVersion, Page, PageRequest, TaxonomyRecord,
    TaxonomyVersion, VersionChoice,
};
use corral_taxonomy::{ParseOptions, Taxonomy, TaxonomyError};
use corral_types::{Caller, Name, TaxonomyId, Timestamp};

use crate::DatasetsError;

/// The service behind `/v1/taxonomies`.
#[derive(Clone)]
pub struct Taxonomies {
    catalog: Arc<dyn Catalog>,
    blobs: BlobStore,
}

/// A version with its classes.
#[derive(Debug)]
pub struct LoadedTaxonomy {
    pub record: TaxonomyRecord,
    pub version: TaxonomyVersion,
    pub taxonomy: Taxonomy,
}

impl Taxonomies {
    pub fn new(catalog: Arc<dyn Catalog>, blobs: BlobStore) -> Self {
        Self { catalog, blobs }
    }

    /// Takes a file, plain or gzip, as a taxonomy's first or next version. The same classes
    /// again are no new version.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub async fn import(
        &self,
        caller: &Caller,
        name: Name,
        file_name: &str,
        bytes: Vec<u8>,
        options: ParseOptions,
    ) -> Result<LoadedTaxonomy, DatasetsError> {
        let file_name = file_name.to_owned();
        let blobs = self.blobs.clone();
        let (taxonomy, document) = blocking(move || {
            let (file_name, bytes) = unpack(file_name, bytes)?;
            let taxonomy = corral_taxonomy::parse(&file_name, &bytes, &options)
                .map_err(|source| DatasetsError::TaxonomyFile { file_name, source })?;
            let put = blobs.put_bytes(&taxonomy.to_json())?;
            Ok((taxonomy, put.hash))
        })
        .await?;
        let now = Timestamp::now();
        let version = NewTaxonomyVersion {
            document,
            classes: u32::try_from(taxonomy.len()).expect("the parser limits the classes"),
            created: now,
        };
        let existing = match self.catalog.taxonomy_named(caller.workspace, name.clone()).await {
            Ok(existing) => Some(existing),
            Err(CatalogError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let (record, version) = match existing {
            Some(record) if record.head.document == document => {
                let head = record.head.clone();
                (record, head)
            }
            Some(record) => {
                let (id, built_on) = (record.id, record.head.number);
                let added =
                    self.catalog.add_taxonomy_version(caller.workspace, id, built_on, version);
                (record, added.await?)
            }
            None => {
                let new = NewRecord { id: TaxonomyId::generate(), name, created: now };
                let record = self.catalog.create_taxonomy(caller.workspace, new, version).await?;
                let head = record.head.clone();
                (record, head)
            }
        };
        Ok(LoadedTaxonomy { record, version, taxonomy })
    }

    /// # Errors
    /// When there is no such taxonomy or version in the caller's workspace.
    pub async fn load(
        &self,
        caller: &Caller,
        name: Name,
        version: Option<u32>,
    ) -> Result<LoadedTaxonomy, DatasetsError> {
        let record = self.catalog.taxonomy_named(caller.workspace, name).await?;
        let choice = version.map_or(VersionChoice::Latest, VersionChoice::Number);
        let version = self.catalog.taxonomy_version(caller.workspace, record.id, choice).await?;
        let (blobs, document) = (self.blobs.clone(), version.document);
        let taxonomy = blocking(move || {
            let bytes = blobs.read(&document)?;
            Taxonomy::from_json(&bytes).map_err(DatasetsError::StoredTaxonomy)
        })
        .await?;
        Ok(LoadedTaxonomy { record, version, taxonomy })
    }

    /// # Errors
    /// When the catalog cannot be read.
    pub async fn list(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<TaxonomyRecord>, DatasetsError> {
        Ok(self.catalog.list_taxonomies(caller.workspace, page).await?)
    }

    /// Removes a taxonomy with its versions; models made by it keep their classes.
    ///
    /// # Errors
    /// When there is no such taxonomy in the caller's workspace.
    pub async fn remove(&self, caller: &Caller, name: Name) -> Result<(), DatasetsError> {
        let record = self.catalog.taxonomy_named(caller.workspace, name).await?;
        self.catalog.remove_taxonomy(caller.workspace, record.id).await?;
        Ok(())
    }
}

/// Unpacks a gzip file, up to the size that a taxonomy may have.
fn unpack(file_name: String, bytes: Vec<u8>) -> Result<(String, Vec<u8>), DatasetsError> {
    const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok((file_name, bytes));
    }
    // One byte more than is allowed: the parser then refuses it with its own words.
    let limit = corral_taxonomy::limits::MAX_FILE_BYTES as u64 + 1;
    let mut unpacked = Vec::new();
    let read =
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(limit).read_to_end(&mut unpacked);
    match read {
        Err(source) => Err(DatasetsError::Unpack { file_name, source }),
        Ok(_) if unpacked.len() as u64 >= limit => {
            let source = TaxonomyError::TooManyBytes { bytes: unpacked.len() };
            Err(DatasetsError::TaxonomyFile { file_name, source })
        }
        Ok(_) => {
            let plain = file_name.strip_suffix(".gz").unwrap_or(&file_name).to_owned();
            Ok((plain, unpacked))
        }
    }
}

/// Runs work that blocks or computes for long off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DatasetsError> + Send + 'static,
) -> Result<T, DatasetsError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| DatasetsError::CutOff)?
}
