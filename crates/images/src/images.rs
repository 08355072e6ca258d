//! The images of a machine.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use corral_containers::{Base, FileTree, ImageKey, ImageRecipe};
use serde::{Deserialize, Serialize};

use crate::base::{self, BaseAbout, BaseKind, Offers, Wanted, host};
use crate::bases::Made;
use crate::build::{ADD_PYTHON, Build};
use crate::bundle;
use crate::config::Config;
use crate::dockerfile::{self, Command, Instruction};
use crate::error::BuildError;
use crate::flight::Flights;
use crate::log::{BuildLog, say};
use crate::machine::Machine;
use crate::options::ImagesOptions;
use crate::packages::{Freshness, Packages, Recent, Target, Uv, UvVersion};
use crate::ready::{ClientBundle, ClientVersion, ImageMetadata, ReadyImage};
use crate::satisfied::{self, Satisfied};
use crate::step::Bind;
use crate::store::{Hold, Layer, LayerId, Store, write_whole};
use crate::survey::{self, Survey};
use crate::tree;

/// Recipes may stand on one another this deep. Overlay takes 500 directories, and a recipe adds
/// three at most as a rule.
const MAX_CHAIN: usize = 128;

/// Images that are remembered from one start to the next; the oldest are forgotten. Most are a few
/// kilobytes without a layer of their own.
const MAX_RECORDS: usize = 20_000;

/// What is kept of an image that was built.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    key: ImageKey,
    base: BaseKind,
    about: BaseAbout,
    /// Top first, those of the base last.
    layers: Vec<LayerId>,
    config: Config,
    /// What is built over it is built anew.
    builder_version: String,
}

/// An image over a base: the same recipe may be built over several.
type RecordId = (ImageKey, BaseKind);

/// The images of a machine: built once, kept as long as they are used and there is room.
///
/// All calls block; [`ensure`](Self::ensure) for as long as a build takes. They may come from
/// any number of threads.
pub struct Images {
    pub(crate) options: ImagesOptions,
    pub(crate) store: Store,
    pub(crate) machine: Machine,
    records: Mutex<HashMap<RecordId, Arc<Record>>>,
    images_made: Flights<RecordId, Arc<Record>>,
    pub(crate) bases_made: Flights<BaseKind, Made>,
    pub(crate) bases: Mutex<HashMap<BaseKind, Made>>,
    layers_made: Flights<LayerId, Layer>,
    packages_turn: Mutex<()>,
    packages_recent: Recent,
    offers: OnceLock<Offers>,
    host: OnceLock<Result<host::Host, String>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Images {
    /// Opens the images in `dir`, which is made if it is missing and then belongs to this process
    /// alone. What a killed process left unfinished is removed.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process has it open.
    pub fn open(dir: impl AsRef<Path>, options: ImagesOptions) -> Result<Self, BuildError> {
        let store = Store::open(dir.as_ref(), options.quota_bytes)?;
        let machine = Machine::read(&store.dir().join("machine"))?;
        let images = Self {
            options,
            store,
            machine,
            records: Mutex::default(),
            images_made: Flights::default(),
            bases_made: Flights::default(),
            bases: Mutex::default(),
            layers_made: Flights::default(),
            packages_turn: Mutex::default(),
            packages_recent: Recent::default(),
            offers: OnceLock::new(),
            host: OnceLock::new(),
        };
        images.read_records()?;
        Ok(images)
    }

    fn read_records(&self) -> Result<(), BuildError> {
        let folder = self.store.dir().join("records");
        let entries = fs::read_dir(&folder).map_err(BuildError::io("list", &folder))?;
        let dated = entries.flatten().filter_map(|entry| {
            Some((entry.metadata().and_then(|found| found.modified()).ok()?, entry.path()))
        });
        let mut dated: Vec<_> = dated.collect();
        dated.sort_unstable_by(|one, other| other.cmp(one));
        let mut records = lock(&self.records);
        let mut used = std::collections::HashSet::new();
        for (number, (_, path)) in dated.into_iter().enumerate() {
            let bytes = if number < MAX_RECORDS { fs::read(&path).ok() } else { None };
            let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            match record.filter(|record| self.layers(&record.layers).is_some()) {
                Some(record) => {
                    used.extend(record.layers.iter().cloned());
                    records.insert((record.key, record.base.clone()), Arc::new(record));
                }
                // One of its layers is gone, or the file is of a later version.
                None => fs::remove_file(&path).map_err(BuildError::io("remove", &path))?,
            }
        }
        drop(records);
        // Layers of a build that was killed before its record was written.
        let mut unused = self.store.ids("step-");
        // The host's files as they were before an upgrade.
        let host_bases = self.store.ids(&format!("{}host-", base::PREFIX));
        if host_bases.len() > 1
            && let Ok(host) = self.host()
        {
            unused.extend(host_bases.into_iter().filter(|id| *id != host.id));
        }
        for id in unused {
            if !used.contains(&id) {
                self.store.remove(&id)?;
            }
        }
        Ok(())
    }

    /// The layers, if all are there.
    fn layers(&self, ids: &[LayerId]) -> Option<Vec<Layer>> {
        ids.iter().map(|id| self.store.get(id)).collect()
    }

    fn offers(&self) -> &Offers {
        self.offers.get_or_init(|| Offers::of(self.host()))
    }

    pub(crate) fn host(&self) -> &Result<host::Host, String> {
        self.host.get_or_init(host::find)
    }

    /// What images on this machine can begin with.
    pub fn survey(&self) -> Survey {
        survey::look(self.store.dir(), self.options.base, self.host())
    }

    /// This machine's certificates, for containers at run time: what to lay over, and the variables
    /// that programs read their place from. `None` where the machine has none.
    pub fn certificates(&self) -> Option<(Bind, BTreeMap<String, String>)> {
        self.machine.certificates()
    }

    /// Bytes that layers and packages take, without the bases.
    pub fn used_bytes(&self) -> u64 {
        self.store.usage().0
    }

    /// The image of a recipe, built if it is not there.
    ///
    /// Asked for twice at once it is built once; only who came first hears its log.
    ///
    /// # Errors
    /// [`BuildError`]: what is not supported, and the command that failed with its last output.
    pub fn ensure(
        &self,
        recipe: &ImageRecipe,
        client: &ClientVersion,
        log: &dyn BuildLog,
    ) -> Result<ReadyImage, BuildError> {
        let chain = recipe.chain();
        if chain.len() > MAX_CHAIN {
            return Err(BuildError::refused_with(
                format!("an image stands on {} others; {MAX_CHAIN} are allowed", chain.len() - 1),
                "join steps of the image",
            ));
        }
        let base = self.choose_base(&chain)?;
        // A layer may be evicted between its image's build and here; then it is built again.
        loop {
            let record = self.ensure_over(recipe, &base, client, log)?;
            match self.layers(&record.layers) {
                Some(layers) => return Ok(self.ready(&record, layers)),
                None => drop(lock(&self.records).remove(&(record.key, base.clone()))),
            }
        }
    }

    fn ready(&self, record: &Record, layers: Vec<Layer>) -> ReadyImage {
        let config = &record.config;
        let metadata = ImageMetadata {
            python_version: Some(record.about.python_version.clone()),
            libc_version: format!("glibc {}", record.about.glibc_version),
            working_directory: config.working_directory.clone(),
            builder_version: record.builder_version.clone(),
            base: record.base.words(),
        };
        let hold = layers.iter().fold(Hold::default(), |hold, layer| hold.and(&layer.hold()));
        ReadyImage {
            key: record.key,
            lowers: layers.into_iter().map(|layer| layer.tree).collect(),
            environment: config.environment.clone(),
            working_directory: config.working_directory.clone(),
            entrypoint: config.entrypoint.clone(),
            command: config.command.clone(),
            shell: config.shell.clone(),
            python_series: Some(record.about.python_series.clone()),
            metadata,
            base: record.base.clone(),
            hold,
        }
    }

    /// The base for a chain of recipes.
    fn choose_base(&self, chain: &[&ImageRecipe]) -> Result<BaseKind, BuildError> {
        let bottom = chain.first().expect("a chain has at least one recipe");
        let Base::Reference { reference } = &bottom.base else {
            return Err(BuildError::refused("an image stands on no base"));
        };
        let added = chain.iter().find_map(|recipe| recipe.step.build_arguments.get(ADD_PYTHON));
        let series = base::wanted_series(reference, added.map(String::as_str))?;
        let wanted = Wanted { series, installs_packages: self.installs_packages(chain)? };
        self.offers().choose(self.options.base, &wanted)
    }

    /// Whether a line installs packages of the system that the host's files do not have.
    fn installs_packages(&self, chain: &[&ImageRecipe]) -> Result<bool, BuildError> {
        let Ok(host) = self.host() else { return Ok(true) };
        for recipe in chain {
            for line in dockerfile::parse(&recipe.step.commands)? {
                let Instruction::Run { command, .. } = line.instruction else { continue };
                let text = match command {
                    Command::Shell(text) => text,
                    Command::Exec(words) => words.join(" "),
                };
                if satisfied::installs_packages(&text)
                    && satisfied::look(&text, &|| host.packages()) == Satisfied::No
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn ensure_over(
        &self,
        recipe: &ImageRecipe,
        base: &BaseKind,
        client: &ClientVersion,
        log: &dyn BuildLog,
    ) -> Result<Arc<Record>, BuildError> {
        let id = (recipe.key(), base.clone());
        let there = |record: &Arc<Record>| self.layers(&record.layers).is_some();
        if let Some(record) = lock(&self.records).get(&id).filter(|record| there(record)) {
            return Ok(Arc::clone(record));
        }
        let wait = || say(log, "waits for the same image, which is being built");
        self.images_made.once(id.clone(), wait, || self.build(recipe, &id, client, log))
    }

    fn build(
        &self,
        recipe: &ImageRecipe,
        id: &RecordId,
        client: &ClientVersion,
        log: &dyn BuildLog,
    ) -> Result<Arc<Record>, BuildError> {
        // Whoever came first may have just ended.
        if let Some(record) = lock(&self.records).get(id)
            && self.layers(&record.layers).is_some()
        {
            return Ok(Arc::clone(record));
        }
        if recipe.step.run.is_some() {
            return Err(BuildError::refused_with(
                "what a function wrote into this image is not on this machine",
                "run or deploy the app again: the function then makes it anew",
            ));
        }
        let (key, base) = id;
        let made = self.base(base, log)?;
        let (config, below) = match &recipe.base {
            Base::Reference { .. } => (Config::of_base(), made.layers.clone()),
            Base::Image { image } => {
                let record = self.ensure_over(image, base, client, log)?;
                let layers = self
                    .layers(&record.layers)
                    .ok_or(BuildError::Quota { quota_bytes: self.options.quota_bytes })?;
                (record.config.clone(), layers)
            }
        };
        let freshness = match recipe.force_build {
            Some(_) => Freshness::Fresh,
            None => Freshness::Cached,
        };
        let trees = below.iter().map(|layer| layer.tree.clone()).collect();
        let build = Build::over(self, &recipe.step, &made, freshness, log, config, trees);
        let (new, config) = build.run()?;
        let layers = new.iter().chain(&below).map(|layer| layer.id.clone()).collect();
        let record = Record {
            key: *key,
            base: base.clone(),
            about: made.about.clone(),
            layers,
            config,
            builder_version: client.builder_version.clone(),
        };
        self.keep(id, record)
    }

    fn keep(&self, id: &RecordId, record: Record) -> Result<Arc<Record>, BuildError> {
        let kind = match &id.1 {
            BaseKind::Host => "host".to_owned(),
            BaseKind::Debian { suite } => suite.clone(),
        };
        let path = self.store.dir().join("records").join(format!("{}-{kind}.json", id.0));
        let bytes = serde_json::to_vec(&record).expect("records have texts for keys");
        write_whole(&path, &bytes).map_err(BuildError::io("write", &path))?;
        let record = Arc::new(record);
        lock(&self.records).insert(id.clone(), Arc::clone(&record));
        Ok(record)
    }

    /// Makes an image of what a container over `below` wrote: `upper` is an overlay's upper
    /// directory on the same file system as the images, and is moved away.
    ///
    /// # Errors
    /// When there is no room, or it cannot be moved.
    pub fn commit(
        &self,
        upper: &Path,
        below: &ReadyImage,
        key: ImageKey,
    ) -> Result<ReadyImage, BuildError> {
        let id = (key, below.base.clone());
        let below_ids: Vec<LayerId> =
            below.lowers.iter().filter_map(|tree| layer_of(tree)).collect();
        let made = self.base(&below.base, &crate::log::Silent)?;
        let layer = self.store.adopt(
            &format!("step-{}", self.store.unique()),
            upper,
            serde_json::Value::Null,
        )?;
        let config = Config {
            environment: below.environment.clone(),
            working_directory: below.working_directory.clone(),
            entrypoint: below.entrypoint.clone(),
            command: below.command.clone(),
            shell: below.shell.clone(),
            lists_wanted: false,
        };
        let record = Record {
            key,
            base: below.base.clone(),
            about: made.about,
            layers: [layer.id.clone()].into_iter().chain(below_ids).collect(),
            config,
            builder_version: below.metadata.builder_version.clone(),
        };
        let record = self.keep(&id, record)?;
        let layers = self
            .layers(&record.layers)
            .ok_or(BuildError::Quota { quota_bytes: self.options.quota_bytes })?;
        Ok(self.ready(&record, layers))
    }

    /// An image that was made by [`commit`](Self::commit) or [`ensure`](Self::ensure) before.
    pub fn find(&self, key: ImageKey) -> Option<ReadyImage> {
        let records: Vec<Arc<Record>> = {
            let records = lock(&self.records);
            records.values().filter(|record| record.key == key).cloned().collect()
        };
        records.iter().find_map(|record| Some(self.ready(record, self.layers(&record.layers)?)))
    }

    /// The store of packages, for a base.
    pub(crate) fn packages(
        &self,
        made: &Made,
        log: &dyn BuildLog,
    ) -> Result<Packages<'_>, BuildError> {
        Ok(Packages {
            store: &self.store,
            machine: &self.machine,
            runner: &*self.options.runner,
            uv: Uv::ready(&self.store, &self.machine, &UvVersion::Machine, log)?,
            recent: &self.packages_recent,
            turn: &self.packages_turn,
            base: vec![made.tree.clone()],
            image: made.layers.iter().map(|layer| layer.tree.clone()).collect(),
            suite: made.about.suite.clone(),
            target: Target::of(&made.about),
        })
    }

    /// The container side of a Modal client for an image: made once for each version of client,
    /// builder and Python.
    ///
    /// # Errors
    /// When the package index does not have the client for the image's Python.
    pub fn client_bundle(
        &self,
        client: &ClientVersion,
        image: &ReadyImage,
        log: &dyn BuildLog,
    ) -> Result<ClientBundle, BuildError> {
        let made = self.base(&image.base, log)?;
        let id = bundle::id(client, &Target::of(&made.about));
        let layer = match self.store.get(&id) {
            Some(layer) => layer,
            None => self.layers_made.once(
                id.clone(),
                || (),
                || {
                    let packages = self.packages(&made, log)?;
                    bundle::make(client, &id, &packages, log)
                },
            )?,
        };
        Ok(bundle::laid(client, &layer))
    }

    /// A directory with the files of a tree at their paths, read only, for use as a lower
    /// directory. It stays while the value lives.
    ///
    /// # Errors
    /// When a file's content is not here, or there is no room.
    pub fn lay_out(&self, files: &FileTree) -> Result<LaidOut, BuildError> {
        let id = format!("tree-{}", &files.key().to_string()[..32]);
        let layer = match self.store.get(&id) {
            Some(layer) => layer,
            None => self.layers_made.once(
                id.clone(),
                || (),
                || tree::make(files, &id, &self.store, &*self.options.files),
            )?,
        };
        Ok(LaidOut { hold: layer.hold(), path: layer.tree })
    }
}

/// A tree of files as a directory, which stays while this lives.
#[derive(Clone)]
pub struct LaidOut {
    pub path: PathBuf,
    pub hold: Hold,
}

/// The layer that a directory is the tree of.
fn layer_of(tree: &Path) -> Option<LayerId> {
    Some(tree.parent()?.file_name()?.to_str()?.to_owned())
}
