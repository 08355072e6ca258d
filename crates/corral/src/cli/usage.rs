//! `corral usage`.

use clap::{Args, ValueEnum};
use corral_server::api::{UsageAnswer, UsageQuery};

use super::Context;
use super::train::parse_seconds;
use crate::output::table;

#[derive(Debug, Args)]
pub struct UsageArgs {
    /// One endpoint; all of the workspace when absent
    endpoint: Option<String>,
    /// How far back, such as 12h or 7d
    #[arg(long, value_name = "TIME", default_value = "30d")]
    since: String,
    /// Sums for each of these, in UTC, in place of the total
    #[arg(long, value_enum)]
    by: Option<Span>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Span {
    Hour,
    Day,
}

pub async fn run(args: UsageArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let query = UsageQuery {
        endpoint: args.endpoint,
        since_seconds: Some(parse_seconds(&args.since)?),
        by: args.by.map(|span| match span {
            Span::Hour => "hour".to_owned(),
            Span::Day => "day".to_owned(),
        }),
    };
    let answer: UsageAnswer = client.json(client.get(&["v1", "usage"]).query(&query)).await?;
    context.output.show(&answer, text);
    Ok(())
}

/// A table; with the cost where there are prices.
fn text(answer: &UsageAnswer) -> String {
    let rows = answer.items.iter().map(|used| {
        let from = used.from.as_ref().unwrap_or(&answer.since);
        let row = [
            from.replace('T', " ").chars().take("2026-11-20 23:59".len()).collect(),
            used.endpoint.clone(),
            used.requests.to_string(),
            used.errors.to_string(),
            used.texts.to_string(),
            format!("{:.3}", used.core_seconds),
            format!("{:.6}", used.memory_gib_hours),
        ];
        (row, used.cost)
    });
    let headers = ["from", "endpoint", "#requests", "#errors", "#texts", "#core s", "#gib h"];
    if answer.cpu_hour_price.is_none() && answer.gib_hour_price.is_none() {
        return table(headers, rows.map(|(row, _)| row));
    }
    let [a, b, c, d, e, f, g] = headers;
    let rows = rows.map(|([a, b, c, d, e, f, g], cost)| {
        [a, b, c, d, e, f, g, cost.map_or_else(String::new, |cost| format!("{cost:.6}"))]
    });
    table([a, b, c, d, e, f, g, "#cost"], rows)
}
