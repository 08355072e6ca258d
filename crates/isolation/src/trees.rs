//! What of this machine a container sees, opened as mounts that are attached nowhere yet.
//!
//! Real root opens them outside of the container, where it may shift the owners of files (see
//! [`ContainerPlan`]), and hands them in. An ordinary user cannot: there the container's first
//! process opens them itself, in its own copy of the mounts.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;

use crate::error::{Step, StepFailed};
use crate::sys;
use crate::{Access, ContainerPlan, Writable};

/// The mounts of one container, in the order of its plan: layers, the directory for its writes
/// if it has one, binds.
pub struct Trees(pub Vec<OwnedFd>);

/// Whose ids the files below a mount get.
#[derive(Clone, Copy, Debug)]
pub enum Owners<'a> {
    /// Those that they have.
    AsTheyAre,
    /// Shifted as the ids of this user namespace are.
    Shifted(BorrowedFd<'a>),
}

impl Trees {
    /// Opens everything that `plan` names.
    ///
    /// # Errors
    /// When something is missing, or this process may not.
    pub fn open(plan: &ContainerPlan, owners: Owners<'_>) -> Result<Self, StepFailed> {
        let mut trees = Vec::with_capacity(plan.lowers.len() + plan.binds.len() + 1);
        for lower in &plan.lowers {
            let opened = open(lower, owners).map(|(tree, _)| tree);
            trees.push(opened.step(|| format!("open the layer {}", lower.display()))?);
        }
        if let Writable::Directory { path } = &plan.writable {
            trees.push(open_writable(path, owners)?);
        }
        for bind in &plan.binds {
            let opened = open(&bind.source, owners).and_then(|(tree, _)| {
                if bind.access == Access::Read {
                    sys::make_read_only(tree.as_fd())?;
                }
                Ok(tree)
            });
            trees.push(opened.step(|| format!("open {}", bind.source.display()))?);
        }
        Ok(Self(trees))
    }
}

fn open_writable(path: &Path, owners: Owners<'_>) -> Result<OwnedFd, StepFailed> {
    let opened = ["upper", "work"]
        .into_iter()
        .try_for_each(|name| fs::create_dir_all(path.join(name)))
        .and_then(|()| open(path, owners));
    let what = || format!("open {} for the container's writes", path.display());
    let (tree, shifted) = opened.step(what)?;
    if matches!(owners, Owners::Shifted(_)) && !shifted {
        return Err(io::Error::other(
            "its file system cannot show other owners (idmapped mounts); use ext4, xfs, btrfs \
             or tmpfs for the data directory",
        ))
        .step(what);
    }
    Ok(tree)
}

/// A copy of the mount at `path`, from there down, and whether its owners are shifted: a file
/// system that cannot do that shows them as nobody's.
fn open(path: &Path, owners: Owners<'_>) -> io::Result<(OwnedFd, bool)> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match owners {
        Owners::Shifted(namespace) => {
            let tree = rustix::mount::open_tree(CWD, path, clone)?;
            let shifted = sys::shift_mount(tree.as_fd(), namespace).is_ok();
            Ok((tree, shifted))
        }
        // What is mounted below may not be uncovered by an ordinary user, so it comes along.
        Owners::AsTheyAre => {
            let all = clone | OpenTreeFlags::AT_RECURSIVE;
            Ok((rustix::mount::open_tree(CWD, path, all)?, false))
        }
    }
}
