//! The worker's side of a template.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Step, StepFailed};
use crate::packet;
use crate::privileges;
use crate::seat::{IdMapping, Seat};
use crate::wire::{FromTemplate, Imported, ToTemplate};
use crate::{Stdio, TemplatePlan, TemplateState};

/// A template: its first process, and the socket to its own.
pub struct TemplateSeat {
    seat: Seat,
    channel: OwnedFd,
    mapping: IdMapping,
}

/// What a template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateEvent {
    /// It has imported everything, or cannot bear containers.
    State(TemplateState),
    Forked {
        fork: u64,
    },
    /// It did not fork, and why.
    Refused {
        fork: u64,
        reason: String,
    },
    /// A program that it forked has ended.
    Ended {
        fork: u64,
        exit_code: Option<i32>,
        signal: Option<i32>,
        cpu_ms: u64,
    },
    /// It has ended, or does not speak as it should.
    Gone,
}

/// A seat within a template, with a program that waits to be let in.
pub struct ForkedSeat {
    pub seat: Seat,
    /// The other end is the program's.
    pub channel: OwnedFd,
}

impl TemplateSeat {
    /// Lets a seat become a template, which begins to import.
    ///
    /// # Errors
    /// As [`Seat::run`].
    pub fn start(
        seat: Seat,
        mapping: IdMapping,
        plan: &TemplatePlan,
        stdio: &Stdio,
    ) -> Result<Self, StepFailed> {
        let what = || "make the template's socket".to_owned();
        let (channel, theirs) = packet::pair().step(what)?;
        seat.run_template(&plan.container, stdio, theirs.as_fd())?;
        let message = ToTemplate::Imports { imports: plan.imports.clone() };
        packet::send(&channel, &message, &[]).step(|| "tell the template what to import".into())?;
        Ok(Self { seat, channel, mapping })
    }

    /// Its first process.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The socket that [`Self::take_event`] reads.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Makes the seat of a container within the template; waits for its first process.
    ///
    /// # Errors
    /// When the template is gone, or namespaces cannot be made.
    pub fn make_seat(&self) -> Result<Seat, StepFailed> {
        let what = || "ask the template for a seat".to_owned();
        let (ours, theirs) = packet::pair().step(what)?;
        self.seat.fork_seat(theirs.as_fd()).step(what)?;
        drop(theirs);
        Seat::await_ready(ours, self.mapping)
    }

    /// Lets the template fork a program into a seat of its own, as a member of the groups whose
    /// membership files are open; answered by [`TemplateEvent::Forked`] or
    /// [`TemplateEvent::Refused`] with the number.
    ///
    /// # Errors
    /// When the template is gone.
    pub fn fork_into(
        &self,
        seat: Seat,
        fork: u64,
        groups: &[fs::File],
    ) -> Result<ForkedSeat, StepFailed> {
        let what = || "ask the template for a fork".to_owned();
        let (channel, theirs) = packet::pair().step(what)?;
        let mut descriptors = vec![theirs.as_fd()];
        descriptors.extend(seat.namespaces_to_enter());
        descriptors.extend(groups.iter().map(AsFd::as_fd));
        let message =
            ToTemplate::Fork { fork, groups: groups.len(), capabilities: privileges::kept_bits() };
        packet::send(&self.channel, &message, &descriptors).step(what)?;
        Ok(ForkedSeat { seat, channel })
    }

    /// What it said next. Waits, unless the socket was made not to block.
    ///
    /// # Errors
    /// `WouldBlock` on a socket that does not block.
    pub fn take_event(&self) -> io::Result<TemplateEvent> {
        let message = match packet::receive::<FromTemplate>(&self.channel) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(_) | Ok(None) => return Ok(TemplateEvent::Gone),
            Ok(Some((message, _))) => message,
        };
        Ok(match message {
            FromTemplate::Ready { ready: Imported { import_ms, memory_bytes } } => {
                TemplateEvent::State(TemplateState::Ready { import_ms, memory_bytes })
            }
            FromTemplate::Unusable { unusable: reason } => {
                TemplateEvent::State(TemplateState::Unusable { reason })
            }
            FromTemplate::Forked { forked: fork } => TemplateEvent::Forked { fork },
            FromTemplate::Refused { refused: fork, reason } => {
                TemplateEvent::Refused { fork, reason }
            }
            FromTemplate::Ended { ended: fork, exit_code, signal, cpu_ms } => {
                TemplateEvent::Ended { fork, exit_code, signal, cpu_ms }
            }
        })
    }
}
