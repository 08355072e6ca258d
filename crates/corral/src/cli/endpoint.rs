//! `corral deploy` and `corral endpoint`.

use clap::{Args, Subcommand};
use corral_server::api::{DeployRequest, EndpointDetail, Page};
use reqwest::Method;

use super::{Context, Versioned};
use crate::output::{fields, table};

#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The model, or NAME@VERSION
    model: Versioned,
    /// The endpoint's name; an endpoint that is there is pointed anew
    #[arg(long)]
    name: String,
}

#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// List the endpoints
    Ls,
    /// Show an endpoint
    Show { name: String },
    /// Remove an endpoint; its model stays
    Rm { name: String },
}

pub async fn deploy(args: DeployArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let request = client
        .request(Method::PUT, &["v1", "endpoints", &args.name])
        .json(&DeployRequest { model: args.model.written() });
    let detail: EndpointDetail = client.json(request).await?;
    context.output.show(&detail, |detail| {
        let url = client.url(&["v1", "endpoints", &detail.name, "predict"]);
        format!("{} answers with {}@{} at\n  {url}", detail.name, detail.model, detail.version)
    });
    Ok(())
}

pub async fn run(command: EndpointCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        EndpointCommand::Ls => {
            let items = client.list::<EndpointDetail>(&["v1", "endpoints"]).await?;
            context.output.show(&Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|endpoint| {
                    [
                        endpoint.name.clone(),
                        format!("{}@{}", endpoint.model, endpoint.version),
                        endpoint.updated.clone(),
                    ]
                });
                table(["name", "model", "updated"], rows)
            });
        }
        EndpointCommand::Show { name } => {
            let detail: EndpointDetail =
                client.json(client.get(&["v1", "endpoints", &name])).await?;
            context.output.show(&detail, |detail| {
                fields([
                    ("endpoint", detail.name.clone()),
                    ("model", format!("{}@{}", detail.model, detail.version)),
                    ("url", client.url(&["v1", "endpoints", &name, "predict"]).to_string()),
                    ("created", detail.created.clone()),
                    ("updated", detail.updated.clone()),
                ])
            });
        }
        EndpointCommand::Rm { name } => {
            client.send(client.request(Method::DELETE, &["v1", "endpoints", &name])).await?;
            eprintln!("removed the endpoint {name}");
        }
    }
    Ok(())
}
