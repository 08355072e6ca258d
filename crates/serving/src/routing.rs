//! Which version of an endpoint a request reaches: what people set, as it is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use corral_types::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::RoutingError;
use crate::canary::{Bounds, GoneBack};
use crate::keep_warm::KeepWarm;

/// Names that an alias may not have, since they stand for other things in a path.
const RESERVED: [&str; 7] =
    ["latest", "predict", "aliases", "versions", "traffic", "mirror", "keep-warm"];

/// The most aliases of an endpoint.
pub const MAX_ALIASES: usize = 100;
/// The most sides of a split, and steps of a canary.
pub const MAX_SHARES: usize = 32;

/// A version of an endpoint, as people name it: `latest`, `3`, or an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Latest,
    Version(u32),
    Alias(Name),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Version(number) => write!(f, "{number}"),
            Self::Alias(name) => write!(f, "{name}"),
        }
    }
}

impl FromStr for Selector {
    type Err = RoutingError;

    fn from_str(text: &str) -> Result<Self, RoutingError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.parse().map_err(|_| RoutingError::NoVersion(text.to_owned()))?;
            return Ok(Self::Version(number));
        }
        alias(text).map(Self::Alias)
    }
}

/// A name that an alias may have.
///
/// # Errors
/// When it is no name, all digits, or stands for something else.
pub fn alias(text: &str) -> Result<Name, RoutingError> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || RESERVED.contains(&text) {
        return Err(RoutingError::Alias(text.to_owned()));
    }
    text.parse().map_err(RoutingError::Name)
}

impl Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What decides which side of a split a request falls to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Each side gets its share of the requests, whoever sends them.
    #[default]
    Weight,
    /// A request's key: the same key goes to the same side. One without a key is dealt by weight.
    Key,
}

/// A side of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub version: Selector,
    /// What it gets, against the sum of all.
    pub weight: u32,
}

/// Where requests go that name no version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Traffic {
    /// To the newest version, from the moment it exists.
    #[default]
    Latest,
    To {
        version: Selector,
    },
    Split {
        #[serde(default)]
        by: SplitBy,
        shares: Vec<Share>,
    },
    Canary(Canary),
}

/// A version that takes over step by step, or goes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The version that answers now.
    pub from: u32,
    /// The version that shall take over.
    pub to: u32,
    #[serde(default)]
    pub by: SplitBy,
    /// The parts of the requests that it gets, in percent, one step after the other.
    pub steps: Vec<f64>,
    /// The step it stands on, counted from 0.
    #[serde(default)]
    pub step: usize,
    /// The requests that it answers before the next step.
    pub requests_per_step: u32,
    pub bounds: Bounds,
}

/// How the last canary ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryEnd {
    pub from: u32,
    pub to: u32,
    /// Why it went back; absent where it took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_back: Option<GoneBack>,
    pub at: Timestamp,
}

/// A version that is asked as well, whose answers are compared and thrown away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    pub version: Selector,
    /// The part of the requests that it gets, above 0 and at most 1.
    pub share: f64,
}

/// Everything that people set of an endpoint's routing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<Name, u32>,
    #[serde(default)]
    pub traffic: Traffic,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_canary: Option<CanaryEnd>,
    /// Opened when it is asked for, and closed when it was not for a while, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_warm: Option<KeepWarm>,
}

impl Routing {
    /// Reads a kept routing; one that was never set is the usual one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        if json.is_empty() { Ok(Self::default()) } else { serde_json::from_str(json) }
    }

    /// The number of a version, among those there are, oldest first.
    ///
    /// # Errors
    /// When there is no such version or alias.
    pub fn number(&self, selector: &Selector, versions: &[u32]) -> Result<u32, RoutingError> {
        let number = match selector {
            Selector::Latest => versions.last().copied(),
            Selector::Version(number) => Some(*number),
            Selector::Alias(name) => {
                let number = self.aliases.get(name).copied();
                Some(number.ok_or_else(|| self.no_alias(name))?)
            }
        };
        number
            .filter(|number| versions.binary_search(number).is_ok())
            .ok_or_else(|| RoutingError::NoVersion(selector.to_string()))
    }

    fn no_alias(&self, name: &Name) -> RoutingError {
        let known = self.aliases.keys().map(Name::to_string).collect();
        RoutingError::NoAlias { name: name.to_string(), known }
    }

    /// Checks that everything it names is there and every number is one.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, versions: &[u32]) -> Result<(), RoutingError> {
        if self.aliases.len() > MAX_ALIASES {
            return Err(RoutingError::TooManyAliases);
        }
        for number in self.aliases.values() {
            self.number(&Selector::Version(*number), versions)?;
        }
        match &self.traffic {
            Traffic::Latest => {}
            Traffic::To { version } => drop(self.number(version, versions)?),
            Traffic::Split { shares, .. } => self.check_shares(shares, versions)?,
            Traffic::Canary(canary) => self.check_canary(canary, versions)?,
        }
        if let Some(keep_warm) = &self.keep_warm {
            keep_warm.check()?;
        }
        if let Some(mirror) = &self.mirror {
            self.number(&mirror.version, versions)?;
            if !(mirror.share > 0.0 && mirror.share <= 1.0) {
                return Err(RoutingError::MirrorShare(mirror.share));
            }
        }
        Ok(())
    }

    fn check_shares(&self, shares: &[Share], versions: &[u32]) -> Result<(), RoutingError> {
        if !(1..=MAX_SHARES).contains(&shares.len()) {
            return Err(RoutingError::Shares { found: shares.len() });
        }
        if shares.iter().all(|share| share.weight == 0) {
            return Err(RoutingError::NoWeight);
        }
        shares.iter().try_for_each(|share| self.number(&share.version, versions).map(drop))
    }

    fn check_canary(&self, canary: &Canary, versions: &[u32]) -> Result<(), RoutingError> {
        for number in [canary.from, canary.to] {
            self.number(&Selector::Version(number), versions)?;
        }
        if canary.from == canary.to {
            return Err(RoutingError::CanaryOfItself(canary.to));
        }
        let rises = canary.steps.is_sorted_by(|a, b| a < b);
        let is_share = |percent: &f64| *percent > 0.0 && *percent < 100.0;
        let is_count = (1..=MAX_SHARES).contains(&canary.steps.len());
        if !rises || !is_count || !canary.steps.iter().all(is_share) {
            return Err(RoutingError::CanarySteps);
        }
        if canary.step >= canary.steps.len() || canary.requests_per_step == 0 {
            return Err(RoutingError::CanaryRequests);
        }
        canary.bounds.check()
    }

    /// Whether something sends requests to this version by its number or an alias, and what.
    pub fn use_of(&self, number: u32, versions: &[u32]) -> Option<String> {
        let is_it =
            |selector: &Selector| self.number(selector, versions).is_ok_and(|it| it == number);
        if let Some((alias, _)) = self.aliases.iter().find(|(_, it)| **it == number) {
            return Some(format!("the alias `{alias}`"));
        }
        let in_traffic = match &self.traffic {
            Traffic::Latest => is_it(&Selector::Latest),
            Traffic::To { version } => is_it(version),
            Traffic::Split { shares, .. } => shares.iter().any(|share| is_it(&share.version)),
            Traffic::Canary(canary) => [canary.from, canary.to].contains(&number),
        };
        if in_traffic {
            return Some("the endpoint's traffic".to_owned());
        }
        let mirror = self.mirror.as_ref();
        mirror.filter(|mirror| is_it(&mirror.version)).map(|_| "the mirror".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        text.parse().unwrap()
    }

    #[test]
    fn selectors_read_back_and_others_are_refused() {
        for good in ["latest", "1", "4294967295", "stable", "v1.2", "2-b"] {
            assert_eq!(selector(good).to_string(), good);
        }
        for bad in ["", "4294967296", "Stable", "a b", "predict", "aliases", "traffic"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        assert!(alias("12").is_err());
        assert!(alias("latest").is_err());
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let aliases: BTreeMap<Name, u32> = [("stable".parse().unwrap(), 2)].into();
        let routing = |traffic| Routing { aliases: aliases.clone(), traffic, ..Routing::default() };
        let share = |text: &str, weight| Share { version: selector(text), weight };
        let split = |shares| routing(Traffic::Split { by: SplitBy::Key, shares });
        let versions = [2, 3];
        let check = |routing: Routing| routing.check(&versions);
        check(split(vec![share("stable", 1), share("3", 0), share("latest", 9)])).unwrap();
        assert!(matches!(check(split(vec![])), Err(RoutingError::Shares { found: 0 })));
        assert!(matches!(check(split(vec![share("3", 0)])), Err(RoutingError::NoWeight)));
        assert!(matches!(check(split(vec![share("1", 1)])), Err(RoutingError::NoVersion(_))));
        let unknown = check(split(vec![share("next", 1)]));
        assert!(matches!(unknown, Err(RoutingError::NoAlias { .. })));
        let gone = Routing { aliases: [("old".parse().unwrap(), 1)].into(), ..Routing::default() };
        assert!(matches!(check(gone), Err(RoutingError::NoVersion(_))));
        for share in [0.0, 1.5, f64::NAN] {
            let mirror = Some(Mirror { version: selector("3"), share });
            let mirrored = Routing { mirror, ..Routing::default() };
            assert!(matches!(check(mirrored), Err(RoutingError::MirrorShare(_))), "{share}");
        }
        let canary = Canary {
            from: 2,
            to: 3,
            by: SplitBy::Weight,
            steps: vec![5.0, 50.0],
            step: 0,
            requests_per_step: 10,
            bounds: Bounds::default(),
        };
        check(routing(Traffic::Canary(canary.clone()))).unwrap();
        for steps in [vec![], vec![5.0, 5.0], vec![0.0], vec![100.0], vec![f64::NAN]] {
            let wrong = Canary { steps: steps.clone(), ..canary.clone() };
            let found = check(routing(Traffic::Canary(wrong)));
            assert!(matches!(found, Err(RoutingError::CanarySteps)), "{steps:?}");
        }
    }

    #[test]
    fn uses_of_versions_are_found() {
        let mut routing = Routing::default();
        routing.aliases.insert("stable".parse().unwrap(), 1);
        routing.traffic = Traffic::To { version: selector("latest") };
        routing.mirror = Some(Mirror { version: selector("2"), share: 1.0 });
        let versions = [1, 2, 3, 4];
        let uses: Vec<_> = versions.map(|number| routing.use_of(number, &versions)).into();
        let text = |text: &str| Some(text.to_owned());
        let traffic = text("the endpoint's traffic");
        assert_eq!(uses, [text("the alias `stable`"), text("the mirror"), None, traffic]);
    }

    #[test]
    fn a_routing_reads_back_and_its_json_stays() {
        let json = r#"{"aliases":{"stable":1},"traffic":{"kind":"canary","from":1,"to":2,"by":"key","steps":[5.0,50.0],"step":1,"requests_per_step":200,"bounds":{"error_rate_above":0.01,"latency_ratio":2.0,"agreement":0.9}},"mirror":{"version":"latest","share":0.5}}"#;
        let routing = Routing::parse(json).unwrap();
        assert_eq!(serde_json::to_string(&routing).unwrap(), json);
        assert_eq!(Routing::parse("").unwrap(), Routing::default());
        assert!(Routing::parse("{\"traffic\":{\"kind\":\"elsewhere\"}}").is_err());
    }
}
