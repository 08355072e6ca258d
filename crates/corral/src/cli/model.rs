//! `corral model`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use corral_server::api::{ModelDetail, ModelSummary, Page};
use corral_training::Report;
use corral_types::{display_bytes, display_count};
use reqwest::Method;

use super::{Context, Versioned};
use crate::output::{fields, table};

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List the models
    Ls,
    /// Show a model's size, accuracy and origin
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
    /// Write a model's file
    Export {
        /// The model, or NAME@VERSION
        name: Versioned,
        /// Where to write; NAME.corral when absent
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
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
    let client = context.client()?;
    match command {
        ModelCommand::Ls => {
            let items = client.list::<ModelSummary>(&["v1", "models"]).await?;
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
                        model.created.clone(),
                    ]
                });
                table(["name", "#version", "#size", "#cv", "#test", "created"], rows)
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
        ModelCommand::Export { name, output } => {
            let path = output.unwrap_or_else(|| PathBuf::from(format!("{}.corral", name.name)));
            let request = client.get(&["v1", "models", &name.name, "export"]).query(&name.query());
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
    for part in ["cv", "test"] {
        if let Some(metrics) = model.metrics[part].as_object() {
            let shown: Vec<_> = metrics
                .iter()
                .filter_map(|(name, value)| Some(format!("{name} {:.4}", value.as_f64()?)))
                .collect();
            pairs.push((part, shown.join("  ")));
        }
    }
    fields(pairs)
}
