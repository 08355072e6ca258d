//! Containers on this machine: the worker's side of `corral_isolation`.
//!
//! What a container needs of the kernel before it is any particular one (namespaces, groups, a
//! network) is made ahead, as seats. A start takes a seat and tells it what to become.

mod bare;
mod disk;
mod handle;
mod inspect;
mod seat;
mod seated;
mod template;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_containers::Network;
use corral_isolation::{
    ContainerPlan, Isolation, IsolationChoice, Seat, Stdio, Unavailable, Uplink,
};

use bare::BareContainer;
pub use handle::{ContainerControl, ContainerHandle};
use inspect::why_no_namespaces;
pub use inspect::{ContainerInspection, inspect_containers};
use seat::ReadySeat;
use seated::SeatedContainer;
pub use template::Template;

use crate::cgroup::GroupTree;
use crate::enforcement::Enforcer;
use crate::launcher::Launcher;

/// How many seats wait for containers. A seat takes some hundred kilobytes and about 15 ms to
/// make; more starts than this at once make their own.
const READY_SEATS: usize = 2;

/// Where this worker's containers are born.
#[derive(Clone)]
pub struct Containers {
    shared: Arc<Shared>,
}

struct Shared {
    launcher: Launcher,
    groups: Option<Arc<GroupTree>>,
    /// Why containers are processes without namespaces, where they are.
    no_namespaces: Option<Unavailable>,
    uplink: Result<Arc<Uplink>, Unavailable>,
    ready: Mutex<Vec<ReadySeat>>,
    /// Held by whoever makes seats to wait.
    refilling: Mutex<()>,
}

impl Containers {
    /// As [`Self::open_as`], as much apart as this machine allows.
    pub fn open(launcher: Launcher, enforcer: &Enforcer, name: &str) -> Self {
        let no_namespaces = why_no_namespaces(&launcher).inspect(|why| {
            tracing::warn!(%why, "containers are processes without namespaces, for one workspace only");
        });
        Self::with(launcher, enforcer, name, no_namespaces)
    }

    /// With the launcher as the parent of them all, held to their limits as `enforcer` can, and a
    /// way outward where this machine allows one; `name` is the worker's own. Removes what a dead
    /// worker left of its network. Tries a container out, which takes some milliseconds.
    ///
    /// # Errors
    /// When namespaces are wanted and cannot be had: why, and what would allow them.
    pub fn open_as(
        choice: IsolationChoice,
        launcher: Launcher,
        enforcer: &Enforcer,
        name: &str,
    ) -> Result<Self, Unavailable> {
        let asked = || Unavailable {
            reason: "isolation by processes was asked for".into(),
            setting: "--isolation auto".into(),
        };
        match choice {
            IsolationChoice::Auto => Ok(Self::open(launcher, enforcer, name)),
            IsolationChoice::Only(Isolation::Process) => {
                Ok(Self::with(launcher, enforcer, name, Some(asked())))
            }
            IsolationChoice::Only(Isolation::Namespaces) => match why_no_namespaces(&launcher) {
                Some(why) => Err(why),
                None => Ok(Self::with(launcher, enforcer, name, None)),
            },
        }
    }

    fn with(
        launcher: Launcher,
        enforcer: &Enforcer,
        name: &str,
        no_namespaces: Option<Unavailable>,
    ) -> Self {
        let groups = match enforcer {
            Enforcer::Groups(tree) => Some(tree.clone()),
            Enforcer::Watchdog => None,
        };
        let uplink = match &no_namespaces {
            // They have the machine's own network.
            Some(why) => Err(why.clone()),
            None => Uplink::open(name).map(Arc::new).inspect_err(|why| {
                tracing::warn!(%why, "containers have no network");
            }),
        };
        let shared = Shared {
            launcher,
            groups,
            no_namespaces,
            uplink,
            ready: Mutex::default(),
            refilling: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How much containers are kept apart here.
    pub fn isolation(&self) -> Isolation {
        match self.shared.no_namespaces {
            None => Isolation::Namespaces,
            Some(_) => Isolation::Process,
        }
    }

    /// Why containers have no namespaces, if they have none.
    pub fn no_namespaces(&self) -> Option<&Unavailable> {
        self.shared.no_namespaces.as_ref()
    }

    /// Why containers have no network, if they have none.
    pub fn no_network(&self) -> Option<&Unavailable> {
        self.shared.uplink.as_ref().err()
    }

    /// Makes seats until enough are waiting; blocks for some ten milliseconds each.
    ///
    /// # Errors
    /// When this machine does not let containers be.
    pub fn refill(&self) -> io::Result<()> {
        if self.isolation() == Isolation::Process {
            return Ok(());
        }
        let _refilling = self.shared.refilling.lock().unwrap_or_else(PoisonError::into_inner);
        while self.ready().len() < READY_SEATS {
            let seat = self.make_seat(Network::Outbound)?;
            self.ready().push(seat);
        }
        Ok(())
    }

    /// Starts a container; how that went is told by the handle.
    ///
    /// # Errors
    /// When there is no seat for it, its limits are refused, or something that it names is missing.
    pub async fn start(&self, plan: ContainerPlan, stdio: Stdio) -> io::Result<ContainerHandle> {
        let containers = self.clone();
        if self.isolation() == Isolation::Process {
            let start = move || {
                let Shared { launcher, groups, .. } = &*containers.shared;
                BareContainer::start(launcher, groups.as_deref(), &plan, stdio)
            };
            let started = tokio::task::spawn_blocking(start).await;
            return Ok(started.unwrap_or_else(|panicked| Err(panicked.into()))?.into());
        }
        let start = move || {
            let seat = containers.take_seat(plan.network)?;
            seat.become_container(&plan, &stdio)?;
            io::Result::Ok((seat, plan))
        };
        let started = tokio::task::spawn_blocking(start).await;
        let (seat, plan) = started.unwrap_or_else(|panicked| Err(panicked.into()))?;
        let containers = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let refill = move || {
            runtime.spawn_blocking(move || {
                if let Err(error) = containers.refill() {
                    tracing::warn!(%error, "no seat for the next container");
                }
            });
        };
        Ok(SeatedContainer::executed(seat, &plan, Box::new(refill))?.into())
    }

    fn take_seat(&self, network: Network) -> io::Result<ReadySeat> {
        if network == Network::Outbound {
            while let Some(waiting) = self.ready().pop() {
                // Whoever looked for memory may have found it there.
                if waiting.seat.is_alive() {
                    return Ok(waiting);
                }
            }
        }
        self.make_seat(network)
    }

    fn make_seat(&self, network: Network) -> io::Result<ReadySeat> {
        let Shared { launcher, groups, uplink, .. } = &*self.shared;
        let uplink = match network {
            Network::Outbound => uplink.as_ref().ok(),
            Network::None => None,
        };
        ReadySeat::make(launcher, groups.as_deref(), uplink)
    }

    /// Gives a seat that a template made what one of the launcher's has.
    fn complete(&self, seat: Seat, network: Network) -> io::Result<ReadySeat> {
        let Shared { groups, uplink, .. } = &*self.shared;
        let uplink = match network {
            Network::Outbound => uplink.as_ref().ok(),
            Network::None => None,
        };
        ReadySeat::complete(seat, groups.as_deref(), uplink)
    }

    fn ready(&self) -> MutexGuard<'_, Vec<ReadySeat>> {
        self.shared.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
