//! The bodies of the REST API: what the server writes and the command line reads.
//!
//! These shapes are the interface and change only by addition. Ids, hashes and names are
//! strings here; times are RFC 3339 in UTC; sizes are bytes.

mod admin;
mod apps;
mod batch;
mod datasets;
mod endpoints;
mod error;
mod functions;
mod jobs;
mod labeling;
mod lines;
mod models;
mod observing;
mod predictions;
mod taxonomies;
mod usage;

pub use admin::*;
pub use apps::*;
pub use batch::*;
pub use datasets::*;
pub use endpoints::*;
pub use error::*;
pub use functions::*;
pub use jobs::*;
pub use labeling::*;
pub use lines::*;
pub use models::*;
pub use observing::*;
pub use predictions::*;
pub use taxonomies::*;
pub use usage::*;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The most entries a page has, and how many it has when nothing is said.
pub const MAX_PAGE: u32 = 1000;
pub const DEFAULT_PAGE: u32 = 100;

/// One page of a list, in order of creation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give this as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// At most 1000; 100 when absent.
    pub limit: Option<u32>,
}

/// Which version of a thing; the newest when absent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct VersionQuery {
    pub version: Option<u32>,
}
