//! `corral usage`.

use clap::{Args, ValueEnum};
use corral_server::api::{FunctionUsageDetail, JobUsageDetail, UsageAnswer, UsageQuery};

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

/// What was asked for, one table for each kind of thing that used something.
fn text(answer: &UsageAnswer) -> String {
    let mut tables = Vec::new();
    if !answer.items.is_empty() || (answer.functions.is_empty() && answer.jobs.is_empty()) {
        tables.push(endpoints(answer));
    }
    let has_prices = has_prices(answer);
    if !answer.functions.is_empty() {
        let table = functions(&answer.functions, has_prices);
        tables.push(format!("functions, since each was first defined\n{table}"));
    }
    if !answer.jobs.is_empty() {
        let table = jobs(&answer.jobs, has_prices);
        tables.push(format!("jobs, since {}\n{table}", answer.since));
    }
    tables.join("\n\n")
}

fn has_prices(answer: &UsageAnswer) -> bool {
    let prices = [answer.cpu_hour_price, answer.gib_hour_price, answer.gpu_hour_price];
    prices.iter().any(Option::is_some)
}

fn cost_text(cost: Option<f64>) -> String {
    cost.map_or_else(String::new, |cost| format!("{cost:.6}"))
}

fn functions(used: &[FunctionUsageDetail], has_prices: bool) -> String {
    let rows = used.iter().map(|used| {
        [
            used.app.clone(),
            used.function.clone(),
            used.inputs_succeeded.to_string(),
            used.inputs_failed.to_string(),
            used.starts.to_string(),
            used.cold_share.map_or_else(String::new, |share| format!("{:.0}%", share * 100.0)),
            format!("{:.3}", used.cpu_seconds),
            format!("{:.3}", used.memory_gib_seconds),
            format!("{:.3}", used.gpu_seconds),
            if has_prices { cost_text(used.cost) } else { "-".to_owned() },
        ]
    });
    let headers = [
        "app", "function", "#done", "#failed", "#starts", "#cold", "#cpu s", "#gib s", "#gpu s",
        "#cost",
    ];
    table(headers, rows)
}

fn jobs(used: &[JobUsageDetail], has_prices: bool) -> String {
    let rows = used.iter().map(|used| {
        [
            used.kind.clone(),
            used.jobs.to_string(),
            format!("{:.3}", used.cpu_seconds),
            format!("{:.3}", used.memory_gib_seconds),
            if has_prices { cost_text(used.cost) } else { "-".to_owned() },
        ]
    });
    table(["job kind", "#jobs", "#cpu s", "#gib s", "#cost"], rows)
}

/// With the cost where there are prices.
fn endpoints(answer: &UsageAnswer) -> String {
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
    if !has_prices(answer) {
        return table(headers, rows.map(|(row, _)| row));
    }
    let [a, b, c, d, e, f, g] = headers;
    let rows = rows.map(|([a, b, c, d, e, f, g], cost)| [a, b, c, d, e, f, g, cost_text(cost)]);
    table([a, b, c, d, e, f, g, "#cost"], rows)
}
