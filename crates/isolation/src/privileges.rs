//! What a container's program may do: the capabilities and limits that it starts with.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::seccomp::{self, FilterFor};
use crate::sys;
use crate::{ContainerPlan, Writable};

/// What root of a container keeps: the owners and modes of its files, its users, its ports. All
/// of it holds within its own namespaces only.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);

/// What a template needs on top: it moves into the namespaces of its containers, and takes from
/// their processes what [`KEPT`] does not have.
const TEMPLATE_TOO: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::SETPCAP);

/// Descriptors that a program may have open, as far as this machine's own limit allows.
const OPEN_FILES: u64 = 65_536;

/// Added to the badness of a program when the kernel looks for memory: it goes before the worker.
const OOM_SCORE_ADJUSTMENT: &str = "500";

/// What a program of `whose` keeps.
fn kept(whose: FilterFor) -> CapabilitySet {
    match whose {
        FilterFor::Program => KEPT,
        FilterFor::Template => KEPT.union(TEMPLATE_TOO),
    }
}

/// The bits of what a container's program keeps, for a template that drops the rest itself.
pub fn kept_bits() -> u64 {
    KEPT.bits()
}

/// How the processes of a container are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessCount {
    /// By its user, whom it shares with no other container.
    ByUser,
    /// By a group of the kernel's.
    ByGroup,
}

/// Puts the limits of a plan on this process.
///
/// # Errors
/// When the kernel refuses.
pub fn limit(plan: &ContainerPlan, count: ProcessCount) -> io::Result<()> {
    // Where it cannot be told, the kernel weighs the program like any other.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT);
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    let set = |resource, wanted: u64| {
        let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        rustix::process::setrlimit(resource, both(wanted.min(allowed)))
    };
    set(Resource::Core, 0)?;
    set(Resource::Nofile, OPEN_FILES)?;
    if count == ProcessCount::ByUser {
        set(Resource::Nproc, u64::from(plan.limits.processes))?;
    }
    if let Writable::Directory { .. } = plan.writable {
        set(Resource::Fsize, plan.limits.disk_bytes)?;
    }
    Ok(())
}

/// Gives up everything that the program is not to have, for good. The last step before it runs.
///
/// # Errors
/// When the kernel refuses, upon which nothing may be run.
pub fn give_up(whose: FilterFor) -> io::Result<()> {
    let kept = kept(whose);
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if !kept.contains(capability) {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // The kernel has no capability of this number, and none after it.
                Err(rustix::io::Errno::INVAL) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    sys::install_filter(&seccomp::filter(whose))?;
    // Nothing is inherited by a program that is not root's.
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
