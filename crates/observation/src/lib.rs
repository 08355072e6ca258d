//! What endpoints are asked and how they answer: counters for each version, the usage that
//! follows from them.
//!
//! The way of a request adds to counters and no more; whatever writes to disk or compares
//! distributions happens beside it.

mod observer;
mod page;
mod series;
mod usage;

pub use observer::{MAX_SERIES, Observation, Observer};
pub use page::page;
pub use series::{Distribution, Effort, Opening, Reading, Series, Subject};
pub use usage::Gathered;
