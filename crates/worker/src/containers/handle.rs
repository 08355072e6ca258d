//! A container that was asked for, of either kind.

use std::io;

use corral_containers::Usage;
use corral_isolation::{ContainerProcessEvent, PlannedFile};

use super::bare::{BareContainer, BareControl};
use super::seated::{SeatedContainer, SeatedControl};

/// A container. Dropping it ends it.
pub struct ContainerHandle {
    kind: Kind,
}

enum Kind {
    Seated(Box<SeatedContainer>),
    Bare(Box<BareContainer>),
}

/// A line to a container, to be kept wherever somebody may want to end it.
#[derive(Clone)]
pub struct ContainerControl {
    kind: ControlKind,
}

#[derive(Clone)]
enum ControlKind {
    Seated(SeatedControl),
    Bare(BareControl),
}

impl From<SeatedContainer> for ContainerHandle {
    fn from(container: SeatedContainer) -> Self {
        Self { kind: Kind::Seated(Box::new(container)) }
    }
}

impl From<BareContainer> for ContainerHandle {
    fn from(container: BareContainer) -> Self {
        Self { kind: Kind::Bare(Box::new(container)) }
    }
}

impl ContainerHandle {
    /// What becomes of it: `Started`, then `Exited`; or `NotStarted`. None after the last. May be
    /// dropped while it waits. Where no group holds its memory, it is measured while this waits.
    pub async fn next(&mut self) -> Option<ContainerProcessEvent> {
        match &mut self.kind {
            Kind::Seated(container) => container.next().await,
            Kind::Bare(container) => container.next().await,
        }
    }

    /// A line to the container for others.
    pub fn control(&self) -> ContainerControl {
        let kind = match &self.kind {
            Kind::Seated(container) => ControlKind::Seated(container.control()),
            Kind::Bare(container) => ControlKind::Bare(container.control()),
        };
        ContainerControl { kind }
    }
}

impl ContainerControl {
    /// Ends everything in the container at once. The end is reported as any other.
    pub fn kill(&self) {
        match &self.kind {
            ControlKind::Seated(control) => control.kill(),
            ControlKind::Bare(control) => control.kill(),
        }
    }

    /// Sends a signal to the container's program.
    pub fn signal(&self, number: i32) {
        match &self.kind {
            ControlKind::Seated(control) => control.signal(number),
            ControlKind::Bare(control) => control.signal(number),
        }
    }

    /// Stops everything in the container where it is: it takes no processor time until it is
    /// thawed.
    ///
    /// # Errors
    /// When this machine cannot.
    pub fn freeze(&self) -> io::Result<()> {
        match &self.kind {
            ControlKind::Seated(control) => control.freeze(),
            ControlKind::Bare(control) => control.freeze(),
        }
    }

    /// Lets a frozen container go on.
    pub fn thaw(&self) {
        match &self.kind {
            ControlKind::Seated(control) => control.thaw(),
            ControlKind::Bare(control) => control.thaw(),
        }
    }

    /// Parks a container that waits for a file, such as one at its checkpoint: as
    /// [`Self::freeze`], where that is possible.
    pub fn park(&self) {
        if let Err(error) = self.freeze() {
            tracing::debug!(%error, "a parked container is left running");
        }
    }

    /// Lets a parked container go on with the file that it waits for.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn release(&self, file: PlannedFile) -> io::Result<()> {
        self.thaw();
        self.write_file(file)
    }

    /// Writes a file into the running container, whole or not at all.
    ///
    /// # Errors
    /// When the container is gone, or has no file system of its own.
    pub fn write_file(&self, file: PlannedFile) -> io::Result<()> {
        match &self.kind {
            ControlKind::Seated(control) => control.write_file(file),
            ControlKind::Bare(control) => control.write_file(&file),
        }
    }

    /// What the container has taken and holds. Reads files of the kernel's.
    pub fn usage(&self) -> Usage {
        match &self.kind {
            ControlKind::Seated(control) => control.usage(),
            ControlKind::Bare(control) => control.usage(),
        }
    }
}
