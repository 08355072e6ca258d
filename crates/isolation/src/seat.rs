//! A seat: a process in the namespaces of a container to come, waiting to be told which.
//!
//! Making namespaces, joining groups and building a network take ten times as long as all that
//! is particular to one container. So seats are made ahead.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::error::{Step, StepFailed};
use crate::init::{self, Birth};
use crate::network::Address;
use crate::packet;
use crate::sys::{self, Forked, Groups};
use crate::trees::{Owners, Trees};
use crate::wire::{FromSeat, OWN_NAMESPACES, Program, ToSeat, write_plan};
use crate::{ContainerPlan, PlannedFile, Stdio};

/// The first of this machine's ids that containers have as theirs. No file has them, see
/// [`ContainerPlan`], so it matters to nobody that all containers have the same.
const FIRST_ID: u32 = 1_900_000_000;

/// As many as programs and packages expect: nobody is 65534.
const IDS: u32 = 65_536;

/// How the ids of a container lie on those of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMapping {
    /// All of them, onto a range that nobody else uses. Real root only.
    Shifted,
    /// Root alone, onto the user who runs this.
    Own,
}

impl IdMapping {
    /// What this process may do.
    pub fn of_this_process() -> Self {
        if rustix::process::geteuid().is_root() { Self::Shifted } else { Self::Own }
    }

    fn write(self, process: Pid) -> io::Result<()> {
        let of = |name: &str| format!("/proc/{}/{name}", process.as_raw_pid());
        let (users, groups) = match self {
            Self::Shifted => {
                let line = format!("0 {FIRST_ID} {IDS}\n");
                (line.clone(), line)
            }
            Self::Own => {
                // The kernel wants this before an ordinary user maps groups.
                fs::write(of("setgroups"), "deny")?;
                let user = rustix::process::geteuid().as_raw();
                let group = rustix::process::getegid().as_raw();
                (format!("0 {user} 1\n"), format!("0 {group} 1\n"))
            }
        };
        fs::write(of("uid_map"), users)?;
        fs::write(of("gid_map"), groups)
    }
}

/// The namespaces of a container that shares nothing.
const ALL: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Makes the process of a seat, which talks over `socket`. It ends with its parent. Only for a
/// process with a single thread.
///
/// # Errors
/// When namespaces cannot be made.
pub fn fork_seat(socket: OwnedFd, mapping: IdMapping) -> io::Result<Pid> {
    let (go, mut begin) = io::pipe()?;
    let groups = if mapping == IdMapping::Shifted { Groups::Clear } else { Groups::Keep };
    match sys::fork_into(ALL)? {
        Forked::Child => {
            // The child's own copy would keep the pipe open.
            drop(begin);
            init::run(socket, go, Birth::OwnUsers(groups))
        }
        Forked::Parent(process) => {
            let written = mapping.write(process).and_then(|()| begin.write_all(&[1]));
            if written.is_err() {
                // It waits for the byte, or has ended by itself.
                let _ = rustix::process::kill_process(process, Signal::KILL);
            }
            written.map(|()| process)
        }
    }
}

/// The worker's side of a seat.
pub struct Seat {
    socket: OwnedFd,
    process: OwnedFd,
    process_id: u32,
    mapping: IdMapping,
    /// As [`OWN_NAMESPACES`] has them.
    namespaces: Vec<OwnedFd>,
}

/// What a seat says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeatEvent {
    NetworkReady,
    Started,
    NotStarted {
        error: String,
    },
    /// A file did not get into the running container.
    NotWritten {
        error: String,
    },
    Ended {
        exit_code: Option<i32>,
        signal: Option<i32>,
        cpu_ms: u64,
    },
    /// Its first process is ending, or has ended.
    Gone,
}

impl Seat {
    /// Waits until the process at the other end of `socket` is in its namespaces.
    ///
    /// # Errors
    /// When it ended instead.
    pub fn await_ready(socket: OwnedFd, mapping: IdMapping) -> Result<Self, StepFailed> {
        let what = || "make the namespaces of a container".to_owned();
        let heard = packet::receive::<FromSeat>(&socket).step(what)?;
        match heard {
            Some((FromSeat::Ready, mut namespaces)) => {
                if namespaces.len() != OWN_NAMESPACES.len() + 1 {
                    return Err(io::Error::other("it came without its descriptors")).step(what);
                }
                let process = namespaces.remove(0);
                let process_id = process_id_of(process.as_fd()).step(what)?;
                Ok(Self { socket, process, process_id, mapping, namespaces })
            }
            Some((FromSeat::NotStarted { error }, _)) => Err(io::Error::other(error)).step(what),
            _ => Err(io::Error::other("its first process ended")).step(what),
        }
    }

    /// The first process, as this machine numbers it.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// A descriptor that becomes readable when every process of the container is gone.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Whether its first process is there.
    pub fn is_alive(&self) -> bool {
        let mut waiting = [PollFd::new(&self.process, PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut waiting, Some(&now)), Ok(0))
    }

    /// The socket that [`Self::take_event`] reads.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A descriptor of its network namespace.
    pub fn network_namespace(&self) -> BorrowedFd<'_> {
        self.namespace("net")
    }

    fn namespace(&self, name: &str) -> BorrowedFd<'_> {
        let at = OWN_NAMESPACES.iter().position(|own| *own == name);
        self.namespaces[at.expect("a name from the list")].as_fd()
    }

    /// What a template's process needs to fork into this seat: all but the user namespace, which
    /// it is in.
    pub(crate) fn namespaces_to_enter(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.namespaces[1..].iter().map(AsFd::as_fd)
    }

    /// Lets it take an address on the link that was put into its network namespace; answered by
    /// [`SeatEvent::NetworkReady`].
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_address(&self, address: Address) -> io::Result<()> {
        packet::send(&self.socket, &ToSeat::Network { address }, &[])
    }

    /// Lets it become a container; answered by [`SeatEvent::Started`] or
    /// [`SeatEvent::NotStarted`].
    ///
    /// # Errors
    /// When something that the plan names cannot be opened, or the seat is gone.
    pub fn run(&self, plan: &ContainerPlan, stdio: &Stdio) -> Result<(), StepFailed> {
        self.order(plan, stdio, None, |trees| ToSeat::Run { trees, program: Program::Executed })
    }

    /// As [`Self::run`], for a program that a template has forked and that waits at the other end
    /// of `channel`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_forked(
        &self,
        plan: &ContainerPlan,
        stdio: &Stdio,
        channel: BorrowedFd<'_>,
    ) -> Result<(), StepFailed> {
        let message = |trees| ToSeat::Run { trees, program: Program::Forked };
        self.order(plan, stdio, Some(channel), message)
    }

    /// Lets it become a template, whose own process talks over `channel`; answered as
    /// [`Self::run`].
    pub(crate) fn run_template(
        &self,
        plan: &ContainerPlan,
        stdio: &Stdio,
        channel: BorrowedFd<'_>,
    ) -> Result<(), StepFailed> {
        self.order(plan, stdio, Some(channel), |trees| ToSeat::Template { trees })
    }

    fn order(
        &self,
        plan: &ContainerPlan,
        stdio: &Stdio,
        channel: Option<BorrowedFd<'_>>,
        message: impl FnOnce(usize) -> ToSeat,
    ) -> Result<(), StepFailed> {
        let trees = match self.mapping {
            IdMapping::Own => Trees(Vec::new()),
            IdMapping::Shifted => Trees::open(plan, Owners::Shifted(self.namespace("user")))?,
        };
        let what = || format!("hand over the plan of {}", plan.name);
        let file = write_plan(plan).step(what)?;
        let mut descriptors =
            vec![file.as_fd(), stdio.input.as_fd(), stdio.output.as_fd(), stdio.error.as_fd()];
        descriptors.extend(channel);
        descriptors.extend(trees.0.iter().map(AsFd::as_fd));
        packet::send(&self.socket, &message(trees.0.len()), &descriptors).step(what)
    }

    /// Lets it make the file system of a container of nothing, and end; answered as
    /// [`Self::run`].
    ///
    /// # Errors
    /// When it is gone.
    pub fn try_out(&self) -> io::Result<()> {
        packet::send(&self.socket, &ToSeat::Try, &[])
    }

    /// Lets a template make the first process of one of its containers, which will talk over
    /// `socket`.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn fork_seat(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        packet::send(&self.socket, &ToSeat::Seat, &[socket])
    }

    /// Writes a file into the running container, whole or not at all; what cannot be written is
    /// told as [`SeatEvent::NotWritten`].
    ///
    /// # Errors
    /// When it is gone.
    pub fn write_file(&self, file: PlannedFile) -> io::Result<()> {
        let plan = ContainerPlan::of_file(file);
        packet::send(&self.socket, &ToSeat::WriteFile, &[write_plan(&plan)?.as_fd()])
    }

    /// What it said next. Waits, unless the socket was made not to block.
    ///
    /// # Errors
    /// `WouldBlock` on a socket that does not block.
    pub fn take_event(&self) -> io::Result<SeatEvent> {
        match packet::receive::<FromSeat>(&self.socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) | Ok(None) => Ok(SeatEvent::Gone),
            Ok(Some((message, _))) => Ok(match message {
                FromSeat::Ready | FromSeat::NetworkReady => SeatEvent::NetworkReady,
                FromSeat::Started => SeatEvent::Started,
                FromSeat::NotStarted { error } => SeatEvent::NotStarted { error },
                FromSeat::NotWritten { error } => SeatEvent::NotWritten { error },
                FromSeat::Ended { exit_code, signal, cpu_ms } => {
                    SeatEvent::Ended { exit_code, signal, cpu_ms }
                }
            }),
        }
    }

    /// Sends a signal to the container's program. Lost when it has none.
    pub fn signal(&self, number: i32) {
        let _ = packet::send(&self.socket, &ToSeat::Signal { number }, &[]);
    }

    /// Ends everything in the container at once.
    pub fn kill(&self) {
        // It may be gone already, which is what is wanted.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }
}

impl Drop for Seat {
    /// A seat that nobody holds is of no use.
    fn drop(&mut self) {
        self.kill();
    }
}

/// The number of the process behind a descriptor, as this process's own `/proc` has it.
fn process_id_of(process: BorrowedFd<'_>) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    number.ok_or_else(|| io::Error::other("a process that this one cannot see"))
}
