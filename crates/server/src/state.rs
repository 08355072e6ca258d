//! What every handler works with.

use std::collections::HashSet;
use std::sync::Arc;

use corral_apps::Apps;
use corral_apps::logs::AppLogs;
use corral_blobs::BlobStore;
use corral_catalog::{Catalog, CatalogError};
use corral_datasets::{Datasets, Taxonomies};
use corral_functions::Functions;
use corral_jobs::JobsService;
use corral_labeling::Labelings;
use corral_serving::Serving;
use corral_telemetry::MetricsPage;
use corral_types::BlobHash;

use crate::auth::Tokens;
use crate::modal::Edge;

/// Where records and bytes are kept.
#[derive(Clone)]
pub struct Stores {
    pub catalog: Arc<dyn Catalog>,
    pub blobs: BlobStore,
}

/// What work costs, where it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prices {
    pub cpu_hour: Option<f64>,
    pub gib_hour: Option<f64>,
    pub gpu_hour: Option<f64>,
}

/// The services, wired together. Clones share them.
#[derive(Clone)]
pub struct App {
    pub catalog: Arc<dyn Catalog>,
    pub blobs: BlobStore,
    pub datasets: Datasets,
    pub taxonomies: Taxonomies,
    pub labelings: Labelings,
    pub jobs: Arc<JobsService>,
    pub apps: Apps,
    pub app_logs: AppLogs,
    pub functions: Arc<Functions>,
    pub edge: Edge,
    pub serving: Serving,
    pub tokens: Tokens,
    pub metrics: MetricsPage,
    pub prices: Prices,
}

/// References asked for at once.
const REFERENCES_PER_CALL: usize = 10_000;

impl App {
    /// Every blob that a job, a call or a record of any workspace refers to.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn referenced_blobs(&self) -> Result<HashSet<BlobHash>, CatalogError> {
        let mut referenced: HashSet<BlobHash> =
            self.jobs.referenced_blobs().await.into_iter().collect();
        referenced.extend(self.functions.referenced_blobs().await);
        let mut after = None;
        loop {
            let page = self.catalog.referenced_blobs(after, REFERENCES_PER_CALL).await?;
            let Some(last) = page.last().copied() else { return Ok(referenced) };
            referenced.extend(page);
            after = Some(last);
        }
    }
}
