//! Control groups of our own, version 1 and 2: one for each attempt and container, in a tree of
//! this worker's, in a top-level group named `corral`.

mod group;
mod tree;

pub use group::{Group, GroupLimits};
pub use tree::GroupTree;

pub use corral_isolation::Unavailable;

/// Which of the kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupVersion {
    V1,
    V2,
}
