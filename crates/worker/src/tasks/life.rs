//! The life of a container and of a build on this worker.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_containers::{
    ContainerEnd, ContainerEvent, ContainerLine, ContainerSpec, ImageKey, StartKind, StopReason,
    Usage,
};
use corral_isolation::{
    ContainerPlan, ContainerProcessEvent, Exit, Stdio, TemplatePlan, TemplateState,
};
use corral_types::{TaskId, Timestamp};
use corral_worker_api::{BuildEnd, BuildSpec, Limits, TaskEvent};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep_until};

use super::api_socket::ApiSocket;
use super::blob_port::BlobPort;
use super::output::read_output;
use super::prepare::{Prepared, Unprepared, build_image, prepare};
use crate::Worker;
use crate::{ContainerControl, ContainerHandle};

/// How long a container has to end by itself when it is asked to: its exit hooks run then.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// The same where waiting helps nobody: its input has taken too long already, or memory is short.
const SHORT_STOP_GRACE: Duration = Duration::from_secs(3);

/// Ending by itself takes a container some ten milliseconds, unless it works on something.
const QUIET_WAIT: Duration = Duration::from_secs(2);

/// How often a container's memory and processor time are told.
const USAGE_EVERY: Duration = Duration::from_secs(5);

/// How long the last output of a container that has ended may take to be read: another process
/// may hold the other end.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// The end of a task that is not here.
pub fn lost() -> TaskEvent {
    ended(ContainerEnd::Lost, Usage::default())
}

fn ended(end: ContainerEnd, usage: Usage) -> TaskEvent {
    TaskEvent::Container { event: ContainerEvent::Ended { end, usage } }
}

fn grace(reason: StopReason) -> Duration {
    match reason {
        StopReason::Idle | StopReason::AppStopped | StopReason::Requested | StopReason::Retired => {
            STOP_GRACE
        }
        StopReason::InputTimeout
        | StopReason::InputCancelled
        | StopReason::StartupTimeout
        | StopReason::MemoryPressure
        | StopReason::WorkerEnds => SHORT_STOP_GRACE,
    }
}

/// How long it is waited for a container to end by itself, since its next question for inputs is
/// answered by that it shall, before its program is interrupted.
fn patience(reason: StopReason) -> Duration {
    match grace(reason) {
        STOP_GRACE => QUIET_WAIT,
        _ => Duration::ZERO,
    }
}

/// Has an image ready; its last event.
pub async fn run_build(
    worker: &Arc<Worker>,
    task: TaskId,
    spec: BuildSpec,
    mut stops: mpsc::UnboundedReceiver<StopReason>,
) -> TaskEvent {
    let failed = |message: String, hint| BuildEnd::Failed { message, hint };
    let end = tokio::select! {
        built = build_image(worker, task, &spec) => match built {
            Ok(image) => BuildEnd::Built { image },
            Err(Unprepared { message, hint }) => failed(message, hint),
        },
        // What is under way ends by itself, and the image may be there the next time.
        Some(_) = stops.recv() => failed("the build was stopped".to_owned(), None),
    };
    TaskEvent::BuildEnded { end }
}

/// Makes a template that containers can be born of, and keeps it until it is stopped.
pub async fn run_template(
    worker: &Arc<Worker>,
    task: TaskId,
    spec: ContainerSpec,
    limits: Limits,
    mut stops: mpsc::UnboundedReceiver<StopReason>,
) -> TaskEvent {
    let ended = |reason: String| TaskEvent::TemplateEnded { reason };
    let Some(wanted) = spec.template.clone() else {
        return ended("it says nothing of what to import".to_owned());
    };
    let made = async {
        let prepared = prepare(worker, task, &spec, &limits).await.map_err(|why| why.message)?;
        let plan = template_plan(&prepared.plan, wanted.imports);
        let started = match read_template(task) {
            Ok(stdio) => worker.containers.prepare(plan, stdio).await,
            Err(error) => Err(error),
        };
        let template = started.map_err(|error| format!("start the template: {error}"))?;
        match template.state().await {
            TemplateState::Ready { import_ms, memory_bytes } => {
                Ok((prepared, template, import_ms, memory_bytes))
            }
            TemplateState::Unusable { reason } => Err(reason),
        }
    };
    let (_prepared, template, import_ms, memory_bytes) = tokio::select! {
        made = made => match made {
            Ok(made) => made,
            Err(reason) => return ended(reason),
        },
        Some(_) = stops.recv() => return ended(String::new()),
    };
    let template = Arc::new(template);
    worker.tasks.keep_template(wanted.key, template.clone());
    worker.tasks.outbox.tell(task, TaskEvent::TemplateReady { import_ms, memory_bytes });
    let mut usage_ticks = tokio::time::interval(USAGE_EVERY);
    let reason = loop {
        tokio::select! {
            _ = stops.recv() => break String::new(),
            _ = usage_ticks.tick() => {
                worker.tasks.measured(task, template.usage().memory_bytes);
                if let Err(reason) = template.is_ready() {
                    break reason;
                }
            }
        }
    };
    worker.tasks.drop_template(wanted.key);
    ended(reason)
}

/// Runs a container to its end; its last event.
pub async fn run_container(
    worker: &Arc<Worker>,
    task: TaskId,
    spec: ContainerSpec,
    limits: Limits,
    mut stops: mpsc::UnboundedReceiver<StopReason>,
) -> TaskEvent {
    let began = Instant::now();
    let prepared = tokio::select! {
        prepared = prepare(worker, task, &spec, &limits) => prepared,
        Some(reason) = stops.recv() => {
            return ended(ContainerEnd::Stopped { reason }, Usage::default());
        }
    };
    let not_started =
        |message, hint| ended(ContainerEnd::NotStarted { message, hint }, Usage::default());
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(Unprepared { message, hint }) => return not_started(message, hint),
    };
    match Process::start(worker, task, &spec, &prepared).await {
        Ok(process) => {
            let end = process.run(&prepared.socket, began, &mut stops).await;
            match spec.commit {
                Some(key) => committed(worker, &prepared, key, end).await,
                None => end,
            }
        }
        Err(error) => not_started(format!("start the container's process: {error}"), None),
    }
}

/// Keeps what a container wrote that ended well; one that could not be kept has failed.
async fn committed(
    worker: &Worker,
    prepared: &Prepared,
    key: ImageKey,
    end: TaskEvent,
) -> TaskEvent {
    let TaskEvent::Container { event: ContainerEvent::Ended { end: how, usage } } = &end else {
        return end;
    };
    if !matches!(how, ContainerEnd::Exited { exit_code: 0 }) {
        return end;
    }
    match prepared.commit(worker, key).await {
        Ok(()) => end,
        Err(Unprepared { message, hint }) => {
            ended(ContainerEnd::NotStarted { message, hint }, *usage)
        }
    }
}

/// A container whose process was asked for.
struct Process {
    worker: Arc<Worker>,
    task: TaskId,
    handle: ContainerHandle,
    control: ContainerControl,
    kind: StartKind,
    plain_reason: Option<String>,
    readers: JoinSet<()>,
    limit_bytes: u64,
    payloads: Option<BlobPort>,
    stopping: Option<Stopping>,
}

/// How a container is being ended.
#[derive(Clone, Copy)]
struct Stopping {
    /// The first reason that was given.
    reason: StopReason,
    /// When its program is told, unless it was.
    signal_at: Option<tokio::time::Instant>,
    kill_at: tokio::time::Instant,
}

impl Process {
    /// Starts it from its template where there is one that can, plainly otherwise.
    async fn start(
        worker: &Arc<Worker>,
        task: TaskId,
        spec: &ContainerSpec,
        prepared: &Prepared,
    ) -> std::io::Result<Self> {
        let mut readers = JoinSet::new();
        let mut born = None;
        let mut plain_reason = None;
        let wanted = spec.template.as_ref();
        if let Some(template) = wanted.and_then(|wanted| worker.tasks.template(wanted.key)) {
            let stdio = read_stdio(worker, task, &mut readers)?;
            match template.start(prepared.plan.clone(), stdio).await {
                Ok(handle) => born = Some(handle),
                Err(error) => plain_reason = Some(error.to_string()),
            }
        }
        let (handle, kind) = match born {
            Some(handle) => (handle, StartKind::Template),
            None => {
                let stdio = read_stdio(worker, task, &mut readers)?;
                (worker.containers.start(prepared.plan.clone(), stdio).await?, StartKind::Cold)
            }
        };
        Ok(Self {
            worker: worker.clone(),
            task,
            control: handle.control(),
            handle,
            kind,
            plain_reason,
            readers,
            limit_bytes: prepared.plan.limits.memory_limit_bytes,
            payloads: None,
            stopping: None,
        })
    }

    async fn run(
        mut self,
        socket: &ApiSocket,
        began: Instant,
        stops: &mut mpsc::UnboundedReceiver<StopReason>,
    ) -> TaskEvent {
        let mut started = None;
        let mut usage_ticks = tokio::time::interval(USAGE_EVERY);
        usage_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let kill_at = self.stopping.map(|stopping| stopping.kill_at);
            let signal_at = self.stopping.and_then(|stopping| stopping.signal_at);
            tokio::select! {
                event = self.handle.next() => match event {
                    Some(ContainerProcessEvent::Started { process_id }) => {
                        started = Some(Instant::now());
                        self.listen_for_payloads(process_id).await;
                        self.tell(ContainerEvent::Started {
                            kind: self.kind,
                            took_ms: began.elapsed().as_millis() as u64,
                            plain_reason: self.plain_reason.clone(),
                        });
                    }
                    Some(ContainerProcessEvent::NotStarted { error }) => {
                        let message = format!("start the container: {error}");
                        let end = ContainerEnd::NotStarted { message, hint: None };
                        return ended(end, Usage::default());
                    }
                    Some(ContainerProcessEvent::Exited(exit)) => {
                        return self.end(&exit, started.unwrap_or(began)).await;
                    }
                    // The launcher is gone, and the worker ends.
                    None => return lost(),
                },
                Some(reason) = stops.recv() => self.stop(reason, socket.has_asked()),
                () = at(signal_at) => {
                    self.control.signal(Signal::INT.as_raw());
                    self.stopping.iter_mut().for_each(|stopping| stopping.signal_at = None);
                }
                () = at(kill_at) => {
                    self.control.kill();
                    self.stopping.iter_mut().for_each(|stopping| {
                        stopping.kill_at = later(STOP_GRACE);
                    });
                }
                _ = usage_ticks.tick(), if started.is_some() => {
                    let usage = self.usage(started.unwrap_or(began));
                    self.worker.tasks.measured(self.task, usage.memory_bytes);
                    self.tell(ContainerEvent::Usage { usage });
                }
            }
        }
    }

    /// Without this port a container does all that needs no large payload.
    async fn listen_for_payloads(&mut self, process_id: u32) {
        match BlobPort::listen(process_id, &self.worker.connection).await {
            Ok(port) => self.payloads = Some(port),
            Err(error) => tracing::debug!(task = %self.task, %error, "no port for payloads"),
        }
    }

    fn tell(&self, event: ContainerEvent) {
        self.worker.tasks.outbox.tell(self.task, TaskEvent::Container { event });
    }

    /// Asks the program to end, or ends it where it has not begun to work.
    fn stop(&mut self, reason: StopReason, has_asked: bool) {
        let (until_signal, until_kill) = match has_asked {
            true => (patience(reason), grace(reason)),
            false => (grace(reason), Duration::ZERO),
        };
        let (signal_at, kill_at) = (later(until_signal), later(until_kill));
        match &mut self.stopping {
            // The first reason is the one that is told; a later one may be more urgent.
            Some(stopping) => {
                stopping.signal_at = stopping.signal_at.map(|at| at.min(signal_at));
                stopping.kill_at = stopping.kill_at.min(kill_at);
            }
            None => {
                self.stopping = Some(Stopping { reason, signal_at: Some(signal_at), kill_at });
            }
        }
    }

    fn usage(&self, started: Instant) -> Usage {
        let now = self.control.usage();
        Usage {
            wall_ms: started.elapsed().as_millis() as u64,
            cpu_ms: now.cpu_ms,
            memory_bytes: now.memory_bytes,
            peak_memory_bytes: now.peak_memory_bytes,
        }
    }

    async fn end(mut self, exit: &Exit, started: Instant) -> TaskEvent {
        let reading = async { while self.readers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_OUTPUT_WAIT, reading).await;
        let usage = Usage {
            wall_ms: started.elapsed().as_millis() as u64,
            cpu_ms: exit.cpu_ms,
            memory_bytes: 0,
            peak_memory_bytes: exit.peak_memory_bytes,
        };
        if let Some(over) = exit.over_disk {
            let text = format!(
                "the container was ended: its files took {} bytes of disk, its limit is {}; ask for \
                 more ephemeral disk\n",
                over.measured_bytes, over.limit_bytes
            );
            let line = ContainerLine { at: Timestamp::now(), descriptor: 3, text };
            self.worker.tasks.outbox.lines(self.task, vec![line]);
        }
        let end = match (exit.over_memory, self.stopping, exit.signal) {
            (Some(over), ..) => ContainerEnd::OverMemory {
                limit_bytes: self.limit_bytes.min(over.limit_bytes),
                measured_bytes: over.measured_bytes,
            },
            (None, Some(Stopping { reason, .. }), _) => ContainerEnd::Stopped { reason },
            (None, None, Some(signal)) => ContainerEnd::Killed { signal },
            (None, None, None) => {
                ContainerEnd::Exited { exit_code: exit.exit_code.unwrap_or_default() }
            }
        };
        ended(end, usage)
    }
}

/// The template of a container: the same program with its options, which imports what `-m` would
/// run and then what the containers have in common.
fn template_plan(of: &ContainerPlan, imports: Vec<String>) -> TemplatePlan {
    let mut container = of.clone();
    let module = container.arguments.iter().position(|argument| argument == "-m");
    let after = container.arguments.split_off(module.unwrap_or(container.arguments.len()));
    let imports = after.into_iter().nth(1).into_iter().chain(imports).collect();
    TemplatePlan { container, imports }
}

/// Streams for a template, whose output is for whoever looks for why it does not work.
fn read_template(task: TaskId) -> std::io::Result<Stdio> {
    let writer = |descriptor: u8| -> std::io::Result<OwnedFd> {
        let (reader, writer) = std::io::pipe()?;
        let tell = move |lines: Vec<ContainerLine>| {
            for line in lines {
                tracing::debug!(%task, descriptor, text = line.text.trim_end(), "a template wrote");
            }
        };
        tokio::spawn(read_output(reader.into(), descriptor, tell));
        Ok(writer.into())
    };
    let (output, error) = (writer(1)?, writer(2)?);
    Ok(Stdio { input: File::open("/dev/null")?.into(), output, error })
}

/// Streams for a container's program, whose output is read and told.
fn read_stdio(worker: &Worker, task: TaskId, readers: &mut JoinSet<()>) -> std::io::Result<Stdio> {
    let mut writer = |descriptor: u8| -> std::io::Result<OwnedFd> {
        let (reader, writer) = std::io::pipe()?;
        let outbox = worker.tasks.outbox();
        let tell = move |lines| outbox.lines(task, lines);
        readers.spawn(read_output(reader.into(), descriptor, tell));
        Ok(writer.into())
    };
    let (output, error) = (writer(1)?, writer(2)?);
    Ok(Stdio { input: File::open("/dev/null")?.into(), output, error })
}

fn later(after: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + after
}

/// Waits until then; for ever when there is no such moment.
async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
