//! What endpoints used, hour by hour.

use std::ops::Range;

use corral_types::{Name, WorkspaceId};

use super::Answer;

/// Sums in one answer at most: each of ten thousand endpoints for five days, or one for years.
pub const MAX_USAGE_SUMS: usize = 50_000;

/// What an endpoint used in some hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRecord {
    pub workspace: WorkspaceId,
    /// By name: usage stays when the endpoint goes, and goes on when one of its name is made.
    pub endpoint: Name,
    /// The first of the hours, counted from the Unix epoch.
    pub hour: u64,
    /// Those that failed included.
    pub requests: u64,
    pub errors: u64,
    pub texts: u64,
    /// Time on a core.
    pub core_micros: u64,
    pub memory_byte_seconds: u64,
}

pub trait UsageRecords {
    /// Adds to what is noted already, all or nothing. `note` names this call: asked again with
    /// the same one, right after, it changes nothing, so that usage is never counted twice.
    ///
    /// # Errors
    /// When a workspace is not there.
    fn add_usage(&self, note: String, records: Vec<UsageRecord>) -> Answer<'_, ()>;

    /// What the endpoints of a workspace, or one of them, used in some hours, summed over spans of
    /// `span_hours` that begin at the epoch; by span and name.
    ///
    /// # Errors
    /// [`TooLarge`](crate::CatalogError::TooLarge) past [`MAX_USAGE_SUMS`].
    fn usage(
        &self,
        workspace: WorkspaceId,
        endpoint: Option<Name>,
        hours: Range<u64>,
        span_hours: u64,
    ) -> Answer<'_, Vec<UsageRecord>>;

    /// Removes what was noted of hours before this one, of all workspaces; at most `limit`
    /// records, of which it answers the number.
    fn forget_usage(&self, before_hour: u64, limit: usize) -> Answer<'_, usize>;
}
