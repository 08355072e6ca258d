//! `corral taxonomy`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use corral_server::api::{MatchAnswer, Page, TaxonomyDetail, TaxonomySummary};
use corral_types::display_count;
use reqwest::Method;

use super::{Context, Versioned};
use crate::output::{fields, table};

/// How many classes `show` lists before it says how many more there are.
const SHOWN_CLASSES: usize = 40;

#[derive(Debug, Subcommand)]
pub enum TaxonomyCommand {
    /// Import a taxonomy from CSV, TSV, JSON or YAML
    Import {
        /// The taxonomy's name; importing again makes a new version
        name: String,
        file: PathBuf,
        /// Make parents from prefixes of the ids with these lengths, as in 2,4,6
        #[arg(long, value_name = "LENGTHS")]
        levels: Option<String>,
    },
    /// List the taxonomies
    Ls,
    /// Show a taxonomy's classes
    Show {
        /// The taxonomy, or NAME@VERSION
        name: Versioned,
    },
    /// Hold a data set's labels against a taxonomy
    Match {
        /// The taxonomy, or NAME@VERSION
        name: String,
        /// The data set, or NAME@VERSION
        #[arg(long)]
        dataset: Versioned,
    },
    /// Remove a taxonomy
    Rm { name: String },
}

pub async fn run(command: TaxonomyCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        TaxonomyCommand::Import { name, file, levels } => {
            let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let file_name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut query = vec![("file_name", file_name)];
            query.extend(levels.map(|levels| ("levels", levels)));
            let request =
                client.post(&["v1", "taxonomies", &name, "import"]).query(&query).body(bytes);
            let detail: TaxonomyDetail = client.json(request).await?;
            context.output.show(&detail, describe);
        }
        TaxonomyCommand::Ls => {
            let items = client.list::<TaxonomySummary>(&["v1", "taxonomies"]).await?;
            context.output.show(&Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|taxonomy| {
                    [
                        taxonomy.name.clone(),
                        taxonomy.version.to_string(),
                        display_count(taxonomy.classes),
                        taxonomy.created.clone(),
                    ]
                });
                table(["name", "#version", "#classes", "created"], rows)
            });
        }
        TaxonomyCommand::Show { name } => {
            let request = client.get(&["v1", "taxonomies", &name.name]).query(&name.query());
            let detail: TaxonomyDetail = client.json(request).await?;
            context.output.show(&detail, |detail| {
                let mut text = describe(detail) + "\n";
                let rows = detail.classes.iter().take(SHOWN_CLASSES).map(|class| {
                    [class.id.clone(), class.name.clone(), class.parent.clone().unwrap_or_default()]
                });
                text += &table(["id", "name", "parent"], rows);
                if detail.classes.len() > SHOWN_CLASSES {
                    let more = display_count((detail.classes.len() - SHOWN_CLASSES) as u64);
                    text += &format!("\nand {more} more classes; --json shows all");
                }
                text
            });
        }
        TaxonomyCommand::Match { name, dataset } => {
            let request = client
                .get(&["v1", "taxonomies", &name, "match"])
                .query(&[("dataset", &dataset.name)])
                .query(&dataset.query());
            let answer: MatchAnswer = client.json(request).await?;
            context.output.show(&answer, |answer| {
                let mut text = format!(
                    "{} labels on {} rows are known\n",
                    display_count(answer.known_labels),
                    display_count(answer.known_rows)
                );
                if !answer.unknown.is_empty() {
                    let rows = answer.unknown.iter().map(|unknown| {
                        [
                            unknown.label.clone(),
                            display_count(unknown.rows),
                            unknown.nearest.join(", "),
                        ]
                    });
                    text += "\n";
                    text += &table(["unknown label", "#rows", "nearest"], rows);
                }
                text
            });
        }
        TaxonomyCommand::Rm { name } => {
            client.send(client.request(Method::DELETE, &["v1", "taxonomies", &name])).await?;
            eprintln!("removed the taxonomy {name}");
        }
    }
    Ok(())
}

fn describe(detail: &TaxonomyDetail) -> String {
    fields([
        ("taxonomy", format!("{}@{}", detail.name, detail.version)),
        ("classes", display_count(detail.classes.len() as u64)),
        ("leaves", display_count(detail.leaves)),
        ("levels", display_count(detail.levels)),
        ("hash", detail.hash.clone()),
    ])
}
