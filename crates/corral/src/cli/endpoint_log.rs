//! `corral endpoint log`.

use clap::Subcommand;
use corral_server::api::{EndpointDetail, ImportAnswer, LogBody, LogDatasetRequest};
use corral_types::{display_bytes, parse_bytes};
use reqwest::Method;

use super::Context;
use crate::output::fields;

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Keep requests and answers; what is not said stays as it was
    On {
        /// The part of the requests that is kept, such as 0.1
        #[arg(long, default_value_t = 1.0)]
        sample: f64,
        /// What is replaced in texts: email, digits, or a regular expression; may be given
        /// several times, words also with commas
        #[arg(long, value_name = "MASK")]
        mask: Vec<String>,
        /// Columns that are left empty: text, key, top_k
        #[arg(long, value_delimiter = ',', value_name = "COLUMN,…")]
        omit: Option<Vec<String>>,
        /// No row is kept longer [default: 30]
        #[arg(long, value_name = "DAYS")]
        keep_days: Option<u32>,
        /// What the log may take on disk, such as 4GiB [default: 1GiB]
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max_size: Option<u64>,
    },
    /// Keep no more; what there is stays for its time
    Off,
    /// Keep no more, and remove what there is
    Rm,
    /// Make a data set of the log, a row for each text
    Dataset {
        /// The data set's name
        dataset: String,
        /// Take the model's answers for labels
        #[arg(long)]
        label_by_answer: bool,
        /// Make the next version of a data set that is there
        #[arg(long)]
        append: bool,
    },
}

fn size(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| error.to_string())
}

pub async fn run(name: &str, command: LogCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let path = ["v1", "endpoints", name, "log"];
    let body = match command {
        LogCommand::On { sample, mask, omit, keep_days, max_size } => LogBody {
            sample: Some(sample),
            masks: (!mask.is_empty()).then(|| mask.iter().flat_map(|mask| masks(mask)).collect()),
            omit,
            keep_days,
            max_bytes: max_size,
        },
        LogCommand::Off => LogBody { sample: Some(0.0), ..LogBody::default() },
        LogCommand::Rm => {
            let detail: EndpointDetail = client.json(client.request(Method::DELETE, &path)).await?;
            context.output.show(&detail, |_| format!("the log of {name} is removed"));
            return Ok(());
        }
        LogCommand::Dataset { dataset, label_by_answer, append } => {
            let request = LogDatasetRequest {
                dataset,
                label: label_by_answer.then(|| "answer".to_owned()),
                append,
            };
            let path = [&path[..], &["dataset"]].concat();
            let answer: ImportAnswer = client.json(client.post(&path).json(&request)).await?;
            context.output.show(&answer, |answer| {
                let set = &answer.dataset;
                format!("{}@{} has {} rows", set.name, set.version, set.rows)
            });
            return Ok(());
        }
    };
    let request = client.request(Method::PUT, &path).json(&body);
    let detail: EndpointDetail = client.json(request).await?;
    context
        .output
        .show(&detail, |detail| fields(detail.log.as_ref().map(|log| ("log", log_text(log)))));
    Ok(())
}

/// Words may stand together; a pattern may hold commas.
fn masks(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split(',').collect();
    if words.iter().all(|word| ["email", "digits"].contains(word)) {
        return words.into_iter().map(str::to_owned).collect();
    }
    vec![text.to_owned()]
}

/// What is kept, in a few words.
pub fn log_text(log: &LogBody) -> String {
    let sample = log.sample.unwrap_or_default();
    let mut words = match sample {
        0.0 => vec!["off".to_owned()],
        sample => vec![format!("{} % of requests", 100.0 * sample)],
    };
    let list = |words: &Option<Vec<String>>| words.as_ref().map(|it| it.join(", "));
    let masks = list(&log.masks).filter(|masks| !masks.is_empty());
    words.extend(masks.map(|masks| format!("masked: {masks}")));
    let omitted = list(&log.omit).filter(|omitted| !omitted.is_empty());
    words.extend(omitted.map(|omitted| format!("without {omitted}")));
    words.extend(log.keep_days.map(|days| format!("for {days} days")));
    words.extend(log.max_bytes.map(|bytes| format!("at most {}", display_bytes(bytes))));
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_together_and_patterns_alone() {
        assert_eq!(masks("email,digits"), ["email", "digits"]);
        assert_eq!(masks("a{1,2}"), ["a{1,2}"]);
    }
}
