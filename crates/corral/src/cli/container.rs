//! `corral container`.

use clap::Subcommand;
use corral_server::api::{ContainerDetail, Page};

use super::Context;
use super::app::{EnvironmentArgs, LinesArgs, print_log};
use crate::output::table;

#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// List the containers, newest first
    Ls {
        /// Only those of this app
        app: Option<String>,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Print what a container wrote
    Logs {
        container: String,
        #[command(flatten)]
        lines: LinesArgs,
    },
    /// End a container; the inputs that it works on are tried elsewhere
    Stop { container: String },
}

pub async fn run(command: ContainerCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        ContainerCommand::Ls { app, environment } => {
            let mut query = environment.query();
            query.extend(app.map(|app| ("app", app)));
            let query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let items: Vec<ContainerDetail> =
                client.list_where(&["v1", "containers"], &query).await?;
            context.output.show(&Page { items, next: None }, |page| list_text(&page.items));
        }
        ContainerCommand::Logs { container, lines } => {
            let path = ["v1", "containers", &container, "logs"];
            print_log(&client, context.output, &path, &[], lines).await?;
        }
        ContainerCommand::Stop { container } => {
            client.send(client.post(&["v1", "containers", &container, "stop"])).await?;
            eprintln!("{container} ends");
        }
    }
    Ok(())
}

fn list_text(containers: &[ContainerDetail]) -> String {
    let rows = containers.iter().map(|container| {
        [
            container.id.clone(),
            container.app.clone(),
            container.function.clone(),
            container.state.clone(),
            container.started_from.clone().unwrap_or_default(),
            container.inputs.len().to_string(),
            container.inputs_given.to_string(),
            container.started.clone().unwrap_or_else(|| container.requested.clone()),
        ]
    });
    let headers =
        ["id", "app", "function", "state", "start", "#running", "#inputs so far", "since"];
    table(headers, rows)
}
