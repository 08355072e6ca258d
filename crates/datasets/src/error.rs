//! Why a data set or taxonomy cannot be taken, read or changed.

use corral_blobs::BlobError;
use corral_catalog::CatalogError;
use corral_data::{ExportError, ImportError, ManifestError, ReadError};
use corral_taxonomy::TaxonomyError;
use corral_types::{ErrorKind, Explain};

#[derive(Debug, thiserror::Error)]
pub enum DatasetsError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{file_name} cannot be taken as a taxonomy")]
    TaxonomyFile { file_name: String, source: TaxonomyError },
    #[error("read the stored taxonomy")]
    StoredTaxonomy(#[source] TaxonomyError),
    #[error("unpack {file_name} as gzip")]
    Unpack { file_name: String, source: std::io::Error },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("keep or read a stored file")]
    Blob(#[from] BlobError),
    #[error("{names} data sets are being imported already, as many as run at once")]
    Busy { names: usize },
    #[error("the work was cut off")]
    CutOff,
}

impl Explain for DatasetsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Import(error) => error.kind(),
            Self::TaxonomyFile { source, .. } => source.kind(),
            Self::StoredTaxonomy(_) => ErrorKind::DataLoss,
            Self::Unpack { .. } => ErrorKind::Invalid,
            Self::Manifest(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Export(error) => error.kind(),
            Self::Blob(error) => error.kind(),
            Self::Busy { .. } => ErrorKind::Exhausted,
            Self::CutOff => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Catalog(error) => error.hint(),
            Self::Import(error) => error.hint(),
            Self::TaxonomyFile { source, .. } => source.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Read(error) => error.hint(),
            Self::Export(error) => error.hint(),
            Self::Blob(error) => error.hint(),
            Self::Busy { .. } => Some("try again when one of them is done".to_owned()),
            Self::Unpack { .. } | Self::StoredTaxonomy(_) | Self::CutOff => None,
        }
    }
}
