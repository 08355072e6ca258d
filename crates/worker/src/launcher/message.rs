//! The packets between worker and launcher: one JSON message each, with descriptors beside.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest packet. Requests travel by file, so a message holds little more than the
/// environment; the kernel's default for a socket's buffer is a few times this.
const MAX_PACKET_BYTES: usize = 64 << 10;

/// The descriptors that come with a start: control, standard output, standard error.
pub const START_DESCRIPTORS: usize = 3;

/// Said by the worker. `process` is the worker's own number for it, never used again.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToLauncher {
    Start {
        process: u64,
        start: StartProcess,
    },
    /// Make the first process of a container, which talks over the socket that comes with this.
    StartSeat {
        process: u64,
    },
    /// Send a signal to the process alone.
    Signal {
        process: u64,
        number: i32,
    },
    /// Kill the process and everything that came from it.
    Kill {
        process: u64,
    },
}

/// A process to start, with its limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartProcess {
    /// This very program if none.
    pub program: Option<PathBuf>,
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    pub current_directory: PathBuf,
    pub cgroup_files: Vec<PathBuf>,
    pub data_limit_bytes: Option<u64>,
    pub oom_score_adjustment: u16,
    pub nice: i32,
    /// How its descendants are recognised: the attempt's directory.
    pub attempt_directory: PathBuf,
}

/// Said by the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromLauncher {
    Started {
        process: u64,
        process_id: u32,
    },
    NotStarted {
        process: u64,
        error: String,
    },
    /// The process has ended, and everything that came from it.
    Exited {
        process: u64,
        exit_code: Option<i32>,
        signal: Option<i32>,
        cpu_ms: u64,
    },
}

/// A connection that does not work as it should.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    #[error("send a packet of {bytes} bytes; the limit is {MAX_PACKET_BYTES}")]
    TooLong { bytes: usize },
    #[error("write or read the packet as JSON")]
    Json(#[from] serde_json::Error),
    #[error("use the socket between worker and launcher")]
    Socket(#[source] std::io::Error),
    #[error("the other side is gone")]
    Closed,
}

impl From<Errno> for PacketError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::Socket(other.into()),
        }
    }
}

/// Sends one message and descriptors with it.
pub fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), PacketError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(PacketError::TooLong { bytes: bytes.len() });
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(START_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let pushed = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(pushed, "the space is for as many descriptors as a start has");
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Waits for one message and takes the descriptors that came with it.
pub fn receive<M: DeserializeOwned>(socket: impl AsFd) -> Result<(M, Vec<OwnedFd>), PacketError> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(START_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    if received.bytes == 0 {
        return Err(PacketError::Closed);
    }
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((serde_json::from_slice(&bytes[..received.bytes])?, descriptors))
}
