//! A container without namespaces: a process with limits, for machines that allow no more. It sees
//! the machine as its user does, so it is for one workspace only.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corral_containers::{Limits, Usage};
use corral_isolation::{
    ContainerPlan, ContainerProcessEvent, Exit, OverMemory, PlannedFile, Stdio,
};

use crate::cgroup::{Group, GroupLimits, GroupTree};
use crate::job::DIRECTORY_VARIABLE;
use crate::launcher::{Launcher, ProcessControl, ProcessEvent, ProcessHandle, StartProcess};
use crate::process_tree::{list_processes, members, read_resident_memory};

/// How often the memory of a container is measured where no group holds it.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// As of a job: it goes before the worker when the kernel looks for memory.
const OOM_SCORE_ADJUSTMENT: u16 = 500;

/// What `RLIMIT_DATA` leaves beyond twice the memory limit: it counts address space.
const DATA_LIMIT_SLACK_BYTES: u64 = 4 << 30;

/// A container. Dropping it ends it.
pub struct BareContainer {
    handle: ProcessHandle,
    shared: Arc<Shared>,
    over_memory: Option<OverMemory>,
    over: bool,
}

/// A line to a container.
#[derive(Clone)]
pub struct BareControl {
    process: ProcessControl,
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    group: Option<Group>,
    directory: PathBuf,
    begun: Instant,
    /// The program's number, once it runs.
    root: AtomicI32,
    peak_bytes: AtomicU64,
}

impl BareContainer {
    /// Starts a plan that has no file system of its own: no layers and no binds, its paths are the
    /// machine's, and its files lie below its working directory. Blocks for a moment.
    ///
    /// # Errors
    /// When the plan needs more than that, or limits are refused.
    pub fn start(
        launcher: &Launcher,
        groups: Option<&GroupTree>,
        plan: &ContainerPlan,
        stdio: Stdio,
    ) -> io::Result<Self> {
        if !plan.lowers.is_empty() || !plan.binds.is_empty() {
            return Err(io::Error::other(
                "containers here are processes without namespaces, which have no image to see: \
                 run where namespaces work (corral doctor says what keeps them), or from an \
                 environment on the machine itself",
            ));
        }
        let directory = plan.working_directory.clone();
        fs::create_dir_all(&directory)?;
        plan.files.iter().try_for_each(|file| write_below(&directory, file))?;
        let group = groups.map(GroupTree::take).transpose()?;
        if let Some(group) = &group {
            group.set_limits(&GroupLimits::from(&plan.limits))?;
        }
        let of_data = plan.limits.memory_limit_bytes.saturating_mul(2) + DATA_LIMIT_SLACK_BYTES;
        let mut environment = plan.environment.clone();
        // How what it leaves behind is recognised.
        let mark = directory.to_string_lossy().into_owned();
        environment.push((DIRECTORY_VARIABLE.to_owned(), mark));
        let mut arguments = plan.arguments.clone();
        if arguments.is_empty() {
            return Err(io::Error::other("the container has no command"));
        }
        let program = arguments.remove(0);
        let start = StartProcess {
            program: Some(find_program(&program, plan)?),
            arguments,
            environment,
            current_directory: directory.clone(),
            cgroup_files: group.as_ref().map(Group::membership_files).unwrap_or_default(),
            data_limit_bytes: group.is_none().then_some(of_data),
            oom_score_adjustment: OOM_SCORE_ADJUSTMENT,
            nice: 0,
            attempt_directory: directory.clone(),
        };
        let streams = [stdio.input, stdio.output, stdio.error];
        let handle = launcher.start_process(start, streams).map_err(io::Error::other)?;
        let shared = Shared {
            limits: plan.limits,
            group,
            directory,
            begun: Instant::now(),
            root: AtomicI32::new(0),
            peak_bytes: AtomicU64::new(0),
        };
        Ok(Self { handle, shared: Arc::new(shared), over_memory: None, over: false })
    }

    /// As [`super::ContainerHandle::next`].
    pub async fn next(&mut self) -> Option<ContainerProcessEvent> {
        if self.over {
            return None;
        }
        let watched = self.shared.group.is_none();
        let event = loop {
            tokio::select! {
                biased;
                event = self.handle.next() => break event?,
                () = tokio::time::sleep(WATCH_INTERVAL), if watched => self.watch_memory(),
            }
        };
        Some(match event {
            ProcessEvent::Started { process_id } => {
                self.shared.root.store(process_id as i32, Ordering::Relaxed);
                ContainerProcessEvent::Started { process_id }
            }
            ProcessEvent::NotStarted { error } => {
                self.over = true;
                ContainerProcessEvent::NotStarted { error }
            }
            ProcessEvent::Exited { exit_code, signal, cpu_ms } => {
                self.over = true;
                self.exited(Exit { exit_code, signal, cpu_ms, ..Exit::default() })
            }
        })
    }

    fn exited(&self, exit: Exit) -> ContainerProcessEvent {
        let group = self.shared.group.as_ref();
        let peak_memory_bytes = match group {
            Some(group) => group.peak_bytes(),
            None => self.shared.peak_bytes.load(Ordering::Relaxed),
        };
        let killed = group.is_some_and(|group| group.kills() > 0) && exit.exit_code != Some(0);
        let measured = OverMemory {
            limit_bytes: self.shared.limits.memory_limit_bytes,
            measured_bytes: peak_memory_bytes,
        };
        ContainerProcessEvent::Exited(Exit {
            cpu_ms: group.and_then(Group::cpu_ms).unwrap_or(exit.cpu_ms),
            peak_memory_bytes,
            over_memory: self.over_memory.or_else(|| killed.then_some(measured)),
            ..exit
        })
    }

    fn watch_memory(&mut self) {
        let limit_bytes = self.shared.limits.memory_limit_bytes;
        let measured_bytes = self.shared.memory_bytes();
        if measured_bytes > limit_bytes {
            self.over_memory = Some(OverMemory { limit_bytes, measured_bytes });
            self.handle.kill();
        }
    }

    pub fn control(&self) -> BareControl {
        BareControl { process: self.handle.control(), shared: self.shared.clone() }
    }
}

impl Drop for BareContainer {
    fn drop(&mut self) {
        self.control().kill();
    }
}

impl BareControl {
    pub fn kill(&self) {
        self.thaw();
        self.process.kill();
    }

    pub fn signal(&self, number: i32) {
        self.process.signal(number);
    }

    pub fn freeze(&self) -> io::Result<()> {
        match &self.shared.group {
            Some(group) => group.freeze(),
            None => Err(io::Error::other("there are no groups here to freeze with")),
        }
    }

    pub fn thaw(&self) {
        if let Some(group) = &self.shared.group {
            group.thaw();
        }
    }

    pub fn write_file(&self, file: &PlannedFile) -> io::Result<()> {
        write_below(&self.shared.directory, file)
    }

    pub fn usage(&self) -> Usage {
        let group = self.shared.group.as_ref();
        let memory_bytes = group.map_or_else(|| self.shared.memory_bytes(), Group::memory_bytes);
        let peak = || self.shared.peak_bytes.load(Ordering::Relaxed);
        Usage {
            wall_ms: self.shared.begun.elapsed().as_millis() as u64,
            cpu_ms: group.and_then(Group::cpu_ms).unwrap_or(0),
            memory_bytes,
            peak_memory_bytes: group.map_or_else(peak, Group::peak_bytes),
        }
    }
}

impl Shared {
    /// Anonymous and shared memory of all its processes, from `/proc`.
    fn memory_bytes(&self) -> u64 {
        let root = self.root.load(Ordering::Relaxed);
        if root == 0 {
            return 0;
        }
        let own = members(&list_processes(), root, root, |_| false).into_iter();
        let held = own.filter_map(read_resident_memory).map(|memory| memory.total_bytes()).sum();
        self.peak_bytes.fetch_max(held, Ordering::Relaxed);
        held
    }
}

/// A program without a slash, along the environment's `PATH`.
fn find_program(name: &str, plan: &ContainerPlan) -> io::Result<PathBuf> {
    if name.contains('/') {
        return Ok(plan.working_directory.join(name));
    }
    let path = plan.variable("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let found = path.split(':').map(|directory| Path::new(directory).join(name)).find(is_program);
    found.ok_or_else(|| io::Error::other(format!("no {name} along PATH={path}")))
}

/// Writes a file of the plan, whole or not at all.
fn write_below(directory: &Path, file: &PlannedFile) -> io::Result<()> {
    if !file.path.starts_with(directory)
        || file.path.components().any(|part| part.as_os_str() == "..")
    {
        return Err(io::Error::other(format!(
            "{} is not below the working directory {}, and there is no other place of its own",
            file.path.display(),
            directory.display()
        )));
    }
    if let Some(parent) = file.path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut new = file.path.clone();
    new.add_extension("corral-new");
    fs::write(&new, &file.bytes)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(file.mode))?;
    fs::rename(&new, &file.path)
}
