//! A seat with everything that its container will need.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_containers::Usage;
use corral_isolation::{
    ContainerPlan, IdMapping, Link, Seat, SeatEvent, Stdio, Uplink, socket_pair,
};

use crate::cgroup::{Group, GroupLimits, GroupTree};
use crate::launcher::{Launcher, ProcessEvent, ProcessHandle};

/// How long the launcher's word on a seat that did not come to be is waited for.
const LAST_WORD_WAIT: Duration = Duration::from_millis(100);

/// A process in its namespaces and groups. Dropping it ends it.
pub struct ReadySeat {
    // In this order: what is in the group is killed before the group is removed.
    pub seat: Seat,
    pub parts: Parts,
}

/// What a seat has around it. To be dropped after the seat.
pub struct Parts {
    pub group: Option<Group>,
    _link: Option<Link>,
    begun: Instant,
}

impl ReadySeat {
    /// Makes a seat; blocks for some ten milliseconds.
    pub fn make(
        launcher: &Launcher,
        groups: Option<&GroupTree>,
        uplink: Option<&Arc<Uplink>>,
    ) -> io::Result<Self> {
        let (ours, theirs) = socket_pair()?;
        let mut handle = launcher.start_seat(theirs).map_err(io::Error::other)?;
        let seat = Seat::await_ready(ours, IdMapping::of_this_process())
            .map_err(|error| why_not_started(&mut handle).unwrap_or(io::Error::other(error)))?;
        Self::complete(seat, groups, uplink)
    }

    /// Makes a container of nothing, to see whether one can be.
    ///
    /// # Errors
    /// The step that failed.
    pub fn try_out(launcher: &Launcher) -> io::Result<()> {
        let seat = Self::make(launcher, None, None)?.seat;
        seat.try_out()?;
        match seat.take_event()? {
            SeatEvent::Started => Ok(()),
            SeatEvent::NotStarted { error } => Err(io::Error::other(error)),
            _ => Err(io::Error::other("its first process ended")),
        }
    }

    /// Puts a process into a group, and leads its network outward.
    pub fn complete(
        seat: Seat,
        groups: Option<&GroupTree>,
        uplink: Option<&Arc<Uplink>>,
    ) -> io::Result<Self> {
        let group = groups.map(GroupTree::take).transpose()?;
        if let Some(group) = &group {
            group.add(seat.process_id())?;
        }
        let link = uplink.map(|uplink| connect(&seat, uplink)).transpose()?;
        Ok(Self { seat, parts: Parts { group, _link: link, begun: Instant::now() } })
    }

    pub fn set_limits(&self, limits: &GroupLimits) -> io::Result<()> {
        self.parts.group.as_ref().map_or(Ok(()), |group| group.set_limits(limits))
    }

    /// Tells it what to become.
    pub fn become_container(&self, plan: &ContainerPlan, stdio: &Stdio) -> io::Result<()> {
        self.set_limits(&GroupLimits::from(&plan.limits))?;
        self.seat.run(plan, stdio).map_err(io::Error::other)
    }
}

impl Parts {
    /// The files into which a process writes to join.
    pub fn membership_files(&self) -> Vec<PathBuf> {
        self.group.as_ref().map(Group::membership_files).unwrap_or_default()
    }

    /// What the group has taken and holds; nothing but the time where there is none.
    pub fn usage(&self) -> Usage {
        let group = self.group.as_ref();
        Usage {
            wall_ms: self.begun.elapsed().as_millis() as u64,
            cpu_ms: group.and_then(Group::cpu_ms).unwrap_or(0),
            memory_bytes: group.map_or(0, Group::memory_bytes),
            peak_memory_bytes: group.map_or(0, Group::peak_bytes),
        }
    }

    /// Begins to count the time anew: a seat waits before it becomes anything.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
    }
}

/// What the launcher says of a seat that did not come to be. Its word comes right after the
/// socket is closed.
fn why_not_started(handle: &mut ProcessHandle) -> Option<io::Error> {
    let end = Instant::now() + LAST_WORD_WAIT;
    while Instant::now() < end {
        match handle.try_next() {
            Some(ProcessEvent::NotStarted { error }) => {
                return Some(io::Error::other(format!("make namespaces: {error}")));
            }
            Some(ProcessEvent::Exited { .. }) => return None,
            Some(ProcessEvent::Started { .. }) => {}
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

fn connect(seat: &Seat, uplink: &Arc<Uplink>) -> io::Result<Link> {
    let failed = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("connect a container to the network: {error}"))
    };
    let connected = uplink.connect(seat.network_namespace());
    let (link, address) = connected.map_err(|error| failed(&error))?;
    seat.set_address(address).map_err(|error| failed(&error))?;
    match seat.take_event()? {
        SeatEvent::NetworkReady => Ok(link),
        SeatEvent::NotStarted { error } => Err(failed(&error)),
        other => Err(failed(&format!("{other:?}"))),
    }
}
