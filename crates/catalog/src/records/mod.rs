//! The records, and what can be asked and changed of each kind: the port.

pub mod apps;
pub mod blobs;
pub mod datasets;
pub mod encoders;
pub mod endpoints;
pub mod environments;
pub mod functions;
pub mod labelings;
pub mod models;
pub mod parts;
pub mod requests;
pub mod runs;
pub mod settings;
pub mod taxonomies;
pub mod tokens;
pub mod usage;
pub mod workspaces;

use std::pin::Pin;

use corral_types::{Name, Timestamp};

use crate::CatalogError;

/// What every method of the port gives: boxed, so that services hold the port as `dyn`.
///
/// Nothing happens before the first poll.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CatalogError>> + Send + 'a>>;

/// What a new named record is given by its maker.
#[derive(Clone, Debug)]
pub struct NewRecord<I> {
    pub id: I,
    /// Unique in the workspace among records of its kind.
    pub name: Name,
    pub created: Timestamp,
}

/// A version by number, or the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionChoice {
    /// The newest at the time of asking that is not removed.
    Latest,
    /// Counted from 1.
    Number(u32),
}
