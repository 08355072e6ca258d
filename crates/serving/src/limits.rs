//! How much workspaces and tokens may ask.
//!
//! Each limit is a bucket of one second's worth that is paid for as it is used (the generic cell
//! rate algorithm, ITU-T I.371). A request is never too large for its bucket: it is answered when
//! nothing is owed, and what it took beyond is owed by those that follow.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use corral_catalog::Catalog;
use corral_types::{Caller, TokenId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::{Serving, ServingError};

/// What a bucket holds.
const BURST: Duration = Duration::from_secs(1);

/// The largest rate: above it nothing would be limited.
pub const MAX_RATE: f64 = 1e9;

/// Who is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Workspace(WorkspaceId),
    Token(TokenId),
}

/// What a workspace or a token may ask of all endpoints together; anything where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts_per_second: Option<f64>,
}

impl Limit {
    /// # Errors
    /// When a rate is none.
    pub fn check(&self) -> Result<(), ServingError> {
        let rates = [
            ("requests_per_second", self.requests_per_second),
            ("texts_per_second", self.texts_per_second),
        ];
        for (field, rate) in rates {
            if let Some(found) = rate.filter(|rate| !(*rate > 0.0 && *rate <= MAX_RATE)) {
                return Err(ServingError::Rate { field, found });
            }
        }
        Ok(())
    }
}

/// All limits as they are kept: by id, since names may be given anew.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct KeptLimits {
    #[serde(default)]
    workspaces: BTreeMap<WorkspaceId, Limit>,
    #[serde(default)]
    tokens: BTreeMap<TokenId, Limit>,
}

/// Where the catalog keeps them.
const SETTING: &str = "serving.limits";

impl Serving {
    /// What a workspace or a token may ask, if that is limited.
    pub fn limit(&self, subject: Subject) -> Option<Limit> {
        self.shared.limits.get(subject)
    }

    /// Limits what a workspace or a token may ask, from now on; or no longer.
    ///
    /// # Errors
    /// When a rate is none, or the catalog cannot be written.
    pub async fn set_limit(
        &self,
        subject: Subject,
        limit: Option<Limit>,
    ) -> Result<(), ServingError> {
        limit.map_or(Ok(()), |limit| limit.check())?;
        let _changing = self.shared.changing_limits.lock().await;
        let mut kept = KeptLimits::read(&*self.shared.catalog).await?;
        kept.set(subject, limit);
        let json = serde_json::to_string(&kept).expect("plain fields");
        self.shared.catalog.put_setting(SETTING.to_owned(), json).await?;
        self.shared.limits.set(subject, limit);
        Ok(())
    }
}

impl KeptLimits {
    /// # Errors
    /// When the catalog cannot be read, or what it keeps is damaged.
    pub async fn read(catalog: &dyn Catalog) -> Result<Self, ServingError> {
        let json = catalog.setting(SETTING.to_owned()).await?;
        let read = json.map(|json| serde_json::from_str(&json)).transpose();
        Ok(read.map_err(ServingError::LimitsUnreadable)?.unwrap_or_default())
    }

    pub fn set(&mut self, subject: Subject, limit: Option<Limit>) {
        fn put<K: Ord>(map: &mut BTreeMap<K, Limit>, key: K, limit: Option<Limit>) {
            match limit {
                Some(limit) => drop(map.insert(key, limit)),
                None => drop(map.remove(&key)),
            }
        }
        match subject {
            Subject::Workspace(id) => put(&mut self.workspaces, id, limit),
            Subject::Token(id) => put(&mut self.tokens, id, limit),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Subject, Limit)> {
        let workspaces = self.workspaces.iter().map(|(id, it)| (Subject::Workspace(*id), *it));
        workspaces.chain(self.tokens.iter().map(|(id, it)| (Subject::Token(*id), *it)))
    }
}

/// The limits that hold, and what was used of them.
#[derive(Debug, Default)]
pub struct Limits {
    buckets: RwLock<HashMap<Subject, Arc<Buckets>>>,
}

#[derive(Debug)]
struct Buckets {
    limit: Limit,
    /// Until when requests and texts are paid for.
    paid_until: Mutex<[Option<Instant>; 2]>,
}

impl Limits {
    pub fn of(kept: &KeptLimits) -> Self {
        let limits = Self::default();
        kept.iter().for_each(|(subject, limit)| limits.set(subject, Some(limit)));
        limits
    }

    pub fn get(&self, subject: Subject) -> Option<Limit> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(&subject).map(|buckets| buckets.limit)
    }

    pub fn set(&self, subject: Subject, limit: Option<Limit>) {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        match limit {
            Some(limit) => {
                let paid_until = Mutex::default();
                buckets.insert(subject, Arc::new(Buckets { limit, paid_until }));
            }
            None => drop(buckets.remove(&subject)),
        }
    }

    /// Takes a request of so many texts out of its token's and its workspace's buckets.
    ///
    /// # Errors
    /// When one of them owes; then neither pays.
    pub fn admit(&self, caller: &Caller, texts: usize, now: Instant) -> Result<(), ServingError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        if buckets.is_empty() {
            return Ok(());
        }
        let token = caller.token.and_then(|token| buckets.get(&Subject::Token(token))).cloned();
        let workspace = buckets.get(&Subject::Workspace(caller.workspace)).cloned();
        drop(buckets);
        let both = [("token", token), ("workspace", workspace)];
        let both = both.iter().filter_map(|(who, buckets)| Some((*who, buckets.as_ref()?)));
        for (who, buckets) in both.clone() {
            buckets.look(who, now)?;
        }
        both.for_each(|(_, buckets)| buckets.pay(texts, now));
        Ok(())
    }
}

impl Buckets {
    fn rates(&self) -> [(&'static str, Option<f64>); 2] {
        let Limit { requests_per_second, texts_per_second } = self.limit;
        [("requests", requests_per_second), ("texts", texts_per_second)]
    }

    fn look(&self, who: &'static str, now: Instant) -> Result<(), ServingError> {
        let paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        for ((what, rate), paid_until) in self.rates().into_iter().zip(*paid_until) {
            let (Some(rate), Some(paid_until)) = (rate, paid_until) else { continue };
            // What fills a bucket by one may be more than what it holds.
            let one = Duration::from_secs_f64((1.0 / rate).min(f64::from(u32::MAX)));
            let free_from = paid_until.checked_sub(BURST.saturating_sub(one)).unwrap_or(paid_until);
            if free_from > now {
                let wait = free_from - now;
                return Err(ServingError::OverLimit { who, what, rate, wait });
            }
        }
        Ok(())
    }

    fn pay(&self, texts: usize, now: Instant) {
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = [1.0, texts as f64];
        for (((_, rate), count), paid_until) in
            self.rates().into_iter().zip(counts).zip(&mut *paid_until)
        {
            let Some(rate) = rate else { continue };
            let seconds = (count / rate).min(f64::from(u32::MAX));
            let from = paid_until.map_or(now, |until| until.max(now));
            *paid_until = from.checked_add(Duration::from_secs_f64(seconds)).or(Some(from));
        }
    }
}

#[cfg(test)]
mod tests {
    use corral_types::Scopes;

    use super::*;

    fn caller(token: u128, workspace: u128) -> Caller {
        Caller {
            workspace: WorkspaceId::from_u128(workspace),
            token: Some(TokenId::from_u128(token)),
            scopes: Scopes::ALL,
        }
    }

    fn limit(requests: Option<f64>, texts: Option<f64>) -> Limit {
        Limit { requests_per_second: requests, texts_per_second: texts }
    }

    /// How many of a request each 10 ms for so many seconds are admitted.
    fn admitted(limits: &Limits, caller: &Caller, texts: usize, seconds: u64) -> usize {
        let begun = Instant::now();
        let moments = (0..seconds * 100).map(|tick| begun + Duration::from_millis(10 * tick));
        moments.filter(|now| limits.admit(caller, texts, *now).is_ok()).count()
    }

    #[test]
    fn rates_hold_over_time_after_a_second_s_worth_at_once() {
        let limits = Limits::default();
        limits.set(Subject::Token(TokenId::from_u128(1)), Some(limit(Some(5.0), None)));
        assert_eq!(admitted(&limits, &caller(1, 9), 1, 10), 5 + 49);
        assert_eq!(admitted(&limits, &caller(2, 9), 1, 1), 100, "another token has no limit");
        limits.set(Subject::Workspace(WorkspaceId::from_u128(9)), Some(limit(None, Some(50.0))));
        let count = admitted(&limits, &caller(3, 9), 10, 10);
        assert!((50..=56).contains(&count), "{count} requests of 10 texts");
        // Slower than one a second.
        limits.set(Subject::Token(TokenId::from_u128(4)), Some(limit(Some(0.5), None)));
        assert_eq!(admitted(&limits, &caller(4, 8), 1, 10), 5);
    }

    #[test]
    fn a_large_request_is_answered_and_paid_for_by_those_after() {
        let limits = Limits::default();
        let subject = Subject::Token(TokenId::from_u128(1));
        limits.set(subject, Some(limit(None, Some(100.0))));
        let (caller, now) = (caller(1, 9), Instant::now());
        limits.admit(&caller, 1000, now).unwrap();
        match limits.admit(&caller, 1, now) {
            Err(ServingError::OverLimit { who: "token", what: "texts", wait, .. }) => {
                assert!((8.9..=9.1).contains(&wait.as_secs_f64()), "{wait:?}");
            }
            other => panic!("admitted: {other:?}"),
        }
        limits.admit(&caller, 1, now + Duration::from_millis(9_100)).unwrap();
        limits.set(subject, None);
        limits.admit(&caller, 1, now).unwrap();
        assert_eq!(limits.get(subject), None);
    }

    #[test]
    fn what_one_bucket_refuses_the_other_does_not_pay_for() {
        let limits = Limits::default();
        let token = Subject::Token(TokenId::from_u128(1));
        let workspace = Subject::Workspace(WorkspaceId::from_u128(9));
        limits.set(token, Some(limit(Some(1.0), None)));
        limits.set(workspace, Some(limit(Some(3.0), None)));
        let now = Instant::now();
        limits.admit(&caller(1, 9), 1, now).unwrap();
        for _ in 0..10 {
            assert!(limits.admit(&caller(1, 9), 1, now).is_err());
        }
        assert!(limits.admit(&caller(2, 9), 1, now).is_ok());
        assert!(limits.admit(&caller(3, 9), 1, now).is_ok());
        assert!(limits.admit(&caller(4, 9), 1, now).is_err(), "the workspace's third is over");
    }

    #[test]
    fn limits_read_back_and_wrong_ones_are_refused() {
        let mut kept = KeptLimits::default();
        kept.set(Subject::Token(TokenId::from_u128(1)), Some(limit(Some(5.0), None)));
        kept.set(Subject::Workspace(WorkspaceId::from_u128(2)), Some(limit(None, Some(7.5))));
        kept.set(Subject::Workspace(WorkspaceId::from_u128(3)), Some(limit(None, Some(7.5))));
        kept.set(Subject::Workspace(WorkspaceId::from_u128(3)), None);
        let json = serde_json::to_string(&kept).unwrap();
        let again: KeptLimits = serde_json::from_str(&json).unwrap();
        let limits = Limits::of(&again);
        let of =
            |subject| limits.get(subject).map(|it| (it.requests_per_second, it.texts_per_second));
        assert_eq!(of(Subject::Token(TokenId::from_u128(1))), Some((Some(5.0), None)));
        assert_eq!(of(Subject::Workspace(WorkspaceId::from_u128(2))), Some((None, Some(7.5))));
        assert_eq!(of(Subject::Workspace(WorkspaceId::from_u128(3))), None);
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(limit(Some(wrong), None).check().is_err(), "{wrong}");
        }
    }
}
