//! The store of Python packages, and layers made of it.
//!
//! A package is unpacked once on a machine, by uv, from a wheel whose hash the index gave, with
//! its modules compiled. A layer with packages is made of further names of the same files. The
//! store is written by the builder alone; containers have its files only below an overlay, which
//! copies before it writes.
//!
//! Wheels are only unpacked here. What would have to be built runs in a container of its image.

mod recent;
pub mod request;
mod unpack;
mod uv;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

pub use recent::Recent;
pub use request::Request;
pub use uv::{Uv, UvVersion};

use crate::base::BaseAbout;
use crate::error::BuildError;
use crate::files::{link_tree, make_directory};
use crate::log::{BuildLog, Tail, say};
use crate::machine::Machine;
use crate::step::{StepEnd, StepProcess, StepRunner, clear_work};
use crate::store::{Layer, Store};
use crate::view::View;
use request::normal_name;

/// The Python that packages are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Such as `3.11`.
    pub series: String,
    /// Such as `3.11.2`.
    pub version: String,
    /// As uv names it, such as `x86_64-manylinux_2_36`.
    pub platform: String,
}

/// The newest and the oldest glibc that uv knows by name.
const GLIBC_MINORS: std::ops::RangeInclusive<u32> = 28..=40;

impl Target {
    pub fn of(about: &BaseAbout) -> Self {
        let minor = about.glibc_version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        let minor: u32 = minor.unwrap_or(*GLIBC_MINORS.start());
        let known = [28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40];
        let minor = known.into_iter().filter(|known| *known <= minor).max();
        let minor = minor.unwrap_or(*GLIBC_MINORS.start());
        let platform = format!("{}-manylinux_2_{minor}", std::env::consts::ARCH);
        let (series, version) = (about.python_series.clone(), about.python_version.clone());
        Self { series, version, platform }
    }

    /// Where packages lie below a root.
    pub fn packages_path(&self) -> PathBuf {
        PathBuf::from(format!("usr/local/lib/python{}/site-packages", self.series))
    }
}

/// A package at a version, with the hashes of the files that an index has of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    pub name: String,
    pub version: String,
    pub hashes: Vec<String>,
}

/// What an image has installed: names in their normal form, and versions.
pub type Installed = Vec<(String, String)>;

/// Why packages were not brought in by the builder.
pub enum Failure {
    /// They may be in a container: something has to be built, or replaced.
    Elsewhere(String),
    Failed(BuildError),
}

impl Failure {
    /// As the end of a build that has no other way.
    pub fn into_error(self, what: &str) -> BuildError {
        match self {
            Self::Failed(error) => error,
            Self::Elsewhere(why) => BuildError::Tool { what: what.to_owned(), output: why },
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::Failed(error)
    }
}

/// How packages are found anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What an index said some minutes ago holds.
    Cached,
    /// The index is asked again.
    Fresh,
}

/// What the store of packages works with.
pub struct Packages<'a> {
    pub store: &'a Store,
    pub machine: &'a Machine,
    pub runner: &'a dyn StepRunner,
    pub uv: Uv,
    pub recent: &'a Recent,
    /// Packages are unpacked by one build at a time: two images often want the same.
    pub turn: &'a Mutex<()>,
    /// Directories of the base, for compiling modules.
    pub base: Vec<PathBuf>,
    /// Those of the base with pip in it, top first, once they are there.
    pub image: Vec<PathBuf>,
    /// Debian's, of the base.
    pub suite: Option<String>,
    pub target: Target,
}

impl Packages<'_> {
    /// The packages that a request comes down to.
    pub fn resolve(
        &self,
        request: &Request,
        installed: &Installed,
        freshness: Freshness,
        log: &dyn BuildLog,
    ) -> Result<Vec<Pin>, Failure> {
        let key = recent::key(request, installed, &self.target);
        if freshness == Freshness::Cached
            && let Some(pins) = self.recent.get(&key, Instant::now())
        {
            return Ok(pins);
        }
        let pins = self.uv.resolve(self, request, installed, freshness, log)?;
        self.recent.keep(key, pins.clone(), Instant::now());
        Ok(pins)
    }

    /// The unpacked packages, those that are missing fetched first.
    pub fn unpacked(&self, pins: &[Pin], log: &dyn BuildLog) -> Result<Vec<Layer>, Failure> {
        let missing = |pins: &[Pin]| -> Vec<Pin> {
            pins.iter().filter(|pin| self.store.get(&self.id(pin)).is_none()).cloned().collect()
        };
        // What was just unpacked is in use, so that it makes no room for what follows.
        let mut fetched = Vec::new();
        if !missing(pins).is_empty() {
            let turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let missing = missing(pins);
            if !missing.is_empty() {
                let names: Vec<&str> = missing.iter().map(|pin| pin.name.as_str()).collect();
                say(log, &format!("fetches {}", names.join(", ")));
                fetched = self.fetch(&missing, log)?;
            }
            drop(turn);
        }
        let mut layers = Vec::new();
        for pin in pins {
            let gone = || BuildError::Tool {
                what: format!("the package {} {} was not unpacked by uv", pin.name, pin.version),
                output: String::new(),
            };
            layers.push(self.store.get(&self.id(pin)).ok_or_else(gone)?);
        }
        drop(fetched);
        Ok(layers)
    }

    /// The name of an unpacked package among layers.
    fn id(&self, pin: &Pin) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("corral 2026 unpacked package");
        let of = [&pin.name, &pin.version, &self.target.series, &self.target.platform];
        for part in of.into_iter().chain(&pin.hashes) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        format!("package-{}", &hasher.finalize().to_hex()[..32])
    }

    fn fetch(&self, pins: &[Pin], log: &dyn BuildLog) -> Result<Vec<Layer>, Failure> {
        let scratch = self.store.scratch()?;
        let tree = scratch.path().join("tree");
        let packages = tree.join(self.target.packages_path());
        make_directory(scratch.path(), &Path::new("tree").join(self.target.packages_path()))
            .map_err(BuildError::io("make", &packages))?;
        self.uv.unpack(self, pins, &packages, log)?;
        unpack::put_programs_in_place(&tree, &packages, &self.target)?;
        self.compile(scratch.path(), &tree, log)?;
        let mut layers = Vec::new();
        for (pin, files) in unpack::by_package(&packages, pins)? {
            let own = self.store.scratch()?;
            let own_tree = own.path().join("tree");
            unpack::take(&tree, &packages, &files, &own_tree)?;
            layers.push(self.store.adopt(&self.id(&pin), &own_tree, serde_json::Value::Null)?);
        }
        Ok(layers)
    }

    /// Compiles modules with the base's own Python, at the path that they will have.
    fn compile(&self, scratch: &Path, tree: &Path, log: &dyn BuildLog) -> Result<(), BuildError> {
        let writable = scratch.join("compiled");
        make_directory(scratch, Path::new("compiled/upper"))
            .map_err(BuildError::io("make", &writable))?;
        let place = self.target.packages_path();
        let made = writable.join("upper").join(&place);
        // Several at once need semaphores, which not every container has.
        for processes in ["0", "1"] {
            self.compile_with(processes, &writable, tree, log)?;
            if made.is_dir() {
                return link_tree(&made, &tree.join(&place))
                    .map(drop)
                    .map_err(BuildError::io("take compiled modules from", &made));
            }
        }
        say(log, "no module could be compiled; the first import of each takes longer");
        Ok(())
    }

    fn compile_with(
        &self,
        processes: &str,
        writable: &Path,
        tree: &Path,
        log: &dyn BuildLog,
    ) -> Result<(), BuildError> {
        clear_work(writable)?;
        let mut lowers = vec![tree.to_owned()];
        lowers.extend(self.base.iter().cloned());
        let place = Path::new("/").join(self.target.packages_path()).display().to_string();
        let python = format!("/usr/bin/python{}", self.target.series);
        let arguments = [&python, "-I", "-m", "compileall", "-qq", "-j", processes, &place];
        let process = StepProcess {
            lowers,
            writable: writable.to_owned(),
            binds: vec![],
            environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            working_directory: "/".into(),
            arguments: arguments.map(str::to_owned).into(),
            network: corral_containers::Network::None,
        };
        // Its exit code counts for nothing: some packages bring modules that no Python compiles.
        let end = self.runner.run(&process, log);
        end.map(drop).map_err(BuildError::io("start a container over", tree))
    }

    /// Builds packages of which there are no wheels in a container of the base, and installs them
    /// and what else is named, without what they need, into a directory of their own.
    pub fn build(&self, requirements: &[String], log: &dyn BuildLog) -> Result<Layer, BuildError> {
        let of = format!("{} {} {requirements:?}", self.target.series, self.target.platform);
        let id = format!("built-{}", &blake3::hash(of.as_bytes()).to_hex()[..32]);
        if let Some(layer) = self.store.get(&id) {
            return Ok(layer);
        }
        let scratch = self.store.scratch()?;
        make_directory(scratch.path(), Path::new("upper"))
            .map_err(BuildError::io("make", scratch.path()))?;
        let mut environment = self.machine.step_environment(self.suite.as_deref())?;
        environment.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        environment.insert("HOME".into(), "/root".into());
        let mut arguments: Vec<String> =
            ["python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", "/opt/built"]
                .map(str::to_owned)
                .into();
        arguments.extend(requirements.iter().cloned());
        let process = StepProcess {
            lowers: self.image.clone(),
            writable: scratch.path().to_owned(),
            binds: vec![self.machine.bind()],
            environment,
            working_directory: "/".into(),
            arguments,
            network: corral_containers::Network::Outbound,
        };
        let tail = Tail::of(log);
        let end = self.runner.run(&process, &tail);
        match end.map_err(BuildError::io("start a container over", scratch.path()))? {
            StepEnd::SUCCESS => {}
            end => {
                let command = "python -m pip install".to_owned();
                return Err(BuildError::Step { command, end, output: tail.text() });
            }
        }
        let made = scratch.path().join("upper/opt/built");
        self.store.adopt(&id, &made, serde_json::Value::Null)
    }

    /// A layer with these packages under `/usr/local`, made of further names of their files.
    pub fn layer(&self, pins: &[Pin], log: &dyn BuildLog) -> Result<Layer, Failure> {
        let mut ids: Vec<String> = pins.iter().map(|pin| self.id(pin)).collect();
        ids.sort_unstable();
        let id = format!("packages-{}", &blake3::hash(ids.join(" ").as_bytes()).to_hex()[..32]);
        if let Some(layer) = self.store.get(&id) {
            return Ok(layer);
        }
        let unpacked = self.unpacked(pins, log)?;
        let scratch = self.store.scratch()?;
        let tree = scratch.path().join("tree");
        let mut bytes = 0;
        for package in &unpacked {
            bytes +=
                link_tree(&package.tree, &tree).map_err(BuildError::io("link", &package.tree))?;
        }
        Ok(self.store.adopt_counted(&id, &tree, bytes, serde_json::Value::Null)?)
    }
}

/// The packages in a directory, as their own notes say.
pub fn installed(view: &View, folder: &Path) -> Installed {
    // An image may hold anything; what is found is handed on as lines of a file.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
    view.list(folder)
        .iter()
        .filter(|name| name.chars().all(plain))
        .filter_map(|name| name.strip_suffix(".dist-info")?.split_once('-'))
        .map(|(name, version)| (normal_name(name), version.to_owned()))
        .collect()
}
