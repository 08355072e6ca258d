//! `corral model`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use corral_server::api::{ModelDetail, ModelSummary, Page};
use corral_training::Report;
use corral_types::{display_bytes, display_count};
use reqwest::Method;

use super::{Context, Versioned, registry};
use crate::output::{fields, table};

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List the models
    Ls {
        /// Only models whose newest version has this tag
        #[arg(long, value_name = "NAME[=VALUE]")]
        tag: Option<String>,
    },
    /// Show a model's size, accuracy, tags, and where it comes from
    Show {
        /// The model, or NAME@VERSION
        name: Versioned,
    },
    /// Show what the training of a model found out, and what would help it
    Report {
        /// The model, or NAME@VERSION
        name: Versioned,
        /// Write it as a page with plots, for a browser
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Set tags and metrics of a model, or take them away
    Tag {
        /// The model, or NAME@VERSION
        name: Versioned,
        /// Tags to set
        #[arg(value_name = "NAME=VALUE")]
        tags: Vec<String>,
        /// A metric to note, a number
        #[arg(long, value_name = "NAME=NUMBER")]
        metric: Vec<String>,
        /// A tag or metric to take away
        #[arg(long, value_name = "NAME")]
        rm: Vec<String>,
    },
    /// Put models side by side: what differs, or with --all everything
    Compare {
        /// The models, each NAME or NAME@VERSION
        #[arg(required = true, num_args = 2..)]
        names: Vec<Versioned>,
        /// Also what is the same
        #[arg(long)]
        all: bool,
    },
    /// Write a model's file
    Export {
        /// The model, or NAME@VERSION
        name: Versioned,
        /// Where to write; NAME.corral or NAME.onnx when absent
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Write its heads as a graph of ONNX, from features to probabilities
        #[arg(long)]
        onnx: bool,
    },
    /// Print what a model's ONNX graph is given for texts, as JSON
    Features {
        /// A file that `corral model export` wrote
        file: PathBuf,
        #[arg(required = true)]
        texts: Vec<String>,
        /// The encoder's file, where the model reads one
        #[arg(long, value_name = "FILE")]
        encoder: Option<PathBuf>,
    },
    /// Take in a model's file
    Import {
        /// The model's name; a new version of it if it is there
        name: String,
        file: PathBuf,
    },
    /// Remove a model, or one version of it
    Rm {
        /// The model, or NAME@VERSION
        name: Versioned,
    },
}

pub async fn run(command: ModelCommand, context: &Context) -> anyhow::Result<()> {
    if let ModelCommand::Features { file, texts, encoder } = &command {
        return registry::features(file, texts, encoder.as_deref());
    }
    let client = context.client()?;
    match command {
        ModelCommand::Ls { tag } => {
            let query: Vec<_> = tag.iter().map(|tag| ("tag", tag.as_str())).collect();
            let items: Vec<ModelSummary> = client.list_where(&["v1", "models"], &query).await?;
            context.output.show(&Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|model| {
                    let accuracy = |part: &str| model.metrics[part]["accuracy"].as_f64();
                    let percent = |value: Option<f64>| {
                        value.map_or_else(String::new, |value| format!("{:.1}%", value * 100.0))
                    };
                    [
                        model.name.clone(),
                        model.version.to_string(),
                        display_bytes(model.bytes),
                        percent(accuracy("cv")),
                        percent(accuracy("test")),
                        registry::tag_list(&model.tags),
                        model.created.clone(),
                    ]
                });
                table(["name", "#version", "#size", "#cv", "#test", "tags", "created"], rows)
            });
        }
        ModelCommand::Show { name } => {
            let request = client.get(&["v1", "models", &name.name]).query(&name.query());
            let detail: ModelDetail = client.json(request).await?;
            context.output.show(&detail, describe);
        }
        ModelCommand::Report { name, html: None } => {
            let request = client.get(&["v1", "models", &name.name, "report"]).query(&name.query());
            let report: Report = client.json(request).await?;
            context.output.show(&report, Report::render_text);
        }
        ModelCommand::Report { name, html: Some(path) } => {
            let request =
                client.get(&["v1", "models", &name.name, "report.html"]).query(&name.query());
            client.download(request, Some(&path)).await?;
            eprintln!("wrote {}", path.display());
        }
        ModelCommand::Tag { name, tags, metric, rm } => {
            let detail = registry::tag(&client, &name, &tags, &metric, &rm).await?;
            context.output.show(&detail, describe);
        }
        ModelCommand::Compare { names, all } => {
            let compared = registry::compare(&client, &names).await?;
            context.output.show(&compared, |compared| registry::side_by_side(compared, all));
        }
        ModelCommand::Features { .. } => unreachable!("`run` has taken it"),
        ModelCommand::Export { name, output, onnx } => {
            let format = if onnx { "onnx" } else { "corral" };
            let path = output.unwrap_or_else(|| PathBuf::from(format!("{}.{format}", name.name)));
            let request = client
                .get(&["v1", "models", &name.name, "export"])
                .query(&name.query())
                .query(&[("format", format)]);
            client.download(request, Some(&path)).await?;
            eprintln!("wrote {}", path.display());
        }
        ModelCommand::Import { name, file } => {
            let opened = tokio::fs::File::open(&file)
                .await
                .with_context(|| format!("open {}", file.display()))?;
            let request =
                client.post(&["v1", "models", &name, "import"]).body(reqwest::Body::from(opened));
            let detail: ModelDetail = client.json(request).await?;
            context.output.show(&detail, describe);
        }
        ModelCommand::Rm { name } => {
            let request =
                client.request(Method::DELETE, &["v1", "models", &name.name]).query(&name.query());
            client.send(request).await?;
            eprintln!("removed the model {}", name.written());
        }
    }
    Ok(())
}

fn describe(model: &ModelDetail) -> String {
    let mut pairs = vec![
        ("model", format!("{}@{}", model.name, model.version)),
        ("hash", model.hash.clone()),
        ("size", display_bytes(model.bytes)),
        ("classes", display_count(model.classes)),
        ("members", display_count(model.members)),
        ("encoder", model.encoder.clone().unwrap_or_else(|| "none".to_owned())),
        ("created", model.created.clone()),
    ];
    for part in ["cv", "test", "noted"] {
        if let Some(metrics) = model.metrics[part].as_object() {
            let shown: Vec<_> = metrics
                .iter()
                .filter_map(|(name, value)| Some(format!("{name} {:.4}", value.as_f64()?)))
                .collect();
            pairs.push((part, shown.join("  ")));
        }
    }
    if !model.tags.is_empty() {
        pairs.push(("tags", registry::tag_list(&model.tags)));
    }
    let from = |key: &str| model.lineage[key].as_str().map(str::to_owned);
    let origin = [
        ("search", from("job")),
        ("data set", from("dataset_name").or_else(|| from("dataset"))),
        ("taxonomy", from("taxonomy_name").or_else(|| from("taxonomy"))),
        ("trained by", from("code").map(|code| format!("corral {code}"))),
    ];
    pairs.extend(origin.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let endpoints = model.lineage["endpoints"].as_array().into_iter().flatten();
    let endpoints: Vec<&str> = endpoints.filter_map(|endpoint| endpoint.as_str()).collect();
    if !endpoints.is_empty() {
        pairs.push(("serves", endpoints.join(", ")));
    }
    fields(pairs)
}
