//! Endpoints: versions, aliases and where requests go.

use std::collections::BTreeMap;

use corral_serving::{
    Bounds, CanaryEnd, Endpoint, FixedAnswer, FixedLabel, GoneBack, KeepWarm, RoutingError,
    Schedule, Selector, SplitBy, Traffic, Window,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a new version of an endpoint answers with: a model, or the same for every text.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// A model's name, with `@version` for one that is not the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The classes that are named for every text, in place of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Vec<FixedLabelBody>>,
    /// An alias to point at the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

/// A class of a fixed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedLabelBody {
    pub id: String,
    /// The id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointDetail {
    pub name: String,
    pub id: String,
    /// The model of the newest version, and which version of it; absent where that answer is
    /// fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    pub created: String,
    pub updated: String,
    /// The path at which it answers.
    pub path: String,
    /// Oldest first.
    pub versions: Vec<EndpointVersionDetail>,
    /// Aliases and the versions they stand for.
    pub aliases: BTreeMap<String, u32>,
    pub traffic: TrafficBody,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorBody>,
    /// What is kept of its requests and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<super::LogBody>,
    /// How it is watched for drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<super::DriftBody>,
    /// How the last canary ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_canary: Option<CanaryEndDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_warm: Option<KeepWarmBody>,
}

/// That the models of an endpoint's traffic are kept open though nobody asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepWarmBody {
    /// How many stand ready; 1 when absent. A model that the server answers with by itself
    /// serves all requests from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Parts of the week, such as `mon-fri 08:00-18:00`; always when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<String>,
    /// The IANA time zone of the windows, such as `Europe/Berlin`; `UTC` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A version of an endpoint, which never changes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointVersionDetail {
    pub number: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u32>,
    pub created: String,
    /// What it was asked since the server's start; absent in lists, and where that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<super::RequestCounts>,
    /// How its recent requests compare with its training, where that is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<super::DriftDetail>,
}

/// The version that an alias shall stand for: `latest`, a number, or another alias.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    pub version: String,
}

/// What decides which side of a split a request falls to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitByBody {
    /// Each side gets its share of the requests.
    #[default]
    Weight,
    /// The request's `key`: the same key goes to the same side.
    Key,
}

/// A side of a split.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareBody {
    /// `latest`, a number, or an alias.
    pub version: String,
    /// What it gets, against the sum of all.
    pub weight: u32,
}

/// Where requests go that name no version.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TrafficBody {
    /// To the newest version.
    Latest,
    /// To a version, or wherever an alias points.
    To { version: String },
    /// To several versions by their shares.
    Split {
        #[serde(default)]
        by: SplitByBody,
        shares: Vec<ShareBody>,
    },
    /// To a version that takes over step by step, or goes back when it does worse.
    Canary(CanaryBody),
}

/// A version that takes over step by step.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryBody {
    /// The version that answers now; when absent the one that gets all requests, or the one
    /// before the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The version that shall take over; the newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(default)]
    pub by: SplitByBody,
    /// The percentages of the requests that it gets, step after step; 5, 25 and 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<f64>>,
    /// The step it stands on, counted from 0.
    #[serde(default)]
    pub step: usize,
    /// The requests that it answers on each step; 200 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_step: Option<u32>,
    /// What its rate of errors may be above the other's; 0.01 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate_above: Option<f64>,
    /// What its 95th percentile of latency may be as a multiple of the other's; 3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ratio: Option<f64>,
    /// The least part of texts on which both shall agree; with it, the other is asked as well for
    /// every request that the new one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// A version that is asked as well, its answers compared and thrown away.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorBody {
    /// `latest`, a number, or an alias.
    pub version: String,
    /// The part of the requests that it gets, above 0 and at most 1; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// How a canary ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CanaryEndDetail {
    pub from: u32,
    pub to: u32,
    pub took_over: bool,
    /// Why it went back, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub at: String,
}

/// Steps of a canary where none are given.
const USUAL_STEPS: [f64; 3] = [5.0, 25.0, 50.0];
/// Requests of a step: with them a rate of errors of one in a hundred shows.
const USUAL_REQUESTS: u32 = 200;

impl From<SplitByBody> for SplitBy {
    fn from(body: SplitByBody) -> Self {
        match body {
            SplitByBody::Weight => Self::Weight,
            SplitByBody::Key => Self::Key,
        }
    }
}

impl From<SplitBy> for SplitByBody {
    fn from(by: SplitBy) -> Self {
        match by {
            SplitBy::Weight => Self::Weight,
            SplitBy::Key => Self::Key,
        }
    }
}

impl FixedLabelBody {
    /// The answer of a version without a model.
    pub fn answer(labels: Vec<Self>) -> FixedAnswer {
        let label = |Self { id, name, probability }| {
            let probability = probability.unwrap_or(1.0);
            FixedLabel { id, name, probability }
        };
        FixedAnswer { labels: labels.into_iter().map(label).collect() }
    }
}

impl TrafficBody {
    /// What is asked for, on an endpoint with this traffic and these versions, oldest first.
    ///
    /// # Errors
    /// When a version is none.
    pub fn traffic(
        self,
        routing: &corral_serving::Routing,
        versions: &[u32],
    ) -> Result<Traffic, RoutingError> {
        Ok(match self {
            Self::Latest => Traffic::Latest,
            Self::To { version } => Traffic::To { version: version.parse()? },
            Self::Split { by, shares } => {
                let share = |share: ShareBody| {
                    let version = share.version.parse()?;
                    Ok(corral_serving::Share { version, weight: share.weight })
                };
                let shares = shares.into_iter().map(share).collect::<Result<_, _>>()?;
                Traffic::Split { by: by.into(), shares }
            }
            Self::Canary(body) => Traffic::Canary(body.canary(routing, versions)?),
        })
    }
}

impl CanaryBody {
    fn canary(
        self,
        routing: &corral_serving::Routing,
        versions: &[u32],
    ) -> Result<corral_serving::Canary, RoutingError> {
        let number = |text: &str| routing.number(&text.parse()?, versions);
        let to = number(self.to.as_deref().unwrap_or("latest"))?;
        let from = match self.from {
            Some(from) => number(&from)?,
            None => answering(routing, to, versions)?,
        };
        let usual = Bounds::default();
        Ok(corral_serving::Canary {
            from,
            to,
            by: self.by.into(),
            steps: self.steps.unwrap_or_else(|| USUAL_STEPS.to_vec()),
            step: self.step,
            requests_per_step: self.requests_per_step.unwrap_or(USUAL_REQUESTS),
            bounds: Bounds {
                error_rate_above: self.error_rate_above.unwrap_or(usual.error_rate_above),
                latency_ratio: self.latency_ratio.unwrap_or(usual.latency_ratio),
                agreement: self.agreement,
            },
        })
    }
}

/// The version that all requests go to now, if it is not the one that shall take over; else the
/// one before that.
fn answering(
    routing: &corral_serving::Routing,
    to: u32,
    versions: &[u32],
) -> Result<u32, RoutingError> {
    let now = match &routing.traffic {
        Traffic::Latest => Selector::Latest,
        Traffic::To { version } => version.clone(),
        Traffic::Split { .. } | Traffic::Canary(_) => return Err(RoutingError::CanaryFrom),
    };
    let now = routing.number(&now, versions)?;
    if now != to {
        return Ok(now);
    }
    let before = versions.iter().rev().find(|number| **number < to).copied();
    before.ok_or(RoutingError::CanaryFrom)
}

impl From<&Traffic> for TrafficBody {
    fn from(traffic: &Traffic) -> Self {
        match traffic {
            Traffic::Latest => Self::Latest,
            Traffic::To { version } => Self::To { version: version.to_string() },
            Traffic::Split { by, shares } => {
                let share = |share: &corral_serving::Share| ShareBody {
                    version: share.version.to_string(),
                    weight: share.weight,
                };
                Self::Split { by: (*by).into(), shares: shares.iter().map(share).collect() }
            }
            Traffic::Canary(canary) => Self::Canary(CanaryBody {
                from: Some(canary.from.to_string()),
                to: Some(canary.to.to_string()),
                by: canary.by.into(),
                steps: Some(canary.steps.clone()),
                step: canary.step,
                requests_per_step: Some(canary.requests_per_step),
                error_rate_above: Some(canary.bounds.error_rate_above),
                latency_ratio: Some(canary.bounds.latency_ratio),
                agreement: canary.bounds.agreement,
            }),
        }
    }
}

impl KeepWarmBody {
    /// # Errors
    /// When a window is none.
    pub fn read(self) -> Result<KeepWarm, RoutingError> {
        let windows = self.windows.iter().map(|window| window.parse());
        let windows: Vec<Window> = windows.collect::<Result<_, _>>()?;
        let time_zone = self.time_zone.unwrap_or_else(|| "UTC".to_owned());
        let schedule = (!windows.is_empty()).then_some(Schedule { time_zone, windows });
        Ok(KeepWarm { replicas: self.replicas.unwrap_or(1), schedule })
    }
}

impl From<&KeepWarm> for KeepWarmBody {
    fn from(keep_warm: &KeepWarm) -> Self {
        let schedule = keep_warm.schedule.as_ref();
        let windows = schedule.into_iter().flat_map(|schedule| &schedule.windows);
        Self {
            replicas: Some(keep_warm.replicas),
            windows: windows.map(Window::to_string).collect(),
            time_zone: schedule.map(|schedule| schedule.time_zone.clone()),
        }
    }
}

impl From<&CanaryEnd> for CanaryEndDetail {
    fn from(end: &CanaryEnd) -> Self {
        let percent = |rate: f64| format!("{:.1} %", 100.0 * rate);
        let why = end.gone_back.map(|gone_back| match gone_back {
            GoneBack::Errors { rate, before } => {
                let (rate, before) = (percent(rate), percent(before));
                format!("{rate} of its requests failed, {before} of those of the version before")
            }
            GoneBack::Latency { p95_ms, before_ms } => format!(
                "95 % of its requests took up to {p95_ms:.2} ms, those of the version before up to {before_ms:.2} ms"
            ),
            GoneBack::Agreement { rate } => {
                format!("it gave {} of the texts the same class as the version before", percent(rate))
            }
        });
        Self { from: end.from, to: end.to, took_over: why.is_none(), why, at: end.at.to_string() }
    }
}

impl From<&Endpoint> for EndpointDetail {
    fn from(endpoint: &Endpoint) -> Self {
        let Endpoint { record, routing, observing } = endpoint;
        let versions: Vec<EndpointVersionDetail> =
            record.versions.iter().map(EndpointVersionDetail::from).collect();
        let latest = EndpointVersionDetail::from(record.latest());
        Self {
            name: record.name.to_string(),
            id: record.id.to_string(),
            model: latest.model,
            version: latest.model_version,
            created: record.created.to_string(),
            updated: record.updated.to_string(),
            path: format!("/v1/endpoints/{}/predict", record.name),
            versions,
            aliases: routing.aliases.iter().map(|(name, it)| (name.to_string(), *it)).collect(),
            traffic: TrafficBody::from(&routing.traffic),
            mirror: routing.mirror.as_ref().map(|mirror| MirrorBody {
                version: mirror.version.to_string(),
                share: Some(mirror.share),
            }),
            log: observing.log.as_ref().map(super::LogBody::from),
            drift: observing.drift.as_ref().map(super::DriftBody::from),
            last_canary: routing.last_canary.as_ref().map(CanaryEndDetail::from),
            keep_warm: routing.keep_warm.as_ref().map(KeepWarmBody::from),
        }
    }
}

impl From<&corral_catalog::EndpointVersion> for EndpointVersionDetail {
    fn from(version: &corral_catalog::EndpointVersion) -> Self {
        let (model, model_version) = match &version.serves {
            corral_catalog::Served::Model { name, version } => {
                (Some(name.to_string()), Some(version.number))
            }
            corral_catalog::Served::Fixed { .. } => (None, None),
        };
        let created = version.created.to_string();
        Self { number: version.number, model, model_version, created, counts: None, drift: None }
    }
}
