//! `corral label`: labels made of what labeling functions vote.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use corral_server::api::{JobDetail, LabelRequest, TrainRequest};
use corral_types::{ErrorKind, Failure, display_count, parse_bytes};
use serde_json::Value;

use super::Context;
use super::events::wait_with_progress;
use super::train::parse_seconds;
use crate::failure::refusal;
use crate::output::{fields, table};

#[derive(Debug, Subcommand)]
pub enum LabelCommand {
    /// Make labels of the votes; rows that people labelled keep theirs
    Run(Box<RunArgs>),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The data set, or NAME@VERSION
    #[arg(long)]
    dataset: String,
    /// The data set that the labeled rows become the next version of; NAME-labeled when absent
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// The version of the functions; the newest when absent
    #[arg(long, value_name = "NUMBER")]
    functions: Option<u32>,
    /// The label model; chosen by gold rows or by agreement when absent
    #[arg(long, value_enum)]
    label_model: Option<LabelModel>,
    /// How frequent a class is, as in billing=0.3; may be given for each class
    #[arg(long, value_name = "CLASS=SHARE")]
    prior: Vec<String>,
    /// What becomes of rows that nothing is voted on
    #[arg(long, value_enum, default_value = "leave")]
    uncovered: Uncovered,
    /// What becomes of rows whose likeliest classes tie
    #[arg(long, value_enum, default_value = "share")]
    ties: Ties,
    /// Train a model on the labels in the same job; called as the data set when no name is given
    #[arg(long, value_name = "MODEL", num_args = 0..=1, default_missing_value = "")]
    train: Option<String>,
    /// About how long the search of the training shall take
    #[arg(long, value_name = "TIME", requires = "train")]
    budget: Option<String>,
    /// How many candidates the training tries
    #[arg(long, requires = "train")]
    trials: Option<u32>,
    /// The training's encoder: auto, none, or a name
    #[arg(long, default_value = "auto")]
    encoder: String,
    /// The seed of the training
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The memory the job may take, such as 1GiB; estimated when absent
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Answer with the job at once instead of waiting for its end
    #[arg(long)]
    no_wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum LabelModel {
    Majority,
    Weighted,
    DawidSkene,
    Moments,
    Triplets,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Uncovered {
    /// They stay without a label
    Leave,
    /// They get how frequent each class is
    Prior,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ties {
    /// They have equal shares
    Share,
    /// The row stays without a label
    Leave,
    /// The class that comes first
    First,
}

/// The word of a choice, as the API has it.
fn word(choice: impl ValueEnum) -> Option<String> {
    choice.to_possible_value().map(|value| value.get_name().to_owned())
}

pub async fn run(command: LabelCommand, context: &Context) -> anyhow::Result<()> {
    let LabelCommand::Run(args) = command;
    let client = context.client()?;
    let memory = args.memory.as_deref().map(parse_bytes).transpose();
    let request = LabelRequest {
        dataset: args.dataset.clone(),
        to: args.to.clone(),
        functions: args.functions,
        label_model: args.label_model.and_then(word),
        prior: args.prior.iter().map(|text| prior(text)).collect::<anyhow::Result<_>>()?,
        uncovered: word(args.uncovered),
        ties: word(args.ties),
        train: args.train.as_ref().map(|model| training(&args, model)).transpose()?,
        memory_bytes: memory
            .map_err(|error| refusal(Failure::new(ErrorKind::Invalid, error.to_string())))?,
        time_limit_seconds: None,
    };
    let job: JobDetail = client.json(client.post(&["v1", "label"]).json(&request)).await?;
    if args.no_wait {
        context.output.show(&job, |job| {
            format!(
                "labeling in the background as {}\n  corral job events {}   follows it",
                job.id, job.id
            )
        });
        return Ok(());
    }
    let job = wait_with_progress(&client, &job.id).await?;
    context.output.show(&job.result.unwrap_or_default(), describe);
    Ok(())
}

fn training(args: &RunArgs, model: &str) -> anyhow::Result<TrainRequest> {
    let named = args.dataset.split('@').next().unwrap_or_default();
    Ok(TrainRequest {
        model: if model.is_empty() { named.to_owned() } else { model.to_owned() },
        budget_seconds: args.budget.as_deref().map(parse_seconds).transpose()?,
        trials: args.trials,
        encoder: Some(args.encoder.clone()),
        seed: args.seed,
        ..TrainRequest::default()
    })
}

fn prior(text: &str) -> anyhow::Result<(String, f64)> {
    let found = text.rsplit_once('=').and_then(|(class, share)| {
        let share = share.trim().parse().ok().filter(|share| *share > 0.0)?;
        Some((class.trim().to_owned(), share))
    });
    found.ok_or_else(|| {
        refusal(Failure::new(
            ErrorKind::Invalid,
            format!("`{text}` is not a class and its share, as in billing=0.3"),
        ))
    })
}

fn describe(result: &Value) -> String {
    let labels = &result["labels"];
    let count = |key: &str| display_count(labels[key].as_u64().unwrap_or(0));
    let mut shown = fields([
        ("labeled", format!("{}@{}", text(&result["dataset"]), result["version"])),
        ("rows", count("rows")),
        ("by functions", count("labeled")),
        ("by people", count("gold")),
        ("without label", count("unlabeled")),
        ("ties", count("ties")),
        ("label model", format!("{}: {}", text(&labels["model"]), text(&labels["reason"]))),
    ]);
    let classes: BTreeMap<String, f64> =
        serde_json::from_value(labels["classes"].clone()).unwrap_or_default();
    let rows = classes.into_iter().map(|(class, rows)| [class, format!("{rows:.1}")]);
    shown += "\n";
    shown += &table(["class", "#expected rows"], rows);
    shown += "\n";
    if let Some(summary) = result["train"]["summary"].as_str() {
        shown += &format!(
            "\nmodel {}@{}\n{summary}",
            text(&result["train"]["model"]),
            result["train"]["version"]
        );
    }
    shown
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
