//! Deploying, changing and asking endpoints.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use corral_blobs::BlobStore;
use corral_catalog::{
    Catalog, CatalogError, EndpointRecord, EndpointTarget, NewEndpointVersion, NewRecord, Page,
    PageRequest, VersionChoice, all_pages,
};
use corral_observation::{Effort, Observer, Observing, Recorder, RecorderOptions, Wishes};
use corral_types::{Caller, EndpointId, ErrorKind, Explain, Name, Timestamp, WorkspaceId, nearest};
use tokio::sync::Semaphore;

use crate::fixed::FixedAnswer;
use crate::limits::{KeptLimits, Limits};
use crate::observing::{self, Asked};
use crate::pool::Pool;
use crate::route::{Route, Serves};
use crate::routing::{Routing, Selector};
use crate::usage::UsageNotes;
use crate::{
    Answer, LATENCY, OpenLimits, Opened, Question, REQUESTS, RoutingError, ServingError, TEXTS,
};

/// Questions that wait for a mirror's answer at once, of all endpoints together. Those beyond are
/// not mirrored: whoever asked shall not wait for what is thrown away.
const MAX_MIRRORED: usize = 64;

/// How often a change is made again on an endpoint that moved on meanwhile.
const CHANGE_ATTEMPTS: usize = 16;

/// A document of an endpoint as it shall be from now on, as JSON.
pub(crate) enum Changed {
    Routing(String),
    Observing(String),
}

/// The answer to a question, and what gave it.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The version of the endpoint.
    pub endpoint_version: u32,
    /// The model and its version; none where the answer is fixed.
    pub model: Option<(Name, u32)>,
    /// One for each text.
    pub predictions: Vec<Answer>,
}

/// What a deployment shall answer with.
#[derive(Clone, Debug)]
pub enum Deployment {
    /// A version of a model, the newest where none is named.
    Model {
        name: Name,
        version: Option<u32>,
    },
    Fixed(FixedAnswer),
}

/// An endpoint, with its routing and what is observed read.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub record: EndpointRecord,
    pub routing: Routing,
    pub observing: Observing,
}

impl Endpoint {
    /// # Errors
    /// When one of both cannot be read.
    pub(crate) fn read(record: EndpointRecord) -> Result<Self, ServingError> {
        let routing = Routing::parse(&record.routing_json)
            .map_err(|source| ServingError::unreadable(&record, "the routing", source))?;
        let observing = observing::parse(&record.observing_json)
            .map_err(|source| ServingError::unreadable(&record, "what is observed", source))?;
        Ok(Self { record, routing, observing })
    }

    /// The numbers of its versions, oldest first.
    pub fn numbers(&self) -> Vec<u32> {
        self.record.versions.iter().map(|version| version.number).collect()
    }
}

/// The service behind endpoints. Clones share it.
#[derive(Clone)]
pub struct Serving {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) opened: Opened,
    pool: Pool,
    pub(crate) routes: RwLock<HashMap<WorkspaceId, HashMap<Name, Arc<Route>>>>,
    pub(crate) mirrored: Arc<Semaphore>,
    pub(crate) limits: Limits,
    /// What is kept of limits is read, changed and written by one at a time.
    pub(crate) changing_limits: tokio::sync::Mutex<()>,
    pub(crate) observer: Observer,
    pub(crate) recorder: Recorder,
    pub(crate) usage_notes: tokio::sync::Mutex<UsageNotes>,
}

impl Serving {
    /// Reads every endpoint from the catalog, and hands out what its recorder will ask of others;
    /// `cores` predictions run at once. An endpoint whose routing is damaged is left out, and said
    /// in the log: the others shall answer.
    ///
    /// # Errors
    /// When the catalog cannot be read, or the system gives no threads.
    pub async fn open(
        catalog: Arc<dyn Catalog>,
        blobs: BlobStore,
        cores: usize,
        limits: OpenLimits,
        recorder: RecorderOptions,
    ) -> Result<(Self, Wishes), ServingError> {
        let mut watched = HashMap::new();
        let mut routes: HashMap<WorkspaceId, HashMap<Name, Arc<Route>>> = HashMap::new();
        for workspace in all_pages(|page| catalog.list_workspaces(page)).await? {
            let endpoints = all_pages(|page| catalog.list_endpoints(workspace.id, page)).await?;
            let own = routes.entry(workspace.id).or_default();
            for record in endpoints {
                let name = record.name.clone();
                let id = record.id;
                let read = Endpoint::read(record).and_then(|endpoint| {
                    let route = Route::of(&endpoint)?;
                    Ok((route, endpoint.observing))
                });
                match read {
                    Ok((route, observing)) => {
                        if observing != Observing::default() {
                            watched.insert(id, observing);
                        }
                        own.insert(name, Arc::new(route));
                    }
                    Err(error) => {
                        tracing::error!(endpoint = %name, %error, "an endpoint is left out");
                    }
                }
            }
        }
        let (recorder, wishes) =
            Recorder::start(recorder, watched).map_err(ServingError::Recorder)?;
        let kept_limits = KeptLimits::read(&*catalog).await?;
        let shared = Shared {
            catalog,
            opened: Opened::new(blobs, limits),
            pool: Pool::start(cores).map_err(ServingError::Threads)?,
            routes: RwLock::new(routes),
            mirrored: Arc::new(Semaphore::new(MAX_MIRRORED)),
            limits: Limits::of(&kept_limits),
            changing_limits: tokio::sync::Mutex::default(),
            observer: Observer::default(),
            recorder,
            usage_notes: tokio::sync::Mutex::default(),
        };
        Ok((Self { shared: Arc::new(shared) }, wishes))
    }

    /// Adds a version to an endpoint, making the endpoint if it is not there, and points an alias
    /// at it if one is named. A model and its encoder are opened first: what cannot answer is
    /// not deployed.
    ///
    /// # Errors
    /// When the model, its version or its encoder is not there, or cannot be opened; when the
    /// fixed answer is none.
    pub async fn deploy(
        &self,
        caller: &Caller,
        name: Name,
        deployment: Deployment,
        alias: Option<Name>,
    ) -> Result<Endpoint, ServingError> {
        let target = match deployment {
            Deployment::Model { name, version } => {
                self.openable_model(caller, name, version).await?
            }
            Deployment::Fixed(answer) => {
                answer.check()?;
                let answer_json = serde_json::to_string(&answer).expect("plain fields");
                EndpointTarget::Fixed { answer_json }
            }
        };
        let now = Timestamp::now();
        let endpoint = NewRecord { id: EndpointId::generate(), name: name.clone(), created: now };
        let new = NewEndpointVersion { endpoint, target, at: now };
        let record = self.shared.catalog.add_endpoint_version(caller.workspace, new).await?;
        let number = record.latest().number;
        let deployed = self.install(caller.workspace, record)?;
        let Some(alias) = alias else { return Ok(deployed) };
        self.change(caller, name, |routing, _| {
            routing.aliases.insert(alias.clone(), number);
            Ok(())
        })
        .await
    }

    /// A model's version that can be opened, with its encoder.
    async fn openable_model(
        &self,
        caller: &Caller,
        name: Name,
        version: Option<u32>,
    ) -> Result<EndpointTarget, ServingError> {
        let Shared { catalog, opened, .. } = &*self.shared;
        let choice = version.map_or(VersionChoice::Latest, VersionChoice::Number);
        let record = catalog.model_named(caller.workspace, name).await?;
        let version = catalog.model_version(caller.workspace, record.id, choice).await?;
        let (model, _) = opened.model(version.file)?;
        if let Some(need) = model.model.encoder() {
            let installed = catalog.encoder(caller.workspace, need.hash).await;
            installed.map_err(|error| match error {
                CatalogError::NotFound { .. } => {
                    ServingError::EncoderMissing { name: need.name.clone(), hash: need.hash }
                }
                error => ServingError::Catalog(error),
            })?;
            opened.encoder(need.hash)?;
        }
        Ok(EndpointTarget::Model { model: record.id, version: version.number })
    }

    /// # Errors
    /// When there is no such endpoint in the caller's workspace.
    pub async fn endpoint(&self, caller: &Caller, name: Name) -> Result<Endpoint, ServingError> {
        Endpoint::read(self.shared.catalog.endpoint_named(caller.workspace, name).await?)
    }

    /// # Errors
    /// When the catalog cannot be read.
    pub async fn endpoints(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<Endpoint>, ServingError> {
        let page = self.shared.catalog.list_endpoints(caller.workspace, page).await?;
        let items = page.items.into_iter().map(Endpoint::read).collect::<Result<_, _>>()?;
        Ok(Page { items, next: page.next })
    }

    /// Changes the routing of an endpoint at once; `change` is handed the numbers of its versions
    /// too, and runs again where the endpoint moved on meanwhile.
    ///
    /// # Errors
    /// When there is no such endpoint, the change fails, or it names what is not there.
    pub async fn change(
        &self,
        caller: &Caller,
        name: Name,
        change: impl Fn(&mut Routing, &[u32]) -> Result<(), RoutingError> + Send + Sync,
    ) -> Result<Endpoint, ServingError> {
        self.change_routing(caller.workspace, name, change).await
    }

    pub(crate) async fn change_routing(
        &self,
        workspace: WorkspaceId,
        name: Name,
        change: impl Fn(&mut Routing, &[u32]) -> Result<(), RoutingError> + Send + Sync,
    ) -> Result<Endpoint, ServingError> {
        self.change_endpoint(workspace, name, |mut endpoint| {
            let numbers = endpoint.numbers();
            change(&mut endpoint.routing, &numbers)?;
            endpoint.routing.check(&numbers)?;
            let json = serde_json::to_string(&endpoint.routing).expect("plain fields");
            Ok(Changed::Routing(json))
        })
        .await
    }

    /// Changes one of an endpoint's documents; `change` runs again where the endpoint moved on
    /// meanwhile.
    pub(crate) async fn change_endpoint(
        &self,
        workspace: WorkspaceId,
        name: Name,
        change: impl Fn(Endpoint) -> Result<Changed, ServingError> + Send + Sync,
    ) -> Result<Endpoint, ServingError> {
        let catalog = &self.shared.catalog;
        let mut attempts = 0;
        loop {
            let record = catalog.endpoint_named(workspace, name.clone()).await?;
            let (id, revision) = (record.id, record.revision);
            let changed = change(Endpoint::read(record)?)?;
            let now = Timestamp::now();
            let written = match changed {
                Changed::Routing(json) => {
                    catalog.set_endpoint_routing(workspace, id, revision, json, now)
                }
                Changed::Observing(json) => {
                    catalog.set_endpoint_observing(workspace, id, revision, json, now)
                }
            };
            attempts += 1;
            match written.await {
                Err(CatalogError::HeadMoved { .. }) if attempts < CHANGE_ATTEMPTS => {}
                written => return self.install(workspace, written?),
            }
        }
    }

    /// Removes a version that nothing is sent to.
    ///
    /// # Errors
    /// When there is no such version, or something still sends requests to it.
    pub async fn remove_version(
        &self,
        caller: &Caller,
        name: Name,
        number: u32,
    ) -> Result<Endpoint, ServingError> {
        let catalog = &self.shared.catalog;
        let endpoint = self.endpoint(caller, name).await?;
        let numbers = endpoint.numbers();
        let by = endpoint.routing.use_of(number, &numbers);
        if let Some(by) = by.filter(|_| numbers.len() > 1) {
            let name = format!("{}/{number}", endpoint.record.name);
            return Err(ServingError::VersionInUse { name, by });
        }
        let EndpointRecord { id, revision, .. } = endpoint.record;
        let now = Timestamp::now();
        let removed =
            catalog.remove_endpoint_version(caller.workspace, id, revision, number, now).await?;
        self.install(caller.workspace, removed)
    }

    /// Removes an endpoint with its versions; models stay.
    ///
    /// # Errors
    /// When there is no such endpoint in the caller's workspace.
    pub async fn remove(&self, caller: &Caller, name: Name) -> Result<(), ServingError> {
        let catalog = &self.shared.catalog;
        let record = catalog.endpoint_named(caller.workspace, name).await?;
        catalog.remove_endpoint(caller.workspace, record.id).await?;
        let mut routes = self.shared.routes.write().unwrap_or_else(PoisonError::into_inner);
        let own = routes.entry(caller.workspace).or_default();
        if own.get(&record.name).is_some_and(|route| route.endpoint == record.id) {
            own.remove(&record.name);
        }
        self.shared.recorder.keep(record.id, &Observing::default());
        Ok(())
    }

    /// Lets requests follow a record from now on, unless they follow a later one already.
    pub(crate) fn install(
        &self,
        workspace: WorkspaceId,
        record: EndpointRecord,
    ) -> Result<Endpoint, ServingError> {
        let endpoint = Endpoint::read(record)?;
        let route = Arc::new(Route::of(&endpoint)?);
        let mut routes = self.shared.routes.write().unwrap_or_else(PoisonError::into_inner);
        let own = routes.entry(workspace).or_default();
        // Ids sort by time: an endpoint that was made anew is later, whatever its revision.
        let is_later = own.get(&route.name).is_none_or(|there| {
            (there.endpoint.as_u128(), there.revision) < (route.endpoint.as_u128(), route.revision)
        });
        if is_later {
            self.shared.recorder.keep(endpoint.record.id, &endpoint.observing);
            own.insert(route.name.clone(), route);
        }
        Ok(endpoint)
    }

    /// Asks an endpoint: the version that is named, else the one that its traffic leads to.
    ///
    /// # Errors
    /// When the endpoint or the version is not there, the question passes a limit, the model
    /// cannot answer it, or too many requests are waiting.
    pub async fn predict(
        &self,
        caller: &Caller,
        endpoint: &Name,
        version: Option<&Selector>,
        question: Question,
    ) -> Result<Answered, ServingError> {
        let begun = Instant::now();
        let texts = question.texts.len() as u64;
        let answered = self.answer(caller, endpoint, version, question).await;
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
        version: Option<&Selector>,
        question: Question,
    ) -> Result<Answered, ServingError> {
        let reached = self.reach(caller.workspace, endpoint, version, &question);
        if let Err(error) = question.check() {
            if let Ok((route, number)) = reached {
                self.observe(caller.workspace, &route, number, &question).failed(&error);
            }
            return Err(error);
        }
        let (route, number) = reached?;
        let observed = self.observe(caller.workspace, &route, number, &question);
        if let Err(error) = self.shared.limits.admit(caller, question.texts.len(), Instant::now()) {
            observed.failed(&error);
            return Err(error);
        }
        let mirror = route.mirror_of(number).map(|to| (to, question.clone()));
        let begun = Instant::now();
        let timeout = question.timeout;
        let asking = self.shared.ask(route.endpoint, route.version(number), question);
        let asked = match timeout {
            None => asking.await,
            // Dropped with its time, it gives up what it asked for.
            Some(timeout) => tokio::time::timeout(timeout, asking)
                .await
                .unwrap_or(Err(ServingError::TimedOut { timeout })),
        };
        let micros = begun.elapsed().as_micros() as u64;
        let (answered, sample) = observed.finish(asked, &route, number);
        if is_verdict_on_version(&answered)
            && let Some((canary, verdict)) = route.answered(number, answered.is_ok(), micros)
        {
            self.follow(caller.workspace, &route, canary, verdict);
        }
        let predictions = answered?;
        if let Some((to, question)) = mirror {
            self.mirror(caller.workspace, &route, (number, &predictions, sample), to, question);
        }
        let model = match route.version(number) {
            Serves::Model { name, version, .. } => Some((name.clone(), *version)),
            Serves::Fixed(_) => None,
        };
        Ok(Answered { endpoint_version: number, model, predictions })
    }

    /// Where a question leads.
    fn reach(
        &self,
        workspace: WorkspaceId,
        endpoint: &Name,
        version: Option<&Selector>,
        question: &Question,
    ) -> Result<(Arc<Route>, u32), ServingError> {
        let route = self.route(workspace, endpoint)?;
        let number = route.pick(version, question.key.as_deref())?;
        Ok((route, number))
    }

    pub(crate) fn route(
        &self,
        workspace: WorkspaceId,
        name: &Name,
    ) -> Result<Arc<Route>, ServingError> {
        let routes = self.shared.routes.read().unwrap_or_else(PoisonError::into_inner);
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

impl Shared {
    pub(crate) async fn ask(
        &self,
        endpoint: EndpointId,
        serves: &Serves,
        question: Question,
    ) -> Result<Asked, ServingError> {
        match serves {
            Serves::Fixed(answer) => {
                Ok(Asked { answers: answer.answer(&question), effort: Effort::default() })
            }
            Serves::Model { file, encoder, .. } => {
                let (model, mut opening) = self.opened.model(*file)?;
                let encoder = match encoder {
                    Some(file) => {
                        let (encoder, its_opening) = self.opened.encoder(*file)?;
                        opening = opening.and(its_opening);
                        Some(encoder)
                    }
                    None => None,
                };
                let worked = self.pool.answer(endpoint, model, encoder, question).await?;
                let effort = Effort { core: worked.core, opening };
                Ok(Asked { answers: worked.answers, effort })
            }
        }
    }
}

/// Whether what a request came to tells something of the version: a question that is wrong, and
/// cores that are taken, do not.
fn is_verdict_on_version(answered: &Result<Vec<Answer>, ServingError>) -> bool {
    answered.as_ref().err().is_none_or(|error| {
        matches!(error.kind(), ErrorKind::Internal | ErrorKind::DataLoss | ErrorKind::Unavailable)
    })
}
