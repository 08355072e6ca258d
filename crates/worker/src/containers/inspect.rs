//! What containers this machine can have, for `corral doctor`.

use std::io;
use std::path::Path;

use corral_isolation::{IdMapping, Isolation, Unavailable, Uplink, explain};

use super::seat::ReadySeat;
use crate::launcher::{Launcher, LauncherProcess};

/// What containers this machine can have.
#[derive(Clone, Debug)]
pub struct ContainerInspection {
    /// How much they are kept apart.
    pub isolation: Isolation,
    /// What keeps them from namespaces, if anything does.
    pub no_namespaces: Option<Unavailable>,
    /// All the users that images expect, or root alone.
    pub ids: IdMapping,
    /// What keeps them from the network, if anything does.
    pub no_network: Option<Unavailable>,
}

/// Tries containers out: starts `executable` as a launcher and makes one of nothing.
///
/// # Errors
/// When the launcher cannot be started.
pub fn inspect_containers(executable: &Path) -> io::Result<ContainerInspection> {
    let (launcher, _end) = LauncherProcess::start(executable)?.attach()?;
    let no_namespaces = why_no_namespaces(&launcher);
    let name = format!("probe-{}", std::process::id());
    Ok(ContainerInspection {
        isolation: match no_namespaces {
            None => Isolation::Namespaces,
            Some(_) => Isolation::Process,
        },
        no_network: match no_namespaces {
            None => Uplink::open(&name).err(),
            // They have the machine's own.
            Some(_) => None,
        },
        no_namespaces,
        ids: IdMapping::of_this_process(),
    })
}

/// What keeps containers from namespaces here, if anything does.
pub fn why_no_namespaces(launcher: &Launcher) -> Option<Unavailable> {
    ReadySeat::try_out(launcher).err().map(|error| explain(error.to_string()))
}
