//! Builds of images: each image is built once, however many ask for it, and whoever follows it
//! sees its lines from the first on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use corral_apps::FunctionRun;
use corral_containers::ContainerLine;
use corral_jobs::JobsService;
use corral_placement::{TaskRequest, WorkClass};
use corral_types::{Caller, ErrorKind, Failure, ImageId, TaskId, WorkspaceId};
use corral_worker_api::{
    BUILD_MEMORY_LIMIT_BYTES, BUILD_MEMORY_REQUEST_BYTES, BuildEnd, BuildSpec, TaskWork,
};
use tokio::sync::watch;

use super::Runs;
use super::container::within;
use crate::modal::{BuildAnswer, BuildProgress, BuildStatus, BuiltImage, ImageBuilds, ImageWanted};

/// Lines kept of one build, by bytes. The last ones are what people look for.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Builds remembered after their end.
const MAX_REMEMBERED: usize = 4_000;

/// A processor's worth of a build.
const MILLI_CPU: u32 = 1_000;

/// See the module.
pub struct Builds {
    jobs: OnceLock<Arc<JobsService>>,
    runs: Arc<Runs>,
    builds: Arc<Mutex<HashMap<TaskId, watch::Sender<Progress>>>>,
}

/// How far a build is.
#[derive(Default)]
struct Progress {
    /// The newest lines.
    lines: VecDeque<ContainerLine>,
    line_bytes: usize,
    /// How many lines there were in all.
    last: u64,
    /// Its worker looks whether a function has made it before.
    is_looked_for: bool,
    status: Status,
}

#[derive(Clone, Default)]
enum Status {
    #[default]
    Running,
    /// What a function is to make was looked for and is not there: it is run now.
    Missing,
    Built(BuiltImage),
    Failed(String),
}

impl Status {
    const fn is_over(&self) -> bool {
        matches!(self, Self::Built(_) | Self::Failed(_))
    }
}

impl Progress {
    fn status(&self) -> BuildStatus {
        match &self.status {
            Status::Running | Status::Missing => BuildStatus::Running,
            Status::Built(image) => BuildStatus::Built(image.clone()),
            Status::Failed(message) => BuildStatus::Failed { message: message.clone() },
        }
    }

    fn add(&mut self, lines: Vec<ContainerLine>) {
        self.last += lines.len() as u64;
        self.line_bytes += lines.iter().map(|line| line.text.len()).sum::<usize>();
        self.lines.extend(lines);
        while self.line_bytes > MAX_LINE_BYTES {
            let dropped = self.lines.pop_front().map_or(0, |line| line.text.len());
            self.line_bytes -= dropped;
        }
    }

    fn after(&self, number: u64) -> Vec<ContainerLine> {
        let wanted = self.last.saturating_sub(number).min(self.lines.len() as u64) as usize;
        self.lines.range(self.lines.len() - wanted..).cloned().collect()
    }
}

impl Builds {
    /// `runs` has functions run that make images.
    pub fn new(runs: Arc<Runs>) -> Self {
        Self { jobs: OnceLock::new(), runs, builds: Arc::default() }
    }

    /// Whom builds are asked of; said once, when it is there.
    pub fn run_by(&self, jobs: Arc<JobsService>) {
        // The first who said it counts.
        let _ = self.jobs.set(jobs);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, watch::Sender<Progress>>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin_build(&self, wanted: ImageWanted) -> Result<BuildStatus, Failure> {
        let task = task_of(wanted.workspace, wanted.image);
        {
            let mut builds = self.lock();
            let known = builds.get(&task).map(|progress| progress.borrow().status());
            match known {
                None | Some(BuildStatus::Failed { .. }) => {}
                Some(status) => return Ok(status),
            }
            if builds.len() >= MAX_REMEMBERED {
                builds.retain(|_, build| !build.borrow().status.is_over());
            }
            let is_looked_for = wanted.run.is_some();
            let progress = Progress { is_looked_for, ..Progress::default() };
            builds.insert(task, watch::Sender::new(progress));
        }
        let jobs = self
            .jobs
            .get()
            .ok_or_else(|| Failure::new(ErrorKind::Unavailable, "the server is still starting"))?;
        let run = wanted.run.clone();
        let caller = within(wanted.workspace);
        let spec = BuildSpec {
            workspace: wanted.workspace,
            recipe: wanted.recipe,
            client_version: wanted.client_version,
            builder_version: wanted.builder_version,
        };
        let work = TaskWork::Build { spec: Box::new(spec.clone()) };
        let begun = jobs.start_task(request(task, &spec), work).await;
        if let Err(error) = begun {
            self.lock().remove(&task);
            return Err(Failure::from(error));
        }
        if let Some(run) = run {
            self.run_if_missing(task, caller, spec, run, jobs.clone());
        }
        // An image that is there already is told of in an instant, and its client need not ask
        // again.
        let progress =
            self.wait(task, 0, AT_ONCE, |progress| !matches!(progress.status, Status::Running));
        Ok(progress.await?.status)
    }

    /// Runs the function that makes an image where its worker does not have it, and then has the
    /// worker look again.
    fn run_if_missing(
        &self,
        task: TaskId,
        caller: Caller,
        spec: BuildSpec,
        run: FunctionRun,
        jobs: Arc<JobsService>,
    ) {
        let Some(mut watched) = self.lock().get(&task).map(watch::Sender::subscribe) else {
            return;
        };
        let (builds, runs) = (self.builds.clone(), self.runs.clone());
        tokio::spawn(async move {
            let looked = watched.wait_for(|progress| !matches!(progress.status, Status::Running));
            if !looked.await.is_ok_and(|progress| matches!(progress.status, Status::Missing)) {
                return;
            }
            change(&builds, task, |progress| {
                progress.is_looked_for = false;
                progress.status = Status::Running;
            });
            let made = match runs.make(&caller, &spec.recipe, &run).await {
                Ok(()) => {
                    let request = request(task, &spec);
                    let work = TaskWork::Build { spec: Box::new(spec) };
                    jobs.start_task(request, work).await.map_err(Failure::from)
                }
                Err(failure) => Err(failure),
            };
            if let Err(failure) = made {
                change(&builds, task, |progress| progress.status = Status::Failed(failure.message));
            }
        });
    }

    /// What there is after a line, waiting for it to be `enough`.
    async fn wait(
        &self,
        task: TaskId,
        after: u64,
        wait: Duration,
        enough: impl Fn(&Progress) -> bool,
    ) -> Result<BuildProgress, Failure> {
        let watched = self.lock().get(&task).map(watch::Sender::subscribe);
        let mut watched = watched.ok_or_else(|| {
            let message = "the image is not being built and was not since the server started";
            Failure::new(ErrorKind::NotFound, message)
        })?;
        // Without it what there is now is told.
        let _ = tokio::time::timeout(wait, watched.wait_for(enough)).await;
        let progress = watched.borrow();
        Ok(BuildProgress {
            lines: progress.after(after),
            last: progress.last,
            status: progress.status(),
        })
    }

    /// Keeps what a build wrote.
    pub fn lines(&self, task: TaskId, lines: Vec<ContainerLine>) {
        change(&self.builds, task, |progress| progress.add(lines));
    }

    /// Notes the end of a build; whether it is one.
    pub fn ended(&self, task: TaskId, end: BuildEnd) -> bool {
        change(&self.builds, task, |progress| {
            progress.status = match end {
                BuildEnd::Built { image } => Status::Built(BuiltImage {
                    python_version: image.python_version,
                    working_directory: image.working_directory,
                    libc_version: Some(image.libc_version),
                }),
                BuildEnd::Failed { .. } if progress.is_looked_for => Status::Missing,
                BuildEnd::Failed { message, hint: None } => Status::Failed(message),
                BuildEnd::Failed { message, hint: Some(hint) } => {
                    Status::Failed(format!("{message}\nhint: {hint}"))
                }
            };
        })
    }

    /// Notes that a build will not be; whether it is one.
    pub fn failed(&self, task: TaskId, message: String, hint: Option<String>) -> bool {
        self.ended(task, BuildEnd::Failed { message, hint })
    }

    /// Notes that a build's worker is gone; whether it is one.
    pub fn lost(&self, task: TaskId) -> bool {
        let message = "the worker that built the image is gone".to_owned();
        self.failed(task, message, Some("run it again: what was built is still there".to_owned()))
    }
}

/// Changes how far a build is; whether it is one.
fn change(
    builds: &Mutex<HashMap<TaskId, watch::Sender<Progress>>>,
    task: TaskId,
    change: impl FnOnce(&mut Progress),
) -> bool {
    let builds = builds.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(progress) = builds.get(&task) else { return false };
    progress.send_modify(change);
    true
}

/// How long the beginning of a build waits for its end.
const AT_ONCE: Duration = Duration::from_millis(250);

impl ImageBuilds for Builds {
    fn begin(&self, wanted: ImageWanted) -> BuildAnswer<'_, BuildStatus> {
        Box::pin(self.begin_build(wanted))
    }

    fn follow(
        &self,
        workspace: WorkspaceId,
        image: ImageId,
        after: u64,
        wait: Duration,
    ) -> BuildAnswer<'_, BuildProgress> {
        let task = task_of(workspace, image);
        Box::pin(self.wait(task, after, wait, move |progress| {
            progress.last > after || progress.status.is_over()
        }))
    }
}

/// The build of an image is always the same task.
fn task_of(workspace: WorkspaceId, image: ImageId) -> TaskId {
    let mut hasher = blake3::Hasher::new_derive_key("corral 2026 task of a build");
    hasher.update(&workspace.as_u128().to_le_bytes());
    hasher.update(&image.as_u128().to_le_bytes());
    let hash = hasher.finalize();
    let half = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    TaskId::from_u128(u128::from_le_bytes(*half))
}

fn request(task: TaskId, spec: &BuildSpec) -> TaskRequest {
    TaskRequest {
        task,
        workspace: spec.workspace,
        class: WorkClass::Job,
        milli_cpu: MILLI_CPU,
        memory_request_bytes: BUILD_MEMORY_REQUEST_BYTES,
        memory_limit_bytes: Some(BUILD_MEMORY_LIMIT_BYTES),
        gpus: 0,
        priority: 0,
        deadline: None,
        bring_back_ms: 0,
        preferred_worker: None,
    }
}

#[cfg(test)]
mod tests {
    use corral_types::Timestamp;

    use super::*;

    #[test]
    fn lines_are_told_after_a_number_and_old_ones_go() {
        let line = |text: &str| ContainerLine {
            at: Timestamp::from_millis(1),
            descriptor: 1,
            text: text.to_owned(),
        };
        let mut progress = Progress::default();
        progress.add(vec![line("a"), line("b"), line("c")]);
        let texts = |progress: &Progress, after| -> Vec<String> {
            progress.after(after).into_iter().map(|line| line.text).collect()
        };
        assert_eq!(texts(&progress, 0), ["a", "b", "c"]);
        assert_eq!(texts(&progress, 2), ["c"]);
        assert!(texts(&progress, 3).is_empty() && texts(&progress, 9).is_empty());
        progress.add(vec![line(&"x".repeat(MAX_LINE_BYTES))]);
        assert_eq!(progress.last, 4);
        assert_eq!(progress.lines.len(), 1);
        assert_eq!(texts(&progress, 1).len(), 1);
    }
}
