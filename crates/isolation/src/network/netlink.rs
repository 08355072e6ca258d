//! Messages to the kernel's network configuration.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The largest answer that is read at a time; the kernel fills pages.
const ANSWER_BYTES: usize = 64 << 10;

/// How much a message may hold: the rules of a firewall are a few kilobytes.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;

/// Set on attributes that hold attributes.
const NESTED: u16 = 1 << 15;

/// One message under construction: a header, a fixed part, and attributes.
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// With the message's kind and its fixed part.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }.padded()
    }

    fn padded(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.padded()
    }

    /// A text with the zero behind it that the kernel expects.
    pub fn text(self, kind: u16, text: &str) -> Self {
        let bytes = [text.as_bytes(), &[0]].concat();
        self.attribute(kind, &bytes)
    }

    pub fn nested(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let mut filled = inside(self);
        let length = (filled.bytes.len() - start) as u16;
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        filled
    }

    /// Bytes without an attribute's header, such as a fixed part within an attribute.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.padded()
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One message of an answer.
#[derive(Debug)]
pub struct Answer {
    pub payload: Vec<u8>,
}

impl Answer {
    /// The attributes behind a fixed part of `fixed` bytes.
    pub fn attributes(&self, fixed: usize) -> Vec<(u16, &[u8])> {
        let mut rest = self.payload.get(fixed..).unwrap_or_default();
        let mut found = Vec::new();
        while let Some((head, _)) = rest.split_first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            let kind = u16::from_ne_bytes([head[2], head[3]]) & !NESTED;
            let Some(value) = rest.get(4..length) else { break };
            found.push((kind, value));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        found
    }
}

/// A socket to one of the kernel's configurations, in the network namespace in which it was made.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Links, addresses and routes.
    ///
    /// # Errors
    /// When the kernel has no such thing.
    pub fn routes() -> io::Result<Self> {
        Self::open(libc::NETLINK_ROUTE)
    }

    /// The packet filter.
    ///
    /// # Errors
    /// When the kernel has no such thing.
    pub fn filter() -> io::Result<Self> {
        Self::open(libc::NETLINK_NETFILTER)
    }

    fn open(protocol: i32) -> io::Result<Self> {
        // NETLINK_ROUTE is 0, which stands for itself.
        let protocol = std::num::NonZeroU32::new(protocol as u32).map(Protocol::from_raw);
        let kind = SocketType::RAW;
        let family = AddressFamily::NETLINK;
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 1 })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends one message and waits until it is acknowledged.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ask(&mut self, message: Message) -> io::Result<()> {
        self.exchange(vec![message], Expect::Acknowledgement).map(|_| ())
    }

    /// Sends messages that take effect together, between a begin and an end of their own, and
    /// waits for the acknowledgement of each.
    ///
    /// # Errors
    /// The first error of any of them.
    pub fn ask_batch(&mut self, messages: Vec<Message>, acknowledged: usize) -> io::Result<()> {
        self.exchange(messages, Expect::Acknowledgements(acknowledged)).map(|_| ())
    }

    /// Asks for a list.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn list(&mut self, message: Message) -> io::Result<Vec<Answer>> {
        self.exchange(vec![message], Expect::List)
    }

    fn exchange(&mut self, messages: Vec<Message>, expect: Expect) -> io::Result<Vec<Answer>> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend(message.finish(self.sequence));
            self.sequence = self.sequence.wrapping_add(1);
        }
        if bytes.len() > MAX_MESSAGE_BYTES {
            let length = bytes.len();
            let text = format!("a request of {length} bytes; the limit is {MAX_MESSAGE_BYTES}");
            return Err(io::Error::other(text));
        }
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut left = match expect {
            Expect::Acknowledgement => 1,
            Expect::Acknowledgements(count) => count,
            Expect::List => usize::MAX,
        };
        let mut buffer = vec![0; ANSWER_BYTES];
        while left > 0 {
            let read = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())
            })?
            .1;
            let mut rest = &buffer[..read];
            while let Some((head, _)) = rest.split_first_chunk::<16>() {
                let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
                let kind = u16::from_ne_bytes([head[4], head[5]]);
                let Some(payload) = rest.get(16..length) else { break };
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let code = payload.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
                        if code != 0 {
                            return Err(io::Error::from_raw_os_error(-code));
                        }
                        left -= 1;
                    }
                    _ => answers.push(Answer { payload: payload.to_vec() }),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        Ok(answers)
    }
}

enum Expect {
    Acknowledgement,
    Acknowledgements(usize),
    List,
}
