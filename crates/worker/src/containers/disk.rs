//! Looks at what containers write to disk, and ends the one that writes more than it may.

use std::path::PathBuf;
use std::sync::Weak;
use std::time::{Duration, Instant};

use corral_isolation::{OverDisk, tree_bytes};

use super::seated::Container;

/// How often a container's files are counted.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counting takes at most one part in so many of the time, however many files there are.
const SHARE: u32 = 20;

/// Watches the files of a container until it is gone.
pub async fn watch_disk(container: Weak<Container>, upper: PathBuf, limit_bytes: u64) {
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        if container.strong_count() == 0 {
            return;
        }
        let path = upper.clone();
        let begun = Instant::now();
        let counting = tokio::task::spawn_blocking(move || tree_bytes(&path, limit_bytes));
        let Ok(Ok(measured_bytes)) = counting.await else { return };
        pause = INTERVAL.max(begun.elapsed() * SHARE);
        if measured_bytes > limit_bytes {
            if let Some(container) = container.upgrade() {
                container.end_over_disk(OverDisk { limit_bytes, measured_bytes });
            }
            return;
        }
    }
}
