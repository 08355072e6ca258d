//! Containers from the kernel's own calls: namespaces, an overlay root, a system call filter,
//! limits and a network that leads outward only.
//!
//! A [`ContainerPlan`] says what a container is made of. Nothing here decides what runs where.
//!
//! The worker starts containers like this (its `Containers`, the launcher's worker side):
//!
//! ```text
//! containers.start(plan, stdio)              -> ContainerHandle
//! containers.prepare(template_plan, stdio)   -> Template
//! template.state().await                     -> TemplateState
//! template.start(plan, stdio)                -> ContainerHandle; dropping it ends the template,
//!                                               its containers go on
//! handle.next().await                        -> ContainerProcessEvent: Started | NotStarted | Exited
//! handle.signal(number), handle.kill()
//! handle.usage()                             -> memory and processor time now
//! ```

mod disk;
mod error;
mod init;
mod names;
mod network;
mod packet;
mod plan;
mod privileges;
mod probe;
mod root;
mod seat;
mod seccomp;
mod sys;
mod template;
mod trees;
mod unavailable;
mod wire;

pub use disk::tree_bytes;
pub use error::StepFailed;
pub use network::{Address, Link, Uplink, clean_up as clean_up_network};
pub use packet::pair as socket_pair;

pub use plan::{
    Access, Bind, ContainerPlan, ContainerProcessEvent, Exit, OverDisk, OverMemory, PlannedFile,
    Stdio, TemplatePlan, TemplateState, Writable,
};
pub use probe::{Isolation, IsolationChoice, explain};
pub use seat::{IdMapping, Seat, SeatEvent, fork_seat};
pub use template::{ForkedSeat, TemplateEvent, TemplateSeat};
pub use unavailable::Unavailable;
