//! `corral endpoint drift`.

use clap::Subcommand;
use corral_server::api::{DriftBody, DriftDetail, EndpointDetail};
use reqwest::Method;

use super::Context;
use crate::output::fields;

#[derive(Debug, Subcommand)]
pub enum DriftCommand {
    /// Compare recent requests with the training; what is not said stays as it was
    On {
        /// The largest population stability index that is within [default: 0.25]
        #[arg(long)]
        bound: Option<f64>,
        /// Recent texts that are compared [default: 1000]
        #[arg(long, value_name = "TEXTS")]
        window: Option<u32>,
        /// A URL that is posted to when the bound is passed
        #[arg(long, value_name = "URL")]
        webhook: Option<String>,
        /// Signs what is posted, by HMAC-SHA256
        #[arg(
            long,
            env = "CORRAL_WEBHOOK_SECRET",
            hide_env_values = true,
            conflicts_with = "no_webhook"
        )]
        webhook_secret: Option<String>,
        /// Tell nobody
        #[arg(long, conflicts_with = "webhook")]
        no_webhook: bool,
    },
    /// Compare no more
    Off,
}

pub async fn run(name: &str, command: DriftCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let path = ["v1", "endpoints", name, "drift"];
    let request = match command {
        DriftCommand::On { bound, window, webhook, webhook_secret, no_webhook } => {
            let body = DriftBody {
                bound,
                window_texts: window,
                webhook: webhook.or_else(|| no_webhook.then(String::new)),
                webhook_secret,
                is_signed: None,
            };
            client.request(Method::PUT, &path).json(&body)
        }
        DriftCommand::Off => client.request(Method::DELETE, &path),
    };
    let detail: EndpointDetail = client.json(request).await?;
    context.output.show(&detail, |detail| match &detail.drift {
        Some(drift) => fields([("drift", drift_text(drift))]),
        None => format!("the requests of {name} are compared no more"),
    });
    Ok(())
}

/// What is watched, in a few words.
pub fn drift_text(drift: &DriftBody) -> String {
    let mut words = vec![format!(
        "bound {}, {} texts a window",
        drift.bound.unwrap_or_default(),
        drift.window_texts.unwrap_or_default()
    )];
    words.extend(drift.webhook.as_ref().map(|url| match drift.is_signed {
        Some(true) => format!("tells {url}, signed"),
        _ => format!("tells {url}"),
    }));
    words.join("; ")
}

/// How a version stands, in a line.
pub fn standing_text(drift: &DriftDetail) -> String {
    let mut words = match (drift.state.as_str(), &drift.why) {
        ("no_reference", Some(why)) => vec![format!("no reference: {why}")],
        ("waiting", _) => vec![format!("waiting, {} texts so far", drift.texts)],
        (state, _) => vec![state.to_owned()],
    };
    let distances = drift.distances.iter().map(|(name, it)| format!("{name} {it:.3}"));
    words.extend(distances);
    words.extend(drift.alarm.as_ref().map(|alarm| format!("webhook: {alarm}")));
    words.join("; ")
}
