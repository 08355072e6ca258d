//! What runs where: the one deterministic core that gives every task its lease.
//!
//! [`Placement`] takes [`Event`]s and answers with [`Decision`]s. It does no I/O, reads
//! no clock, starts no thread and draws no random number, and it iterates only over
//! ordered maps: the same events at the same times give the same decisions, on any
//! machine. Whoever owns it carries the decisions out and reports what came of them.
//!
//! The rules, each in the module that holds it:
//!
//! - **Ledger.** A worker offers memory, CPU and GPUs. A lease is charged the larger of
//!   what was requested and what was measured. Requests never exceed the offer and a
//!   lease is granted only into memory that is free by charge *and* by measurement. CPU
//!   may be over-committed, by class of work, because weights share it out.
//! - **Waiting.** Workspaces take turns by dominant resource fairness (Ghodsi et al.,
//!   NSDI 2011), classes within a workspace likewise, and tasks within a class by how
//!   long they have waited, where a level of priority counts as a head start. What does
//!   not fit is overtaken by what does; a queue that got nothing for its bound has a
//!   worker reserved for its first task, which then drains for it.
//! - **Pressure.** When measured free memory falls under the reserve, what can be rebuilt
//!   is given back, cheapest kind first; then the task of the lowest priority that is
//!   furthest over its request is stopped, with its numbers.
//! - **Refusal.** What no known worker could ever hold is refused at once. While no
//!   worker is known, everything waits.

mod core;
mod fairness;
mod ledger;
mod messages;
mod policy;
mod pressure;
mod schedule;
mod view;
mod waiting;

pub use core::Placement;
pub use messages::{
    Decision, Event, HolderId, LeaseLimits, Reclaimable, ReclaimableKind, Refusal, ResidentClaim,
    StopNumbers, TaskRequest, WorkClass, WorkerOffer,
};
pub use policy::{MAX_WAITING_TASKS, MIN_MEMORY_REQUEST_BYTES, Policy, TICK_MS};
pub use view::{LeaseView, Totals, WaitReason, WorkerPresence, WorkerView};
