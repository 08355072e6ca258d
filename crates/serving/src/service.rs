//! Deploying and asking endpoints.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use corral_blobs::BlobStore;
use corral_catalog::{
    Catalog, CatalogError, EndpointRecord, EndpointTarget, NewRecord, Page, PageRequest,
    PointEndpoint, VersionChoice, all_pages,
};
use corral_types::{BlobHash, Caller, EndpointId, Explain, Name, Timestamp, WorkspaceId, nearest};

use crate::predict::Cores;
use crate::{Answer, LATENCY, Opened, Question, REQUESTS, ServingError, TEXTS};

/// Where an endpoint sends its requests, ready to be followed.
#[derive(Debug)]
struct Route {
    model: Name,
    version: u32,
    file: BlobHash,
    encoder: Option<BlobHash>,
}

impl From<&EndpointRecord> for Route {
    fn from(record: &EndpointRecord) -> Self {
        Self {
            model: record.model_name.clone(),
            version: record.serves.number,
            file: record.serves.file,
            encoder: record.serves.encoder,
        }
    }
}

/// The answer to a question, and what gave it.
#[derive(Clone, Debug)]
pub struct Answered {
    pub model: Name,
    pub version: u32,
    /// One for each text.
    pub predictions: Vec<Answer>,
}

/// The service behind endpoints.
pub struct Serving {
    catalog: Arc<dyn Catalog>,
    opened: Opened,
    cores: Cores,
    routes: RwLock<HashMap<WorkspaceId, HashMap<Name, Arc<Route>>>>,
}

impl Serving {
    /// Reads every endpoint from the catalog; `cores` predictions run at once.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn open(
        catalog: Arc<dyn Catalog>,
        blobs: BlobStore,
        cores: usize,
    ) -> Result<Self, CatalogError> {
        let mut routes: HashMap<WorkspaceId, HashMap<Name, Arc<Route>>> = HashMap::new();
        for workspace in all_pages(|page| catalog.list_workspaces(page)).await? {
            let endpoints = all_pages(|page| catalog.list_endpoints(workspace.id, page)).await?;
            let named =
                endpoints.iter().map(|record| (record.name.clone(), Arc::new(Route::from(record))));
            routes.insert(workspace.id, named.collect());
        }
        Ok(Self {
            catalog,
            opened: Opened::new(blobs),
            cores: Cores::new(cores),
            routes: RwLock::new(routes),
        })
    }

    /// Points an endpoint at a model version, making the endpoint if it is not there. The
    /// model and its encoder are opened first: what cannot answer is not deployed.
    ///
    /// # Errors
    /// When the model, its version or its encoder is not there, or cannot be opened.
    pub async fn deploy(
        &self,
        caller: &Caller,
        endpoint: Name,
        model: Name,
        version: Option<u32>,
    ) -> Result<EndpointRecord, ServingError> {
        let choice = version.map_or(VersionChoice::Latest, VersionChoice::Number);
        let record = self.catalog.model_named(caller.workspace, model).await?;
        let version = self.catalog.model_version(caller.workspace, record.id, choice).await?;
        let opened = self.opened.model(version.file)?;
        if let Some(need) = opened.encoder() {
            let installed = self.catalog.encoder(caller.workspace, need.hash).await;
            installed.map_err(|error| match error {
                CatalogError::NotFound { .. } => {
                    ServingError::EncoderMissing { name: need.name.clone(), hash: need.hash }
                }
                error => ServingError::Catalog(error),
            })?;
            self.opened.encoder(need.hash)?;
        }
        let now = Timestamp::now();
        let wish = PointEndpoint {
            endpoint: NewRecord { id: EndpointId::generate(), name: endpoint, created: now },
            target: EndpointTarget {
                model: record.id,
                version: VersionChoice::Number(version.number),
            },
            at: now,
        };
        let record = self.catalog.point_endpoint(caller.workspace, wish).await?;
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let routes = routes.entry(caller.workspace).or_default();
        routes.insert(record.name.clone(), Arc::new(Route::from(&record)));
        Ok(record)
    }

    /// # Errors
    /// When there is no such endpoint in the caller's workspace.
    pub async fn endpoint(
        &self,
        caller: &Caller,
        name: Name,
    ) -> Result<EndpointRecord, ServingError> {
        Ok(self.catalog.endpoint_named(caller.workspace, name).await?)
    }

    /// # Errors
    /// When the catalog cannot be read.
    pub async fn endpoints(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<EndpointRecord>, ServingError> {
        Ok(self.catalog.list_endpoints(caller.workspace, page).await?)
    }

    /// Removes an endpoint; the model stays.
    ///
    /// # Errors
    /// When there is no such endpoint in the caller's workspace.
    pub async fn remove(&self, caller: &Caller, name: Name) -> Result<(), ServingError> {
        let record = self.catalog.endpoint_named(caller.workspace, name).await?;
        self.catalog.remove_endpoint(caller.workspace, record.id).await?;
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.entry(caller.workspace).or_default().remove(&record.name);
        Ok(())
    }

    /// Asks an endpoint.
    ///
    /// # Errors
    /// When the endpoint is not there, the question passes a limit, the model cannot answer
    /// it, or too many requests are waiting.
    pub async fn predict(
        &self,
        caller: &Caller,
        endpoint: &Name,
        question: Question,
    ) -> Result<Answered, ServingError> {
        let begun = Instant::now();
        let texts = question.texts.len() as u64;
        let answered = self.answer(caller, endpoint, question).await;
        let outcome = answered.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
        metrics::counter!(REQUESTS.name, "outcome" => outcome).increment(1);
        if answered.is_ok() {
            metrics::counter!(TEXTS.name).increment(texts);
            metrics::histogram!(LATENCY.name).record(begun.elapsed().as_secs_f64());
        }
        answered
    }

    async fn answer(
        &self,
        caller: &Caller,
        endpoint: &Name,
        question: Question,
    ) -> Result<Answered, ServingError> {
        question.check()?;
        let route = self.route(caller.workspace, endpoint)?;
        let model = self.opened.model(route.file)?;
        let encoder = route.encoder.map(|file| self.opened.encoder(file)).transpose()?;
        let predictions = self.cores.answer(model, encoder, question).await?;
        Ok(Answered { model: route.model.clone(), version: route.version, predictions })
    }

    fn route(&self, workspace: WorkspaceId, name: &Name) -> Result<Arc<Route>, ServingError> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let own = routes.get(&workspace);
        own.and_then(|own| own.get(name)).cloned().ok_or_else(|| {
            let names = own.into_iter().flat_map(HashMap::keys).map(Name::as_str);
            ServingError::NoEndpoint {
                name: name.to_string(),
                nearest: nearest(name.as_str(), names, 1).into_iter().map(str::to_owned).collect(),
            }
        })
    }
}
