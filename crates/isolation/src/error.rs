//! A step towards a container that failed.

use std::fmt;
use std::io;

/// What was tried, and why it did not work.
#[derive(Debug)]
pub struct StepFailed {
    what: String,
    source: io::Error,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for StepFailed {}

/// Says what was tried.
pub trait Step<T> {
    /// # Errors
    /// As it was, with `what` before it.
    fn step(self, what: impl FnOnce() -> String) -> Result<T, StepFailed>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, StepFailed> {
        self.map_err(|source| StepFailed { what: what(), source: source.into() })
    }
}
