//! What labeling functions of a data set need of other services: the data set's files, the
//! taxonomy of their classes, encoders and models.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corral_catalog::{EncoderRecord, VersionChoice};
use corral_classifier::{Encoder, Model};
use corral_data::Manifest;
use corral_datasets::{BlobParts, LoadedTaxonomy, OpenSet};
use corral_encoder::MiniLm;
use corral_labeling::{
    Answer as Statistics, Classes, Exact, Function, FunctionSet, LabelingError, LoadedSet, Program,
    Resources, Rows, Suggestion, SuggestionSource, Watch, exact, needs,
};
use corral_labels::LabelArity;
use corral_types::{BlobHash, Caller, ErrorKind, Failure};

use crate::asking::Addressed;
use crate::rest::{Answer, ApiError, cut_off, versioned};
use crate::state::App;

/// What functions need, by hash.
pub struct Needs {
    pub taxonomy: Option<LoadedTaxonomy>,
    pub encoder: Option<EncoderRecord>,
    pub models: BTreeMap<String, BlobHash>,
}

/// A data set with its functions, ready to be run.
pub struct Workbench {
    pub app: App,
    pub set: OpenSet,
    pub loaded: LoadedSet,
    pub program: Arc<Program>,
}

/// Finds what functions need.
pub async fn find_needs(app: &App, caller: &Caller, functions: &FunctionSet) -> Answer<Needs> {
    let taxonomy = match &functions.taxonomy {
        None => None,
        Some(text) => {
            let (name, version) = versioned(text)?;
            Some(app.taxonomies.load(caller, name, version).await?)
        }
    };
    let (references, mut needs_encoder) = needs(&functions.definitions());
    let mut models = BTreeMap::new();
    for reference in references {
        let (file, has_encoder) = model_file(app, caller, &reference).await?;
        needs_encoder |= has_encoder;
        models.insert(reference, file);
    }
    let encoder = match needs_encoder {
        true => app.catalog.default_encoder(caller.workspace).await?,
        false => None,
    };
    Ok(Needs { taxonomy, encoder, models })
}

/// The file of a model that a function asks, and whether it reads embeddings.
async fn model_file(app: &App, caller: &Caller, reference: &str) -> Answer<(BlobHash, bool)> {
    if let Some(endpoint) = reference.strip_prefix("endpoint ") {
        let (endpoint, version) = match endpoint.split_once('/') {
            Some((endpoint, version)) => (endpoint, Some(version)),
            None => (endpoint, None),
        };
        let Addressed { endpoint, version } = Addressed::read(endpoint, version)?;
        let pinned = app.serving.pin(caller, &endpoint, version.as_ref())?;
        return Ok((pinned.file, pinned.encoder.is_some()));
    }
    let (name, number) = versioned(reference.trim_start_matches("model "))?;
    let record = app.catalog.model_named(caller.workspace, name).await?;
    let choice = number.map_or(VersionChoice::Latest, VersionChoice::Number);
    let version = app.catalog.model_version(caller.workspace, record.id, choice).await?;
    Ok((version.file, version.encoder.is_some()))
}

/// The classes that functions vote for.
pub fn classes_of(
    functions: &[Function],
    manifest: &Manifest,
    taxonomy: Option<&LoadedTaxonomy>,
) -> Classes {
    match taxonomy {
        Some(loaded) => Classes::of_taxonomy(loaded.record.name.as_str(), &loaded.taxonomy),
        None => Classes::implied(functions, corral_labeling::used_labels(manifest)),
    }
}

/// Compiles functions for a data set.
pub async fn compile(
    app: &App,
    caller: &Caller,
    functions: &FunctionSet,
    manifest: &Manifest,
) -> Answer<Arc<Program>> {
    let needs = find_needs(app, caller, functions).await?;
    let definitions = functions.definitions();
    let classes = classes_of(&definitions, manifest, needs.taxonomy.as_ref());
    let blobs = app.blobs.clone();
    let compiled = tokio::task::spawn_blocking(move || -> Answer<Program> {
        let mut resources = Resources::default();
        if let Some(encoder) = &needs.encoder {
            let opened = MiniLm::open(&blobs.local_path(&encoder.file)?)?;
            resources.encoder = Some(Arc::new(opened) as Arc<dyn Encoder>);
        }
        for (reference, file) in needs.models {
            let model = Model::open(&blobs.local_path(&file)?)?;
            resources.models.insert(reference, (file, Arc::new(model)));
        }
        Ok(Program::new(&definitions, classes, resources)?)
    });
    Ok(Arc::new(compiled.await.map_err(|_| cut_off())??))
}

impl Workbench {
    /// The functions of a data set, as of a version, and the rows of one.
    pub async fn open(
        app: &App,
        caller: &Caller,
        dataset: &str,
        version: Option<u32>,
    ) -> Answer<Self> {
        let (name, number) = versioned(dataset)?;
        let set = app.datasets.load(caller, name, number).await?;
        let loaded = app.labelings.load(caller, set.record.id, version).await?;
        if loaded.set.functions.is_empty() {
            return Err(LabelingError::NoFunctions.into());
        }
        let program = compile(app, caller, &loaded.set, &set.manifest).await?;
        Ok(Self { app: app.clone(), set, loaded, program })
    }

    /// The same where there may be no functions yet.
    pub async fn open_even_empty(app: &App, caller: &Caller, dataset: &str) -> Answer<Self> {
        let (name, number) = versioned(dataset)?;
        let set = app.datasets.load(caller, name, number).await?;
        let loaded = app.labelings.load(caller, set.record.id, None).await?;
        let program = compile(app, caller, &loaded.set, &set.manifest).await?;
        Ok(Self { app: app.clone(), set, loaded, program })
    }

    /// The functions of a data set and one beside them, which takes the place of any of its name.
    pub async fn with(
        app: &App,
        caller: &Caller,
        dataset: &str,
        function: Function,
    ) -> Answer<Self> {
        let (name, number) = versioned(dataset)?;
        let set = app.datasets.load(caller, name, number).await?;
        let mut loaded = app.labelings.load(caller, set.record.id, None).await?;
        loaded.set.put(function);
        let program = compile(app, caller, &loaded.set, &set.manifest).await?;
        Ok(Self { app: app.clone(), set, loaded, program })
    }

    pub fn arity(&self) -> LabelArity {
        self.loaded.set.arity
    }

    /// Runs work that reads rows, off the threads that answer requests; it is told where whoever
    /// asked is gone.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Job<'_>) -> Result<T, LabelingError> + Send + 'static,
    ) -> Answer<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let _stops_when_dropped = StopsWhenDropped(Arc::clone(&stop));
        let (app, program) = (self.app.clone(), Arc::clone(&self.program));
        let (manifest, hash) = (Arc::new(self.set.manifest.clone()), self.set.version.manifest);
        let arity = self.arity();
        let done = tokio::task::spawn_blocking(move || {
            let store = BlobParts(app.blobs.clone());
            let rows = Rows { manifest, store: &store };
            work(&Job { app: &app, program: &program, rows, hash, arity, stop: &stop })
        });
        Ok(done.await.map_err(|_| cut_off())??)
    }
}

/// Rows and functions on the thread that works on them.
pub struct Job<'a> {
    pub app: &'a App,
    pub program: &'a Program,
    pub rows: Rows<'a>,
    /// The manifest's.
    pub hash: BlobHash,
    pub arity: LabelArity,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Statistics from the gold rows and a sample; `None` where all rows are as quick.
    pub fn first(&self) -> Result<Option<Statistics>, LabelingError> {
        let session = self.app.labelings.session(self.hash, &self.rows)?;
        if !session.is_worth_it() {
            return Ok(None);
        }
        session.answer(self.program, self.arity).map(Some)
    }

    /// Functions that might be added.
    pub fn suggest(
        &self,
        functions: &[Function],
        limit: usize,
    ) -> Result<(SuggestionSource, Vec<Suggestion>), LabelingError> {
        let session = self.app.labelings.session(self.hash, &self.rows)?;
        session.suggest(functions, self.program, self.arity, limit)
    }

    /// The votes on all rows.
    pub fn exact(&self) -> Result<Exact, LabelingError> {
        let watch = Stopped(self.stop);
        exact(self.program, &self.rows, self.arity, &self.app.labelings.cache, &watch)
    }
}

struct StopsWhenDropped(Arc<AtomicBool>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Stopped<'a>(&'a AtomicBool);

impl Watch for Stopped<'_> {
    fn advance(&self, _: usize, _: usize) {}

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A refusal that names what a request may say.
pub fn unknown_word(field: &str, word: &str, words: &[&str]) -> ApiError {
    let message = format!("`{field}` is {}, not `{word}`", words.join(" or "));
    ApiError(Failure::new(ErrorKind::Invalid, message))
}
