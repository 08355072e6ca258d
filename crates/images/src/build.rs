//! One recipe's commands, carried out over what is below.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_containers::{BuildStep, Network};

use crate::base::dpkg::Packages as SystemPackages;
use crate::bases::Made;
use crate::config::Config;
use crate::copy::{Context, Writing};
use crate::dockerfile::{self, Command, Instruction, SecretMount, expand, shorten};
use crate::error::BuildError;
use crate::files::remove_tree;
use crate::images::Images;
use crate::log::{BuildLog, Tail, say};
use crate::packages::{Failure, Freshness, Request, Uv, UvVersion, installed, request};
use crate::satisfied::{self, Satisfied};
use crate::step::{Access, Bind, StepEnd, StepProcess, clear_work};
use crate::store::{Layer, Scratch};
use crate::view::View;

/// A build argument that names the Python of a `COPY /python/. /usr/local`, with which the client
/// asks for a Python over a base without one.
pub const ADD_PYTHON: &str = "CORRAL_ADD_PYTHON";

/// Where the client copies an interpreter of its own choice from.
const PYTHON_SOURCE: &str = "/python/.";

/// Files that are laid over a container's own; a layer has none of them.
const OF_THE_MACHINE: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];

/// What the client copies uv from.
const UV_IMAGE: &str = "ghcr.io/astral-sh/uv";

/// A part of the image that is being made, over those before it.
enum Part {
    /// Written by this build: a folder with `upper` in it.
    Own(Scratch),
    /// One that other images have too.
    Shared(Layer),
}

pub struct Build<'a> {
    pub images: &'a Images,
    pub step: &'a BuildStep,
    pub made: &'a Made,
    pub freshness: Freshness,
    pub log: &'a dyn BuildLog,
    pub config: Config,
    /// Directories of what is below, top first.
    pub below: Vec<PathBuf>,
    parts: Vec<Part>,
    /// Arguments that were declared so far.
    arguments: BTreeMap<String, String>,
    /// A `CMD` stood among these commands.
    has_own_command: bool,
}

impl<'a> Build<'a> {
    pub fn over(
        images: &'a Images,
        step: &'a BuildStep,
        made: &'a Made,
        freshness: Freshness,
        log: &'a dyn BuildLog,
        config: Config,
        below: Vec<PathBuf>,
    ) -> Self {
        let (parts, arguments) = (Vec::new(), BTreeMap::new());
        let has_own_command = false;
        Self {
            images,
            step,
            made,
            freshness,
            log,
            config,
            below,
            parts,
            arguments,
            has_own_command,
        }
    }

    /// Carries out all commands; gives the new layers, top first.
    pub fn run(mut self) -> Result<(Vec<Layer>, Config), BuildError> {
        for line in dockerfile::parse(&self.step.commands)? {
            if !matches!(line.instruction, Instruction::From { .. }) {
                say(self.log, &format!("=> {}", shorten(&line.text)));
            }
            self.carry_out(line.instruction, &line.text)?;
        }
        let mut layers = Vec::new();
        for part in self.parts.into_iter().rev() {
            match part {
                Part::Shared(layer) => layers.push(layer),
                Part::Own(scratch) => {
                    let upper = scratch.path().join("upper");
                    let empty = fs::read_dir(&upper).map(|mut entries| entries.next().is_none());
                    if !empty.map_err(BuildError::io("list", &upper))? {
                        let store = &self.images.store;
                        let id = format!("step-{}", store.unique());
                        layers.push(store.adopt(&id, &upper, serde_json::Value::Null)?);
                    }
                }
            }
        }
        Ok((layers, self.config))
    }

    fn carry_out(&mut self, instruction: Instruction, text: &str) -> Result<(), BuildError> {
        let refuse = |why: String| BuildError::refused(format!("`{}`: {why}", shorten(text)));
        match instruction {
            // The recipe says what it is over.
            Instruction::From { .. } => {}
            Instruction::Env(pairs) => {
                // All of a line see the values from before it.
                let values: Result<Vec<_>, _> =
                    pairs.iter().map(|(_, value)| self.expanded(value)).collect();
                for ((name, _), value) in pairs.into_iter().zip(values.map_err(refuse)?) {
                    self.config.environment.insert(name, value);
                }
            }
            Instruction::Workdir(word) => {
                let word = self.expanded(&word).map_err(refuse)?;
                let path = Path::new(self.working_directory()).join(word);
                let writing = self.writing()?;
                writing.directory(&path)?;
                let resolved =
                    writing.view.resolve(&path).map_err(BuildError::io("find", &path))?;
                self.config.working_directory = Some(resolved.display().to_string());
            }
            Instruction::Entrypoint(command) => {
                self.config.entrypoint = self.words(command);
                // What stood below was for another one.
                if !self.has_own_command {
                    self.config.command = Vec::new();
                }
            }
            Instruction::Cmd(command) => {
                self.config.command = self.words(command);
                self.has_own_command = true;
            }
            Instruction::Shell(words) => self.config.shell = words,
            Instruction::Arg { name, default } => {
                let given = self.step.build_arguments.get(&name).cloned();
                let default =
                    default.map(|word| self.expanded(&word)).transpose().map_err(refuse)?;
                if let Some(value) = given.or(default) {
                    self.arguments.insert(name, value);
                }
            }
            Instruction::Ignored { name } => say(self.log, &format!("{name} has no meaning here")),
            Instruction::Copy { from, mode, sources, destination } => {
                let words: Result<Vec<_>, _> =
                    sources.iter().map(|source| self.expanded(source)).collect();
                let words = words.map_err(refuse)?;
                let destination = self.expanded(&destination).map_err(refuse)?;
                self.copy(from.as_deref(), mode, &words, &destination)?;
            }
            Instruction::Run { command, secrets } => self.run_command(command, &secrets, text)?,
        }
        Ok(())
    }

    fn expanded(&self, word: &str) -> Result<String, String> {
        expand(word, &|name| {
            let found = self.config.environment.get(name).or_else(|| self.arguments.get(name));
            found.cloned()
        })
    }

    /// A line for the shell as words for the system.
    fn words(&self, command: Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words,
            Command::Shell(line) => self.config.shell.iter().cloned().chain([line]).collect(),
        }
    }

    fn working_directory(&self) -> &str {
        self.config.working_directory.as_deref().unwrap_or("/")
    }

    /// The directories so far, top first; without the one that is written to.
    fn lowers(&self) -> Vec<PathBuf> {
        let finished = match self.parts.last() {
            Some(Part::Own(_)) => &self.parts[..self.parts.len() - 1],
            _ => &self.parts[..],
        };
        let own = finished.iter().rev().map(|part| match part {
            Part::Own(scratch) => scratch.path().join("upper"),
            Part::Shared(layer) => layer.tree.clone(),
        });
        own.chain(self.below.iter().cloned()).collect()
    }

    /// Everything so far.
    fn view(&self) -> View {
        let mut layers = self.lowers();
        if let Some(Part::Own(scratch)) = self.parts.last() {
            layers.insert(0, scratch.path().join("upper"));
        }
        View { layers }
    }

    /// The folder whose `upper` is written to.
    fn writable(&mut self) -> Result<PathBuf, BuildError> {
        if let Some(Part::Own(scratch)) = self.parts.last() {
            return Ok(scratch.path().to_owned());
        }
        let scratch = self.images.store.scratch()?;
        let path = scratch.path().to_owned();
        crate::files::make_directory(&path, Path::new("upper"))
            .map_err(BuildError::io("make", &path))?;
        self.parts.push(Part::Own(scratch));
        Ok(path)
    }

    fn writing(&mut self) -> Result<Writing, BuildError> {
        let upper = self.writable()?.join("upper");
        Ok(Writing { upper, view: self.view(), working_directory: self.working_directory().into() })
    }

    fn copy(
        &mut self,
        from: Option<&str>,
        mode: Option<u32>,
        sources: &[String],
        destination: &str,
    ) -> Result<(), BuildError> {
        if let Some(from) = from {
            return self.copy_uv(from, sources, destination);
        }
        let images = self.images;
        let context = Context::of(self.step, &*images.options.files);
        if sources == [PYTHON_SOURCE] && !context.has(PYTHON_SOURCE) {
            if !self.step.build_arguments.contains_key(ADD_PYTHON) {
                return Err(BuildError::refused("which Python shall be added was not said"));
            }
            // The base was chosen for it.
            say(self.log, "the base has this Python already");
            return Ok(());
        }
        let writing = self.writing()?;
        writing.copy(&context, sources, destination, mode)
    }

    /// The machine's uv in place of the image that it is published in, as a layer of its own.
    fn copy_uv(
        &mut self,
        from: &str,
        sources: &[String],
        destination: &str,
    ) -> Result<(), BuildError> {
        let (image, tag) = from.split_once(':').unwrap_or((from, "latest"));
        let known = |source: &String| matches!(source.as_str(), "/uv" | "/uvx");
        if image != UV_IMAGE || !sources.iter().all(known) {
            return Err(BuildError::refused(format!(
                "COPY --from={from}: other images are not pulled; of {UV_IMAGE} there are /uv and /uvx"
            )));
        }
        let exact =
            tag.split('.').count() == 3 && tag.chars().all(|c| c.is_ascii_digit() || c == '.');
        let version = if exact { UvVersion::Exactly(tag.to_owned()) } else { UvVersion::Machine };
        let store = &self.images.store;
        let uv = Uv::ready(store, &self.images.machine, &version, self.log)?;
        let path = Path::new(self.working_directory()).join(destination);
        let resolved = self.view().resolve(&path).map_err(BuildError::io("find", &path))?;
        let into =
            destination.ends_with('/') || sources.len() > 1 || self.view().is_directory(&resolved);
        let mut targets = Vec::new();
        for source in sources {
            let name = source.trim_start_matches('/');
            targets.push((name, if into { resolved.join(name) } else { resolved.clone() }));
        }
        let hash = blake3::hash(format!("{} {targets:?}", uv.layer.id).as_bytes()).to_hex();
        let id = format!("copied-uv-{}", &hash[..24]);
        let layer = match store.get(&id) {
            Some(layer) => layer,
            None => {
                let scratch = store.scratch()?;
                let tree = scratch.path().join("tree");
                crate::files::make_directory(scratch.path(), Path::new("tree"))
                    .map_err(BuildError::io("make", &tree))?;
                for (name, target) in &targets {
                    let inner = target.strip_prefix("/").unwrap_or(target);
                    let parent = inner.parent().unwrap_or(Path::new(""));
                    crate::files::make_directory(&tree, parent)
                        .map_err(BuildError::io("make", &tree.join(parent)))?;
                    let program = uv.layer.tree.join(name);
                    fs::hard_link(&program, tree.join(inner))
                        .map_err(BuildError::io("link", &program))?;
                }
                store.adopt(&id, &tree, serde_json::Value::Null)?
            }
        };
        self.parts.push(Part::Shared(layer));
        Ok(())
    }

    fn run_command(
        &mut self,
        command: Command,
        secrets: &[SecretMount],
        text: &str,
    ) -> Result<(), BuildError> {
        if let Command::Shell(line) = &command {
            match self.satisfied(line) {
                Satisfied::Fully => {
                    say(self.log, "the base has this already");
                    return Ok(());
                }
                Satisfied::ListsWanted => {
                    self.config.lists_wanted = true;
                    say(self.log, "waits until a line needs it");
                    return Ok(());
                }
                Satisfied::No => {}
            }
            if secrets.is_empty() && self.install(line)? {
                return Ok(());
            }
            let needs_lists = satisfied::installs_packages(line) && !line.contains("update");
            if self.config.lists_wanted && needs_lists {
                let update = ["apt-get", "update"].map(str::to_owned).to_vec();
                self.run_in_container(update, &[], "apt-get update")?;
                self.config.lists_wanted = false;
            }
        }
        let words = self.words(command);
        self.run_in_container(words, secrets, text)
    }

    fn has_plain_shell(&self) -> bool {
        matches!(self.config.shell.first().map(String::as_str), Some("/bin/sh" | "/bin/bash"))
    }

    fn satisfied(&self, line: &str) -> Satisfied {
        let packages = || {
            let status = self.view().read("/var/lib/dpkg/status").unwrap_or_default();
            Arc::new(SystemPackages::read(&String::from_utf8_lossy(&status)))
        };
        match self.has_plain_shell() && self.has_own_python() {
            true => satisfied::look(line, &packages),
            false => Satisfied::No,
        }
    }

    /// Whether `python` and `pip` are those of the base.
    fn has_own_python(&self) -> bool {
        let view = self.view();
        ["python", "python3", "pip"].iter().all(|name| {
            let found = view.program(name, self.config.path());
            found.is_some_and(|path| path == Path::new("/usr/local/bin").join(name))
        })
    }

    /// Installs the packages of a line without a container, if that can be; whether it was done.
    fn install(&mut self, line: &str) -> Result<bool, BuildError> {
        let Some(mut request) = request::read(line) else { return Ok(false) };
        let tells_installers =
            |name: &String| ["PIP_", "UV_", "PYTHON"].iter().any(|prefix| name.starts_with(prefix));
        let mut told = self.config.environment.keys().chain(self.arguments.keys());
        let is_told = told.any(tells_installers) || self.step.secrets.keys().any(tells_installers);
        if is_told || !self.has_plain_shell() || !self.has_own_python() {
            return Ok(false);
        }
        let view = self.view();
        for file in std::mem::take(&mut request.files) {
            let path = Path::new(self.working_directory()).join(&file);
            let text = view.read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            match text.and_then(|text| request::requirements_of(&text)) {
                Some(more) => request.requirements.extend(more),
                None => return Ok(false),
            }
        }
        if request.requirements.is_empty() {
            return Ok(true);
        }
        match self.bring_in(&request, &view) {
            Ok(()) => Ok(true),
            Err(Failure::Failed(error)) => Err(error),
            Err(Failure::Elsewhere(why)) => {
                say(self.log, &format!("goes on in a container, since {why}"));
                Ok(false)
            }
        }
    }

    fn bring_in(&mut self, request: &Request, view: &View) -> Result<(), Failure> {
        let packages = self.images.packages(self.made, self.log)?;
        let folder = Path::new("/").join(packages.target.packages_path());
        let installed = installed(view, &folder);
        let mut pins = packages.resolve(request, &installed, self.freshness, self.log)?;
        for (name, version) in &installed {
            if pins.iter().any(|pin| pin.name == *name && pin.version != *version) {
                return Err(Failure::Elsewhere(format!("{name} {version} has to be replaced")));
            }
        }
        pins.retain(|pin| installed.iter().all(|(name, _)| *name != pin.name));
        if pins.is_empty() {
            say(self.log, "all packages are there already");
            return Ok(());
        }
        let layer = packages.layer(&pins, self.log)?;
        let names: Vec<String> =
            pins.iter().map(|pin| format!("{}-{}", pin.name, pin.version)).collect();
        say(self.log, &format!("Successfully installed {}", names.join(" ")));
        self.parts.push(Part::Shared(layer));
        Ok(())
    }

    fn run_in_container(
        &mut self,
        arguments: Vec<String>,
        secrets: &[SecretMount],
        text: &str,
    ) -> Result<(), BuildError> {
        let writable = self.writable()?;
        clear_work(&writable)?;
        let suite = self.made.about.suite.as_deref();
        let mut environment = self.images.machine.step_environment(suite)?;
        environment.extend(self.config.environment.clone());
        environment.extend(self.arguments.clone());
        let values = self.step.secrets.iter();
        environment.extend(values.map(|(name, value)| (name.clone(), value.expose().to_owned())));
        let mut binds = vec![self.images.machine.bind()];
        let hidden = self.images.store.scratch()?;
        for secret in secrets {
            let value = self.step.secrets.get(&secret.name).ok_or_else(|| {
                BuildError::refused(format!(
                    "`{}`: no secret {} was given",
                    shorten(text),
                    secret.name
                ))
            })?;
            let source = hidden.path().join(binds.len().to_string());
            fs::write(&source, value.expose()).map_err(BuildError::io("write", &source))?;
            binds.push(Bind { source, target: secret.target.clone().into(), access: Access::Read });
        }
        // Files to lay secrets over; they go again afterwards.
        let writing = self.writing()?;
        let mut placeholders = Vec::new();
        for secret in secrets {
            if writing.view.find(&secret.target).is_none() {
                writing.file(Path::new(&secret.target), &mut std::io::empty(), 0o600)?;
                let inner = secret.target.trim_start_matches('/');
                placeholders.push(writing.upper.join(inner));
            }
        }
        let process = StepProcess {
            lowers: self.lowers(),
            writable,
            binds,
            environment,
            working_directory: self.working_directory().to_owned(),
            arguments,
            network: Network::Outbound,
        };
        let tail = Tail::of(self.log);
        let end = self.images.options.runner.run(&process, &tail);
        for path in placeholders {
            fs::remove_file(&path).map_err(BuildError::io("remove", &path))?;
        }
        // What whoever runs containers may have put there of this machine.
        for name in OF_THE_MACHINE {
            drop(fs::remove_file(writing.upper.join(name)));
        }
        let own = writing.upper.join("__corral");
        remove_tree(&own).map_err(BuildError::io("remove", &own))?;
        match end.map_err(BuildError::io("start a container over", &process.writable))? {
            StepEnd::SUCCESS => Ok(()),
            end => Err(BuildError::Step { command: shorten(text), end, output: tail.text() }),
        }
    }
}
