//! Collection of garbage: blobs that no record refers to.

use std::collections::HashSet;
use std::time::Duration;

use corral_blobs::Swept;
use corral_types::{BlobHash, Timestamp};

use crate::rest::{Answer, ApiError};
use crate::state::App;

/// How long a blob may wait for its first reference: longer than the longest import or
/// transfer of outputs.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// How often the server collects by itself.
pub const INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// References asked for at once.
const REFERENCES_PER_CALL: usize = 10_000;

/// Removes blobs older than a day that neither the catalog nor a job refers to, and
/// idempotency keys that have expired.
///
/// # Errors
/// When the catalog or the disk fails; what was removed until then stays removed.
pub async fn collect(app: &App) -> Answer<Swept> {
    app.catalog.forget_expired_requests(Timestamp::now()).await?;
    let mut referenced: HashSet<BlobHash> = app.jobs.referenced_blobs().await.into_iter().collect();
    let mut after = None;
    loop {
        let page = app.catalog.referenced_blobs(after, REFERENCES_PER_CALL).await?;
        let Some(last) = page.last().copied() else { break };
        referenced.extend(page);
        after = Some(last);
    }
    let blobs = app.blobs.clone();
    let swept =
        tokio::task::spawn_blocking(move || blobs.sweep(|hash| referenced.contains(hash), GRACE));
    swept.await.map_err(|_| crate::rest::cut_off())?.map_err(ApiError::from)
}
