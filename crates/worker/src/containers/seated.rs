//! A container in namespaces of its own: what becomes of it, and what can be done to it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use corral_containers::{Limits, Usage};
use corral_isolation::{
    ContainerPlan, ContainerProcessEvent, Exit, OverDisk, OverMemory, PlannedFile, SeatEvent,
    Writable,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::disk::watch_disk;
use super::seat::ReadySeat;
use super::template::{self, ProgramEnd};
use crate::process_tree::{list_processes, members, read_resident_memory};
use crate::system::watch_readable;

/// How often the memory of a container is measured where no group holds it.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How long a template may take to tell of a program that is gone.
const END_WAIT: Duration = Duration::from_secs(1);

/// A container. Dropping it ends it.
pub struct SeatedContainer {
    container: Arc<Container>,
    /// What its first process says.
    socket: AsyncFd<OwnedFd>,
    /// Readable when every process of it is gone.
    process: AsyncFd<OwnedFd>,
    /// How the program ended, from the template that forked it.
    forked: Option<oneshot::Receiver<ProgramEnd>>,
    after_start: Option<AfterStart>,
    heard: Heard,
}

/// What is done once a container runs, or will not: getting ready for the next one would keep
/// this one waiting, since the kernel lets no process be born while another one joins a group.
pub type AfterStart = Box<dyn FnOnce() + Send + Sync>;

/// A line to a container, to be kept wherever somebody may want to end it.
#[derive(Clone)]
pub struct SeatedControl {
    container: Arc<Container>,
}

pub(super) struct Container {
    seat: ReadySeat,
    limits: Limits,
    over_disk: OnceLock<OverDisk>,
    /// After the seat: it ends with the last of its containers.
    _template: Option<Arc<template::Shared>>,
}

/// What a container has told of itself so far.
#[derive(Default)]
struct Heard {
    over: bool,
    silent: bool,
    end: Option<(Option<i32>, Option<i32>, u64)>,
    over_memory: Option<OverMemory>,
}

impl SeatedContainer {
    pub(super) fn executed(
        seat: ReadySeat,
        plan: &ContainerPlan,
        after_start: AfterStart,
    ) -> io::Result<Self> {
        Self::new(seat, plan, None, None, after_start)
    }

    pub(super) fn forked(
        seat: ReadySeat,
        plan: &ContainerPlan,
        end: oneshot::Receiver<ProgramEnd>,
        template: Arc<template::Shared>,
        after_start: AfterStart,
    ) -> io::Result<Self> {
        Self::new(seat, plan, Some(end), Some(template), after_start)
    }

    fn new(
        mut seat: ReadySeat,
        plan: &ContainerPlan,
        forked: Option<oneshot::Receiver<ProgramEnd>>,
        template: Option<Arc<template::Shared>>,
        after_start: AfterStart,
    ) -> io::Result<Self> {
        let socket = seat.seat.socket().try_clone_to_owned()?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let process = seat.seat.process().try_clone_to_owned()?;
        seat.parts.begin();
        let over_disk = OnceLock::new();
        let limits = plan.limits;
        let upper = match &plan.writable {
            Writable::Directory { path } => Some(path.join("upper")),
            Writable::Memory { .. } => None,
        };
        let container = Arc::new(Container { seat, limits, over_disk, _template: template });
        if let Some(upper) = upper {
            let watched = Arc::downgrade(&container);
            tokio::spawn(watch_disk(watched, upper, limits.disk_bytes));
        }
        Ok(Self {
            container,
            socket: watch_readable(socket)?,
            process: watch_readable(process)?,
            forked,
            after_start: Some(after_start),
            heard: Heard::default(),
        })
    }

    /// What becomes of it: `Started`, then `Exited`; or `NotStarted`. None after the last. May be
    /// dropped while it waits. Where no group holds its memory, it is measured while this waits.
    pub async fn next(&mut self) -> Option<ContainerProcessEvent> {
        if self.heard.over {
            return None;
        }
        let watched = self.container.seat.parts.group.is_none();
        loop {
            tokio::select! {
                biased;
                readable = self.socket.readable(), if !self.heard.silent => {
                    // The runtime is going down: nobody will hear of it.
                    let mut readable = readable.ok()?;
                    match self.container.seat.seat.take_event() {
                        Ok(event) => if let Some(event) = self.take(event) {
                            return Some(event);
                        },
                        Err(_) => readable.clear_ready(),
                    }
                }
                _ = self.process.readable() => {
                    self.hear_end().await;
                    return Some(self.take_end());
                }
                () = tokio::time::sleep(WATCH_INTERVAL), if watched => self.watch_memory(),
            }
        }
    }

    fn after_start(&mut self) {
        if let Some(after_start) = self.after_start.take() {
            after_start();
        }
    }

    fn take(&mut self, event: SeatEvent) -> Option<ContainerProcessEvent> {
        match event {
            SeatEvent::Started => {
                self.after_start();
                let process_id = self.container.seat.seat.process_id();
                return Some(ContainerProcessEvent::Started { process_id });
            }
            SeatEvent::NotStarted { error } => {
                self.heard.over = true;
                self.container.seat.seat.kill();
                return Some(ContainerProcessEvent::NotStarted { error });
            }
            SeatEvent::Ended { exit_code, signal, cpu_ms } => {
                self.heard.end = Some((exit_code, signal, cpu_ms));
            }
            SeatEvent::Gone => self.heard.silent = true,
            SeatEvent::NotWritten { error } => {
                tracing::warn!(error, "a file did not reach its container");
            }
            SeatEvent::NetworkReady => {}
        }
        None
    }

    /// A program that was forked is reaped by its template, which tells of it.
    async fn hear_end(&mut self) {
        if let Some(end) = &mut self.forked
            && let Ok(Ok(end)) = tokio::time::timeout(END_WAIT, end).await
        {
            self.heard.end = Some((end.exit_code, end.signal, end.cpu_ms));
        }
        self.forked = None;
    }

    /// Every process is gone: puts together how it ended.
    fn take_end(&mut self) -> ContainerProcessEvent {
        // What it said last may still lie in the socket.
        while !self.heard.silent {
            match self.container.seat.seat.take_event() {
                Ok(event) => {
                    if let Some(not_started @ ContainerProcessEvent::NotStarted { .. }) =
                        self.take(event)
                    {
                        return not_started;
                    }
                }
                Err(_) => break,
            }
        }
        self.heard.over = true;
        let group = self.container.seat.parts.group.as_ref();
        // Killed as a whole, it says nothing.
        let (exit_code, signal, cpu_ms) = self.heard.end.unwrap_or((None, Some(9), 0));
        let peak_memory_bytes = group.map_or(0, |group| group.peak_bytes());
        let killed = group.is_some_and(|group| group.kills() > 0) && exit_code != Some(0);
        let measured = OverMemory {
            limit_bytes: self.container.limits.memory_limit_bytes,
            measured_bytes: peak_memory_bytes,
        };
        ContainerProcessEvent::Exited(Exit {
            exit_code,
            signal,
            cpu_ms: group.and_then(|group| group.cpu_ms()).unwrap_or(cpu_ms),
            peak_memory_bytes,
            over_memory: self.heard.over_memory.or_else(|| killed.then_some(measured)),
            over_disk: self.container.over_disk.get().copied(),
        })
    }

    /// Ends a container that holds more than it may, where the kernel does not.
    fn watch_memory(&mut self) {
        let limit_bytes = self.container.limits.memory_limit_bytes;
        let measured_bytes = self.container.processes_memory_bytes();
        if measured_bytes > limit_bytes {
            self.heard.over_memory = Some(OverMemory { limit_bytes, measured_bytes });
            self.container.seat.seat.kill();
        }
    }

    /// A line to the container for others.
    pub fn control(&self) -> SeatedControl {
        SeatedControl { container: self.container.clone() }
    }
}

impl Drop for SeatedContainer {
    fn drop(&mut self) {
        self.after_start();
        self.control().kill();
    }
}

impl SeatedControl {
    /// Ends everything in the container at once. The end is reported as any other.
    pub fn kill(&self) {
        self.container.kill();
    }

    /// Sends a signal to the container's program.
    pub fn signal(&self, number: i32) {
        self.container.seat.seat.signal(number);
    }

    /// Stops everything in the container where it is: it takes no processor time until it is
    /// thawed.
    ///
    /// # Errors
    /// When this machine cannot.
    pub fn freeze(&self) -> io::Result<()> {
        match &self.container.seat.parts.group {
            Some(group) => group.freeze(),
            None => Err(io::Error::other("there are no groups here to freeze with")),
        }
    }

    /// Lets a frozen container go on.
    pub fn thaw(&self) {
        if let Some(group) = &self.container.seat.parts.group {
            group.thaw();
        }
    }

    /// Writes a file into the running container, whole or not at all.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn write_file(&self, file: PlannedFile) -> io::Result<()> {
        self.container.seat.seat.write_file(file)
    }

    /// What the container has taken and holds. Reads files of the kernel's.
    pub fn usage(&self) -> Usage {
        let usage = self.container.seat.parts.usage();
        if self.container.seat.parts.group.is_some() {
            return usage;
        }
        let memory_bytes = self.container.processes_memory_bytes();
        Usage { memory_bytes, peak_memory_bytes: memory_bytes, ..usage }
    }
}

impl Container {
    pub(super) fn end_over_disk(&self, over: OverDisk) {
        let _ = self.over_disk.set(over);
        self.kill();
    }

    fn kill(&self) {
        self.seat.seat.kill();
        if let Some(group) = &self.seat.parts.group {
            // What is frozen does not even die.
            group.thaw();
        }
    }

    /// Anonymous and shared memory of all its processes, from `/proc`.
    fn processes_memory_bytes(&self) -> u64 {
        let first = self.seat.seat.process_id() as i32;
        members(&list_processes(), first, first, |_| false)
            .into_iter()
            .filter_map(read_resident_memory)
            .map(|memory| memory.total_bytes())
            .sum()
    }
}
