//! What the worker and the first process of a container say to each other.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::ContainerPlan;
use crate::network::Address;

/// The largest plan, its small files included: they are arguments of functions at most, and
/// those of any size travel as blobs.
const MAX_PLAN_BYTES: u64 = 256 << 20;

/// Said to the first process of a container.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSeat {
    /// Its end of a network is there: give it this address.
    Network { address: Address },
    /// Become this container. With it come, in this order: the plan, the three standard streams,
    /// and what [`crate::trees::Trees`] opened.
    Run { trees: usize, program: Program },
    /// Become a template: as [`ToSeat::Run`], but this process stays where it is, and the
    /// template's socket comes before what was opened.
    Template { trees: usize },
    /// Make the first process of a container in the user namespace of this template, for the
    /// socket that comes with this.
    Seat,
    /// Write a file into the container, whole or not at all. A plan with nothing but it comes with
    /// this.
    WriteFile,
    /// Make the file system of a container of nothing, to see whether it can be, and end.
    Try,
    /// Send a signal to the container's program.
    Signal { number: i32 },
}

/// Where a container's program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// It is executed.
    Executed,
    /// A template has forked it; a socket to it comes with the message, before what was opened.
    Forked,
}

/// Said to a program that was forked by a template; see its own file.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToForked {
    pub environment: Vec<(String, String)>,
    pub arguments: Vec<String>,
    pub directory: PathBuf,
    pub filter: String,
}

/// Said by it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromForked {
    Running(i32),
    Failed(String),
}

/// Said to a template's own process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ToTemplate {
    Imports { imports: Vec<String> },
    Fork { fork: u64, groups: usize, capabilities: u64 },
}

/// Said by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FromTemplate {
    Ready { ready: Imported },
    Unusable { unusable: String },
    Forked { forked: u64 },
    Refused { refused: u64, reason: String },
    Ended { ended: u64, exit_code: Option<i32>, signal: Option<i32>, cpu_ms: u64 },
}

/// What a template has imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    pub import_ms: u64,
    pub memory_bytes: u64,
}

/// Said by the first process of a container.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSeat {
    /// It is in its namespaces; a descriptor of the process comes with it, and those of
    /// [`OWN_NAMESPACES`].
    Ready,
    /// The network has its address.
    NetworkReady,
    Started,
    NotStarted {
        error: String,
    },
    /// A file could not be written into the container.
    NotWritten {
        error: String,
    },
    /// The program has ended. The end of the container's first process follows.
    Ended {
        exit_code: Option<i32>,
        signal: Option<i32>,
        cpu_ms: u64,
    },
}

/// The namespaces of a container by the names of their files, in the order in which a template's
/// process takes them.
pub const OWN_NAMESPACES: [&str; 6] = ["user", "pid", "mnt", "net", "ipc", "uts"];

/// Writes a plan into a file of memory: its length, itself as JSON, and the contents of its files.
///
/// # Errors
/// When it is too large or there is no memory.
pub fn write_plan(plan: &ContainerPlan) -> io::Result<OwnedFd> {
    let head =
        serde_json::to_vec(&(plan, plan.files.iter().map(|f| f.bytes.len()).collect::<Vec<_>>()))?;
    let total =
        plan.files.iter().map(|file| file.bytes.len() as u64).sum::<u64>() + head.len() as u64;
    if total > MAX_PLAN_BYTES {
        return Err(io::Error::other(format!(
            "the plan of {} has {total} bytes; the limit is {MAX_PLAN_BYTES}: hand large files \
             over as binds",
            plan.name
        )));
    }
    let mut file = File::from(rustix::fs::memfd_create("corral-plan", MemfdFlags::CLOEXEC)?);
    file.write_all(&(head.len() as u64).to_le_bytes())?;
    file.write_all(&head)?;
    for planned in &plan.files {
        file.write_all(&planned.bytes)?;
    }
    Ok(file.into())
}

/// Reads what [`write_plan`] wrote.
///
/// # Errors
/// When it is not a plan.
pub fn read_plan(file: OwnedFd) -> io::Result<ContainerPlan> {
    let mut file = File::from(file);
    file.rewind()?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_PLAN_BYTES {
        return Err(io::Error::other("a plan says that it is larger than it may be"));
    }
    let mut head = vec![0; length as usize];
    file.read_exact(&mut head)?;
    let (mut plan, sizes): (ContainerPlan, Vec<usize>) = serde_json::from_slice(&head)?;
    for (planned, size) in plan.files.iter_mut().zip(sizes) {
        if size as u64 > MAX_PLAN_BYTES {
            return Err(io::Error::other("a planned file is larger than it may be"));
        }
        planned.bytes = vec![0; size];
        file.read_exact(&mut planned.bytes)?;
    }
    Ok(plan)
}
