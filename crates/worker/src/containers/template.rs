//! Templates: containers that are forked from a process that has imported what they need.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use corral_containers::{Network, Usage};
use corral_isolation::{
    ContainerPlan, IdMapping, Stdio, TemplateEvent, TemplatePlan, TemplateSeat, TemplateState,
};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::seat::{Parts, ReadySeat};
use super::seated::SeatedContainer;
use super::{ContainerHandle, Containers};
use crate::cgroup::GroupLimits;
use crate::system::watch_readable;

/// How many forked programs wait for containers. One takes about two megabytes; more starts
/// than this at once make their own.
const READY_FORKS: usize = 2;

/// How long a fork may take. A template that needs longer is stuck in what it imported.
const FORK_TIMEOUT: Duration = Duration::from_secs(5);

/// How a program ended that a template had forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramEnd {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub cpu_ms: u64,
}

/// A template. Dropping it ends it with the last of its containers; no more are forked.
pub struct Template {
    shared: Arc<Shared>,
    containers: Containers,
}

/// What a template and its containers hold together.
pub struct Shared {
    // In this order: what is in the group is killed before the group is removed.
    template: TemplateSeat,
    parts: Parts,
    network: Network,
    state: watch::Sender<Option<TemplateState>>,
    forks: Mutex<Forks>,
    ready: Mutex<Vec<ReadyFork>>,
    /// Held by whoever lets the template fork.
    making: Mutex<()>,
    closed: AtomicBool,
    next: AtomicU64,
}

/// What is waited for, by the number of the fork.
#[derive(Default)]
struct Forks {
    answers: HashMap<u64, SyncSender<Result<(), String>>>,
    ends: HashMap<u64, oneshot::Sender<ProgramEnd>>,
}

/// A program that waits for its container.
struct ReadyFork {
    seat: ReadySeat,
    /// To the program.
    channel: OwnedFd,
    end: oneshot::Receiver<ProgramEnd>,
}

impl Containers {
    /// Starts a template, which begins to import; [`Template::state`] tells when it is ready.
    ///
    /// # Errors
    /// As [`Containers::start`].
    pub async fn prepare(&self, plan: TemplatePlan, stdio: Stdio) -> io::Result<Template> {
        let containers = self.clone();
        let network = plan.container.network;
        let start = move || {
            if let Some(why) = containers.no_namespaces() {
                return Err(io::Error::other(format!("templates take namespaces: {why}")));
            }
            if containers.shared.groups.is_none() {
                return Err(io::Error::other(
                    "a template's containers share its user, so only groups of the kernel's can \
                     hold each to its limits, and there are none here",
                ));
            }
            let seat = containers.take_seat(network)?;
            seat.set_limits(&GroupLimits::from(&plan.container.limits))?;
            let ReadySeat { seat, parts } = seat;
            let template = TemplateSeat::start(seat, IdMapping::of_this_process(), &plan, &stdio);
            Ok((template.map_err(io::Error::other)?, parts))
        };
        let started = tokio::task::spawn_blocking(start).await;
        let (template, parts) = started.unwrap_or_else(|panicked| Err(panicked.into()))?;
        let channel = template.channel().try_clone_to_owned()?;
        let first = template.seat().socket().try_clone_to_owned()?;
        rustix::io::ioctl_fionbio(&channel, true)?;
        rustix::io::ioctl_fionbio(&first, true)?;
        let shared = Arc::new(Shared {
            template,
            parts,
            network,
            state: watch::Sender::new(None),
            forks: Mutex::default(),
            ready: Mutex::default(),
            making: Mutex::default(),
            closed: AtomicBool::new(false),
            next: AtomicU64::new(1),
        });
        tokio::spawn(hear(Arc::downgrade(&shared), channel, self.clone()));
        tokio::spawn(hear_first(Arc::downgrade(&shared), first));
        Ok(Template { shared, containers: self.clone() })
    }
}

impl Template {
    /// Waits until it is known whether the template can bear containers.
    pub async fn state(&self) -> TemplateState {
        let mut state = self.shared.state.subscribe();
        let known = state.wait_for(Option::is_some).await;
        let known = known.ok().and_then(|state| state.clone());
        known.unwrap_or_else(|| unusable("it has ended"))
    }

    /// Whether it can bear containers now, and if not, why.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn is_ready(&self) -> Result<(), String> {
        match &*self.shared.state.borrow() {
            Some(TemplateState::Ready { .. }) => Ok(()),
            Some(TemplateState::Unusable { reason }) => Err(reason.clone()),
            None => Err("it is still importing".into()),
        }
    }

    /// Starts a container from the template: its program is `-m MODULE` among the plan's
    /// arguments, and its layers are the template's.
    ///
    /// # Errors
    /// When the template does not fork, such as for threads that run in it, with the reason; the
    /// container can then be started plainly. Otherwise as [`Containers::start`].
    pub async fn start(&self, plan: ContainerPlan, stdio: Stdio) -> io::Result<ContainerHandle> {
        self.is_ready().map_err(io::Error::other)?;
        if plan.network != self.shared.network {
            return Err(io::Error::other("a template's containers have its network"));
        }
        let (shared, containers) = (self.shared.clone(), self.containers.clone());
        let start = move || {
            let fork = shared.take_fork(&containers)?;
            fork.seat.set_limits(&GroupLimits::from(&plan.limits))?;
            let ReadyFork { seat, channel, end } = fork;
            let told = seat.seat.run_forked(&plan, &stdio, std::os::fd::AsFd::as_fd(&channel));
            told.map_err(io::Error::other)?;
            io::Result::Ok((seat, end, plan))
        };
        let started = tokio::task::spawn_blocking(start).await;
        let (seat, end, plan) = started.unwrap_or_else(|panicked| Err(panicked.into()))?;
        let (shared, containers) = (self.shared.clone(), self.containers.clone());
        let runtime = Handle::current();
        let refill = Box::new(move || refill(&runtime, shared, containers));
        Ok(SeatedContainer::forked(seat, &plan, end, self.shared.clone(), refill)?.into())
    }

    /// What the template itself has taken and holds, without its containers.
    pub fn usage(&self) -> Usage {
        self.shared.parts.usage()
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.ready().clear();
    }
}

/// Makes forks until enough are waiting, beside everything else.
fn refill(runtime: &Handle, shared: Arc<Shared>, containers: Containers) {
    runtime.spawn_blocking(move || {
        while !shared.closed.load(Ordering::Relaxed) {
            let _making = shared.making();
            if shared.ready().len() >= READY_FORKS {
                break;
            }
            match shared.make_fork(&containers) {
                Ok(fork) => shared.ready().push(fork),
                Err(error) => {
                    tracing::debug!(%error, "no fork for the next container");
                    return;
                }
            }
        }
        if shared.closed.load(Ordering::Relaxed) {
            shared.ready().clear();
        }
    });
}

impl Shared {
    /// A fork that waits, one that is about to, or one of its own.
    fn take_fork(&self, containers: &Containers) -> io::Result<ReadyFork> {
        if let Some(waiting) = self.ready().pop() {
            return Ok(waiting);
        }
        // The template makes one after the other in any case.
        let _making = self.making();
        let waiting = self.ready().pop();
        waiting.map_or_else(|| self.make_fork(containers), Ok)
    }

    /// Makes a seat within the template and a program for it; blocks for some milliseconds.
    fn make_fork(&self, containers: &Containers) -> io::Result<ReadyFork> {
        let seat = self.template.make_seat().map_err(io::Error::other)?;
        let ReadySeat { seat, parts } = containers.complete(seat, self.network)?;
        let open = |path: PathBuf| fs::File::options().write(true).open(path);
        let groups: Vec<fs::File> =
            parts.membership_files().into_iter().map(open).collect::<Result<_, _>>()?;
        let fork = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, end) = self.expect(fork);
        let forked = self.template.fork_into(seat, fork, &groups).map_err(io::Error::other);
        let answered = forked.and_then(|forked| {
            let answer = answer.recv_timeout(FORK_TIMEOUT);
            match answer.unwrap_or_else(|_| Err("it does not answer".into())) {
                Ok(()) => Ok(forked),
                Err(reason) => Err(io::Error::other(format!("fork from the template: {reason}"))),
            }
        });
        let forked = answered.inspect_err(|_| self.forget(fork))?;
        let seat = ReadySeat { seat: forked.seat, parts };
        Ok(ReadyFork { seat, channel: forked.channel, end })
    }

    fn expect(&self, fork: u64) -> (Receiver<Result<(), String>>, oneshot::Receiver<ProgramEnd>) {
        let (answer_to, answer) = sync_channel(1);
        let (end_to, end) = oneshot::channel();
        let mut forks = self.forks();
        forks.answers.insert(fork, answer_to);
        forks.ends.insert(fork, end_to);
        (answer, end)
    }

    fn forget(&self, fork: u64) {
        let mut forks = self.forks();
        forks.answers.remove(&fork);
        forks.ends.remove(&fork);
    }

    fn take(&self, event: TemplateEvent) {
        match event {
            TemplateEvent::State(state) => _ = self.state.send_replace(Some(state)),
            TemplateEvent::Forked { fork } => self.answer(fork, Ok(())),
            TemplateEvent::Refused { fork, reason } => {
                self.answer(fork, Err(reason.clone()));
                // What made it refuse does not go away.
                self.state.send_replace(Some(TemplateState::Unusable { reason }));
            }
            TemplateEvent::Ended { fork, exit_code, signal, cpu_ms } => {
                if let Some(end) = self.forks().ends.remove(&fork) {
                    // The container may have been let go of.
                    let _ = end.send(ProgramEnd { exit_code, signal, cpu_ms });
                }
            }
            TemplateEvent::Gone => self.end("it has ended"),
        }
    }

    fn answer(&self, fork: u64, answer: Result<(), String>) {
        if let Some(waiting) = self.forks().answers.remove(&fork) {
            // Whoever asked may have lost patience.
            let _ = waiting.try_send(answer);
        }
    }

    fn end(&self, reason: &str) {
        self.state.send_if_modified(|state| {
            let first = !matches!(state, Some(TemplateState::Unusable { .. }));
            if first {
                *state = Some(unusable(reason));
            }
            first
        });
        *self.forks() = Forks::default();
        self.ready().clear();
    }

    fn forks(&self) -> MutexGuard<'_, Forks> {
        self.forks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> MutexGuard<'_, Vec<ReadyFork>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(reason: &str) -> TemplateState {
    TemplateState::Unusable { reason: reason.into() }
}

/// Passes on what the template's own process says, until it or the template is gone.
async fn hear(shared: Weak<Shared>, channel: OwnedFd, containers: Containers) {
    let Ok(channel) = watch_readable(channel) else { return };
    while let Ok(mut readable) = channel.readable().await {
        let Some(shared) = shared.upgrade() else { return };
        match shared.template.take_event() {
            Ok(event) => {
                let is_last = event == TemplateEvent::Gone;
                let is_ready = matches!(event, TemplateEvent::State(TemplateState::Ready { .. }));
                shared.take(event);
                if is_ready {
                    refill(&Handle::current(), shared, containers.clone());
                }
                if is_last {
                    return;
                }
            }
            Err(_) => readable.clear_ready(),
        }
    }
}

/// Hears from the template's first process why the other one did not come to be, or how it ended.
async fn hear_first(shared: Weak<Shared>, socket: OwnedFd) {
    use corral_isolation::SeatEvent;
    let Ok(socket) = watch_readable(socket) else { return };
    while let Ok(mut readable) = socket.readable().await {
        let Some(shared) = shared.upgrade() else { return };
        match shared.template.seat().take_event() {
            Ok(SeatEvent::NotStarted { error }) => shared.end(&error),
            Ok(SeatEvent::Ended { exit_code, signal, .. }) => {
                shared.end(&match (exit_code, signal) {
                    (Some(code), _) => format!("its process ended with {code}"),
                    (None, Some(signal)) => format!("its process was ended by signal {signal}"),
                    (None, None) => "its process has ended".into(),
                });
            }
            Ok(SeatEvent::Gone) => return shared.end("it has ended"),
            Ok(_) => {}
            Err(_) => readable.clear_ready(),
        }
    }
}
