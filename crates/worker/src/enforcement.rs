//! Which kind of limit holds on this machine, and the limits of one attempt.

use std::sync::Arc;

use corral_types::MIB;
use corral_worker_api::{Enforcement, Limits};

use crate::WorkerError;
use crate::cgroup::{Group, GroupTree, GroupVersion, Unavailable};
use crate::machine::CgroupMounts;

/// What `RLIMIT_DATA` leaves beyond twice the memory limit. It counts address space, of which
/// allocators and thread stacks reserve far more than they touch (1 GiB at a time in the
/// allocator that this program uses), so it only stops a burst that the watchdog would see
/// too late; the watchdog holds the limit.
const DATA_LIMIT_SLACK_BYTES: u64 = 4096 * MIB;

/// Job processes go before the worker and the server when the kernel runs out of memory.
const JOB_OOM_SCORE_ADJUSTMENT: u16 = 500;

/// A kind of enforcement, and whether it works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforcementFinding {
    pub kind: Enforcement,
    /// None when it works.
    pub unavailable: Option<Unavailable>,
}

/// The kind of enforcement in use.
pub enum Enforcer {
    Groups(Arc<GroupTree>),
    Watchdog,
}

impl Enforcer {
    /// The strongest kind that works here, or at most `wanted`; `name` is the worker's own.
    ///
    /// # Errors
    /// When a kind was asked for that does not work here.
    pub fn choose(
        mounts: &CgroupMounts,
        wanted: Option<Enforcement>,
        name: &str,
    ) -> Result<Self, WorkerError> {
        let open = |version| GroupTree::open(mounts, version, name).map(Arc::new).map(Self::Groups);
        let refused = |kind| {
            move |why: Unavailable| WorkerError::Enforcement { wanted: kind, reason: why.reason }
        };
        match wanted {
            None => {
                let try_open = |version| {
                    open(version).inspect_err(|why| {
                        tracing::info!(?version, reason = why.reason, "groups are not used");
                    })
                };
                Ok(try_open(GroupVersion::V2)
                    .or_else(|_| try_open(GroupVersion::V1))
                    .unwrap_or(Self::Watchdog))
            }
            Some(Enforcement::Watchdog) => Ok(Self::Watchdog),
            Some(kind @ Enforcement::CgroupV2) => open(GroupVersion::V2).map_err(refused(kind)),
            Some(kind @ Enforcement::CgroupV1) => open(GroupVersion::V1).map_err(refused(kind)),
        }
    }

    pub fn kind(&self) -> Enforcement {
        match self {
            Self::Groups(tree) => match tree.version() {
                GroupVersion::V1 => Enforcement::CgroupV1,
                GroupVersion::V2 => Enforcement::CgroupV2,
            },
            Self::Watchdog => Enforcement::Watchdog,
        }
    }

    /// What holds one attempt to `limits`. Blocks on the kernel for some milliseconds.
    ///
    /// # Errors
    /// When a group cannot be made.
    pub fn prepare(&self, limits: &Limits) -> std::io::Result<Hold> {
        let group = match self {
            Self::Groups(tree) => {
                let group = tree.take()?;
                group.set_limits(&limits.into())?;
                Some(Arc::new(group))
            }
            Self::Watchdog => None,
        };
        Ok(Hold { group })
    }

    /// Gets ready for the next attempt; blocks as [`Enforcer::prepare`] does.
    pub fn refill(&self) {
        if let Self::Groups(tree) = self {
            tree.refill();
        }
    }
}

/// What holds one attempt to its limits.
#[derive(Clone)]
pub struct Hold {
    pub group: Option<Arc<Group>>,
}

impl Hold {
    pub fn membership_files(&self) -> Vec<std::path::PathBuf> {
        self.group.as_ref().map(|group| group.membership_files()).unwrap_or_default()
    }

    pub fn data_limit_bytes(&self, limits: &Limits) -> Option<u64> {
        let bytes = limits.memory_limit_bytes.saturating_mul(2);
        self.group.is_none().then(|| bytes.saturating_add(DATA_LIMIT_SLACK_BYTES))
    }

    pub fn oom_score_adjustment(&self) -> u16 {
        JOB_OOM_SCORE_ADJUSTMENT
    }

    /// How far the process steps back where no group shares out the processor by weight: a
    /// step of `nice` is a factor of about 1.25, and 1,000 is a call's weight.
    pub fn nice(&self, limits: &Limits) -> i32 {
        if self.group.as_ref().is_some_and(|group| group.has_cpu_weight()) {
            return 0;
        }
        let ratio = f64::from(limits.cpu_weight.max(1)) / 1000.0;
        (-ratio.ln() / 1.25f64.ln()).round().clamp(0.0, 19.0) as i32
    }

    /// Puts new limits in place for running processes. The watchdog reads its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_limits(&self, limits: &Limits) -> std::io::Result<()> {
        self.group.as_ref().map_or(Ok(()), |group| group.set_limits(&limits.into()))
    }
}

/// Tries every kind, strongest first.
pub fn find_enforcement(mounts: &CgroupMounts) -> Vec<EnforcementFinding> {
    let name = format!("probe-{}", std::process::id());
    let try_groups = |kind, version| EnforcementFinding {
        kind,
        unavailable: GroupTree::open(mounts, version, &name).err(),
    };
    vec![
        try_groups(Enforcement::CgroupV2, GroupVersion::V2),
        try_groups(Enforcement::CgroupV1, GroupVersion::V1),
        EnforcementFinding { kind: Enforcement::Watchdog, unavailable: None },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nice_follows_the_weight() {
        let hold = Hold { group: None };
        let nice = |cpu_weight| {
            hold.nice(&Limits {
                lease: corral_types::LeaseId::from_u128(1),
                memory_request_bytes: 1,
                memory_limit_bytes: 1,
                milli_cpu: 1,
                cpu_weight,
            })
        };
        assert_eq!([nice(0), nice(100), nice(800), nice(1000), nice(4000)], [19, 10, 1, 0, 0]);
    }

    #[test]
    fn the_watchdog_is_always_there() {
        let found = find_enforcement(&CgroupMounts::default());
        assert_eq!(found.iter().filter(|finding| finding.unavailable.is_none()).count(), 1);
        let chosen = Enforcer::choose(&CgroupMounts::default(), None, "t").unwrap();
        assert_eq!(chosen.kind(), Enforcement::Watchdog);
        let wanted = Some(Enforcement::CgroupV2);
        assert!(Enforcer::choose(&CgroupMounts::default(), wanted, "t").is_err());
    }
}
