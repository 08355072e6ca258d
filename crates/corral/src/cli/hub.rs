//! `corral hub`: ready classifiers from public facts.

use std::path::PathBuf;

use clap::Subcommand;
use corral_server::api::{
    DatasetDetail, DeployRequest, EndpointDetail, ImportAnswer, ImportQuery, JobDetail,
    ModelDetail, Page, TaxonomyDetail, TrainRequest,
};
use corral_types::{ErrorKind, Failure, display_count};
use reqwest::Method;
use serde_json::{Value, json};

use super::Context;
use super::events::wait_with_progress;
use super::train::parse_seconds;
use crate::client::Client;
use crate::failure::refusal;
use crate::hub::{Built, Recipe, build, data_card, fetch, find_in, recipe, recipes};
use crate::output::table;

/// The name under which a model keeps its data card.
const CARD: &str = "data_card";

#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// List the recipes
    Ls,
    /// Fetch the facts of a recipe, train a classifier on them and deploy it
    Install {
        recipe: String,
        /// Take the published files from this folder instead of fetching them
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// What data set, taxonomy, model and endpoint are called; the recipe's name when absent
        #[arg(long)]
        name: Option<String>,
        /// About how long the search shall take, such as 90s or 10m; the recipe's when absent
        #[arg(long, value_name = "TIME")]
        budget: Option<String>,
        /// How many candidates to try, instead of a time
        #[arg(long, conflicts_with = "budget")]
        trials: Option<u32>,
        /// auto, none, or an encoder's name
        #[arg(long, default_value = "auto")]
        encoder: String,
    },
    /// Print the data card of a model that a recipe made
    Card { model: super::Versioned },
}

pub async fn run(command: HubCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        HubCommand::Ls => {
            context.output.show(&Page { items: recipes(), next: None }, |page: &Page<Recipe>| {
                let rows = page.items.iter().map(|recipe| {
                    [recipe.name.clone(), recipe.licence.name.clone(), recipe.title.clone()]
                });
                table(["name", "licence", "what"], rows)
            });
            Ok(())
        }
        HubCommand::Card { model } => {
            let client = context.client()?;
            let request = client.get(&["v1", "models", &model.name]).query(&model.query());
            let detail: ModelDetail = client.json(request).await?;
            let card = detail.metadata.get(CARD).cloned().ok_or_else(|| {
                let what = format!("{}@{} has no data card", detail.name, detail.version);
                let hint = "models that `corral hub install` made have one";
                refusal(Failure::new(ErrorKind::NotFound, what).with_hint(hint))
            })?;
            context.output.show(&json!({ "card": card }), |card| {
                card["card"].as_str().unwrap_or_default().to_owned()
            });
            Ok(())
        }
        HubCommand::Install { recipe: wanted, from, name, budget, trials, encoder } => {
            let recipe = recipe(&wanted).map_err(refusal)?;
            let budget = budget.as_deref().map(parse_seconds).transpose()?;
            let client = context.client()?;
            // Asked before anything is fetched: a wrong address shall not cost a download.
            client.send(client.get(&["v1", "whoami"])).await?;
            let found = match from {
                Some(folder) => find_in(&recipe, &folder),
                None => fetch(&recipe).await,
            };
            let found = found.map_err(refusal)?;
            let built = build(&recipe, &found).map_err(refusal)?;
            let card = data_card(&recipe, &found, &built);
            let name = name.unwrap_or_else(|| recipe.name.clone());
            let request = TrainRequest {
                model: name.clone(),
                dataset: Some(import_rows(&client, &name, &built).await?),
                taxonomy: Some(import_classes(&client, &name, &recipe, &built).await?),
                task: Some(recipe.train.task.clone()),
                budget_seconds: match trials {
                    Some(_) => None,
                    None => Some(budget.unwrap_or(recipe.train.budget_seconds)),
                },
                trials,
                encoder: Some(encoder),
                provenance: [
                    (CARD.to_owned(), card.clone()),
                    ("recipe".to_owned(), recipe.name.clone()),
                    ("licence".to_owned(), recipe.licence.name.clone()),
                ]
                .into(),
                ..TrainRequest::default()
            };
            let job: JobDetail = client.json(client.post(&["v1", "train"]).json(&request)).await?;
            eprintln!("corral: training as {}", job.id);
            let job = wait_with_progress(&client, &job.id).await?;
            let mut result = job.result.unwrap_or_default();
            let endpoint = deploy(&client, &name, &result).await?;
            tag(&client, &name, &recipe, &result).await?;
            result["endpoint"] = json!(endpoint.name);
            result["card"] = json!(card);
            context.output.show(&result, |result| {
                let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
                format!(
                    "{}\n{}\n  corral predict {name} TEXT      asks it\n  \
                     corral model report {name}      says how good it is, and where it errs\n  \
                     corral hub card {name}          says what it is made from",
                    text("card"),
                    text("summary")
                )
            });
            Ok(())
        }
    }
}

/// The rows as a data set, by name and version. One that an earlier installation of the same
/// rows left is used as it is.
async fn import_rows(client: &Client, name: &str, built: &Built) -> anyhow::Result<String> {
    let shown = client.send(client.get(&["v1", "datasets", name])).await;
    if let Ok(there) = shown {
        let there: DatasetDetail = there.json().await?;
        if there.rows == built.rows as u64 && there.note == "import" {
            return Ok(format!("{name}@{}", there.version));
        }
        let what = format!("there is a data set `{name}` of other rows");
        let hint = "give the classifier another name by --name, or remove that data set";
        return Err(refusal(Failure::new(ErrorKind::Conflict, what).with_hint(hint)));
    }
    let query = ImportQuery { file_name: Some("rows.jsonl".to_owned()), ..ImportQuery::default() };
    let request = client
        .post(&["v1", "datasets", name, "import"])
        .query(&query)
        .body(built.rows_jsonl.clone());
    let answer: ImportAnswer = client.json(request).await?;
    eprintln!("corral: imported {} rows", display_count(answer.dataset.rows));
    Ok(format!("{name}@{}", answer.dataset.version))
}

async fn import_classes(
    client: &Client,
    name: &str,
    recipe: &Recipe,
    built: &Built,
) -> anyhow::Result<String> {
    let levels: Vec<String> = recipe.classes.levels.iter().map(u32::to_string).collect();
    let mut query = vec![("file_name", "classes.csv".to_owned())];
    query.extend((!levels.is_empty()).then(|| ("levels", levels.join(","))));
    let request = client
        .post(&["v1", "taxonomies", name, "import"])
        .query(&query)
        .body(built.taxonomy_csv.clone());
    let detail: TaxonomyDetail = client.json(request).await?;
    Ok(format!("{name}@{}", detail.version))
}

async fn deploy(client: &Client, name: &str, result: &Value) -> anyhow::Result<EndpointDetail> {
    let version = result["version"].as_u64().unwrap_or(1);
    let request =
        DeployRequest { model: Some(format!("{name}@{version}")), ..DeployRequest::default() };
    let put = client.request(Method::PUT, &["v1", "endpoints", name]).json(&request);
    client.json(put).await
}

/// Says on the model where it comes from, so that it is found by that.
async fn tag(client: &Client, name: &str, recipe: &Recipe, result: &Value) -> anyhow::Result<()> {
    let tags = json!({"tags": {"recipe": recipe.name, "licence": recipe.licence.name}});
    let version = result["version"].as_u64().unwrap_or(1);
    let patch = client.request(Method::PATCH, &["v1", "models", name, "notes"]);
    let patch = patch.query(&[("version", version)]).json(&tags);
    client.send(patch).await?;
    Ok(())
}
