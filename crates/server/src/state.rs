//! What every handler works with.

use std::sync::Arc;

use corral_blobs::BlobStore;
use corral_catalog::Catalog;
use corral_datasets::{Datasets, Taxonomies};
use corral_jobs::JobsService;
use corral_serving::Serving;
use corral_telemetry::MetricsPage;

use crate::auth::Tokens;

/// Where records and bytes are kept.
#[derive(Clone)]
pub struct Stores {
    pub catalog: Arc<dyn Catalog>,
    pub blobs: BlobStore,
}

/// The services, wired together. Clones share them.
#[derive(Clone)]
pub struct App {
    pub catalog: Arc<dyn Catalog>,
    pub blobs: BlobStore,
    pub datasets: Datasets,
    pub taxonomies: Taxonomies,
    pub jobs: Arc<JobsService>,
    pub serving: Arc<Serving>,
    pub tokens: Tokens,
    pub metrics: MetricsPage,
}
