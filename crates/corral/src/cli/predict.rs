//! `corral predict`: for texts here and now, and for all rows of a file or data set.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use corral_classifier::{Encoder, Model, PredictOptions, Refusals};
use corral_encoder::MiniLm;
use corral_server::api::{BatchRequest, PredictAnswer, PredictRequest, Prediction, ScoredLabel};
use corral_types::{ErrorKind, Failure};

use super::{Context, batch};
use crate::failure::{refusal, reported};
use crate::output::Output;

/// Texts in one request: enough to fill the encoder's batches, few enough to stay far
/// below the body limit with texts of ordinary length.
const TEXTS_PER_REQUEST: usize = 256;

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The endpoint to ask, or NAME/VERSION or NAME/ALIAS; with --model, the first text
    #[arg(required_unless_present = "model")]
    endpoint: Option<String>,
    /// The texts; one a line from standard input when absent
    texts: Vec<String>,
    /// Predict here with a model's file instead of asking a server
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The encoder's file, where the model needs one
    #[arg(long, value_name = "FILE", requires = "model")]
    encoder: Option<PathBuf>,
    /// How many classes to name for each text
    #[arg(short = 'k', long, default_value_t = 1)]
    top_k: u32,
    /// Name only classes at least this probable
    #[arg(long)]
    threshold: Option<f32>,
    /// Only classes whose id begins with this
    #[arg(long)]
    prefix: Option<String>,
    /// Where no class is at least so probable, answer the deepest class above that is, such as
    /// 0.8
    #[arg(long, value_name = "PROBABILITY")]
    back_off: Option<f32>,
    /// Name classes also for texts that the model takes for none of them
    #[arg(long)]
    answer_all: bool,
    /// Decides the side of a split by key: the same key gets answers of the same version
    #[arg(long, conflicts_with = "model")]
    key: Option<String>,
    #[command(flatten)]
    batch: batch::BatchArgs,
}

pub async fn run(args: PredictArgs, context: &Context) -> anyhow::Result<()> {
    if args.batch.is_asked() {
        return batch::run(&args.batch, batch_request(&args)?, context).await;
    }
    let mut texts = args.texts.clone();
    if args.model.is_some() {
        texts.splice(0..0, args.endpoint.clone());
    }
    if texts.is_empty() {
        let lines = std::io::stdin().lock().lines();
        texts = lines.collect::<Result<_, _>>().context("read texts from standard input")?;
    }
    match (&args.model, &args.endpoint) {
        (Some(model), _) => {
            let answer = predict_here(model, &args, &texts)?;
            show(context.output, &texts, args.back_off, &answer);
        }
        (None, Some(endpoint)) => {
            let client = context.client()?;
            let mut whole: Option<PredictAnswer> = None;
            let mut path = vec!["v1", "endpoints"];
            path.extend(endpoint.splitn(2, '/'));
            path.push("predict");
            for texts in texts.chunks(TEXTS_PER_REQUEST) {
                let request = client.post(&path).json(&PredictRequest {
                    texts: texts.to_vec(),
                    top_k: Some(args.top_k),
                    threshold: args.threshold,
                    prefix: args.prefix.clone(),
                    back_off: args.back_off,
                    answer_all: args.answer_all,
                    key: args.key.clone(),
                    timeout_ms: None,
                });
                let answer: PredictAnswer = client.json(request).await?;
                match &mut whole {
                    None => whole = Some(answer),
                    Some(whole) => whole.predictions.extend(answer.predictions),
                }
            }
            if let Some(answer) = whole {
                show(context.output, &texts, args.back_off, &answer);
            }
        }
        (None, None) => unreachable!("the argument parser asks for one of them"),
    }
    Ok(())
}

/// What a batch is asked, but for the data set.
fn batch_request(args: &PredictArgs) -> anyhow::Result<BatchRequest> {
    let endpoint = args.endpoint.clone().unwrap_or_default();
    if args.model.is_some() || args.key.is_some() || !args.texts.is_empty() {
        let message = "a batch asks one version of an endpoint for the rows of a file or data set";
        return Err(refusal(Failure::new(ErrorKind::Invalid, message).with_hint(
            "leave out --model, --key and texts: `corral predict ENDPOINT --file in.csv --out \
             out.parquet`",
        )));
    }
    Ok(BatchRequest {
        endpoint,
        top_k: Some(args.top_k),
        threshold: args.threshold,
        prefix: args.prefix.clone(),
        back_off: args.back_off,
        answer_all: args.answer_all,
        ..BatchRequest::default()
    })
}

fn predict_here(
    path: &Path,
    args: &PredictArgs,
    texts: &[String],
) -> anyhow::Result<PredictAnswer> {
    // A file from outside the store may change under a mapping, so it is read.
    let model = Model::read(path).map_err(reported)?;
    let needed = model.encoder();
    let encoder = match (&needed, &args.encoder) {
        (None, _) => None,
        (Some(_), Some(path)) => Some(MiniLm::load(path).map_err(reported)?),
        (Some(encoder), None) => {
            return Err(refusal(
                Failure::new(
                    ErrorKind::Invalid,
                    format!("the model needs the encoder {} and none was given", encoder.name),
                )
                .with_hint("name its file by --encoder, or import the model and ask an endpoint"),
            ));
        }
    };
    let subset = args.prefix.as_deref().map(|prefix| model.subset(prefix));
    let subset = subset.transpose().map_err(reported)?;
    let options = PredictOptions {
        top_k: args.top_k as usize,
        threshold: args.threshold,
        subset: subset.as_ref(),
        back_off: args.back_off,
        refusals: if args.answer_all { Refusals::Ignore } else { Refusals::Apply },
        ..PredictOptions::default()
    };
    let encoder = encoder.as_ref().map(|encoder| encoder as &dyn Encoder);
    let predictions = model.predict_batch(texts, encoder, &options).map_err(reported)?;
    let predictions =
        predictions.iter().map(|prediction| Prediction::of(&model, prediction, args.threshold));
    Ok(PredictAnswer {
        model: Some(path.display().to_string()),
        version: None,
        endpoint_version: None,
        predictions: predictions.collect(),
    })
}

fn show(output: Output, texts: &[String], back_off: Option<f32>, answer: &PredictAnswer) {
    output.show(answer, |answer| {
        let mut lines = String::new();
        for (text, prediction) in texts.iter().zip(&answer.predictions) {
            lines += text;
            lines.push('\n');
            if let Some(refusal) = prediction.refusal.filter(|refusal| refusal.refused) {
                lines += &format!("          none of the classes (score {:.2})\n", refusal.score);
            } else if prediction.labels.is_empty() {
                lines += "          none of the classes\n";
            }
            for label in &prediction.labels {
                lines += &format!("  {}\n", line(label));
            }
            match (&prediction.backed_off, back_off) {
                (Some(label), _) => lines += &format!("  {}  (sure enough)\n", line(label)),
                (None, Some(least)) if !prediction.labels.is_empty() => {
                    let percent = 100.0 * least;
                    lines += &format!("          no class reaches {percent:.1}%\n");
                }
                (None, _) => {}
            }
        }
        lines
    });
}

fn line(label: &ScoredLabel) -> String {
    let percent = label.probability * 100.0;
    if label.name == label.id {
        format!("{percent:5.1}%  {}", label.id)
    } else {
        format!("{percent:5.1}%  {}  {}", label.id, label.name)
    }
}
