//! `corral deploy` and `corral endpoint`.

use clap::{Args, Subcommand, ValueEnum};
use corral_server::api::{
    AliasRequest, CanaryBody, DeployRequest, EndpointDetail, FixedLabelBody, KeepWarmBody,
    MirrorBody, Page, RequestCounts, ShareBody, SplitByBody, TrafficBody,
};
use corral_types::{ErrorKind, Failure};
use reqwest::Method;

use super::endpoint_drift::{self, DriftCommand, drift_text, standing_text};
use super::endpoint_log::{self, LogCommand, log_text};
use super::{Context, Versioned};
use crate::client::Client;
use crate::failure::refusal;
use crate::output::{fields, table};

#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The model, or NAME@VERSION
    #[arg(required_unless_present = "answer")]
    model: Option<Versioned>,
    /// The endpoint's name; one that is there gets a further version
    #[arg(long)]
    name: String,
    /// An alias to point at the new version
    #[arg(long)]
    alias: Option<String>,
    /// A class that is named for every text, in place of a model, such as spam or spam=0.9; may
    /// be given several times
    #[arg(long, value_name = "CLASS[=PROBABILITY]", conflicts_with = "model")]
    answer: Vec<FixedLabel>,
    /// Keep so many ready though nobody asks; `corral endpoint keep-warm` sets it by schedule
    #[arg(long, value_name = "NUMBER")]
    keep_warm: Option<u32>,
}

/// A class of a fixed answer, as written on the command line.
#[derive(Clone, Debug)]
struct FixedLabel(FixedLabelBody);

impl std::str::FromStr for FixedLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, probability) = match text.rsplit_once('=') {
            None => (text, None),
            Some((id, number)) => {
                let number = number.parse().map_err(|_| {
                    format!("`{number}` after `=` is not a probability, as in spam=0.9")
                })?;
                (id, Some(number))
            }
        };
        Ok(Self(FixedLabelBody { id: id.to_owned(), name: None, probability }))
    }
}

#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// List the endpoints
    Ls,
    /// Show an endpoint: its versions, aliases, traffic and what it was asked since the start
    Show { name: String },
    /// Remove an endpoint, or with NAME/VERSION one version of it; models stay
    Rm { name: String },
    /// Point an alias at a version
    Alias {
        name: String,
        alias: String,
        /// `latest`, a number, or another alias
        #[arg(value_name = "VERSION", required_unless_present = "rm")]
        to: Option<String>,
        /// Remove the alias
        #[arg(long, conflicts_with = "to")]
        rm: bool,
    },
    /// Lead the requests that name no version
    Traffic {
        name: String,
        /// `latest`, a number or an alias; or several with weights, such as stable=90 next=10
        #[arg(required = true)]
        versions: Vec<String>,
        /// What decides the side of a split
        #[arg(long, value_enum, default_value = "weight")]
        by: SplitBy,
    },
    /// Let a version take over step by step, and go back if it does worse
    Canary(CanaryArgs),
    /// Keep the models open though nobody asks, so that the first request does not wait
    KeepWarm {
        name: String,
        /// How many stand ready; 0 goes back to opening what is asked for
        #[arg(default_value_t = 1)]
        replicas: u32,
        /// A part of the week, such as 'mon-fri 08:00-18:00'; may be given several times
        #[arg(long, value_name = "DAYS FROM-TO")]
        window: Vec<String>,
        /// The time zone of the windows, such as Europe/Berlin
        #[arg(long, value_name = "ZONE", requires = "window")]
        time_zone: Option<String>,
    },
    /// Have a version asked as well, its answers compared and thrown away
    Mirror {
        name: String,
        /// `latest`, a number or an alias
        #[arg(value_name = "VERSION", required_unless_present = "off")]
        to: Option<String>,
        /// The part of the requests that it gets, such as 0.1
        #[arg(long, conflicts_with = "off")]
        share: Option<f64>,
        /// End mirroring
        #[arg(long, conflicts_with = "to")]
        off: bool,
    },
    /// Watch whether texts and answers are still like those of the training
    Drift {
        name: String,
        #[command(subcommand)]
        command: DriftCommand,
    },
    /// Keep requests and answers, masked, and make data sets of them
    Log {
        name: String,
        #[command(subcommand)]
        command: LogCommand,
    },
}

#[derive(Debug, Args)]
pub struct CanaryArgs {
    name: String,
    /// The version that shall take over
    #[arg(default_value = "latest")]
    to: String,
    /// The version that answers now; the one that gets all requests when absent
    #[arg(long)]
    from: Option<String>,
    /// The percentages of the requests that it gets, step after step
    #[arg(long, value_delimiter = ',', value_name = "PERCENT,…", default_value = "5,25,50")]
    steps: Vec<f64>,
    /// The requests that it answers on each step
    #[arg(long, default_value_t = 200)]
    requests: u32,
    /// What decides which requests it gets
    #[arg(long, value_enum, default_value = "weight")]
    by: SplitBy,
    /// What its rate of errors may be above that of the version before
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    error_rate_above: f64,
    /// What its 95th percentile of latency may be as a multiple of that of the version before
    #[arg(long, value_name = "RATIO", default_value_t = 3.0)]
    latency_ratio: f64,
    /// The least part of texts on which both shall give the same class
    #[arg(long, value_name = "RATE")]
    agreement: Option<f64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SplitBy {
    /// Each version gets its share of the requests
    Weight,
    /// The same key of a request goes to the same version
    Key,
}

impl From<SplitBy> for SplitByBody {
    fn from(by: SplitBy) -> Self {
        match by {
            SplitBy::Weight => Self::Weight,
            SplitBy::Key => Self::Key,
        }
    }
}

pub async fn deploy(args: DeployArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let answer: Vec<FixedLabelBody> = args.answer.into_iter().map(|label| label.0).collect();
    let deployment = DeployRequest {
        model: args.model.map(|model| model.written()),
        answer: (!answer.is_empty()).then_some(answer),
        alias: args.alias,
    };
    let request = client.request(Method::PUT, &["v1", "endpoints", &args.name]).json(&deployment);
    let mut detail: EndpointDetail = client.json(request).await?;
    if let Some(replicas) = args.keep_warm {
        let path = ["v1", "endpoints", &args.name, "keep-warm"];
        let body = KeepWarmBody { replicas: Some(replicas), windows: Vec::new(), time_zone: None };
        let request = match replicas {
            0 => client.request(Method::DELETE, &path),
            _ => client.request(Method::PUT, &path).json(&body),
        };
        detail = client.json(request).await?;
    }
    context.output.show(&detail, |detail| {
        let url = client.url(&["v1", "endpoints", &detail.name, "predict"]);
        let newest = detail.versions.last();
        let number = newest.map_or(0, |version| version.number);
        let follows = match &detail.traffic {
            TrafficBody::Latest => String::new(),
            traffic => format!("\nits traffic goes on to {}", traffic_text(traffic)),
        };
        let served = served(&detail.model, detail.version);
        format!("version {number} of {} answers with {served} at\n  {url}{follows}", detail.name)
    });
    Ok(())
}

pub async fn run(command: EndpointCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let path = |name: &str, rest: &[&str]| -> Vec<String> {
        let parts = ["v1", "endpoints", name].into_iter().chain(rest.iter().copied());
        parts.map(str::to_owned).collect()
    };
    let changed = |method: Method, path: Vec<String>| {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        client.request(method, &parts)
    };
    let request = match command {
        EndpointCommand::Ls => {
            let items = client.list::<EndpointDetail>(&["v1", "endpoints"]).await?;
            context.output.show(&Page { items, next: None }, |page| list_text(&page.items));
            return Ok(());
        }
        EndpointCommand::Rm { name } => {
            match name.split_once('/') {
                None => drop(client.send(changed(Method::DELETE, path(&name, &[]))).await?),
                Some((endpoint, version)) => {
                    let path = path(endpoint, &["versions", version]);
                    client.send(changed(Method::DELETE, path)).await?;
                }
            }
            eprintln!("removed the endpoint {name}");
            return Ok(());
        }
        EndpointCommand::Drift { name, command } => {
            return endpoint_drift::run(&name, command, context).await;
        }
        EndpointCommand::Log { name, command } => {
            return endpoint_log::run(&name, command, context).await;
        }
        EndpointCommand::Show { name } => changed(Method::GET, path(&name, &[])),
        EndpointCommand::Alias { name, alias, to, .. } => {
            let path = path(&name, &["aliases", &alias]);
            match to {
                Some(version) => changed(Method::PUT, path).json(&AliasRequest { version }),
                None => changed(Method::DELETE, path),
            }
        }
        EndpointCommand::Traffic { name, versions, by } => {
            let traffic = traffic(versions, by)?;
            changed(Method::PUT, path(&name, &["traffic"])).json(&traffic)
        }
        EndpointCommand::Canary(args) => {
            let canary = TrafficBody::Canary(CanaryBody {
                from: args.from,
                to: Some(args.to),
                by: args.by.into(),
                steps: Some(args.steps),
                step: 0,
                requests_per_step: Some(args.requests),
                error_rate_above: Some(args.error_rate_above),
                latency_ratio: Some(args.latency_ratio),
                agreement: args.agreement,
            });
            changed(Method::PUT, path(&args.name, &["traffic"])).json(&canary)
        }
        EndpointCommand::KeepWarm { name, replicas, window, time_zone } => {
            let path = path(&name, &["keep-warm"]);
            let body = KeepWarmBody { replicas: Some(replicas), windows: window, time_zone };
            match replicas {
                0 => changed(Method::DELETE, path),
                _ => changed(Method::PUT, path).json(&body),
            }
        }
        EndpointCommand::Mirror { name, to, share, .. } => {
            let path = path(&name, &["mirror"]);
            match to {
                Some(version) => changed(Method::PUT, path).json(&MirrorBody { version, share }),
                None => changed(Method::DELETE, path),
            }
        }
    };
    let detail: EndpointDetail = client.json(request).await?;
    context.output.show(&detail, |detail| detail_text(&client, detail));
    Ok(())
}

/// One version, or several with weights.
fn traffic(versions: Vec<String>, by: SplitBy) -> anyhow::Result<TrafficBody> {
    if let [version] = versions.as_slice()
        && !version.contains('=')
    {
        let version = version.clone();
        return Ok(match version.as_str() {
            "latest" => TrafficBody::Latest,
            _ => TrafficBody::To { version },
        });
    }
    let share = |text: &String| {
        let share = text.split_once('=').and_then(|(version, weight)| {
            Some(ShareBody { version: version.to_owned(), weight: weight.parse().ok()? })
        });
        share.ok_or_else(|| {
            let message = format!("`{text}` is not a version with a weight, as in stable=90");
            refusal(Failure::new(ErrorKind::Invalid, message))
        })
    };
    let shares = versions.iter().map(share).collect::<anyhow::Result<_>>()?;
    Ok(TrafficBody::Split { by: by.into(), shares })
}

fn list_text(endpoints: &[EndpointDetail]) -> String {
    let rows = endpoints.iter().map(|endpoint| {
        [
            endpoint.name.clone(),
            endpoint.versions.len().to_string(),
            served(&endpoint.model, endpoint.version),
            traffic_text(&endpoint.traffic),
            endpoint.updated.clone(),
        ]
    });
    table(["name", "#versions", "newest", "traffic", "updated"], rows)
}

fn detail_text(client: &Client, detail: &EndpointDetail) -> String {
    let mut pairs = vec![
        ("endpoint", detail.name.clone()),
        ("url", client.url(&["v1", "endpoints", &detail.name, "predict"]).to_string()),
        ("traffic", traffic_text(&detail.traffic)),
    ];
    if let Some(mirror) = &detail.mirror {
        let percent = 100.0 * mirror.share.unwrap_or(1.0);
        pairs.push(("mirror", format!("{percent} % to {}", mirror.version)));
    }
    if let Some(keep_warm) = &detail.keep_warm {
        pairs.push(("keep warm", keep_warm_text(keep_warm)));
    }
    if let Some(log) = &detail.log {
        pairs.push(("log", log_text(log)));
    }
    if let Some(drift) = &detail.drift {
        pairs.push(("drift", drift_text(drift)));
    }
    if let Some(end) = &detail.last_canary {
        let what = match &end.why {
            None => format!("{} took over from {}", end.to, end.from),
            Some(why) => format!("{} went back to {}: {why}", end.to, end.from),
        };
        pairs.push(("last canary", what));
    }
    pairs.push(("created", detail.created.clone()));
    pairs.push(("updated", detail.updated.clone()));
    let rows = detail.versions.iter().rev().map(|version| {
        let aliases = detail.aliases.iter().filter(|(_, number)| **number == version.number);
        let aliases: Vec<&str> = aliases.map(|(alias, _)| alias.as_str()).collect();
        let count =
            |of: fn(&RequestCounts) -> String| version.counts.as_ref().map_or_else(String::new, of);
        [
            version.number.to_string(),
            served(&version.model, version.model_version),
            aliases.join(", "),
            version.created.clone(),
            count(|counts| counts.requests.to_string()),
            count(|counts| counts.errors.to_string()),
            count(|counts| counts.texts.to_string()),
            count(|counts| milliseconds(counts.p50_ms)),
            count(|counts| milliseconds(counts.p99_ms)),
        ]
    });
    let headers = [
        "#version",
        "answers with",
        "aliases",
        "created",
        "#requests",
        "#errors",
        "#texts",
        "#p50 ms",
        "#p99 ms",
    ];
    let versions = table(headers, rows);
    let standings = detail.versions.iter().rev().filter_map(|version| {
        let drift = version.drift.as_ref()?;
        Some(format!("\ndrift of version {}: {}", version.number, standing_text(drift)))
    });
    format!("{}\n{versions}{}", fields(pairs), standings.collect::<String>())
}

fn keep_warm_text(keep_warm: &KeepWarmBody) -> String {
    let replicas = keep_warm.replicas.unwrap_or(1);
    let when = match &keep_warm.windows[..] {
        [] => "always".to_owned(),
        windows => {
            let zone = keep_warm.time_zone.as_deref().unwrap_or("UTC");
            format!("{} ({zone})", windows.join(", "))
        }
    };
    format!("{replicas}, {when}")
}

fn milliseconds(time: Option<f64>) -> String {
    time.map_or_else(String::new, |time| format!("{time:.2}"))
}

fn served(model: &Option<String>, version: Option<u32>) -> String {
    match (model, version) {
        (Some(model), Some(version)) => format!("{model}@{version}"),
        _ => "a fixed answer".to_owned(),
    }
}

fn traffic_text(traffic: &TrafficBody) -> String {
    match traffic {
        TrafficBody::Latest => "the newest version".to_owned(),
        TrafficBody::To { version } => format!("version {version}"),
        TrafficBody::Split { by, shares } => {
            let total: u32 = shares.iter().map(|share| share.weight).sum();
            let percent = |weight: u32| 100.0 * f64::from(weight) / f64::from(total.max(1));
            let sides = shares
                .iter()
                .map(|share| format!("{:.1} % {}", percent(share.weight), share.version));
            let sides: Vec<String> = sides.collect();
            let by = match by {
                SplitByBody::Weight => "",
                SplitByBody::Key => ", by key",
            };
            format!("{}{by}", sides.join(", "))
        }
        TrafficBody::Canary(canary) => {
            let name = |version: &Option<String>| version.clone().unwrap_or_default();
            let steps = canary.steps.clone().unwrap_or_default();
            let percent = steps.get(canary.step).copied().unwrap_or_default();
            format!(
                "canary: {percent} % to version {} (step {} of {}), the rest to version {}",
                name(&canary.to),
                canary.step + 1,
                steps.len(),
                name(&canary.from)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_one_version_or_several_with_weights() {
        let text = |versions: &[&str]| {
            let versions = versions.iter().map(|text| (*text).to_owned()).collect();
            traffic(versions, SplitBy::Key).map(|traffic| traffic_text(&traffic))
        };
        assert_eq!(text(&["latest"]).unwrap(), "the newest version");
        assert_eq!(text(&["stable"]).unwrap(), "version stable");
        let split = text(&["stable=90", "3=30"]).unwrap();
        assert_eq!(split, "75.0 % stable, 25.0 % 3, by key");
        for wrong in [&["stable=x"][..], &["stable=9", "next"], &["a", "b"]] {
            assert!(text(wrong).is_err(), "{wrong:?}");
        }
    }
}
