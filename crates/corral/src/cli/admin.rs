//! `corral workspace`, `token`, `backup`, `restore`, `gc` and `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use corral_server::api::{
    CollectAnswer, CreateTokenRequest, CreateWorkspaceRequest, LimitsBody, Page, TokenDetail,
    WorkspaceDetail,
};
use corral_types::{display_bytes, display_count};
use reqwest::Method;
use serde_json::{Value, json};

use super::Context;
use super::train::parse_seconds;
use crate::client::Client;
use crate::config::{SETTINGS, Secrecy};
use crate::data_dir::DataDir;
use crate::failure::reported;
use crate::output::{fields, table};

#[derive(Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// Create a workspace
    Create { name: String },
    /// List the workspaces
    Ls,
    /// Limit what all tokens of a workspace together may ask of endpoints
    Limit {
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

/// What a token or a workspace may ask.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Requests a second
    #[arg(long, value_name = "RATE", required_unless_present_any = ["texts", "off"])]
    requests: Option<f64>,
    /// Texts a second
    #[arg(long, value_name = "RATE")]
    texts: Option<f64>,
    /// End the limits
    #[arg(long, conflicts_with_all = ["requests", "texts"])]
    off: bool,
}

impl LimitArgs {
    async fn set(self, client: &Client, path: &[&str]) -> anyhow::Result<()> {
        let body = LimitsBody { requests_per_second: self.requests, texts_per_second: self.texts };
        let request = match self.off {
            true => client.request(Method::DELETE, path),
            false => client.request(Method::PUT, path).json(&body),
        };
        client.send(request).await?;
        Ok(())
    }
}

fn limits_text(limits: Option<&LimitsBody>) -> String {
    let Some(limits) = limits else { return "none".to_owned() };
    let rates = [(limits.requests_per_second, "requests/s"), (limits.texts_per_second, "texts/s")];
    let rates = rates.iter().filter_map(|(rate, unit)| Some(format!("{} {unit}", (*rate)?)));
    rates.collect::<Vec<_>>().join(", ")
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token; its secret is shown once
    Create {
        name: String,
        /// What it may do: read, write, predict, admin
        #[arg(long, value_delimiter = ',', default_value = "read,write,predict")]
        scopes: Vec<String>,
        /// The workspace in which it acts; the caller's when absent
        #[arg(long)]
        workspace: Option<String>,
        /// When it ends, such as 90d; never when absent
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Create a token for the modal client, and print the line that sets the client up with it
    Modal {
        /// The token's name
        #[arg(default_value = "modal")]
        name: String,
        /// The client's profile to write
        #[arg(long, default_value = "corral")]
        profile: String,
        /// The workspace in which it acts; the caller's when absent
        #[arg(long)]
        workspace: Option<String>,
        /// When it ends, such as 90d; never when absent
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// List the tokens
    Ls,
    /// Revoke a token by its id
    Rm { id: String },
    /// Limit what a token may ask of endpoints
    Limit {
        id: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write
    file: PathBuf,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `corral backup` wrote
    file: PathBuf,
    /// The directory to make; it must be empty or absent
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every setting, its value, and where that stands
    Show,
}

pub async fn workspace(command: WorkspaceCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        WorkspaceCommand::Create { name } => {
            let request = client.post(&["v1", "workspaces"]).json(&CreateWorkspaceRequest { name });
            let detail: WorkspaceDetail = client.json(request).await?;
            context.output.show(&detail, |detail| format!("created {}", detail.name));
        }
        WorkspaceCommand::Ls => {
            let items = client.list::<WorkspaceDetail>(&["v1", "workspaces"]).await?;
            context.output.show(&Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|item| {
                    let limits = limits_text(item.limits.as_ref());
                    [item.name.clone(), item.id.clone(), item.created.clone(), limits]
                });
                table(["name", "id", "created", "limits"], rows)
            });
        }
        WorkspaceCommand::Limit { name, limits } => {
            limits.set(&client, &["v1", "workspaces", &name, "limits"]).await?;
        }
    }
    Ok(())
}

pub async fn token(command: TokenCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        TokenCommand::Create { name, scopes, workspace, expires } => {
            let expires_in_seconds = expires.as_deref().map(parse_seconds).transpose()?;
            let request = client.post(&["v1", "tokens"]).json(&CreateTokenRequest {
                name,
                scopes,
                workspace,
                expires_in_seconds,
            });
            let detail: TokenDetail = client.json(request).await?;
            context.output.show(&detail, |detail| {
                eprintln!("this secret is shown once; only its hash is kept");
                detail.secret.clone().unwrap_or_default()
            });
        }
        TokenCommand::Modal { name, profile, workspace, expires } => {
            let expires_in_seconds = expires.as_deref().map(parse_seconds).transpose()?;
            let scopes = MODAL_SCOPES.map(str::to_owned).to_vec();
            let request = CreateTokenRequest { name, scopes, workspace, expires_in_seconds };
            let request = client.post(&["v1", "tokens"]).json(&request);
            let token: TokenDetail = client.json(request).await?;
            let secret = token.secret.as_deref().unwrap_or_default();
            let line = modal_line(client.base().as_str(), &profile, &token.id, secret);
            let whole = json!({
                "server_url": client.base().as_str().trim_end_matches('/'),
                "token_id": token.id,
                "token_secret": secret,
                "command": line,
            });
            context.output.show(&whole, |_| {
                eprintln!(
                    "the secret is shown once; run this where the modal client is installed:"
                );
                line.clone()
            });
        }
        TokenCommand::Ls => {
            let items = client.list::<TokenDetail>(&["v1", "tokens"]).await?;
            context.output.show(&Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|token| {
                    [
                        token.id.clone(),
                        token.name.clone(),
                        token.workspace.clone(),
                        token.scopes.join(","),
                        token.created.clone(),
                        match (&token.expires, token.revoked) {
                            (_, true) => "revoked".to_owned(),
                            (Some(expires), false) => expires.clone(),
                            (None, false) => "never".to_owned(),
                        },
                        limits_text(token.limits.as_ref()),
                    ]
                });
                table(["id", "name", "workspace", "scopes", "created", "ends", "limits"], rows)
            });
        }
        TokenCommand::Rm { id } => {
            client.send(client.request(Method::DELETE, &["v1", "tokens", &id])).await?;
            eprintln!("revoked {id}");
        }
        TokenCommand::Limit { id, limits } => {
            limits.set(&client, &["v1", "tokens", &id, "limits"]).await?;
        }
    }
    Ok(())
}

/// What the modal client needs to define functions and call them.
const MODAL_SCOPES: [&str; 3] = ["read", "write", "predict"];

/// The one line that sets the modal client up, in a profile of its own.
fn modal_line(url: &str, profile: &str, id: &str, secret: &str) -> String {
    let url = url.trim_end_matches('/');
    format!(
        "MODAL_PROFILE={profile} modal config set server_url {url} && \
         MODAL_PROFILE={profile} modal token set --profile {profile} \
         --token-id {id} --token-secret {secret}"
    )
}

pub async fn backup(args: BackupArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    client.download(client.get(&["v1", "backup"]), Some(&args.file)).await?;
    let bytes = std::fs::metadata(&args.file)?.len();
    eprintln!("wrote {} ({})", args.file.display(), display_bytes(bytes));
    Ok(())
}

pub fn restore(args: &RestoreArgs, context: &Context) -> anyhow::Result<()> {
    let data_dir = DataDir::open_empty(&args.data_dir).map_err(reported)?;
    let restored = corral_server::restore(&args.file, &data_dir.server()).map_err(reported)?;
    data_dir.complete().map_err(reported)?;
    context.output.show(&json!({"blobs": restored.blobs, "bytes": restored.bytes}), |_| {
        format!(
            "restored {} blobs, {}; run it with\n  corral up --data-dir {}",
            display_count(restored.blobs),
            display_bytes(restored.bytes),
            args.data_dir.display()
        )
    });
    Ok(())
}

pub async fn collect(context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let answer: CollectAnswer = client.json(client.post(&["v1", "gc"])).await?;
    context.output.show(&answer, |answer| {
        format!(
            "removed {} blobs, {}; kept {}",
            display_count(answer.removed_blobs),
            display_bytes(answer.removed_bytes),
            display_count(answer.kept_blobs)
        )
    });
    Ok(())
}

pub fn config(command: &ConfigCommand, context: &Context) -> anyhow::Result<()> {
    let ConfigCommand::Show = command;
    let rows: Vec<[String; 5]> = SETTINGS
        .iter()
        .map(|setting| {
            let found = context.settings.get(setting.key);
            let (value, origin) = found
                .map_or((String::new(), "not set"), |(value, origin)| (value, origin.as_str()));
            let hidden = setting.secrecy == Secrecy::Secret && !value.is_empty();
            let value = if hidden { "(hidden)".to_owned() } else { value };
            [
                setting.key.to_owned(),
                value,
                origin.to_owned(),
                setting.environment.to_owned(),
                setting.description.to_owned(),
            ]
        })
        .collect();
    let entries = rows.iter().map(|[key, value, origin, environment, _]| {
        (key.clone(), json!({"value": value, "origin": origin, "environment": environment}))
    });
    let file = context.settings.file().map(|path| path.display().to_string());
    let whole = json!({"file": file, "settings": entries.collect::<serde_json::Map<_, Value>>()});
    context.output.show(&whole, |_| {
        let file = file.clone().unwrap_or_else(|| "none".to_owned());
        fields([("configuration file", file)])
            + "\n"
            + &table(["key", "value", "from", "environment", "meaning"], rows.clone())
    });
    Ok(())
}
