//! Whether the texts that an endpoint gets, and its answers, are still like those of its training.

mod profile;
mod tracker;
mod watch;

pub use profile::{Distances, MIN_REFERENCE_TEXTS, Profile};
pub use tracker::Standing;
pub(crate) use watch::DriftWatch;
pub use watch::{AlarmEnd, AlarmWish, DriftReading, DriftReadings, LastWindow, ReferenceWish};
