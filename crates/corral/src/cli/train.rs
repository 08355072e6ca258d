//! `corral train`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use corral_server::api::{JobDetail, TrainRequest};
use corral_types::{ErrorKind, Failure, parse_bytes};
use serde_json::Value;

use super::Context;
use super::events::wait_with_progress;
use crate::failure::refusal;

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The model's name; training again makes a new version
    name: String,
    /// The data set, or NAME@VERSION; without one the model learns from what the taxonomy says
    /// of its classes
    #[arg(long, required_unless_present = "taxonomy")]
    dataset: Option<String>,
    /// The taxonomy, or NAME@VERSION; without one the labels found form it. Needed where no
    /// row has a label
    #[arg(long)]
    taxonomy: Option<String>,
    /// What several labels of a row mean
    #[arg(long, value_enum, default_value = "auto")]
    task: Task,
    /// What decides between candidates: accuracy when absent, log_loss where few rows have a label
    #[arg(long, value_enum)]
    metric: Option<Metric>,
    /// The memory the job may take, such as 4GiB; estimated when absent
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// About how long the search shall take, such as 90s, 5m or 2h: as many candidates are tried
    /// as take that long by estimate
    #[arg(long, value_name = "TIME")]
    budget: Option<String>,
    /// How many candidates to try
    #[arg(long)]
    trials: Option<u32>,
    /// End the search by the clock, with the best found by then
    #[arg(long, value_name = "TIME")]
    stop_after: Option<String>,
    /// Try the candidates of this model, or MODEL@VERSION, again instead of searching
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["trials", "budget"])]
    replay: Option<String>,
    /// Try the candidates of this file instead of searching: a JSON list, as a report's trials
    /// are
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trials", "budget", "replay"])]
    candidates: Option<PathBuf>,
    /// The members that the model may have at most
    #[arg(long, value_name = "COUNT")]
    members: Option<u32>,
    /// The weights that the model may hold at most, such as 10MiB
    #[arg(long, value_name = "SIZE")]
    model_size: Option<String>,
    /// How long the model may take for one text at most, such as 0.5ms, by estimate
    #[arg(long, value_name = "TIME")]
    max_latency: Option<String>,
    /// Let every class count the same, however many rows it has
    #[arg(long)]
    balanced: bool,
    /// The label of rows that belong to no class, such as `other`: the model learns from them
    /// what texts to refuse
    #[arg(long, value_name = "LABEL", requires = "dataset")]
    none_label: Option<String>,
    /// How far refusals may lower the accuracy on rows of a class, as a share of them; 0.01
    /// when absent
    #[arg(long, value_name = "SHARE", requires = "none_label")]
    refusal_cost: Option<f64>,
    /// The seed of folds and orders; the same seed makes the same model
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// auto, none, or an encoder's name
    #[arg(long, default_value = "auto")]
    encoder: String,
    /// What a core costs for an hour, in any currency: the report reckons costs by it
    #[arg(long, value_name = "PRICE")]
    cpu_hour_price: Option<f64>,
    /// What a GiB of memory costs for an hour
    #[arg(long, value_name = "PRICE")]
    gib_hour_price: Option<f64>,
    /// When the job is ended by force, such as 48h; a day when absent
    #[arg(long, value_name = "TIME")]
    time_limit: Option<String>,
    /// Wait for the end, with a progress bar
    #[arg(long)]
    wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Task {
    /// all-of where rows have several labels
    Auto,
    /// One class is right, and any that the row names will do
    AnyOf,
    /// Every label holds by itself (multi-label)
    AllOf,
}

impl Task {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AnyOf => "any-of",
            Self::AllOf => "all-of",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Metric {
    Accuracy,
    MacroF1,
    LogLoss,
    #[value(name = "top_5")]
    Top5,
}

impl Metric {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro_f1",
            Self::LogLoss => "log_loss",
            Self::Top5 => "top_5",
        }
    }
}

pub async fn run(args: TrainArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let size = |text: &str| {
        parse_bytes(text)
            .map_err(|error| refusal(Failure::new(ErrorKind::Invalid, error.to_string())))
    };
    let request = TrainRequest {
        model: args.name,
        dataset: args.dataset,
        taxonomy: args.taxonomy,
        task: Some(args.task.as_str().to_owned()),
        metric: args.metric.map(|metric| metric.as_str().to_owned()),
        memory_bytes: args.memory.as_deref().map(size).transpose()?,
        budget_seconds: args.budget.as_deref().map(parse_seconds).transpose()?,
        trials: args.trials,
        stop_after_seconds: args.stop_after.as_deref().map(parse_seconds).transpose()?,
        replay: args.replay,
        candidates: args
            .candidates
            .as_deref()
            .map(read_candidates)
            .transpose()?
            .unwrap_or_default(),
        members: args.members,
        model_bytes: args.model_size.as_deref().map(size).transpose()?,
        max_latency_us: args.max_latency.as_deref().map(parse_micros).transpose()?,
        balanced: args.balanced,
        none_label: args.none_label,
        refusal_cost: args.refusal_cost,
        seed: args.seed,
        encoder: Some(args.encoder),
        cpu_hour_price: args.cpu_hour_price,
        gib_hour_price: args.gib_hour_price,
        time_limit_seconds: args.time_limit.as_deref().map(parse_seconds).transpose()?,
        provenance: Default::default(),
    };
    let job: JobDetail = client.json(client.post(&["v1", "train"]).json(&request)).await?;
    if !args.wait {
        context.output.show(&job, |job| {
            format!(
                "training in the background as {}\n  corral job events {}   follows it",
                job.id, job.id
            )
        });
        return Ok(());
    }
    let job = wait_with_progress(&client, &job.id).await?;
    let result = job.result.unwrap_or_default();
    context.output.show(&result, |result| {
        let text = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut shown = text("summary").to_owned();
        if let Some(version) = result.get("version").and_then(Value::as_u64) {
            let model = text("model");
            let url = client.url(&["v1", "models", model, "report.html"]);
            shown += &format!(
                "\nmore of it, with plots and rows to look at:\n  \
                 corral model report {model}@{version} --html {model}.html\n  \
                 {url}?version={version}\n"
            );
        }
        shown
    });
    Ok(())
}

/// Seconds from `90`, `90s`, `5m`, `2h` or `1d`.
///
/// # Errors
/// When the text is none of these.
pub fn parse_seconds(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.filter(|&seconds| seconds > 0).ok_or_else(|| {
        refusal(
            Failure::new(ErrorKind::Invalid, format!("`{text}` is not a length of time"))
                .with_hint("write a whole number with s, m, h or d, as in 90s or 2h"),
        )
    })
}

/// The microseconds of a short time such as `0.5ms`.
fn parse_micros(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "us" | "µs" | "μs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => 0.0,
    };
    let micros = digits.parse::<f64>().map_or(0.0, |number| number * unit);
    if (1.0..1e12).contains(&micros) {
        return Ok(micros as u64);
    }
    Err(refusal(
        Failure::new(ErrorKind::Invalid, format!("`{text}` is not a time that an answer can take"))
            .with_hint("write a number with us, ms or s, as in 0.5ms"),
    ))
}

/// The list in a file; a report's trials are found in it.
fn read_candidates(path: &Path) -> anyhow::Result<Vec<Value>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let refuse = |why: String| {
        let what = format!("{} holds no candidates: {why}", path.display());
        let hint = "a JSON list of objects with `featurizer` and `learner`, or a report as \
                    `corral model report MODEL --json` gives it";
        refusal(Failure::new(ErrorKind::Invalid, what).with_hint(hint))
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    let list = value.get("trials").unwrap_or(&value);
    let list = list.as_array().ok_or_else(|| refuse("it is no list".to_owned()))?;
    if list.is_empty() {
        return Err(refuse("the list is empty".to_owned()));
    }
    Ok(list.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("48h", 172_800)] {
            assert_eq!(parse_seconds(text).unwrap(), seconds);
        }
        for bad in ["", "0", "m", "-5m", "5 m", "5y", "99999999999999999999d"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_of_an_answer_are_read() {
        for (text, micros) in [("0.5ms", 500), ("800us", 800), ("2µs", 2), ("1s", 1_000_000)] {
            assert_eq!(parse_micros(text).unwrap(), micros, "{text}");
        }
        for bad in ["", "5", "0ms", "-1ms", "0.1us", "1m", "NaNms", "infs", "1e99s"] {
            assert!(parse_micros(bad).is_err(), "{bad}");
        }
    }
}
