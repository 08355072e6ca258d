//! Which clients are still there: a state machine without a clock.

use std::collections::HashMap;
use std::time::Duration;

use corral_types::{AppId, Timestamp, WorkspaceId};

/// How often clients say that they are there.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(15);

/// So many beats may be missed: a laptop that sleeps for a moment keeps its app.
pub const MISSED_BEATS: u32 = 4;

/// When each app whose life hangs on its client was last heard of.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    last: HashMap<AppId, (WorkspaceId, Timestamp)>,
}

impl Presence {
    /// From now on the app's client is expected to be heard of.
    pub fn expect(&mut self, workspace: WorkspaceId, app: AppId, now: Timestamp) {
        self.last.insert(app, (workspace, now));
    }

    /// The client was heard of; nothing for an app that does not hang on it.
    pub fn beat(&mut self, workspace: WorkspaceId, app: AppId, now: Timestamp) {
        if let Some(last) = self.last.get_mut(&app).filter(|last| last.0 == workspace) {
            last.1 = last.1.max(now);
        }
    }

    /// The app hangs on no client any more.
    pub fn release(&mut self, app: AppId) {
        self.last.remove(&app);
    }

    /// The apps whose clients were not heard of for too long.
    pub fn missing(&self, now: Timestamp) -> Vec<(WorkspaceId, AppId)> {
        let patience = BEAT_INTERVAL * MISSED_BEATS;
        let mut missing: Vec<_> = self
            .last
            .iter()
            .filter(|(_, (_, last))| now.since(*last) > patience)
            .map(|(app, (workspace, _))| (*workspace, *app))
            .collect();
        missing.sort();
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_missed_after_some_beats_and_not_before() {
        let mut presence = Presence::default();
        let (workspace, other) = (WorkspaceId::from_u128(1), WorkspaceId::from_u128(2));
        let app = AppId::from_u128(3);
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        presence.expect(workspace, app, at(0));
        assert!(presence.missing(at(60)).is_empty());
        presence.beat(workspace, app, at(50));
        // Another workspace cannot keep it alive.
        presence.beat(other, app, at(100));
        assert!(presence.missing(at(110)).is_empty());
        assert_eq!(presence.missing(at(111)), [(workspace, app)]);
        presence.release(app);
        presence.beat(workspace, app, at(120));
        assert!(presence.missing(at(1_000)).is_empty());
    }
}
