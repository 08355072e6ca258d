//! `corral lf`: labeling functions of a data set.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use corral_labeling::{from_yaml, to_yaml};
use corral_server::api::{
    FunctionStatistics, LabelingFunctionChanges, LabelingFunctionDetail, LabelingFunctionList,
    LabelingRow, LabelingRows, LabelingStatistics, NextRowsQuery, Share, Suggestions, TestAnswer,
    TestRequest,
};
use corral_types::{ErrorKind, Failure, display_count};
use reqwest::Method;
use serde_json::{Map, Value};

use super::Context;
use super::events::each_event;
use crate::client::Client;
use crate::failure::refusal;
use crate::output::{Output, fields, print_line, table};

/// How often a watched file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Pairs of functions that the table of a run lists.
const SHOWN_PAIRS: usize = 8;

#[derive(Debug, Args)]
pub struct Of {
    /// The data set
    #[arg(long, value_name = "NAME")]
    dataset: String,
}

#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// Add a function, as in '{name: sad, kind: regex, class: complaint, pattern: "(broken|late)"}'
    Add {
        /// Its definition in YAML or JSON
        definition: String,
        #[command(flatten)]
        of: Of,
    },
    /// Change fields of a function, as in '{any: [refund, card, fee]}'; null takes one away
    Edit {
        name: String,
        /// The fields in YAML or JSON
        fields: String,
        #[command(flatten)]
        of: Of,
    },
    /// List the functions
    Ls {
        #[command(flatten)]
        of: Of,
    },
    /// Show a function as it was written
    Show {
        name: String,
        #[command(flatten)]
        of: Of,
        /// As it was in this version of the functions
        #[arg(long, value_name = "NUMBER")]
        version: Option<u32>,
    },
    /// Try a function without keeping it: what it votes, and rows that it votes on
    Test {
        /// Its definition in YAML or JSON
        definition: String,
        #[command(flatten)]
        of: Of,
        /// How many rows
        #[arg(short = 'n', long, default_value_t = 10)]
        rows: u32,
    },
    /// Show rows worth a look
    Rows {
        #[arg(value_enum)]
        which: Which,
        #[command(flatten)]
        of: Of,
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        rows: u32,
    },
    /// Suggest functions, from gold rows or the classes' names
    Suggest {
        #[command(flatten)]
        of: Of,
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u32,
    },
    /// Compute what is new and print what the functions vote
    Run {
        #[command(flatten)]
        of: Of,
    },
    /// Remove a function
    Rm {
        name: String,
        #[command(flatten)]
        of: Of,
    },
    /// Make the functions those of a YAML file: new, changed, gone
    Import {
        file: PathBuf,
        #[command(flatten)]
        of: Of,
    },
    /// Write the functions as YAML
    Export {
        #[command(flatten)]
        of: Of,
        /// Where to write; standard output when absent
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Import a file and run its functions whenever it is saved
    Watch {
        file: PathBuf,
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Which {
    /// No function votes on them
    Uncovered,
    /// Votes contradict one another
    Conflict,
    /// Classes are nearly as likely
    Uncertain,
    /// Gold rows that the label model is surely wrong on
    Wrong,
}

pub async fn run(command: FunctionCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let output = context.output;
    match command {
        FunctionCommand::Add { definition, of } => {
            let definition = definition_of(&definition)?;
            let name = definition.get("name").and_then(Value::as_str).map(str::to_owned);
            let name = name.ok_or_else(|| invalid("the definition has no `name`"))?;
            let path = ["v1", "datasets", &of.dataset, "functions", &name];
            if client.send(client.get(&path)).await.is_ok() {
                return Err(refusal(
                    Failure::new(
                        ErrorKind::Conflict,
                        format!("there is already a function {name}"),
                    )
                    .with_hint("`corral lf edit` changes it"),
                ));
            }
            let changes = put(&client, &path, &Value::Object(definition)).await?;
            output.show(&changes, changed);
        }
        FunctionCommand::Edit { name, fields, of } => {
            let path = ["v1", "datasets", &of.dataset, "functions", &name];
            let detail: LabelingFunctionDetail = client.json(client.get(&path)).await?;
            let mut definition = detail.definition.as_object().cloned().unwrap_or_default();
            for (field, value) in definition_of(&fields)? {
                match value {
                    Value::Null => drop(definition.remove(&field)),
                    value => drop(definition.insert(field, value)),
                }
            }
            let changes = put(&client, &path, &Value::Object(definition)).await?;
            output.show(&changes, changed);
        }
        FunctionCommand::Ls { of } => {
            let list = listed(&client, &of.dataset).await?;
            output.show(&list, describe);
        }
        FunctionCommand::Show { name, of, version } => {
            let path = ["v1", "datasets", &of.dataset, "functions", &name];
            let version: Vec<_> = version.iter().map(|version| ("version", version)).collect();
            let detail: LabelingFunctionDetail =
                client.json(client.get(&path).query(&version)).await?;
            output.show(&detail, |detail| {
                let definition = to_yaml(std::slice::from_ref(&detail.definition));
                format!("version {}\n{definition}", detail.version)
            });
        }
        FunctionCommand::Test { definition, of, rows } => {
            let function = Value::Object(definition_of(&definition)?);
            let body = TestRequest { function, limit: Some(rows) };
            let path = ["v1", "datasets", &of.dataset, "labeling", "test"];
            let answer: TestAnswer = client.json(client.post(&path).json(&body)).await?;
            output.show(&answer, |answer| {
                functions_table(std::slice::from_ref(&answer.statistics))
                    + "\n\n"
                    + &rows_table(&answer.rows)
            });
        }
        FunctionCommand::Rows { which, of, rows } => {
            let path = ["v1", "datasets", &of.dataset, "labeling", "rows"];
            let word = which.to_possible_value();
            let query = NextRowsQuery {
                which: word.map(|word| word.get_name().to_owned()).unwrap_or_default(),
                limit: Some(rows),
            };
            let answer: LabelingRows = client.json(client.get(&path).query(&query)).await?;
            output.show(&answer, |answer| rows_table(&answer.rows));
        }
        FunctionCommand::Suggest { of, limit } => {
            let path = ["v1", "datasets", &of.dataset, "labeling", "suggestions"];
            let request = client.get(&path).query(&[("limit", limit)]);
            let answer: Suggestions = client.json(request).await?;
            output.show(&answer, suggested);
        }
        FunctionCommand::Run { of } => show_votes(&client, &of.dataset, output).await?,
        FunctionCommand::Rm { name, of } => {
            let path = ["v1", "datasets", &of.dataset, "functions", &name];
            client.send(client.request(Method::DELETE, &path)).await?;
            eprintln!("removed the function {name}");
        }
        FunctionCommand::Import { file, of } => {
            let changes = import(&client, &of.dataset, &file).await?;
            output.show(&changes, changed);
        }
        FunctionCommand::Export { of, output: path } => {
            let list = listed(&client, &of.dataset).await?;
            let text = exported(&list);
            match path {
                None => print_line(text.trim_end()),
                Some(path) => std::fs::write(&path, text)
                    .with_context(|| format!("write {}", path.display()))?,
            }
        }
        FunctionCommand::Watch { file, of } => {
            watch(&client, &of.dataset, &file, output).await?;
        }
    }
    Ok(())
}

fn definition_of(text: &str) -> anyhow::Result<Map<String, Value>> {
    match from_yaml(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(invalid("a definition is an object of fields, as in '{name: …, kind: …}'")),
        Err(error) => Err(refusal(error.into())),
    }
}

async fn put(
    client: &Client,
    path: &[&str],
    body: &Value,
) -> anyhow::Result<LabelingFunctionChanges> {
    client.json(client.request(Method::PUT, path).json(body)).await
}

async fn listed(client: &Client, dataset: &str) -> anyhow::Result<LabelingFunctionList> {
    client.json(client.get(&["v1", "datasets", dataset, "functions"])).await
}

async fn import(
    client: &Client,
    dataset: &str,
    file: &Path,
) -> anyhow::Result<LabelingFunctionChanges> {
    let bytes = std::fs::read(file).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Invalid,
        };
        refusal(Failure::new(kind, format!("read {}: {error}", file.display())))
    })?;
    let path = ["v1", "datasets", dataset, "functions"];
    client.json(client.request(Method::PUT, &path).body(bytes)).await
}

/// The functions as the file that makes them.
fn exported(list: &LabelingFunctionList) -> String {
    let definitions: Vec<Value> =
        list.functions.iter().map(|function| function.definition.clone()).collect();
    let functions = to_yaml(&definitions);
    if list.taxonomy.is_none() && !list.multi_label {
        return functions;
    }
    let mut text = String::new();
    if let Some(taxonomy) = &list.taxonomy {
        text += &format!("taxonomy: {}\n", Value::from(taxonomy.as_str()));
    }
    if list.multi_label {
        text += "multi_label: true\n";
    }
    text + "functions:\n" + &functions
}

/// Prints what the functions vote: to a person first what the sample says, then what all rows do.
async fn show_votes(client: &Client, dataset: &str, output: Output) -> anyhow::Result<()> {
    let is_watched = output == Output::Text && std::io::stdout().is_terminal();
    if !is_watched {
        let request = client.get(&["v1", "datasets", dataset, "labeling"]);
        let statistics: LabelingStatistics = client.json(request).await?;
        output.show(&statistics, votes_table);
        return Ok(());
    }
    let request = client.get(&["v1", "datasets", dataset, "labeling", "events"]);
    let response = client.send(request).await?;
    let mut failed = None;
    each_event(response, |event| match event.name.as_str() {
        "sample" | "exact" => {
            if let Ok(statistics) = serde_json::from_str::<LabelingStatistics>(&event.data) {
                output.show(&statistics, votes_table);
            }
        }
        "error" => {
            let body: Value = serde_json::from_str(&event.data).unwrap_or_default();
            let message = body["error"]["message"].as_str().unwrap_or("the run failed");
            failed = Some(refusal(Failure::new(ErrorKind::Internal, message)));
        }
        _ => {}
    })
    .await?;
    failed.map_or(Ok(()), Err)
}

/// Imports and runs at every save, until interrupted. What is wrong with a file is said, and the
/// next save is waited for.
async fn watch(client: &Client, dataset: &str, file: &Path, output: Output) -> anyhow::Result<()> {
    let mut seen: Option<(SystemTime, u64)> = None;
    loop {
        let found = std::fs::metadata(file)
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
            .ok();
        if found.is_some() && found != seen {
            seen = found;
            let ran = async {
                let changes = import(client, dataset, file).await?;
                eprintln!("{}", changed(&changes).trim_end());
                show_votes(client, dataset, output).await
            };
            if let Err(error) = ran.await {
                crate::failure::report(&error);
            }
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn changed(changes: &LabelingFunctionChanges) -> String {
    let named = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    fields([
        ("functions", format!("{}@{}", changes.dataset, changes.version)),
        ("added", named(&changes.added)),
        ("changed", named(&changes.changed)),
        ("removed", named(&changes.removed)),
        ("unchanged", changes.unchanged.to_string()),
        ("classes", named(&changes.classes)),
    ])
}

fn describe(list: &LabelingFunctionList) -> String {
    let rows = list.functions.iter().map(|function| {
        [
            function.name.clone(),
            function.version.to_string(),
            function.kind.clone(),
            function.classes.join(", "),
        ]
    });
    let classes = match &list.taxonomy {
        Some(taxonomy) => format!("{} of {taxonomy}", list.classes.len()),
        None => format!("{} (implied)", list.classes.join(", ")),
    };
    let head =
        fields([("functions", format!("{}@{}", list.dataset, list.version)), ("classes", classes)]);
    head + "\n" + &table(["name", "#version", "kind", "classes"], rows)
}

fn functions_table(functions: &[FunctionStatistics]) -> String {
    let rows = functions.iter().map(|function| {
        [
            function.name.clone(),
            votes_of(function),
            display_count(function.rows),
            percent(function.coverage),
            percent(function.overlap),
            percent(function.conflict),
            accuracy(function.accuracy.as_ref()),
        ]
    });
    table(
        ["function", "votes", "#rows", "#coverage", "#overlap", "#conflict", "right on gold rows"],
        rows,
    )
}

/// Characters of a text that a table shows.
const SHOWN_CHARS: usize = 70;

fn rows_table(rows: &[LabelingRow]) -> String {
    let rows = rows.iter().map(|row| {
        let votes: Vec<String> =
            row.votes.iter().map(|(function, vote)| format!("{function}: {vote}")).collect();
        let mut text: String = row.text.chars().take(SHOWN_CHARS).collect();
        if text.len() < row.text.len() {
            text.push('…');
        }
        [row.row_id.to_string(), text.replace('\n', " "), row.gold.join(", "), votes.join("; ")]
    });
    table(["#row", "text", "gold", "votes"], rows)
}

/// Suggestions as lines that can be pasted into a file.
fn suggested(answer: &Suggestions) -> String {
    let mut text = match answer.basis.as_str() {
        "gold" => {
            "# by gold rows: precision (from–to), coverage, of that uncovered or in conflict\n"
        }
        _ => {
            "# by the names of classes, since few rows have labels: coverage, of that uncovered or \
              in conflict\n"
        }
    }
    .to_owned();
    for suggestion in &answer.suggestions {
        let definition = to_yaml(std::slice::from_ref(&suggestion.definition));
        let precision = suggestion
            .precision
            .as_ref()
            .map_or_else(String::new, |share| format!("{}, ", accuracy(Some(share))));
        text += &format!(
            "{}  # {precision}{}, {}\n",
            definition.trim_end(),
            percent(suggestion.coverage),
            percent(suggestion.aimed)
        );
    }
    text
}

fn votes_table(statistics: &LabelingStatistics) -> String {
    let of = match statistics.stage.as_str() {
        "exact" => format!("all {} rows", display_count(statistics.dataset_rows)),
        _ => format!(
            "a sample of {} of {} rows",
            display_count(statistics.rows),
            display_count(statistics.dataset_rows)
        ),
    };
    let mut text = fields([
        ("functions", format!("{}@{}", statistics.dataset, statistics.functions_version)),
        ("rows", of),
        ("gold rows", display_count(statistics.gold_rows)),
        ("coverage", percent(statistics.coverage)),
        ("conflict", percent(statistics.conflict)),
        ("took", format!("{:.0} ms", statistics.took_ms)),
    ]);
    text += "\n";
    text += &functions_table(&statistics.functions);
    let worth_a_look = statistics.pairs.iter().filter(|pair| pair.conflicts > 0 || pair.redundant);
    let pairs: Vec<_> = worth_a_look
        .take(SHOWN_PAIRS)
        .map(|pair| {
            [
                format!("{} / {}", pair.functions.0, pair.functions.1),
                display_count(pair.both),
                display_count(pair.conflicts),
                format!("{:.2}", pair.correlation),
                if pair.redundant { "redundant".to_owned() } else { String::new() },
            ]
        })
        .collect();
    if !pairs.is_empty() {
        text += "\n\n";
        text += &table(["pair", "#both", "#conflicts", "#correlation", ""], pairs);
    }
    text
}

fn votes_of(function: &FunctionStatistics) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = function.votes.iter().take(SHOWN).map(String::as_str).collect();
    match function.votes.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn accuracy(share: Option<&Share>) -> String {
    share.map_or_else(String::new, |share| {
        format!(
            "{:.0} % ({:.0}–{:.0}) of {}",
            100.0 * share.share,
            100.0 * share.low,
            100.0 * share.high,
            display_count(share.rows)
        )
    })
}

fn invalid(message: impl Into<String>) -> anyhow::Error {
    refusal(Failure::new(ErrorKind::Invalid, message))
}
