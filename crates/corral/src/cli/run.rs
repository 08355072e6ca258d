//! `corral run`: the trials of searches, as runs in MLflow's terms.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use corral_server::api::{Page, RunDetail};
use corral_types::{ErrorKind, Failure};
use serde_json::Value;

use super::Context;
use crate::client::Client;
use crate::failure::refusal;
use crate::output::{fields, print_line, table};

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// List the runs of a job, the best first where a metric is named
    Ls {
        #[command(flatten)]
        of: OfJob,
        /// The metric to sort by; log_loss and ece the least first
        #[arg(long, value_name = "METRIC")]
        sort: Option<String>,
        /// Write comma-separated values, all settings and metrics a column each
        #[arg(long)]
        csv: bool,
    },
    /// Show one run: its settings and metrics
    Show {
        #[command(flatten)]
        of: OfJob,
        run: u32,
    },
    /// Put runs side by side: what differs in their settings, and all metrics
    Compare {
        #[command(flatten)]
        of: OfJob,
        /// Two runs or more
        #[arg(required = true, num_args = 2..)]
        runs: Vec<u32>,
        /// Write comma-separated values, a run a row
        #[arg(long)]
        csv: bool,
    },
}

#[derive(Debug, Args)]
pub struct OfJob {
    /// The training job
    #[arg(long, value_name = "JOB")]
    job: String,
}

pub async fn run(command: RunCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        RunCommand::Ls { of, sort, csv } => {
            let mut runs = all(&client, &of.job).await?;
            if let Some(metric) = &sort {
                sort_by(&mut runs, metric)?;
            }
            if csv {
                print_line(&as_csv(&runs, &columns(&runs)));
                return Ok(());
            }
            context.output.show(&Page { items: runs, next: None }, |page| {
                let rows = page.items.iter().map(|run| {
                    [run.run.to_string(), run.status.clone(), run.name.clone(), metrics(run)]
                });
                table(["#run", "status", "name", "metrics"], rows)
            });
        }
        RunCommand::Show { of, run } => {
            let found = pick(all(&client, &of.job).await?, &[run], &of.job)?.remove(0);
            context.output.show(&found, |run| {
                let values = values(run);
                let pairs = [("run", run.run.to_string()), ("status", run.status.clone())];
                let more = values.iter().map(|(name, value)| (name.as_str(), value.clone()));
                fields(pairs.into_iter().chain(more))
            });
        }
        RunCommand::Compare { of, runs, csv } => {
            let runs = pick(all(&client, &of.job).await?, &runs, &of.job)?;
            let told = differing(&runs);
            if csv {
                print_line(&as_csv(&runs, &told));
                return Ok(());
            }
            context
                .output
                .show(&Page { items: runs, next: None }, |page| side_by_side(page, &told));
        }
    }
    Ok(())
}

async fn all(client: &Client, job: &str) -> anyhow::Result<Vec<RunDetail>> {
    client.list(&["v1", "jobs", job, "runs"]).await
}

/// The runs of these numbers, in the order asked for.
fn pick(runs: Vec<RunDetail>, numbers: &[u32], job: &str) -> anyhow::Result<Vec<RunDetail>> {
    let known = runs.len();
    let find = |number: &u32| {
        runs.iter().find(|run| run.run == *number).cloned().ok_or_else(|| {
            let text = format!("job {job} has no run {number}");
            let hint = if known == 0 {
                "a job's runs are there once it has succeeded".to_owned()
            } else {
                format!("it has {known}: `corral run ls --job {job}` lists them")
            };
            refusal(Failure::new(ErrorKind::NotFound, text).with_hint(hint))
        })
    };
    numbers.iter().map(find).collect()
}

/// Metrics of which less is better.
const FALLING: [&str; 4] = ["log_loss", "ece", "fit_cpu_seconds", "wall_seconds"];

fn sort_by(runs: &mut [RunDetail], metric: &str) -> anyhow::Result<()> {
    let value = |run: &RunDetail| run.metrics.get(metric).and_then(Value::as_f64);
    if runs.iter().all(|run| value(run).is_none()) && !runs.is_empty() {
        let known: BTreeSet<&String> = runs
            .iter()
            .filter_map(|run| run.metrics.as_object())
            .flat_map(|all| all.keys())
            .collect();
        let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
        let text = format!("no run has the metric `{metric}`");
        let hint = format!("there are {}", known.join(", "));
        return Err(refusal(Failure::new(ErrorKind::Invalid, text).with_hint(hint)));
    }
    let sign = if FALLING.contains(&metric) { 1.0 } else { -1.0 };
    let key = |run: &RunDetail| value(run).map_or(f64::INFINITY, |value| sign * value);
    runs.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.run.cmp(&b.run)));
    Ok(())
}

/// Settings and metrics of a run by name; nested settings by their path.
fn values(run: &RunDetail) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    flatten("", &run.params, &mut values);
    flatten("", &run.metrics, &mut values);
    values
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                // The candidate is what a run is about: its own name says nothing.
                let joined = match path {
                    "" if name == "candidate" => String::new(),
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                flatten(&joined, member, into);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            into.insert(path.to_owned(), text.clone());
        }
        Value::Number(number) => {
            // Settings are kept in 32 bits: what those can tell is what was meant.
            let text = number
                .as_f64()
                .map_or_else(|| number.to_string(), |value| (value as f32).to_string());
            into.insert(path.to_owned(), text);
        }
        other => {
            into.insert(path.to_owned(), other.to_string());
        }
    }
}

/// All names that any run has.
fn columns(runs: &[RunDetail]) -> Vec<String> {
    let names: BTreeSet<String> = runs.iter().flat_map(|run| values(run).into_keys()).collect();
    names.into_iter().collect()
}

/// The names of which runs have different values.
fn differing(runs: &[RunDetail]) -> Vec<String> {
    let all: Vec<BTreeMap<String, String>> = runs.iter().map(values).collect();
    let differs = |name: &String| all.iter().any(|one| one.get(name) != all[0].get(name));
    columns(runs).into_iter().filter(differs).collect()
}

fn as_csv(runs: &[RunDetail], names: &[String]) -> String {
    let row =
        |cells: Vec<String>| cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",");
    let header = ["run", "status"].map(str::to_owned).into_iter().chain(names.iter().cloned());
    let mut lines = vec![row(header.collect())];
    for run in runs {
        let values = values(run);
        let own = names.iter().map(|name| values.get(name).cloned().unwrap_or_default());
        lines.push(row([run.run.to_string(), run.status.clone()].into_iter().chain(own).collect()));
    }
    lines.join("\n")
}

/// A cell as RFC 4180 has it.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// A line a name, a column a run.
fn side_by_side(page: &Page<RunDetail>, names: &[String]) -> String {
    let all: Vec<BTreeMap<String, String>> = page.items.iter().map(values).collect();
    let cell = |run: &BTreeMap<String, String>, name: &str| {
        run.get(name).cloned().unwrap_or_else(|| "–".to_owned())
    };
    let mut rows =
        vec![("run".to_owned(), page.items.iter().map(|run| run.run.to_string()).collect())];
    for name in names {
        rows.push((name.clone(), all.iter().map(|run| cell(run, name)).collect::<Vec<_>>()));
    }
    let width = |column: usize| {
        rows.iter().map(|(_, cells)| cells[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..all.len()).map(width).collect();
    let names_width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, cells): &(String, Vec<String>)| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}"));
        format!("{name:<names_width$}{}", cells.collect::<String>()).trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn metrics(run: &RunDetail) -> String {
    let metrics = run.metrics.as_object().into_iter().flatten();
    metrics
        .filter_map(|(name, value)| Some(format!("{name} {:.4}", value.as_f64()?)))
        .collect::<Vec<_>>()
        .join("  ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn detail(run: u32, cost: f64, accuracy: f64) -> RunDetail {
        RunDetail {
            run,
            name: format!("words, \"short\" C={cost}"),
            status: "FINISHED".to_owned(),
            started: String::new(),
            ended: String::new(),
            params: json!({
                "name": format!("words, \"short\" C={cost}"),
                "candidate": {"learner": {"kind": "linear_svm", "cost": cost}, "featurizer": null},
            }),
            metrics: json!({"accuracy": accuracy, "log_loss": 1.0 - accuracy}),
        }
    }

    #[test]
    fn runs_become_rows_with_all_settings() {
        let runs = [detail(1, 0.5, 0.8), detail(2, f64::from(0.3f32), 0.9)];
        let csv = as_csv(&runs, &columns(&runs));
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "run,status,accuracy,learner.cost,learner.kind,log_loss,name");
        assert!(lines[1].starts_with("1,FINISHED,0.8,0.5,linear_svm,"));
        assert!(lines[1].ends_with("\"words, \"\"short\"\" C=0.5\""));
        assert!(lines[2].starts_with("2,FINISHED,0.9,0.3,linear_svm,"));
    }

    #[test]
    fn what_differs_is_compared() {
        let runs = [detail(1, 0.5, 0.8), detail(2, 1.5, 0.8)];
        assert_eq!(differing(&runs), ["learner.cost", "name"]);
        let page = Page { items: runs.to_vec(), next: None };
        let text = side_by_side(&page, &["learner.cost".to_owned()]);
        assert_eq!(text, "run           1    2\nlearner.cost  0.5  1.5");
    }

    #[test]
    fn the_best_come_first_whichever_way_a_metric_points() {
        let mut runs = [detail(1, 0.5, 0.8), detail(2, 1.5, 0.9), detail(3, 1.0, 0.7)];
        let order = |runs: &[RunDetail]| runs.iter().map(|run| run.run).collect::<Vec<_>>();
        sort_by(&mut runs, "accuracy").unwrap();
        assert_eq!(order(&runs), [2, 1, 3]);
        runs.reverse();
        sort_by(&mut runs, "log_loss").unwrap();
        assert_eq!(order(&runs), [2, 1, 3]);
        assert!(sort_by(&mut runs, "beauty").unwrap_err().to_string().contains("beauty"));
    }

    #[test]
    fn a_run_that_is_not_there_is_named() {
        let error = pick(vec![detail(1, 0.5, 0.8)], &[7], "j1").unwrap_err();
        assert!(error.to_string().contains("no run 7"), "{error}");
    }
}
