//! What goes into placement and what comes out: plain values.

use corral_types::{
    ErrorKind, Explain, LeaseId, TaskId, Timestamp, WorkerId, WorkspaceId, display_bytes,
};
use serde::{Deserialize, Serialize};

/// What kind of work a task is: how much of a contended CPU it gets and how long its
/// queue may go without a grant. In the order in which they come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkClass {
    Serving,
    Call,
    Job,
}

impl WorkClass {
    pub const ALL: [Self; 3] = [Self::Serving, Self::Call, Self::Job];

    /// The relative share of CPU under contention; a call's is 1,000.
    pub const fn cpu_weight(self) -> u32 {
        match self {
            Self::Serving => 4_000,
            Self::Call => 1_000,
            Self::Job => 250,
        }
    }
}

/// What a task asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRequest {
    pub task: TaskId,
    pub workspace: WorkspaceId,
    pub class: WorkClass,
    /// Thousandths of a core.
    pub milli_cpu: u32,
    pub memory_request_bytes: u64,
    /// None: the larger of 2 GiB and four times the request, at most the worker.
    pub memory_limit_bytes: Option<u64>,
    /// Whole devices.
    pub gpus: u32,
    /// Higher comes first; 0 is ordinary.
    pub priority: i32,
    /// Refused when it still waits then.
    pub deadline: Option<Timestamp>,
    /// What stopping it throws away, in milliseconds of work: the tie-break among victims.
    pub bring_back_ms: u64,
    /// Taken where it fits, such as where its inputs already are.
    pub preferred_worker: Option<WorkerId>,
}

/// What a worker offers to leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOffer {
    /// Memory that leases may take, the reserve already taken off.
    pub memory_bytes: u64,
    /// The free memory below which the machine is under pressure.
    pub reserve_bytes: u64,
    pub milli_cpu: u32,
    pub gpus: u32,
}

/// A lease that stays with a machine whether or not its worker process is there: the
/// server's own, for its caches, mapped models, encoders and sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidentClaim {
    pub task: TaskId,
    pub workspace: WorkspaceId,
    /// The worker of the machine it lives on.
    pub worker: WorkerId,
    pub memory_request_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
}

/// Who holds something that can be given back. Chosen by whoever registers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub u64);

/// What can be rebuilt, in the order in which it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReclaimableKind {
    IdleTemplate,
    DecodedCache,
    MappedHeads,
    ResidentSession,
    IdleContainer,
}

impl ReclaimableKind {
    /// Whether a part of it can be given back.
    pub const fn is_divisible(self) -> bool {
        matches!(self, Self::DecodedCache | Self::MappedHeads)
    }
}

/// Something that a holder would give back if memory were short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimable {
    pub worker: WorkerId,
    /// The lease that its memory is charged to.
    pub task: TaskId,
    pub kind: ReclaimableKind,
    pub bytes: u64,
    /// Within a kind, the cheapest to rebuild goes first.
    pub rebuild_ms: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker that was here in an earlier life of this process and is expected back.
    WorkerKnown {
        worker: WorkerId,
        offer: WorkerOffer,
    },
    /// A worker is here, or offers something else than before. `running` are tasks that
    /// run there already, under leases of an earlier life of this process: they are
    /// charged, whether they fit or not, before anything is granted.
    WorkerJoined {
        worker: WorkerId,
        offer: WorkerOffer,
        running: Vec<(TaskRequest, LeaseId)>,
    },
    /// It shall take no new lease.
    WorkerDraining {
        worker: WorkerId,
    },
    WorkerLost {
        worker: WorkerId,
    },
    TaskSubmitted(TaskRequest),
    /// A waiting task is not wanted any more.
    TaskWithdrawn {
        task: TaskId,
    },
    /// A task with a lease is over, whatever the reason.
    TaskEnded {
        task: TaskId,
    },
    ResidentClaimed(ResidentClaim),
    /// A task would like its lease to be of this size from now on.
    LeaseResized {
        task: TaskId,
        memory_request_bytes: u64,
        memory_limit_bytes: Option<u64>,
    },
    /// What was measured on a worker; `None` where free memory is not known. Bytes are
    /// anonymous plus shared memory.
    Measured {
        worker: WorkerId,
        free_memory_bytes: Option<u64>,
        leases: Vec<(TaskId, u64)>,
    },
    /// There is something to give back, or its size changed.
    ReclaimableHeld {
        holder: HolderId,
        reclaimable: Reclaimable,
    },
    /// There is nothing left of it, or it is in use again.
    ReclaimableGone {
        holder: HolderId,
    },
    /// Only time passed.
    Tick,
}

/// The right under which a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLimits {
    pub lease: LeaseId,
    pub memory_request_bytes: u64,
    pub memory_limit_bytes: u64,
    pub milli_cpu: u32,
    pub cpu_weight: u32,
    pub gpus: u32,
}

/// Why a task was chosen to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopNumbers {
    pub request_bytes: u64,
    pub measured_bytes: u64,
    pub limit_bytes: u64,
    /// Free memory on the worker when it was chosen.
    pub free_bytes: u64,
    pub reserve_bytes: u64,
}

/// What shall happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Grant {
        task: TaskId,
        worker: WorkerId,
        limits: LeaseLimits,
    },
    Refuse {
        task: TaskId,
        refusal: Refusal,
    },
    LeaseChanged {
        task: TaskId,
        worker: WorkerId,
        limits: LeaseLimits,
    },
    /// The lease stays as it was.
    GrowthRefused {
        task: TaskId,
        asked_bytes: u64,
        free_bytes: u64,
        worker_bytes: u64,
    },
    /// The worker is lost and with it the task, which placement forgets: submit it again
    /// to have it tried elsewhere.
    LeaseLost {
        task: TaskId,
        worker: WorkerId,
        lease: LeaseId,
    },
    Reclaim {
        worker: WorkerId,
        holder: HolderId,
        bytes: u64,
    },
    Stop {
        task: TaskId,
        worker: WorkerId,
        numbers: StopNumbers,
    },
    /// The last lease of a draining worker ended.
    Drained {
        worker: WorkerId,
    },
}

/// Why a task will not be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "asked for {} of memory; the largest worker gives {} to tasks",
        display_bytes(*asked_bytes), display_bytes(*largest_bytes)
    )]
    Memory { asked_bytes: u64, largest_bytes: u64 },
    #[error(
        "asked for {} cores; the largest worker gives {} to this class of work",
        cores(*asked_milli_cpu), cores(*largest_milli_cpu)
    )]
    Cpu { asked_milli_cpu: u64, largest_milli_cpu: u64 },
    #[error("asked for {asked} GPUs; the largest worker has {largest}")]
    Gpus { asked: u32, largest: u32 },
    #[error(
        "asked for {} of memory, {} cores and {asked_gpus} GPUs; each is to be had, but no worker \
         has all of them",
        display_bytes(*asked_bytes), cores(u64::from(*asked_milli_cpu))
    )]
    Together { asked_bytes: u64, asked_milli_cpu: u32, asked_gpus: u32 },
    #[error(
        "the memory limit of {} is below the request of {}",
        display_bytes(*limit_bytes), display_bytes(*request_bytes)
    )]
    LimitBelowRequest { request_bytes: u64, limit_bytes: u64 },
    #[error("waited {waited_ms} ms, until its deadline, and was not placed")]
    DeadlinePassed { waited_ms: u64 },
    #[error("{limit} tasks are waiting already, which is the most that may")]
    TooManyWaiting { limit: usize },
}

fn cores(milli_cpu: u64) -> String {
    let text = format!("{}.{:03}", milli_cpu / 1000, milli_cpu % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Explain for Refusal {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Memory { .. } | Self::Cpu { .. } | Self::Gpus { .. } | Self::Together { .. } => {
                ErrorKind::TooLarge
            }
            Self::LimitBelowRequest { .. } => ErrorKind::Invalid,
            Self::DeadlinePassed { .. } => ErrorKind::Timeout,
            Self::TooManyWaiting { .. } => ErrorKind::Exhausted,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Memory { largest_bytes, .. } => format!(
                "ask for at most {}, or join a larger worker with `corral worker --join`",
                display_bytes(*largest_bytes)
            ),
            Self::Cpu { largest_milli_cpu, .. } => format!(
                "ask for at most {} cores, or join a larger worker with `corral worker --join`",
                cores(*largest_milli_cpu)
            ),
            Self::Gpus { largest: 0, .. } => {
                "run it without a GPU, or join a worker that has one".to_owned()
            }
            Self::Gpus { largest, .. } => format!("ask for at most {largest}"),
            Self::Together { .. } => {
                "ask for less of one of them, or join a worker that has them all".to_owned()
            }
            Self::LimitBelowRequest { .. } => {
                "raise the limit to at least the request, or leave it out".to_owned()
            }
            Self::DeadlinePassed { .. } => {
                "give it a later deadline or a higher priority, or join another worker".to_owned()
            }
            Self::TooManyWaiting { .. } => "wait until some of them have run".to_owned(),
        })
    }
}
