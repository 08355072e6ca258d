//! Collection of garbage: blobs that no record refers to.

use std::time::Duration;

use corral_blobs::Swept;
use corral_types::Timestamp;

use crate::rest::{Answer, ApiError};
use crate::state::App;

/// How long a blob may wait for its first reference: longer than the longest import or
/// transfer of outputs.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// How often the server collects by itself.
pub const INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Removes blobs older than a day that neither the catalog nor a job refers to, and
/// idempotency keys that have expired.
///
/// # Errors
/// When the catalog or the disk fails; what was removed until then stays removed.
pub async fn collect(app: &App) -> Answer<Swept> {
    app.catalog.forget_expired_requests(Timestamp::now()).await?;
    let referenced = app.referenced_blobs().await?;
    let blobs = app.blobs.clone();
    let swept =
        tokio::task::spawn_blocking(move || blobs.sweep(|hash| referenced.contains(hash), GRACE));
    swept.await.map_err(|_| crate::rest::cut_off())?.map_err(ApiError::from)
}
