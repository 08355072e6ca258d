//! Messages over a socket of packets: one JSON value each, with descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message: the variables of a program that a template forks, at most. A socket
/// holds a little more. What is longer, such as a plan, travels in a file of memory.
const MAX_PACKET_BYTES: usize = 160 << 10;

/// The most descriptors that the kernel passes with one message.
pub const MAX_DESCRIPTORS: usize = 253;

/// A pair of connected sockets whose messages keep their bounds.
///
/// # Errors
/// For want of descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message and descriptors with it.
///
/// # Errors
/// When the other side is gone (`EPIPE`), or something is longer than its limit.
pub fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let too_long = |what: &str, count: usize, limit: usize| {
        io::Error::other(format!("a message has {count} {what}; the limit is {limit}"))
    };
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(too_long("bytes", bytes.len(), MAX_PACKET_BYTES));
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(too_long("descriptors", descriptors.len(), MAX_DESCRIPTORS));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let pushed = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(pushed, "the space is for as many descriptors as are allowed");
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Takes one message and the descriptors that came with it; none when the other side is gone.
/// On a socket that does not block it fails with `WouldBlock` when there is none.
///
/// # Errors
/// When the message is not understood.
pub fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
    });
    let received = match received {
        Err(Errno::CONNRESET | Errno::PIPE) => return Ok(None),
        other => other?,
    };
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_descriptors() {
        let (one, other) = pair().unwrap();
        send(&one, &"first", &[one.as_fd(), one.as_fd()]).unwrap();
        send(&one, &"second", &[]).unwrap();
        let (text, descriptors): (String, _) = receive(&other).unwrap().unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("first", 2));
        assert_eq!(receive::<String>(&other).unwrap().unwrap().0, "second");
        assert!(send(&one, &"x".repeat(MAX_PACKET_BYTES), &[]).is_err());
        drop((one, descriptors));
        assert!(receive::<String>(&other).unwrap().is_none());
    }
}
