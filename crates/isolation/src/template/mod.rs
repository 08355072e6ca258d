//! Templates: a process that has imported what containers need, and forks their programs.
//!
//! ```text
//! launcher ── T   first process of the template, stays among the machine's mounts
//!             ├── Z   the template's process: Python in a container of its own, imports, forks
//!             │    └── P   a container's program: forked by Z into C's process namespace
//!             └── C   first process of a container, in namespaces of its own within T's
//! ```
//!
//! P is forked before there is anything particular to its container, and waits. A start tells C
//! what to become; C makes the file system and lets P in.

mod first;
mod worker;

pub use first::{become_template, release_forked};
pub use worker::{ForkedSeat, TemplateEvent, TemplateSeat};
